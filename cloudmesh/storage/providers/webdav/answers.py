"""What a WebDAV service's answers mean: statuses as errors of our closed set, headers and properties as values."""

from __future__ import annotations

import calendar
import re
import time
from collections.abc import Mapping
from email.utils import parsedate_tz
from functools import lru_cache
from urllib.parse import unquote

from cloudmesh.storage import errors
from cloudmesh.storage.errors import StorageError

CLIENT_REFUSALS = frozenset((400, 403, 404, 405, 409))
"""Statuses with which servers refuse a path for what is, or is not, there."""
REDIRECTS = frozenset((301, 302, 307, 308))
"""Statuses with which servers answer for a directory whose address has no slash at its end."""

_ORIGIN = re.compile(r"\A[A-Za-z][A-Za-z0-9+.-]*://[^/]*")

_STATUSES: Mapping[int, tuple[type[StorageError], str]] = {
    400: (errors.InvalidName, "the service refused the name or the request (HTTP 400)"),
    401: (errors.AuthenticationFailed, ""),
    403: (errors.PermissionDenied, ""),
    404: (errors.NotFound, ""),
    408: (errors.Unavailable, "the service waited too long for the request (HTTP 408)"),
    410: (errors.NotFound, ""),
    411: (errors.Unsupported, "the service takes no file whose size is not known beforehand (HTTP 411)"),
    412: (errors.PreconditionFailed, ""),
    413: (errors.QuotaExceeded, "the service takes no file as large as this (HTTP 413)"),
    414: (errors.InvalidName, "the path is too long for the service"),
    423: (errors.Unavailable, "it is locked by another client"),
    425: (errors.Unavailable, "the service is not ready for the request (HTTP 425)"),
    429: (errors.RateLimited, ""),
    507: (errors.QuotaExceeded, ""),
}


def error_for(status: int, headers: Mapping[str, str], body: bytes, subject: str) -> StorageError:
    """Return the error that an answer with this status means; ``subject`` is what was asked for."""
    retry_after = seconds_to_wait(headers.get("retry-after"))
    if status == 400 and b"checksum" in body.lower():
        return errors.ChecksumMismatch(subject, "the service received other bytes than were sent")
    if status in _STATUSES:
        kind, why = _STATUSES[status]
        return kind(subject, why, retry_after=retry_after)
    if 300 <= status < 400:
        return errors.ConfigError(
            subject,
            f"the service redirects elsewhere (HTTP {status}), which is not followed",
            "set credentials.url to the address that it redirects to",
        )
    if status in (501, 505) or status < 500:
        return errors.Unsupported(subject, f"the service cannot do this (HTTP {status})")
    return errors.Unavailable(subject, f"the service is in trouble (HTTP {status})", retry_after=retry_after)


def seconds_to_wait(value: str | None) -> float | None:
    """Return a ``Retry-After`` header, seconds or a date, as seconds from now."""
    if value is None:
        return None
    if value.isascii() and value.isdigit():
        return float(value)
    moment = epoch_of(value)
    return None if moment is None else max(0.0, moment - time.time())


@lru_cache(256)
def epoch_of(date: str | None) -> int | None:
    """Return an HTTP date in seconds since the epoch; None where it is none."""
    fields = parsedate_tz(date) if date else None
    if fields is None:
        return None
    try:
        return calendar.timegm((*fields[:6], 0, 1, 0)) - (fields[9] or 0)
    except (ValueError, OverflowError):
        return None


def bare_etag(value: str | None) -> str | None:
    """Return an entity tag without quotes and weakness mark.

    One service shows the same version as ``abc`` and ``"abc"``, or as ``W/"abc"`` and a second later as ``"abc"``.
    """
    if not value:
        return None
    return value.removeprefix("W/").strip('"') or None


def segments_of(href: str) -> list[str]:
    """Return the decoded parts of an href, absolute or path only.

    Bytes that are no UTF-8 become surrogates. A part may hold any character, so it is split before it is decoded.
    """
    href = _ORIGIN.sub("", href)
    return [unquote(part, errors="surrogateescape") for part in href.split("/") if part]


def hashes_of(text: str) -> dict[str, str]:
    """Return ``SHA1:ab… MD5:cd…`` (oc:checksums) as algorithm to lower-case hex digest."""
    found: dict[str, str] = {}
    for item in text.split():
        name, separator, digest = item.partition(":")
        if separator and digest:
            found[name.lower().replace("-", "")] = digest.lower()
    return found
