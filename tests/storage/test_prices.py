"""What a transfer is estimated to cost; what is not known is said to be unknown."""

from __future__ import annotations

from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from cloudmesh.storage.abc import ServiceSettings, StorageABC
from cloudmesh.storage.errors import ConfigError
from cloudmesh.storage.registry import provider_class
from cloudmesh.storage.services import Services
from cloudmesh.storage.transfer.prices import UNKNOWN, Price, estimate, monthly, price_of
from tests.places import configure

GB = 10**9


def s3(endpoint: str = "", region: str = "us-east-1", **options: Any) -> StorageABC:
    """An S3 service; nothing is connected to."""
    credentials = {"bucket": "b", "region": region, "access_key_id": "key", "secret_access_key": "secret"}
    if endpoint:
        credentials["endpoint_url"] = endpoint
    return provider_class("awss3")(ServiceSettings("s3", "awss3", credentials=credentials, options=options))


@pytest.fixture
def disk(tmp_path: Path) -> StorageABC:
    return provider_class("local")(ServiceSettings("disk", "local", root=str(tmp_path)))


def parts(service: StorageABC, moved: int) -> int:
    return moved // service.capabilities.part_bytes if service.capabilities.part_bytes else 0


def test_upload_and_download(disk: StorageABC) -> None:
    amazon = s3()
    requests = 3000 + parts(amazon, 10 * GB)
    assert estimate(disk, amazon, 3000, 10 * GB, 500) == Decimal("0.005") * requests / 1000
    assert estimate(amazon, disk, 3000, 10 * GB, 500) == Decimal("0.0012") + Decimal("0.9")
    assert estimate(disk, disk, 3000, 10 * GB, 500) == 0
    assert estimate(amazon, s3("https://s3.eu-central-1.wasabisys.com"), 3000, 10 * GB, 9) == Decimal("0.9012")


def test_keeping(disk: StorageABC) -> None:
    assert monthly(price_of(disk.settings), 10 * GB) == 0
    assert monthly(price_of(s3().settings), 10 * GB) == Decimal("0.23")
    assert monthly(price_of(s3(region="sa-east-1").settings), 10 * GB) == Decimal("0.405")
    assert monthly(price_of(s3(price={"store": 1}).settings), 10 * GB) == 10
    assert monthly(price_of(s3(region="il-central-1").settings), 10 * GB) is None
    assert monthly(price_of(s3("https://s3.eu-central-1.wasabisys.com").settings), 10 * GB) is None
    assert monthly(UNKNOWN, 0) == 0


def test_copy_within_a_service_costs_requests_alone() -> None:
    amazon = s3()
    assert amazon.capabilities.server_copy
    assert estimate(amazon, amazon, 2000, 10 * GB, 0) == Decimal("0.01")
    backblaze = s3("https://s3.eu-central-003.backblazeb2.com", "eu-central-003")
    assert estimate(backblaze, backblaze, 1000, 10 * GB, 1000) == Decimal("0.004")


def test_what_is_not_known_is_not_nothing(disk: StorageABC) -> None:
    elsewhere = s3("https://s3.example.org")
    assert price_of(elsewhere.settings) == UNKNOWN
    assert estimate(disk, elsewhere, 1, 1, 0) is None
    assert estimate(elsewhere, disk, 1, 1, 0) is None
    assert estimate(elsewhere, elsewhere, 0, 0, 1) is None
    assert estimate(elsewhere, disk, 0, 0, 0) == 0
    frankfurt = s3(region="eu-central-1")
    assert price_of(frankfurt.settings).out == Decimal("0.09")
    assert estimate(frankfurt, disk, 1, GB, 0) is None
    assert estimate(disk, frankfurt, 0, 0, 100) == 0


@pytest.mark.parametrize(
    ("endpoint", "free"),
    [
        ("http://127.0.0.1:8333", True),
        ("http://localhost:9000", True),
        ("http://nas:9000", True),
        ("https://192.168.1.7", True),
        ("http://[::1]:9000", True),
        ("https://8.8.8.8", False),
        ("https://wasabisys.com.example.org", False),
    ],
)
def test_servers_of_ones_own_cost_nothing(disk: StorageABC, endpoint: str, free: bool) -> None:
    assert (estimate(disk, s3(endpoint), 1000, GB, 10) == 0) is free
    assert (estimate(disk, s3(endpoint), 1000, GB, 10) is None) is not free


def test_configuration_overrides_the_table(home: Path, disk: StorageABC) -> None:
    settings = s3("https://s3.example.org", price={"write": 0.01, "in": 0, "delete": "0.002"}).settings
    configure(home, [settings])
    with_price = Services().open("s3")
    assert price_of(with_price.settings) == Price(write=Decimal("0.01"), into=Decimal(0), delete=Decimal("0.002"))
    cost = Decimal("0.01") * (1000 + parts(with_price, GB)) / 1000
    assert estimate(disk, with_price, 1000, GB, 1000) == cost + Decimal("0.002")
    assert estimate(with_price, disk, 1, 1, 0) is None
    cheaper = s3(price={"out": 0.02})
    assert estimate(cheaper, disk, 1000, GB, 0) == Decimal("0.0204")


@pytest.mark.parametrize(
    "price", [5, "0.1", ["out"], {"egress": 1}, {"out": "much"}, {"out": -1}, {"out": "NaN"}, {"in": None}]
)
def test_price_that_is_none_names_its_service(price: Any) -> None:
    with pytest.raises(ConfigError, match="s3: its price"):
        price_of(s3(price=price).settings)
