"""Taking replicas away: `drop` while another good one is left, and `delete --purge` with the name."""

from __future__ import annotations

import time
from collections.abc import Collection, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace

from cloudmesh.storage import paths
from cloudmesh.storage.errors import NotFound, Refused, StorageError
from cloudmesh.storage.paths import Location
from cloudmesh.storage.transfer.pool import run_parallel
from cloudmesh.storage.transfer.report import Report
from cloudmesh.vdir.distribute import BATCH
from cloudmesh.vdir.lookup import chunks
from cloudmesh.vdir.nodes import Node, Replica
from cloudmesh.vdir.records import is_good
from cloudmesh.vdir.scrub import judged
from cloudmesh.vdir.work import Work

Files = Iterable[tuple[Node, tuple[Replica, ...]]]


@dataclass(frozen=True, slots=True)
class Drop:
    """A replica to take away, and those that must keep the content."""

    node: Node
    replica: Replica
    keepers: Sequence[Replica]

    @property
    def name(self) -> str:
        """The replica as a person names it."""
        return f"/{self.node.path} on {self.replica.service}"


def drop(files: Files, services: Collection[str], work: Work, report: Report, *, dryrun: bool) -> None:
    """Remove the replicas on ``services``, file by file only where another service was asked right then and has it."""
    directories: set[Location] = set()
    for batch in chunks(files, BATCH):
        drops = [
            Drop(node, replica, [one for one in replicas if one.service not in services and is_good(node, one)])
            for node, replicas in batch
            for replica in replicas
            if replica.service in services
        ]
        if dryrun:
            for one in drops:
                _count(report, one)
            continue
        gone: list[Replica] = []
        for one, result in run_parallel(lambda one: _drop(one, work), drops, work.parallel):
            if isinstance(result, StorageError):
                report.fail(one.name, result)
            else:
                report.done(one.replica.size)
                gone.append(replace(one.replica, entry_id=one.node.id))
                directories.add(Location(one.replica.service, paths.parent(one.replica.path)))
        work.catalogue.remove_replicas(gone)
    _remove_empty(directories, work)


def _count(report: Report, one: Drop) -> None:
    if one.keepers:
        report.done(one.replica.size)
    else:
        report.fail(one.name, _last(one))


def _last(one: Drop) -> Refused:
    return Refused(one.name, "it is the last good replica", "cms vdir copy makes another, cms vdir delete removes all")


def _drop(one: Drop, work: Work) -> None:
    if not any(_is_there(one.node, keeper, work) for keeper in one.keepers):
        raise _last(one)
    service = work.open(one.replica.service)
    try:
        now = judged(service, one.node, one.replica, service.stat(one.replica.path))
    except NotFound:
        return
    if now.state == "stale" and now.version == 0:
        raise Refused(one.name, "it was changed on the service since we last saw it", "cms vdir status --check")
    work.catalogue.update_replicas([replace(one.replica, state="deleting", checked_ns=time.time_ns())])
    with suppress(NotFound):
        service.remove(one.replica.path)


def _is_there(node: Node, keeper: Replica, work: Work) -> bool:
    """Ask the service whether it has this replica as we know it."""
    try:
        service = work.open(keeper.service)
        return judged(service, node, keeper, service.stat(keeper.path)).state == "available"
    except StorageError:
        return False


def purge(files: Files, work: Work, report: Report, *, dryrun: bool) -> None:
    """Remove the real files of names, all replicas of each; a file that another name uses too is left alone."""
    directories: set[Location] = set()
    for batch in chunks(files, BATCH):
        replicas = [replica for _, found in batch for replica in found]
        if dryrun:
            for node, _ in batch:
                report.done(node.size)
            continue
        users = work.catalogue.find_by_location(Location(one.service, one.path) for one in replicas)
        ours = [one for one in replicas if len(users.get(Location(one.service, one.path), ())) < 2]
        work.catalogue.update_replicas(replace(one, state="deleting", checked_ns=time.time_ns()) for one in ours)
        failed = _remove_files(ours, work, report)
        gone = [one for one in replicas if Location(one.service, one.path) not in failed]
        directories.update(Location(one.service, paths.parent(one.path)) for one in ours)
        work.catalogue.remove_replicas(gone)
        for node, found in batch:
            if not any(Location(one.service, one.path) in failed for one in found):
                report.done(node.size)
    _remove_empty(directories, work)


def _remove_files(replicas: Sequence[Replica], work: Work, report: Report) -> set[Location]:
    """Remove files, one batch a service; return those that could not be removed."""
    failed: set[Location] = set()
    for service in sorted({one.service for one in replicas}):
        mine = [one.path for one in replicas if one.service == service]
        try:
            for path, error in work.open(service).remove_many(mine):
                report.fail(f"{service}:{path}", error)
                failed.add(Location(service, path))
        except StorageError as error:
            report.fail(service, error)
            failed.update(Location(service, path) for path in mine)
    return failed


def _remove_empty(directories: set[Location], work: Work) -> None:
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
