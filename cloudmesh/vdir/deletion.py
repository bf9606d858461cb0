"""Deleting names because others deleted a replica of them: after a second look, and the files last."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from cloudmesh.storage.errors import NotADirectory, NotFound, PreconditionFailed, StorageError
from cloudmesh.storage.pool import run_parallel
from cloudmesh.vdir import tombstones
from cloudmesh.vdir.copies import is_as_seen
from cloudmesh.vdir.decided import Decided
from cloudmesh.vdir.nodes import Replica
from cloudmesh.vdir.records import SyncReport
from cloudmesh.vdir.work import Work


def delete(files: Sequence[Decided], work: Work, report: SyncReport) -> Iterator[tuple[Decided, StorageError]]:
    """Delete names, and leave tombstones for their files; yield those that are not deleted, with why."""
    sure: list[Decided] = []
    threads = work.threads({one.service for file in files for one in file.observed})
    for file, result in run_parallel(lambda file: _is_deleted(file, work), files, threads):
        if isinstance(result, StorageError):
            yield file, result
        elif result:
            sure.append(file)
        else:
            why = "a replica was gone, and is there again"
            yield file, PreconditionFailed(f"/{file.node.path}", why, "run the same command again")
    tombstones.bury(work.catalogue, [(file.node, list(_to_be_removed(file))) for file in sure])
    report.removed += len(sure)


def _to_be_removed(file: Decided) -> Iterator[Replica]:
    """Yield the replicas that go with a name: not those that somebody renamed meanwhile, who wants to keep them."""
    for one in file.observed:
        if one.kind != "missing" and not one.is_renamed:
            yield one.now


def _is_deleted(file: Decided, work: Work) -> bool:
    """Ask the services once more: what was missing still is, and a good replica is as it was."""
    for one in file.observed:
        if one.kind == "missing":
            try:
                work.open(one.service).stat(one.known.path)
                return False
            except (NotFound, NotADirectory):
                continue
    good = [one for one in file.observed if one.kind == "good"]
    return any(is_as_seen(one.now, work.open(one.service).stat(one.now.path)) for one in good)
