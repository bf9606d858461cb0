"""Files out of the bucket onto the local disk: in ranges, several under way at once, each in a thread.

What comes is written where it belongs at once, so no more than a socket's buffer is in memory for each range. Every
range is asked of one version of the file, by its ETag, and refused where the answer is of another.
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future
from pathlib import Path
from typing import TYPE_CHECKING

from cloudmesh.storage import local_files
from cloudmesh.storage.abc import Entry, Moved
from cloudmesh.storage.errors import NotFound, Unavailable
from cloudmesh.storage.providers.awss3 import multipart
from cloudmesh.storage.providers.awss3.bucket import Bucket
from cloudmesh.storage.providers.awss3.multipart import MIB

if TYPE_CHECKING:
    from cloudmesh.storage.http_multi import Answer

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
        moved: hears of the bytes as they come, from several threads.

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
        self._failed = False

    def all(self, step: int) -> Entry:
        """Get the file in ranges of ``step`` bytes."""
        self._failed = False
        if self._size <= step:
            return self._range(0, self._size, partial=False)
        entry = Entry(self._path)
        pending: deque[Future[Entry]] = deque()
        with multipart.all_ended(pending):
            try:
                for begin in range(0, self._size, step):
                    if len(pending) == RANGES_AT_ONCE:
                        entry = pending.popleft().result()
                    end = min(begin + step, self._size)
                    pending.append(self._bucket.pool.submit(self._range, begin, end, partial=True))
                while pending:
                    entry = pending.popleft().result()
            except BaseException:
                self._failed = True
                raise
        return entry

    def _range(self, begin: int, end: int, *, partial: bool) -> Entry:
        """Get the bytes from ``begin`` to before ``end``."""
        bucket, http = self._bucket, self._bucket.connection.http
        subject = bucket.location(self._path)
        headers = {} if self._etag is None else {"If-Match": self._etag}
        if partial:
            headers["Range"] = f"bytes={begin}-{end - 1}"
        with bucket.translated(self._path):
            transfer = http.transfer("GET", bucket.key(self._path), headers=headers)
        position = begin

        def write(piece: bytes) -> None:
            nonlocal position
            if self._failed:
                raise Unavailable(subject, "another range has failed")
            self._moved(len(piece))
            if position + len(piece) > end:
                raise Unavailable(subject, "more bytes came than were asked for")
            view = memoryview(piece)
            while view:
                count = os.pwrite(self._file, view, position)
                position += count
                view = view[count:]

        def sink(head: Answer) -> Callable[[bytes], object] | None:
            if not 200 <= head.status < 300:
                return None
            self._check(head, partial=partial)
            return write

        transfer.sink = sink
        answer = http.answered(subject, http.exchange(transfer))
        self._check(answer, partial=partial)
        if position < end:
            raise Unavailable(subject, "fewer bytes came than were asked for")
        return bucket.entry(self._path, answer.headers, size=self._size)

    def _check(self, answer: Answer, *, partial: bool) -> None:
        """Refuse an answer that does not give these bytes of this version."""
        bucket = self._bucket
        problem = bucket.connection.http.problem(bucket.location(self._path), answer)
        if problem is not None:
            raise bucket.missing(self._path, problem) if isinstance(problem, NotFound) else problem
        if partial and answer.status != _PARTIAL:
            raise _NoRanges
        bucket.match(bucket.entry(self._path, answer.headers), self._etag)
