"""Trying again what failed for a passing reason."""

from __future__ import annotations

import logging
import random
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from itertools import islice
from typing import TypeVar

from cloudmesh.storage.abc import (
    Content,
    Entry,
    Loaded,
    OnError,
    Reader,
    ReadRequest,
    StorageABC,
    WriteMode,
    WriteRequest,
)
from cloudmesh.storage.digest import digest_of
from cloudmesh.storage.errors import (
    AlreadyExists,
    ChecksumMismatch,
    NotFound,
    PreconditionFailed,
    RateLimited,
    StorageError,
    Unavailable,
)
from cloudmesh.storage.layers.base import Layer, end
from cloudmesh.storage.pool import run_parallel

T = TypeVar("T")
Request = TypeVar("Request", ReadRequest, WriteRequest)
Answer = TypeVar("Answer", Loaded, Entry)
_LOG = logging.getLogger(__name__)
_BATCH = 1000
_SILENCES = 2
"""Attempts on which nothing came for a whole read timeout: one connection may be dead, two mean the service."""
_HASHES = ("sha256", "sha1", "md5")


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """How often and how long.

    Before attempt n + 1 it waits a random time between 0 and ``base_seconds`` × 2ⁿ⁻¹ ("full jitter": many clients that
    failed together do not come back together), at most ``cap_seconds``, and never less than the service asked for.

    Attributes:
        attempts: calls at most, the first one included. A stream that made progress begins to count anew.
        total_seconds: no attempt begins later than this after the first.
        base_seconds, cap_seconds: see above.
    """

    attempts: int = 6
    total_seconds: float = 180.0
    base_seconds: float = 0.5
    cap_seconds: float = 30.0


class _Attempts:
    """One call's attempts: counts the failures and waits after each."""

    def __init__(self, retry: Retry, primitive: str) -> None:
        self._retry = retry
        self._primitive = primitive
        self.failures = 0
        self.answer_lost = False
        self._silences = 0
        self._begin = self._asked = retry.clock()

    def begin_anew(self) -> None:
        """Count from here: there was progress."""
        self.failures = self._silences = 0
        self._begin = self._asked = self._retry.clock()

    def failed(self, error: StorageError) -> None:
        """Wait before the next attempt; raise ``error`` where there is none."""
        retry, policy = self._retry, self._retry.policy
        self.failures += 1
        if self._is_silence(error):
            self._silences += 1
            retry.tell(error)
        if not error.retryable or self.failures >= policy.attempts or self._silences >= _SILENCES:
            raise error
        longest = min(policy.cap_seconds, policy.base_seconds * 2.0 ** (self.failures - 1))
        wait = max(retry.random() * longest, error.retry_after or 0.0)
        if retry.clock() + wait - self._begin > policy.total_seconds:
            raise error
        # After a refusal we know that nothing was done; after a broken connection we do not.
        self.answer_lost = self.answer_lost or not isinstance(error, RateLimited)
        _LOG.debug("%s failed, again in %.1f s (attempt %d): %s", self._primitive, wait, self.failures + 1, error)
        if retry.sleep(wait):
            raise error
        self._asked = retry.clock()

    def _is_silence(self, error: StorageError) -> bool:
        """Tell whether nothing came for a whole read timeout; how long a file took tells nothing, as bytes moved."""
        waited = self._retry.clock() - self._asked >= self._retry.settings.timeouts.read
        return waited and isinstance(error, Unavailable) and self._primitive not in ("write", "download")


class Retry(Layer):
    """Repeats calls that ended with a retryable error, so that whoever calls sees one call.

    * A read that breaks is taken up at the byte where it broke, of the same version, or ends with PreconditionFailed.
    * A scan that breaks is begun again, without what was told already; the order of scans makes that possible.
    * Files of a batch that failed are repeated one by one, several at a time, while the batch pauses.
    * A write is repeated if its content can be given again, or was not touched yet.
    * Where the answer to an earlier attempt was lost, "already there", "changed meanwhile" and "not there" may be our
      own doing: a write is then compared with what is there now, and a removal counts as done.

    Args:
        inner: the storage to make patient.
        policy: how often and how long.
        sleep: waits for seconds; returns True when it was ended early because nobody wants the answer any longer.
        clock: gives seconds.
        random: gives a number from 0 to 1.
    """

    def __init__(
        self,
        inner: StorageABC,
        policy: RetryPolicy,
        *,
        sleep: Callable[[float], bool] | None = None,
        clock: Callable[[], float] = time.monotonic,
        random: Callable[[], float] = random.random,
    ) -> None:
        super().__init__(inner)
        self.policy = policy
        self.sleep = sleep or threading.Event().wait
        self.clock = clock
        self.random = random
        self._told = False

    def tell(self, error: StorageError) -> None:
        """Tell once that the service is silent, so that who waits knows for what."""
        if not self._told:
            self._told = True
            _LOG.warning("%s: %s; it is asked again", self.name, error.why)

    def around(self, primitive: str, path: str, call: Callable[[], T]) -> T:
        return self._repeat(_Attempts(self, primitive), call)

    def scan(self, path: str = "", *, recursive: bool = False, on_error: OnError | None = None) -> Iterator[Entry]:
        attempts = _Attempts(self, "scan")
        last: bytes | None = None
        told: set[str] = set()

        def once(entry: Entry, error: StorageError) -> None:
            if on_error is not None and entry.path not in told:
                told.add(entry.path)
                on_error(entry, error)

        hears = None if on_error is None else once
        while True:
            try:
                for entry in self.inner.scan(path, recursive=recursive, on_error=hears):
                    key = entry.sort_key
                    if last is None or key > last:
                        last = key
                        attempts.begin_anew()
                        yield entry
                return
            except StorageError as error:
                attempts.failed(error)

    def open_read(self, path: str, *, start: int = 0, length: int | None = None, if_match: str | None = None) -> Reader:
        reader = super().open_read(path, start=start, length=length, if_match=if_match)
        return _resuming(self, reader, path, start, length)

    def write(
        self, path: str, content: Content, *, mode: WriteMode = "overwrite", if_match: str | None = None
    ) -> Entry:
        return self._write(_Attempts(self, "write"), path, content, mode, if_match)

    def _write(
        self, attempts: _Attempts, path: str, content: Content, mode: WriteMode, if_match: str | None = None
    ) -> Entry:
        opened = False

        def pieces() -> Iterable[bytes]:
            nonlocal opened
            opened = True
            return content.open()

        watched = replace(content, open=pieces)
        while True:
            try:
                return self.inner.write(path, watched, mode=mode, if_match=if_match)
            except (AlreadyExists, PreconditionFailed) as error:
                if not attempts.answer_lost:
                    raise
                return self._own(path, content, error)
            except StorageError as error:
                if opened and not content.replayable:
                    raise
                attempts.failed(error)

    def read_many(self, requests: Iterable[ReadRequest | None]) -> Iterator[tuple[ReadRequest, Loaded | StorageError]]:
        def read(request: ReadRequest) -> Loaded:
            with self.inner.open_read(request.path, if_match=request.if_match) as reader:
                return Loaded(reader.entry, reader.read())

        def again(task: tuple[ReadRequest, StorageError]) -> Loaded:
            request, error = task
            attempts = _Attempts(self, "read_many")
            attempts.failed(error)
            return self._repeat(attempts, lambda: read(request))

        return self._batch(requests, self.inner.read_many, again)

    def write_many(
        self, requests: Iterable[WriteRequest | None]
    ) -> Iterator[tuple[WriteRequest, Entry | StorageError]]:
        def again(task: tuple[WriteRequest, StorageError]) -> Entry:
            request, error = task
            attempts = _Attempts(self, "write_many")
            attempts.failed(error)
            content = Content.of_bytes(request.data, request.mtime_ns)
            return self._write(attempts, request.path, content, request.mode)

        return self._batch(requests, self.inner.write_many, again)

    def _batch(
        self,
        requests: Iterable[Request | None],
        call: Callable[[Iterable[Request | None]], Iterator[tuple[Request, Answer | StorageError]]],
        again: Callable[[tuple[Request, StorageError]], Answer],
    ) -> Iterator[tuple[Request, Answer | StorageError]]:
        """Yield the answers of a batch, with those that failed for a passing reason asked for again.

        Whenever as many have failed as are under way at once, the batch is brought to an end, so that no connection
        waits with them, and taken up again afterwards. At once where one was waited for as long as a timeout: all may
        meet that, one after the other. Also when the caller does not know the next request: it may wait
        for the answers that are missing.
        """
        remaining = iter(requests)
        failed: list[tuple[Request, StorageError]] = []
        most = self.settings.parallel
        patience = min(self.settings.timeouts.connect, self.settings.timeouts.read)
        exhausted = hangs = False

        def some() -> Iterator[Request | None]:
            nonlocal exhausted
            for request in remaining:
                if failed and request is None:
                    return
                yield request
                if len(failed) >= most or hangs:
                    return
            exhausted = True

        while not exhausted:
            steps = call(some())
            moved, hangs = self.clock(), False
            try:
                for step in steps:
                    answer = step[1]
                    if isinstance(answer, StorageError) and answer.retryable:
                        failed.append((step[0], answer))
                        hangs = hangs or self.clock() - moved >= patience
                    else:
                        yield step
                    moved = self.clock()
            finally:
                end(steps)
            waiting, failed[:] = list(failed), ()
            for (request, _), outcome in run_parallel(again, waiting, most):
                yield request, outcome

    def remove(self, path: str) -> None:
        self._remove("remove", lambda: self.inner.remove(path))

    def remove_dir(self, path: str) -> None:
        self._remove("remove_dir", lambda: self.inner.remove_dir(path))

    def remove_many(self, files: Iterable[str]) -> Iterator[tuple[str, StorageError]]:
        remaining = iter(files)
        while batch := list(islice(remaining, _BATCH)):
            attempts = _Attempts(self, "remove_many")
            while batch:
                try:
                    failures = list(self.inner.remove_many(batch))
                except StorageError as error:  # a file that the broken call did remove counts as removed the next time
                    attempts.failed(error)
                    continue
                yield from ((path, error) for path, error in failures if not error.retryable)
                again = [(path, error) for path, error in failures if error.retryable]
                batch = [path for path, _ in again]
                if again:
                    try:
                        attempts.failed(again[0][1])
                    except StorageError:
                        yield from again
                        break

    def copy_within(self, source: str, destination: str, *, mode: WriteMode = "overwrite") -> Entry:
        attempts = _Attempts(self, "copy_within")
        try:
            return self._repeat(attempts, lambda: self.inner.copy_within(source, destination, mode=mode))
        except AlreadyExists as error:
            if not attempts.answer_lost:
                raise

            def pieces() -> Iterator[bytes]:
                with self.open_read(source) as reader:
                    yield from reader

            return self._own(destination, Content(open=pieces, size=self.stat(source).size), error)

    def move_within(self, source: str, destination: str, *, mode: WriteMode = "overwrite") -> None:
        attempts = _Attempts(self, "move_within")
        try:
            self._repeat(attempts, lambda: self.inner.move_within(source, destination, mode=mode))
        except NotFound as error:
            if not attempts.answer_lost:
                raise
            why = "the answer to the first attempt was lost; now it is not there, so it was moved or never there"
            raise NotFound(error.subject, why, f"look at {self.location(destination)}") from error

    def _repeat(self, attempts: _Attempts, call: Callable[[], T]) -> T:
        while True:
            try:
                return call()
            except StorageError as error:
                attempts.failed(error)

    def _remove(self, primitive: str, call: Callable[[], None]) -> None:
        attempts = _Attempts(self, primitive)
        try:
            self._repeat(attempts, call)
        except NotFound:
            if not attempts.answer_lost:
                raise

    def _own(self, path: str, content: Content, refusal: StorageError) -> Entry:
        """Return the entry at ``path`` if it holds ``content``: then an attempt of ours has made it. Else raise.

        Raises:
            StorageError: ``refusal``, of the same kind; it says so where we cannot know whose file it is.
        """
        try:
            entry = self.stat(path)
        except NotFound:
            raise refusal from None
        if content.size is not None and entry.size is not None and content.size != entry.size:
            raise refusal
        if not content.replayable:
            why = "it is there now, but the answer to our first attempt was lost, so we cannot tell who wrote it"
            raise type(refusal)(refusal.subject, why) from refusal
        if not self._holds(entry, content):
            raise refusal
        return entry

    def _holds(self, entry: Entry, content: Content) -> bool:
        """Tell whether a file holds these bytes: by a hash that the service knows, else by reading it."""
        algorithm = next((name for name in _HASHES if name in entry.hashes), None)
        if algorithm is not None:
            return digest_of(content.open(), algorithm) == entry.hashes[algorithm]
        with self.open_read(entry.path, if_match=entry.etag) as reader:
            return digest_of(reader) == digest_of(content.open())


def _resuming(retry: Retry, reader: Reader, path: str, start: int, length: int | None) -> Reader:
    """Return a reader of the same bytes that opens the file again where its stream breaks."""
    entry = reader.entry
    current = reader
    first = max(0, entry.size + start) if start < 0 and entry.size is not None else start

    def reopen(delivered: int) -> Reader:
        rest = None if length is None else length - delivered
        again = retry.inner.open_read(path, start=first + delivered, length=rest, if_match=entry.etag)
        if again.entry.etag != entry.etag:
            again.close()
            raise PreconditionFailed(retry.location(path))
        return again

    def complete(delivered: int) -> bool:
        return delivered == length or (entry.size is not None and first + delivered >= entry.size)

    def pieces() -> Iterator[bytes]:
        nonlocal current
        attempts = _Attempts(retry, "open_read")
        delivered = 0
        broken = False
        while True:
            try:
                if broken:
                    current.close()
                    current = reopen(delivered)
                    broken = False
                for piece in current:
                    delivered += len(piece)
                    attempts.begin_anew()
                    yield piece
                return
            except ChecksumMismatch:  # the bytes already given may be the wrong ones
                raise
            except StorageError as error:
                if error.retryable and complete(delivered):  # it broke after its last byte
                    return
                if entry.etag is None or first < 0:  # the rest might be of another version, or of another place
                    raise
                attempts.failed(error)
                broken = True

    return Reader(entry, pieces(), close=lambda: current.close())
