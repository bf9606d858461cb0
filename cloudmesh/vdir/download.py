"""`get`: names become files of this computer, each read from the replica that is best, or from the next one."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from cloudmesh.storage import paths
from cloudmesh.storage.abc import Entry, WriteMode
from cloudmesh.storage.disk import Disk
from cloudmesh.storage.errors import AlreadyExists, NotFound, StorageError
from cloudmesh.storage.pool import run_parallel
from cloudmesh.storage.transfer.events import Event
from cloudmesh.storage.transfer.report import Report
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

    def fetch(file: Download) -> bool:
        if _is_same(disk, file):
            return False
        if not dryrun:
            work.observer(Event("started", f"/{file.node.path}", file.node.size or 0))
            _fetch(disk, file, work, "overwrite" if force else "create")
        elif not file.sources:
            raise unreadable(file.node)
        return True

    for batch in chunks(files, BATCH):
        for file in batch:
            work.observer(Event("planned", f"/{file.node.path}", file.node.size or 0))
        read_from = {file.sources[0].service.name for file in batch if file.sources}
        threads = work.threads(read_from, sum(file.node.size or 0 for file in batch) / len(batch))
        for file, result in run_parallel(fetch, batch, threads):
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


def _fetch(disk: Disk, file: Download, work: Work, mode: WriteMode) -> None:
    """Download from the first source that gives the right bytes; the last failure is raised where none does."""

    def fetched(source: Source) -> Entry:
        return disk.fetch(source.service, source.entry, file.target, mode=mode, expected_sha256=file.node.sha256)

    try:
        got = use_first(file.node, file.sources, fetched)
    except AlreadyExists:
        where = disk.location(file.target)
        raise AlreadyExists(where, "a file with other content is there", "--force replaces it") from None
    work.observer(Event("moved", f"/{file.node.path}", got.size or 0))


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
