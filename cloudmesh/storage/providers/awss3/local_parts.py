"""The parts of a local file, each read only when it is sent."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager
from types import TracebackType
from typing import Self

from cloudmesh.storage import local_files
from cloudmesh.storage.errors import SourceChanged
from cloudmesh.storage.providers.awss3.unfinished import LocalSource


class Room:
    """Memory that the parts of all files share; who finds none waits.

    Args:
        size: bytes. A part that is larger gets all of them.
    """

    def __init__(self, size: int) -> None:
        self._size = self._free = size
        self._changed = threading.Condition()

    @contextmanager
    def taken(self, size: int) -> Iterator[None]:
        """Hold ``size`` bytes."""
        size = min(size, self._size)
        with self._changed:
            self._changed.wait_for(lambda: self._free >= size)
            self._free -= size
        try:
            yield
        finally:
            with self._changed:
                self._free += size
                self._changed.notify_all()


class LocalParts:
    """A local file in parts; a context manager, which keeps it open. Iterated, it gives sizes and what reads the parts.

    Args:
        source: the file, as it is to be.
        sizes: of the parts; the last one is shorter.
        room: for parts in memory.

    Raises (when a part is entered):
        SourceChanged: it is not as ``source`` says, or was changed since it was opened.
        StorageError: it cannot be read.
    """

    def __init__(self, source: LocalSource, sizes: Iterable[int], room: Room) -> None:
        self._source = source
        self._sizes = sizes
        self._room = room

    def __enter__(self) -> Self:
        with local_files.translated(self._source.path):
            self._file = os.open(self._source.path, os.O_RDONLY | os.O_CLOEXEC)
            self._changed_ns = os.fstat(self._file).st_ctime_ns
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        os.close(self._file)

    def __iter__(self) -> Iterator[tuple[int, AbstractContextManager[bytes]]]:
        begin = 0
        for size in self._sizes:
            size = min(size, self._source.size - begin)
            if not size:
                break
            yield size, self._part(begin, size)
            begin += size

    @contextmanager
    def _part(self, begin: int, size: int) -> Iterator[bytes]:
        with self._room.taken(size):
            with local_files.translated(self._source.path):
                part = os.pread(self._file, size, begin)
                now = os.fstat(self._file)
            # Asked after each part, so after the last one too: then all are of one moment.
            seen = (len(part), now.st_size, now.st_mtime_ns, now.st_ctime_ns)
            if seen != (size, self._source.size, self._source.mtime_ns, self._changed_ns):
                raise SourceChanged(self._source.path)
            yield part
