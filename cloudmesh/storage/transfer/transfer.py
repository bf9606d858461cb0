"""One transfer from one place to another, as the user asked for it: its plan, its rules, its journal, its run."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from cloudmesh.storage.abc import Entry, StorageABC
from cloudmesh.storage.disk import Disk
from cloudmesh.storage.errors import NotFound, UsageError
from cloudmesh.storage.layers import TokenBucket, limited
from cloudmesh.storage.rate import Schedule
from cloudmesh.storage.transfer.engine import Run
from cloudmesh.storage.transfer.events import Observer, nobody
from cloudmesh.storage.transfer.filters import Filter
from cloudmesh.storage.transfer.journal import Journal
from cloudmesh.storage.transfer.options import NO_OPTIONS, TransferOptions
from cloudmesh.storage.transfer.plan import Plan, Step, Tree
from cloudmesh.storage.transfer.prices import estimate
from cloudmesh.storage.transfer.report import Report
from cloudmesh.storage.transfer.same import Comparison
from cloudmesh.storage.transfer.surplus import Backup


@dataclass(frozen=True, slots=True)
class Side:
    """One side of a transfer: a service (or this computer), a path on it, and whether it was typed as a directory."""

    service: StorageABC
    path: str
    is_directory: bool

    def __str__(self) -> str:
        return self.service.location(self.path)

    def stat(self) -> Entry | None:
        """Return what is there; None for nothing. Raises as `StorageABC.stat`."""
        try:
            return self.service.stat(self.path)
        except NotFound:
            return None


@dataclass(frozen=True)
class Transfer:
    """What is to be copied where, and how.

    Attributes:
        action: the verb: ``put``, ``get``, ``copy`` or ``sync``.
        origin: the source, which exists.
        target: where it goes; for a file the path of the new file.
        entry: what is at the source.
        options: what the user asked for.
        parallel: files under way at once in threads; measured default where None.
        dryrun: only count, and estimate what it costs.
        observer: hears of everything.
        stop: asked before each file; True ends the run after those under way.
    """

    action: str
    origin: Side
    target: Side
    entry: Entry
    options: TransferOptions = NO_OPTIONS
    parallel: int | None = None
    dryrun: bool = False
    observer: Observer = nobody
    stop: Callable[[], bool] = bool

    def run(self) -> Report:
        """Do it and return the counts, and what failed.

        Raises:
            StorageError: it could not begin, a listing failed, or it was but one file and that failed.
        """
        source, destination = self._limited()
        journal: Journal | None = None
        plan: Plan | list[Step]
        if self.entry.is_directory:
            journal = Journal(source.identity(self.origin.path), destination.identity(self.target.path))
            plan = Plan(
                Tree(source, self.origin.path),
                Tree(destination, self.target.path),
                Comparison.from_options(self.options),
                chosen=Filter.from_options(self.options),
                journal=journal,
                mirror=self.options.delete,
            )
        else:
            plan = [self._step()]
        report = Run(
            plan,
            source,
            destination,
            self.action,
            options=self.options,
            journal=journal,
            backup=self._backup(),
            parallel=self.parallel,
            dryrun=self.dryrun,
            observer=self.observer,
            stop=self.stop,
        ).execute()
        if self.dryrun:
            report.cost_usd = estimate(source, destination, report.files, report.bytes, report.removed)
        return report.ended()

    def _limited(self) -> tuple[StorageABC, StorageABC]:
        """Return both services, with the limits of this run around them.

        Bytes are counted once, on the way to the destination, or to this computer's disk from the source. The disk
        itself is never wrapped: files go to and from it natively.
        """
        options, source, destination = self.options, self.origin.service, self.target.service
        if options.bwlimit is None and options.transactions is None:
            return source, destination
        speed = None if options.bwlimit is None else TokenBucket(Schedule.parse(options.bwlimit))
        to_disk = isinstance(destination, Disk)
        if not isinstance(source, Disk):
            source = limited(source, speed if to_disk else None, options.transactions)
        if not to_disk:
            same = self.origin.service is self.target.service  # as one object, so that it copies on its own side
            destination = source if same else limited(destination, speed, options.transactions)
        return source, destination

    def _step(self) -> Step:
        """Return the step for one file: what is named by itself is copied, as cp does, unless a rule is given."""
        if self.options.delete:
            raise UsageError("--delete", f"{self.origin} is a file; only a directory can be mirrored")
        existing = self.target.stat()
        rules = self.options.update or self.options.checksum or self.options.size_only or self.options.immutable
        asks = existing is not None and (self.action == "sync" or rules)
        return Step("compare" if asks else "copy", b"", self.entry, self.target.path, existing)

    def _backup(self) -> Backup | None:
        top = self.target.path if self.entry.is_directory else self.target.path.rpartition("/")[0]
        directory = self.options.backup_path(top)
        return None if directory is None else Backup(self.target.service, directory, top)
