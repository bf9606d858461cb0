"""What every kind of long work on the virtual directory needs."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import cached_property
from threading import Lock
from typing import Protocol

from cloudmesh.storage.abc import StorageABC
from cloudmesh.storage.errors import (
    ConfigError,
    IsADirectory,
    NotADirectory,
    PermissionDenied,
    Refused,
    StorageError,
    VaultError,
)
from cloudmesh.storage.health import Health
from cloudmesh.storage.layers import TokenBucket, limited
from cloudmesh.storage.pool import threads_for
from cloudmesh.storage.rate import Schedule
from cloudmesh.storage.services import Services
from cloudmesh.storage.speed import measured
from cloudmesh.storage.transfer.events import Event, Observer
from cloudmesh.storage.transfer.options import ALL_FILES, Selection
from cloudmesh.storage.transfer.report import Report
from cloudmesh.vdir.catalogue import Catalogue
from cloudmesh.vdir.guard import Guarded
from cloudmesh.vdir.knowledge import gather
from cloudmesh.vdir.nodes import NewFile, Node, Replica
from cloudmesh.vdir.offers import Offer, offers_of
from cloudmesh.vdir.placement import Knowledge, usable
from cloudmesh.vdir.sources import Source, source_of

BATCH = 500
"""Files that are claimed together, and whose intents are written in one transaction, at most."""


class Stoppable(Protocol):
    """A report that can tell that the work was ended before its time."""

    stopped: bool


class Names(Protocol):
    """What work on files of this computer needs of the virtual directory's names, wherever they are kept."""

    def make_dir(self, path: str, *, parents: bool, exist_ok: bool) -> object:
        """As `Catalogue.make_dir`."""

    def record_reading(self, replica: Replica, *, right: bool) -> None:
        """As `Catalogue.record_reading`."""


class ServiceNames(Protocol):
    """What it needs of the services."""

    def names(self) -> Sequence[str]:
        """As `Services.names`."""


class DiskWork(Protocol):
    """What bringing files to this computer and from it needs: of `Work`, or of who asks a service for the rest."""

    @property
    def catalogue(self) -> Names:
        """The names."""

    @property
    def services(self) -> ServiceNames:
        """The services."""

    @property
    def observer(self) -> Observer:
        """Hears of the progress."""

    @property
    def options(self) -> Selection:
        """How much."""

    @property
    def stop(self) -> Callable[[], bool]:
        """Asked before each file; True ends the work after those under way."""

    def threads(self, services: Iterable[str], mean_bytes: float = 0) -> int:
        """As `Work.threads`."""


@dataclass
class Work:
    """The catalogue and the services, and how to work with them, for one command.

    A service that fails too often in a row is given up, for reading and for writing apart: one that is full can still
    be read. One that is out of use since an earlier command is not written to at all; it is read from where nothing
    else has the file.

    Attributes:
        catalogue: the names.
        services: opens services.
        parallel: files under way at once; the default where None.
        observer: hears of the progress.
        health: knows which services are out of use, and hears how calls end.
        options: how fast.
        to_disk: whether files go to this computer: bytes are then counted where they are read, else where they are
            written.
        stop: asked before each file; True ends the work after those under way.
    """

    catalogue: Catalogue
    services: Services
    parallel: int | None
    observer: Observer
    health: Health
    options: Selection = ALL_FILES
    to_disk: bool = False
    stop: Callable[[], bool] = bool

    def __post_init__(self) -> None:
        limit = self.options.bwlimit
        self._speed = None if limit is None else TokenBucket(Schedule.parse(limit))
        self._lock = Lock()
        self._opened: dict[str, StorageABC] = {}
        self._guarded: dict[tuple[str, bool], StorageABC] = {}
        self._probed: set[str] = set()

    def open(self, service: str) -> StorageABC:
        """Return the service called ``service``, to read from it. Raises as `Services.open`."""
        return self._guard(service, writes=False)

    def target(self, service: str) -> StorageABC:
        """Return the service called ``service``, to write to it. Raises as `Services.open`."""
        return self._guard(service, writes=True)

    def _guard(self, name: str, *, writes: bool) -> StorageABC:
        service = self.services.open(name)
        outage = self.knowledge.outages.get(name) if writes else None
        with self._lock:
            if (name, writes) not in self._guarded:
                if name not in self._opened:
                    self._opened[name] = limited(service, None, self.options.transactions)
                speed = self._speed if writes is not self.to_disk else None
                self._guarded[name, writes] = Guarded(limited(self._opened[name], speed), self.health, outage)
            return self._guarded[name, writes]

    def keeps_versions(self, service: str) -> bool:
        """Tell whether a service keeps old contents by itself; it is asked once. Raises as `open`."""
        opened = self.open(service)
        with self._lock:
            is_known = service in self._probed
            self._probed.add(service)
        if not is_known and not opened.immediate:
            with suppress(StorageError):  # what cannot be asked keeps nothing that we know of
                opened.probe()
        return opened.capabilities.versions

    def is_empty(self, service: str) -> bool:
        """Tell whether no file at all is on a service, so that it may be another one, or not mounted."""
        try:
            return all(one.is_directory for one in self.open(service).scan("", recursive=True))
        except StorageError:
            return True

    @cached_property
    def knowledge(self) -> Knowledge:
        """What decides between replicas, as known when it is first asked."""
        return gather(self.services.configuration, self.catalogue.database, self.health)

    @cached_property
    def offers(self) -> Mapping[str, Offer]:
        """What the configured services offer for keeping replicas, by name, as known when it is first asked."""
        return offers_of(self.services.configuration, measured(self.catalogue.database, "write"))

    def threads(self, services: Iterable[str], mean_bytes: float = 0) -> int:
        """Return how many files to have under way at once, on these services and this computer's disk."""
        return self.parallel or threads_for((self.knowledge.kinds.get(one, "") for one in services), mean_bytes)

    def sources(self, node: Node, replicas: Sequence[Replica]) -> list[Source]:
        """Return the replicas that a file can be read from, the best first.

        Raises:
            ConfigError, PermissionDenied: as `open`, where none of their services can be opened.
        """
        found: list[Source] = []
        failure: ConfigError | PermissionDenied | None = None
        for one in usable(node, replicas, self.knowledge):
            try:
                found.append(source_of(self.open(one.service), node, one))
            except (ConfigError, PermissionDenied) as error:
                failure = error
        if failure is not None and not found:
            raise failure
        return found

    def register(self, files: Sequence[NewFile]) -> dict[str, StorageError]:
        """Add files to the catalogue; return by path those in whose way another name is: the others go on without."""
        try:
            self.catalogue.register(files)
        except (IsADirectory, NotADirectory):
            failed: dict[str, StorageError] = {}
            for one in files:
                try:
                    self.catalogue.register([one])
                except (IsADirectory, NotADirectory) as error:
                    failed[one.path] = error
            return failed
        return {}


def is_over(work: DiskWork, report: Stoppable) -> bool:
    """Tell whether the work is to end here, where nothing is half done; the report then says so."""
    if work.stop():
        report.stopped = True
    return report.stopped


class Allowance:
    """What may still be begun: so many bytes, and nothing once the work is to end.

    Args:
        work: with its options' ``max_transfer``, and what stops it.
        report: is told when there is no more.
    """

    def __init__(self, work: DiskWork, report: Report) -> None:
        self._limit = work.options.max_transfer
        self._stop = work.stop
        self._report = report
        self._begun = 0
        self.exhausted = False

    def takes(self, size: int) -> bool:
        """Count ``size`` bytes more and tell whether they may be begun; once they may not, nothing may any more."""
        self._begun += size
        if self._stop():
            self.exhausted = self._report.stopped = True
        if self._limit is not None and self._begun > self._limit and not self.exhausted:
            self.exhausted = True
            why = f"the limit of {self._limit} bytes is reached, other files are left"
            self._report.fail("", Refused("--max-transfer", why))
        return not self.exhausted


def refuse(name: str, size: int | None, error: StorageError, work: DiskWork, report: Report) -> None:
    """Count a file, or a copy of one, that is not even begun as failed."""
    report.fail(name, error)
    work.observer(Event("planned", name, size or 0))
    work.observer(Event("failed", name, size or 0, str(error)))


def skip(name: str, size: int | None, work: DiskWork) -> None:
    """Tell of a file, or a copy of one, that is as it should be already."""
    work.observer(Event("planned", name, size or 0))
    work.observer(Event("skipped", name, size or 0))


@contextmanager
def counting_unusable(node: Node, work: Work, report: Report) -> Iterator[None]:
    """Count a service that cannot be opened as the failure of one name, so that the other names go on.

    Raises:
        VaultError: as it is; else every name would ask for the passphrase again.
    """
    try:
        yield
    except VaultError:
        raise
    except (ConfigError, PermissionDenied) as error:
        refuse(f"/{node.path}", node.size, error, work, report)
