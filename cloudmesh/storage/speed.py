"""How fast each service was found to be, remembered from one command to the next."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from cloudmesh.storage.abc import StorageABC
from cloudmesh.storage.database import Database
from cloudmesh.storage.layers import Meter, find_layer
from cloudmesh.storage.layers.meter import Count
from cloudmesh.storage.tables import speed as table

Direction = Literal["read", "write"]

_WEIGHT = 0.3
"""What a new measurement counts for beside all earlier ones (exponentially weighted moving average)."""

_PRIMITIVES: dict[Direction, tuple[str, ...]] = {"read": ("open_read", "download"), "write": ("write",)}


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
    statement = table.select().where(table.c.direction == direction)
    with database.read() as connection:
        return {row.service: Speed(row.latency_s, row.bytes_per_s) for row in connection.execute(statement)}


def remember(database: Database, services: dict[str, StorageABC]) -> None:
    """Mix what the services' meters have seen into what is known; nothing is written where nothing was moved."""
    found = [
        (name, direction, one)
        for name, service in services.items()
        if (meter := find_layer(service, Meter)) is not None
        for direction, one in _seen(meter)
    ]
    if not found:
        return
    with database.write() as connection:
        for name, direction, one in found:
            key = (table.c.service == name) & (table.c.direction == direction)
            row = connection.execute(table.select().where(key)).first()
            now = time.time_ns()
            if row is None:
                values = {"latency_s": one.latency_s, "bytes_per_s": one.bytes_per_s, "samples": 1, "updated_ns": now}
                connection.execute(table.insert().values(service=name, direction=direction, **values))
            else:
                mixed = {
                    "latency_s": row.latency_s + _WEIGHT * (one.latency_s - row.latency_s),
                    "bytes_per_s": row.bytes_per_s + _WEIGHT * (one.bytes_per_s - row.bytes_per_s),
                }
                connection.execute(table.update().where(key).values(**mixed, samples=row.samples + 1, updated_ns=now))


def _seen(meter: Meter) -> Iterator[tuple[Direction, Speed]]:
    counts = meter.snapshot().by_primitive
    probes = [counts[name] for name in ("stat", "remove", "make_dir") if name in counts]
    requests = sum(probes, Count())
    latency = requests.seconds / requests.requests if requests.requests else 0.0
    for direction, primitives in _PRIMITIVES.items():
        done = sum((counts[name] for name in primitives if name in counts), Count())
        moved = done.bytes_in if direction == "read" else done.bytes_out
        if moved and done.seconds > 0:
            yield direction, Speed(latency or done.seconds / done.requests, moved / done.seconds)
