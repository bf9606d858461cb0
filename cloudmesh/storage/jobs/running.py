"""A job being done in this process: it keeps the lease, counts into the row, writes the log, and hears of requests."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from cloudmesh.storage.errors import Refused, StorageError
from cloudmesh.storage.jobs.lease import Lease
from cloudmesh.storage.jobs.log import Log
from cloudmesh.storage.jobs.rows import WHEN_GONE
from cloudmesh.storage.output import human_size
from cloudmesh.storage.records import JobState
from cloudmesh.storage.transfer.events import Event, Observer
from cloudmesh.storage.transfer.report import Failure, Report
from cloudmesh.storage.transfer.totals import Snapshot, Totals

FAILURES = 100
"""So many are kept with the job; all are in its log."""

_BEAT_S = 1.0
_LOG_EVERY_S = 60.0


def counts(now: Snapshot) -> dict[str, Any]:
    """Return how far work has come, as the columns of a job's row tell it, but for failures."""
    return {
        "files_total": now.files_planned,
        "files_done": now.files_done,
        "files_skipped": now.files_skipped,
        "files_removed": now.files_removed,
        "bytes_total": now.bytes_planned,
        "bytes_done": now.bytes_done,
        "bytes_skipped": now.bytes_skipped,
        "bytes_removed": now.bytes_removed,
        "bytes_per_s": now.bytes_per_s,
    }


@dataclass
class Running:
    """What the work needs while it runs as a job.

    Attributes:
        lease: on the job.
        observer: hears of everything, after the job has.
        report: what the work did, set by whoever does it.
        result: what it returned or how it failed, as JSON can hold it, likewise.
    """

    lease: Lease
    observer: Observer
    report: Any = None
    result: Any = None
    _totals: Totals = field(default_factory=Totals)
    _failures: list[Failure] = field(default_factory=list)
    _written: int = 0
    _message: str = ""
    _requested: str = ""
    _lost: StorageError | None = None

    def __post_init__(self) -> None:
        self._stop = threading.Event()
        self._ended = threading.Event()
        self._log = Log(Path(self.lease.job.log))

    def observe(self, event: Event) -> None:
        """Take an event of the work."""
        self._totals(event)
        if event.kind == "failed":
            self._log.write(f"failed: {event.error}")
            self._message = event.error
            if len(self._failures) < FAILURES:
                self._failures.append(Failure(event.name, event.error))
        self.observer(event)

    def snapshot(self) -> Snapshot:
        """Return how far the work has come."""
        return self._totals.snapshot()

    def stop(self) -> bool:
        """Tell whether the work is to end: it was paused, cancelled or interrupted, or the lease may be another's."""
        return self._stop.is_set() or not self.lease.is_sure

    def interrupt(self) -> None:
        """End the work soon; it can be resumed. Safe in a signal handler."""
        self._stop.set()

    @contextmanager
    def kept(self) -> Iterator[None]:
        """Keep the lease while the block runs, and write how it ended; an exception in it fails the job.

        Raises:
            Refused: another took the lease meanwhile; nothing was written into the row.
        """
        job = self.lease.job
        self._log.write(f"started: {job.kind} {job.source} -> {job.destination}, process {job.pid} on {job.host}")
        heart = threading.Thread(target=self._beat, name="job", daemon=True)
        try:
            self._renew()
            heart.start()
            yield
        except BaseException as error:
            self._message = str(error) if isinstance(error, StorageError) else f"internal error: {type(error).__name__}"
            if isinstance(error, KeyboardInterrupt):
                self._message = "interrupted"
            self._end("interrupted" if isinstance(error, KeyboardInterrupt) else "failed", heart)
            raise
        self._end(self._state(), heart)

    def _state(self) -> JobState:
        report = self.report
        if getattr(report, "stopped", False):
            if not self._requested:
                self._message = "interrupted"
            return WHEN_GONE[self._requested]
        return "failed" if getattr(report, "failed", False) else "done"

    def _beat(self) -> None:
        every = min(_BEAT_S, self.lease.seconds / 6)
        logged = time.monotonic()
        while not self._ended.wait(every):
            try:
                self._renew()
            except Refused as error:
                self._lost = error
                self._stop.set()
                return
            except StorageError as error:  # the next beat may come through; if none does the lease is not sure
                self._log.write(f"the database cannot be written: {error}")
            if time.monotonic() - logged > _LOG_EVERY_S:
                logged = time.monotonic()
                self._log.write(self._so_far())

    def _renew(self) -> None:
        new = self._new_failures()
        self._requested = self.lease.renew(self._counts(), new)
        self._written += len(new)
        if self._requested:
            self._stop.set()

    def _end(self, state: JobState, heart: threading.Thread) -> None:
        self._ended.set()
        if heart.is_alive():
            heart.join()
        try:
            if self._lost is not None:
                raise self._lost
            counts = self._counts()
            if isinstance(self.report, Report):  # a failure without an event, such as a limit that was reached
                counts["errors"] = max(counts["errors"], self.report.errors)
                if self.report.failures and not self._message:
                    self._message = counts["message"] = self.report.failures[-1].error
            state = self.lease.end(state, counts, self._new_failures(), self.result)
            self._log.write(f"{state}: {self._so_far()}{f'; {self._message}' if self._message else ''}")
        except StorageError as error:
            self._log.write(f"ended: {error}")
            raise
        finally:
            self._log.close()

    def _new_failures(self) -> list[tuple[int, Failure]]:
        known = len(self._failures)
        return [(number, self._failures[number]) for number in range(self._written, known)]

    def _counts(self) -> dict[str, Any]:
        now = self._totals.snapshot()
        return counts(now) | {
            "errors": now.files_failed,
            "bytes_failed": now.bytes_failed,
            "message": self._message.encode("utf-8", "backslashreplace").decode("utf-8").replace("\0", "\\x00"),
        }

    def _so_far(self) -> str:
        now = self._totals.snapshot()
        return (
            f"{now.files_done} of {now.files_planned} files, {human_size(now.bytes_done)}, "
            f"{human_size(round(now.bytes_per_s))}/s, {now.files_skipped} skipped, {now.files_removed} removed, "
            f"{now.files_failed} failed"
        )
