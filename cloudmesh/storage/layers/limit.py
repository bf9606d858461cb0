"""Not more at once, and not faster, than a service or a line should bear."""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import TypeVar

from cloudmesh.storage.abc import (
    CHUNK,
    Content,
    Entry,
    Loaded,
    Moved,
    OnError,
    Reader,
    ReadRequest,
    StorageABC,
    WriteMode,
    WriteRequest,
    nobody_counts,
)
from cloudmesh.storage.errors import StorageError
from cloudmesh.storage.layers.base import Layer
from cloudmesh.storage.rate import Schedule

T = TypeVar("T")


class TokenBucket:
    """Lets ``rate`` units a second through, and a second's worth at once after a pause.

    Where the rate is a schedule, those who wait follow a change of it within a second.

    Args:
        rate: units a second, more than 0; or by time of the week.
        clock: gives seconds.
        sleep: waits for seconds.
        now: gives the local time.
    """

    def __init__(
        self,
        rate: float | Schedule,
        *,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], object] = time.sleep,
        now: Callable[[], datetime] = datetime.now,
    ) -> None:
        self._schedule = rate if isinstance(rate, Schedule) else Schedule.constant(rate)
        if any(one is not None and one <= 0 for one in self._schedule.rates):
            raise ValueError("a rate must be more than 0")
        self._longest_sleep = 1.0 if len(self._schedule.rates) > 1 else threading.TIMEOUT_MAX
        self._clock = clock
        self._sleep = sleep
        self._now = now
        self._lock = threading.Lock()
        self._rate = self._schedule.at(now())
        self._wanted = 0.0  # units asked for so far
        self._allowed = max(self._rate or 0.0, 1.0)  # units that may have passed so far
        self._seen = clock()

    def take(self, amount: float) -> None:
        """Wait until ``amount`` units may pass; more than a second's worth passes at once, and is waited for."""
        with self._lock:
            self._go_on()
            self._wanted += amount
            mine = self._wanted
            wait = self._wait_for(mine)
        while wait > 0:
            self._sleep(min(wait, self._longest_sleep))
            if wait <= self._longest_sleep:
                return
            with self._lock:
                self._go_on()
                wait = self._wait_for(mine)

    def _go_on(self) -> None:
        """Allow what the time since the last call allows."""
        now = self._clock()
        passed, self._seen = now - self._seen, now
        if self._rate is None:
            self._allowed = max(self._allowed, self._wanted)
        else:
            most = self._wanted + max(self._rate, 1.0)
            self._allowed = min(most, self._allowed + passed * self._rate)
        if len(self._schedule.rates) > 1:
            self._rate = self._schedule.at(self._now())

    def _wait_for(self, wanted: float) -> float:
        return 0.0 if self._rate is None else (wanted - self._allowed) / self._rate


class _Slots:
    """So many threads at once. A thread that has a slot already needs no second one: it may write what it reads."""

    def __init__(self, count: int) -> None:
        self._free = count
        self._held: Counter[int] = Counter()
        self._changed = threading.Condition()

    def acquire(self) -> Callable[[], None]:
        """Wait for a slot; return the function that gives it back, from whichever thread, once."""
        owner = threading.get_ident()
        with self._changed:
            if not self._held[owner]:
                self._changed.wait_for(lambda: self._free > 0)
                self._free -= 1
            self._held[owner] += 1
        given_back = False

        def release() -> None:
            nonlocal given_back
            with self._changed:
                if given_back:
                    return
                given_back = True
                self._held[owner] -= 1
                if not self._held[owner]:
                    del self._held[owner]
                    self._free += 1
                    self._changed.notify()

        return release


class Limit(Layer):
    """Bounds the calls at once, the calls a second, and the bytes a second in both directions together.

    A stream that is being read counts as a call until it is closed or at its end. A scan takes its turn in the request
    rate but no slot: it lasts as long as its reader wants, who may be waiting for calls that need the slots. For the
    same reason a batch of small files takes none: it bounds itself to ``settings.parallel`` under way. Where a rate is
    limited, the files of a batch are calls like any other, on threads that may wait.

    Args:
        inner: the storage to protect.
        concurrency: threads in calls at once; None = any number.
        requests_per_second: calls; None = any number.
        bytes_per_second: content, also by time of the week; None = as fast as it goes. With a limit, files are
            read as streams, never natively. A bucket is shared with whoever else has it.
        clock: gives seconds.
        sleep: waits for seconds.
    """

    def __init__(
        self,
        inner: StorageABC,
        *,
        concurrency: int | None = None,
        requests_per_second: float | None = None,
        bytes_per_second: float | Schedule | TokenBucket | None = None,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], object] = time.sleep,
    ) -> None:
        super().__init__(inner)
        self._slots = _Slots(concurrency) if concurrency else None
        self._requests = TokenBucket(requests_per_second, clock=clock, sleep=sleep) if requests_per_second else None
        if isinstance(bytes_per_second, TokenBucket):
            self._bytes: TokenBucket | None = bytes_per_second
        else:
            self._bytes = TokenBucket(bytes_per_second, clock=clock, sleep=sleep) if bytes_per_second else None
        if self.delays:
            self.immediate = False

    @property
    def delays(self) -> bool:
        """Whether calls and bytes may have to wait here, for as long as the rates say."""
        return self._requests is not None or self._bytes is not None

    def around(self, primitive: str, path: str, call: Callable[[], T]) -> T:
        release = self._enter()
        try:
            return call()
        finally:
            release()

    def scan(self, path: str = "", *, recursive: bool = False, on_error: OnError | None = None) -> Iterator[Entry]:
        self._take_turn()
        yield from self.inner.scan(path, recursive=recursive, on_error=on_error)

    def remove_many(self, files: Iterable[str]) -> Iterator[tuple[str, StorageError]]:
        self._take_turn()
        yield from self.inner.remove_many(files)

    def open_read(self, path: str, *, start: int = 0, length: int | None = None, if_match: str | None = None) -> Reader:
        release = self._enter()
        try:
            reader = self.inner.open_read(path, start=start, length=length, if_match=if_match)
        except BaseException:
            release()
            raise

        def pieces() -> Iterator[bytes]:
            try:
                yield from self._slowly(reader)
            finally:
                release()

        def close() -> None:
            try:
                reader.close()
            finally:
                release()

        return Reader(reader.entry, pieces(), close=close)

    def download(
        self,
        path: str,
        destination: Path,
        *,
        size: int | None = None,
        if_match: str | None = None,
        moved: Moved = nobody_counts,
    ) -> Entry:
        if self._bytes is None:
            return super().download(path, destination, size=size, if_match=if_match, moved=moved)
        return StorageABC.download(self, path, destination, size=size, if_match=if_match, moved=moved)

    def write(
        self, path: str, content: Content, *, mode: WriteMode = "overwrite", if_match: str | None = None
    ) -> Entry:
        limit, given = self._bytes, content
        if limit is not None:

            def moved(count: int) -> None:
                limit.take(count)
                given.moved(count)

            content = replace(given, open=lambda: self._slowly(given.open()), moved=moved)
        return super().write(path, content, mode=mode, if_match=if_match)

    def read_many(self, requests: Iterable[ReadRequest | None]) -> Iterator[tuple[ReadRequest, Loaded | StorageError]]:
        if self._requests is None and self._bytes is None:
            return self.inner.read_many(requests)
        return StorageABC.read_many(self, requests)

    def write_many(
        self, requests: Iterable[WriteRequest | None]
    ) -> Iterator[tuple[WriteRequest, Entry | StorageError]]:
        if self._requests is None and self._bytes is None:
            return self.inner.write_many(requests)
        return StorageABC.write_many(self, requests)

    def _take_turn(self) -> None:
        if self._requests is not None:
            self._requests.take(1)

    def _enter(self) -> Callable[[], None]:
        release = self._slots.acquire() if self._slots is not None else lambda: None
        try:
            self._take_turn()
        except BaseException:
            release()
            raise
        return release

    def _slowly(self, pieces: Iterable[bytes]) -> Iterator[bytes]:
        if self._bytes is None:
            yield from pieces
            return
        for piece in pieces:
            for begin in range(0, len(piece), CHUNK):
                part = piece if len(piece) <= CHUNK else piece[begin : begin + CHUNK]
                self._bytes.take(len(part))
                yield part
