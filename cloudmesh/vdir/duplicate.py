"""`copy`: names get replicas on further services."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from cloudmesh.storage.transfer.report import Report
from cloudmesh.vdir.copies import Copy
from cloudmesh.vdir.distribute import distribute
from cloudmesh.vdir.nodes import Files
from cloudmesh.vdir.records import is_good
from cloudmesh.vdir.sources import unreadable
from cloudmesh.vdir.work import Work, counting_unusable


def duplicate(files: Files, to: Sequence[str], work: Work, report: Report, *, force: bool, dryrun: bool) -> None:
    """Copy names onto services from their best replicas, each to its virtual path there; count copies."""
    copies = _copies(files, to, work, report, force)
    if not dryrun:
        distribute(copies, work, report)
        return
    for copy in copies:
        report.done(copy.node.size)


def _copies(files: Files, to: Sequence[str], work: Work, report: Report, force: bool) -> Iterator[Copy]:
    for node, replicas in files:
        known = {one.service: one for one in replicas}
        with counting_unusable(node, report):
            sources = work.sources(node, replicas)
            for service in to:
                replica = known.get(service)
                if replica is not None and is_good(node, replica):
                    report.skipped += 1
                elif not sources:
                    report.fail(f"/{node.path}", unreadable(node))
                else:
                    yield Copy(node, service, sources, replica, force)
