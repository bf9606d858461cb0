"""`put` of files of this computer to names behind a REST service: announced, and then sent where they are wanted."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from decimal import Decimal
from typing import Any

from cloudmesh.cdir.remote_names import RemoteWork
from cloudmesh.storage.abc import Content, Entry, counted
from cloudmesh.storage.errors import StorageError, from_words
from cloudmesh.storage.json_values import from_json
from cloudmesh.storage.pool import run_parallel
from cloudmesh.storage.transfer.copying import told_to
from cloudmesh.storage.transfer.events import Event
from cloudmesh.storage.transfer.report import Report
from cloudmesh.vdir.announcing import Announced, Expected, Wanted
from cloudmesh.vdir.copies import under_names
from cloudmesh.vdir.distribute import one_ahead
from cloudmesh.vdir.sources import sha256_of
from cloudmesh.vdir.upload import Upload
from cloudmesh.vdir.work import Allowance

_TOGETHER = 200
"""Files that are announced together: so many of the longest names fit into one request."""

_TRIES = 5
_FIRST_WAIT_S = 0.5


@dataclass(frozen=True, slots=True)
class Sending:
    """What is put, and how.

    Attributes:
        work: with the names there.
        report: counts.
        to: services; None where the rules there decide.
        force: replace other content.
        dryrun: send nothing, only count.
    """

    work: RemoteWork
    report: Report
    to: Sequence[str] | None
    force: bool
    dryrun: bool

    def put(self, files: Iterable[Upload]) -> None:
        """Put files; what fails is counted."""
        for batch in one_ahead(self._planned(files)):
            if self.dryrun:
                for file, wanted in batch:
                    for _ in wanted.services:
                        self.report.done(file.entry.size)
                continue
            for (file, wanted), result in run_parallel(self._send, batch, self.work.threads(())):
                self._ended(file, wanted, result)

    def _planned(self, files: Iterable[Upload]) -> Iterator[list[tuple[Upload, Wanted]]]:
        """Yield what is to be sent, in batches; what is there already, or cannot go there, is counted."""
        allowance = Allowance(self.work, self.report)
        for batch in _batches(files):
            wanted = []
            for file, one in self._asked(batch):
                if one.error is not None:
                    self._refused(file, from_words(**one.error))
                elif one.wants == "nothing":
                    self.report.skipped += 1
                    self._tell("planned", one, one.skipped, file.entry)
                    self._tell("skipped", one, one.skipped, file.entry)
                elif allowance.takes(len(one.services) * (file.entry.size or 0)):
                    self._tell("planned", one, [*one.services, *one.skipped], file.entry)
                    self._tell("skipped", one, one.skipped, file.entry)
                    wanted.append((file, one))
            yield wanted
            if allowance.exhausted:
                break
        self.work.observer(Event("planned_all"))

    def _asked(self, batch: Sequence[Upload]) -> Iterator[tuple[Upload, Wanted]]:
        """Yield files with what is wanted of them; those that cannot be read are counted."""
        unhashed: list[Upload] = []
        if len(batch) == 1 and not self.dryrun:
            unhashed += batch
        else:
            for file, one in zip(batch, self._announced(batch), strict=True):
                if one.wants == "hash":
                    unhashed.append(file)
                else:
                    yield file, one
        hashes: dict[str, str] = {}
        for file, result in run_parallel(lambda file: sha256_of(file.source), unhashed, self.work.threads(())):
            if isinstance(result, StorageError):
                self._refused(file, result, file.name)
            else:
                hashes[file.path] = result
        hashed = [replace(file, sha256=hashes[file.path]) for file in unhashed if file.path in hashes]
        if hashed:
            yield from zip(hashed, self._announced(hashed), strict=True)

    def _announced(self, files: Sequence[Upload]) -> list[Wanted]:
        told = [Announced(f"/{one.path}", one.entry.size or 0, one.entry.mtime_ns, one.sha256) for one in files]
        found: Expected = self.work.catalogue.announce(told, self.to, force=self.force, dryrun=self.dryrun)
        if self.dryrun:
            self.report.cost_usd = _sum(self.report.cost_usd, found.cost_usd)
            self.report.monthly_usd = _sum(self.report.monthly_usd, found.monthly_usd)
        return found.files

    def _send(self, task: tuple[Upload, Wanted]) -> Report:
        file, wanted = task
        names = _names(wanted)
        self._tell("started", wanted, wanted.services, file.entry)
        moved = told_to(under_names(names, self.work.observer), wanted.path)
        wait_s = _FIRST_WAIT_S
        for left in reversed(range(_TRIES)):
            try:
                return self._sent(file, wanted, moved)
            except StorageError as error:
                if not left or not error.retryable or self.work.stop():
                    raise
                time.sleep(error.retry_after or wait_s)
                wait_s *= 2
        raise AssertionError("the last try returns or raises")

    def _sent(self, file: Upload, wanted: Wanted, moved: Any) -> Report:
        entry = file.entry

        def pieces() -> Iterator[bytes]:
            with file.disk.open_read(entry.path, if_match=entry.etag) as reader:
                yield from counted(self.work.slowed(reader), moved)

        content = Content(pieces, entry.size, entry.mtime_ns)
        told = self.work.catalogue.write(
            wanted.path, content, to=self.to or (), force=self.force, report=True, sha256=file.sha256
        )
        found: Report = from_json("put", Report, told)
        return found

    def _ended(self, file: Upload, wanted: Wanted, result: Report | StorageError) -> None:
        size = file.entry.size or 0
        if isinstance(result, StorageError):
            self.report.fail(wanted.path, result)
            self._tell("failed", wanted, wanted.services, file.entry, str(result))
            return
        self.report.files += result.files
        self.report.bytes += result.bytes
        self.report.skipped += result.skipped
        failed = {one.name: one.error for one in result.failures}
        for failure in result.failures:
            self.report.errors += 1
            self.report.failures.append(failure)
        for name in _names(wanted):
            if name in failed:
                self.work.observer(Event("failed", name, size, failed[name]))
            else:
                self.work.observer(Event("done", name, size))

    def _refused(self, file: Upload, error: StorageError, name: str = "") -> None:
        size = file.entry.size or 0
        name = name or f"/{file.path}"
        self.report.fail(name, error)
        self.work.observer(Event("planned", name, size))
        self.work.observer(Event("failed", name, size, str(error)))

    def _tell(self, kind: Any, wanted: Wanted, services: Iterable[str], entry: Entry, error: str = "") -> None:
        for service in services:
            self.work.observer(Event(kind, f"{wanted.path} on {service}", entry.size or 0, error))


def _batches(files: Iterable[Upload]) -> Iterator[list[Upload]]:
    batch: list[Upload] = []
    for file in files:
        batch.append(file)
        if len(batch) == _TOGETHER:
            yield batch
            batch = []
    if batch:
        yield batch


def _names(wanted: Wanted) -> list[str]:
    """The copies as a person names them."""
    return [f"{wanted.path} on {service}" for service in wanted.services]


def _sum(one: Decimal | None, other: Decimal | None) -> Decimal | None:
    return None if one is None or other is None else one + other


def send(
    files: Iterable[Upload], work: RemoteWork, report: Report, to: Sequence[str] | None, *, force: bool, dryrun: bool
) -> None:
    """Put files to the names of a REST service; the arguments as of `cloudmesh.vdir.upload.upload`."""
    if dryrun:
        report.cost_usd = report.monthly_usd = Decimal(0)
    Sending(work, report, to, force, dryrun).put(files)
