"""`put`: files of this computer become names with replicas on services."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from cloudmesh.storage import paths
from cloudmesh.storage.abc import SMALL, Entry, Loaded, ReadRequest, StorageABC
from cloudmesh.storage.digest import digest_of
from cloudmesh.storage.disk import Disk, split_file
from cloudmesh.storage.errors import (
    AlreadyExists,
    InvalidName,
    IsADirectory,
    NotADirectory,
    NotFound,
    Refused,
    StorageError,
)
from cloudmesh.storage.pool import run_parallel
from cloudmesh.storage.transfer.events import Event, EventKind
from cloudmesh.storage.transfer.filters import Filter
from cloudmesh.storage.transfer.report import Report
from cloudmesh.vdir.claiming import Claimed, claimed, claiming
from cloudmesh.vdir.claims import Claims
from cloudmesh.vdir.copies import Copy
from cloudmesh.vdir.distribute import batches, bring, one_ahead, overwrite
from cloudmesh.vdir.lookup import check_path
from cloudmesh.vdir.names import refuse_service_name
from cloudmesh.vdir.nodes import NewFile, Node, Replica
from cloudmesh.vdir.options import PutOptions
from cloudmesh.vdir.placing import Placing
from cloudmesh.vdir.pricing import Bill
from cloudmesh.vdir.records import is_good
from cloudmesh.vdir.renewal import Renewal, renew
from cloudmesh.vdir.sources import Source, sha256_of
from cloudmesh.vdir.work import Allowance, DiskWork, Work, refuse


@dataclass(frozen=True, slots=True)
class Upload:
    """A file and the virtual path that it shall have.

    Attributes:
        disk: where it is: this computer, or a service.
        entry: the file there.
        path: virtual path.
        sha256: of its bytes, where it was seen already.
    """

    disk: StorageABC
    entry: Entry
    path: str
    sha256: str | None = None

    @property
    def name(self) -> str:
        """The file as a person names it."""
        return self.disk.location(self.entry.path)

    @property
    def source(self) -> Source:
        """The file, as it was when it was found."""
        return Source(self.disk, self.entry)


def found(
    source: str,
    target: str,
    into: Callable[[], bool],
    work: DiskWork,
    report: Report,
    options: PutOptions,
    *,
    recursive: bool,
    dryrun: bool,
) -> Iterator[Upload]:
    """Return the files of this computer that `put` concerns.

    Args:
        source: a file or a directory, as typed.
        target: the virtual path, normalised.
        into: tells whether a file goes into ``target`` rather than getting that name.
        work: where names are made.
        report: counts what cannot be.
        options: which files of a directory.
        recursive: ``source`` may be a directory.
        dryrun: make no directory.

    Raises:
        NotFound, IsADirectory, InvalidName: as `Vdir.put`.
    """
    disk, name = split_file(source)
    entry = disk.stat(name)
    chosen = Filter.from_options(options)
    if entry.is_directory:
        if not recursive:
            raise IsADirectory(disk.location(name), hint="--recursive takes all that is in it")
        tree = Disk(disk.location(name), options.links)
        return local_tree(tree, target, work, report, chosen=chosen, dryrun=dryrun)
    path = paths.join(target, name) if into() else target
    refuse_service_name(path, work.services.names())
    return iter([Upload(disk, entry, path)])


def local_tree(
    disk: Disk, target: str, work: DiskWork, report: Report, *, chosen: Filter | None, dryrun: bool
) -> Iterator[Upload]:
    """Yield all files of a directory of this computer; its directories become virtual ones.

    A name that the catalogue cannot hold is counted as failed, and the others go on.

    Args:
        disk: the directory.
        target: the virtual directory that it becomes.
        work: where names are made.
        report: counts what cannot be.
        chosen: which files are concerned; None = all. With a filter only directories with such files are made.
        dryrun: make no directory.

    Raises:
        InvalidName: a top-level directory would have a service's name.
    """
    services = work.services.names()
    refuse_service_name(target, services)

    def unlisted(entry: Entry, error: StorageError) -> None:
        refuse(disk.location(entry.path), entry.size, error, work, report)

    for entry in disk.scan("", recursive=True, on_error=unlisted):
        if chosen is not None and (entry.is_directory or not chosen.includes(entry.path, entry)):
            continue
        path = paths.join(target, entry.path)
        refuse_service_name(path, services)
        try:
            check_path(path)
            if not entry.is_directory:
                yield Upload(disk, entry, path)
            elif not dryrun:
                work.catalogue.make_dir(path, parents=True, exist_ok=True)
        except (InvalidName, AlreadyExists, NotADirectory) as error:
            refuse(disk.location(entry.path), entry.size, error, work, report)


def upload(
    files: Iterable[Upload],
    placing: Placing,
    work: Work,
    report: Report,
    *,
    force: bool,
    dryrun: bool,
) -> None:
    """Store files below each service's root at their virtual paths, and register them; count copies into ``report``.

    A name that has the same content already only gets the replicas that it lacks. Other content is refused, unless
    ``force`` makes it the name's new version, on the services of ``placing`` and on all that hold the old one.

    Args:
        files: what is to be stored.
        placing: says where.
        work: the catalogue and the services.
        report: counts.
        force: as above.
        dryrun: change nothing, only count.
    """
    bill = Bill(work)
    allowance = Allowance(work, report)

    def planned() -> Iterator[Batch]:
        for files_of_batch in batches(files, lambda file: file.entry.size or 0):
            batch = Batch(files_of_batch, placing, work, report, force=force)
            batch.plan(allowance, dryrun=dryrun)
            yield batch
            if allowance.exhausted:
                break
        work.observer(Event("planned_all"))

    with claiming(work, "vdir put") as claims:
        for batch in one_ahead(planned()):
            if dryrun:
                batch.price(bill)
            else:
                batch.run(claims)
    if dryrun:
        bill.write(report)


def _name(file: Upload, service: str) -> str:
    """The copy as a person names it; see `Copy.name`."""
    return f"/{file.path} on {service}"


class Batch:
    """Some files on their way: looked up, hashed and sorted into what is to be done; then registered, and done.

    All are of one place. Each is planned as its copies, one on each service that it goes to.
    """

    def __init__(self, files: Sequence[Upload], placing: Placing, work: Work, report: Report, *, force: bool) -> None:
        self._files = files
        self._placing = placing
        self._to: dict[str, list[str]] = {}
        self._work = work
        self._report = report
        self._force = force
        self._nodes: dict[str, Node] = {}
        self._replicas: dict[int, tuple[Replica, ...]] = {}
        self._hashes: dict[str, str] = {}
        self._fresh: list[Upload] = []
        self._lacking: list[Upload] = []
        self._other: list[Upload] = []
        self._planned: dict[str, list[str]] = {}

    def plan(self, allowance: Allowance, *, dryrun: bool) -> None:
        """Find out what is to be done, as far as ``allowance`` goes; nothing is changed."""
        self._look_up(self._files)
        self._place()
        unsettled: list[Upload] = []
        for file in self._files:
            if file.path not in self._to:
                continue
            if self._is_settled(file):
                self._skip(file)
            else:
                unsettled.append(file)
        # hashing everything would cost a dry run what the real one does: it reads only what may be the same already
        asked = [file for file in unsettled if not dryrun or self._may_be_same(file)]
        self._hash(asked)
        left_out = {file.path for file in asked if file.path not in self._hashes}
        for file in unsettled:
            if file.path in left_out:
                continue
            if file.path not in self._nodes:
                group, services = self._fresh, list(self._to[file.path])
            else:
                try:
                    group, services = self._sorted(file)
                except StorageError as error:
                    self._refuse(file, error)
                    continue
            if not services:
                self._skip(file)
                continue
            if not allowance.takes(len(services) * (file.entry.size or 0)):
                return
            group.append(file)
            self._tell("planned", file, {*services, *self._to[file.path]})
            self._tell("skipped", file, [one for one in self._to[file.path] if one not in services])
            self._planned[file.path] = services

    def price(self, bill: Bill) -> None:
        """Count what was planned, and what it costs."""
        plans = [(file, self._to[file.path]) for file in self._fresh]
        plans += [(file, self._services_lacking(file)) for file in self._lacking]
        plans += [(file, self._services(file)) for file in self._other]
        for file, services in plans:
            for service in services:
                self._report.done(file.entry.size)
                bill.add(file.disk, service, file.entry.size or 0)

    def run(self, claims: Claims) -> None:
        """Do what was planned, as far as no other process works on it."""
        new = [NewFile(one.path, one.entry.size, one.entry.mtime_ns, self._hashes[one.path]) for one in self._fresh]
        errors = self._work.register(new)
        self._nodes |= self._work.catalogue.lookup_many(file.path for file in self._fresh)
        files = [*self._fresh, *self._lacking, *self._other]
        nodes = [node for file in files if (node := self._nodes.get(file.path)) and not node.is_directory]
        with claimed(nodes, claims, self._work) as now:
            self._sort_again(files, now, errors)
            copies = [
                self._copy(file, self._nodes[file.path], service)
                for file in self._lacking
                for service in self._services_lacking(file)
            ]
            overwrite(copies, self._work, self._report)
            bring(self._renew(self._other), self._work, self._report)
            # of a new name that has no replica nothing was acknowledged
            fresh = (self._nodes.get(file.path) for file in self._fresh)
            self._work.catalogue.remove_lost(node.id for node in fresh if node is not None and node.id in now.files)

    def _look_up(self, files: Sequence[Upload]) -> None:
        nodes = self._work.catalogue.lookup_many(file.path for file in files)
        self._nodes |= nodes
        self._replicas |= self._work.catalogue.replicas_of(list(nodes.values()))

    def _place(self) -> None:
        """Choose each file's services; what a rule forbids is counted as failed."""
        self._placing.look_up(file.path for file in self._files)
        for file in self._files:
            node = self._nodes.get(file.path)
            holders = [] if node is None else [one.service for one in self._replicas[node.id]]
            try:
                self._to[file.path] = self._placing.services(file.path, node, file.entry.size, holders)
            except Refused as error:
                self._refuse(file, error)

    def _sort_again(self, files: Sequence[Upload], now: Claimed, errors: Mapping[str, StorageError]) -> None:
        """Sort files once more, by what is known now that others keep away: they may have been faster."""
        self._lacking, self._other = [], []
        for file in files:
            planned = self._planned[file.path]
            node = self._nodes.get(file.path)
            error = errors.get(file.path) or (now.refused.get(node.id) if node is not None else None)
            try:
                if error is not None:
                    raise error
                if node is None:
                    raise NotFound(f"/{file.path}", "the name was removed meanwhile")
                if node.id in now.files:
                    self._nodes[file.path], self._replicas[node.id] = now.files[node.id]
                group, services = self._sorted(file)
            except StorageError as failure:
                self._report.fail(f"/{file.path}", failure)
                self._tell("failed", file, planned, str(failure))
                continue
            if services:
                group.append(file)
            self._tell("planned", file, [one for one in services if one not in planned])
            self._tell("skipped", file, [one for one in planned if one not in services])

    def _hash(self, files: Sequence[Upload]) -> None:
        """Hash files; those that cannot be read are counted as failed."""
        self._hashes |= {file.path: file.sha256 for file in files if file.sha256 is not None}
        files = [file for file in files if file.sha256 is None]
        small = [file for file in files if (file.entry.size or 0) <= SMALL]
        large = [file for file in files if (file.entry.size or 0) > SMALL]
        wanted = (ReadRequest(file.entry.path, file.entry.etag, file.entry.size, file) for file in small)
        for request, loaded in self._files[0].disk.read_many(wanted):
            hashed = digest_of((loaded.data,)) if isinstance(loaded, Loaded) else loaded
            self._hashed(request.context, hashed)
        threads = self._work.threads((), sum(file.entry.size or 0 for file in large) / max(1, len(large)))
        for file, result in run_parallel(lambda file: sha256_of(file.source), large, threads):
            self._hashed(file, result)

    def _hashed(self, file: Upload, result: str | StorageError) -> None:
        if isinstance(result, StorageError):
            self._report.fail(file.name, result)
            self._tell("planned", file, self._to[file.path])
            self._tell("failed", file, self._to[file.path], str(result))
        else:
            self._hashes[file.path] = result

    def _sorted(self, file: Upload) -> tuple[list[Upload], list[str]]:
        """Return the group of files to which one belongs whose name is there, and the services that it goes to.

        Raises:
            IsADirectory, AlreadyExists: the name is another's.
        """
        node, name = self._nodes[file.path], f"/{file.path}"
        if node.is_directory:
            raise IsADirectory(name, "a directory has this name")
        if node.sha256 is not None and self._hashes.get(file.path) == node.sha256:
            return self._lacking, self._services_lacking(file)
        if self._force or not any(is_good(node, one) for one in self._replicas[node.id]):
            return self._other, self._services(file)
        raise AlreadyExists(name, "the name has other content", "--force makes this its new version")

    def _refuse(self, file: Upload, error: StorageError) -> None:
        """Count a file as failed that cannot go to its services, or to none."""
        name, size = f"/{file.path}", file.entry.size or 0
        self._report.fail(name, error)
        for one in [_name(file, service) for service in self._to.get(file.path, ())] or [name]:
            self._work.observer(Event("planned", one, size))
            self._work.observer(Event("failed", one, size, str(error)))

    def _skip(self, file: Upload) -> None:
        self._report.skipped += 1
        self._tell("planned", file, self._to[file.path])
        self._tell("skipped", file, self._to[file.path])

    def _tell(self, kind: EventKind, file: Upload, services: Iterable[str], error: str = "") -> None:
        """Tell what became of a file's copies on some services."""
        for service in services:
            self._work.observer(Event(kind, _name(file, service), file.entry.size or 0, error))

    def _is_settled(self, file: Upload) -> bool:
        """Tell whether the name surely has this content and all replicas, without reading the file."""
        node = self._nodes.get(file.path)
        return (
            node is not None
            and not node.is_directory
            and node.sha256 is not None
            and node.mtime_ns is not None
            and (node.size, node.mtime_ns) == (file.entry.size, file.entry.mtime_ns)
            and not self._services_lacking(file)
            and len(self._files) > 1  # a file named by itself is compared byte by byte
        )

    def _may_be_same(self, file: Upload) -> bool:
        node = self._nodes.get(file.path)
        return node is not None and node.size == file.entry.size

    def _services_lacking(self, file: Upload) -> list[str]:
        node = self._nodes[file.path]
        good = {one.service for one in self._replicas[node.id] if is_good(node, one)}
        return [service for service in self._to[file.path] if service not in good]

    def _services(self, file: Upload) -> list[str]:
        """Return all services that a new version goes to."""
        known = [one.service for one in self._replicas[self._nodes[file.path].id]]
        return list(dict.fromkeys([*self._to[file.path], *known]))

    def _copy(self, file: Upload, node: Node, service: str) -> Copy:
        known = next((one for one in self._replicas[node.id] if one.service == service), None)
        return Copy(node, service, [file.source], known, self._force)

    def _renew(self, files: Sequence[Upload]) -> list[Copy]:
        """Give names a new version: bring it to one service, which makes it so, and return the copies to the others."""
        renewals = [
            Renewal(
                self._nodes[file.path],
                self._replicas[self._nodes[file.path].id],
                file.source,
                self._hashes[file.path],
                self._services(file),
                self._force,
            )
            for file in files
        ]
        return renew(renewals, self._work, self._report)
