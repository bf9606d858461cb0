"""The Range header, without the bombs: many or overlapping ranges would make a small request a huge answer."""

from __future__ import annotations

import itertools
import re

MAX_RANGES = 16
"""Ranges in one request; a video player or a download manager asks for one, a PDF reader for a few."""

_LONGEST = 1024
_ONE = re.compile(r"[ \t]*(\d{0,19})-(\d{0,19})[ \t]*\Z", re.ASCII)


class NotSatisfiable(ValueError):
    """No range lies within the file: the answer is 416 with ``Content-Range: bytes */SIZE``."""


def parse_ranges(header: str, size: int) -> list[range] | None:
    """Return the bytes that a Range header asks for, in its order; together they are never more than the file.

    Args:
        header: its value, such as ``bytes=0-99,200-``.
        size: of the file, in bytes.

    Returns:
        One range of byte numbers each; None where the header is to be ignored and the whole file sent (RFC 9110, 14.2):
        another unit, nothing that can be read, more than `MAX_RANGES`, or ranges that overlap.

    Raises:
        NotSatisfiable: none lies within the file.
    """
    unit, equals, text = header.partition("=")
    if not equals or unit.strip().lower() != "bytes" or len(text) > _LONGEST:
        return None
    found = []
    parts = text.split(",")
    if len(parts) > MAX_RANGES:
        return None
    for part in parts:
        match = _ONE.match(part)
        if match is None or not (match[1] or match[2]):
            return None
        if not match[1]:
            one = range(max(0, size - int(match[2])), size)
        elif match[2] and int(match[2]) < int(match[1]):
            return None
        else:
            one = range(int(match[1]), min(size, int(match[2]) + 1) if match[2] else size)
        if one:
            found.append(one)
    if not found:
        raise NotSatisfiable(header)
    in_order = sorted(found, key=lambda one: one.start)
    if any(left.stop > right.start for left, right in itertools.pairwise(in_order)):
        return None
    return found
