"""Giving names a new version that is not on any of their services yet."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from cloudmesh.storage.errors import NotFound, PreconditionFailed, StorageError
from cloudmesh.storage.pool import run_parallel
from cloudmesh.storage.transfer.events import Event
from cloudmesh.storage.transfer.report import Report
from cloudmesh.vdir import versions
from cloudmesh.vdir.copies import Copy, make
from cloudmesh.vdir.distribute import begin, give_up, keep_outdated
from cloudmesh.vdir.kept import keep_one_of, superseded
from cloudmesh.vdir.nodes import Node, Replica
from cloudmesh.vdir.sources import Source
from cloudmesh.vdir.unseen import keep_unseen
from cloudmesh.vdir.work import Work


@dataclass(frozen=True, slots=True)
class Renewal:
    """A name, and the content that it shall have instead of the present one.

    Attributes:
        node: as it is.
        replicas: as they are.
        source: the new content, with its size and modification time.
        sha256: of it.
        services: that it goes to.
        force: replace what is there, whatever it is.
    """

    node: Node
    replicas: Sequence[Replica]
    source: Source
    sha256: str
    services: Sequence[str]
    force: bool = False

    def copies(self, version: int) -> list[Copy]:
        """Return the copies to be made of it as a version."""
        entry = self.source.entry
        node = replace(
            self.node, size=entry.size, mtime_ns=entry.mtime_ns, sha256=self.sha256, version=version, origin=""
        )
        known = {one.service: one for one in self.replicas}
        return [Copy(node, service, [self.source], known.get(service), self.force) for service in self.services]


def renew(renewals: Sequence[Renewal], work: Work, report: Report) -> list[Copy]:
    """Keep the present contents, bring the new ones to one service each, which makes them so, and return the copies to
    the other services. What fails is counted."""
    unseen = keep_unseen([copy for one in renewals if one.force for copy in one.copies(one.node.version)], work)
    numbers = versions.following(work.catalogue.database, [one.node for one in renewals])
    unkept = keep_one_of([superseded(one.node, one.replicas) for one in renewals], work)
    plans: list[list[Copy]] = []
    for one in renewals:
        copies = one.copies(numbers[one.node.id])
        for copy in [copy for copy in copies if (one.node.id, copy.service) in unseen]:
            _fail([copy], unseen[one.node.id, copy.service], work, report)
            copies.remove(copy)
        if not copies:
            continue
        error = unkept.get((one.node.id, one.node.version))
        if error is not None and not (error.retryable or isinstance(error, (NotFound, PreconditionFailed))):
            _fail(copies, error, work, report)
        else:  # what others have changed is gone already, and what is on a service that is away stays there for now
            plans.append(_refreshed(copies, work))
    able: dict[int, list[Copy]] = {}
    for copy in keep_outdated([copy for copies in plans for copy in copies], work, report):
        able.setdefault(copy.node.id, []).append(copy)
    plans = [*able.values()]
    shared, left_out = begin([copy for copies in plans for copy in copies], work)
    for copies in plans:
        if copies[0].node.id in left_out:
            _fail(copies, left_out[copies[0].node.id], work, report)
    plans = [copies for copies in plans if copies[0].node.id not in left_out]

    def first(copies: list[Copy]) -> tuple[Copy, Replica]:
        for copy in copies[:-1]:
            try:
                return copy, make(copy, work, shared)
            except StorageError:  # tried again with the others, and told there
                continue
        return copies[-1], make(copies[-1], work, shared)

    left: list[Copy] = []
    threads = work.threads({copy.service for plan in plans for copy in plan})
    for copies, result in run_parallel(first, plans, threads):
        try:
            if isinstance(result, StorageError):
                raise result
            done, replica = result
            _acknowledge(done.node, replica, work)
        except StorageError as error:
            give_up([(copy, error) for copy in copies], work)
            _fail(copies, error, work, report)
            continue
        report.done(done.node.size)
        work.observer(Event("done", done.name, done.node.size or 0))
        left += [copy for copy in copies if copy is not done]
    return left


def _refreshed(copies: list[Copy], work: Work) -> list[Copy]:
    """Return the copies with what the catalogue knows now: keeping a content may have moved a file away."""
    rows = {one.service: one for one in work.catalogue.replicas_of([copies[0].node])[copies[0].node.id]}
    return [replace(copy, known=rows.get(copy.service)) for copy in copies]


def _fail(copies: Sequence[Copy], error: StorageError, work: Work, report: Report) -> None:
    report.fail(f"/{copies[0].node.path}", error)
    for copy in copies:
        work.observer(Event("failed", copy.name, copy.node.size or 0, str(error)))


def _acknowledge(node: Node, replica: Replica, work: Work) -> None:
    work.catalogue.set_content(
        node.id,
        version=node.version,
        size=node.size,
        mtime_ns=node.mtime_ns,
        sha256=node.sha256,
        replicas=[replica],
    )
