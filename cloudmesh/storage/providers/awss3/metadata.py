"""How S3 writes what it knows about an object: ETags, moments, modification times, and the attributes of copies."""

from __future__ import annotations

import binascii
import re
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from decimal import Decimal, InvalidOperation
from functools import lru_cache
from mimetypes import guess_type

from cloudmesh.storage import paths

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)
_MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")
_MD5 = re.compile('"?([0-9A-Fa-f]{32})"?')
_MTIME = "x-amz-meta-mtime"
_COPIED = frozenset(
    {
        "content-type",
        "cache-control",
        "content-disposition",
        "content-encoding",
        "content-language",
        "x-amz-storage-class",
    }
)


def quoted(etag: str | None) -> str | None:
    """Return an ETag as HTTP writes it; some servers leave the quotes away in listings."""
    if not etag:
        return None
    return etag if etag.endswith('"') else f'"{etag}"'


def md5_like(etag: str | None) -> str | None:
    """Return the digest where an ETag has the form of one."""
    found = _MD5.fullmatch(etag or "")
    return found[1].lower() if found else None


def content_md5(digest: bytes) -> str:
    """Return an MD5 as the header Content-MD5 tells it."""
    return binascii.b2a_base64(digest, newline=False).decode()


def nanoseconds(moment: datetime) -> int:
    """Return a moment in ns since the epoch."""
    return (moment - _EPOCH) // _MICROSECOND * 1000


@lru_cache(maxsize=1024)
def parse_time(text: str) -> int | None:
    """Return a listing's time in ns since the epoch; None where it is not one."""
    try:
        return nanoseconds(datetime.fromisoformat(text))
    except ValueError:
        return None


@lru_cache(maxsize=64)
def parse_http_time(text: str) -> int | None:
    """Return the time of a header, such as Last-Modified, in ns since the epoch; None where it is not one."""
    try:
        _, day, month, year, clock, _ = text.split()
        hour, minute, second = map(int, clock.split(":"))
        moment = datetime(int(year), _MONTHS.index(month) + 1, int(day), hour, minute, second, tzinfo=UTC)
    except ValueError:
        return None
    return nanoseconds(moment)


def mtime_text(mtime_ns: int) -> str:
    """Return seconds as rclone writes them: decimal, with all nine digits."""
    seconds, rest = divmod(abs(mtime_ns), 1_000_000_000)
    return f"{'-' if mtime_ns < 0 else ''}{seconds}.{rest:09}"


def headers(path: str, mtime_ns: int | None) -> dict[str, str]:
    """Return what a new object is created with: its media type and its modification time."""
    found = {"Content-Type": content_type(path)}
    return found if mtime_ns is None else with_mtime(found, mtime_ns)


def mtime(headers: Mapping[str, str]) -> int | None:
    """Return the modification time, in ns since the epoch, that the headers of an answer tell, by lower-case name."""
    return parse_mtime(headers.get(_MTIME))


def parse_mtime(text: str | None) -> int | None:
    """Return the modification time, in ns since the epoch, that an object's metadata tell."""
    if text is None:
        return None
    try:
        return int(Decimal(text) * 1_000_000_000)
    except (InvalidOperation, ValueError, OverflowError):
        return None


def content_type(path: str) -> str:
    """Return the media type that a name tells."""
    _, _, extensions = paths.basename(path).lstrip(".").partition(".")
    return _media_type(extensions)


@lru_cache(maxsize=1024)
def _media_type(extensions: str) -> str:
    return guess_type(f"_.{extensions}", strict=False)[0] or "application/octet-stream"


def copied(headers: Mapping[str, str]) -> dict[str, str]:
    """Return what an answer's headers, by lower-case name, tell about an object, as a new one is given it."""
    return {
        name: value.encode("iso-8859-1").decode("utf-8", "replace")
        for name, value in headers.items()
        if name in _COPIED or name.startswith("x-amz-meta-")
    }


def with_mtime(headers: Mapping[str, str], mtime_ns: int) -> dict[str, str]:
    """Return ``headers`` with another modification time, in ns since the epoch."""
    return {**headers, _MTIME: mtime_text(mtime_ns)}
