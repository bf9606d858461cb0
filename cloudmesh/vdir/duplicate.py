"""`copy`: names get replicas on further services."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import takewhile

from cloudmesh.storage.errors import Refused
from cloudmesh.storage.transfer.report import Report
from cloudmesh.vdir.claiming import claiming
from cloudmesh.vdir.copies import Copy
from cloudmesh.vdir.distribute import distribute
from cloudmesh.vdir.lookup import chunks
from cloudmesh.vdir.nodes import Files, Node, Replica
from cloudmesh.vdir.placing import Placing
from cloudmesh.vdir.pricing import Bill
from cloudmesh.vdir.records import is_good
from cloudmesh.vdir.sources import unreadable
from cloudmesh.vdir.work import BATCH, Allowance, Work, counting_unusable, refuse, skip


def duplicate(files: Files, to: Sequence[str], work: Work, report: Report, *, force: bool, dryrun: bool) -> None:
    """Copy names onto services from their best replicas, each to its virtual path there; count copies."""
    copies = _copies(files, Placing(work, to, dryrun=dryrun), to, work, report, force)
    if not dryrun:
        with claiming(work, "vdir copy") as claims:
            distribute(copies, work, report, claims)
        return
    allowance, bill = Allowance(work, report), Bill(work)
    for copy in takewhile(lambda copy: allowance.takes(copy.node.size or 0), copies):
        report.done(copy.node.size)
        bill.add(copy.sources[0].service, copy.service, copy.node.size or 0)
    bill.write(report)


def _copies(
    files: Files, placing: Placing, to: Sequence[str], work: Work, report: Report, force: bool
) -> Iterator[Copy]:
    for batch in chunks(files, BATCH):
        placing.look_up(node.path for node, _ in batch)
        for node, replicas in batch:
            try:
                placing.services(node.path, node, node.size, [one.service for one in replicas])
            except Refused as error:
                refuse(f"/{node.path}", node.size, error, work, report)
            else:
                yield from _copies_of(node, replicas, to, work, report, force)


def _copies_of(
    node: Node, replicas: Sequence[Replica], to: Sequence[str], work: Work, report: Report, force: bool
) -> Iterator[Copy]:
    known = {one.service: one for one in replicas}
    with counting_unusable(node, work, report):
        sources = work.sources(node, replicas)
        for service in to:
            copy = Copy(node, service, sources, known.get(service), force)
            if copy.known is not None and is_good(node, copy.known):
                report.skipped += 1
                skip(copy.name, node.size, work)
            elif not sources:
                refuse(copy.name, node.size, unreadable(node), work, report)
            else:
                yield copy
