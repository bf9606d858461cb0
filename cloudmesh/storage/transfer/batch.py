"""Batches of a plan, done by the workers of a cluster: what runs in a worker's process.

A worker opens both services once for each run, by their names, from its own configuration and vault. What it lacks may
be lent to it (`lend`); that is kept in memory until the run ends, and is never part of a task, which a scheduler keeps,
shows and logs. A batch is done by the same engine as any run; each of its steps comes back with its end.

Steps travel as plain tuples.
"""

from __future__ import annotations

import hashlib
import json
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cloudmesh.storage.abc import Entry, ServiceSettings, StorageABC
from cloudmesh.storage.config import Configuration
from cloudmesh.storage.errors import ConfigError, NotFound, StorageError
from cloudmesh.storage.layers import Layer
from cloudmesh.storage.providers.local import LocalStorage
from cloudmesh.storage.secrecy import without_secrets
from cloudmesh.storage.services import Services
from cloudmesh.storage.transfer.engine import End, Run
from cloudmesh.storage.transfer.events import Event
from cloudmesh.storage.transfer.journal import mark
from cloudmesh.storage.transfer.limits import limit_run
from cloudmesh.storage.transfer.options import TransferOptions
from cloudmesh.storage.transfer.plan import Action, Step
from cloudmesh.storage.transfer.surplus import Backup

if TYPE_CHECKING:
    from distributed import Worker

DISTRIBUTION = "cloudmesh-vdir"
TOPIC = "cdir"
"""Under which progress is told; one for all runs, as a scheduler never forgets a topic, only its older messages."""

_UNUSED_S = 3600.0
_TELL_S = 0.5
_WHERE = ("bucket", "endpoint_url", "url", "host", "port", "username")
"""Credentials that say which place a service is, and are no secrets."""

Moved = tuple[int, bool, int]
"""A large file by its place in the batch, whether it was begun (anew), and bytes moved since it was last told of."""

PackedStep = tuple[Action, bytes, Entry, str, Entry | None]


def pack_entry(entry: Entry) -> Entry:
    """Return an entry that can be pickled: one without hashes holds what cannot."""
    return entry._replace(hashes=dict(entry.hashes))


def pack_step(step: Step) -> PackedStep:
    """Return what a worker needs of a step."""
    replaces = None if step.replaces is None else pack_entry(step.replaces)
    return step.action, step.key, pack_entry(step.source), step.destination, replaces


# ---- which place a service is -------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Place:
    """One side of a run, and how a worker can tell that its service of this name is the same place.

    Attributes:
        service: its name.
        sign: for a directory of a file system the name of a file that was put into its root (where that cannot be
            done, its inode and time); for other services a digest of what their settings say about where they are.
    """

    service: str
    sign: str


def directory_of(service: StorageABC) -> Path | None:
    """Return the root of a service that is a directory of a file system; None for any other."""
    while isinstance(service, Layer):
        service = service.inner
    return Path(service.directory) if isinstance(service, LocalStorage) else None


def digest_of_place(settings: ServiceSettings) -> str:
    """Return a digest that differs where the kind, the address, the root or the user of a service does."""
    where = [without_secrets(str(settings.credentials.get(key, ""))).rstrip("/") for key in _WHERE]
    told = json.dumps([settings.kind, settings.root.strip("/"), *where])
    return hashlib.sha256(told.encode("utf-8", "surrogateescape")).hexdigest()


def sign_of_directory(directory: Path) -> str:
    """Return a sign of a directory into which nothing can be put.

    Raises:
        OSError: it cannot be looked at.
    """
    status = directory.stat()
    return f"{status.st_ino}-{status.st_mtime_ns}"


def _check_place(service: StorageABC, place: Place) -> None:
    """Refuse a service that has the right name and is another place.

    Raises:
        ConfigError: so it is.
    """
    directory = directory_of(service)
    if directory is None:
        if digest_of_place(service.settings) != place.sign:
            raise ConfigError(
                place.service,
                "on this worker the name means another place: kind, address, bucket, directory or user differ",
                "configure the same there",
            )
        return
    with suppress(OSError):
        if (directory / place.sign).exists() or sign_of_directory(directory) == place.sign:
            return
    raise ConfigError(
        place.service,
        f"on this worker {directory} is another directory",
        "a local service must lie on a file system that all of them share",
    )


# ---- a run, as a worker sees it -----------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Order:
    """What a worker must know of a run, the same for all its batches; it holds no secret.

    Attributes:
        run: unlike that of any other run.
        version: of this package, which must be the workers' too.
        source: where the files are.
        destination: where they go.
        options: those that matter here, as `TransferOptions.as_dict`.
        top: the directory below which files are replaced, for ``--backup-dir``.
        parallel: files under way at once in threads of one batch.
        workers: how many share the limits.
    """

    run: str
    version: str
    source: Place
    destination: Place
    options: Mapping[str, Any]
    top: str
    parallel: int | None
    workers: int


@dataclass(frozen=True, slots=True)
class Unready:
    """Why a worker can do nothing for a run.

    Attributes:
        worker: its address.
        lacks: services that it does not know, and that may be lent to it.
        error: what else is wrong.
    """

    worker: str
    lacks: tuple[str, ...] = ()
    error: StorageError | None = None


Ends = list[tuple[int, End]]
"""The steps of a batch that were tried, by their place in it, and how each ended."""


class _Lacks(Exception):
    """Services are not configured here."""


class _WithLent(Configuration):
    """The worker's own configuration, and services lent to it."""

    def __init__(self, lent: Mapping[str, ServiceSettings]) -> None:
        super().__init__()
        self._lent = lent

    def settings(self, name: str) -> ServiceSettings:
        return self._lent[name] if name in self._lent else super().settings(name)


@dataclass(slots=True)
class _Known:
    """A run that this process has to do with."""

    lent: dict[str, ServiceSettings] = field(default_factory=dict)
    lock: threading.Lock = field(default_factory=threading.Lock)
    services: Services | None = None
    sides: tuple[StorageABC, StorageABC] | None = None
    stopped: bool = False
    users: int = 0
    used: float = field(default_factory=time.monotonic)

    def open(self, order: Order) -> tuple[StorageABC, StorageABC]:
        """Return both sides, opened, tried and with this worker's share of the limits, once for all batches.

        Raises:
            _Lacks: they are not known here.
            StorageError: they cannot be used.
        """
        with self.lock:
            if self.sides is None:
                if order.version != version(DISTRIBUTION):
                    raise ConfigError(DISTRIBUTION, f"is {version(DISTRIBUTION)} here, not {order.version}")
                services = Services(_WithLent(self.lent), order.parallel)
                here = {*services.names(), *self.lent}
                lacking = sorted({place.service for place in (order.source, order.destination)} - here)
                if lacking:
                    raise _Lacks(*lacking)
                try:
                    for place in (order.source, order.destination):
                        service = services.open(place.service)
                        _check_place(service, place)
                        with suppress(NotFound):  # a root that the first write makes
                            service.probe()
                except BaseException:
                    services.close()
                    raise
                self.services = services
                self.sides = limit_run(
                    services.open(order.source.service),
                    services.open(order.destination.service),
                    TransferOptions.from_dict(order.options),
                    order.workers,
                )
            return self.sides

    def close(self) -> None:
        """Close the connections."""
        if self.services is not None:
            self.services.close()


_KNOWN: dict[str, _Known] = {}
_LOCK = threading.Lock()


@contextmanager
def _known(run: str) -> Iterator[_Known]:
    with _LOCK:
        known = _KNOWN.setdefault(run, _Known())
        known.users += 1
    try:
        yield known
    finally:
        with _LOCK:
            known.users -= 1
            known.used = time.monotonic()
            ended = known.users == 0 and _KNOWN.get(run) is not known
        if ended:  # forgotten while it was in use
            known.close()


def lend(run: str, services: Mapping[str, ServiceSettings]) -> None:
    """Keep settings, secrets included, for one run. Not to be called as a task: those are kept by the scheduler."""
    with _LOCK:
        _KNOWN.setdefault(run, _Known()).lent.update(services)


def stop(run: str) -> None:
    """Let the batches of a run end soon; what was not tried is not among their ends."""
    with _LOCK:
        if run in _KNOWN:
            _KNOWN[run].stopped = True


def forget(run: str) -> None:
    """Close what a run has opened here, and drop what was lent for it."""
    with _LOCK:
        known = _KNOWN.pop(run, None)
    if known is not None:
        known.stopped = True
        if not known.users:
            known.close()


def _forget_unused() -> None:
    """Forget runs whose caller has died."""
    with _LOCK:
        now = time.monotonic()
        old = [run for run, known in _KNOWN.items() if not known.users and now - known.used > _UNUSED_S]
    for run in old:
        forget(run)


# ---- tasks --------------------------------------------------------------------------------------------------------


def get_ready(order: Order) -> Unready | None:
    """Open and try both services; None where all is well."""
    _forget_unused()
    with _known(order.run) as known:
        return _opened(known, order)[1]


def do_batch(order: Order, number: int, compares: bool, packed: Sequence[PackedStep]) -> Ends | Unready:
    """Do the steps of a batch, and return how those ended that were tried.

    A batch may be done again, here or elsewhere, after its worker was lost.

    Args:
        order: what the run is.
        number: of the batch in the run.
        compares: only tell which files are the same (``skipped``) and which differ (``copy``).
        packed: the steps.
    """
    with _known(order.run) as known:
        sides, unready = _opened(known, order)
        if sides is None:
            return unready or Unready(_here())
        options = TransferOptions.from_dict(order.options)
        backup_path = options.backup_path(order.top)
        steps = [Step(*one) for one in packed]
        run = _BatchRun(
            steps,
            *sides,
            "copy",
            options=options,
            backup=None if backup_path is None else Backup(sides[1], backup_path, order.top),
            parallel=order.parallel,
            dryrun=compares,
            observer=_Progress(order.run, number, [sides[0].location(step.source.path) for step in steps]).observe,
            stop=lambda: known.stopped,
        )
        try:
            run.execute()
        except Exception as error:  # told for each file that it concerns, never lost
            for step in steps:
                run.ends.setdefault(step, _failure(error, sides[0].location(step.source.path)))
        ends = ((place, run.ends[step]) for place, step in enumerate(steps) if step in run.ends)
        return [(place, pack_entry(end) if isinstance(end, Entry) else end) for place, end in ends]


def _opened(known: _Known, order: Order) -> tuple[tuple[StorageABC, StorageABC] | None, Unready | None]:
    try:
        return known.open(order), None
    except _Lacks as lacks:
        return None, Unready(_here(), lacks=lacks.args)
    except Exception as error:  # whatever it is, nothing can be done here
        return None, Unready(_here(), error=_failure(error, order.source.service))


def _failure(error: Exception, name: str) -> StorageError:
    return error if isinstance(error, StorageError) else StorageError(name, f"internal error: {type(error).__name__}")


def _worker() -> Worker:
    """Return the worker whose task the calling thread does."""
    from distributed import get_worker

    return get_worker()


def _here() -> str:
    return str(_worker().address)


class _Progress:
    """Tells the caller now and then how far the large files of a batch are.

    What is told, a list of `Moved` after the run and the batch's number, holds no names: not all can be sent this way.
    """

    def __init__(self, run: str, number: int, names: Sequence[str]) -> None:
        self._worker = _worker()
        self._run = run
        self._number = number
        self._places = {name: place for place, name in enumerate(names)}
        self._files: dict[int, tuple[bool, int]] = {}
        self._told = time.monotonic()
        self._lock = threading.Lock()

    def observe(self, event: Event) -> None:
        if event.kind not in ("started", "moved"):
            return
        with self._lock:
            place = self._places[event.name]
            is_new, moved = self._files.get(place, (False, 0))
            self._files[place] = (True, 0) if event.kind == "started" else (is_new, moved + event.size)
            if time.monotonic() - self._told >= _TELL_S:
                self._told = time.monotonic()
                told: list[Moved] = [(place, *file) for place, file in self._files.items()]
                self._files.clear()
                self._worker.log_event(TOPIC, (self._run, self._number, told))


class _BatchRun(Run):
    """A run that keeps the end of each step."""

    def __post_init__(self) -> None:
        super().__post_init__()
        self.ends: dict[Step, End] = {}

    def _ended(self, step: Step, end: End) -> None:
        super()._ended(step, end)
        with self._lock:
            self.ends[step] = end

    def _by_itself(self, step: Step) -> End:
        """Do a step; with backups, see first what a lost worker has left of it.

        Its new file would else take the place of the old one in the backup.
        """
        if step.action != "copy" or step.replaces is None or self.backup is None or self.dryrun:
            return super()._by_itself(step)
        try:
            there = self.destination.stat(step.destination)
        except NotFound:  # it is in the backup already
            return super()._by_itself(Step("copy", step.key, step.source, step.destination))
        if mark(self.destination, there) == mark(self.destination, step.replaces):
            return super()._by_itself(step)
        again = Step("compare", step.key, step.source, step.destination, there)
        end = super()._by_itself(again)
        return there if end == "skipped" else end
