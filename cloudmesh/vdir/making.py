"""Making many copies at once: each file is read once for all services that it goes to, small ones many at a time."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import replace
from functools import partial

from cloudmesh.storage.abc import SMALL, Entry, WriteMode
from cloudmesh.storage.disk import Disk
from cloudmesh.storage.errors import AlreadyExists, ChecksumMismatch, PreconditionFailed, StorageError
from cloudmesh.storage.paths import Location
from cloudmesh.storage.pool import DEFAULT_PARALLEL, run_parallel
from cloudmesh.storage.transfer.copying import Target, copy_to_many
from cloudmesh.storage.transfer.events import Event
from cloudmesh.storage.transfer.small import SmallCopy, copy_small
from cloudmesh.vdir.copies import Copy, available, make, under_names
from cloudmesh.vdir.nodes import Replica
from cloudmesh.vdir.work import Work

Made = tuple[Copy, Replica | StorageError]

_WORTH_A_LOOK = (AlreadyExists, ChecksumMismatch, PreconditionFailed)
"""Errors after which a copy is made by itself: what is there may be right all the same, or be so the next time."""


def make_many(copies: Sequence[Copy], work: Work, shared: Collection[Location]) -> Iterator[Made]:
    """Make copies, and yield each with the replica that is now there, or with the error, in any order.

    Small files that a source does not give are read from the next one, again many at a time. Those that need more than
    reading and writing (something is in the way, a file is there but not as it was seen) are made singly, as `make`
    does.

    Args:
        copies: what to make; the intents are written down already.
        work: for the services.
        shared: files that other names use too.
    """
    small: list[Copy] = []
    streams: dict[tuple[int, int, WriteMode], list[Copy]] = {}
    singly: list[Copy] = []
    for copy in copies:
        mode = _plain_mode(copy, shared)
        if mode is None:
            singly.append(copy)
        elif copy.node.size is not None and copy.node.size <= SMALL:
            small.append(copy)
        else:
            streams.setdefault((id(copy.sources[0].service), copy.node.id, mode), []).append(copy)
    while small:
        again: list[Copy] = []
        for batch in _by_source(small):
            yield from _make_small(batch, work, singly, again)
        small = again
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
            if isinstance(one, Entry):
                yield copy, available(copy, work.target(copy.service), one)
            elif one.retryable or isinstance(one, _WORTH_A_LOOK) or one is made:
                singly.append(copy)
            else:
                yield copy, one
    yield from run_parallel(partial(make, work=work, shared=shared), singly, _threads(copies, work))


def _by_source(copies: Sequence[Copy]) -> Iterator[list[Copy]]:
    """Yield the copies that are to be read from one service together."""
    found: dict[int, list[Copy]] = {}
    for copy in copies:
        found.setdefault(id(copy.sources[0].service), []).append(copy)
    yield from found.values()


def _plain_mode(copy: Copy, shared: Collection[Location]) -> WriteMode | None:
    """Return the mode of a copy that is nothing but reading and writing; None for any other."""
    if not copy.sources or copy.location in shared:
        return None
    source = copy.sources[0].service
    if source.name == copy.service or (isinstance(source, Disk) and copy.node.sha256 is None):
        return None
    return copy.plain_mode


def _make_small(copies: Sequence[Copy], work: Work, singly: list[Copy], again: list[Copy]) -> Iterator[Made]:
    """Make copies of small files from one service.

    Those that must be made singly are added to ``singly``; those that this service does not give, but another one may,
    to ``again``.
    """
    names = list(dict.fromkeys(copy.service for copy in copies))
    services = [work.target(name) for name in names]
    files: dict[tuple[int, WriteMode], dict[int, Copy]] = {}
    for copy in copies:
        files.setdefault((copy.node.id, copy.plain_mode or "create"), {})[names.index(copy.service)] = copy
    lost: list[Made] = []

    def small() -> Iterator[SmallCopy]:
        for (_, mode), places in files.items():
            one = next(iter(places.values()))
            paths = [(place, copy.path) for place, copy in places.items()]
            yield SmallCopy(one.sources[0].entry, paths, mode, one.node.sha256, places)

    def unread(file: SmallCopy, error: StorageError) -> None:
        for copy in file.context.values():
            if isinstance(error, _WORTH_A_LOOK):
                singly.append(copy)
            elif len(copy.sources) > 1:
                again.append(replace(copy, sources=copy.sources[1:]))
            else:
                lost.append((copy, error))

    for file, place, result in copy_small(small(), copies[0].sources[0].service, services, unread):
        done: Copy = file.context[place]
        if isinstance(result, Entry):
            yield done, available(done, services[place], result)
        elif isinstance(result, _WORTH_A_LOOK):
            singly.append(done)
        else:
            yield done, result
    yield from lost


def _make_large(copies: Sequence[Copy], work: Work) -> list[Entry | StorageError]:
    """Make copies of one large file, reading it once."""
    one = copies[0]
    names = [copy.name for copy in copies]
    for name in names:
        work.observer(Event("started", name, one.node.size or 0))
    targets = [Target(work.target(copy.service), copy.path, copy.plain_mode or "create") for copy in copies]
    source = one.sources[0]
    return copy_to_many(
        source.service,
        source.entry,
        targets,
        expected_sha256=one.node.sha256,
        observer=under_names(names, work.observer),
    )


def _threads(copies: Sequence[Copy], work: Work) -> int:
    sources = {source.service.settings.kind for copy in copies for source in copy.sources}
    size = sum(copy.node.size or 0 for copy in copies) / max(1, len(copies))
    services = {copy.service for copy in copies}
    return work.threads(services, size) if sources <= {"local"} else work.parallel or DEFAULT_PARALLEL
