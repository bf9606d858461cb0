"""`Vdir`: the verbs of ``cms vdir``, for programs. Each usage line of the command is one method here.

    from cloudmesh.vdir import Vdir

    with Vdir() as vdir:
        vdir.put("results", "/run7", to=["aws", "lab-nas"], recursive=True)
        for info in vdir.ls("/run7"):
            print(info.name, info.services)
        vdir.get("/run7/model.bin", "model.bin")

A virtual path without a slash before it lies below the current virtual directory (`cd`). A name read with a service
before it (``aws:/run7/model.bin``) means the replica there; a name alone means the preferred one.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from functools import cached_property, partial
from types import TracebackType
from typing import TYPE_CHECKING, ClassVar, Self

from cloudmesh.storage import paths
from cloudmesh.storage.binding import Count, Duration, Names, ServiceNames, destructive
from cloudmesh.storage.database import Database
from cloudmesh.storage.errors import (
    ConfigError,
    IsADirectory,
    NotADirectory,
    NotFound,
    Refused,
    UsageError,
)
from cloudmesh.storage.meaning import PathHere, Place, VirtualFile, VirtualPath, at_the_terminal, long, quick, reading
from cloudmesh.storage.prompt import Prompt, TerminalPrompt
from cloudmesh.storage.records import TreeLine, tree_line
from cloudmesh.storage.services import Services
from cloudmesh.storage.transfer.events import Observer, nobody
from cloudmesh.storage.transfer.options import ALL_FILES, Selection
from cloudmesh.storage.transfer.report import Report
from cloudmesh.vdir import cwd
from cloudmesh.vdir.catalogue import Catalogue
from cloudmesh.vdir.names import refuse_service_name
from cloudmesh.vdir.nodes import Files, Node, Replica, only
from cloudmesh.vdir.options import PUT_ALL, PutOptions, SampleText
from cloudmesh.vdir.records import (
    Choice,
    Imported,
    NameInfo,
    NameVersion,
    Status,
    SyncReport,
    Verified,
    name_info,
)
from cloudmesh.vdir.visible import VisibleCatalogue

if TYPE_CHECKING:  # what works on services is imported by the verbs that do: `cdir ls` has to be quick
    from cloudmesh.storage.health import Health
    from cloudmesh.storage.transfer.filters import Filter
    from cloudmesh.vdir.announcing import Announced, Expected
    from cloudmesh.vdir.found import FoundFile
    from cloudmesh.vdir.reading import NameReader
    from cloudmesh.vdir.rules_api import RulesApi
    from cloudmesh.vdir.work import Work


class Vdir:
    """The virtual directory.

    Args:
        parallel: files under way at once; the measured default where None.
        observer: hears of the progress of long work.
        services: opened services to share with other objects; this object does not close them.
        database: where the catalogue is; the user's own where None.
        prompt: asked where contents differ and the user has to choose; the terminal where None.
        stop: asked before each file of work on many; True ends it after those under way.
    """

    usage_exempt: ClassVar[frozenset[str]] = frozenset(
        {"announce", "close", "find", "import_lines", "info", "open", "write"}
    )
    usage_groups: ClassVar[Mapping[str, str]] = {"rules": "cloudmesh.vdir.rules_api:RulesApi"}

    def __init__(
        self,
        parallel: Count | None = None,
        observer: Observer | None = None,
        services: Services | None = None,
        database: Database | None = None,
        prompt: Prompt | None = None,
        stop: Callable[[], bool] = bool,
    ) -> None:
        self._prompt = prompt
        self._parallel = parallel
        self._observer = observer or nobody
        self._shared_services = services
        self._shared_database = database
        self._stop = stop

    # ---- names ---------------------------------------------------------------------------------------------------

    def mkdir(self, dir: VirtualPath, *, parents: bool = False) -> NameInfo:
        """Make a virtual directory.

        Args:
            dir: the directory.
            parents: make missing parents too; an existing directory is fine.

        Raises:
            AlreadyExists: the name is taken.
            NotFound: its parent is not there.
            InvalidName: a top-level directory may not have a service's name.
        """
        path = self._path(dir)
        refuse_service_name(path, self._services.names())
        return name_info(self._catalogue.make_dir(path, parents=parents, exist_ok=parents), ())

    @at_the_terminal("the current directory is that of a shell")
    def cd(self, dir: VirtualPath = "/") -> str:
        """Make a virtual directory the current one, for all shells, and return its path; the root where none is given.

        Raises:
            NotFound, NotADirectory: there is no such directory.
            ConfigError: ``CDIR_CWD`` is set and would win.
        """
        path = self._path(dir)
        if not self._catalogue.lookup(path).is_directory:
            raise NotADirectory(f"/{path}")
        cwd.change(path)
        return f"/{path}"

    @at_the_terminal("the current directory is that of a shell")
    def pwd(self) -> str:
        """Return the current virtual directory."""
        return f"/{cwd.current()}"

    @reading
    @quick
    def ls(self, dir: VirtualPath = "", *, recursive: bool = False) -> Iterator[NameInfo]:
        """Yield what is in a virtual directory, or the one file, in byte order of the names.

        Raises:
            NotFound: nothing is there.
        """
        path = self._path(dir)
        node, of_file = self._catalogue.lookup_with_replicas(path)
        if not node.is_directory:
            yield name_info(node, of_file, paths.parent(path))
            return
        nodes = self._catalogue.walk(path) if recursive else self._catalogue.children(path)
        for each, replicas in self._catalogue.with_replicas(nodes):
            yield name_info(each, replicas, path)

    def info(self, name: VirtualPath) -> NameInfo:
        """Return one file or directory.

        Raises:
            NotFound: nothing is there.
        """
        return name_info(*self._catalogue.lookup_with_replicas(self._path(name)))

    def find(self, name: VirtualFile) -> FoundFile:
        """Look a file up once, to tell of it and to read it.

        Args:
            name: as of `open`.

        Raises:
            NotFound, IsADirectory: there is no such file.
        """
        from cloudmesh.vdir.found import FoundFile

        node, replicas, chosen = self._looked_up(name)
        return FoundFile(node, replicas, chosen, self._work())

    @reading
    def tree(self, dir: VirtualPath = "") -> Iterator[TreeLine]:
        """Yield everything below a virtual directory, one line each, indented.

        Raises:
            NotFound, NotADirectory: there is no such directory.
        """
        path = self._path(dir)
        for node in self._catalogue.walk(path):
            yield tree_line(node.path, path, node.is_directory, node.size)

    @reading
    def search(self, pattern: str, dir: VirtualPath = "") -> Iterator[NameInfo]:
        """Yield the names below a virtual directory that fit a pattern with ``*``, ``?`` and ``[…]``; case matters.

        Args:
            pattern: of the last part of a name.
            dir: the directory; the current one where empty.

        Raises:
            NotFound, NotADirectory: there is no such directory.
        """
        path = self._path(dir)
        found = self._catalogue.search(path, pattern)
        for node, replicas in self._catalogue.with_replicas(found):
            yield name_info(node, replicas, path)

    def move(self, source: VirtualPath, destination: VirtualPath) -> NameInfo:
        """Give a file or directory another name, or, if DESTINATION is a directory, move it into it; no byte moves.

        Replicas stay where they are on their services.

        Raises:
            NotFound: there is no SOURCE, or no directory that could hold DESTINATION.
            AlreadyExists: the name is taken.
            Refused: a directory would go into itself.
        """
        old, new = self._path(source), self._path(destination)
        with suppress(NotFound):
            if self._catalogue.lookup(new).is_directory and new != old:
                new = paths.join(new, paths.basename(old))
        refuse_service_name(new, self._services.names())
        return self._info(self._catalogue.move(old, new))

    @long
    @destructive
    def delete(
        self,
        dir_or_name: VirtualPath = "",
        *,
        recursive: bool = False,
        purge: bool = False,
        accept_loss: bool = False,
        dryrun: bool = False,
        check: Callable[[NameInfo], None] | None = None,
    ) -> Report:
        """Remove a name, or with ``recursive`` a directory of names; files on services stay, unless ``purge`` is given.

        Args:
            dir_or_name: what to remove; the current directory where empty.
            recursive: a directory with something in it may be removed.
            purge: remove the real files too, all replicas, those first; what cannot be removed keeps its name. So does
                a name of whose content no good copy would be left under any other name.
            accept_loss: with ``purge``: the last copy of a content may go, and a service without any file is believed.
            dryrun: only count.
            check: is told what is there while nobody else works on it; what it raises leaves all as it was.

        Raises:
            NotFound: nothing is there.
            IsADirectory: it is a directory with something in it and ``recursive`` is not given.
            Refused: it is the root, or the one file that it is cannot go.
            Unavailable: with ``check``: others work on it, for longer than we wait.
        """
        from cloudmesh.vdir.purging import Purge
        from cloudmesh.vdir.tombstones import settle

        path = self._path(dir_or_name)
        if not path:
            raise Refused("/", "the root cannot be removed")
        work = self._work()
        with self._checked(path, work, check):
            node = self._catalogue.lookup(path)
            is_empty = next(self._catalogue.children(path), None) is None if node.is_directory else True
            if not is_empty and not recursive:
                why = "is a directory that is not empty"
                raise IsADirectory(f"/{path}", why, "--recursive removes all that is in it")
            self._catalogue.check_removal(path)
            report = Report("purge" if purge else "delete", dryrun=dryrun)
            if purge:
                Purge(path, work, report, accept_loss=accept_loss).run(self._files(node), dryrun=dryrun)
                if not dryrun and not report.stopped:
                    settle(path, work, report, ())
            else:
                totals = self._catalogue.totals(path)
                report.files, report.bytes = totals.files, totals.bytes
            report.directories = 0 if not node.is_directory else self._catalogue.totals(path).directories
            if not dryrun and not report.failed and (node.is_directory or not purge):  # a purge removes files' names
                work.catalogue.remove(path, recursive=recursive)
        return report.ended()

    # ---- content -------------------------------------------------------------------------------------------------

    @long
    def add(
        self,
        fileendpoint: Place | None = None,
        dir_and_name: VirtualPath = "",
        *,
        recursive: bool = False,
        dryrun: bool = False,
    ) -> Report:
        """Register files that lie on a service already, where they are; no byte is moved.

        Args:
            fileendpoint: SERVICE:PATH of a file; with ``*``, ``?``, ``[…]`` in the last part, of many; a list or range
                as in ``aws:f[1-3].csv,box:g.csv``; with ``recursive``, of a directory. A path alone is on the default
                service.
            dir_and_name: the name it shall have; a directory (existing, or with a slash at the end) takes the file's
                own name. The current directory where empty.
            recursive: FILEENDPOINT is a directory; what is in it goes into DIR_AND_NAME.
            dryrun: only count.

        Raises:
            UsageError: no FILEENDPOINT is given.
            NotFound: nothing is there.
            IsADirectory: it is a directory and ``recursive`` is not given.
            AlreadyExists: the name has other content, or a replica on this service already.
        """
        from cloudmesh.vdir.adopt import Place, adopt, expand

        if fileendpoint is None:
            raise UsageError("vdir add", "argument FILEENDPOINT is missing", "SERVICE:PATH of a file or directory")
        target = self._path(dir_and_name)
        report = Report("add", dryrun=dryrun)
        places = expand(fileendpoint)
        work = self._work(dryrun=dryrun)
        into = len(places) > 1 or self._is_directory(target, dir_and_name)
        for one in places:
            adopt(Place(one, target, into, recursive), work, report, dryrun=dryrun)
        return report.ended()

    @long
    def put(
        self,
        source: PathHere,
        dir_or_name: VirtualPath = "",
        *,
        to: ServiceNames | None = None,
        recursive: bool = False,
        force: bool = False,
        dryrun: bool = False,
        options: PutOptions = PUT_ALL,
    ) -> Report:
        """Upload a file or a tree of this computer to one or several services, and register it.

        Each file is stored at its virtual path below the service's root. What is there already with the same content
        is skipped, so that doing it again completes what was interrupted.

        Args:
            source: a path on this computer.
            dir_or_name: as DIR_AND_NAME of `add`.
            to: services; where None those that the rules want (`rules`), else those that have the name already, else
                the default service.
            recursive: SOURCE is a directory; what is in it goes into DIR_OR_NAME.
            force: replace foreign files that are in the way on a service, and give names that have other content this
                one as their new version.
            dryrun: only count, and estimate what it costs to copy and to keep.
            options: which files of a directory, how fast, how much. Bytes are counted for each service.

        Returns:
            the counts; ``files`` counts each copy.

        Raises:
            NotFound: SOURCE is not there.
            IsADirectory: it is a directory and ``recursive`` is not given.
            AlreadyExists: a name has other content, or a foreign file is in the way.
            Refused: a rule forbids it.
            ConfigError: there is no such service, or it cannot be opened; nothing was changed.
        """
        from cloudmesh.vdir.placing import Placing
        from cloudmesh.vdir.upload import found, upload

        services = self._targets(to, dryrun=dryrun) if to else None
        work = self._work(options, dryrun=dryrun)
        report = Report("put", dryrun=dryrun)
        target = self._path(dir_or_name)
        into = partial(self._is_directory, target, dir_or_name)
        files = found(source, target, into, work, report, options, recursive=recursive, dryrun=dryrun)
        upload(files, Placing(work, services, dryrun=dryrun), work, report, force=force, dryrun=dryrun)
        return report.ended()

    def announce(
        self, files: Sequence[Announced], *, to: ServiceNames | None = None, force: bool = False, dryrun: bool = False
    ) -> Expected:
        """Return what `put` would want of files whose bytes are elsewhere, to be given to `write`; nothing is changed.

        Args:
            files: as they are.
            to: services, as of `put`.
            force: as of `put`.
            dryrun: nothing will be written: tell what it would cost.

        Raises:
            InvalidName, ConfigError, Refused: as `put`.
        """
        from dataclasses import replace

        from cloudmesh.vdir.announcing import expected
        from cloudmesh.vdir.lookup import check_path
        from cloudmesh.vdir.placing import Placing

        named = [replace(one, path=self._path(one.path)) for one in files]
        for one in named:
            check_path(one.path)
            refuse_service_name(one.path, self._services.names())
        services = self._targets(to, dryrun=dryrun) if to else None
        work = self._work(dryrun=True)
        return expected(named, Placing(work, services, dryrun=dryrun), work, force=force, dryrun=dryrun)

    def write(
        self,
        name: VirtualPath,
        content: Iterable[bytes],
        *,
        size: int | None = None,
        modified_ns: int | None = None,
        to: ServiceNames | None = None,
        force: bool = True,
        report: Report | None = None,
        sha256: str | None = None,
        check: Callable[[NameInfo | None], None] | None = None,
    ) -> NameInfo:
        """Give a name the bytes of a stream, as its new version where it is there, and return it.

        The bytes go to a service as they come; nothing of them is seen before all are there.

        Args:
            name: virtual path; missing directories are made.
            content: the bytes, read once.
            size: of them, where that is known; others are then refused.
            modified_ns: their modification time, ns since the epoch; now where None.
            to: services; as of `put` where None. All that have the name get it, too.
            force: as of `put`: without it neither other content of the name nor a foreign file is replaced.
            report: counts the copies, and those that failed beside others that did not.
            sha256: that the bytes must have, lower-case hex.
            check: is told what has the name, if anything, before the bytes come, and again when they are there and
                nobody else works on it; what it raises leaves all as it was.

        Raises:
            IsADirectory, NotADirectory, InvalidName: the name cannot be a file's.
            Unavailable: somebody else is doing this, for longer than we wait.
            Refused: a rule forbids it.
            ChecksumMismatch: the bytes are others than promised.
        """
        from cloudmesh.vdir.writing import Arrival, write

        path = self._path(name)
        refuse_service_name(path, self._services.names())
        services = self._targets(to, dryrun=False) if to else None
        write(
            Arrival(path, content, size, modified_ns, sha256),
            services,
            self._work(),
            None if check is None else lambda node: check(None if node is None else self._info(node)),
            Report("put") if report is None else report,
            force=force,
        )
        return name_info(*self._catalogue.lookup_with_replicas(path))

    @long
    def get(
        self,
        name: VirtualFile,
        destination: PathHere,
        *,
        recursive: bool = False,
        force: bool = False,
        dryrun: bool = False,
        options: Selection = ALL_FILES,
    ) -> Report:
        """Download a file or a tree, each file from its best replica, or the next where that fails.

        Args:
            name: virtual path; ``SERVICE:/path`` takes the replica on that service.
            destination: a path on this computer; a directory (existing, or with a slash at the end) takes the file's
                own name.
            recursive: NAME is a directory; what is in it goes into DESTINATION.
            force: replace files with other content that are in the way.
            dryrun: only count.
            options: which files of a directory, how fast, how much.

        Raises:
            NotFound: there is no such name, or no replica is good.
            IsADirectory: it is a directory and ``recursive`` is not given.
            NotADirectory: it is a directory and a file is at DESTINATION.
            AlreadyExists: a file with other content is in the way.
            ChecksumMismatch: no replica has the right bytes; what was at DESTINATION is unchanged.
        """
        from cloudmesh.storage.transfer.filters import Filter
        from cloudmesh.vdir.download import Wanted, get, tree

        path, service = self._name(name)
        node, replicas = self._catalogue.lookup_with_replicas(path)
        chosen = Filter.from_options(options)
        work = self._work(options, dryrun=dryrun, to_disk=True)
        report = Report("get", dryrun=dryrun)
        wanted = Wanted(
            node,
            lambda: work.sources(node, self._those_on(service, node, replicas)),
            lambda disk: tree(path, service, disk, work, report, chosen=chosen, dryrun=dryrun),
        )
        get(wanted, destination, work, report, recursive=recursive, force=force, dryrun=dryrun)
        return report.ended()

    @reading
    def cat(self, name: VirtualFile) -> Iterator[bytes]:
        """Yield a file's bytes, from its best replica, or from the next where that fails, also in the middle.

        Raises:
            NotFound: there is no such name, or no replica is good.
            IsADirectory: it is a directory.
            ChecksumMismatch: the bytes are not those of this version; the last piece was not given.
        """
        with self.open(name) as reader:
            yield from reader

    def open(
        self, name: VirtualFile, start: int = 0, length: int | None = None, *, patience: float | None = None
    ) -> NameReader:
        """Open a file for reading, all of it or a range; close the reader.

        Args:
            name: virtual path; ``SERVICE:/path`` reads the replica on that service.
            start: first byte; a negative value counts from the end.
            length: bytes at most; None = to the end.
            patience: seconds without a byte after which the last replica is given up, too; None = as long as its
                service's own retries go on.

        Returns:
            a reader; its entry tells the content's size, time and SHA-256, and ``used`` the replicas that were read.
            Its bytes are as those of `cat`, but those of a range cannot be compared with a hash.

        Raises:
            NotFound, IsADirectory: as `cat`.
            StorageError: no replica gives the first bytes.
        """
        return self.find(name).open(start, length, patience=patience)

    @long
    def copy(
        self,
        dir_or_name: VirtualPath,
        *,
        to: ServiceNames,
        recursive: bool = False,
        force: bool = False,
        dryrun: bool = False,
        options: Selection = ALL_FILES,
    ) -> Report:
        """Duplicate a file or a tree onto further services, from its best replicas, each at its virtual path there.

        Args:
            dir_or_name: what to duplicate.
            to: services.
            recursive: it is a directory.
            force: replace foreign files that are in the way.
            dryrun: only count, and estimate what it costs to copy and to keep.
            options: which files of a directory, how fast, how much. Bytes are counted for each service.

        Raises:
            NotFound, IsADirectory, ConfigError: as `put`.
            AlreadyExists: a foreign file is in the way.
            Refused: a rule forbids it.
        """
        from cloudmesh.storage.transfer.filters import Filter
        from cloudmesh.vdir.duplicate import duplicate

        services = self._targets(to, dryrun=dryrun)
        chosen = Filter.from_options(options)
        work = self._work(options, dryrun=dryrun)
        report = Report("copy", dryrun=dryrun)
        files = self._files(self._catalogue.lookup(self._path(dir_or_name)), recursive=recursive, chosen=chosen)
        duplicate(files, services, work, report, force=force, dryrun=dryrun)
        return report.ended()

    @long
    @destructive
    def drop(
        self,
        dir_or_name: VirtualPath,
        *,
        from_: ServiceNames,
        recursive: bool = False,
        dryrun: bool = False,
        check: Callable[[NameInfo], None] | None = None,
    ) -> Report:
        """Take replicas away from services, with their files; never the last good one of a file.

        Another service is asked, right then, whether it has the content.

        Args:
            dir_or_name: a file or directory.
            from_: services.
            recursive: it is a directory.
            dryrun: only count.
            check: as of `delete`.

        Raises:
            NotFound, IsADirectory: as `put`.
            Refused: it is the last good replica, or was changed on the service.
            Unavailable: as of `delete`.
        """
        from cloudmesh.vdir.removal import drop

        path = self._path(dir_or_name)
        report = Report("drop", dryrun=dryrun)
        services = list(dict.fromkeys(from_))
        work = self._work(dryrun=dryrun)
        with self._checked(path, work, check):
            node = self._catalogue.lookup(path)
            files = self._files(node, recursive=recursive)
            if not node.is_directory:
                held = {one.service for one in self._catalogue.replicas_of([node])[node.id]}
                for service in services:
                    if service not in held:
                        raise NotFound(f"/{node.path} on {service}", "there is no such replica")
            else:  # a service that was taken out of the configuration may still have replicas in the catalogue
                known = {*self._services.names(), *(one.service for one in self._catalogue.totals(node.path).services)}
                for service in services:
                    if service not in known:
                        raise self._no_such_service(service)
            drop(files, services, work, report, dryrun=dryrun)
        return report.ended()

    @long
    def sync(
        self,
        dir_or_name: VirtualPath = "",
        *,
        conflict: str = "newest",
        accept_loss: bool = False,
        max_loss: str = "25%",
        dryrun: bool = False,
    ) -> SyncReport:
        """Compare every replica with what was last seen of it; bring the newest content everywhere, and mend the rest.

        Args:
            dir_or_name: a file or directory; the current directory where empty.
            conflict: who wins where others changed several replicas differently: ``newest``; ``keep-both``, where the
                others become names of their own; ``ask``; or a service, whose content wins where it has one of those,
                else the newest. What loses is kept as a version.
            accept_loss: believe a service that is empty, or has lost more than ``max_loss``.
            max_loss: a share such as 25%, or a number of files, of which at least 10 have to be missing.
            dryrun: change nothing, only tell, and estimate what it costs to copy and to keep.

        Returns:
            the counts; it has failed unless every replica was found, or made, good.

        Raises:
            NotFound: there is no such name.
            UsageError: ``conflict`` or ``max_loss`` makes no sense.
        """
        from cloudmesh.storage.transfer.options import DeletionLimit
        from cloudmesh.vdir.mending import mend
        from cloudmesh.vdir.pricing import Bill
        from cloudmesh.vdir.sync import Choices, sync

        known = ["newest", "keep-both", "ask", *self._services.names()]
        if conflict not in known:
            raise UsageError("--conflict", f"{conflict!r} is not allowed", f"allowed is one of {', '.join(known)}")
        try:
            limit = DeletionLimit.parse(max_loss)
        except ValueError:
            raise UsageError("--max-loss", f"{max_loss!r} is not allowed", "allowed is 25% or 1000") from None
        report = SyncReport("sync", dryrun=dryrun)
        node = self._catalogue.lookup(self._path(dir_or_name))
        choices = Choices(limit, conflict, accept_loss, dryrun)
        work = self._work(dryrun=dryrun)
        bill = Bill(work)
        sync(node, work, report, choices, self._prompt or TerminalPrompt(), bill)
        if not report.stopped:
            mend(lambda: self._files(node), work, report, bill, dryrun=dryrun)
        if dryrun:
            bill.write(report)
        return report.ended()

    @reading
    def history(self, name: VirtualFile) -> list[NameVersion]:
        """Return the content that a file has and those that it had and that were kept, the newest first.

        Raises:
            NotFound, IsADirectory: there is no such file.
        """
        from cloudmesh.vdir.history import history

        return history(*self._file(name), self._work())

    @long
    def restore(self, name: VirtualFile, version: Count) -> Report:
        """Make a kept content the newest version of a file, on all its services; the present content is kept.

        Args:
            name: the file.
            version: as `history` tells it.

        Raises:
            NotFound, IsADirectory: there is no such file, or no such version was kept.
            Refused: the file has this content already, or another process works on it.
            ChecksumMismatch: what was kept is damaged; nothing was changed.
        """
        from cloudmesh.vdir.history import restore

        node, _ = self._file(name)
        report = Report("restore")
        restore(node.path, version, self._work(), report)
        return report.ended()

    @long
    def verify(
        self,
        dir_or_name: VirtualPath = "",
        *,
        deep: bool = False,
        repair: bool = False,
        sample: SampleText | None = None,
        bwlimit: str | None = None,
        transactions: float | None = None,
    ) -> Verified:
        """Look at every replica of a file, or of all below a directory, and tell what is not good.

        Without ``deep`` presence and size are compared, from listings, and only what is suspicious is read. A run that
        was ended before its time goes on when it is asked for again.

        Args:
            dir_or_name: a file or directory; the current directory where empty.
            deep: read all bytes of every replica and compare their SHA-256; it is learnt where it was not known.
            repair: make good again what is bad, missing or out of date, from a good replica. What was changed on a
                service is left to `sync`.
            sample: look only at so many files; others every day.
            bwlimit: bytes a second, also by time of day: ``10M`` or ``08:00,1M 19:00,off``.
            transactions: requests a second to each service.

        Raises:
            NotFound: there is no such name.
        """
        from cloudmesh.vdir.sampling import chosen
        from cloudmesh.vdir.verification import Run
        from cloudmesh.vdir.verify import verify

        node = self._catalogue.lookup(self._path(dir_or_name))
        work = self._work(Selection(bwlimit=bwlimit, transactions=transactions), to_disk=True)
        run = Run(self._database, node, deep=deep, sample="" if sample is None else str(sample))
        files = self._files(node)
        if sample is not None:
            takes = chosen(sample, lambda: (one for one, _ in self._files(node)), run.started_ns)
            files = ((one, replicas) for one, replicas in files if takes(one))
        return verify(files, work, run, f"/{node.path}", deep=deep, repair=repair)

    @cached_property
    def rules(self) -> RulesApi:
        """The rules of directories, as ``vdir rules`` shows and sets them."""
        from cloudmesh.vdir.rules_api import RulesApi

        return RulesApi(self._work, self._path)

    # ---- what there is and why -----------------------------------------------------------------------------------

    @reading
    def status(self, dir_or_name: VirtualPath = "", *, check: bool = False) -> Status:
        """Return how a file's replicas, or all below a directory, stand.

        Args:
            dir_or_name: a file or directory; the current directory where empty.
            check: ask the services first; then what is not good is listed, and the command fails.

        Raises:
            NotFound: there is no such name.
        """
        from cloudmesh.vdir.status import directory_status, file_status, problems

        path = self._path(dir_or_name)
        wrong = problems(self._files(self._catalogue.lookup(path)), self._work()) if check else []
        node, replicas = self._catalogue.lookup_with_replicas(path)
        if node.is_directory:
            return directory_status(path, self._catalogue.totals(path), wrong, self._work())
        return file_status(node, replicas, wrong, self._work())

    @reading
    @quick
    def why(self, name: VirtualFile) -> list[Choice]:
        """Return all replicas of a file in the order in which they would be read, with what decides.

        Raises:
            NotFound, IsADirectory: there is no such file.
        """
        return self.find(name).choices

    def prefer(
        self, dir_or_name: VirtualPath, services: ServiceNames | None = None, *, rank: Names | None = None
    ) -> NameInfo:
        """Set what decides from where to read a file, or everything below a directory; nothing given takes both back.

        Args:
            dir_or_name: a file or directory.
            services: the best first; as they were where only ``rank`` is given.
            rank: which of ``set``, ``speed``, ``location`` and ``cost`` decide, the first one first; as it was where
                only ``services`` are given. Without any it is this order.

        Raises:
            NotFound: there is no such name.
            ConfigError: there is no such service.
            UsageError: there is no such ranker, or one is named twice.
        """
        from cloudmesh.vdir.placement import checked_rankers

        path = self._path(dir_or_name)
        chosen = self._named_services(services) if services else None
        self._catalogue.prefer(path, chosen, checked_rankers(rank) if rank else None)
        return name_info(*self._catalogue.lookup_with_replicas(path))

    @reading
    def url(self, name: VirtualFile, *, expires: Duration = 3600.0) -> str:
        """Return a URL that gives anyone this file without credentials, from the best replica whose service has such.

        Args:
            name: virtual path.
            expires: seconds that it is good for.

        Raises:
            NotFound, IsADirectory: there is no such file.
            Unsupported: no service that has it can do this.
        """
        return self.find(name).url(expires)

    # ---- the catalogue as a file ---------------------------------------------------------------------------------

    def export(self, file: PathHere, dir: VirtualPath = "/") -> Report | Iterator[str]:
        """Write the catalogue, or the part below a directory, into one text file (JSON Lines); ``-`` is the output.

        Raises:
            NotFound, NotADirectory: there is no such directory.
            InvalidName: FILE names no file.
            StorageError: it cannot be written.
        """
        from cloudmesh.vdir.exchange import export_lines, write_lines

        lines = export_lines(self._catalogue, self._path(dir))
        return (line.rstrip("\n") for line in lines) if file == "-" else write_lines(lines, file)

    def import_(self, file: PathHere, *, dryrun: bool = False) -> Imported:
        """Read an exported file back, all of it or nothing; doing it again changes nothing. ``-`` is the input.

        Args:
            file: from `export`.
            dryrun: only check and count.

        Raises:
            NotFound: there is no such file.
            StorageError: a line is wrong (the error names it); nothing was changed.
        """
        from cloudmesh.vdir.exchange import opened_lines

        with opened_lines(file) as (lines, source):
            return self.import_lines(lines, source, dryrun=dryrun)

    def import_lines(self, lines: Iterable[str], source: str = "import", *, dryrun: bool = False) -> Imported:
        """Read the lines of an exported file back, as `import_` does.

        Args:
            lines: with or without their ends.
            source: what they are from, for errors.
            dryrun: only check and count.

        Raises:
            StorageError: a line is wrong (the error names it); nothing was changed.
        """
        from cloudmesh.vdir.exchange import import_lines

        return import_lines(self._catalogue, lines, source, dryrun=dryrun)

    def close(self) -> None:
        """Remember how fast the services were and which failed, and close the connections."""
        services = self.__dict__.get("_services")
        database = self.__dict__.get("_database")
        if services is not None and database is not None and (opened := services.opened()):
            from cloudmesh.storage import speed

            speed.remember(database, opened)
        if "_health" in self.__dict__:
            self._health.remember()
        if services is not None and self._shared_services is None:
            services.close()
        if database is not None and self._shared_database is None:
            database.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    # ---- inside --------------------------------------------------------------------------------------------------

    @cached_property
    def _services(self) -> Services:
        return self._shared_services or Services(parallel=self._parallel)

    @cached_property
    def _database(self) -> Database:
        return self._shared_database or Database()

    @cached_property
    def _health(self) -> Health:
        from cloudmesh.storage.health import Health

        return Health(self._database)

    @cached_property
    def _catalogue(self) -> Catalogue:
        allowed = self._services.allowed
        return Catalogue(self._database) if allowed is None else VisibleCatalogue(self._database, allowed)

    def _work(self, options: Selection = ALL_FILES, *, dryrun: bool = False, to_disk: bool = False) -> Work:
        """Return what one command works with; of a dry run nobody hears, as nothing moves."""
        from cloudmesh.vdir.work import Work

        observer = nobody if dryrun else self._observer
        return Work(
            self._catalogue, self._services, self._parallel, observer, self._health, options, to_disk, self._stop
        )

    @contextmanager
    def _checked(self, path: str, work: Work, check: Callable[[NameInfo], None] | None) -> Iterator[None]:
        """Let nobody else work on a name for the block, if ``check`` agrees to what it is; without one nobody waits."""
        if check is None:
            yield
            return
        from cloudmesh.vdir.claiming import alone

        with alone(lambda: self._catalogue.lookup(path), work, "a removal") as (node, replicas):
            check(name_info(node, replicas))
            yield

    def _info(self, node: Node) -> NameInfo:
        return name_info(node, () if node.is_directory else self._catalogue.replicas_of([node])[node.id])

    def _path(self, text: str) -> str:
        return paths.resolve(text, cwd.current() if not text.startswith("/") else "")

    def _name(self, text: str) -> tuple[str, str | None]:
        """Return the virtual path, and the service where ``SERVICE:/path`` names one."""
        service, path = paths.split_location(text)
        if service is not None and service in self._services.names():
            return paths.resolve(path), service
        name = self._path(text)
        if service is not None and path.startswith("/"):
            try:
                self._catalogue.lookup(name)
            except NotFound:
                raise self._no_such_service(service) from None
        return name, None

    def _file(self, text: str) -> tuple[Node, tuple[Replica, ...]]:
        node, _, chosen = self._looked_up(text)
        return node, chosen

    def _looked_up(self, text: str) -> tuple[Node, tuple[Replica, ...], tuple[Replica, ...]]:
        """Return a file, all its replicas, and those that its name chooses: all, or that on one service."""
        path, service = self._name(text)
        node, replicas = self._catalogue.lookup_with_replicas(path)
        if node.is_directory:
            raise IsADirectory(f"/{path}")
        return node, replicas, self._those_on(service, node, replicas)

    @staticmethod
    def _those_on(service: str | None, node: Node, replicas: tuple[Replica, ...]) -> tuple[Replica, ...]:
        """Return a file's replicas, or the one on ``service``.

        Raises:
            NotFound: there is none on that service.
        """
        found = only(service, replicas)
        if service is not None and not found:
            raise NotFound(f"/{node.path} on {service}", "there is no such replica", f"cms vdir status /{node.path}")
        return found

    def _named_services(self, names: Sequence[str] | None) -> list[str]:
        """Return the services to work on, all of them configured."""
        wanted = list(dict.fromkeys(names or [self._services.default()]))
        known = self._services.names()
        for name in wanted:
            if name not in known:
                raise self._no_such_service(name)
        return wanted

    def _targets(self, names: Sequence[str] | None, *, dryrun: bool) -> list[str]:
        """Return the services to write to, each opened: what is wrong with one is told once, and not file by file.

        A wrong passphrase of the vault would else be asked for, or tried for 1.5 s, with every file.
        """
        services = self._named_services(names)
        if not dryrun:
            for name in services:
                self._services.open(name)
        return services

    @staticmethod
    def _no_such_service(name: str) -> ConfigError:
        return ConfigError(name, "there is no such service", "cms storage config list names those there are")

    def _files(self, node: Node, *, recursive: bool = True, chosen: Filter | None = None) -> Files:
        """Yield the file, or all files below the directory that are chosen, with their replicas.

        Raises:
            IsADirectory: it is a directory and ``recursive`` is not given.
        """
        if node.is_directory and not recursive:
            raise IsADirectory(f"/{node.path}", hint="--recursive takes all that is in it")
        if not node.is_directory:
            return self._catalogue.with_replicas([node])
        files = (one for one in self._catalogue.walk(node.path) if not one.is_directory)
        if chosen is not None:
            from cloudmesh.vdir.download import includes

            files = (one for one in files if includes(chosen, node.path, one))
        return self._catalogue.with_replicas(files)

    def _is_directory(self, target: str, typed: str) -> bool:
        """Tell whether a file goes into ``target`` rather than getting that name."""
        if not target or typed.endswith("/") or not typed:
            return True
        try:
            return self._catalogue.lookup(target).is_directory
        except NotFound:
            return False
