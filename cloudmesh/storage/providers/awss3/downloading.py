"""Files out of the bucket onto the local disk: in ranges, several under way at once, all in the caller's thread.

What comes is written where it belongs as soon as there is enough of it for one call of the system, so little of each
range is in memory. Threads would not make it faster: between two of the small pieces that libcurl gives, they wait for
each other (512 MiB: 0.45 s of CPU with four threads, 0.27 s so). Every range is asked of one version of the file, by
its ETag, and refused where the answer is of another.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from time import monotonic
from typing import TYPE_CHECKING

from cloudmesh.storage import local_files
from cloudmesh.storage.abc import Entry, Moved
from cloudmesh.storage.errors import NotFound, Unavailable
from cloudmesh.storage.providers.awss3.bucket import Bucket
from cloudmesh.storage.providers.awss3.multipart import MIB

if TYPE_CHECKING:
    from cloudmesh.storage.http_multi import Answer, Transfer

RANGE = 32 * MIB
"""Bytes of one range. A file that is not larger comes in one piece."""
RANGES_AT_ONCE = 4
_GATHERED, _PIECES, _SECONDS = MIB // 2, 1024, 0.1
"""What is written at once: so many bytes, or what has come in so many pieces (Linux takes no more) or seconds."""
_PARTIAL = 206


class _NoRanges(Exception):
    """The service sends the whole file where a range was asked for."""


def download(bucket: Bucket, path: str, size: int, etag: str | None, destination: Path, moved: Moved) -> Entry:
    """Read a file into a local one.

    Args:
        bucket: where it is.
        path: of the file.
        size: of the version ``etag``.
        etag: the version; None where the service gives none: then it comes in one piece.
        destination: emptied first.
        moved: hears of the bytes as they come.

    Returns:
        the file, as the answers describe it.

    Raises:
        StorageError: as `StorageABC.download`.
    """
    with local_files.translated(str(destination)), destination.open("wb", buffering=0) as file:
        os.truncate(file.fileno(), size)
        get = _Get(bucket, path, size, etag, file.fileno(), moved)
        try:
            return get.all(size if etag is None else RANGE)
        except _NoRanges:
            return get.all(size)


class _Get:
    """The requests of one download."""

    def __init__(self, bucket: Bucket, path: str, size: int, etag: str | None, file: int, moved: Moved) -> None:
        self._bucket = bucket
        self._path = path
        self._subject = bucket.location(path)
        self._size = size
        self._etag = etag
        self._file = file
        self._moved = moved

    def all(self, step: int) -> Entry:
        """Get the file in ranges of ``step`` bytes."""
        http = self._bucket.connection.http
        entry = Entry(self._path)
        for transfer, result in http.run(self._transfers(step), RANGES_AT_ONCE):
            answer = http.answered(self._subject, result)
            self._check(answer, partial=self._size > step)
            span: _Range = transfer.context
            span.end()
            entry = self._bucket.entry(self._path, answer.headers, size=self._size)
        return entry

    def _transfers(self, step: int) -> Iterator[Transfer]:
        """Yield the requests; an empty file is asked for too."""
        for begin in range(0, max(self._size, 1), max(step, 1)):
            span = _Range(self._file, begin, min(begin + step, self._size), self._subject, self._moved)
            yield self._transfer(span, partial=self._size > step)

    def _transfer(self, span: _Range, *, partial: bool) -> Transfer:
        bucket = self._bucket
        headers = {} if self._etag is None else {"If-Match": self._etag}
        if partial:
            headers["Range"] = f"bytes={span.position}-{span.last - 1}"
        with bucket.translated(self._path):
            transfer = bucket.connection.http.transfer("GET", bucket.key(self._path), headers=headers, context=span)

        def sink(head: Answer) -> Callable[[bytes], object] | None:
            if not 200 <= head.status < 300:
                return None
            self._check(head, partial=partial)
            return span.take

        transfer.sink = sink
        return transfer

    def _check(self, answer: Answer, *, partial: bool) -> None:
        """Refuse an answer that does not give these bytes of this version."""
        bucket = self._bucket
        problem = bucket.connection.http.problem(self._subject, answer)
        if problem is not None:
            raise bucket.missing(self._path, problem) if isinstance(problem, NotFound) else problem
        if partial and answer.status != _PARTIAL:
            raise _NoRanges
        bucket.match(bucket.entry(self._path, answer.headers), self._etag)


class _Range:
    """Where the bytes of one answer belong in the local file: from ``position`` to before ``last``."""

    def __init__(self, file: int, position: int, last: int, subject: str, moved: Moved) -> None:
        self.position = position
        self.last = last
        self._file = file
        self._subject = subject
        self._moved = moved
        self._pieces: list[bytes] = []
        self._gathered = 0
        self._since = monotonic()

    def take(self, piece: bytes) -> None:
        """Take what has come."""
        self._pieces.append(piece)
        self._gathered += len(piece)
        if (
            self._gathered >= _GATHERED
            or len(self._pieces) == _PIECES
            or monotonic() - self._since >= _SECONDS  # so that who waits sees progress, and can end it, on slow lines
        ):
            self._write()

    def end(self) -> None:
        """Take note that nothing more comes.

        Raises:
            Unavailable: something is missing.
        """
        if self._pieces:
            self._write()
        if self.position < self.last:
            raise Unavailable(self._subject, "fewer bytes came than were asked for")

    def _write(self) -> None:
        if self.position + self._gathered > self.last:
            raise Unavailable(self._subject, "more bytes came than were asked for")
        self._moved(self._gathered)
        done = os.pwritev(self._file, self._pieces, self.position)
        if done < self._gathered:  # the disk is full, which the next call says, or a signal came
            rest = memoryview(b"".join(self._pieces))
            while done < self._gathered:
                done += os.pwrite(self._file, rest[done:], self.position + done)
        self.position += done
        self._pieces.clear()
        self._gathered = 0
        self._since = monotonic()
