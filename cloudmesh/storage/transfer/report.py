"""What a run did, as counts and as the list of what went wrong."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from decimal import Decimal
from typing import ClassVar


@dataclass(frozen=True, slots=True)
class Failure:
    """A file that could not be done, and why, in one sentence."""

    columns: ClassVar[tuple[str, ...]] = ("error",)

    name: str
    error: str


_TELLING = ("skipped", "removed", "errors", "dryrun", "cost_usd", "stopped", "failures")
"""What a table shows only where there is something to tell."""


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
        stopped: it was ended before its time; the same command goes on.
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
    stopped: bool = False
    failures: list[Failure] = field(default_factory=list)
    directories: int = 0
    _last: Exception | None = field(default=None, repr=False)
    _start: float = field(default_factory=time.monotonic, repr=False)

    @property
    def columns(self) -> tuple[str, ...]:
        """What a table shows."""
        telling = [
            name
            for name in ("skipped", "removed", "errors", "dryrun", "cost_usd", "stopped", "failures")
            if getattr(self, name)
        ]
        return ("action", "files", "bytes", "seconds", *telling)

    @property
    def failed(self) -> bool:
        """Whether the command's exit code is 1."""
        return self.errors > 0

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

    def fail(self, name: str, error: Exception) -> None:
        """Count and keep one failure."""
        self.errors += 1
        self.failures.append(Failure(name, str(error)))
        self._last = error

    def ended(self) -> Report:
        """Return this report with its wall time; where but one thing was to be done and it failed, that is raised."""
        self.seconds = round(time.monotonic() - self._start, 3)
        if self._last is not None and self.errors == 1 and not (self.files or self.skipped):
            raise self._last
        return self
