"""Making every registered replica good again, from those that are."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

from cloudmesh.storage.errors import StorageError
from cloudmesh.storage.transfer.report import Report
from cloudmesh.vdir.copies import Copy
from cloudmesh.vdir.distribute import BATCH, distribute
from cloudmesh.vdir.lookup import chunks
from cloudmesh.vdir.nodes import Files, Node, Replica
from cloudmesh.vdir.records import is_good
from cloudmesh.vdir.removal import drop
from cloudmesh.vdir.scrub import Found, Inspector
from cloudmesh.vdir.sources import unreadable
from cloudmesh.vdir.work import Work, counting_unusable, refuse, skip


def inspect(
    files: Files, work: Work, *, learn: bool = True, believe: bool = False
) -> Iterator[tuple[Node, list[Found]]]:
    """Ask the services about all replicas, and yield those of one file at a time.

    Args:
        files: with what the catalogue knows of their replicas.
        work: the catalogue and the services.
        learn: write what is new into the catalogue.
        believe: as of `Inspector`.
    """
    inspector = Inspector(work, believe=believe)
    for batch in chunks(files, BATCH):
        found = inspector.inspect(batch)
        if learn:
            work.catalogue.update_replicas(
                replace(one.now, entry_id=one.node.id) for _, each in found for one in each if one.changed
            )
        yield from found


def heal(files: Files, work: Work, report: Report, *, force: bool, dryrun: bool) -> None:
    """Ask the services, and copy what is missing or out of date from a good replica of the same file.

    A replica that was changed by others is not overwritten, unless ``force`` is given; nor is a service believed that
    has lost everything.
    """

    def copies() -> Iterator[Copy]:
        revived = ((node, _revived(node, replicas)) for node, replicas in files if not node.is_directory)
        for node, found in inspect(revived, work, learn=not dryrun, believe=force):
            with counting_unusable(node, work, report):
                yield from _copies(node, found, work, report, force=force, dryrun=dryrun)

    if dryrun:
        for copy in copies():
            report.done(copy.node.size)
    else:
        distribute(copies(), work, report)


def _revived(node: Node, replicas: Sequence[Replica]) -> tuple[Replica, ...]:
    """Return the replicas, those that were being removed as unfinished ones where no other good one is left."""
    if any(is_good(node, one) for one in replicas):
        return tuple(replicas)
    return tuple(replace(one, state="copying") if one.state == "deleting" else one for one in replicas)


def _copies(
    node: Node, found: Sequence[Found], work: Work, report: Report, *, force: bool, dryrun: bool
) -> Iterator[Copy]:
    now = tuple(one.now for one in found)
    if not found:
        refuse(f"/{node.path}", node.size, unreadable(node), work, report)
    unfinished = {one.now.service for one in found if one.now.state == "deleting"}
    if unfinished:  # a drop that died halfway
        drop([(node, now)], unfinished, work, report, dryrun=dryrun)
    sources = None
    for one in found:
        name = f"/{node.path} on {one.now.service}"
        if one.error:
            refuse(name, node.size, StorageError(name, one.error), work, report)
        elif is_good(node, one.now):
            report.skipped += 1
            skip(name, node.size, work)
        elif one.now.service in unfinished:
            continue
        elif not (sources := work.sources(node, now) if sources is None else sources):
            refuse(name, node.size, unreadable(node), work, report)
        elif one.now.state == "stale" and one.now.version == 0 and not force:
            error = StorageError(name, "was changed on the service", "--force replaces it")
            refuse(name, node.size, error, work, report)
        else:
            # what others changed is replaced only when that is asked for; all else is ours or not there
            yield Copy(node, one.now.service, sources, one.now, force and one.now.version == 0)
