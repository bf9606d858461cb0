"""What the client does itself, because it concerns this computer: its files, its standard input, its directory.

Each function here does one method of an API for somebody who asks a REST service for all else.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property, partial
from typing import TYPE_CHECKING, Any

from cloudmesh.cdir.exchange import Exchange
from cloudmesh.storage import paths
from cloudmesh.storage.errors import (
    AlreadyExists,
    ConfigError,
    IsADirectory,
    NotADirectory,
    NotFound,
    Refused,
    StorageError,
    Unsupported,
)
from cloudmesh.storage.transfer.events import Observer
from cloudmesh.storage.transfer.options import ALL_FILES, Selection
from cloudmesh.storage.transfer.report import Report
from cloudmesh.vdir import cwd

if TYPE_CHECKING:  # imported by the functions that use them: `cdir ls` has to be quick
    from cloudmesh.cdir.remote_names import RemoteNames
    from cloudmesh.cdir.remote_services import RemoteServices
    from cloudmesh.storage import Storage
    from cloudmesh.storage.records import JobEnd
    from cloudmesh.vdir.announcing import Announced, Expected
    from cloudmesh.vdir.options import PutOptions
    from cloudmesh.vdir.reading import NameReader
    from cloudmesh.vdir.records import Imported, NameInfo


@dataclass
class Here:
    """Whoever asks a REST service, on this computer.

    Attributes:
        exchange: with the service.
        observer: hears of the progress.
        made_with: values for the API's class.
        api: the API there.
    """

    exchange: Exchange
    observer: Observer
    made_with: Mapping[str, Any]
    api: Any

    @cached_property
    def names(self) -> RemoteNames:
        """The names there."""
        from cloudmesh.cdir.remote_names import RemoteNames

        return RemoteNames(self.exchange, self.api)

    @cached_property
    def services(self) -> RemoteServices:
        """The services there."""
        from cloudmesh.cdir.remote_services import RemoteServices

        return RemoteServices(self.exchange, self.made_with.get("parallel"))

    def path(self, text: str) -> str:
        """Return the virtual path, normalised, that was typed here."""
        return paths.resolve(text, cwd.current() if not text.startswith("/") else "")

    def work(self, options: Selection, *, dryrun: bool) -> Any:
        """Return what bringing files needs."""
        from cloudmesh.cdir.remote_names import RemoteWork
        from cloudmesh.storage.transfer.events import nobody

        observer = nobody if dryrun else self.observer
        return RemoteWork(self.names, self.services, self.made_with.get("parallel"), observer, options)

    @property
    def storage(self) -> Storage:
        """The services there, as those of this computer's transfers."""
        from cloudmesh.storage import Storage

        return Storage(**self.made_with, observer=self.observer, services=self.services)


# ---- names -----------------------------------------------------------------------------------------------------------


def get(
    here: Here,
    name: str,
    destination: str,
    *,
    recursive: bool = False,
    force: bool = False,
    dryrun: bool = False,
    options: Selection = ALL_FILES,
) -> Report:
    """`Vdir.get`: what is listed there is read by URL."""
    from cloudmesh.cdir.remote_names import node_of
    from cloudmesh.storage.transfer.filters import Filter
    from cloudmesh.vdir.download import Download, Wanted, includes
    from cloudmesh.vdir.download import get as bring

    path, service = _name(here, name)
    info = here.names.info(f"/{path}")
    chosen = Filter.from_options(options)
    work = here.work(options, dryrun=dryrun)
    report = Report("get", dryrun=dryrun)
    files = work.files(service)

    def below(disk: Any) -> Iterator[Download]:
        for one in here.api.ls(f"/{path}", recursive=True):
            node = node_of(one)
            target = paths.below(node.path, path)
            if not node.is_directory:
                if (service is None or service in one.services) and (chosen is None or includes(chosen, path, node)):
                    yield Download(node, [work.source(one, files)] if one.services else [], target)
            elif chosen is None and not dryrun:
                try:
                    disk.make_dir(target)
                except StorageError as error:
                    report.fail(disk.location(target), error)

    def sources() -> Sequence[Any]:
        if service is not None and service not in info.services:
            raise NotFound(f"/{path} on {service}", "there is no such replica", f"cms vdir status /{path}")
        return [work.source(info, files)] if info.services else []

    wanted = Wanted(node_of(info), sources, below)
    bring(wanted, destination, work, report, recursive=recursive, force=force, dryrun=dryrun)
    return report.ended()


def put(
    here: Here,
    source: str,
    dir_or_name: str = "",
    *,
    to: Sequence[str] | None = None,
    recursive: bool = False,
    force: bool = False,
    dryrun: bool = False,
    options: PutOptions | None = None,
) -> Report:
    """`Vdir.put`: files are announced, and sent where they are wanted."""
    from cloudmesh.cdir.sending import send
    from cloudmesh.vdir.options import PUT_ALL
    from cloudmesh.vdir.upload import found

    options = options or PUT_ALL
    work = here.work(options, dryrun=dryrun)
    report = Report("put", dryrun=dryrun)
    if to:
        here.names.announce([], to, force=force, dryrun=dryrun)  # a service that is not there is told once, and first
    target = here.path(dir_or_name)
    into = partial(_is_directory, here, target, dir_or_name)
    files = found(source, target, into, work, report, options, recursive=recursive, dryrun=dryrun)
    send(files, work, report, to, force=force, dryrun=dryrun)
    return report.ended()


def open_(here: Here, name: str, start: int = 0, length: int | None = None) -> NameReader:
    """`Vdir.open`."""
    from cloudmesh.cdir.remote_names import RemoteFiles, entry_of
    from cloudmesh.storage.layers import layered
    from cloudmesh.vdir.reading import NameReader

    path, service = _name(here, name)
    entry = entry_of(here.names.info(f"/{path}"))
    if entry.is_directory:
        raise IsADirectory(f"/{path}")
    if start < 0:
        if entry.size is None:
            raise Unsupported(f"/{path}", "its size is not known, so it cannot be read from the end")
        start = max(0, entry.size + start)
    files = layered(RemoteFiles(here.names, service, None))
    if (entry.size is not None and start >= entry.size) or length == 0:
        return NameReader(entry, iter(()))
    reader = files.open_read(entry.path, start=start, length=length, if_match=entry.etag)
    return NameReader(entry, iter(reader), reader.close)


def cat(here: Here, name: str) -> Iterator[bytes]:
    """`Vdir.cat`: a connection that breaks is made again, and read on from there."""
    with open_(here, name) as reader:
        yield from reader


def write(
    here: Here,
    name: str,
    content: Iterable[bytes],
    *,
    size: int | None = None,
    modified_ns: int | None = None,
    to: Sequence[str] | None = None,
    force: bool = True,
    report: Report | None = None,
    sha256: str | None = None,
    check: Callable[..., None] | None = None,
) -> NameInfo:
    """`Vdir.write`."""
    from cloudmesh.storage.abc import Content
    from cloudmesh.storage.json_values import from_json

    path = f"/{here.path(name)}"
    sent = Content.of_stream(content, size, modified_ns)
    conditions = None if check is None else _as_checked(here, path, check)
    answer = here.names.write(path, sent, to=to or (), force=force, report=True, sha256=sha256, conditions=conditions)
    told: Report = from_json("put", Report, answer)
    if report is not None:
        report.files, report.bytes = report.files + told.files, report.bytes + told.bytes
        report.skipped, report.errors = report.skipped + told.skipped, report.errors + told.errors
        report.failures += told.failures
    return here.names.info(path)


def _as_checked(here: Here, path: str, check: Callable[[NameInfo | None], None]) -> dict[str, str]:
    """Let ``check`` look at what has a name, and return the headers with which the service replaces nothing else."""
    try:
        now = here.names.info(path)
    except NotFound:
        check(None)
        return {"If-None-Match": "*"}
    check(now)
    if now.sha256 is None:
        raise Unsupported(path, "its SHA-256 is not known, so that nobody could tell a change", "vdir verify --deep")
    return {"If-Match": f'"{now.sha256}"'}


def info(here: Here, name: str) -> NameInfo:
    """`Vdir.info`."""
    return here.names.info(f"/{here.path(name)}")


def announce(
    here: Here,
    files: Sequence[Announced],
    *,
    to: Sequence[str] | None = None,
    force: bool = False,
    dryrun: bool = False,
) -> Expected:
    """`Vdir.announce`."""
    return here.names.announce(files, to, force=force, dryrun=dryrun)


def export(here: Here, file: str, dir: str = "/") -> Report | Iterator[str]:
    """`Vdir.export`: the file is on this computer."""
    from cloudmesh.vdir.exchange import write_lines

    lines: Iterator[str] = iter(here.api.asked("export", "-", dir))
    return lines if file == "-" else write_lines((f"{line}\n" for line in lines), file)


def import_(here: Here, file: str, *, dryrun: bool = False) -> Imported:
    """`Vdir.import_`: the file is on this computer."""
    from cloudmesh.vdir.exchange import opened_lines

    with opened_lines(file) as (lines, source):
        return here.names.import_lines(lines, source, dryrun=dryrun)


def import_lines(here: Here, lines: Iterable[str], source: str = "import", *, dryrun: bool = False) -> Imported:
    """`Vdir.import_lines`."""
    return here.names.import_lines(lines, source, dryrun=dryrun)


def cd(here: Here, dir: str = "/") -> str:
    """`Vdir.cd`: the current directory is that of this computer's shells."""
    path = here.path(dir)
    if path and here.names.info(f"/{path}").kind != "directory":
        raise NotADirectory(f"/{path}")
    cwd.change(path)
    return f"/{path}"


def pwd(here: Here) -> str:
    """`Vdir.pwd`."""
    return f"/{cwd.current()}"


def _name(here: Here, text: str) -> tuple[str, str | None]:
    """Return the virtual path, and the service where ``SERVICE:/path`` names one."""
    service, path = paths.split_location(text)
    if service is not None and service in here.services.names():
        return paths.resolve(path), service
    name = here.path(text)
    if service is not None and path.startswith("/"):
        try:
            here.names.info(f"/{name}")
        except NotFound:
            hint = "cms storage config list names those there are"
            raise ConfigError(service, "there is no such service", hint) from None
    return name, None


def _is_directory(here: Here, target: str, typed: str) -> bool:
    """Tell whether a file goes into ``target`` rather than getting that name."""
    if not target or typed.endswith("/") or not typed:
        return True
    with suppress(NotFound):
        return here.names.info(f"/{target}").kind == "directory"
    return False


# ---- services --------------------------------------------------------------------------------------------------------


def storage_put(here: Here, *places: str, **how: Any) -> Report:
    """`Storage.put`."""
    return here.storage.put(*places, **how)


def storage_get(here: Here, *places: str, **how: Any) -> Report:
    """`Storage.get`."""
    return here.storage.get(*places, **how)


def storage_sync(here: Here, source: str, destination: str, **how: Any) -> Any:
    """`Storage.sync`: the service does it where both sides are on services."""
    if here.services.is_location(source) and here.services.is_location(destination):
        return here.api.asked("sync", source, destination, **how)
    for option, value in (("--name", how.get("name")), ("--async", how.get("async_"))):
        if value:
            raise Unsupported(
                option, "a job of the service cannot use files of this computer", "without it, the same command goes on"
            )
    return here.storage.sync(source, destination, **how)


def run(here: Here, name: str | None = None) -> Iterator[JobEnd]:
    """`Storage.run`: the service does the jobs, in the background, and each is waited for."""
    from cloudmesh.cdir.following import Following
    from cloudmesh.storage.records import JobEnd

    jobs = here.api.jobs
    following = Following(here.exchange, here.observer, jobs)
    interrupted = [job.name for job in jobs.list() if job.state == "interrupted"]
    for one in reversed(interrupted) if name is None else [name]:
        try:
            list(jobs.resume(one))
        except (AlreadyExists, Refused):
            if name is not None:
                raise
            continue  # it was begun meanwhile, or concerns the files of another computer
        end = following.ended(one)
        yield JobEnd(one, *(end[key] for key in ("state", "files_done", "bytes_done", "errors", "message")))


def monitor(here: Here, name: str | None = None, *, interval: float = 1.0) -> Iterator[bytes]:
    """`Storage.monitor`: it draws what the service tells."""
    from cloudmesh.storage import Storage

    return Storage.monitor(here.api, name, interval=interval)


OURS: Mapping[tuple[str, str], Callable[..., Any]] = {
    ("vdir", "get"): get,
    ("vdir", "put"): put,
    ("vdir", "cat"): cat,
    ("vdir", "open"): open_,
    ("vdir", "write"): write,
    ("vdir", "info"): info,
    ("vdir", "announce"): announce,
    ("vdir", "export"): export,
    ("vdir", "import_"): import_,
    ("vdir", "import_lines"): import_lines,
    ("vdir", "cd"): cd,
    ("vdir", "pwd"): pwd,
    ("storage", "put"): storage_put,
    ("storage", "get"): storage_get,
    ("storage", "sync"): storage_sync,
    ("storage", "run"): run,
    ("storage", "monitor"): monitor,
}
"""By command and method: all that is not only asked for."""
