"""`put` of files whose bytes are elsewhere: what is wanted of them, by what is told of them.

Whoever has the bytes announces files, learns which are wanted and where they go, and gives those to `Vdir.write`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any, Literal

from cloudmesh.storage.abc import Entry
from cloudmesh.storage.disk import Disk
from cloudmesh.storage.errors import StorageError, in_words
from cloudmesh.storage.transfer.report import Report
from cloudmesh.vdir.placing import Placing
from cloudmesh.vdir.pricing import Bill
from cloudmesh.vdir.upload import Batch, Upload
from cloudmesh.vdir.work import Allowance, Work


@dataclass(frozen=True, slots=True)
class Announced:
    """A file that somebody has.

    Attributes:
        path: virtual path that it shall have.
        size: bytes.
        modified_ns: modification time, ns since the epoch.
        sha256: of the bytes, lower-case hex; None where it was not computed.
    """

    path: str
    size: int
    modified_ns: int | None = None
    sha256: str | None = None


@dataclass(frozen=True, slots=True)
class Wanted:
    """What is wanted of a file that was announced.

    Attributes:
        path: its virtual path.
        wants: ``nothing``, its ``hash`` (announce it again with that), or its ``bytes``.
        services: those that the bytes are for.
        skipped: services that have them already.
        error: why it cannot be put: the error's name, subject, why and hint; None where it can.
    """

    path: str
    wants: Literal["nothing", "hash", "bytes"]
    services: list[str] = field(default_factory=list)
    skipped: list[str] = field(default_factory=list)
    error: dict[str, Any] | None = None


@dataclass(frozen=True, slots=True)
class Expected:
    """What is wanted of files that were announced together.

    Attributes:
        files: each of them, in their order.
        cost_usd: what the services are estimated to charge for bringing what is wanted; None where that is not known.
        monthly_usd: likewise, a month for keeping it.
    """

    files: list[Wanted]
    cost_usd: Decimal | None = None
    monthly_usd: Decimal | None = None


def expected(files: Sequence[Announced], placing: Placing, work: Work, *, force: bool, dryrun: bool) -> Expected:
    """Return what is wanted of files; nothing is changed.

    Args:
        files: with normalised paths, no path twice.
        placing: says where they go.
        work: the catalogue and the services.
        force: as of `upload`.
        dryrun: nothing will be sent: only what may be the same already has to be hashed, and it is priced.
    """
    here = Disk("/")  # stands for the disk that they are on, in prices and as nothing else
    uploads = [
        Upload(here, Entry(one.path, size=one.size, mtime_ns=one.modified_ns), one.path, one.sha256) for one in files
    ]
    report = Report("put")
    batch = _Announcement(uploads, placing, work, report, force=force)
    batch.plan(Allowance(work, report), dryrun=dryrun)
    bill = Bill(work)
    if dryrun:
        batch.price(bill)
        bill.write(report)
    return Expected([batch.wanted(one) for one in uploads], report.cost_usd, report.monthly_usd)


class _Announcement(Batch):
    """A batch that is planned and never run: nobody but its caller hears what becomes of its files."""

    def plan(self, allowance: Allowance, *, dryrun: bool) -> None:
        self._errors: dict[str, StorageError] = {}
        self._unhashed: set[str] = set()
        super().plan(allowance, dryrun=dryrun)

    def wanted(self, file: Upload) -> Wanted:
        """Return what is wanted of one of the files."""
        path = f"/{file.path}"
        if (error := self._errors.get(file.path)) is not None:
            return Wanted(path, "nothing", error=in_words(error))
        to = self._to[file.path]
        if file.path in self._unhashed:
            return Wanted(path, "hash", services=to)
        services = self._planned.get(file.path, [])
        return Wanted(path, "bytes" if services else "nothing", services, [one for one in to if one not in services])

    def _hash(self, files: Sequence[Upload]) -> None:
        self._hashes |= {file.path: file.sha256 for file in files if file.sha256 is not None}
        self._unhashed = {file.path for file in files if file.sha256 is None}

    def _refuse(self, file: Upload, error: StorageError) -> None:
        self._errors[file.path] = error
