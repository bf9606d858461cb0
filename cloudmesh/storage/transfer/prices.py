"""What services are estimated to charge for a transfer, in US dollars.

The figures are list prices, read in stored copies of the pages on the dates given (docs/decisions/0079). What was not
found is None: unknown, and so is then an estimate that needs it. Free allowances, volume discounts, taxes, minimum
charges and minimum storage times are not counted. Whoever pays other prices writes them into ``cloudmesh.yaml``, below
the service's ``default``::

    price: {write: 0.005, read: 0.0004, copy: 0.005, delete: 0, out: 0.09, in: 0, store: 0.023}
"""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping
from dataclasses import dataclass, replace
from decimal import Decimal, InvalidOperation
from urllib.parse import urlsplit

from cloudmesh.storage.abc import ServiceSettings, StorageABC
from cloudmesh.storage.errors import ConfigError

_GB = 10**9
_FREE = Decimal(0)


@dataclass(frozen=True, slots=True)
class Price:
    """What one service charges, in US dollars; None where that is not known.

    Attributes:
        write, read, copy, delete: for 1,000 requests; ``copy`` is a copy on the service's own side.
        out, into: for 10^9 bytes that leave the service, or come to it, over the internet.
        store: for keeping 10^9 bytes for a month.
    """

    write: Decimal | None = None
    read: Decimal | None = None
    copy: Decimal | None = None
    delete: Decimal | None = None
    out: Decimal | None = None
    into: Decimal | None = None
    store: Decimal | None = None


NOTHING = Price(_FREE, _FREE, _FREE, _FREE, _FREE, _FREE, _FREE)
UNKNOWN = Price()

# Bytes out, first paid tier: https://aws.amazon.com/s3/pricing/ shows its figures by script only; these stand in three
# independent published tables taken from Amazon's price list on 2026-07-04 and 2026-08-04, and agree.
# Bytes in and deletions are free everywhere: https://aws.amazon.com/s3/faqs/, read 2026-11-24.
_AMAZON_OUT = {
    "us-east-1": "0.09",
    "us-east-2": "0.09",
    "us-west-2": "0.09",
    "ca-central-1": "0.09",
    "eu-west-1": "0.09",
    "eu-west-2": "0.09",
    "eu-central-1": "0.09",
    "ap-south-1": "0.1093",
    "ap-northeast-1": "0.114",
    "ap-southeast-1": "0.12",
    "ap-southeast-2": "0.114",
    "sa-east-1": "0.15",
}
# S3 Standard, US East (N. Virginia): many published uses of the price list agree, 2025-10 to 2026. For other regions no
# figures were found, so they are unknown.
_AMAZON_REQUESTS = {"us-east-1": Price(write=Decimal("0.005"), read=Decimal("0.0004"), copy=Decimal("0.005"))}
# S3 Standard, first 50 TB a month, for a GB of 2^30 bytes, so that estimates are 7 % too high: Amazon's price list as a
# published table of 2026-07-01 has it; tables of 2026-08-02 and of others agree but for ca-central-1 and eu-west-2.
_AMAZON_STORE = {
    "us-east-1": "0.023",
    "us-east-2": "0.023",
    "us-west-2": "0.023",
    "ca-central-1": "0.025",
    "eu-west-1": "0.023",
    "eu-west-2": "0.024",
    "eu-central-1": "0.0245",
    "ap-south-1": "0.025",
    "ap-northeast-1": "0.025",
    "ap-southeast-1": "0.025",
    "ap-southeast-2": "0.025",
    "sa-east-1": "0.0405",
}

_BY_HOST: Mapping[str, Price] = {
    # https://wasabi.com/pricing/pricing-faqs, read 2026-11-24: no charges for egress or API requests; the stored copy's
    # price of storage is that of 2019, too old to be taken for today's
    ".wasabisys.com": replace(NOTHING, store=None),
    # https://www.backblaze.com/cloud-storage/transaction-pricing and
    # https://help.backblaze.com/hc/en-us/articles/217667478-Understanding-B2-Pricing-Structure, read 2026-11-24
    # storage: https://leanopstech.com/blog/backblaze-b2-pricing-2026/, as of April 2026
    ".backblazeb2.com": Price(
        write=_FREE,
        read=Decimal("0.0004"),
        copy=Decimal("0.004"),
        delete=_FREE,
        out=Decimal("0.01"),
        into=_FREE,
        store=Decimal("0.006"),
    ),
    # https://developers.cloudflare.com/r2/pricing/, read 2026-11-24: standard storage
    ".r2.cloudflarestorage.com": Price(
        write=Decimal("0.0045"),
        read=Decimal("0.00036"),
        copy=Decimal("0.0045"),
        delete=_FREE,
        out=_FREE,
        into=_FREE,
        store=Decimal("0.015"),
    ),
    # https://www.digitalocean.com/pricing/spaces-object-storage could not be read; a comparison of 2021 has 0.01 for a
    # GB out beyond the allowance and nothing for bytes in, too old to be taken for today's price
    ".digitaloceanspaces.com": UNKNOWN,
}


def price_of(settings: ServiceSettings) -> Price:
    """Return what a service charges: what its configuration says, else the table's figures.

    Raises:
        ConfigError: ``price`` in its configuration is no mapping of such names to amounts.
    """
    given = settings.options.get("price")
    known = _listed(settings)
    if given is None:
        return known
    names = {"in": "into", **{name: name for name in ("write", "read", "copy", "delete", "out", "store")}}
    if not isinstance(given, Mapping) or not given.keys() <= names.keys():
        raise ConfigError(settings.name, "its price is not understood", f"it may hold {', '.join(sorted(names))}")
    return replace(known, **{names[key]: _amount(settings.name, key, value) for key, value in given.items()})


def estimate(source: StorageABC, destination: StorageABC, files: int, bytes: int, deletions: int) -> Decimal | None:
    """Return what copying and removing is estimated to cost, in US dollars; None where a figure for it is not known.

    A copy within one service costs requests alone, where the service does it on its own side. Files that are sent in
    parts cost a request a part; as their sizes are not known here, all bytes are counted as though they were.

    Args:
        source: where the files are.
        destination: where they go, and where files are removed.
        files: that are copied.
        bytes: their size together.
        deletions: files that are removed.

    Raises:
        ConfigError: as `price_of`.
    """
    there = price_of(destination.settings)
    total = [_cost(there.delete, deletions, 1000)]
    if source is destination and destination.capabilities.server_copy:
        total.append(_cost(there.copy, files, 1000))
    else:
        here = price_of(source.settings)
        part_bytes = destination.capabilities.part_bytes
        total += [
            _cost(here.read, files, 1000),
            _cost(here.out, bytes, _GB),
            _cost(there.write, files + (bytes // part_bytes if part_bytes else 0), 1000),
            _cost(there.into, bytes, _GB),
        ]
    known = [cost for cost in total if cost is not None]
    return sum(known, _FREE) if len(known) == len(total) else None


def monthly(price: Price, bytes: int) -> Decimal | None:
    """Return what keeping so many bytes is estimated to cost a month, in US dollars; None where that is not known."""
    return _cost(price.store, bytes, _GB)


def _cost(price: Decimal | None, number: int, unit: int) -> Decimal | None:
    if not number:
        return _FREE
    return None if price is None else price * number / unit


def _listed(settings: ServiceSettings) -> Price:
    if settings.kind in ("local", "sftp", "webdav"):
        return NOTHING
    if settings.kind != "awss3":
        return UNKNOWN
    host = urlsplit(str(settings.credentials.get("endpoint_url") or "")).hostname or ""
    if not host:
        region = str(settings.credentials.get("region") or "")
        requests = _AMAZON_REQUESTS.get(region, UNKNOWN)
        out, store = (
            None if one is None else Decimal(one) for one in (_AMAZON_OUT.get(region), _AMAZON_STORE.get(region))
        )
        return replace(requests, delete=_FREE, into=_FREE, out=out, store=store)
    if _is_own(host):
        return NOTHING
    return next((price for ending, price in _BY_HOST.items() if host.endswith(ending)), UNKNOWN)


def _is_own(host: str) -> bool:
    """Tell whether a host is this computer or one of the same network: nobody charges for it."""
    try:
        return ipaddress.ip_address(host).is_private
    except ValueError:
        return "." not in host


def _amount(service: str, key: str, value: object) -> Decimal:
    try:
        amount = Decimal(str(value))
    except InvalidOperation:
        amount = Decimal("NaN")
    if not amount.is_finite() or amount < 0:
        raise ConfigError(service, f"its price for {key} is no amount: {value}", "write US dollars, such as 0.09")
    return amount
