"""`sync`: every replica of every name is the same again, whoever changed one of them, and wherever."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass

from cloudmesh.storage.errors import Refused, StorageError, Unavailable
from cloudmesh.storage.prompt import Prompt
from cloudmesh.storage.transfer.events import Event
from cloudmesh.storage.transfer.options import DeletionLimit
from cloudmesh.vdir import kept, tombstones
from cloudmesh.vdir.claiming import claiming
from cloudmesh.vdir.clocks import Clocks
from cloudmesh.vdir.detect import Detection, ServiceCount, detect
from cloudmesh.vdir.nodes import Node
from cloudmesh.vdir.pricing import Bill
from cloudmesh.vdir.propagate import Propagation
from cloudmesh.vdir.records import SyncReport
from cloudmesh.vdir.renames import recognise
from cloudmesh.vdir.spool import Spool
from cloudmesh.vdir.work import BATCH, Work, is_over

_FEW = 10
"""Fewer lost replicas than this are never too many, unless the service is empty."""


@dataclass(frozen=True, slots=True)
class Choices:
    """What the user decides about a `sync`.

    Attributes:
        max_loss: how much of its replicas a service may have lost without being asked about.
        conflict: who wins where contents differ; as of `decide`.
        accept_loss: believe a service that has lost more.
        dryrun: only tell what would be done.
    """

    max_loss: DeletionLimit
    conflict: str = "newest"
    accept_loss: bool = False
    dryrun: bool = False


def sync(scope: Node, work: Work, report: SyncReport, choices: Choices, prompt: Prompt, bill: Bill) -> None:
    """Compare, then act: first all services are looked at, and only then anything is changed.

    Args:
        scope: a file or directory.
        work: the catalogue and the services.
        report: counts what was done, and what was not.
        choices: the user's.
        prompt: whom to ask about conflicts.
        bill: takes what a dry run would copy.
    """
    clocks = Clocks(work, exact=not choices.dryrun)
    with Spool() as spool, claiming(work, "vdir sync") as claims:
        found = detect(scope, work, spool, clocks)
        if is_over(work, report):
            return
        recognise(spool, work, found)
        report.checked += found.files
        report.skipped += found.unchanged
        away = _left_alone(found, work, report, choices)
        act = Propagation(work, claims, report, choices.conflict, prompt, away, bill, clocks, choices.dryrun)
        for batch in spool.batches(BATCH):
            if is_over(work, report):
                break
            act.run(batch)
        act.finish()
        work.observer(Event("planned_all"))
        if not choices.dryrun and not report.stopped:
            for name in found.services.keys() - away.keys():
                with suppress(StorageError):  # the next run does it
                    work.target(name).sweep()
            tombstones.settle(scope.path, work, report, away)
            kept.expire(scope.path, work, report, away)


def _left_alone(found: Detection, work: Work, report: SyncReport, choices: Choices) -> Mapping[str, StorageError]:
    """Return the services of which nothing is believed and on which nothing is done, each told once."""
    away: dict[str, StorageError] = {}
    for name, error in found.failed.items():
        away[name] = error
        report.fail(name, Unavailable(name, f"its replicas were not looked at: {error}", "the others went on"))
    for name, count in sorted(found.services.items()):
        if name not in away and not choices.accept_loss and _has_lost_much(name, count, work, choices):
            why = f"{count.missing} of {count.known} files are not there any more"
            hint = "is it the right place, and mounted? --accept-loss believes it"
            away[name] = Refused(name, why, hint)
            report.fail(name, away[name])
    return away


def _has_lost_much(name: str, count: ServiceCount, work: Work, choices: Choices) -> bool:
    if not count.missing:
        return False
    if count.missing >= _FEW and not choices.max_loss.allows(count.missing, count.known):
        return True
    return count.missing == count.known and not count.listed and work.is_empty(name)
