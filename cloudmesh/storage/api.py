"""`Storage`: the verbs of ``cms storage``, for programs. Each usage line of the command is one method here.

    from cloudmesh.storage import Storage

    with Storage("aws") as aws:
        aws.put("results/", "run7", recursive=True)
        for info in aws.list("run7"):
            print(info.name, info.size)

A place on a service is written ``SERVICE:PATH``; a path alone is on the service that this object is for. Where a
command has a side on this computer (SOURCE of `put`, DESTINATION of `get`), that is an ordinary path. Copying a
directory brings what is in it to the destination, as ``aws s3 cp --recursive`` and ``rclone copy`` do.
"""

from __future__ import annotations

import builtins
import os
import socket
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import suppress
from fnmatch import fnmatchcase
from functools import cached_property
from types import TracebackType
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Self

from cloudmesh.storage import paths
from cloudmesh.storage.abc import Entry
from cloudmesh.storage.binding import Count, Duration, Size, destructive, tells_when_empty
from cloudmesh.storage.disk import Disk, split_file
from cloudmesh.storage.errors import (
    AlreadyExists,
    IsADirectory,
    NotADirectory,
    Refused,
    StorageError,
    Unsupported,
    UsageError,
)
from cloudmesh.storage.meaning import (
    PathHere,
    Place,
    PlaceOrPathHere,
    ServiceName,
    at_the_terminal,
    long,
    reading,
)
from cloudmesh.storage.records import (
    Difference,
    FileInfo,
    Job,
    JobDetails,
    JobEnd,
    Measured,
    Room,
    TreeLine,
    VersionInfo,
    file_info,
    tree_line,
)
from cloudmesh.storage.removal import remove_tree
from cloudmesh.storage.services import Services
from cloudmesh.storage.transfer.compare import differences
from cloudmesh.storage.transfer.events import Observer, nobody
from cloudmesh.storage.transfer.moving import move, remove_emptied
from cloudmesh.storage.transfer.options import NO_OPTIONS, TransferOptions
from cloudmesh.storage.transfer.plan import Plan, Step, Tree
from cloudmesh.storage.transfer.report import Report
from cloudmesh.storage.transfer.same import Comparison
from cloudmesh.storage.transfer.transfer import Side, Transfer

if TYPE_CHECKING:  # imported when they are used: most commands need none of them
    from cloudmesh.storage.config_api import ConfigApi
    from cloudmesh.storage.database import Database
    from cloudmesh.storage.jobs.commands import Jobs
    from cloudmesh.storage.vault_api import VaultApi


_NAMED = 10
"""Directories that could not be listed named in one error at most."""


class Storage:
    """One service, and what can be done with its files.

    Args:
        storage: the service that a path without one is on; None takes ``cms set storage=NAME``, else the
            configuration's default, else ``local``.
        parallel: files under way at once; the measured default where None.
        observer: hears of the progress of long work.
        services: opened services to share with other objects; this object does not close them.
        database: likewise, where jobs are written down; the user's own where None.
        stop: asked before each file of a transfer; True ends it after those under way.
    """

    usage_exempt: ClassVar[frozenset[str]] = frozenset({"close"})
    usage_groups: ClassVar[Mapping[str, str]] = {
        "config": "cloudmesh.storage.config_api:ConfigApi",
        "vault": "cloudmesh.storage.vault_api:VaultApi",
        "jobs": "cloudmesh.storage.jobs.commands:Jobs",
    }

    def __init__(
        self,
        storage: ServiceName | None = None,
        parallel: Count | None = None,
        observer: Observer | None = None,
        services: Services | None = None,
        database: Any = None,  # a Database, whose module most commands need not load
        stop: Callable[[], bool] = bool,
    ) -> None:
        self._storage = storage
        self._parallel = parallel
        self._observer = observer or nobody
        self._shared = services
        self._shared_database = database
        self._stop = stop
        self._services = services or Services(parallel=parallel)

    # ---- files ---------------------------------------------------------------------------------------------------

    def create_dir(self, directory: Place) -> FileInfo:
        """Make a directory and its missing parents; nothing happens where it exists.

        Raises:
            NotADirectory: a file is in the way.
        """
        side = self._side(directory)
        side.service.make_dir(side.path)
        return file_info(side.service.name, Entry(side.path, is_directory=True))

    @reading
    def list(self, source: Place = "", *, recursive: bool = False, dir_only: bool = False) -> Iterator[FileInfo]:
        """Yield what is in a directory, or the file itself, in byte order of the names.

        Args:
            source: a directory or file; the service's root where empty.
            recursive: also what lies deeper.
            dir_only: directories alone.

        Raises:
            NotFound: nothing is there.
        """
        side = self._side(source)
        try:
            for entry in _scanned(side, recursive=recursive):
                if entry.is_directory or not dir_only:
                    yield file_info(side.service.name, entry, side.path)
        except NotADirectory:
            if not dir_only:
                yield file_info(side.service.name, side.service.stat(side.path), paths.parent(side.path))

    @reading
    def stat(self, source: Place) -> FileInfo:
        """Return all that the service tells of one file or directory.

        Raises:
            NotFound: nothing is there.
        """
        side = self._side(source)
        return file_info(side.service.name, side.service.stat(side.path))

    @reading
    def cat(self, source: Place) -> Iterator[bytes]:
        """Yield a file's bytes.

        Raises:
            NotFound, IsADirectory: there is no such file.
        """
        side = self._side(source)
        with side.service.open_read(side.path) as reader:
            yield from reader

    @reading
    def tree(self, directory: Place = "") -> Iterator[TreeLine]:
        """Yield everything below a directory, one line each, indented.

        Raises:
            NotFound, NotADirectory: there is no such directory.
        """
        side = self._side(directory)
        for entry in _scanned(side, recursive=True):
            yield tree_line(entry.path, side.path, entry.is_directory, entry.size)

    @reading
    def search(self, directory: Place, filename: str, *, recursive: bool = False) -> Iterator[FileInfo]:
        """Yield the files and directories whose name fits.

        Args:
            directory: where.
            filename: a name, or a pattern with ``*``, ``?`` and ``[…]``; case matters.
            recursive: also in the directories below.

        Raises:
            NotFound, NotADirectory: there is no such directory.
        """
        side = self._side(directory)
        for entry in _scanned(side, recursive=recursive):
            if entry.name == filename or fnmatchcase(entry.name, filename):
                yield file_info(side.service.name, entry, side.path)

    @long
    @destructive
    def delete(self, source: Place, *, recursive: bool = False, dryrun: bool = False) -> Report:
        """Remove a file, or with ``recursive`` a directory and all that is in it; the service's root itself stays.

        Raises:
            NotFound: nothing is there.
            IsADirectory: it is a directory and ``recursive`` is not given.
        """
        side = self._side(_given("SOURCE", source))
        return remove_tree(side.service, side.path, recursive=recursive, dryrun=dryrun, stop=self._stop)

    # ---- transfers -----------------------------------------------------------------------------------------------

    @long
    def put(
        self,
        source: PathHere,
        destination: Place,
        *,
        recursive: bool = False,
        dryrun: bool = False,
        options: TransferOptions = NO_OPTIONS,
    ) -> Report:
        """Upload a file or a directory. What is there with the same content is skipped, other files are replaced.

        Args:
            source: a path on this computer.
            destination: on a service; with a slash at the end, or if it is a directory, a file is put into it.
            recursive: SOURCE may be a directory; what is in it goes to DESTINATION.
            dryrun: only count, and estimate what the services charge for it.
            options: which files, what counts as the same, how fast.

        Raises:
            NotFound: SOURCE is not there.
            IsADirectory: SOURCE is a directory and ``recursive`` is not given.
            NotADirectory: a directory is to go where a file is.
            Refused: more would be removed than ``options`` allow.
        """
        sides = self._local(_given("SOURCE", source)), self._side(_given("DESTINATION", destination))
        return self._transfer("put", *sides, recursive, dryrun, options)

    @long
    def get(
        self,
        source: Place,
        destination: PathHere,
        *,
        recursive: bool = False,
        dryrun: bool = False,
        options: TransferOptions = NO_OPTIONS,
    ) -> Report:
        """Download a file or a directory; the counterpart of `put`, with the same errors."""
        sides = self._side(_given("SOURCE", source)), self._local(_given("DESTINATION", destination))
        return self._transfer("get", *sides, recursive, dryrun, options)

    @long
    def copy(
        self,
        source: Place,
        destination: Place,
        *,
        recursive: bool = False,
        dryrun: bool = False,
        options: TransferOptions = NO_OPTIONS,
    ) -> Report:
        """Copy between services, or within one on its own side where it can; otherwise as `put`."""
        sides = self._side(_given("SOURCE", source)), self._side(_given("DESTINATION", destination))
        return self._transfer("copy", *sides, recursive, dryrun, options)

    @long
    @destructive
    def move(
        self, source: Place, destination: Place, *, recursive: bool = False, force: bool = False, dryrun: bool = False
    ) -> Report:
        """Move a file or a directory, within a service or to another; the source is removed last.

        Args:
            source: on a service.
            destination: on a service.
            recursive: SOURCE may be a directory.
            force: replace a file that is in the way.
            dryrun: only count.

        Raises:
            AlreadyExists: something is at DESTINATION and ``force`` is not given; nothing was changed.
            and those of `put`.
        """
        origin, target, entry = self._resolved(self._side(source), self._side(destination), recursive)
        if origin.service is target.service and origin.path == target.path:
            return Report("move", skipped=1, dryrun=dryrun)
        if not dryrun and origin.service is target.service and _renamed(origin, target, entry, force):
            return Report("move", files=1, bytes=entry.size or 0).ended()
        report = move(
            _steps(origin, target, entry),
            origin.service,
            target.service,
            force=force,
            parallel=self._parallel,
            dryrun=dryrun,
            observer=self._observer,
            stop=self._stop,
        )
        if entry.is_directory and not dryrun and not report.failed:
            remove_emptied(origin.service, origin.path, report)
        return report.ended()

    @long
    def sync(
        self,
        source: PlaceOrPathHere,
        destination: PlaceOrPathHere,
        *,
        name: str | None = None,
        async_: bool = False,
        dryrun: bool = False,
        options: TransferOptions = NO_OPTIONS,
    ) -> Report | Job:
        """Bring everything that is in SOURCE, and new or different there, to DESTINATION.

        Nothing is removed, unless ``options`` say so.

        One side may be on this computer: SOURCE, where it names no service, and then DESTINATION is on one; or
        DESTINATION, where only SOURCE names a service.

        Args:
            source: a directory or a file.
            destination: a directory.
            name: makes it a job, which `jobs` shows, pauses and resumes, and of which only one runs at a time.
            async_: return at once, and let a process of its own do it, as a job; without a name, the same source and
                destination are the same job.
            dryrun: only count, and estimate what the services charge for it.
            options: which files, what counts as the same, how fast.

        Returns:
            the counts; with ``async_`` the job as it was begun.

        Raises:
            AlreadyExists: the same job is running, here or elsewhere.
            Refused: a job called ``name`` is not done, and is about other places or has other options.
            NotFound: SOURCE is not there.
        """
        if name is not None:
            _given("--name", name, "give it a name, or leave it out")
        if async_:
            self._services.configuration.vault.ask_nobody()
        origin, target = self._sync_sides(source, destination)
        if dryrun or (name is None and not async_):
            return self._transfer("sync", origin, target, True, dryrun, options)
        concerns_files_here = True
        if not self._services.is_location(source):
            source = os.path.abspath(os.path.expanduser(source))
        elif not self._services.is_location(destination):
            destination = os.path.abspath(os.path.expanduser(destination))
        else:
            concerns_files_here = False
        # what is wrong is better said here than found in a log
        one, other, entry = self._resolved(origin, target, True, options)
        Transfer("sync", one, other, entry, options).check()
        if not entry.is_directory and target.is_directory:
            destination = destination.rstrip("/") + "/"
        arguments = {
            "source": source,
            "destination": destination,
            "storage": self._storage or self._services.default(),
            "computer": socket.gethostname() if concerns_files_here else "",
            "options": options.as_dict(),
            "parallel": self._parallel,
        }
        lease = self.jobs.begin("sync", name, arguments, detached=async_)
        if async_:
            return self.jobs.start_detached(lease)
        from cloudmesh.storage.jobs.call import perform
        from cloudmesh.storage.jobs.running import Running

        report: Report = perform(Running(lease, self._observer), services=self._services)
        return report

    @reading
    @tells_when_empty("there are no syncs that are jobs")
    def sync_status(self, *, name: str | None = None) -> Iterator[Job | JobDetails]:
        """Yield the syncs, the newest first; with ``name`` that one.

        Raises:
            NotFound: there is no sync of this name.
        """
        if name is not None:
            yield self.jobs.show(name)
            return
        yield from (job for job in self.jobs.list() if job.kind == "sync")

    @at_the_terminal("it does the work in the foreground; jobs resume does it in the background")
    @tells_when_empty("no job was interrupted")
    def run(self, name: str | None = None) -> Iterator[JobEnd]:
        """Do jobs that were interrupted, one after the other, in this process; yield how each ended.

        Args:
            name: one job, which may also be paused, cancelled or failed; without it all that were interrupted.

        Raises:
            NotFound: there is no job of this name.
            AlreadyExists: it is running.
            Refused: it is done, or concerns the files of another computer.
        """
        from cloudmesh.storage.jobs.call import perform
        from cloudmesh.storage.jobs.running import Running

        for one in [name] if name is not None else self.jobs.interrupted():
            try:
                running = Running(self.jobs.begin_again(one), self._observer)
            except AlreadyExists:
                if name is not None:
                    raise
                continue  # another process was faster
            with suppress(StorageError):  # how it failed stands in its row
                perform(running)
            job = self.jobs.show(one)
            yield JobEnd(one, job.state, job.files_done, job.bytes_done, job.errors, job.message)

    @at_the_terminal("it draws on the terminal")
    def monitor(self, name: str | None = None, *, interval: Duration = 1.0) -> Iterator[bytes]:
        """Show jobs until all have ended: a table on a terminal, else a line whenever something has changed.

        Args:
            name: that job alone.
            interval: seconds from one look to the next.

        Raises:
            NotFound: there is no job of this name.
        """
        from cloudmesh.storage.jobs import monitor

        def look() -> builtins.list[Job]:
            return [self.jobs.show(name)] if name is not None else [*self.jobs.list()]

        if sys.stdout.isatty():
            monitor.draw(look, interval)
        else:
            yield from monitor.lines(look, interval)

    @tells_when_empty("no job has ended that could be forgotten")
    def clean(self, *, older: Duration = 0.0, dryrun: bool = False) -> Iterator[Job]:
        """Forget the jobs that are done, failed or cancelled, with their logs, and yield them.

        Args:
            older: only those that ended at least so many seconds ago.
            dryrun: only yield them.
        """
        yield from self.jobs.clean(older, dryrun=dryrun)

    @reading
    def check(self, source: Place, destination: Place, *, deep: bool = False) -> Iterator[Difference]:
        """Yield where two directories, or two files, differ; nothing where they are the same.

        Args:
            source: SERVICE:PATH, or a path on this object's service.
            destination: likewise.
            deep: read and compare every byte; else sizes, times, and hashes that the services report.

        Raises:
            NotFound: one of them is not there.
        """
        one, other = self._side(source), self._side(destination)
        return differences(Tree(one.service, one.path), Tree(other.service, other.path), deep=deep)

    # ---- about a service -----------------------------------------------------------------------------------------

    def url(self, source: Place, *, expires: Duration = 3600.0, method: Literal["GET", "PUT"] = "GET") -> str:
        """Return a URL that gives anyone this one file, without credentials.

        Args:
            source: the file.
            expires: seconds that it is good for.
            method: ``GET`` to read the file, ``PUT`` to write it.

        Raises:
            NotFound, IsADirectory: there is no such file (GET).
            Unsupported: the service has no such URLs.
        """
        side = self._side(source)
        if method == "GET" and side.service.stat(side.path).is_directory:
            raise IsADirectory(str(side), hint="a URL is for one file")
        return side.service.presign(side.path, expires=int(expires), method=method)

    @reading
    def versions(self, source: Place) -> Iterator[VersionInfo]:
        """Return the versions that the service keeps of a file, the newest first.

        Raises:
            NotFound: there is no such file.
            Unsupported: the service keeps none.
        """
        side = self._side(source)
        for entry in side.service.versions(side.path):
            yield VersionInfo(entry.version, entry.size, entry.changed_ns, entry.etag)

    @reading
    def usage(self, directory: Place = "") -> Room:
        """Return how much the files of a directory take, and how much room the service has, in bytes.

        Raises:
            NotFound, NotADirectory: there is no such directory.
        """
        side = self._side(directory)
        files = taken = 0
        for entry in _scanned(side, recursive=True):
            if not entry.is_directory:
                files += 1
                taken += entry.size or 0
        total = used = free = None
        if side.service.capabilities.quota:
            room = side.service.usage()
            total, used, free = room.total, room.used, room.free
        return Room(side.service.name, side.path, files, taken, total, used, free)

    def measure(self, service: ServiceName | None = None, *, size: Size = 1 << 20) -> builtins.list[Measured]:
        """Measure how fast a service, or each of them, is and what its clock says; remember it, and use it again.

        Temporary files are written, read and removed. What is measured decides from where files are read, and how times
        of different services compare. A service that was out of use because it failed is used again if it works.

        Args:
            service: by its name; all that are configured where None.
            size: bytes of the file that is written and read; it is held in memory for each service.

        Raises:
            ConfigError: there is no such service.
            UsageError: so much is not held in memory.
        """
        from cloudmesh.storage.measuring import measure
        from cloudmesh.storage.registry import kinds

        configuration = self._services.configuration
        if service is not None:
            return measure([configuration.service(service).name], self._services, self._database, size)
        names = [one.name for one in configuration.services() if one.kind in kinds()]
        return measure(names, self._services, self._database, size)

    # ---- groups --------------------------------------------------------------------------------------------------

    @cached_property
    def config(self) -> ConfigApi:
        """The services' configuration: ``storage config …``."""
        from cloudmesh.storage.config_api import ConfigApi

        return ConfigApi()

    @cached_property
    def vault(self) -> VaultApi:
        """The secrets: ``storage vault …``."""
        from cloudmesh.storage.vault_api import VaultApi

        return VaultApi()

    @cached_property
    def jobs(self) -> Jobs:
        """The jobs: ``storage jobs …``."""
        from cloudmesh.storage.jobs.commands import Jobs

        return Jobs(lambda: self._database)

    @cached_property
    def _database(self) -> Database:
        from cloudmesh.storage.database import Database

        shared: Database | None = self._shared_database
        return Database() if shared is None else shared

    def close(self) -> None:
        """Close the connections."""
        if self._shared is None:
            self._services.close()
        if "_database" in self.__dict__ and self._shared_database is None:
            self._database.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    # ---- sides and steps -----------------------------------------------------------------------------------------

    def _side(self, text: str) -> Side:
        place = self._services.locate(text, self._storage)
        return Side(self._services.open(place.service), place.path, text.endswith("/") or not place.path)

    def _local(self, text: str) -> Side:
        disk, name = split_file(text)
        return Side(disk, name, text.endswith("/") or not name)

    def _sync_sides(self, source: str, destination: str) -> tuple[Side, Side]:
        _given("SOURCE", source)
        _given("DESTINATION", destination)
        if not self._services.is_location(source):
            if not self._services.is_location(destination) and self._names_no_service:
                raise UsageError(
                    "storage sync",
                    f"neither {source} nor {destination} names a service",
                    f"write local:{destination} for the built-in service, SERVICE:PATH, or --storage=SERVICE",
                )
            return self._local(source), self._side(destination)
        if self._services.is_location(destination):
            return self._side(source), self._side(destination)
        return self._side(source), self._local(destination)

    @property
    def _names_no_service(self) -> bool:
        """Whether a path without a service is only by default on the built-in one: nobody has chosen it."""
        return self._storage is None and self._services.default() == "local"

    def _resolved(
        self, origin: Side, target: Side, recursive: bool, options: TransferOptions = NO_OPTIONS
    ) -> tuple[Side, Side, Entry]:
        """Return both sides with their final paths, and what is at the source.

        Raises:
            as `put`; Refused where a directory would be copied into itself.
        """
        entry = origin.service.stat(origin.path)
        if entry.is_directory and not recursive:
            raise IsADirectory(str(origin), hint="--recursive takes all that is in it")
        if entry.is_directory and isinstance(origin.service, Disk):
            # a root of its own: links are then followed inside the directory alone, or as the options say
            origin = Side(Disk(str(origin), options.links), "", True)
        there = target.stat()
        if entry.is_directory:
            if there is not None and not there.is_directory:
                raise NotADirectory(str(target), "is a file; a directory cannot go there")
            inside = target.path == origin.path or paths.is_below(target.path, origin.path)
            if origin.service is target.service and inside and target.path != origin.path:
                raise Refused(str(target), "a directory cannot go into itself")
        elif target.is_directory or (there is not None and there.is_directory):
            target = Side(target.service, paths.join(target.path, paths.basename(origin.path)), False)
        return origin, target, entry

    def _transfer(
        self, action: str, origin: Side, target: Side, recursive: bool, dryrun: bool, options: TransferOptions
    ) -> Report:
        return Transfer(
            action,
            *self._resolved(origin, target, recursive, options),
            options,
            parallel=self._parallel,
            dryrun=dryrun,
            observer=self._observer,
            stop=self._stop,
        ).run()


def _scanned(side: Side, *, recursive: bool) -> Iterator[Entry]:
    """Yield what is in a directory as far as it can be listed.

    Raises:
        as `StorageABC.scan`; StorageError at the end, where directories below could not be listed.
    """
    unlisted: list[StorageError] = []
    yield from side.service.scan(side.path, recursive=recursive, on_error=lambda _, error: unlisted.append(error))
    if len(unlisted) > 1:
        some = "; ".join(f"{error.subject}: {error.why}" for error in unlisted[:_NAMED])
        more = "; …" if len(unlisted) > _NAMED else ""
        raise StorageError(str(side), f"{len(unlisted)} directories in it could not be listed: {some}{more}")
    for error in unlisted:
        raise error


def _given(name: str, text: str, hint: str = "write . for this directory, SERVICE: for a service's root") -> str:
    """Return what was typed; an empty text, such as an unset variable of a script, is no place.

    Raises:
        UsageError: it is empty.
    """
    if not text:
        raise UsageError(name, "is empty", hint)
    return text


def _steps(origin: Side, target: Side, entry: Entry) -> Iterable[Step]:
    """Return the steps of a move."""
    if entry.is_directory:
        return Plan(Tree(origin.service, origin.path), Tree(target.service, target.path), Comparison())
    return [Step("copy", b"", entry, target.path, target.stat())]


def _renamed(origin: Side, target: Side, entry: Entry, force: bool) -> bool:
    """Rename on the service's own side, where it can; a directory only to a name that is free.

    Raises:
        as `StorageABC.move_within`.
    """
    service = origin.service
    if not service.capabilities.server_move or (entry.is_directory and target.stat() is not None):
        return False
    try:
        service.move_within(origin.path, target.path, mode="overwrite" if force else "create")
    except AlreadyExists:
        raise AlreadyExists(str(target), hint="--force replaces what is there") from None
    except Unsupported:  # an object store renames files alone
        if not entry.is_directory:
            raise
        return False
    return True
