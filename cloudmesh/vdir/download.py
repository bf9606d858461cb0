"""`get`: names become files of this computer, each read from the replica that is best, or from the next one."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from cloudmesh.storage.abc import Entry, Reader
from cloudmesh.storage.disk import Disk
from cloudmesh.storage.errors import NotFound, StorageError
from cloudmesh.storage.transfer.events import Event
from cloudmesh.storage.transfer.plan import digest
from cloudmesh.storage.transfer.pool import run_parallel
from cloudmesh.storage.transfer.report import Report
from cloudmesh.vdir.distribute import Source
from cloudmesh.vdir.nodes import Node
from cloudmesh.vdir.work import Work


@dataclass(frozen=True, slots=True)
class Download:
    """A name with what it can be read from, the best first, and the local path that it goes to."""

    node: Node
    sources: list[Source]
    target: str


def download(files: Iterable[Download], disk: Disk, work: Work, report: Report, *, dryrun: bool) -> None:
    """Bring names to the local disk; what is there with the same content is skipped, other files are replaced."""

    def needed() -> Iterator[Download]:
        for file in files:
            if is_same(disk, file):
                report.skipped += 1
            elif dryrun:
                report.done(file.node.size)
            else:
                work.observer(Event("planned", f"/{file.node.path}", file.node.size or 0))
                yield file

    def fetch(file: Download) -> Entry:
        work.observer(Event("started", f"/{file.node.path}", file.node.size or 0))
        return fetch_first(disk, file, work)

    for file, result in run_parallel(fetch, needed(), work.parallel):
        name = f"/{file.node.path}"
        if isinstance(result, StorageError):
            report.fail(name, result)
            work.observer(Event("failed", name, error=str(result)))
        else:
            report.done(result.size)
            work.observer(Event("done", name, file.node.size or 0))


def fetch_first(disk: Disk, file: Download, work: Work) -> Entry:
    """Download from the first source that gives the right bytes; the last failure is raised where none does."""
    failure: StorageError = unreadable(file.node)
    for source in file.sources:
        try:
            got = disk.fetch(source.service, source.entry, file.target, expected_sha256=file.node.sha256)
            work.observer(Event("moved", f"/{file.node.path}", got.size or 0))
            return got
        except StorageError as error:
            failure = error
    raise failure


def open_first(node: Node, sources: Iterable[Source]) -> Reader:
    """Open a file at the first source that answers; the last failure is raised where none does."""
    failure: StorageError = unreadable(node)
    for source in sources:
        try:
            return source.service.open_read(source.entry.path, if_match=source.entry.etag)
        except StorageError as error:
            failure = error
    raise failure


def unreadable(node: Node) -> NotFound:
    """Return the error for a name that no replica can be read of."""
    return NotFound(f"/{node.path}", "no good replica is left", f"cms vdir status --check /{node.path}")


def is_same(disk: Disk, file: Download) -> bool:
    """Tell whether the local file has the name's content already."""
    try:
        there = disk.stat(file.target)
    except NotFound:
        return False
    if there.is_directory or there.size != file.node.size:
        return False
    if there.mtime_ns is not None and there.mtime_ns == file.node.mtime_ns:
        return True
    return file.node.sha256 is not None and digest(disk, file.target, "sha256") == file.node.sha256
