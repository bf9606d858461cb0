"""How fast each service was found to be, remembered from one command to the next."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Literal

from sqlalchemy.sql.expression import text

from cloudmesh.storage.abc import StorageABC
from cloudmesh.storage.database import Database, rows
from cloudmesh.storage.layers import Count, Meter, Snapshot, find_layer
from cloudmesh.storage.tables import speed as table

Direction = Literal["read", "write"]

_WEIGHT = 0.3
"""What a new measurement counts for beside all earlier ones (exponentially weighted moving average)."""

_STREAMS: dict[Direction, tuple[str, ...]] = {"read": ("open_read", "download"), "write": ("write",)}
_BATCHES: dict[Direction, str] = {"read": "read_many", "write": "write_many"}

_MEASURED = text("SELECT service, latency_s, bytes_per_s FROM speed WHERE direction = :direction")

TELLING_BYTES = 64 * 1024
"""Files of fewer bytes, on average, tell how long a request takes, but not how fast bytes move."""


@dataclass(frozen=True, slots=True)
class Speed:
    """A measured speed of one service in one direction.

    Attributes:
        latency_s: seconds that a request takes.
        bytes_per_s: content moved in a second of one stream.
    """

    latency_s: float
    bytes_per_s: float

    def seconds(self, size: int) -> float:
        """Return how long a file of ``size`` bytes is expected to take."""
        return self.latency_s + size / self.bytes_per_s


def measured(database: Database, direction: Direction) -> dict[str, Speed]:
    """Return the known speed of each service."""
    with database.read() as connection:
        found = rows(connection, _MEASURED, {"direction": direction})
    return {service: Speed(latency_s, bytes_per_s) for service, latency_s, bytes_per_s in found}


UNKNOWN = Speed(0.1, 10e6)
"""Supposed of a service that was never measured: an ordinary internet service."""


@dataclass(frozen=True, slots=True)
class Sample:
    """What one run, or one measurement, tells of a service in one direction; None where it tells nothing."""

    latency_s: float | None
    bytes_per_s: float | None


Samples = Mapping[tuple[str, Direction], Sample]
"""By service and direction."""


def remember(database: Database, services: Mapping[str, StorageABC]) -> None:
    """Mix what the services' meters have seen into what is known; nothing is written where nothing was moved."""
    learn(
        database,
        {
            (name, direction): one
            for name, service in services.items()
            if (meter := find_layer(service, Meter)) is not None
            for direction, one in seen(meter.snapshot(), service.settings.parallel)
        },
    )


def learn(database: Database, samples: Samples) -> None:
    """Mix new measurements into what is known of the services."""
    if not samples:
        return
    with database.write() as connection:
        for (name, direction), one in samples.items():
            key = (table.c.service == name) & (table.c.direction == direction)
            row = connection.execute(table.select().where(key)).first()
            now = time.time_ns()
            if row is None:
                first = {
                    "latency_s": UNKNOWN.latency_s if one.latency_s is None else one.latency_s,
                    "bytes_per_s": UNKNOWN.bytes_per_s if one.bytes_per_s is None else one.bytes_per_s,
                }
                connection.execute(
                    table.insert().values(service=name, direction=direction, **first, samples=1, updated_ns=now)
                )
            else:
                mixed = {
                    "latency_s": _mixed(row.latency_s, one.latency_s),
                    "bytes_per_s": _mixed(row.bytes_per_s, one.bytes_per_s),
                }
                connection.execute(table.update().where(key).values(**mixed, samples=row.samples + 1, updated_ns=now))


def _mixed(known: float, new: float | None) -> float:
    return known if new is None else known + _WEIGHT * (new - known)


def seen(counts: Snapshot, parallel: int) -> Iterator[tuple[Direction, Sample]]:
    """Yield what a service's counted calls tell of its speed.

    Of a batch only the time of all its files together is known. It has about ``parallel`` of them under way at once, so
    that one takes that many times its share.

    Args:
        counts: by the service's `Meter`.
        parallel: connections that batches have open.
    """
    by_name = counts.by_primitive
    probes = sum((by_name[name] for name in ("stat", "remove", "make_dir") if name in by_name), Count())
    for direction, primitives in _STREAMS.items():
        streams = sum((by_name[name] for name in primitives if name in by_name), Count())
        batches = by_name.get(_BATCHES[direction], Count())
        latency = None
        if probes.requests:
            latency = probes.seconds / probes.requests
        elif batches.requests:
            latency = batches.seconds / batches.requests * min(batches.requests, parallel)
        elif streams.requests and _moved(streams, direction):
            latency = streams.seconds / streams.requests
        speeds = [
            _moved(one, direction) / one.seconds
            for one in (streams, batches)
            if one.seconds > 0 and _moved(one, direction) >= TELLING_BYTES * one.requests > 0
        ]
        if _moved(streams + batches, direction):
            yield direction, Sample(latency, max(speeds, default=None))


def _moved(count: Count, direction: Direction) -> int:
    return count.bytes_in if direction == "read" else count.bytes_out
