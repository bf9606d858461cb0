"""Whether a request holds for what a name has now (RFC 9110, section 13)."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from email.utils import formatdate, parsedate_to_datetime
from typing import Literal

from cloudmesh.storage.errors import PreconditionFailed
from cloudmesh.vdir.records import NameInfo

_TAG = re.compile(r'(?:W/)?"[^"]*"')


@dataclass(frozen=True, slots=True)
class Validators:
    """What tells one content of a name from another.

    Attributes:
        etag: strong where the content's SHA-256 is known.
        modified_s: whole seconds since the epoch; None where unknown.
    """

    etag: str
    modified_s: int | None

    @classmethod
    def of(cls, info: NameInfo) -> Validators:
        """Return those of a file."""
        known = f'"{info.sha256}"' if info.sha256 else f'W/"{info.version}-{info.size}-{info.modified_ns}"'
        return cls(known, None if info.modified_ns is None else info.modified_ns // 1_000_000_000)

    def headers(self) -> dict[str, str]:
        """Return the headers that tell them."""
        told = {"ETag": self.etag}
        if self.modified_s is not None and self.modified_s >= 0:
            told["Last-Modified"] = formatdate(self.modified_s, usegmt=True)
        return told


def verdict(headers: Mapping[str, str], there: Validators) -> Literal["go on", "not modified", "failed"]:
    """Return what becomes of a request to read a file, by its headers."""
    if not _is_still(headers, there):
        return "failed"
    if (known := headers.get("if-none-match")) is not None:
        return "not modified" if _weakly(known, there.etag) else "go on"
    since = _moment(headers.get("if-modified-since"))
    if since is not None and there.modified_s is not None and there.modified_s <= since:
        return "not modified"
    return "go on"


def is_range_valid(headers: Mapping[str, str], there: Validators) -> bool:
    """Tell whether ``If-Range`` lets the ranges be of this content."""
    wanted = headers.get("if-range")
    if wanted is None:
        return True
    if wanted.startswith(('"', "W/")):
        return _strongly(wanted, there.etag)
    return there.modified_s is not None and _moment(wanted) == there.modified_s


def check(headers: Mapping[str, str], name: str, there: Validators | None) -> None:
    """Refuse a change of a name, by the headers of the request.

    Args:
        headers: of the request.
        name: as errors tell it.
        there: what it has; None where it is not there.

    Raises:
        PreconditionFailed: ``If-Match``, ``If-Unmodified-Since`` or ``If-None-Match`` says so.
    """
    unwanted = headers.get("if-none-match")
    if not _is_still(headers, there):
        raise PreconditionFailed(name, hint="read it again")
    if unwanted is not None and there is not None and _weakly(unwanted, there.etag):
        raise PreconditionFailed(name, "it is there already", "If-Match replaces what was read")


def is_conditional(headers: Mapping[str, str]) -> bool:
    """Tell whether a change of a name may be refused by `check`."""
    return not {"if-match", "if-none-match", "if-unmodified-since"}.isdisjoint(headers.keys())


def _is_still(headers: Mapping[str, str], there: Validators | None) -> bool:
    """Tell whether it is what who asks takes it to be; a time counts only where no ETag is given."""
    if (wanted := headers.get("if-match")) is not None:
        return there is not None and _strongly(wanted, there.etag)
    since = _moment(headers.get("if-unmodified-since"))
    return since is None or there is None or there.modified_s is None or there.modified_s <= since


def _strongly(wanted: str, etag: str) -> bool:
    return wanted.strip() == "*" or (not etag.startswith("W/") and etag in _TAG.findall(wanted))


def _weakly(wanted: str, etag: str) -> bool:
    tags = (tag.removeprefix("W/") for tag in _TAG.findall(wanted))
    return wanted.strip() == "*" or etag.removeprefix("W/") in tags


def _moment(text: str | None) -> int | None:
    try:
        return None if text is None else int(parsedate_to_datetime(text).timestamp())
    except (ValueError, TypeError, OverflowError):
        return None
