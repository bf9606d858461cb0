"""Working under claims: names are looked at, and written about, only while no other process works on them."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from cloudmesh.storage.errors import PreconditionFailed, Refused, StorageError, Unavailable
from cloudmesh.storage.paths import Location
from cloudmesh.vdir.catalogue import Catalogue
from cloudmesh.vdir.claims import Claims
from cloudmesh.vdir.nodes import Node, Replica
from cloudmesh.vdir.recovery import recover, sweep_beside
from cloudmesh.vdir.work import Work

_PATIENCE_S = 20.0
_POLL_S = 0.05


@dataclass(frozen=True, slots=True)
class Claimed:
    """Files of a batch, by id.

    Attributes:
        files: those that were claimed, as they are now.
        refused: the others, each with why.
    """

    files: dict[int, tuple[Node, tuple[Replica, ...]]]
    refused: dict[int, StorageError]


@contextmanager
def claiming(work: Work, purpose: str) -> Iterator[Claims]:
    """Give claims for the block, in which ``work``'s catalogue writes only about what is claimed.

    Inside such a block they are that block's: what is claimed there is for who works here, too.

    Args:
        work: of one command.
        purpose: what is done, for those who have to wait.
    """
    before = work.catalogue
    if before.claims is not None:
        yield before.claims
        return
    with Claims(before.database, purpose) as claims:
        work.catalogue = Catalogue(before.database, claims)
        try:
            yield claims
        finally:
            work.catalogue = before


@contextmanager
def claimed(nodes: Collection[Node], claims: Claims, work: Work) -> Iterator[Claimed]:
    """Claim files for the block, settle what somebody began there who died, and read again what is known of them."""
    with claims.claimed({node.id for node in nodes}) as held:
        refused: dict[int, StorageError] = {
            node.id: working_on_it(node.path, held[node.id]) for node in nodes if node.id in held
        }
        mine = [node for node in nodes if node.id not in held]
        recover([node.id for node in mine], work, {})
        yield _read_again(mine, refused, work)


@contextmanager
def alone(find: Callable[[], Node], work: Work, purpose: str) -> Iterator[tuple[Node, tuple[Replica, ...]]]:
    """Claim one name for the block, when nobody else works on it any more, and give what it is then.

    Args:
        find: finds it; asked again where others were faster.
        work: of one command.
        purpose: as of `claiming`.

    Raises:
        Unavailable: others work on it for longer than we wait.
    """
    deadline = time.monotonic() + _PATIENCE_S
    with claiming(work, purpose) as claims:
        while True:
            node = find()
            with claimed([node], claims, work) as now:
                if node.id in now.files:
                    yield now.files[node.id]
                    return
            if time.monotonic() > deadline:
                raise Unavailable(f"/{node.path}", now.refused[node.id].why, "try again", retry_after=1)
            time.sleep(_POLL_S)


def working_on_it(path: str, holder: str) -> Refused:
    """Return the error about a name that another process has claimed."""
    return Refused(f"/{path}", f"is being worked on by {holder}", "run the same command again")


def left_out(node: Node, why: str) -> PreconditionFailed:
    """Return the error about a name of which the catalogue takes nothing from this process any more."""
    return PreconditionFailed(f"/{node.path}", why, "run the same command again")


def _read_again(nodes: Sequence[Node], refused: dict[int, StorageError], work: Work) -> Claimed:
    there = work.catalogue.lookup_many(node.path for node in nodes)
    now = [there[node.path] for node in nodes if node.path in there and there[node.path].id == node.id]
    replicas = work.catalogue.replicas_of(now)
    halfway = [one for each in replicas.values() for one in each if one.state == "copying"]
    sweep_beside({Location(one.service, one.path) for one in halfway}, work)
    files = {node.id: (node, replicas[node.id]) for node in now}
    for node in nodes:
        if node.id not in files:
            refused[node.id] = PreconditionFailed(f"/{node.path}", "was moved or removed meanwhile")
    return Claimed(files, refused)
