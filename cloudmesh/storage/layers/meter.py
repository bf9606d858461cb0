"""Counting what a service did for us."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TypeVar

from cloudmesh.storage.abc import (
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
from cloudmesh.storage.layers.base import Layer, end

T = TypeVar("T")
Request = TypeVar("Request", ReadRequest, WriteRequest)
Answer = TypeVar("Answer", Loaded, Entry)

_ADD_AFTER = 256
"""Files of a batch that are counted before the count is made known: the lock costs more than the counting."""


@dataclass(frozen=True, slots=True)
class Count:
    """One primitive's calls.

    Attributes:
        requests: calls begun.
        errors: calls that ended with an error.
        seconds: in the calls and their streams, without what the caller did between two pieces. Of a batch
            (``read_many``, ``write_many``) they are for many files at once.
        bytes_in: content read from the service.
        bytes_out: content sent to the service.
    """

    requests: int = 0
    errors: int = 0
    seconds: float = 0.0
    bytes_in: int = 0
    bytes_out: int = 0

    def __add__(self, other: Count) -> Count:
        return Count(
            self.requests + other.requests,
            self.errors + other.errors,
            self.seconds + other.seconds,
            self.bytes_in + other.bytes_in,
            self.bytes_out + other.bytes_out,
        )


@dataclass(frozen=True, slots=True)
class Snapshot:
    """What was counted so far, by primitive (``stat``, ``scan``, ``open_read`` …)."""

    by_primitive: Mapping[str, Count] = field(default_factory=dict)

    @property
    def total(self) -> Count:
        """All primitives together."""
        return sum(self.by_primitive.values(), Count())


class Meter(Layer):
    """Counts requests, errors, seconds and bytes by primitive.

    Args:
        inner: the storage to watch.
        clock: gives seconds.
    """

    def __init__(self, inner: StorageABC, *, clock: Callable[[], float] = time.perf_counter) -> None:
        super().__init__(inner)
        self._clock = clock
        self._lock = threading.Lock()
        self._counts: dict[str, Count] = {}

    def snapshot(self) -> Snapshot:
        """Return what was counted so far; it does not change afterwards."""
        with self._lock:
            return Snapshot(dict(self._counts))

    def around(self, primitive: str, path: str, call: Callable[[], T]) -> T:
        with self._timed(primitive, Count(requests=1)):
            return call()

    def scan(self, path: str = "", *, recursive: bool = False, on_error: OnError | None = None) -> Iterator[Entry]:
        self._add("scan", Count(requests=1))
        yield from self._steps("scan", self.inner.scan(path, recursive=recursive, on_error=on_error))

    def open_read(self, path: str, *, start: int = 0, length: int | None = None, if_match: str | None = None) -> Reader:
        reader = super().open_read(path, start=start, length=length, if_match=if_match)

        def pieces() -> Iterator[bytes]:
            for piece in self._steps("open_read", iter(reader)):
                self._add("open_read", Count(bytes_in=len(piece)))
                yield piece

        return Reader(reader.entry, pieces(), close=reader.close)

    def download(
        self,
        path: str,
        destination: Path,
        *,
        size: int | None = None,
        if_match: str | None = None,
        moved: Moved = nobody_counts,
    ) -> Entry:
        entry = super().download(path, destination, size=size, if_match=if_match, moved=moved)
        self._add("download", Count(bytes_in=destination.stat().st_size))
        return entry

    def write(
        self, path: str, content: Content, *, mode: WriteMode = "overwrite", if_match: str | None = None
    ) -> Entry:
        def pieces() -> Iterator[bytes]:
            for piece in content.open():
                self._add("write", Count(bytes_out=len(piece)))
                yield piece

        def moved(count: int) -> None:
            content.moved(count)
            self._add("write", Count(bytes_out=count))

        return super().write(path, replace(content, open=pieces, moved=moved), mode=mode, if_match=if_match)

    def read_many(self, requests: Iterable[ReadRequest | None]) -> Iterator[tuple[ReadRequest, Loaded | StorageError]]:
        return self._batch("read_many", requests, self.inner.read_many)

    def write_many(
        self, requests: Iterable[WriteRequest | None]
    ) -> Iterator[tuple[WriteRequest, Entry | StorageError]]:
        return self._batch("write_many", requests, self.inner.write_many)

    def _batch(
        self,
        primitive: str,
        requests: Iterable[Request | None],
        call: Callable[[Iterable[Request | None]], Iterator[tuple[Request, Answer | StorageError]]],
    ) -> Iterator[tuple[Request, Answer | StorageError]]:
        """Pass a batch on, counting the time inside it without what the caller does to give the next request."""
        clock = self._clock
        done = errors = read = written = 0
        seconds = 0.0

        def watched() -> Iterator[Request | None]:
            nonlocal seconds
            begin = clock()
            for request in requests:
                seconds -= clock() - begin
                yield request
                begin = clock()
            seconds -= clock() - begin

        steps = call(watched())
        begin = clock()
        try:
            for step in steps:
                seconds += clock() - begin
                request, answer = step
                done += 1
                if isinstance(answer, StorageError):
                    errors += 1
                elif isinstance(answer, Loaded):
                    read += len(answer.data)
                elif isinstance(request, WriteRequest):
                    written += len(request.data)
                if done == _ADD_AFTER:
                    self._add(primitive, Count(done, errors, seconds, read, written))
                    done = errors = read = written = 0
                    seconds = 0.0
                yield step
                begin = clock()
            seconds += clock() - begin
        finally:
            end(steps)
            self._add(primitive, Count(done, errors, max(0.0, seconds), read, written))

    def remove_many(self, files: Iterable[str]) -> Iterator[tuple[str, StorageError]]:
        self._add("remove_many", Count(requests=1))
        yield from self._steps("remove_many", self.inner.remove_many(files))

    def _steps(self, primitive: str, steps: Iterator[T]) -> Iterator[T]:
        """Yield what ``steps`` gives, counting the time inside it alone: added up, as a step may cost less."""
        clock = self._clock
        seconds = 0.0
        errors = 0
        begin = clock()
        try:
            for step in steps:
                seconds += clock() - begin
                yield step
                begin = clock()
            seconds += clock() - begin
        except StorageError:
            errors = 1
            raise
        finally:
            self._add(primitive, Count(errors=errors, seconds=seconds))

    @contextmanager
    def _timed(self, primitive: str, count: Count) -> Iterator[None]:
        begin = self._clock()
        errors = 0
        try:
            yield
        except StorageError:
            errors = 1
            raise
        finally:
            self._add(primitive, replace(count, errors=errors, seconds=self._clock() - begin))

    def _add(self, primitive: str, count: Count) -> None:
        with self._lock:
            self._counts[primitive] = self._counts.get(primitive, Count()) + count
