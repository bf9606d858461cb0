"""Files out of the bucket onto the local disk: in ranges, several under way at once in one thread.

What comes is written where it belongs at once, so no more than a socket's buffer is in memory for each range. Every
range is asked of one version of the file, by its ETag, and refused where the answer is of another.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path
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
        self._size = size
        self._etag = etag
        self._file = file
        self._moved = moved

    def all(self, step: int) -> Entry:
        """Get the file in ranges of ``step`` bytes."""
        http = self._bucket.connection.http
        subject = self._bucket.location(self._path)
        entry = Entry(self._path)
        for transfer, result in http.run(self._transfers(step), RANGES_AT_ONCE):
            answer = http.answered(subject, result)
            self._check(answer, partial=self._size > step)
            if transfer.context.missing:
                raise Unavailable(subject, "other bytes came than were asked for")
            entry = self._bucket.entry(self._path, answer.headers, size=self._size)
        return entry

    def _transfers(self, step: int) -> Iterator[Transfer]:
        bucket = self._bucket
        for begin in range(0, self._size, step) if self._size else (0,):
            headers = {} if self._etag is None else {"If-Match": self._etag}
            if self._size > step:
                headers["Range"] = f"bytes={begin}-{min(begin + step, self._size) - 1}"
            with bucket.translated(self._path):
                transfer = bucket.connection.http.transfer("GET", bucket.key(self._path), headers=headers)
            transfer.context = target = _Target(self._file, begin, min(begin + step, self._size), self._moved)
            transfer.sink = self._sink(target, partial=self._size > step)
            yield transfer

    def _sink(self, target: _Target, *, partial: bool) -> Callable[[Answer], Callable[[bytes], object] | None]:
        def sink(head: Answer) -> Callable[[bytes], object] | None:
            if not 200 <= head.status < 300:
                return None
            self._check(head, partial=partial)
            return target.write

        return sink

    def _check(self, answer: Answer, *, partial: bool) -> None:
        """Refuse an answer that does not give these bytes of this version."""
        bucket = self._bucket
        problem = bucket.connection.http.problem(bucket.location(self._path), answer)
        if problem is not None:
            raise bucket.missing(self._path, problem) if isinstance(problem, NotFound) else problem
        if partial and answer.status != _PARTIAL:
            raise _NoRanges
        bucket.match(bucket.entry(self._path, answer.headers), self._etag)


class _Target:
    """The place in a local file where a range goes."""

    def __init__(self, file: int, begin: int, end: int, moved: Moved) -> None:
        self._file = file
        self._position = begin
        self._moved = moved
        self.missing = end - begin

    def write(self, piece: bytes) -> None:
        """Write what comes next, but nothing of more than was asked for."""
        self._moved(len(piece))
        view = memoryview(piece)[: max(0, self.missing)]
        self.missing -= len(piece)
        while view:
            count = os.pwrite(self._file, view, self._position)
            self._position += count
            view = view[count:]
