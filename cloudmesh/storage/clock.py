"""The clock of a service, compared with this computer's.

A service tells when it has stored a file. That moment lies between our asking for it and its answer, so that it tells
how far the two clocks are apart, within half of the time that passed and the unit in which the service tells times.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from contextlib import suppress
from typing import NamedTuple

from cloudmesh.storage.abc import Content, StorageABC
from cloudmesh.storage.database import Database
from cloudmesh.storage.errors import NotFound
from cloudmesh.storage.paths import MEASURING
from cloudmesh.storage.presence import temporary_name
from cloudmesh.storage.tables import service as table

_TRIES = 3
_SECOND_NS = 1_000_000_000
_COARSEST_NS = 10_000_000
"""File systems stamp files by the kernel's tick, up to 10 ms late, however many digits they tell."""


class Offset(NamedTuple):
    """A service's clock less this computer's, in ns, right within ``error_ns``."""

    offset_ns: int
    error_ns: int


NO_OFFSET = Offset(0, 0)
"""Of a clock that is taken to be right."""


def measure_offset(service: StorageABC) -> Offset | None:
    """Return by how much a service's clock is ahead of this computer's, and the error of that; both in ns.

    A temporary file is written a few times, and removed.

    Returns:
        None where the service does not tell when it stored a file.

    Raises:
        StorageError: it cannot be written to.
    """
    path = temporary_name(MEASURING)
    low, high = -(1 << 62), 1 << 62
    try:
        for _ in range(_TRIES):
            before_ns = time.time_ns()
            entry = service.write(path, Content.of_bytes(b"clock"))
            after_ns = time.time_ns()
            if _stored_ns(entry.changed_ns, entry.mtime_ns) is None:
                entry = service.stat(path)
            told_ns = _stored_ns(entry.changed_ns, entry.mtime_ns)
            if told_ns is None:
                return None
            unit_ns = _unit_ns(told_ns)
            lowest, highest = told_ns - unit_ns - after_ns, told_ns + unit_ns - before_ns
            # what all tries allow; where they contradict each other a clock was set meanwhile, and the last one counts
            low, high = max(low, lowest), min(high, highest)
            if low > high:
                low, high = lowest, highest
    finally:
        with suppress(NotFound):
            service.remove(path)
    return Offset((low + high) // 2, (high - low + 1) // 2)


def known_offsets(database: Database) -> dict[str, Offset]:
    """Return what was measured of each service."""
    with database.read() as connection:
        rows = connection.execute(table.select().where(table.c.clock_offset_ns.is_not(None)))
        return {row.name: Offset(row.clock_offset_ns, row.clock_error_ns) for row in rows}


def remember_offsets(database: Database, offsets: Mapping[str, Offset | None]) -> None:
    """Write down what was measured just now; None for a service that tells no time."""
    with database.write() as connection:
        now_ns = time.time_ns()
        for name, one in offsets.items():
            values = {
                "clock_offset_ns": None if one is None else one.offset_ns,
                "clock_error_ns": None if one is None else one.error_ns,
                "measured_ns": now_ns,
            }
            if not connection.execute(table.update().where(table.c.name == name).values(**values)).rowcount:
                connection.execute(table.insert().values(name=name, **values))


def _stored_ns(changed_ns: int | None, mtime_ns: int | None) -> int | None:
    """Return when the service stored a file that was given no time of its own: that is then its time."""
    return mtime_ns if changed_ns is None else changed_ns


def _unit_ns(told_ns: int) -> int:
    """Return the unit in which a time seems to be told."""
    return _SECOND_NS if told_ns % _SECOND_NS == 0 else _COARSEST_NS
