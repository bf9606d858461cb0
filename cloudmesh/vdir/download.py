"""`get`: names become files of this computer, each read from the replica that is best, or from the next one."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from cloudmesh.storage import paths
from cloudmesh.storage.abc import SMALL, Entry, WriteMode
from cloudmesh.storage.disk import Disk
from cloudmesh.storage.errors import AlreadyExists, NotFound, StorageError
from cloudmesh.storage.pool import run_parallel
from cloudmesh.storage.transfer.events import Event
from cloudmesh.storage.transfer.report import Report
from cloudmesh.storage.transfer.small import SmallCopy, copy_small
from cloudmesh.vdir.distribute import BATCH
from cloudmesh.vdir.lookup import chunks
from cloudmesh.vdir.nodes import Node, only
from cloudmesh.vdir.sources import Source, sha256_of, unreadable, use_first
from cloudmesh.vdir.work import Work, counting_unusable


@dataclass(frozen=True, slots=True)
class Download:
    """A name with what it can be read from, the best first, and the local path that it goes to."""

    node: Node
    sources: Sequence[Source]
    target: str


def tree(path: str, service: str | None, disk: Disk, work: Work, report: Report, *, dryrun: bool) -> Iterator[Download]:
    """Yield all files below a virtual directory; its directories are made on the disk.

    Args:
        path: of the directory.
        service: from which to read; None = the best.
        disk: where to.
        work: the catalogue and the services.
        report: counts directories that cannot be made, and files whose services cannot be opened.
        dryrun: make no directory.
    """

    def files() -> Iterator[Node]:
        for node in work.catalogue.walk(path):
            if not node.is_directory:
                yield node
            elif not dryrun:
                target = paths.below(node.path, path)
                try:
                    disk.make_dir(target)
                except StorageError as error:
                    report.fail(disk.location(target), error)

    for node, replicas in work.catalogue.with_replicas(files()):
        with counting_unusable(node, report):
            yield Download(node, work.sources(node, only(service, replicas)), paths.below(node.path, path))


def download(files: Iterable[Download], disk: Disk, work: Work, report: Report, *, force: bool, dryrun: bool) -> None:
    """Bring names to the local disk; what is there with the same content is skipped.

    Other files that are in the way are replaced only with ``force``.
    """

    mode: WriteMode = "overwrite" if force else "create"

    def fetched(file: Download) -> bool:
        """Fetch one file by itself; tell whether there was anything to do."""
        if _is_same(disk, file):
            return False
        if not dryrun:
            work.observer(Event("started", f"/{file.node.path}", file.node.size or 0))
            _fetch(disk, file, work, mode)
        elif not file.sources:
            raise unreadable(file.node)
        return True

    def count(file: Download, result: bool | StorageError) -> None:
        name = f"/{file.node.path}"
        if isinstance(result, StorageError):
            report.fail(name, result)
            work.observer(Event("failed", name, error=str(result)))
        elif result:
            report.done(file.node.size)
            work.observer(Event("done", name, file.node.size or 0))
        else:
            report.skipped += 1
            work.observer(Event("skipped", name, file.node.size or 0))

    for batch in chunks(files, BATCH):
        for file in batch:
            work.observer(Event("planned", f"/{file.node.path}", file.node.size or 0))
        singly = list(batch)
        if not dryrun:
            singly = [file for file in batch if not _is_small(file)]
            for file, result in _fetch_small([file for file in batch if _is_small(file)], disk, mode, singly):
                count(file, result)
        read_from = {file.sources[0].service.name for file in singly if file.sources}
        threads = work.threads(read_from, sum(file.node.size or 0 for file in singly) / max(1, len(singly)))
        for file, result in run_parallel(fetched, singly, threads):
            count(file, result)


def _is_small(file: Download) -> bool:
    return bool(file.sources) and file.node.size is not None and file.node.size <= SMALL


def _fetch_small(
    files: Sequence[Download], disk: Disk, mode: WriteMode, singly: list[Download]
) -> Iterator[tuple[Download, bool | StorageError]]:
    """Fetch small files, many at once; those that their best source does not give are added to ``singly``."""
    by_source: dict[int, list[Download]] = {}
    for file in files:
        if _is_same(disk, file):
            yield file, False
        else:
            by_source.setdefault(id(file.sources[0].service), []).append(file)

    def unread(copy: SmallCopy, error: StorageError) -> None:
        singly.append(copy.context)

    for group in by_source.values():
        copies = (SmallCopy(file.sources[0].entry, ((0, file.target),), mode, file.node.sha256, file) for file in group)
        for copy, _, result in copy_small(copies, group[0].sources[0].service, [disk], unread):
            file = copy.context
            if isinstance(result, AlreadyExists):
                yield file, _in_the_way(disk, file)
            else:
                yield file, result if isinstance(result, StorageError) else True


def _fetch(disk: Disk, file: Download, work: Work, mode: WriteMode) -> None:
    """Download from the first source that gives the right bytes; the last failure is raised where none does."""

    def fetched(source: Source) -> Entry:
        return disk.fetch(source.service, source.entry, file.target, mode=mode, expected_sha256=file.node.sha256)

    try:
        got = use_first(file.node, file.sources, fetched)
    except AlreadyExists:
        raise _in_the_way(disk, file) from None
    work.observer(Event("moved", f"/{file.node.path}", got.size or 0))


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
