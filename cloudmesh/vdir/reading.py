"""Reading a name's content as one stream, which the next replica goes on with where one fails.

Who reads sees whole and right bytes, or an error. A replica is read only while it is the file that the catalogue knows,
and what it gave is continued only by replicas that have the same content by a hash. A file of which all bytes are read
is compared with its hash: one of at most `HELD` bytes before the first byte is given, a larger one before the last
piece is, so that nobody takes a wrong file for a whole one.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from itertools import chain
from typing import Protocol, TypeVar

from cloudmesh.storage.abc import Entry, Reader
from cloudmesh.storage.digest import strongest
from cloudmesh.storage.errors import (
    ChecksumMismatch,
    IsADirectory,
    NotFound,
    PreconditionFailed,
    SourceChanged,
    StorageError,
    Unavailable,
    Unsupported,
)
from cloudmesh.vdir import stalls
from cloudmesh.vdir.copies import is_as_seen
from cloudmesh.vdir.nodes import Node, Replica
from cloudmesh.vdir.sources import Source, recognised, unreadable
from cloudmesh.vdir.stalls import open_watched

HELD = 8 * 1024 * 1024
"""A file of at most so many bytes is read and compared with its hash before the first of them is given."""

_OF_THE_FILE = (ChecksumMismatch, IsADirectory, NotFound, PreconditionFailed, SourceChanged)
"""Failures that tell of the file that was read; all others tell of its service or of the way to it."""


class Readings(Protocol):
    """Learns which replicas gave right bytes, and which did not: the catalogue."""

    def record_reading(self, replica: Replica, *, right: bool) -> None:
        """As `Catalogue.record_reading`."""


T = TypeVar("T")
Pieces = Generator[bytes, None, None]


@dataclass
class Stream:
    """A name's bytes, iterated once.

    Args:
        node: the name.
        sources: what it can be read from, the best first.
        catalogue: learns which replicas gave wrong bytes.
        start: first byte.
        end: the byte after the last; None where the size is not known.
        patience: seconds without a byte after which the last source is given up, too; None = its service's own retries
            decide.

    Attributes:
        used: the sources that bytes came from, in this order.
        failure: the error with which it ended.
    """

    node: Node
    sources: Sequence[Source]
    catalogue: Readings
    start: int = 0
    end: int | None = None
    patience: float | None = None
    used: list[Source] = field(default_factory=list)
    failure: StorageError | None = None

    @property
    def is_whole(self) -> bool:
        """Whether it is all of the content, so that a hash tells whether it is right."""
        return self.start == 0 and self.end == self.node.size

    def __iter__(self) -> Pieces:
        """Yield the bytes.

        Raises:
            ChecksumMismatch: they are not those of this version; the last piece was not given.
            StorageError: no source is left that can go on; the last failure.
        """
        try:
            yield from self._checked() if self.is_whole else self._pieces()
        except StorageError as error:
            self.failure = error
            raise

    def _checked(self) -> Pieces:
        """Yield the pieces, the last one after the hash of all has been compared."""
        state = None
        last = b""
        with closing(self._pieces()) as pieces:
            for piece in pieces:
                if state is None and self._proof is not None:
                    state = hashlib.new(self._proof[0], usedforsecurity=False)
                if state is not None:
                    state.update(piece)
                if last:
                    yield last
                last = piece
        if self._proof is not None:
            state = state or hashlib.new(self._proof[0], usedforsecurity=False)
            if state.hexdigest() != self._proof[1]:
                source = self.used[0]
                error = ChecksumMismatch(
                    source.service.location(source.entry.path), "its bytes are not those of this version"
                )
                if len(self.used) == 1:  # of several it is not known which one was wrong
                    record_failure(self.catalogue, source, error)
                raise error
            for source in self.used:
                record_success(self.catalogue, source)
        if last:
            yield last

    @property
    def _proof(self) -> tuple[str, str] | None:
        return _proof(self.node, self.used[0])

    def _pieces(self) -> Pieces:
        """Yield the bytes as they come, from one source after the other."""
        position = self.start
        failure: StorageError = unreadable(self.node)
        left = list(self.sources)
        while left:
            source = left.pop(0)
            try:
                for piece in self._from(source, position, stalls.STALL_S if left else self.patience):
                    if source not in self.used:
                        self.used.append(source)
                        proof = self._proof
                        left = [one for one in left if proof is not None and _proof(self.node, one) == proof]
                    position += len(piece)
                    yield piece
                if self.end is None or position >= self.end:
                    if not self.used:
                        self.used.append(source)
                    return
                missing = self.end - position
                raise Unavailable(source.service.location(source.entry.path), f"it ended {missing} bytes too early")
            except StorageError as error:
                failure = error
                record_failure(self.catalogue, source, error)
        raise failure

    def _from(self, source: Source, position: int, patience: float | None) -> Pieces:
        """Yield what one source gives from ``position`` on; one whose token has changed may have the content still."""
        given = False
        try:
            for piece in self._read(source, position, patience):
                given = True
                yield piece
        except PreconditionFailed:
            if given:
                raise
            yield from self._read(recognised(self.node, source, patience), position, patience)

    def _read(self, source: Source, position: int, patience: float | None) -> Pieces:
        path, service = source.entry.path, source.service
        if self.end is not None and position >= self.end > 0:
            return
        is_rest = self.end is None or self.end == self.node.size
        length = None if is_rest or self.end is None else self.end - position
        with open_watched(service, path, patience, start=position, length=length, if_match=source.entry.etag) as reader:
            if not self._is_known(source, reader.entry):
                raise PreconditionFailed(service.location(path))
            yield from reader

    def _is_known(self, source: Source, there: Entry) -> bool:
        """Tell whether a file that was opened is, as far as can be seen before it is read, the one that was meant."""
        if None not in (there.size, self.node.size) and there.size != self.node.size:
            return False
        if source.entry.etag is not None or source.replica is None or (self.is_whole and self.node.sha256 is not None):
            return True
        return is_as_seen(source.replica, there)


def _proof(node: Node, source: Source) -> tuple[str, str] | None:
    """Return algorithm and digest of the content that a source should have; None where no hash of it is known."""
    if node.sha256 is not None:
        return "sha256", node.sha256
    algorithm = strongest(source.entry.hashes)
    return None if algorithm is None else (algorithm, source.entry.hashes[algorithm])


def record_failure(catalogue: Readings, source: Source, error: StorageError) -> None:
    """Count a failure to read a replica, if it tells of the file and not of its service."""
    is_of_it = error.subject == source.service.location(source.entry.path)
    if source.replica is not None and is_of_it and isinstance(error, _OF_THE_FILE):
        catalogue.record_reading(source.replica, right=False)


def record_success(catalogue: Readings, source: Source) -> None:
    """Take back what was counted against a replica, whose bytes were all read and right."""
    if source.replica is not None and source.replica.failures:
        catalogue.record_reading(source.replica, right=True)


def read_again(
    node: Node,
    sources: Sequence[Source],
    catalogue: Readings,
    use: Callable[[Stream], T],
    patience: float | None = None,
) -> T:
    """Return what ``use`` makes of a name's whole content; where the content proves wrong it begins anew.

    Args:
        node: the name.
        sources: what it can be read from, the best first.
        catalogue: learns which replicas gave wrong bytes.
        use: iterates the stream to its end, and keeps nothing of one that raises.
        patience: as of `Stream`.

    Raises:
        StorageError: what ``use`` raises; ChecksumMismatch where no source has the right bytes.
    """
    left = list(sources)
    while True:
        stream = Stream(node, left, catalogue, 0, node.size, patience)
        try:
            return use(stream)
        except StorageError as error:
            left = [one for one in left if one not in stream.used[:1]]
            if error is not stream.failure or not stream.used or not left:
                raise


class NameReader(Reader):
    """A name's content being read.

    Attributes:
        used: the sources that bytes came from so far, in this order.
    """

    used: Sequence[Source] = ()


def open_name(
    node: Node,
    sources: Sequence[Source],
    catalogue: Readings,
    start: int = 0,
    length: int | None = None,
    patience: float | None = None,
) -> NameReader:
    """Open a name's content for reading, all of it or a range.

    A range cannot be compared with a hash: it comes from replicas that are still as the catalogue knows them.

    Args:
        node: the name.
        sources: what it can be read from, the best first.
        catalogue: learns which replicas gave wrong bytes.
        start: first byte; a negative value counts from the end.
        length: bytes at most; None = to the end.
        patience: as of `Stream`.

    Raises:
        StorageError: no source gives the first bytes; the last failure.
        Unsupported: ``start`` is negative and the size is not known.
    """
    size = node.size
    if start < 0:
        if size is None:
            raise Unsupported(f"/{node.path}", "its size is not known, so it cannot be read from the end")
        start = max(0, size + start)
    end = size if length is None else start + length if size is None else min(size, start + length)
    pieces: Iterator[bytes]
    close: Callable[[], None] | None = None
    if size is not None and size <= HELD and (start, end) == (0, size):
        data, used = read_again(node, sources, catalogue, lambda stream: (b"".join(stream), stream.used), patience)
        pieces = iter((data,))
    else:
        stream = Stream(node, sources, catalogue, start, end, patience)
        used, given = stream.used, iter(stream)
        # the first piece is read now, so that what cannot be read is told at once
        pieces, close = chain((next(given, b""),), given), given.close
    etag = node.sha256 or f"{node.id}-{node.version}"
    hashes = {"sha256": node.sha256} if node.sha256 else {}
    entry = Entry(node.path, size=size, mtime_ns=node.mtime_ns, etag=etag, hashes=hashes)
    reader = NameReader(entry, (piece for piece in pieces if piece), close)
    reader.used = used
    return reader
