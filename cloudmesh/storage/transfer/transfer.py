"""One transfer from one place to another, as the user asked for it: its plan, its rules, its journal, its run."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass

from cloudmesh.storage import paths
from cloudmesh.storage.abc import Entry, StorageABC
from cloudmesh.storage.disk import Disk
from cloudmesh.storage.errors import NotFound, Refused, UsageError
from cloudmesh.storage.layers import Layer
from cloudmesh.storage.providers.local import LocalStorage
from cloudmesh.storage.transfer.engine import Run
from cloudmesh.storage.transfer.events import Observer, nobody
from cloudmesh.storage.transfer.filters import Filter
from cloudmesh.storage.transfer.journal import Journal
from cloudmesh.storage.transfer.limits import limit_run
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

    def check(self) -> None:
        """Find out what can be known to be wrong before anything is begun.

        Raises:
            StorageError: so it is.
        """
        self._backup()
        self._kind_of_run()
        if self.entry.is_directory:
            self._check_apart()
        elif self.options.delete:
            raise UsageError("--delete", f"{self.origin} is a file; only a directory can be mirrored")
        Filter.from_options(self.options)

    def run(self) -> Report:
        """Do it and return the counts, and what failed.

        Raises:
            StorageError: it could not begin, a listing failed, or it was but one file and that failed.
        """
        self.check()
        backup = self._backup()
        chosen = Filter.from_options(self.options)
        source, destination = limit_run(self.origin.service, self.target.service, self.options)
        journal: Journal | None = None
        plan: Plan | list[Step]
        if self.entry.is_directory:
            places = source.identity(self.origin.path), destination.identity(self.target.path)
            journal = Journal(*places, fixed=self.dryrun)
            plan = Plan(
                Tree(source, self.origin.path),
                Tree(destination, self.target.path),
                Comparison.from_options(self.options),
                chosen=chosen,
                journal=journal,
                mirror=self.options.delete,
            )
        else:
            plan = [self._step(chosen)]
        report = self._kind_of_run()(
            plan,
            source,
            destination,
            self.action,
            options=self.options,
            journal=journal,
            backup=backup,
            parallel=self.parallel,
            dryrun=self.dryrun,
            observer=self.observer,
            stop=self.stop,
        ).execute()
        if self.dryrun:
            report.cost_usd = estimate(source, destination, report.files, report.bytes, report.removed)
        return report.ended()

    def _kind_of_run(self) -> type[Run]:
        """Return the engine: this process, or a cluster; a dry run moves nothing and needs none.

        Raises:
            UsageError: one side can be reached from this computer alone.
        """
        if self.options.cluster is None:
            return Run
        for side in (self.origin, self.target):
            if isinstance(side.service, Disk):
                raise UsageError(
                    "--cluster",
                    f"{side} is on this computer, where the workers of a cluster cannot reach it",
                    "name a service; one of kind local may be a directory that all of them share",
                )
        if self.dryrun:
            return Run
        from cloudmesh.storage.transfer.cluster import ClusterRun

        return ClusterRun

    def _step(self, chosen: Filter | None) -> Step:
        """Return the step for one file: what is named by itself is copied, as cp does, unless a rule is given."""
        if chosen is not None and not chosen.includes(self.entry.name, self.entry):
            return Step("skip", b"", self.entry, self.target.path)
        existing = self.target.stat()
        rules = self.options.update or self.options.checksum or self.options.size_only or self.options.immutable
        asks = existing is not None and (self.action == "sync" or rules)
        return Step("compare" if asks else "copy", b"", self.entry, self.target.path, existing)

    def _check_apart(self) -> None:
        """Refuse a directory that would be copied into itself without end, or removed by its own mirror.

        Raises:
            Refused: so it is.
        """
        if _lies_in(self.target, self.origin):
            raise Refused(str(self.target), f"lies in {self.origin}; a directory cannot go into itself")
        if self.options.delete and _lies_in(self.origin, self.target):
            raise Refused(
                str(self.target), f"{self.origin} lies in it and would be removed with it", "name another directory"
            )

    def _backup(self) -> Backup | None:
        top = self.target.path if self.entry.is_directory else self.target.path.rpartition("/")[0]
        directory = self.options.backup_path(top)
        if directory is None:
            return None
        backup = Side(self.target.service, directory, True)
        if _lies_in(backup, self.origin) or _lies_in(self.origin, backup) or _is_same(backup, self.origin):
            raise UsageError(
                f"--backup-dir={directory}", f"overlaps the source {self.origin}, whose files it would replace"
            )
        return Backup(self.target.service, directory, top)


def _lies_in(inner: Side, outer: Side) -> bool:
    """Tell whether a place is below another, as far as one can tell without asking a service."""
    if inner.service is outer.service:
        return paths.is_below(inner.path, outer.path)
    one, other = _on_this_computer(inner), _on_this_computer(outer)
    return one is not None and other is not None and one.startswith(other.rstrip("/") + "/")


def _is_same(one: Side, other: Side) -> bool:
    """Tell whether two places are the same, as far as one can tell without asking a service."""
    if one.service is other.service:
        return one.path == other.path
    place = _on_this_computer(one)
    return place is not None and place == _on_this_computer(other)


def _on_this_computer(side: Side) -> str | None:
    """Return the real path of a place on this computer."""
    service = side.service
    while isinstance(service, Layer):
        service = service.inner
    if not isinstance(service, LocalStorage):
        return None
    return os.path.realpath(os.path.join(service.directory, side.path))
