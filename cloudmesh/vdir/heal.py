"""Making every registered replica good again, from those that are."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace

from cloudmesh.storage.errors import StorageError, Unavailable
from cloudmesh.storage.transfer.report import Report
from cloudmesh.vdir.distribute import BATCH, Copy, distribute
from cloudmesh.vdir.lookup import chunks
from cloudmesh.vdir.nodes import Node, Replica
from cloudmesh.vdir.records import is_good
from cloudmesh.vdir.removal import drop
from cloudmesh.vdir.scrub import Found, Inspector
from cloudmesh.vdir.work import Work

Files = Iterable[tuple[Node, tuple[Replica, ...]]]


def inspect(files: Files, work: Work) -> Iterator[list[Found]]:
    """Ask the services about all replicas, and yield those of one file at a time; the catalogue learns what is new."""
    inspector = Inspector(work.open)
    for batch in chunks(files, BATCH):
        found = list(inspector.inspect(batch))
        work.catalogue.update_replicas(
            replace(one.now, entry_id=one.node.id) for each in found for one in each if one.changed
        )
        yield from found


def heal(files: Files, work: Work, report: Report, *, force: bool, dryrun: bool) -> None:
    """Ask the services, and copy what is missing or out of date from a good replica of the same file.

    A replica that was changed by others is not overwritten, unless ``force`` is given.
    """

    def copies() -> Iterator[Copy]:
        for each in inspect(files, work):
            yield from _copies(each, work, report, force=force, dryrun=dryrun)

    if dryrun:
        for copy in copies():
            report.done(copy.node.size)
        return
    part = Report(report.action)
    distribute(copies(), work.catalogue, work.open, part, parallel=work.parallel, observer=work.observer)
    report.merge(part)


def _copies(found: Sequence[Found], work: Work, report: Report, *, force: bool, dryrun: bool) -> Iterator[Copy]:
    if not found:
        return
    node = found[0].node
    now = tuple(one.now for one in found)
    wrong = [one for one in found if not is_good(node, one.now)]
    unfinished = [one for one in wrong if one.now.state == "deleting"]
    if unfinished:  # a drop that died halfway
        drop([(node, now)], {one.now.service for one in unfinished}, work, report, dryrun=dryrun)
    for one in found:
        if one.error:
            report.fail(f"/{node.path} on {one.known.service}", Unavailable(one.known.service, one.error))
    wrong = [one for one in wrong if one not in unfinished and not one.error]
    report.skipped += sum(is_good(node, one.now) and not one.error for one in found)
    if not wrong:
        return
    sources = work.sources(node, now)
    for one in wrong:
        name = f"/{node.path} on {one.now.service}"
        if not sources:
            report.fail(name, StorageError(f"/{node.path}", "no good replica is left"))
        elif one.now.state == "stale" and one.now.version == 0 and not force:
            report.fail(name, StorageError(name, "was changed on the service", "--force replaces it"))
        else:
            yield Copy(
                node,
                replace(one.now, version=node.version, state="available"),
                sources,
                node.sha256,
                overwrite=one.now.state in ("stale", "bad"),
                known=one.now,
            )
