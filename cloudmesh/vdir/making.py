"""Making many copies at once: each file is read once for all services that it goes to, small ones many at a time."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from functools import partial

from cloudmesh.storage.abc import SMALL, Entry, WriteMode
from cloudmesh.storage.disk import Disk
from cloudmesh.storage.errors import AlreadyExists, ChecksumMismatch, StorageError
from cloudmesh.storage.paths import Location
from cloudmesh.storage.pool import DEFAULT_PARALLEL, run_parallel
from cloudmesh.storage.transfer.copying import Target, copy_to_many
from cloudmesh.storage.transfer.small import SmallCopy, copy_small
from cloudmesh.vdir.copies import Copy, available, make
from cloudmesh.vdir.nodes import Replica
from cloudmesh.vdir.work import Work

Made = tuple[Copy, Replica | StorageError]


def make_many(copies: Sequence[Copy], work: Work, shared: Collection[Location]) -> Iterator[Made]:
    """Make copies, and yield each with the replica that is now there, or with the error, in any order.

    Those that need more than reading and writing (something is in the way, the first source does not give the file)
    are made singly, as `make` does.

    Args:
        copies: what to make; the intents are written down already.
        work: for the services.
        shared: files that other names use too.
    """
    batches: dict[int, list[Copy]] = {}
    streams: dict[tuple[int, int, WriteMode], list[Copy]] = {}
    singly: list[Copy] = []
    for copy in copies:
        mode = _plain_mode(copy, work, shared)
        if mode is None:
            singly.append(copy)
        elif copy.node.size is not None and copy.node.size <= SMALL:
            batches.setdefault(id(copy.sources[0].service), []).append(copy)
        else:
            streams.setdefault((id(copy.sources[0].service), copy.node.id, mode), []).append(copy)
    for batch in batches.values():
        yield from _make_small(batch, work, singly)
    several = []
    for stream in streams.values():
        # the local disk gives a file to each service natively, again from memory
        if len(stream) > 1 and not stream[0].sources[0].service.immediate:
            several.append(stream)
        else:
            singly += stream
    for stream, made in run_parallel(partial(_make_large, work=work), several, _threads(copies, work)):
        for place, copy in enumerate(stream):
            one = made if isinstance(made, StorageError) else made[place]
            if isinstance(one, StorageError):
                singly.append(copy)
            else:
                yield copy, available(copy, work.open(copy.service), one)
    yield from run_parallel(partial(make, work=work, shared=shared), singly, _threads(copies, work))


def _plain_mode(copy: Copy, work: Work, shared: Collection[Location]) -> WriteMode | None:
    """Return the mode of a copy that is nothing but reading and writing; None for any other."""
    if not copy.sources or copy.location in shared:
        return None
    source = copy.sources[0].service
    if source is work.open(copy.service) or (isinstance(source, Disk) and copy.node.sha256 is None):
        return None
    return copy.plain_mode


def _make_small(copies: Sequence[Copy], work: Work, singly: list[Copy]) -> Iterator[Made]:
    """Make copies of small files from one service; those that must be made singly are added to ``singly``."""
    names = list(dict.fromkeys(copy.service for copy in copies))
    services = [work.open(name) for name in names]
    files: dict[tuple[int, WriteMode], dict[int, Copy]] = {}
    for copy in copies:
        files.setdefault((copy.node.id, copy.plain_mode or "create"), {})[names.index(copy.service)] = copy

    def small() -> Iterator[SmallCopy]:
        for (_, mode), places in files.items():
            one = next(iter(places.values()))
            paths = [(place, copy.path) for place, copy in places.items()]
            yield SmallCopy(one.sources[0].entry, paths, mode, one.node.sha256, places)

    def unread(file: SmallCopy, error: StorageError) -> None:
        singly.extend(file.context.values())

    for file, place, result in copy_small(small(), copies[0].sources[0].service, services, unread):
        done: Copy = file.context[place]
        if isinstance(result, Entry):
            yield done, available(done, services[place], result)
        elif isinstance(result, (AlreadyExists, ChecksumMismatch)):
            singly.append(done)
        else:
            yield done, result


def _make_large(copies: Sequence[Copy], work: Work) -> list[Entry | StorageError]:
    """Make copies of one large file, reading it once."""
    one = copies[0]
    targets = [Target(work.open(copy.service), copy.path, copy.plain_mode or "create") for copy in copies]
    source = one.sources[0]
    return copy_to_many(source.service, source.entry, targets, expected_sha256=one.node.sha256, observer=work.observer)


def _threads(copies: Sequence[Copy], work: Work) -> int:
    sources = {source.service.settings.kind for copy in copies for source in copy.sources}
    size = sum(copy.node.size or 0 for copy in copies) / max(1, len(copies))
    services = {copy.service for copy in copies}
    return work.threads(services, size) if sources <= {"local"} else work.parallel or DEFAULT_PARALLEL
