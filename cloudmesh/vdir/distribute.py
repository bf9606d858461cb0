"""Bringing the content of names to services, so that whatever dies halfway, doing it again completes it.

Every copy is written down before the first byte is sent, a new one as a replica in state ``copying``, one that
overwrites a file as an intent; and as ``available`` after the service has it.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import replace
from itertools import takewhile
from typing import TypeVar

from cloudmesh.storage.errors import AlreadyExists, ChecksumMismatch, NotFound, PreconditionFailed, StorageError
from cloudmesh.storage.paths import Location
from cloudmesh.storage.transfer.events import Event
from cloudmesh.storage.transfer.report import Report
from cloudmesh.vdir.claiming import Claimed, claimed, left_out
from cloudmesh.vdir.claims import Claims
from cloudmesh.vdir.copies import Copy
from cloudmesh.vdir.kept import keep, outdated
from cloudmesh.vdir.making import make_many
from cloudmesh.vdir.nodes import Replica
from cloudmesh.vdir.records import is_good
from cloudmesh.vdir.unseen import keep_unseen
from cloudmesh.vdir.work import BATCH, Allowance, Work, is_over

_BATCH_BYTES = 4 << 30
_WRITE_S = 2.0
"""What was made is written down at least so often: of what is not, every byte is read again after a crash."""

T = TypeVar("T")


def batches(items: Iterable[T], size: Callable[[T], int]) -> Iterator[list[T]]:
    """Yield items in lists of at most `BATCH` files and hardly more than 4 GiB: a batch is hashed before it is sent."""
    batch: list[T] = []
    total = 0
    for item in items:
        batch.append(item)
        total += size(item)
        if len(batch) == BATCH or total >= _BATCH_BYTES:
            yield batch
            batch, total = [], 0
    if batch:
        yield batch


def one_ahead(items: Iterable[T]) -> Iterator[T]:
    """Yield each item when the next one is there already: what is planned is known before it is done."""
    iterator = iter(items)
    for item in iterator:
        for following in iterator:
            yield item
            item = following
        yield item


def distribute(copies: Iterable[Copy], work: Work, report: Report, claims: Claims) -> None:
    """Plan and make copies, in batches under claims; failures are added to ``report`` and do not stop the rest."""
    allowance = Allowance(work, report)

    def planned() -> Iterator[list[Copy]]:
        affordable = takewhile(lambda copy: allowance.takes(copy.node.size or 0), copies)
        for batch in batches(affordable, lambda copy: copy.node.size or 0):
            for copy in batch:
                work.observer(Event("planned", copy.name, copy.node.size or 0))
            yield batch
        work.observer(Event("planned_all"))

    for batch in one_ahead(planned()):
        if is_over(work, report):
            break
        bring_claimed(batch, work, report, claims)


def bring_claimed(copies: Sequence[Copy], work: Work, report: Report, claims: Claims) -> None:
    """Make copies that were planned, those that are still wanted once their names are claimed."""
    with claimed({copy.node.id: copy.node for copy in copies}.values(), claims, work) as now:
        overwrite(list(_still_wanted(copies, now, work, report)), work, report)


def _still_wanted(copies: Sequence[Copy], now: Claimed, work: Work, report: Report) -> Iterator[Copy]:
    """Yield the copies that are still to be made, with what is known now; the others end as failed or skipped."""
    for copy in copies:
        node, replicas = now.files.get(copy.node.id, (copy.node, ()))
        error = now.refused.get(node.id)
        if error is None and node.version != copy.node.version:
            error = PreconditionFailed(f"/{node.path}", "has a new version meanwhile", "run the same command again")
        known = next((one for one in replicas if one.service == copy.service), None)
        if error is not None:
            _fail(copy, error, work, report)
        elif known is not None and is_good(node, known):
            report.skipped += 1
            work.observer(Event("skipped", copy.name, node.size or 0))
        else:
            yield replace(copy, node=node, known=known)


def overwrite(copies: Sequence[Copy], work: Work, report: Report) -> None:
    """Make copies as `bring` does, where older contents of the names may be in the way, or with ``force`` those that
    others wrote: each is kept first."""
    unkept = keep_unseen([copy for copy in copies if copy.force], work)
    able: list[Copy] = []
    for copy in copies:
        if (error := unkept.get((copy.node.id, copy.service))) is None:
            able.append(copy)
        else:
            _fail(copy, error, work, report)
    bring(keep_outdated(able, work, report), work, report)


def keep_outdated(copies: Sequence[Copy], work: Work, report: Report) -> list[Copy]:
    """Keep the older contents that copies are going to overwrite, and return those that may be made.

    The others end as failed. With ``force`` a file may go that others have changed.
    """
    ways = [(copy, None if copy.known is None else outdated(copy.node, copy.known)) for copy in copies]
    failed = keep([keeping for _, keeping in ways if keeping is not None], work)
    able: list[Copy] = []
    for copy, keeping in ways:
        error = None if keeping is None else failed.get(keeping.key)
        changed = isinstance(error, (ChecksumMismatch, PreconditionFailed))
        if error is None or isinstance(error, NotFound) or (changed and copy.force):
            able.append(copy)
        else:
            _fail(copy, error, work, report)
    return able


def bring(copies: Sequence[Copy], work: Work, report: Report) -> None:
    """Make copies that were planned; each ends as done or failed.

    A copy that fails leaves the replica as ``missing`` where the file is not there, so that it is healed later; a new
    one that fails because a foreign file is in the way is forgotten.
    """
    shared, left = begin(copies, work)
    made: list[tuple[Copy, Replica]] = []
    failed = [(copy, left[copy.node.id]) for copy in copies if copy.node.id in left]
    copies = [copy for copy in copies if copy.node.id not in left]

    def write_down() -> None:
        out = work.catalogue.update_replicas(replica for _, replica in made)
        for copy, _ in made:
            if copy.node.id in out:
                failed.append((copy, left_out(copy.node, out[copy.node.id])))
            else:
                report.done(copy.node.size)
                work.observer(Event("done", copy.name, copy.node.size or 0))
        made.clear()
        give_up(failed, work)
        for copy, error in failed:
            _fail(copy, error, work, report)
        failed.clear()

    written = time.monotonic()
    for copy, result in make_many(copies, work, shared):
        if isinstance(result, StorageError):
            failed.append((copy, result))
        else:
            made.append((copy, result))
        if time.monotonic() - written > _WRITE_S:
            write_down()
            written = time.monotonic()
    write_down()


def begin(copies: Sequence[Copy], work: Work) -> tuple[Collection[Location], dict[int, StorageError]]:
    """Write down what is going to be made.

    Returns:
        those of the files that other names use too; and the names of which nothing may be made, by id, each with why.
    """
    left = work.catalogue.update_replicas(copy.replica("copying") for copy in copies if not copy.replaces)
    left |= work.catalogue.add_intents([copy.intent for copy in copies if copy.replaces])
    used = work.catalogue.find_by_location(copy.location for copy in copies)
    shared = {copy.location for copy in copies if set(used.get(copy.location, ())) - {copy.node.path}}
    return shared, {copy.node.id: left_out(copy.node, left[copy.node.id]) for copy in copies if copy.node.id in left}


def _fail(copy: Copy, error: StorageError, work: Work, report: Report) -> None:
    report.fail(copy.name, error)
    work.observer(Event("failed", copy.name, copy.node.size or 0, str(error)))


def give_up(failed: Sequence[tuple[Copy, StorageError]], work: Work) -> None:
    """Write down that copies could not be made; what another process has made meanwhile stays as it is."""
    pending = [(copy, error) for copy, error in failed if not copy.replaces]
    now = work.catalogue.replicas_of([copy.node for copy, _ in pending])
    changed: list[Replica] = []
    gone: list[Replica] = []
    for copy, error in pending:
        if any(one.service == copy.service and is_good(copy.node, one) for one in now[copy.node.id]):
            continue
        if not isinstance(error, AlreadyExists):
            changed.append(copy.replica("missing"))
        elif copy.known is None:
            gone.append(copy.replica("missing"))
        else:
            changed.append(copy.replica("stale", 0))
    work.catalogue.update_replicas(changed)
    work.catalogue.remove_replicas(gone)
