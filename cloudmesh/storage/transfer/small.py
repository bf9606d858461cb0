"""Copying many small files: read whole and written whole, many under way at once on each side."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack

from cloudmesh.storage.abc import Entry, Loaded, ReadRequest, StorageABC, WriteMode, WriteRequest
from cloudmesh.storage.digest import digest_of
from cloudmesh.storage.errors import ChecksumMismatch, StorageError
from cloudmesh.storage.transfer.ahead import Ahead
from cloudmesh.storage.transfer.plan import Step

_WAITING = 32
"""Files that were read and wait to be written, at most; each of at most `SMALL` bytes."""

_CHECKABLE = ("md5", "sha256", "sha1")


def copy_small(
    steps: Iterable[Step | None],
    source: StorageABC,
    destination: StorageABC,
    *,
    unread: Callable[[Step, StorageError], None],
    mode: WriteMode = "overwrite",
) -> Iterator[tuple[Step, Entry | StorageError]]:
    """Copy small files and yield each step with the new file, or with the error of writing it, in any order.

    Where one of the sides waits for nobody (the local disk), all is done in the caller's thread; else reading has a
    thread of its own, so that neither side waits for the other.

    Args:
        steps: files of at most `SMALL` bytes; read in the caller's thread or the reading one. None = not known yet.
        source: where they are.
        destination: where they go.
        unread: called with each step whose file cannot be read, in the thread that reads.
        mode: as `StorageABC.write`.
    """

    def wanted() -> Iterator[ReadRequest | None]:
        for step in steps:
            yield None if step is None else ReadRequest(step.source.path, step.source.etag, step.source.size, step)

    def loaded(read: Iterable[tuple[ReadRequest, Loaded | StorageError] | None]) -> Iterator[WriteRequest | None]:
        for item in read:
            if item is None:
                yield None
                continue
            step: Step = item[0].context
            if isinstance(item[1], StorageError):
                unread(step, item[1])
                continue
            file = item[1]
            mtime_ns = step.source.mtime_ns if step.source.mtime_ns is not None else file.entry.mtime_ns
            yield WriteRequest(step.destination, file.data, mtime_ns, mode, step)

    with ExitStack() as stack:
        read: Iterable[tuple[ReadRequest, Loaded | StorageError] | None] = source.read_many(wanted())
        if not (source.capabilities.immediate or destination.capabilities.immediate):
            read = stack.enter_context(Ahead(read, _WAITING))
        for request, result in destination.write_many(loaded(read)):
            yield request.context, _checked(destination, request, result)


def _checked(destination: StorageABC, request: WriteRequest, result: Entry | StorageError) -> Entry | StorageError:
    """Compare what the service reports of the new file with what was sent."""
    if isinstance(result, StorageError):
        return result
    if result.size is not None and result.size != len(request.data):
        return ChecksumMismatch(destination.location(request.path), f"{result.size} bytes arrived")
    for algorithm in _CHECKABLE:
        reported = result.hashes.get(algorithm)
        if reported is not None:
            if digest_of((request.data,), algorithm) != reported:
                return ChecksumMismatch(destination.location(request.path), "other bytes arrived than were sent")
            break
    return result
