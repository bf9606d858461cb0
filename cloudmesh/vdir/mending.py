"""Making replicas be where the rules want them, and nowhere else."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

from cloudmesh.storage.transfer.report import Report
from cloudmesh.vdir.claiming import claiming
from cloudmesh.vdir.copies import Copy
from cloudmesh.vdir.distribute import distribute
from cloudmesh.vdir.lookup import chunks
from cloudmesh.vdir.nodes import Files, Node, Replica
from cloudmesh.vdir.pricing import Bill
from cloudmesh.vdir.records import SyncReport
from cloudmesh.vdir.removal import drop
from cloudmesh.vdir.wanted import missing_services, surplus_services
from cloudmesh.vdir.work import BATCH, Work, counting_unusable, is_over


def mend(files: Callable[[], Files], work: Work, report: SyncReport, bill: Bill, *, dryrun: bool) -> None:
    """Copy files to the services that the rules want, and then take away replicas that they forbid.

    A replica is taken away only where enough good ones are elsewhere, and one of those answers right then.

    Args:
        files: gives them, with their replicas as they are at that moment.
        work: the catalogue and the services.
        report: counts copies and removals.
        bill: takes what a dry run would copy.
        dryrun: only count.
    """
    if not work.catalogue.has_rules():
        return
    if dryrun:
        _forecast(files(), work, report, bill)
        return
    with claiming(work, "vdir sync") as claims:
        distribute(lacking(files(), work, report), work, report, claims)
    for batch in chunks(files(), BATCH):
        if is_over(work, report):
            break
        surplus: dict[tuple[str, ...], list[tuple[Node, tuple[Replica, ...]]]] = {}
        for node, replicas in batch:
            if unwanted := _surplus(node, replicas, work):
                surplus.setdefault(tuple(unwanted), []).append((node, replicas))
        for services, concerned in surplus.items():
            dropping = Report("drop")
            drop(concerned, services, work, dropping, dryrun=False)
            report.count_dropped(dropping)


def _surplus(node: Node, replicas: Sequence[Replica], work: Work) -> list[str]:
    return surplus_services(node, replicas, work.offers) if node.rules.not_on else []


def _forecast(files: Files, work: Work, report: SyncReport, bill: Bill) -> None:
    """Count what would be copied, and what would be taken away once that is there."""
    for node, replicas in files:
        made: list[Replica] = []
        for copy in lacking([(node, replicas)], work, report):
            report.done(node.size)
            report.would("copy", copy.name, node.size)
            bill.add(copy.sources[0].service, copy.service, node.size or 0)
            made.append(copy.replica("available"))
        for service in _surplus(node, [*replicas, *made], work):
            report.dropped += 1
            report.would("remove", f"/{node.path} on {service}", node.size)


def lacking(files: Files, work: Work, report: Report) -> Iterator[Copy]:
    """Yield the copies that the rules want, of files that can be read; others are told by who looked at them."""
    for node, replicas in files:
        wanted = [] if node.is_directory else missing_services(node, replicas, work.offers)
        if not wanted:
            continue
        with counting_unusable(node, work, report):
            if sources := work.sources(node, replicas):
                yield from (Copy(node, service, sources) for service in wanted)
