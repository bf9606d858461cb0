"""How S3 writes what it knows about an object: ETags, moments, modification times, and the attributes of copies."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from decimal import Decimal, InvalidOperation
from mimetypes import guess_type
from typing import Any

from cloudmesh.storage import paths

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)
_COPIED = (
    "Metadata",
    "ContentType",
    "CacheControl",
    "ContentDisposition",
    "ContentEncoding",
    "ContentLanguage",
    "StorageClass",
)


def quoted(etag: str | None) -> str | None:
    """Return an ETag as HTTP writes it; some servers leave the quotes away in listings."""
    if not etag:
        return None
    return etag if etag.endswith('"') else f'"{etag}"'


def md5_like(etag: str | None) -> str | None:
    """Return the digest where an ETag has the form of one."""
    digest = (etag or "").strip('"').lower()
    return digest if len(digest) == 32 and set(digest) <= set("0123456789abcdef") else None


def nanoseconds(moment: datetime) -> int:
    """Return a moment in ns since the epoch."""
    return (moment - _EPOCH) // _MICROSECOND * 1000


def parse_time(text: str) -> int | None:
    """Return a listing's time in ns since the epoch; None where it is not one."""
    try:
        return nanoseconds(datetime.fromisoformat(text))
    except ValueError:
        return None


def mtime_text(mtime_ns: int) -> str:
    """Return seconds as rclone writes them: decimal, with all nine digits."""
    seconds, rest = divmod(abs(mtime_ns), 1_000_000_000)
    return f"{'-' if mtime_ns < 0 else ''}{seconds}.{rest:09}"


def mtime(metadata: Mapping[str, str]) -> int | None:
    """Return the modification time, in ns since the epoch, that an object's metadata tell."""
    text = next((value for name, value in metadata.items() if name.lower() == "mtime"), None)
    if text is None:
        return None
    try:
        return int(Decimal(text) * 1_000_000_000)
    except (InvalidOperation, ValueError, OverflowError):
        return None


def content_type(path: str) -> str:
    """Return the media type that a name tells."""
    return guess_type(paths.basename(path), strict=False)[0] or "application/octet-stream"


def attributes(known: Mapping[str, Any]) -> dict[str, Any]:
    """Return what an answer to head_object tells about an object, as a new one is given it."""
    return {name: known[name] for name in _COPIED if name in known}
