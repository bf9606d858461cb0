"""Which bytes of a file a request asks for (RFC 9110, section 14)."""

from __future__ import annotations

import re
from dataclasses import dataclass

MOST = 16
"""Ranges that are answered at once; a request for more gets the whole file."""

_ONE = re.compile(r"(\d*)-(\d*)")


@dataclass(frozen=True, slots=True)
class Range:
    """Bytes of a file: the first one and how many, at least one."""

    start: int
    length: int

    def content_range(self, size: int) -> str:
        """Return the value of ``Content-Range`` for a file of ``size`` bytes."""
        return f"bytes {self.start}-{self.start + self.length - 1}/{size}"


def ranges(header: str | None, size: int) -> list[Range] | None:
    """Return what a header ``Range`` asks for of a file of ``size`` bytes.

    Returns:
        the ranges as they were asked for; none where the file has none of them; None where all of the file is to be
        answered: no header, one that is not understood, too many ranges, or ones that together are more than the file.
    """
    unit, equals, text = (header or "").partition("=")
    if not equals or unit.strip().lower() != "bytes":
        return None
    parts = text.split(",")
    if len(parts) > MOST:
        return None
    found: list[Range] = []
    for part in parts:
        matched = _ONE.fullmatch(part.strip())
        if matched is None or matched.groups() == ("", ""):
            return None
        first, last = matched.groups()
        if not first:
            length = min(int(last), size)
            start, end = size - length, size - 1
        else:
            start, end = int(first), min(int(last), size - 1) if last else size - 1
            if last and int(last) < start:
                return None
        if start <= end:
            found.append(Range(start, end - start + 1))
    return None if sum(one.length for one in found) > size else found
