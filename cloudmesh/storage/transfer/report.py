"""What a run did, as counts and as the list of what went wrong."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from decimal import Decimal
from typing import ClassVar, Literal, Self


@dataclass(frozen=True, slots=True)
class Failure:
    """A file that could not be done, and why, in one sentence."""

    columns: ClassVar[tuple[str, ...]] = ("error",)

    name: str
    error: str


PLAN_SHOWN = 1000
"""Files that a dry run names; of more it only counts, so that its memory does not grow with them."""


Action = Literal["copy", "replace", "remove", "rename"]


@dataclass(frozen=True, slots=True)
class Planned:
    """One thing that a dry run would do, and the file's size in bytes."""

    action: Action
    name: str
    size: int | None


@dataclass(slots=True)
class Report:
    """What a run over many files did, or with ``dryrun`` would do. False where there was nothing to do.

    Attributes:
        action: the verb, such as ``put``.
        files: files done.
        bytes: their size together.
        skipped: files that were as they should be already.
        removed: files that only the destination had.
        errors: number of files that could not be done.
        seconds: wall time.
        dryrun: nothing was changed; the counts are what would be done.
        cost_usd: what the services are estimated to charge for it, of a dry run; None where that is not known.
        monthly_usd: what they are estimated to charge a month for keeping what a dry run of the virtual directory would
            copy; None where that is not known.
        stopped: it was ended before its time; the same command goes on.
        plan: what a dry run would do, file by file, up to `PLAN_SHOWN`.
        failures: what could not be done, and why.
    """

    action: str
    files: int = 0
    bytes: int = 0
    skipped: int = 0
    removed: int = 0
    errors: int = 0
    seconds: float = 0.0
    dryrun: bool = False
    cost_usd: Decimal | None = None
    monthly_usd: Decimal | None = None
    stopped: bool = False
    plan: list[Planned] = field(default_factory=list)
    failures: list[Failure] = field(default_factory=list)
    directories: int = 0
    _last: Exception | None = field(default=None, repr=False)
    _start: float = field(default_factory=time.monotonic, repr=False)

    @property
    def columns(self) -> tuple[str, ...]:
        """What a table shows."""
        names = ("skipped", "removed", "errors", "dryrun", "stopped", "plan", "failures")
        telling = [name for name in names if getattr(self, name)]
        costs = [name for name in ("cost_usd", "monthly_usd") if getattr(self, name) is not None]
        if costs:
            place = telling.index("dryrun") + 1
            telling[place:place] = costs
        return ("action", "files", "bytes", "seconds", *telling)

    @property
    def failed(self) -> bool:
        """Whether the command's exit code is 1: something could not be done, or was left for the next time."""
        return self.errors > 0 or self.stopped

    @property
    def single(self) -> bool:
        """Whether no more than one file or empty directory is concerned: then nobody is asked."""
        return self.files + self.removed + self.errors + self.directories == 1

    def __bool__(self) -> bool:
        return bool(self.files or self.removed or self.errors or self.directories)

    def done(self, size: int | None) -> None:
        """Count one file of ``size`` bytes."""
        self.files += 1
        self.bytes += size or 0

    def would(self, action: Action, name: str, size: int | None) -> None:
        """Note one thing that a dry run would do."""
        if len(self.plan) < PLAN_SHOWN:
            self.plan.append(Planned(action, name, size))

    def fail(self, name: str, error: Exception) -> None:
        """Count and keep one failure."""
        self.errors += 1
        self.failures.append(Failure(name, str(error)))
        self._last = error

    def fail_as(self, part: Report) -> None:
        """Add the failures of a part of this run."""
        self.errors += part.errors
        self.failures += part.failures
        self._last = part._last or self._last

    @property
    def _did_anything(self) -> bool:
        return bool(self.files or self.skipped or self.removed or self.stopped)

    def ended(self) -> Self:
        """Return this report with its wall time; where but one thing was to be done and it failed, that is raised."""
        self.seconds = round(time.monotonic() - self._start, 3)
        if self._last is not None and self.errors == 1 and not self._did_anything:
            raise self._last
        return self

    def need_something(self) -> None:
        """Raise the last failure where nothing was done, however many there were: for a run about a single thing."""
        if self._last is not None and not self._did_anything:
            raise self._last
