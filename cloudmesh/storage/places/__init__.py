"""Places on earth: coordinates, the regions of the large clouds by their names, and how far apart two places are.

``regions.csv`` holds the regions of Amazon, Azure, Google and Oracle, as gathered on 2026-11-27, each with the city
that it is named after, or lies nearest to as far as is published; the figures are those of the cities, right within
some tens of kilometres. Where the lists come from: docs/decisions/0106.
"""

from __future__ import annotations

import csv
import math
import re
from collections.abc import Mapping
from functools import cache
from importlib.resources import files
from typing import NamedTuple
from urllib.parse import urlsplit

from cloudmesh.storage.abc import ServiceSettings
from cloudmesh.storage.errors import ConfigError

EARTH_KM = 6371.0088
"""Mean radius of the earth."""

_COORDINATES = re.compile(r"\s*([+-]?\d+(?:\.\d+)?)\s*,\s*([+-]?\d+(?:\.\d+)?)\s*")

_OF_CLOUDS = (
    ".amazonaws.com",
    ".amazonaws.com.cn",
    ".amazonaws.eu",
    ".oraclecloud.com",
    ".oraclecloud.eu",
    ".customer-oci.com",
)
"""Hosts whose regions are those of the table: others use the same names for other places."""


class Place(NamedTuple):
    """A point on earth, in degrees, north and east counted up."""

    latitude: float
    longitude: float


@cache
def regions() -> Mapping[str, Place]:
    """Return where each region is, by the name that its cloud gives it."""
    table = files(__name__).joinpath("regions.csv").read_text("utf-8")
    return {
        row["region"]: Place(float(row["latitude"]), float(row["longitude"]))
        for row in csv.DictReader(table.splitlines())
    }


def parse_place(text: str, subject: str) -> Place:
    """Return the place that ``LATITUDE,LONGITUDE`` in degrees, or a region's name, means.

    Args:
        text: as the user wrote it.
        subject: what the error is about.

    Raises:
        ConfigError: it is neither.
    """
    if found := _COORDINATES.fullmatch(text):
        place = Place(float(found[1]), float(found[2]))
        if abs(place.latitude) <= 90 and abs(place.longitude) <= 180:
            return place
    elif known := regions().get(text.strip().lower()):
        return known
    hint = "LATITUDE,LONGITUDE in degrees such as 39.17,-86.52, or a region of AWS, Azure, Google or Oracle"
    raise ConfigError(subject, f"{text!r} is no place", hint)


def kilometres(one: Place, other: Place) -> float:
    """Return the length of the great circle between two places, by the haversine formula."""
    south, north = math.radians(one.latitude), math.radians(other.latitude)
    width = math.radians(other.longitude - one.longitude)
    half = math.sin((north - south) / 2) ** 2 + math.cos(south) * math.cos(north) * math.sin(width / 2) ** 2
    return 2 * EARTH_KM * math.asin(math.sqrt(min(1.0, half)))


def place_of_service(settings: ServiceSettings) -> Place | None:
    """Return where a service is: ``default.place`` of its configuration, else its cloud's region; None where unknown.

    Raises:
        ConfigError: ``default.place`` is no place.
    """
    if (given := settings.options.get("place")) is not None:
        return parse_place(str(given), f"{settings.name}: default.place")
    host = urlsplit(str(settings.credentials.get("endpoint_url") or "")).hostname or ""
    if settings.kind != "awss3" or (host and not host.endswith(_OF_CLOUDS)):
        return None
    named = [part for part in host.split(".") if part in regions()]
    return regions().get(named[0] if named else str(settings.credentials.get("region") or ""))
