"""What a `sync` would do, told and priced by its dry run."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import replace

from cloudmesh.vdir.conflicts import path_of_loser
from cloudmesh.vdir.decided import Decided, with_content
from cloudmesh.vdir.nodes import Node
from cloudmesh.vdir.pricing import Bill
from cloudmesh.vdir.records import SyncReport
from cloudmesh.vdir.sources import unreadable
from cloudmesh.vdir.work import Work, counting_unusable, refuse


def forecast(
    files: Sequence[Decided], work: Work, report: SyncReport, bill: Bill, conflict: str, away: Collection[str]
) -> None:
    """Count what would be done about files.

    Args:
        files: that were decided about.
        work: the catalogue and the services.
        report: of the dry run.
        bill: takes the copies.
        conflict: as of `decide`.
        away: services on which nothing is done.
    """
    for file in files:
        name, size = f"/{file.node.path}", file.node.size
        for one in file.observed:
            if one.is_renamed:
                report.renamed += 1
                report.would("rename", f"{one.service}:{one.known.path} to {one.now.path}", size)
        if file.failed:
            continue
        if file.decision.what == "delete":
            report.removed += 1
            report.would("remove", name, size)
        if file.decision.what == "renew":
            report.versions += 1
            report.conflicts += bool(file.decision.losers)
            _keep(file, work, report, bill, conflict, away)
        for _, keeping in file.outdated():
            bill.keep(keeping)
        if file.lacking:
            _copy(file, work, report, bill)


def _keep(file: Decided, work: Work, report: SyncReport, bill: Bill, conflict: str, away: Collection[str]) -> None:
    for ways in file.replaced(file.node.version, losers=conflict != "keep-both"):
        if ways:
            bill.keep(ways[0])
    if conflict != "keep-both":
        return
    for loser in file.decision.losers:
        one = file.that_hold(loser)[0]
        path, _ = path_of_loser(file.node, one, work)
        for service in sorted({each.service for each in file.observed} - set(away)):
            report.done(one.now.size)
            report.would("copy", f"/{path} on {service}", one.now.size)
            bill.add(work.open(one.service), service, one.now.size or 0)


def _copy(file: Decided, work: Work, report: SyncReport, bill: Bill) -> None:
    """Count the copies that make all replicas of a file good, from where it would be read."""
    node = _as_it_will_be(file)
    rows = [replace(one.now, state="available", version=node.version) for one in file.holders]
    with counting_unusable(node, work, report):
        sources = work.sources(node, rows)
        for one in file.lacking:
            if not sources:
                refuse(one.name, node.size, unreadable(node), work, report)
                continue
            report.done(node.size)
            report.would("copy" if one.entry is None else "replace", one.name, node.size)
            bill.add(sources[0].service, one.service, node.size or 0)


def _as_it_will_be(file: Decided) -> Node:
    winner = file.decision.winner
    if winner is None or winner.present:
        return file.node
    return with_content(file.node, file.holders[0], file.node.version)
