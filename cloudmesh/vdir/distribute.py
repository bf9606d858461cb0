"""Bringing the content of names to services, so that whatever dies halfway, doing it again completes it.

Every copy is written down as a replica in state ``copying`` before the first byte is sent, and as ``available`` after
the service has it.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence

from cloudmesh.storage.errors import AlreadyExists, NotFound, StorageError
from cloudmesh.storage.paths import Location
from cloudmesh.storage.transfer.events import Event
from cloudmesh.storage.transfer.report import Report
from cloudmesh.vdir.copies import Copy
from cloudmesh.vdir.lookup import chunks
from cloudmesh.vdir.making import make_many
from cloudmesh.vdir.nodes import Replica
from cloudmesh.vdir.records import is_good
from cloudmesh.vdir.work import Work

BATCH = 500
"""Files whose intents are written in one transaction."""


def distribute(copies: Iterable[Copy], work: Work, report: Report) -> None:
    """Make copies, in batches; failures are added to ``report`` and do not stop the rest.

    A copy that fails leaves the replica as ``missing`` where the file is not there, so that it is healed later; a new
    one that fails because a foreign file is in the way is forgotten.
    """
    for batch in chunks(copies, BATCH):
        for copy in batch:
            work.observer(Event("planned", copy.name, copy.node.size or 0))
        shared = begin(batch, work)
        made: list[tuple[Copy, Replica]] = []
        failed: list[tuple[Copy, StorageError]] = []
        for copy, result in make_many(batch, work, shared):
            if isinstance(result, StorageError):
                failed.append((copy, result))
            else:
                made.append((copy, result))
                work.observer(Event("done", copy.name, copy.node.size or 0))
        removed = work.catalogue.update_replicas(replica for _, replica in made)
        for copy, _ in made:
            if copy.node.id in removed:
                failed.append((copy, NotFound(f"/{copy.node.path}", "the name was removed meanwhile")))
            else:
                report.done(copy.node.size)
        give_up(failed, work)
        for copy, error in failed:
            report.fail(copy.name, error)
            work.observer(Event("failed", copy.name, error=str(error)))


def begin(copies: Sequence[Copy], work: Work) -> Collection[Location]:
    """Write down what is going to be made, and return those of the files that other names use too."""
    work.catalogue.update_replicas(copy.replica("copying") for copy in copies if not copy.replaces)
    used = work.catalogue.find_by_location(copy.location for copy in copies)
    return {copy.location for copy in copies if set(used.get(copy.location, ())) - {copy.node.path}}


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
