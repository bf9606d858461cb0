"""Doing a plan on a Dask cluster: the plan is made and everything is counted here, the files are moved by the workers.

Steps are handed out in batches, so many under way as keep all workers busy; the memory needed does not grow with the
tree. A batch comes back with the end of each of its steps, and only then is anything counted and noted in the journal:
what a lost worker had done already is done once more, or found to be done, and counted once. Files that have to be
compared first are so in batches of their own; those that differ come back and are then handed out to be copied, so that
``--max-transfer`` holds.
"""

from __future__ import annotations

import importlib.metadata
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from cloudmesh.storage.abc import StorageABC
from cloudmesh.storage.errors import StorageError, Unavailable
from cloudmesh.storage.local_files import translated
from cloudmesh.storage.presence import temporary_name
from cloudmesh.storage.transfer import batch
from cloudmesh.storage.transfer.batch import Ends, Moved, Order, Place, Unready, pack_step
from cloudmesh.storage.transfer.engine import Run
from cloudmesh.storage.transfer.events import Event
from cloudmesh.storage.transfer.options import TransferOptions
from cloudmesh.storage.transfer.plan import Step
from cloudmesh.storage.transfer.workers import Workers

if TYPE_CHECKING:
    from distributed import Future

NO_WORKERS_S = 30.0
"""Seconds that a cluster may be without any worker before the run is given up."""

_FILES = 500
_FIRST_FILES = 50
_BYTES = 256 * 1024 * 1024
_STEPS_UNDER_WAY = 40_000
_LOOK_S = 1.0
_WAIT_S = 0.1
_OF_WORKERS = ("checksum", "size_only", "update", "immutable", "backup_dir", "bwlimit", "transactions")
"""Options that say how a file is done; the others say which."""


@dataclass(slots=True)
class _Batch:
    """Steps that go to a worker together.

    Attributes:
        compares: whether they are only to be compared.
        steps: what is to be done.
        bytes: of their files.
        since: when the first came.
    """

    compares: bool
    steps: list[Step] = field(default_factory=list)
    bytes: int = 0
    since: float = field(default_factory=time.monotonic)


@dataclass
class ClusterRun(Run):
    """One plan being done by the workers of ``options.cluster``, once; for the rest see `Run`."""

    def __post_init__(self) -> None:
        super().__post_init__()
        self._under_way: dict[Future[Ends | Unready], int] = {}
        self._numbers: dict[int, _Batch] = {}
        self._gathered = {compares: _Batch(compares) for compares in (False, True)}
        self._handed_out = 0
        self._threads = 1
        self._looked = self._seen = time.monotonic()
        self._is_ending = False
        self._is_lost = False

    def _do(self, steps: Iterator[Step | None]) -> None:
        """Do the steps.

        Raises:
            StorageError: the cluster, or one of its workers, cannot be used; nothing was begun.
        """
        with ExitStack() as stack:
            self._workers = stack.enter_context(Workers(self.options.cluster or ""))
            self._workers.check_versions()
            source, one = stack.enter_context(_place(self.source))
            destination, other = stack.enter_context(_place(self.destination))
            self._markers = [marker for marker in (one, other) if marker is not None]
            self._settings = {service.name: service.settings for service in (self.source, self.destination)}
            workers = self._workers.threads()
            self._threads = max(1, sum(workers.values()))
            self._order = Order(
                self._workers.run,
                importlib.metadata.version(batch.DISTRIBUTION),
                source,
                destination,
                TransferOptions(**{name: getattr(self.options, name) for name in _OF_WORKERS}).as_dict(),
                "" if self.backup is None else self.backup.top,
                self.parallel,
                max(1, len(workers)),
            )
            self._workers.get_ready(self._order, self._settings)
            self._workers.listen(self._moved_by_workers)
            self._hand_out(steps)

    # ---- handing out ------------------------------------------------------------------------------------------------

    def _hand_out(self, steps: Iterable[Step | None]) -> None:
        """Hand all steps out, and take back how they ended."""
        for step in steps:
            if step is not None:
                self._gather(step)
            elif len(self._under_way) < self._threads:  # nothing to do is worse than a small batch
                self._submit_gathered(older_s=_LOOK_S)
            self._take_back(0.0)
            while len(self._under_way) >= 2 * self._threads and not self._is_lost:
                self._take_back(_WAIT_S)
            if self._is_ending:
                break
        self._submit_gathered()
        while self._under_way and not self._is_lost:
            self._take_back(_WAIT_S)
            self._submit_gathered()

    def _gather(self, step: Step) -> None:
        """Put a step into a batch, and hand that out where it is large enough."""
        gathered = self._gathered[step.action == "compare"]
        if not gathered.steps:
            gathered.since = time.monotonic()
        gathered.steps.append(step)
        gathered.bytes += step.source.size or 0
        # the first ones are small, so that all workers have something to do soon
        most = min(_FILES, _FIRST_FILES * (1 + self._handed_out // self._threads))
        if (
            len(gathered.steps) >= min(most, max(1, _STEPS_UNDER_WAY // (2 * self._threads)))
            or gathered.bytes >= _BYTES
        ):
            self._submit(gathered)

    def _submit_gathered(self, older_s: float = 0.0) -> None:
        for gathered in list(self._gathered.values()):
            if gathered.steps and not self._is_ending and time.monotonic() - gathered.since >= older_s:
                self._submit(gathered)

    def _submit(self, gathered: _Batch) -> None:
        if gathered is self._gathered[gathered.compares]:
            self._gathered[gathered.compares] = _Batch(gathered.compares)
        self._handed_out += 1
        packed = [pack_step(step) for step in gathered.steps]
        self._numbers[self._handed_out] = gathered
        future = self._workers.submit(self._order, self._handed_out, gathered.compares, packed)
        self._under_way[future] = self._handed_out

    # ---- taking back ------------------------------------------------------------------------------------------------

    def _take_back(self, seconds: float) -> None:
        """Count what has ended, waiting so long for the first; look after the workers now and then."""
        while (future := self._workers.ended(seconds)) is not None:
            seconds = 0.0
            self._count(future)
        if time.monotonic() - self._looked >= _LOOK_S:
            self._looked = time.monotonic()
            self._look_after()

    def _count(self, future: Future[Ends | Unready]) -> None:
        """Count how the steps of a batch have ended; hand those out again that were not tried."""
        try:
            answer = self._workers.answer(future)
        except Unavailable as error:
            self._give_up(error)
            return
        if answer is None:
            return
        done = self._numbers.pop(self._under_way.pop(future))
        left: list[Step] = []
        if isinstance(answer, StorageError):
            for step in done.steps:
                name = self.source.location(step.source.path)
                self._ended(step, StorageError(name, answer.why, answer.hint))
        elif isinstance(answer, Unready):
            left = done.steps
            self._make_ready(answer)
        else:
            left = self._count_ends(done, answer)
        if left and not self._is_ending:
            self._submit(_Batch(done.compares, left))

    def _moved_by_workers(self, number: int, moved: Sequence[Moved]) -> None:
        """Tell how far large files are; what comes after their batch has ended is dropped."""
        under_way = self._numbers.get(number)
        if under_way is None:
            return
        for place, is_new, size in moved:
            step = under_way.steps[place]
            name = self.source.location(step.source.path)
            if is_new:
                self._tell(Event("started", name, step.source.size or 0))
            self._tell(Event("moved", name, size))

    def _count_ends(self, done: _Batch, ends: Ends) -> list[Step]:
        """Count each step that was tried, and return the others."""
        left = dict(enumerate(done.steps))
        for place, end in ends:
            step = left.pop(place)
            if end == "copy":  # it differs
                step.action = "copy"
                if self._may_begin(step):
                    self._gather(step)
            else:
                self._ended(step, end)
        return list(left.values())

    def _make_ready(self, unready: Unready) -> None:
        """Lend a worker that came later what it lacks; end the run soon where that does not help."""
        try:
            self._workers.lend(unready, self._settings)
        except StorageError as error:
            self._why_ended = error
            self._end_soon()

    # ---- ending before its time -------------------------------------------------------------------------------------

    def _look_after(self) -> None:
        """End the run where the user, a service or the cluster wants it."""
        for marker in self._markers:  # else it is taken for a leftover one day
            with suppress(OSError):
                marker.touch()
        if not self._is_ending and self._is_given_up():
            self._end_soon()
        if not self._workers.alive:
            self._give_up(self._workers.gone())
            return
        threads = self._workers.threads()
        if threads:
            self._seen = time.monotonic()
            self._threads = max(1, sum(threads.values()))
        elif time.monotonic() - self._seen > NO_WORKERS_S:
            self._give_up(
                Unavailable(
                    self._workers.address,
                    "the cluster has lost all its workers",
                    "start some, then run the same command again: it goes on",
                )
            )

    def _end_soon(self) -> None:
        """Hand nothing more out, and let what is under way end; what was not tried is left."""
        self._is_ending = True
        self._workers.tell(batch.stop)

    def _give_up(self, error: StorageError) -> None:
        """Wait for nothing any more."""
        self._why_ended = error
        self._is_ending = self._is_lost = True


@contextmanager
def _place(service: StorageABC) -> Iterator[tuple[Place, Path | None]]:
    """Give the sign by which workers know a service again, and the file that was made for it, if one was."""
    directory = batch.directory_of(service)
    if directory is None:
        yield Place(service.name, batch.digest_of_place(service.settings)), None
        return
    marker = directory / temporary_name()
    try:
        directory.mkdir(parents=True, exist_ok=True)
        marker.touch(exist_ok=False)
    except OSError:  # read-only
        with translated(service.name):
            sign = batch.sign_of_directory(directory)
        yield Place(service.name, sign), None
        return
    try:
        yield Place(service.name, marker.name), marker
    finally:
        with suppress(OSError):
            marker.unlink(missing_ok=True)
