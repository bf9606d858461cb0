"""Copying many small files: read whole, once, and written whole to one or more services, many under way at once."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from queue import SimpleQueue
from threading import Thread
from typing import Any

from cloudmesh.storage.abc import Entry, Loaded, ReadRequest, StorageABC, WriteMode, WriteRequest
from cloudmesh.storage.digest import digest_of, strongest
from cloudmesh.storage.errors import ChecksumMismatch, StorageError, internal_error
from cloudmesh.storage.pool import GRACE_S, join
from cloudmesh.storage.transfer.ahead import Ahead, Handover

_WAITING = 32
"""Files that were read and wait to be written to one service, at most; each of at most `SMALL` bytes."""

_WAITING_BYTES = 16 << 20
"""Of files that go to several services, how much may wait for one of them: so that others need not wait with it."""

_FILE_BYTES = 4096
"""What a file that waits costs beside its bytes, amply."""


@dataclass(slots=True, eq=False)
class SmallCopy:
    """A small file and where it goes.

    Attributes:
        source: the file; while it has an ``etag`` it must still have the same.
        paths: its path on each service that it goes to, by the service's place among the destinations.
        mode: as `StorageABC.write`.
        sha256: what the bytes must be, lower-case hex, where that is known.
        context: the caller's own.
    """

    source: Entry
    paths: Sequence[tuple[int, str]]
    mode: WriteMode = "overwrite"
    sha256: str | None = None
    context: Any = None


_Read = tuple[SmallCopy, Loaded]
Done = tuple[SmallCopy, int, Entry | StorageError]
"""A file, the service's place among the destinations, and the new file or the error of writing it."""


def copy_small(
    files: Iterable[SmallCopy | None],
    source: StorageABC,
    destinations: Sequence[StorageABC],
    unread: Callable[[SmallCopy, StorageError], None],
) -> Iterator[Done]:
    """Copy small files; yield each with each new file, or the error of writing it, in any order.

    Every file is read once. A destination that fails, in whatever way, does not stop the others; one that is slower
    than the others holds them back once some MiB wait for it, so that memory stays bounded. With one destination, where
    one of the sides waits for nobody (the local disk), all is done in the caller's thread; else each side has a thread,
    so that none waits for another.

    Args:
        files: of at most `SMALL` bytes; read in the caller's thread or in the reading one. None = not known yet.
        source: where they are.
        destinations: where they go.
        unread: called with each file that cannot be read, in the thread that reads.
    """

    def wanted() -> Iterator[ReadRequest | None]:
        for file in files:
            yield None if file is None else ReadRequest(file.source.path, file.source.etag, file.source.size, file)

    def loaded(read: Iterable[tuple[ReadRequest, Loaded | StorageError] | None]) -> Iterator[_Read | None]:
        for item in read:
            if item is None:
                yield None
                continue
            file: SmallCopy = item[0].context
            result = item[1]
            if isinstance(result, Loaded) and file.sha256 is not None:
                result = _expected(source, file, result)
            if isinstance(result, StorageError):
                unread(file, result)
            else:
                yield file, result

    with ExitStack() as stack:
        read: Iterable[tuple[ReadRequest, Loaded | StorageError] | None] = source.read_many(wanted())
        if len(destinations) > 1:
            yield from _spread(loaded(read), destinations)
            return
        if not (source.immediate or destinations[0].immediate):
            read = stack.enter_context(Ahead(read, _WAITING))
        yield from _written(loaded(read), destinations[0], 0)


def _written(files: Iterable[_Read | None], destination: StorageABC, place: int) -> Iterator[Done]:
    """Write files to one service."""

    def requests() -> Iterator[WriteRequest | None]:
        for item in files:
            if item is None:
                yield None
                continue
            copy, file = item
            mtime_ns = copy.source.mtime_ns if copy.source.mtime_ns is not None else file.entry.mtime_ns
            path = next(path for at, path in copy.paths if at == place)
            yield WriteRequest(path, file.data, mtime_ns, copy.mode, copy, file.permissions)

    for request, result in destination.write_many(requests()):
        yield request.context, place, _checked(destination, request, result)


def _written_or_failed(files: Iterable[_Read | None], destination: StorageABC, place: int) -> Iterator[Done]:
    """Write files to one service; an exception that nobody expected is the error of each file that it leaves over."""
    remaining = iter(files)
    under_way: dict[int, SmallCopy] = {}

    def watched() -> Iterator[_Read | None]:
        for item in remaining:
            if item is not None:
                under_way[id(item[0])] = item[0]
            yield item

    try:
        for one in _written(watched(), destination, place):
            under_way.pop(id(one[0]), None)
            yield one
    except Exception as error:
        left = itertools.chain(list(under_way.values()), (item[0] for item in remaining if item is not None))
        for copy in left:
            path = next(path for at, path in copy.paths if at == place)
            yield copy, place, internal_error(destination.location(path), error)


def _spread(files: Iterator[_Read | None], destinations: Sequence[StorageABC]) -> Iterator[Done]:
    """Write files to several services; each that has to be waited for is served by a thread of its own."""
    done: SimpleQueue[Done | None] = SimpleQueue()
    handovers: dict[int, Handover[_Read]] = {}
    here: dict[int, list[_Read]] = {}
    for place, destination in enumerate(destinations):
        if destination.immediate:
            here[place] = []
        else:
            handovers[place] = Handover(_WAITING_BYTES, lambda item: len(item[1].data) + _FILE_BYTES)

    def serve(place: int) -> None:
        for one in _written_or_failed(handovers[place], destinations[place], place):
            done.put(one)
        done.put(None)

    threads = [Thread(target=serve, args=(place,), name="spread", daemon=True) for place in handovers]
    for thread in threads:
        thread.start()
    serving = len(threads)

    def ended(*, wait: bool) -> Iterator[Done]:
        nonlocal serving
        while serving and (wait or not done.empty()):
            one = done.get()
            if one is None:
                serving -= 1
            else:
                yield one

    try:
        for item in files:
            if item is not None:
                for place, _ in item[0].paths:
                    if place in handovers:
                        handovers[place].put(item)
                    else:
                        here[place].append(item)
                        if len(here[place]) >= _WAITING:
                            yield from _written_or_failed(here[place], destinations[place], place)
                            here[place].clear()
            yield from ended(wait=False)
        for handover in handovers.values():
            handover.end()
        for place, items in here.items():
            yield from _written_or_failed(items, destinations[place], place)
        yield from ended(wait=True)
    finally:
        for handover in handovers.values():
            handover.end()
        join(threads, GRACE_S if serving else None)


def _expected(source: StorageABC, copy: SmallCopy, file: Loaded) -> Loaded | StorageError:
    if digest_of((file.data,)) == copy.sha256:
        return file
    return ChecksumMismatch(source.location(copy.source.path), "its bytes are not those of this version")


def _checked(destination: StorageABC, request: WriteRequest, result: Entry | StorageError) -> Entry | StorageError:
    """Compare what the service reports of the new file with what was sent; remove one that is damaged."""
    if isinstance(result, StorageError):
        return result
    why = ""
    algorithm = strongest(result.hashes)
    if result.size is not None and result.size != len(request.data):
        why = f"{len(request.data)} bytes were sent, {result.size} arrived"
    elif algorithm is not None and digest_of((request.data,), algorithm) != result.hashes[algorithm]:
        why = "other bytes arrived than were sent"
    if not why:
        return result
    with suppress(StorageError):  # whether or not it is tried again, it must not stay
        destination.remove(request.path)
    return ChecksumMismatch(destination.location(request.path), why)
