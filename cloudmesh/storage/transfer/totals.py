"""How far long work has come, counted from its events: files, bytes, speed, time left."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

from cloudmesh.storage.transfer.events import Event

LARGE = 1 << 20
"""Files of more bytes than this are followed one by one while they are under way; others count when they are done."""

_WINDOW_S = 10.0
"""Speeds are those of so many last seconds."""

_STEP_S = 0.5
"""What was moved is noted for the window at most so often."""


@dataclass(frozen=True, slots=True)
class FileUnderWay:
    """A large file that is being moved.

    Attributes:
        name: as in its events.
        size: bytes.
        bytes_done: bytes moved so far.
        bytes_per_s: speed of the last seconds.
        seconds: since it began.
        seconds_left: None where it stands still.
    """

    name: str
    size: int
    bytes_done: int
    bytes_per_s: float
    seconds: float
    seconds_left: float | None


@dataclass(frozen=True, slots=True)
class Snapshot:
    """How far the work has come, at one moment.

    Attributes:
        planned_all: whether the planned figures are final; else more files may be found.
        files_planned, bytes_planned: all files of the work that were found so far, those skipped included.
        files_done: files now at their destination.
        bytes_done: bytes of those, and the bytes moved of large files under way.
        files_skipped, bytes_skipped: files that were the same already.
        files_failed, bytes_failed: files that could not be done.
        files_removed, bytes_removed: files removed at the destination by a mirror; no part of the planned.
        bytes_per_s: speed of the last seconds.
        seconds: since the work began.
        seconds_left: None while it cannot be told: more may be planned, or nothing moves.
        under_way: large files being moved, the longest running first.
    """

    planned_all: bool
    files_planned: int
    bytes_planned: int
    files_done: int
    bytes_done: int
    files_skipped: int
    bytes_skipped: int
    files_failed: int
    bytes_failed: int
    files_removed: int
    bytes_removed: int
    bytes_per_s: float
    seconds: float
    seconds_left: float | None
    under_way: tuple[FileUnderWay, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """Return the attributes, as JSON knows them."""
        return asdict(self)


class Totals:
    """Counts events; it is an observer itself, and costs about half a microsecond an event.

    Args:
        clock: gives seconds that only grow.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._begun = clock()
        self._planned_all = False
        self._files = dict.fromkeys(("planned", "done", "skipped", "failed", "removed"), 0)
        self._bytes = dict.fromkeys(self._files, 0)
        self._under_way: dict[str, _File] = {}
        self._moved = _Rate(self._begun)
        self._ended = _Rate(self._begun)

    def __call__(self, event: Event) -> None:
        """Count one event."""
        kind, size = event.kind, event.size
        with self._lock:
            if kind == "moved":
                if (file := self._under_way.get(event.name)) is not None:
                    now = self._clock()
                    file.moved.add(now, size)
                    self._moved.add(now, size)
            elif kind == "started":
                if size > LARGE:
                    self._under_way[event.name] = _File(size, self._clock())
            elif kind == "planned_all":
                self._planned_all = True
            else:
                self._files[kind] += 1
                self._bytes[kind] += size
                if kind == "planned":
                    self._planned_all = False
                elif kind != "removed":
                    now = self._clock()
                    self._ended.add(now, 1)
                    moved = self._under_way.pop(event.name).moved.total if event.name in self._under_way else 0
                    if kind == "done" and size > moved:
                        self._moved.add(now, size - moved)

    def snapshot(self) -> Snapshot:
        """Return how far the work has come."""
        with self._lock:
            now = self._clock()
            files, sizes = dict(self._files), dict(self._bytes)
            under_way = [file.snapshot(name, now) for name, file in self._under_way.items()]
            speed, files_per_s = self._moved.per_second(now), self._ended.per_second(now)
            planned_all = self._planned_all
        under_way.sort(key=lambda file: -file.seconds)
        # What ended unplanned, as a directory that cannot be made, was part of the work too.
        planned_files = max(files["planned"], files["done"] + files["skipped"] + files["failed"])
        bytes_done = sizes["done"] + sum(file.bytes_done for file in under_way)
        planned_bytes = max(sizes["planned"], bytes_done + sizes["skipped"] + sizes["failed"])
        files_left = planned_files - files["done"] - files["skipped"] - files["failed"]
        bytes_left = planned_bytes - bytes_done - sizes["skipped"] - sizes["failed"]
        return Snapshot(
            planned_all=planned_all,
            files_planned=planned_files,
            bytes_planned=planned_bytes,
            files_done=files["done"],
            bytes_done=bytes_done,
            files_skipped=files["skipped"],
            bytes_skipped=sizes["skipped"],
            files_failed=files["failed"],
            bytes_failed=sizes["failed"],
            files_removed=files["removed"],
            bytes_removed=sizes["removed"],
            bytes_per_s=speed,
            seconds=now - self._begun,
            # empty files weigh nothing
            seconds_left=(_seconds(bytes_left, speed) if bytes_left else _seconds(files_left, files_per_s))
            if planned_all
            else None,
            under_way=tuple(under_way),
        )


class _Rate:
    """A sum that grows, and how fast it grew lately."""

    __slots__ = ("_last", "_points", "total")

    def __init__(self, now: float) -> None:
        self.total = 0
        self._points = deque([(now, 0)], maxlen=int(_WINDOW_S / _STEP_S) + 3)
        self._last = now

    def add(self, now: float, amount: int) -> None:
        self.total += amount
        self._last = now
        if now - self._points[-1][0] >= _STEP_S:
            self._points.append((now, self.total))

    def per_second(self, now: float) -> float:
        begin = max(now - _WINDOW_S, self._points[0][0])
        return (self.total - self._at(begin)) / (now - begin) if now > begin else 0.0

    def _at(self, when: float) -> float:
        """The sum at an earlier moment, taken to have grown evenly between two points."""
        before, value = self._points[0]
        for after, later in (*self._points, (self._last, self.total)):
            if after > when:
                return value + (later - value) * (when - before) / (after - before)
            before, value = after, later
        return value


class _File:
    """A large file under way."""

    __slots__ = ("_begun", "moved", "size")

    def __init__(self, size: int, now: float) -> None:
        self.size = size
        self.moved = _Rate(now)
        self._begun = now

    def snapshot(self, name: str, now: float) -> FileUnderWay:
        done = min(self.moved.total, self.size)  # a part that is sent again counts twice
        speed = self.moved.per_second(now)
        return FileUnderWay(name, self.size, done, speed, now - self._begun, _seconds(self.size - done, speed))


def _seconds(amount: float, per_second: float) -> float | None:
    """How long an amount takes; None where nothing moves."""
    if amount <= 0:
        return 0.0
    return amount / per_second if per_second > 0 else None
