"""Taking replicas away while another good one is left."""

from __future__ import annotations

import time
from collections.abc import Collection, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace

from cloudmesh.storage import paths
from cloudmesh.storage.errors import NotFound, Refused, StorageError
from cloudmesh.storage.paths import Location
from cloudmesh.storage.pool import run_parallel
from cloudmesh.storage.transfer.report import Report
from cloudmesh.vdir.claiming import claimed, claiming, left_out
from cloudmesh.vdir.kept import keep, outdated
from cloudmesh.vdir.lookup import chunks
from cloudmesh.vdir.nodes import Files, Node, Replica
from cloudmesh.vdir.records import is_good, is_trusted
from cloudmesh.vdir.scrub import judged
from cloudmesh.vdir.work import BATCH, Work, is_over


@dataclass(frozen=True, slots=True)
class _Drop:
    """A replica to take away, and those that must keep the content."""

    node: Node
    replica: Replica
    keepers: Sequence[Replica]

    @property
    def name(self) -> str:
        """The replica as a person names it."""
        return f"/{self.node.path} on {self.replica.service}"

    @property
    def location(self) -> Location:
        """The file."""
        return Location(self.replica.service, self.replica.path)

    @property
    def intent(self) -> Replica:
        """The replica as it is while it is being removed."""
        return replace(self.replica, state="deleting", checked_ns=time.time_ns(), entry_id=self.node.id)

    @property
    def before(self) -> Replica:
        """The replica as it was."""
        return replace(self.replica, entry_id=self.node.id)


def drop(files: Files, services: Collection[str], work: Work, report: Report, *, dryrun: bool) -> None:
    """Remove the replicas on ``services``, a file only where another service was asked right then and has it."""
    directories: set[Location] = set()
    with claiming(work, "vdir drop") as claims:
        for batch in chunks(files, BATCH):
            if is_over(work, report):
                break
            if dryrun:
                drop_claimed(batch, services, work, report, dryrun=True)
                continue
            with claimed([node for node, _ in batch], claims, work) as now:
                for error in now.refused.values():
                    report.fail(error.subject, error)
                directories |= drop_claimed(list(now.files.values()), services, work, report, dryrun=False)
    remove_empty(directories, work)


def drop_claimed(
    files: Sequence[tuple[Node, Sequence[Replica]]],
    services: Collection[str],
    work: Work,
    report: Report,
    *,
    dryrun: bool,
) -> set[Location]:
    """Remove replicas as `drop` does, of files that this process has claimed; return the directories they were in."""
    drops = [
        _Drop(node, replica, [one for one in replicas if one.service not in services and is_trusted(node, one)])
        for node, replicas in files
        for replica in replicas
        if replica.service in services
    ]
    allowed: list[_Drop] = []
    for one, result in run_parallel(lambda one: _checked(one, work), drops, _threads(drops, work)):
        if isinstance(result, StorageError):
            report.fail(one.name, result)
        elif dryrun:
            report.done(one.replica.size)
        else:
            allowed.append(result)
    return set() if dryrun else _drop(_outdated_kept(allowed, work, report), work, report)


def _outdated_kept(drops: Sequence[_Drop], work: Work, report: Report) -> list[_Drop]:
    """Keep the older contents among what is to be dropped, which may be nowhere else; return what may be."""
    ways = [(one, outdated(one.node, one.replica)) for one in drops]
    failed = keep([keeping for _, keeping in ways if keeping is not None], work)
    able: list[_Drop] = []
    for one, keeping in ways:
        if keeping is not None and keeping.key in failed:
            report.fail(one.name, failed[keeping.key])
        else:
            able.append(one)
    return able


def _threads(drops: Sequence[_Drop], work: Work) -> int:
    concerned = {one.service for drop in drops for one in (drop.replica, *drop.keepers)}
    return work.threads(concerned)


def _checked(one: _Drop, work: Work) -> _Drop:
    """Return the replica to drop, with those keepers that their services have right now.

    Of a service that is not configured any more only the row can be taken away, as if the file were missing.

    Raises:
        Refused: it is the last good one, or was changed by others; or nothing is on the service any more, and it was.
    """
    if one.replica.service not in work.services.names():
        if not any(_is_there(one.node, keeper, "", work) for keeper in one.keepers):
            raise _last(one)
        return replace(one, replica=replace(one.replica, state="missing"))
    service = work.open(one.replica.service)
    # a removal that died halfway has left the row as it was, but for its state
    known = replace(one.replica, state="available") if one.replica.state == "deleting" else one.replica
    try:
        now = judged(service, one.node, known, service.stat(known.path))
    except NotFound:
        kept = any(_is_there(one.node, keeper, "", work) for keeper in one.keepers)
        if is_good(one.node, one.replica) and not kept and work.is_empty(service.name):
            why = "it is the last good replica, and nothing at all is there any more"
            raise Refused(one.name, why, "is it the right place, and mounted?") from None
        return replace(one, replica=replace(one.replica, state="missing"))
    if now.state == "stale" and now.version == 0:
        raise Refused(one.name, "it was changed on the service since we last saw it", "cms vdir status --check")
    place = service.identity(one.replica.path)
    keepers = [keeper for keeper in one.keepers if _is_there(one.node, keeper, place, work)]
    if not keepers:
        raise _last(one)
    return replace(one, keepers=keepers)


def _is_there(node: Node, keeper: Replica, place: str, work: Work) -> bool:
    """Ask the service whether it has this replica as we know it, and not at ``place``: two services may be one."""
    try:
        service = work.open(keeper.service)
        if service.identity(keeper.path) == place:
            return False
        return judged(service, node, keeper, service.stat(keeper.path)).state == "available"
    except StorageError:
        return False


def _last(one: _Drop) -> Refused:
    hint = "cms vdir copy makes another, cms vdir delete --purge --accept-loss removes a name with all of its files"
    return Refused(one.name, "it is the last good replica", hint)


def _drop(drops: Sequence[_Drop], work: Work, report: Report) -> set[Location]:
    """Remove files and then their rows; return the directories that they were in.

    The intents are written first, and only then are the keepers looked at once more: of two processes that drop each
    other's keeper at least one sees that, and lets it be.
    """
    left = work.catalogue.update_replicas(one.intent for one in drops if one.replica.state != "missing")
    for one in drops:
        if one.node.id in left:
            report.fail(one.name, left_out(one.node, left[one.node.id]))
    present = [one for one in drops if one.replica.state != "missing" and one.node.id not in left]
    now = work.catalogue.replicas_of([one.node for one in present])
    users = work.catalogue.find_by_location(one.location for one in present)
    gone = [one for one in drops if one.replica.state == "missing"]
    kept: list[_Drop] = []
    doomed: list[_Drop] = []
    for one in present:
        good = {replica.service for replica in now[one.node.id] if is_trusted(one.node, replica)}
        if good.isdisjoint(keeper.service for keeper in one.keepers):
            kept.append(one)
            report.fail(one.name, _last(one))
        elif set(users.get(one.location, ())) - {one.node.path}:
            gone.append(one)  # another name uses the file
        else:
            doomed.append(one)
    directories: set[Location] = set()
    for one, result in run_parallel(lambda one: _remove(one, work), doomed, _threads(doomed, work)):
        if isinstance(result, StorageError):
            report.fail(one.name, result)
            if not result.retryable:  # then the file is still there
                kept.append(one)
        else:
            gone.append(one)
            directories.add(Location(one.replica.service, paths.parent(one.replica.path)))
    work.catalogue.update_replicas(one.before for one in kept)
    work.catalogue.remove_replicas(one.before for one in gone)
    for one in gone:
        report.done(one.replica.size)
    return directories


def _remove(one: _Drop, work: Work) -> None:
    with suppress(NotFound):
        work.open(one.replica.service).remove(one.replica.path)


def remove_empty(directories: set[Location], work: Work) -> None:
    """Remove directories that our removal has left empty, and those above them."""
    everything = {
        Location(place.service, "/".join(parts[:depth]))
        for place in directories
        for parts in [place.path.split("/")]
        for depth in range(1, len(parts) + 1)
        if place.path
    }
    for place in sorted(everything, key=lambda one: (one.service, -one.path.count("/"), one.path)):
        with suppress(StorageError):  # not empty, gone already, or not to be removed: an empty directory is no loss
            work.open(place.service).remove_dir(place.path)
