"""Measuring services: how long a request takes, how fast bytes move each way, and what their clocks say."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from statistics import median
from typing import TYPE_CHECKING

from cloudmesh.storage.abc import Content, StorageABC
from cloudmesh.storage.clock import Offset, measure_offset, remember_offsets
from cloudmesh.storage.errors import NotFound, StorageError, UsageError
from cloudmesh.storage.health import Health
from cloudmesh.storage.paths import MEASURING
from cloudmesh.storage.pool import run_parallel
from cloudmesh.storage.presence import temporary_name
from cloudmesh.storage.records import Measured
from cloudmesh.storage.speed import TELLING_BYTES, Direction, Sample, learn

if TYPE_CHECKING:
    from cloudmesh.storage.database import Database
    from cloudmesh.storage.services import Services

_TIMES = 3
_MOST = 256 << 20
"""Bytes of the largest file: a disk or a line shows its speed with less, and each service's is held in memory."""


def measure(names: Sequence[str], services: Services, database: Database, size: int) -> list[Measured]:
    """Measure services, all at once, and remember what was found; those that work are back in use.

    Args:
        names: of the services.
        services: opens them.
        database: where it is remembered.
        size: bytes that are written and read, a few times.

    Raises:
        UsageError: it is more than is held in memory.
    """
    if size > _MOST:
        raise UsageError("--size", f"{size} bytes are too many", f"allowed are at most {_MOST >> 20}M")
    kinds = {one.name: one.kind for one in services.configuration.services()}
    found: dict[str, Measured] = {}
    samples: dict[tuple[str, Direction], Sample] = {}
    offsets: dict[str, Offset | None] = {}
    for name, answer in run_parallel(lambda one: _measure(services.open(one), size), names, max(1, len(names))):
        if isinstance(answer, StorageError):
            found[name] = Measured(name, kinds[name], problem=str(answer))
            continue
        read, write, offset = answer
        samples[name, "read"], samples[name, "write"] = read, write
        offsets[name] = offset
        found[name] = Measured(
            name,
            kinds[name],
            read.latency_s,
            _whole(read.bytes_per_s),
            _whole(write.bytes_per_s),
            None if offset is None else offset.offset_ns / 1e9,
            None if offset is None else offset.error_ns / 1e9,
        )
    learn(database, samples)
    remember_offsets(database, offsets)
    Health(database).reset(offsets)
    return [found[name] for name in names]


def _measure(service: StorageABC, size: int) -> tuple[Sample, Sample, Offset | None]:
    offset = measure_offset(service)
    path = temporary_name(MEASURING)
    content = Content.of_bytes(os.urandom(size))
    try:
        written = [_seconds(lambda: service.write(path, content)) for _ in range(_TIMES)]
        asked = [_seconds(lambda: service.stat(path)) for _ in range(_TIMES)]
        read = [_seconds(lambda: _read(service, path)) for _ in range(_TIMES)]
    finally:
        with suppress(NotFound):
            service.remove(path)
    latency = median(asked)
    return _sample(latency, median(read), size), _sample(latency, median(written), size), offset


def _read(service: StorageABC, path: str) -> None:
    with service.open_read(path) as reader:
        for _ in reader:
            pass


def _seconds(call: Callable[[], object]) -> float:
    begin = time.perf_counter()
    call()
    return time.perf_counter() - begin


def _sample(latency: float, seconds: float, size: int) -> Sample:
    """Return the speed that fits: a file takes the time of a request, and then that of its bytes."""
    return Sample(latency, None if size < TELLING_BYTES else size / max(seconds - latency, seconds / 10))


def _whole(speed: float | None) -> int | None:
    return None if speed is None else int(speed)
