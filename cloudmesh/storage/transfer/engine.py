"""Doing a plan: many small files at once, large ones in threads, removals last; what goes wrong does not stop the rest.

The plan is made in a thread of its own, so that listing and moving overlap. Small files go through `copy_small` in the
caller's thread; everything else (large files, comparisons that cost a request, empty directories, small files that
arrived damaged or were changed meanwhile) goes to worker threads. Whatever thread ends a step counts it, tells of it
and notes it in the journal, under one lock.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from threading import BoundedSemaphore, RLock
from typing import Literal

from cloudmesh.storage.abc import SMALL, Entry, StorageABC
from cloudmesh.storage.errors import (
    AlreadyExists,
    ChecksumMismatch,
    IsADirectory,
    NotADirectory,
    PreconditionFailed,
    Refused,
    SourceChanged,
    StorageError,
    internal_error,
)
from cloudmesh.storage.pool import threads_for
from cloudmesh.storage.providers.local import LocalStorage
from cloudmesh.storage.transfer.ahead import PATIENCE_S, Ahead
from cloudmesh.storage.transfer.breaker import Breaker
from cloudmesh.storage.transfer.copying import copy_file
from cloudmesh.storage.transfer.events import Event, Observer, nobody
from cloudmesh.storage.transfer.journal import Journal, mark
from cloudmesh.storage.transfer.options import NO_OPTIONS, TransferOptions
from cloudmesh.storage.transfer.plan import Action, Plan, Step
from cloudmesh.storage.transfer.report import Report
from cloudmesh.storage.transfer.same import Comparison
from cloudmesh.storage.transfer.small import SmallCopy, copy_small
from cloudmesh.storage.transfer.surplus import Backup, check_surplus, remove_surplus
from cloudmesh.storage.transfer.threads import Threads

_LOG = logging.getLogger(__name__)
_AHEAD = 2000
"""Steps that are planned, or handed out to the workers, before they can be done."""

_TRIES = 3
_LARGE = 64 * SMALL
_LARGE_AT_ONCE = 4
_FRESH_NS = 20_000_000
_BATCH = 500
_BUNDLE = 100
_NOTHING_TO_DO: dict[Action, Literal["skipped", "surplus"]] = {"skip": "skipped", "remove": "surplus"}

End = Entry | StorageError | Literal["copy", "skipped", "made", "surplus", "left"]
"""How a step ended: the new file, why there is none, or a word for what needs no more to be said.

``copy`` is what a dry run would do; ``made`` a directory; ``surplus`` is kept to be removed at the end; ``left`` was
not tried, because the run ends early.
"""


class _Ended(StorageError):
    """The run was ended while a file was being copied."""


@dataclass
class Run:
    """One plan being done, once.

    Attributes:
        plan: what to do; a `Plan`, or the steps alone.
        source: where the files are.
        destination: where they go.
        action: the verb, for the report.
        options: what the user asked for.
        journal: what is known and where it is written; needed to remove what only the destination has.
        backup: where files go instead of being replaced or removed.
        parallel: files under way at once in threads; measured default where None.
        dryrun: change nothing, only count.
        observer: hears of everything.
        stop: asked before each file; True ends the run after those under way.
    """

    plan: Plan | Iterable[Step]
    source: StorageABC
    destination: StorageABC
    action: str
    options: TransferOptions = NO_OPTIONS
    journal: Journal | None = None
    backup: Backup | None = None
    parallel: int | None = None
    dryrun: bool = False
    observer: Observer = nobody
    stop: Callable[[], bool] = bool

    def __post_init__(self) -> None:
        self._report = Report(self.action, dryrun=self.dryrun)
        self._tell = nobody if self.dryrun else self.observer
        self._comparison = Comparison.from_options(self.options)
        # what is skipped may also only be newer, or as long
        self._skips_what_is_same = not (self.options.update or self.options.size_only)
        self._breaker = Breaker()
        self._large = BoundedSemaphore(_LARGE_AT_ONCE)
        self._lock = RLock()
        self._working = 0
        self._begun_bytes = 0
        self._why_ended: StorageError | None = None
        self._plan_error: StorageError | None = None
        self._surplus = 0
        self._surplus_files: list[tuple[bytes, int]] = []
        self._interrupted = False
        # a mirror removes files that lie where directories have to be, and the other way round, but only at its end
        self._makes_way = self.options.delete and isinstance(self.plan, Plan) and not self.dryrun
        self._blocked: list[tuple[Step, StorageError]] = []
        # a copy on the service's own side is a call a file; on the disk that costs more than reading and writing
        same = self.source is self.destination and not self.source.immediate
        self._within = same and self.source.capabilities.server_copy
        # a file that was written to shortly before it is read may change again without its time telling
        self._settled_ns = time.time_ns() - max(_FRESH_NS, 2 * (self.source.capabilities.mtime_precision_ns or 0))

    def execute(self) -> Report:
        """Do it, and return the counts and what failed: single files, a listing, a removal that was refused."""
        with ExitStack() as stack:
            if self.journal is not None:
                stack.enter_context(self.journal)
            self._do(self._to_do(stack.enter_context(Ahead(self.plan, _AHEAD, _BUNDLE))))
            if self._why_ended is not None:
                self._report.fail("", self._why_ended)
            if isinstance(self.plan, Plan):
                for error in self.plan.unlisted:
                    self._report.fail(error.subject, error)
                    self._tell(Event("planned", error.subject))
                    self._tell(Event("failed", error.subject, 0, str(error)))
            way_made = False
            if self._plan_error is not None:
                self._report.fail(self._plan_error.subject, self._plan_error)
            elif self.options.delete and isinstance(self.plan, Plan) and self.journal is not None:
                way_made = self._remove_surplus(self.plan, self.journal)
            self._end_blocked(way_made)
        return self._report

    def _to_do(self, steps: Iterable[Step | None]) -> Iterator[Step | None]:
        """Yield the steps that cost anything, and count the others; end where the run must end."""
        try:
            for step in steps:
                if step is None:
                    yield None
                    continue
                if self._must_end():
                    break
                if step.action in _NOTHING_TO_DO:
                    self._ended(step, _NOTHING_TO_DO[step.action])
                elif step.action == "copy" and not self._may_begin(step):
                    break
                else:
                    if step.action != "make_dir" and self._tell is not nobody:
                        self._tell(Event("planned", self.source.location(step.source.path), step.source.size or 0))
                    yield step
        except StorageError as error:  # what is under way is not to be lost for it
            self._plan_error = error
        self._tell(Event("planned_all"))

    def _do(self, steps: Iterator[Step | None]) -> None:
        """Do the steps, each of which is then `_ended`."""
        threads = self.parallel or threads_for((self.source.settings.kind, self.destination.settings.kind), _LARGE)
        workers = Threads(threads, self._work)

        def ended(file: SmallCopy, result: Entry | StorageError) -> None:
            if isinstance(result, (ChecksumMismatch, PreconditionFailed, SourceChanged)):
                self._hand_over(workers, file.context)
            else:
                self._ended(file.context, result)

        try:
            small = self._small(steps, workers)
            for file, _, result in copy_small(small, self.source, [self.destination], ended):
                ended(file, result)
            workers.finish()
        except BaseException:
            self._interrupted = True
            if self.journal is not None:
                self.journal.write()
            workers.give_up()
            if isinstance(self.destination, LocalStorage):  # what is downloaded natively does not hear of it
                self.destination.drop_unfinished()
            raise

    # ---- handing out: in the thread that reads small files ----------------------------------------------------------

    def _small(self, steps: Iterable[Step | None], workers: Threads[Step]) -> Iterator[SmallCopy | None]:
        """Yield the small files to copy; give everything else to the workers."""
        for step in steps:
            if step is None:
                yield None
            elif step.action == "copy" and self._is_for_batch(step):
                yield SmallCopy(step.source, ((0, step.destination),), context=step)
            else:
                self._hand_over(workers, step)
                while self._working > _AHEAD:
                    yield None
                    time.sleep(PATIENCE_S)

    def _hand_over(self, workers: Threads[Step], step: Step) -> None:
        with self._lock:
            self._working += 1
        workers.submit(step)

    def _must_end(self) -> bool:
        """Tell whether no further step may be begun."""
        return self._is_given_up() or self._why_ended is not None

    def _is_given_up(self) -> bool:
        """Tell whether not even those steps may be begun that were handed out."""
        if self._breaker.tripped is not None:
            self._why_ended = Refused(
                "", f"given up, other files were not tried: {self._breaker.tripped.why}", "run it again to go on"
            )
            return True
        if self.stop():
            self._report.stopped = True
            return True
        return False

    def _may_begin(self, step: Step) -> bool:
        """Count a file that is to be copied; tell whether the user's limit leaves room for it."""
        size = step.source.size or 0
        limit = self.options.max_transfer
        if limit is None:
            return True
        with self._lock:
            if self._begun_bytes + size > limit:
                self._why_ended = Refused(
                    "--max-transfer", f"the limit of {limit} bytes is reached, other files are left"
                )
                return False
            self._begun_bytes += size
        return True

    def _is_for_batch(self, step: Step) -> bool:
        """Tell whether nothing but reading and writing is to be done for a small file."""
        if self.dryrun or self._within or step.source.size is None or step.source.size > SMALL:
            return False
        return step.replaces is None or not (self.options.immutable or self.backup)

    # ---- single files: in the workers' threads ----------------------------------------------------------------------

    def _work(self, step: Step) -> None:
        end: End = "left" if self._is_given_up() else self._tried(step)
        with self._lock:
            self._working -= 1
            if end != "left":
                self._ended(step, end)

    def _tried(self, step: Step) -> End:
        try:
            return self._by_itself(step)
        except _Ended:
            self._report.stopped = True
            return "left"
        except StorageError as error:
            return error
        except BaseException as error:  # told, not lost in the thread
            return internal_error(self.source.location(step.source.path), error)

    def _by_itself(self, step: Step) -> End:
        if step.action == "make_dir":
            if not self.dryrun:
                self.destination.make_dir(step.destination)
            return "made"
        if step.action == "compare" and step.replaces is not None:
            if self._comparison.skips(self.source, step.source, self.destination, step.replaces):
                return "skipped"
            if not self._may_begin(step):
                return "left"
        if step.replaces is not None and self.options.immutable:
            raise AlreadyExists(self.destination.location(step.destination), "it differs, and --immutable keeps it")
        if self.dryrun:
            return "copy"
        if step.replaces is not None and self.backup is not None:
            self.backup.keep(step.replaces.path)
        self._tell(Event("started", self.source.location(step.source.path), step.source.size or 0))
        if (step.source.size or _LARGE) < _LARGE:
            return self._copied(step)
        with self._large:
            return self._copied(step)

    def _copied(self, step: Step) -> Entry:
        """Copy a file, again if it arrived damaged or was changed meanwhile."""
        entry = step.source
        for left in reversed(range(_TRIES)):
            try:
                return copy_file(self.source, entry, self.destination, step.destination, observer=self._moved)
            except ChecksumMismatch:
                if not left:
                    raise
            except (PreconditionFailed, SourceChanged):
                if not left:
                    raise
                entry = self.source.stat(entry.path)
        raise AssertionError("the last try returns or raises")

    def _moved(self, event: Event) -> None:
        """Tell of bytes moved; or end the copying of a file here, between two pieces, where nobody waits for it."""
        if self._interrupted or self.stop():
            raise _Ended(event.name, "interrupted", "run it again to go on")
        self._tell(event)

    # ---- ending: in any thread --------------------------------------------------------------------------------------

    def _ended(self, step: Step, end: End) -> None:
        size = step.source.size or 0
        is_named = self._tell is not nobody or end == "copy" or isinstance(end, StorageError)
        name = self.source.location(step.source.path) if is_named else ""
        with self._lock:
            if isinstance(end, Entry):
                self._breaker.succeeded()
                self._report.done(size)
                self._know(step, end)
                if is_named:
                    self._tell(Event("done", name, size))
            elif self._makes_way and isinstance(end, (IsADirectory, NotADirectory)):
                self._blocked.append((step, end))
            elif isinstance(end, StorageError):
                self._breaker.failed(end)
                self._report.fail(name, end)
                if step.action == "make_dir":  # only those that fail are told of
                    self._tell(Event("planned", name))
                self._tell(Event("failed", name, size, str(end)))
            elif end == "copy":
                self._report.done(size)
                self._report.would("copy" if step.replaces is None else "replace", name, step.source.size)
            elif end == "made":
                self._report.directories += 1
            elif end == "surplus":
                self._keep_surplus(step)
            elif end == "skipped":
                self._report.skipped += 1
                if step.action == "skip":
                    self._tell(Event("planned", name, size))
                self._tell(Event("skipped", name, size))
                if step.replaces is not None and not step.is_known and self._skips_what_is_same:
                    self._know(step, step.replaces)

    def _know(self, step: Step, there: Entry) -> None:
        """Note in the journal that a file is the same on both sides, unless it might change without a trace."""
        if self.journal is None:
            return
        modified = step.source.mtime_ns or 0
        if self.source.immediate:  # there it may be set back, but not the time of the last change
            modified = max(modified, step.source.changed_ns or 0)
        if modified < self._settled_ns:
            self.journal.add(step.key, mark(self.source, step.source), mark(self.destination, there))

    # ---- what only the destination has ------------------------------------------------------------------------------

    def _keep_surplus(self, step: Step) -> None:
        self._surplus += not step.source.is_directory
        if self.dryrun and not step.source.is_directory:
            self._report.would("remove", self.destination.location(step.destination), step.source.size)
        self._surplus_files.append((step.key, step.source.size or 0))
        if len(self._surplus_files) >= _BATCH:
            self._write_surplus()

    def _write_surplus(self) -> None:
        if self.journal is not None and not self.dryrun:
            self.journal.add_surplus(self._surplus_files)
        self._surplus_files.clear()

    def _remove_surplus(self, plan: Plan, journal: Journal) -> bool:
        """Remove at the end what only the destination has, if all else went well; tell whether it did."""
        if self._report.stopped or self._why_ended is not None:  # the plan was not read to its end
            return False
        if self._report.failed:  # what is missing at the source may only not have been seen
            _LOG.warning("nothing was removed at the destination, because there were errors")
            return False
        try:
            check_surplus(plan, self.destination, self._surplus, self.options.deletion_limit)
        except Refused as error:
            self._report.fail(error.subject, error)
            return False
        if self.dryrun:
            self._report.removed = self._surplus
        else:
            self._write_surplus()
            remove_surplus(
                journal.surplus,
                plan.top,
                self.destination,
                self._report,
                backup=self.backup,
                observer=self._tell,
            )
            return True
        return False

    def _end_blocked(self, way_made: bool) -> None:
        """End the steps in whose way something lay: they are tried once more where it may have been removed."""
        self._makes_way = False
        for step, error in self._blocked:
            self._ended(step, self._tried(step) if way_made else error)
