"""Copying one file: on a service's own side, to or from the local disk natively, or streaming to one or more services.

What is read through this process is compared, at its end and before it is visible anywhere, with the hash that is
expected or that the source reports: here, or by the destination where that does so itself. What the destination reports
afterwards is compared with what was sent.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace

from cloudmesh.storage.abc import Content, Entry, Moved, Reader, StorageABC, WriteMode, counted
from cloudmesh.storage.digest import COMPUTABLE, strongest
from cloudmesh.storage.disk import Disk
from cloudmesh.storage.errors import ChecksumMismatch, NotFound, SourceChanged, StorageError, internal_error
from cloudmesh.storage.transfer.ahead import Handover
from cloudmesh.storage.transfer.events import Event, Observer, nobody
from cloudmesh.storage.transfer.threads import Threads

_PIECES_WAITING = 8
"""Pieces that were read and wait to be sent to one of several services."""


def copy_file(
    source: StorageABC,
    entry: Entry,
    destination: StorageABC,
    target: str,
    *,
    mode: WriteMode = "overwrite",
    if_match: str | None = None,
    expected_sha256: str | None = None,
    observer: Observer = nobody,
) -> Entry:
    """Copy one file by the best way that both services can.

    Args:
        source: where it is.
        entry: which file; while it has an ``etag`` the file must still have the same.
        destination: where to.
        target: path there.
        mode: as `StorageABC.write`.
        if_match: an ``etag`` that the file to be replaced must still have, where the bytes come through this process.
        expected_sha256: what the bytes must be, lower-case hex, where they are read through this process.
        observer: hears of the bytes moved.

    Returns:
        the new file.

    Raises:
        StorageError: as `StorageABC.open_read` and `StorageABC.write`; ChecksumMismatch if the bytes are not those
            expected: then nothing was changed, or, if other bytes arrived than were sent, the file is removed.
    """
    name = source.location(entry.path)
    if source is destination and source.capabilities.server_copy:
        made = destination.copy_within(entry.path, target, mode=mode)
        observer(Event("moved", name, entry.size or 0))
        return made
    if isinstance(destination, Disk) and not isinstance(source, Disk):
        return destination.fetch(
            source, entry, target, mode=mode, expected_sha256=expected_sha256, moved=told_to(observer, name)
        )
    if isinstance(source, Disk):
        sent = _Digests(_reported_by(destination, entry.size))
        made = destination.write(target, _of_disk(source, entry, observer, sent), mode=mode, if_match=if_match)
        _check_arrived(destination, made, sent.found)
        return made
    with _Relay(source, entry, observer, expected_sha256, [destination]) as relay:
        made = destination.write(target, relay.content, mode=mode, if_match=if_match)
        _check_arrived(destination, made, relay.hashes)
        return made


def told_to(observer: Observer, name: str) -> Moved:
    """Return what tells an observer of the bytes of the file ``name``."""
    return lambda count: observer(Event("moved", name, count))


@dataclass(frozen=True, slots=True)
class Target:
    """One of the places that a file goes to at once."""

    service: StorageABC
    path: str
    mode: WriteMode = "overwrite"


def copy_to_many(
    source: StorageABC,
    entry: Entry,
    targets: Sequence[Target],
    *,
    expected_sha256: str | None = None,
    observer: Observer = nobody,
) -> list[Entry | StorageError]:
    """Copy one file to several services, reading it once.

    A service that fails, in whatever way, does not stop the others; the slowest sets the pace. What one service takes
    cannot be given to it a second time, so a failure may be of a kind that trying again, alone, would mend.

    Args:
        source: where it is.
        entry: which file; while it has an ``etag`` the file must still have the same.
        targets: where to.
        expected_sha256: what the bytes must be, lower-case hex.
        observer: hears of the bytes read.

    Returns:
        for each target the new file, or why there is none.

    Raises:
        StorageError: the file cannot be opened.
    """
    with _Relay(source, entry, observer, expected_sha256, [target.service for target in targets]) as relay:
        handovers: list[Handover[bytes]] = [Handover(_PIECES_WAITING) for _ in targets]

        results: list[Entry | StorageError] = [StorageError("")] * len(targets)

        def send(place: int) -> None:
            target, handover = targets[place], handovers[place]
            pieces = (piece for piece in handover if piece is not None)
            content = replace(relay.content, open=lambda: pieces, replayable=False)
            try:
                made = target.service.write(target.path, content, mode=target.mode)
                _check_arrived(target.service, made, relay.hashes)
                results[place] = made
            except StorageError as error:
                results[place] = error
            except BaseException as error:  # told, not lost in the thread
                results[place] = internal_error(target.service.location(target.path), error)
            finally:
                handover.refuse()

        sending: Threads[int] = Threads(len(targets), send)
        for place in range(len(targets)):
            sending.submit(place)
        failure: BaseException | None = None
        try:
            for piece in relay.content.open():
                taken = [handover.put(piece) for handover in handovers]
                if not any(taken):
                    break
        except BaseException as error:
            failure = error
        for handover in handovers:
            handover.end(failure)
        if failure is not None and not isinstance(failure, StorageError):
            sending.give_up()
            raise failure
        sending.finish()
        return results


def _reported_by(destination: StorageABC, size: int | None) -> tuple[str, ...]:
    """Return the hash that a service will report of a file that it takes in one piece."""
    facts = destination.capabilities
    if size is None or (facts.part_bytes is not None and size > facts.part_bytes):
        return ()
    algorithm = strongest(facts.hashes)
    return () if algorithm is None else (algorithm,)


def _verifies(destination: StorageABC, size: int | None, algorithm: str) -> bool:
    """Tell whether a service itself compares a content with a hash that is known of it."""
    return size is not None and size <= destination.capabilities.verifies.get(algorithm, -1)


def _check_arrived(destination: StorageABC, made: Entry, sent: Mapping[str, str]) -> None:
    """Compare what the service reports of the new file with the hashes of what was sent.

    Raises:
        ChecksumMismatch: it is not that; the file is removed.
    """
    if any(made.hashes.get(name, digest) != digest for name, digest in sent.items()):
        with suppress(StorageError):
            destination.remove(made.path)
        raise ChecksumMismatch(destination.location(made.path), "other bytes arrived than were sent")


def _of_disk(source: Disk, entry: Entry, observer: Observer, sent: _Digests) -> Content:
    """The content of a local file; refused, before it is visible anywhere, if it is not the file ``entry`` any more."""
    name = source.location(entry.path)
    moved = told_to(observer, name)

    def check() -> None:
        try:
            unchanged = entry.etag is None or source.stat(entry.path).etag == entry.etag
        except NotFound:
            unchanged = False
        if not unchanged:
            raise SourceChanged(name)

    def pieces() -> Iterator[bytes]:
        with source.open_read(entry.path, if_match=entry.etag) as reader:
            yield from counted(sent.of(reader), moved)

    path = source.path_of(entry.path)
    return Content(open=pieces, size=entry.size, mtime_ns=entry.mtime_ns, path=path, moved=moved, check=check)


class _Digests:
    """The hashes of bytes as they pass.

    Args:
        algorithms: which.

    Attributes:
        found: algorithm to lower-case hex, once all bytes have passed.
    """

    def __init__(self, algorithms: Iterable[str]) -> None:
        self._algorithms = sorted(set(algorithms))
        self.found: dict[str, str] = {}

    def of(self, pieces: Iterable[bytes]) -> Iterator[bytes]:
        """Yield the pieces."""
        states = {name: hashlib.new(name, usedforsecurity=False) for name in self._algorithms}
        for piece in pieces:
            for state in states.values():
                state.update(piece)
            yield piece
        self.found = {name: state.hexdigest() for name, state in states.items()}


class _Relay:
    """A file being read from one service as the content of a write to others.

    The file is opened before the write begins, because its modification time, which a listing need not tell, comes with
    the answer; so a file costs one request on the side that is read.

    Args:
        source: where it is.
        entry: which file.
        observer: hears of the bytes read.
        expected_sha256: what the bytes must be.
        destinations: where they go.

    Attributes:
        content: what is to be written.
    """

    def __init__(
        self,
        source: StorageABC,
        entry: Entry,
        observer: Observer,
        expected_sha256: str | None,
        destinations: Sequence[StorageABC],
    ) -> None:
        self._source = source
        self._entry = entry
        self._observer = observer
        self._reader: Reader | None = source.open_read(entry.path, if_match=entry.etag)
        opened = self._reader.entry
        size = entry.size if entry.size is not None else opened.size
        reported = {name: digest for name, digest in opened.hashes.items() if name in COMPUTABLE}
        # a hash of so many bytes takes as long as all else that is done with them here
        verified = {name for name in reported if all(_verifies(one, size, name) for one in destinations)}
        self._known = {name: reported[name] for name in verified}
        self._expected = {name: digest for name, digest in reported.items() if name not in verified}
        if expected_sha256 is not None:
            self._expected = {"sha256": expected_sha256}
        wanted = {name for one in destinations for name in _reported_by(one, size)}
        self._sent = _Digests((*self._expected, *(wanted - verified)))
        self.content = Content(
            open=self._pieces,
            size=size,
            mtime_ns=entry.mtime_ns if entry.mtime_ns is not None else opened.mtime_ns,
            hashes=reported,
        )

    @property
    def hashes(self) -> Mapping[str, str]:
        """The hashes of all bytes, once they were read to their end."""
        return {**self._known, **self._sent.found}

    def __enter__(self) -> _Relay:
        return self

    def __exit__(self, *_: object) -> None:
        if self._reader is not None:
            self._reader.close()

    def _pieces(self) -> Iterator[bytes]:
        reader = self._reader or self._source.open_read(self._entry.path, if_match=self._entry.etag)
        self._reader = None
        name = self._source.location(self._entry.path)
        with reader:
            last = b""  # kept back until the hash is known: a service that has all bytes may publish them
            for piece in counted(self._sent.of(reader), told_to(self._observer, name)):
                if last:
                    yield last
                last = piece
        if any(self._sent.found[algorithm] != digest for algorithm, digest in self._expected.items()):
            raise ChecksumMismatch(name, "its bytes are not those that they should be")
        if last:
            yield last
