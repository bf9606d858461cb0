"""Choosing some of the files: the same ones whoever asks on the same day, others the next day."""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterable
from datetime import UTC, datetime
from hashlib import blake2b

from cloudmesh.vdir.nodes import Node
from cloudmesh.vdir.options import Sample


def chosen(sample: Sample, files: Callable[[], Iterable[Node]], started_ns: int) -> Callable[[Node], bool]:
    """Return what tells whether a file belongs to a sample.

    Args:
        sample: how much.
        files: gives all of them, where so many are wanted.
        started_ns: when the work began, in ns since the epoch; its day (UTC) decides.
    """
    day = datetime.fromtimestamp(started_ns / 1e9, UTC).date().isoformat()
    if sample.share is not None:
        share = float(sample.share)
        return lambda node: _place(node.id, day) < share
    wanted = heapq.nsmallest(sample.count or 0, (node.id for node in files()), key=lambda one: _place(one, day))
    ids = set(wanted)
    return lambda node: node.id in ids


def _place(entry_id: int, day: str) -> float:
    """Return a number of [0, 1) that depends on nothing but the file and the day."""
    return int.from_bytes(blake2b(f"{entry_id} {day}".encode(), digest_size=8).digest()[:6], "big") / 2**48
