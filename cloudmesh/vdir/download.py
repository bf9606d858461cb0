"""`get`: names become files of this computer, each read from the replica that is best, or from the next one."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial

from cloudmesh.storage import paths
from cloudmesh.storage.abc import SMALL, Content, Entry, WriteMode, counted
from cloudmesh.storage.disk import Disk, split_file
from cloudmesh.storage.errors import (
    AlreadyExists,
    ChecksumMismatch,
    IsADirectory,
    NotADirectory,
    NotFound,
    PreconditionFailed,
    StorageError,
)
from cloudmesh.storage.pool import run_parallel
from cloudmesh.storage.transfer.copying import told_to
from cloudmesh.storage.transfer.events import Event
from cloudmesh.storage.transfer.filters import Filter
from cloudmesh.storage.transfer.report import Report
from cloudmesh.storage.transfer.small import SmallCopy, copy_small
from cloudmesh.vdir.distribute import batches, one_ahead
from cloudmesh.vdir.nodes import Node, only
from cloudmesh.vdir.reading import Stream, read_again, record_failure, record_success
from cloudmesh.vdir.sources import Source, sha256_of, unreadable, use_first
from cloudmesh.vdir.stalls import Watched, can_stall
from cloudmesh.vdir.work import Allowance, DiskWork, Work, counting_unusable, refuse, skip


@dataclass(frozen=True, slots=True)
class Download:
    """A name with what it can be read from, the best first, and the local path that it goes to."""

    node: Node
    sources: Sequence[Source]
    target: str

    @property
    def name(self) -> str:
        """The name as the user would type it."""
        return f"/{self.node.path}"


@dataclass(frozen=True, slots=True)
class Wanted:
    """What is to be brought here.

    Attributes:
        node: the name.
        sources: gives what it can be read from, where it is a file.
        files: gives all files below it for the disk that they go to, where it is a directory.
    """

    node: Node
    sources: Callable[[], Sequence[Source]]
    files: Callable[[Disk], Iterable[Download]]


def get(
    wanted: Wanted, destination: str, work: DiskWork, report: Report, *, recursive: bool, force: bool, dryrun: bool
) -> None:
    """Bring a file or a tree to this computer; see `Vdir.get` for the arguments and the errors."""
    node = wanted.node
    if node.is_directory:
        if not recursive:
            raise IsADirectory(f"/{node.path}", hint="--recursive takes all that is in it")
        above, target = split_file(destination)
        with suppress(NotFound):
            if not above.stat(target).is_directory:
                raise NotADirectory(destination, "is a file; a directory cannot go there")
        disk = Disk(destination)
        files = wanted.files(disk)
    else:
        disk, target = split_file(destination)
        try:
            is_directory = not target or destination.endswith("/") or disk.stat(target).is_directory
        except NotFound:
            is_directory = False
        target = paths.join(target, node.name) if is_directory else target
        files = [Download(node, wanted.sources(), target)]
    download(files, disk, work, report, force=force, dryrun=dryrun)


def tree(
    path: str, service: str | None, disk: Disk, work: Work, report: Report, *, chosen: Filter | None, dryrun: bool
) -> Iterator[Download]:
    """Yield all files below a virtual directory; its directories are made on the disk.

    Args:
        path: of the directory.
        service: from which to read; None = the best.
        disk: where to.
        work: the catalogue and the services.
        report: counts directories that cannot be made, and files whose services cannot be opened.
        chosen: which files are concerned; None = all. With a filter only directories with such files are made.
        dryrun: make no directory.
    """

    def files() -> Iterator[Node]:
        for node in work.catalogue.walk(path):
            if not node.is_directory:
                if chosen is None or includes(chosen, path, node):
                    yield node
            elif chosen is None and not dryrun:
                target = paths.below(node.path, path)
                try:
                    disk.make_dir(target)
                except StorageError as error:
                    report.fail(disk.location(target), error)

    for node, replicas in work.catalogue.with_replicas(files()):
        with counting_unusable(node, work, report):
            yield Download(node, work.sources(node, only(service, replicas)), paths.below(node.path, path))


def includes(chosen: Filter, path: str, node: Node) -> bool:
    """Tell whether a name below the virtual directory ``path`` is concerned."""
    return chosen.includes(paths.below(node.path, path), Entry(node.path, size=node.size, mtime_ns=node.mtime_ns))


def download(
    files: Iterable[Download], disk: Disk, work: DiskWork, report: Report, *, force: bool, dryrun: bool
) -> None:
    """Bring names to the local disk; what is there with the same content is skipped.

    Other files that are in the way are replaced only with ``force``.
    """
    mode: WriteMode = "overwrite" if force else "create"
    for batch in one_ahead(_planned(files, disk, work, report)):
        if dryrun:
            for file in batch:
                report.done(file.node.size)
            continue
        for file, result in _fetch_many(batch, disk, work, mode):
            size = file.node.size or 0
            if isinstance(result, StorageError):
                report.fail(file.name, result)
                work.observer(Event("failed", file.name, size, str(result)))
            else:
                report.done(size)
                work.observer(Event("done", file.name, size))


def _planned(files: Iterable[Download], disk: Disk, work: DiskWork, report: Report) -> Iterator[list[Download]]:
    """Yield what is to be fetched, in batches; what is there already, or nowhere, is counted."""
    allowance = Allowance(work, report)
    for batch in batches(files, lambda file: file.node.size or 0):
        wanted: list[Download] = []
        threads = work.threads((), sum(file.node.size or 0 for file in batch) / len(batch))
        for file, there in run_parallel(partial(_is_same, disk), batch, threads):
            if isinstance(there, StorageError):
                refuse(file.name, file.node.size, there, work, report)
            elif there:
                report.skipped += 1
                skip(file.name, file.node.size, work)
            elif not file.sources:
                refuse(file.name, file.node.size, unreadable(file.node), work, report)
            elif allowance.takes(file.node.size or 0):
                work.observer(Event("planned", file.name, file.node.size or 0))
                wanted.append(file)
        yield wanted
        if allowance.exhausted:
            break
    work.observer(Event("planned_all"))


Fetched = tuple[Download, Entry | StorageError]


def _fetch_many(files: Sequence[Download], disk: Disk, work: DiskWork, mode: WriteMode) -> Iterator[Fetched]:
    """Fetch files, the small ones many at a time, and yield each with how it ended."""
    small = [file for file in files if file.node.size is not None and file.node.size <= SMALL]
    singly = [file for file in files if file.node.size is None or file.node.size > SMALL]
    while small:
        again: list[Download] = []
        by_source: dict[tuple[int, bool], list[Download]] = {}
        for file in small:
            by_source.setdefault((id(file.sources[0].service), len(file.sources) > 1), []).append(file)
        for group in by_source.values():
            yield from _fetch_small(group, disk, work, mode, singly, again)
        small = again
    read_from = {file.sources[0].service.name for file in singly}
    threads = work.threads(read_from, sum(file.node.size or 0 for file in singly) / max(1, len(singly)))
    yield from run_parallel(lambda file: _fetch(disk, file, work, mode), singly, threads)


def _fetch_small(
    files: Sequence[Download],
    disk: Disk,
    work: DiskWork,
    mode: WriteMode,
    singly: list[Download],
    again: list[Download],
) -> Iterator[Fetched]:
    """Fetch small files from one service, either each with another source behind it or none.

    Those that it has otherwise than they were seen are added to ``singly``; those that it does not give, but another
    one may, to ``again``.
    """
    lost: list[Fetched] = []

    def unread(copy: SmallCopy, error: StorageError) -> None:
        file: Download = copy.context
        if isinstance(error, (ChecksumMismatch, PreconditionFailed)):
            singly.append(file)
            return
        record_failure(work.catalogue, file.sources[0], error)
        if len(file.sources) > 1:
            again.append(replace(file, sources=file.sources[1:]))
        else:
            lost.append((file, error))

    service = files[0].sources[0].service
    if len(files[0].sources) > 1 and can_stall(service):
        service = Watched(service)
    copies = (SmallCopy(file.sources[0].entry, ((0, file.target),), mode, file.node.sha256, file) for file in files)
    for copy, _, result in copy_small(copies, service, [disk], unread):
        file = copy.context
        if isinstance(result, Entry) and file.node.sha256 is not None:
            record_success(work.catalogue, file.sources[0])
        yield file, _in_the_way(disk, file) if isinstance(result, AlreadyExists) else result
    yield from lost


def _fetch(disk: Disk, file: Download, work: DiskWork, mode: WriteMode) -> Entry:
    """Download from the first source that gives the right bytes; the last failure is raised where none does.

    Natively where nothing else is left to go on with, or nothing is waited for; else as a stream, which the next source
    goes on with where one breaks or stalls.
    """
    work.observer(Event("started", file.name, file.node.size or 0))

    node, sources = file.node, list(file.sources)

    moved = told_to(work.observer, file.name)

    def natively(source: Source) -> Entry:
        return disk.fetch(
            source.service, source.entry, file.target, mode=mode, expected_sha256=node.sha256, moved=moved
        )

    def streaming(stream: Stream) -> Entry:
        return disk.write(file.target, Content.of_stream(counted(stream, moved), node.size, node.mtime_ns), mode=mode)

    try:
        if len(sources) == 1 or sources[0].service.immediate:
            try:
                made = use_first(node, sources[:1], natively)
                if node.sha256 is not None:
                    record_success(work.catalogue, sources[0])
                return made
            except AlreadyExists:
                raise
            except StorageError as error:
                record_failure(work.catalogue, sources[0], error)
                if len(sources) == 1:
                    raise
                sources = sources[1:]
        return read_again(node, sources, work.catalogue, streaming)
    except AlreadyExists:
        raise _in_the_way(disk, file) from None


def _in_the_way(disk: Disk, file: Download) -> AlreadyExists:
    return AlreadyExists(disk.location(file.target), "a file with other content is there", "--force replaces it")


def _is_same(disk: Disk, file: Download) -> bool:
    """Tell whether the local file has the name's content already."""
    try:
        there = disk.stat(file.target)
    except NotFound:
        return False
    if there.is_directory or there.size != file.node.size:
        return False
    if file.node.sha256 is not None:
        return sha256_of(Source(disk, there)) == file.node.sha256
    return there.mtime_ns is not None and there.mtime_ns == file.node.mtime_ns
