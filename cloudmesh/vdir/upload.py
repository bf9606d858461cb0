"""`put`: files of this computer become names with replicas on services."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

from cloudmesh.storage import paths
from cloudmesh.storage.abc import Entry
from cloudmesh.storage.disk import Disk
from cloudmesh.storage.errors import AlreadyExists, InvalidName, IsADirectory, NotADirectory, StorageError
from cloudmesh.storage.pool import run_parallel
from cloudmesh.storage.transfer.events import Event
from cloudmesh.storage.transfer.report import Report
from cloudmesh.vdir.copies import Copy, make
from cloudmesh.vdir.distribute import BATCH, begin, distribute, give_up
from cloudmesh.vdir.lookup import check_path, chunks
from cloudmesh.vdir.names import refuse_service_name
from cloudmesh.vdir.nodes import NewFile, Node, Replica
from cloudmesh.vdir.records import is_good
from cloudmesh.vdir.sources import Source, sha256_of
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

    @property
    def source(self) -> Source:
        """The local file, as it was when it was found."""
        return Source(self.disk, self.entry)


def local_tree(disk: Disk, target: str, work: Work, report: Report, *, dryrun: bool) -> Iterator[Upload]:
    """Yield all files of a directory of this computer; its directories become virtual ones.

    A name that the catalogue cannot hold is counted as failed, and the others go on.

    Raises:
        InvalidName: a top-level directory would have a service's name.
    """
    services = work.services.names()
    refuse_service_name(target, services)
    for entry in disk.scan("", recursive=True):
        path = paths.join(target, entry.path)
        refuse_service_name(path, services)
        try:
            check_path(path)
            if not entry.is_directory:
                yield Upload(disk, entry, path)
            elif not dryrun:
                work.catalogue.make_dir(path, parents=True, exist_ok=True)
        except (InvalidName, AlreadyExists, NotADirectory) as error:
            report.fail(disk.location(entry.path), error)


def upload(
    files: Iterable[Upload], to: Sequence[str], work: Work, report: Report, *, force: bool, dryrun: bool
) -> None:
    """Store files below each service's root at their virtual paths, and register them; count copies into ``report``.

    A name that has the same content already only gets the replicas that it lacks. Other content is refused, unless
    ``force`` makes it the name's new version, on the services of ``to`` and on all that hold the old one.
    """
    for batch in chunks(files, BATCH):
        _Batch(batch, to, work, report, force).run(dryrun=dryrun)


class _Batch:
    """Some files on their way: looked up, hashed, registered, sorted into what is to be done, done."""

    def __init__(self, files: Sequence[Upload], to: Sequence[str], work: Work, report: Report, force: bool) -> None:
        self._files = files
        self._to = to
        self._work = work
        self._report = report
        self._force = force
        self._nodes: dict[str, Node] = {}
        self._replicas: dict[int, tuple[Replica, ...]] = {}
        self._hashes: dict[str, str] = {}

    def run(self, *, dryrun: bool) -> None:
        self._look_up(self._files)
        files = [file for file in self._files if not self._is_settled(file)]
        self._report.skipped += len(self._files) - len(files)
        # hashing everything would cost a dry run what the real one does: it reads only what may be the same already
        self._hash([file for file in files if not dryrun or self._may_be_same(file)])
        fresh = [file for file in files if file.path not in self._nodes]
        if dryrun:
            for file in fresh:
                self._count(file, len(self._to))
        else:
            files = [file for file in files if file.path in self._hashes]
            fresh = [file for file in fresh if file.path in self._hashes]
            self._register(fresh)
        same, other = self._sort([file for file in files if file.path in self._nodes])
        if dryrun:
            for file in same:
                self._count(file, len(self._lacking(file)))
            for file in other:
                self._count(file, len(self._services(file)))
            return
        copies = [self._copy(file, self._nodes[file.path], one) for file in same for one in self._lacking(file)]
        distribute([*copies, *self._renew(other)], self._work, self._report)
        # of a new name that has no replica nothing was acknowledged
        self._work.catalogue.remove_lost(self._nodes[file.path].id for file in fresh if file.path in self._nodes)

    def _look_up(self, files: Sequence[Upload]) -> None:
        nodes = self._work.catalogue.lookup_many(file.path for file in files)
        self._nodes |= nodes
        self._replicas |= self._work.catalogue.replicas_of(list(nodes.values()))

    def _register(self, files: Sequence[Upload]) -> None:
        new = [NewFile(file.path, file.entry.size, file.entry.mtime_ns, self._hashes[file.path]) for file in files]
        for path, error in self._work.register(new).items():
            self._report.fail(f"/{path}", error)
        # another process may have been faster, with other content
        self._look_up(files)

    def _hash(self, files: Sequence[Upload]) -> None:
        threads = self._work.threads((), sum(file.entry.size or 0 for file in files) / max(1, len(files)))
        for file, result in run_parallel(lambda file: sha256_of(file.source), files, threads):
            if isinstance(result, StorageError):
                self._report.fail(file.name, result)
            else:
                self._hashes[file.path] = result

    def _sort(self, files: Sequence[Upload]) -> tuple[list[Upload], list[Upload]]:
        """Return the files whose names have the same content, and those that are new versions; others are refused."""
        same: list[Upload] = []
        other: list[Upload] = []
        for file in files:
            node, name = self._nodes[file.path], f"/{file.path}"
            if node.is_directory:
                self._report.fail(name, IsADirectory(name, "a directory has this name"))
            elif node.sha256 is not None and self._hashes.get(file.path) == node.sha256:
                same.append(file)
                self._report.skipped += not self._lacking(file)
            elif self._force or not any(is_good(node, one) for one in self._replicas[node.id]):
                other.append(file)
            else:
                error = AlreadyExists(name, "the name has other content", "--force makes this its new version")
                self._report.fail(name, error)
        return same, other

    def _is_settled(self, file: Upload) -> bool:
        """Tell whether the name surely has this content and all replicas, without reading the file."""
        node = self._nodes.get(file.path)
        return (
            node is not None
            and not node.is_directory
            and node.sha256 is not None
            and node.mtime_ns is not None
            and (node.size, node.mtime_ns) == (file.entry.size, file.entry.mtime_ns)
            and not self._lacking(file)
            and len(self._files) > 1  # a file named by itself is compared byte by byte
        )

    def _may_be_same(self, file: Upload) -> bool:
        node = self._nodes.get(file.path)
        return node is not None and node.size == file.entry.size

    def _lacking(self, file: Upload) -> list[str]:
        node = self._nodes[file.path]
        good = {one.service for one in self._replicas[node.id] if is_good(node, one)}
        return [service for service in self._to if service not in good]

    def _services(self, file: Upload) -> list[str]:
        """Return all services that a new version goes to."""
        known = [one.service for one in self._replicas[self._nodes[file.path].id]]
        return list(dict.fromkeys([*self._to, *known]))

    def _count(self, file: Upload, copies: int) -> None:
        for _ in range(copies):
            self._report.done(file.entry.size)

    def _copy(self, file: Upload, node: Node, service: str) -> Copy:
        known = next((one for one in self._replicas[node.id] if one.service == service), None)
        return Copy(node, service, [file.source], known, self._force)

    def _renew(self, files: Sequence[Upload]) -> list[Copy]:
        """Give names a new version: bring it to one service, which makes it so, and return the copies to the others."""
        plans: list[list[Copy]] = []
        for file in files:
            old = self._nodes[file.path]
            node = replace(
                old,
                size=file.entry.size,
                mtime_ns=file.entry.mtime_ns,
                sha256=self._hashes[file.path],
                version=old.version + 1,
            )
            plans.append([self._copy(file, node, service) for service in self._services(file)])
        shared = begin([copy for copies in plans for copy in copies], self._work)

        def first(copies: list[Copy]) -> tuple[Copy, Replica]:
            for copy in copies[:-1]:
                try:
                    return copy, make(copy, self._work, shared)
                except StorageError:  # tried again with the others, and told there
                    continue
            return copies[-1], make(copies[-1], self._work, shared)

        left: list[Copy] = []
        threads = self._work.threads({copy.service for plan in plans for copy in plan})
        for copies, result in run_parallel(first, plans, threads):
            try:
                if isinstance(result, StorageError):
                    raise result
                done, replica = result
                self._acknowledge(done.node, replica)
            except StorageError as error:
                give_up([(copy, error) for copy in copies], self._work)
                self._report.fail(f"/{copies[0].node.path}", error)
                continue
            self._report.done(done.node.size)
            self._work.observer(Event("done", done.name, done.node.size or 0))
            left += [copy for copy in copies if copy is not done]
        return left

    def _acknowledge(self, node: Node, replica: Replica) -> None:
        self._work.catalogue.set_content(
            node.id,
            version=node.version,
            size=node.size,
            mtime_ns=node.mtime_ns,
            sha256=node.sha256,
            replicas=[replica],
        )
