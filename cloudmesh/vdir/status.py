"""`status` and `why`: how names stand, as records."""

from __future__ import annotations

from cloudmesh.vdir.heal import inspect
from cloudmesh.vdir.nodes import Files, Node, Replica, Totals
from cloudmesh.vdir.placement import candidates, reason
from cloudmesh.vdir.records import Choice, Problem, ReplicaInfo, ServiceStatus, Status, is_good
from cloudmesh.vdir.work import Work


def problems(files: Files, work: Work) -> list[Problem]:
    """Ask the services about all replicas, and return what is not good; the catalogue learns it."""
    found: list[Problem] = []
    for file, replicas in inspect(files, work):
        name = f"/{file.path}"
        if not replicas:
            found.append(Problem(name, "", "missing", "it has no replica"))
        for one in replicas:
            if one.error or not is_good(file, one.now):
                found.append(Problem(name, one.now.service, one.now.state, one.error))
    return found


def directory_status(path: str, totals: Totals, wrong: list[Problem], work: Work) -> Status:
    """Return how everything below a directory stands."""
    services = [
        ServiceStatus(one.service, one.state, one.files, one.bytes, _outage(one.service, work))
        for one in totals.services
    ]
    return Status(f"/{path}", "directory", totals.files, totals.bytes, services=services, problems=wrong)


def file_status(node: Node, replicas: tuple[Replica, ...], wrong: list[Problem], work: Work) -> Status:
    """Return how a file's replicas stand, the best first."""
    infos = [
        ReplicaInfo(
            service=one.replica.service,
            path=one.replica.path,
            state=one.replica.state,
            preferred=index == 0 and not one.excluded,
            size=one.replica.size,
            modified_ns=one.replica.mtime_ns,
            version=one.replica.version,
            etag=one.replica.etag,
            sha256=one.replica.sha256,
            checked_ns=one.replica.checked_ns,
            outage=_outage(one.replica.service, work),
        )
        for index, one in enumerate(candidates(node, replicas, work.knowledge))
    ]
    return Status(
        f"/{node.path}",
        "file",
        1,
        node.size or 0,
        version=node.version,
        sha256=node.sha256,
        replicas=infos,
        problems=wrong,
    )


def choices(node: Node, replicas: tuple[Replica, ...], work: Work) -> list[Choice]:
    """Return all replicas of a file in the order in which they would be read, with what decides."""
    ranked = candidates(node, replicas, work.knowledge)
    return [
        Choice(
            rank=None if one.excluded else index + 1,
            service=one.replica.service,
            state=one.replica.state,
            place_in_set=None if (place := one.figures["set"]) is None else int(place),
            seconds=one.figures["speed"] if one.measured else None,
            kilometres=one.figures["location"],
            dollars=one.figures["cost"],
            rankers=[*one.rankers],
            reason=reason(ranked, index),
        )
        for index, one in enumerate(ranked)
    ]


def _outage(service: str, work: Work) -> str:
    found = work.knowledge.outages.get(service)
    return "" if found is None else str(found)
