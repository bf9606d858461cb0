"""Places: coordinates, regions of the clouds, distances."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cloudmesh.storage.abc import ServiceSettings
from cloudmesh.storage.errors import ConfigError
from cloudmesh.storage.places import EARTH_KM, Place, kilometres, parse_place, place_of_service, regions

PLACES = st.builds(Place, st.floats(-90, 90), st.floats(-180, 180))


@given(PLACES, PLACES, PLACES)
def test_distances_are_distances(one: Place, other: Place, third: Place) -> None:
    assert kilometres(one, one) == 0
    assert kilometres(one, other) == pytest.approx(kilometres(other, one))
    assert 0 <= kilometres(one, other) <= math.pi * EARTH_KM * (1 + 1e-9)
    assert kilometres(one, third) <= kilometres(one, other) + kilometres(other, third) + 1e-3


@pytest.mark.parametrize(
    ("one", "other", "km"),
    [
        ("0,0", "0,180", math.pi * EARTH_KM),
        ("90,0", "-90,77", math.pi * EARTH_KM),
        ("0,179.5", "0,-179.5", math.pi * EARTH_KM / 180),  # over the date line
        ("eu-central-1", "europe-west3", 0),  # both in Frankfurt
        ("uk-london-1", "francecentral", 344),
        ("us-east-1", "eu-west-1", 5450),
        ("ap-southeast-2", "newzealandnorth", 2156),
    ],
)
def test_known_distances(one: str, other: str, km: float) -> None:
    assert kilometres(parse_place(one, ""), parse_place(other, "")) == pytest.approx(km, rel=0.01, abs=1)


def test_the_table_has_the_regions_of_four_clouds() -> None:
    assert len(regions()) > 190
    for place in regions().values():
        assert abs(place.latitude) <= 90
        assert abs(place.longitude) <= 180
    for name in ("us-east-1", "eusc-de-east-1", "westeurope", "africa-south1", "us-phoenix-1"):
        assert name in regions()


@pytest.mark.parametrize("text", ["", "nowhere", "91,0", "0,181", "1", "1,2,3", "1;2", "us-east-9"])
def test_what_is_no_place_is_refused(text: str) -> None:
    with pytest.raises(ConfigError, match="is no place"):
        parse_place(text, "here")


@given(PLACES)
def test_coordinates_are_read_as_written(place: Place) -> None:
    assert parse_place(f" {place.latitude:.6f} , {place.longitude:+.6f}", "") == pytest.approx(place, abs=1e-6)


@pytest.mark.parametrize(
    ("kind", "credentials", "options", "region"),
    [
        ("awss3", {"region": "eu-west-1"}, {}, "eu-west-1"),
        ("awss3", {"region": "eu-west-1"}, {"place": "us-east-2"}, "us-east-2"),
        ("awss3", {"endpoint_url": "https://s3.eu-north-1.amazonaws.com"}, {}, "eu-north-1"),
        (
            "awss3",
            {"endpoint_url": "https://ns.compat.objectstorage.uk-london-1.oci.customer-oci.com", "region": "x"},
            {},
            "uk-london-1",
        ),
        ("awss3", {"endpoint_url": "https://s3.eu-central-1.wasabisys.com", "region": "eu-central-1"}, {}, None),
        ("awss3", {"endpoint_url": "http://127.0.0.1:9000", "region": "us-east-1"}, {}, None),
        ("awss3", {}, {}, None),
        ("sftp", {"host": "lab"}, {"place": "westeurope"}, "westeurope"),
        ("sftp", {"host": "lab"}, {}, None),
    ],
)
def test_where_a_service_is(
    kind: str, credentials: dict[str, str], options: dict[str, str], region: str | None
) -> None:
    settings = ServiceSettings("name", kind, credentials=credentials, options=options)
    assert place_of_service(settings) == (None if region is None else regions()[region])
