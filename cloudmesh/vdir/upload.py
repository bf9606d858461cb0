"""`put`: files of this computer become names with replicas on services."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

from cloudmesh.storage.abc import Entry
from cloudmesh.storage.disk import Disk
from cloudmesh.storage.errors import AlreadyExists, IsADirectory, StorageError
from cloudmesh.storage.transfer.plan import digest
from cloudmesh.storage.transfer.pool import run_parallel
from cloudmesh.storage.transfer.report import Report
from cloudmesh.vdir.distribute import BATCH, Copy, Source, distribute, make
from cloudmesh.vdir.lookup import chunks
from cloudmesh.vdir.nodes import NewFile, Node, Replica
from cloudmesh.vdir.records import is_good
from cloudmesh.vdir.work import Work


@dataclass(frozen=True, slots=True)
class Upload:
    """A local file and the virtual path that it shall have."""

    disk: Disk
    entry: Entry
    path: str

    @property
    def name(self) -> str:
        """The local file as the user typed it."""
        return self.disk.location(self.entry.path)


def upload(
    files: Iterable[Upload], to: Sequence[str], work: Work, report: Report, *, force: bool, dryrun: bool
) -> None:
    """Store files below each service's root at their virtual paths, and register them; count copies into ``report``.

    A name that has the same content already only gets the replicas that it lacks. Other content is refused, unless
    ``force`` makes it the name's new version, on the services of ``to`` and on all that hold the old one.
    """
    for batch in chunks(files, BATCH):
        _upload_batch(batch, to, work, report, force, dryrun)


def _upload_batch(
    batch: Sequence[Upload], to: Sequence[str], work: Work, report: Report, force: bool, dryrun: bool
) -> None:
    nodes = work.catalogue.lookup_many([file.path for file in batch])
    replicas = work.catalogue.replicas_of(list(nodes.values()))
    maybe_same = [one for one in batch if not _is_known(one, nodes.get(one.path))]
    if dryrun:  # hashing everything would cost what the real run does; only what may be the same already is read
        maybe_same = [one for one in maybe_same if one.path in nodes]
    hashes: dict[str, str] = {}
    for file, result in run_parallel(
        lambda file: digest(file.disk, file.entry.path, "sha256"), maybe_same, work.parallel
    ):
        if isinstance(result, StorageError):
            report.fail(file.name, result)
        else:
            hashes[file.path] = result

    fresh: list[Upload] = []
    completed: list[Upload] = []
    renewed: list[Upload] = []
    for file in batch:
        node = nodes.get(file.path)
        if not _is_known(file, node) and file.path not in hashes and not dryrun:
            continue  # it could not be read
        if node is None:
            fresh.append(file)
        elif node.is_directory:
            report.fail(f"/{file.path}", IsADirectory(f"/{file.path}", "a directory has this name"))
        elif _is_known(file, node) or hashes.get(file.path) == node.sha256:
            completed.append(file)
        elif force or not any(is_good(node, one) for one in replicas[node.id]):
            renewed.append(file)
        else:
            report.fail(
                f"/{file.path}",
                AlreadyExists(f"/{file.path}", "the name has other content", "--force makes this its new version"),
            )
    lacking = {file.path: _lacking(nodes[file.path], replicas[nodes[file.path].id], to) for file in completed}
    if dryrun:
        report.skipped += sum(not services for services in lacking.values())
        counts = [(file, len(to)) for file in fresh] + [(file, len(lacking[file.path])) for file in completed]
        for file in renewed:
            counts.append((file, len({*to, *(one.service for one in replicas[nodes[file.path].id])})))
        for file, count in counts:
            for _ in range(count):
                report.done(file.entry.size)
        return

    report.skipped += sum(not services for services in lacking.values())
    work.catalogue.register(
        NewFile(file.path, file.entry.size, file.entry.mtime_ns, hashes[file.path]) for file in fresh
    )
    made = work.catalogue.lookup_many([file.path for file in fresh])

    def copies() -> Iterator[Copy]:
        for file in fresh:
            for service in to:
                yield _copy(file, made[file.path], service, None, force)
        for file in completed:
            node = nodes[file.path]
            known = {one.service: one for one in replicas[node.id]}
            for service in lacking[file.path]:
                yield _copy(file, node, service, known.get(service), force)
        yield from _renew(renewed, nodes, replicas, hashes, to, work, report)

    part = Report(report.action)
    distribute(copies(), work.catalogue, work.open, part, parallel=work.parallel, observer=work.observer)
    report.merge(part)
    _forget_failed(list(made.values()), work)


def _is_known(file: Upload, node: Node | None) -> bool:
    """Tell whether the name has this content, by what is known without reading it."""
    if node is None or node.mtime_ns is None or node.size != file.entry.size:
        return False
    return node.mtime_ns == file.entry.mtime_ns and node.sha256 is not None


def _lacking(node: Node, replicas: Sequence[Replica], to: Sequence[str]) -> list[str]:
    good = {one.service for one in replicas if is_good(node, one)}
    return [service for service in to if service not in good]


def _copy(file: Upload, node: Node, service: str, known: Replica | None, force: bool) -> Copy:
    path = known.path if known is not None else node.path
    return Copy(
        node,
        Replica(service, path, version=node.version, size=node.size, mtime_ns=node.mtime_ns),
        [Source(file.disk, file.entry)],
        node.sha256,
        overwrite=force or (known is not None and known.state == "stale" and known.version > 0),
        known=known,
    )


def _renew(
    files: Sequence[Upload],
    nodes: dict[str, Node],
    replicas: dict[int, tuple[Replica, ...]],
    hashes: dict[str, str],
    to: Sequence[str],
    work: Work,
    report: Report,
) -> Iterator[Copy]:
    """Give names a new version: first on one service, which makes it so, then yield the copies to the others."""

    def first(file: Upload) -> list[Copy]:
        old = nodes[file.path]
        known = {one.service: one for one in replicas[old.id]}
        node = replace(
            old,
            size=file.entry.size,
            mtime_ns=file.entry.mtime_ns,
            sha256=hashes[file.path],
            version=old.version + 1,
        )
        copies = [_copy(file, node, service, known.get(service), True) for service in dict.fromkeys([*to, *known])]
        for index, copy in enumerate(copies):
            before = copy.known
            if before is not None:
                work.catalogue.update_replicas([replace(before, state="copying", entry_id=old.id)])
            try:
                made = make(copy, work.open(copy.target.service), work.observer)
            except StorageError:
                if before is not None:
                    work.catalogue.update_replicas([before])
                if index == len(copies) - 1:
                    raise
                continue
            work.catalogue.set_content(
                old.id,
                version=node.version,
                size=node.size,
                mtime_ns=node.mtime_ns,
                sha256=node.sha256,
                replicas=[made],
            )
            return [one for one in copies if one is not copy]
        return []

    for file, result in run_parallel(first, files, work.parallel):
        if isinstance(result, StorageError):
            report.fail(f"/{file.path}", result)
        else:
            report.done(file.entry.size)
            for copy in result:
                yield replace(copy, known=replace(copy.known, state="stale") if copy.known else None)


def _forget_failed(nodes: Sequence[Node], work: Work) -> None:
    """Remove new names that have no good replica: nothing of them was acknowledged."""
    replicas = work.catalogue.replicas_of(nodes)
    for node in nodes:
        if not any(is_good(node, one) for one in replicas[node.id]):
            work.catalogue.remove(node.path)
