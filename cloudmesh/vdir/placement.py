"""Which replica to use: filters take candidates out, then rankers put the rest in order, each with its figure.

A filter returns why a replica cannot be used, or nothing. A ranker returns a number, lower is better; the first ranker
on which two candidates differ decides between them, and the service's name where none does. So every choice can be
explained, and is the same for everybody who knows the same.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from cloudmesh.storage.speed import Speed
from cloudmesh.vdir.nodes import Node, Replica


@dataclass(frozen=True, slots=True)
class Knowledge:
    """What the rankers may ask.

    Attributes:
        kinds: service to kind, for all configured services.
        read: measured reading speed by service.
    """

    kinds: Mapping[str, str]
    read: Mapping[str, Speed]


@dataclass(frozen=True, slots=True)
class Candidate:
    """A replica with all that decides about it.

    Attributes:
        replica: the copy.
        excluded: why it cannot be used; empty where it can.
        figures: each ranker's number, by its name; lower is better.
    """

    replica: Replica
    excluded: str = ""
    figures: Mapping[str, float] = field(default_factory=dict)

    @property
    def order(self) -> tuple[object, ...]:
        """What candidates are sorted by."""
        return (bool(self.excluded), *self.figures.values(), self.replica.service)


Filter = Callable[[Node, Replica, Knowledge], str]
Ranker = Callable[[Node, Replica, Knowledge], float]

_UNKNOWN_SPEED = Speed(0.1, 10e6)
"""Supposed of a service that was never measured: an ordinary internet service."""


def _is_available(node: Node, replica: Replica, knowledge: Knowledge) -> str:
    return "" if replica.state == "available" else f"its state is {replica.state}"


def _is_current(node: Node, replica: Replica, knowledge: Knowledge) -> str:
    return "" if replica.version == node.version else "it holds another version"


def _is_configured(node: Node, replica: Replica, knowledge: Knowledge) -> str:
    return "" if replica.service in knowledge.kinds else "the service is not configured"


def _set(node: Node, replica: Replica, knowledge: Knowledge) -> float:
    """Place in the user's own order (`vdir prefer`); behind it where it is not named."""
    return node.preferred.index(replica.service) if replica.service in node.preferred else len(node.preferred)


def _seconds(node: Node, replica: Replica, knowledge: Knowledge) -> float:
    """Seconds that reading it is expected to take, by measurement; the local disk needs none."""
    if knowledge.kinds.get(replica.service) == "local":
        return 0.0
    return knowledge.read.get(replica.service, _UNKNOWN_SPEED).seconds(node.size or 0)


FILTERS: tuple[Filter, ...] = (_is_available, _is_current, _is_configured)
RANKERS: Mapping[str, Ranker] = {"set": _set, "seconds": _seconds}


def candidates(node: Node, replicas: Sequence[Replica], knowledge: Knowledge) -> list[Candidate]:
    """Return all replicas of a file, the best first, those that cannot be used last."""
    found = []
    for replica in replicas:
        excluded = next((why for one in FILTERS if (why := one(node, replica, knowledge))), "")
        figures = {name: rank(node, replica, knowledge) for name, rank in RANKERS.items()}
        found.append(Candidate(replica, excluded, figures))
    return sorted(found, key=lambda one: one.order)


def usable(node: Node, replicas: Sequence[Replica], knowledge: Knowledge) -> list[Replica]:
    """Return the replicas that can be read, the best first."""
    return [one.replica for one in candidates(node, replicas, knowledge) if not one.excluded]


def reason(ranked: Sequence[Candidate], index: int) -> str:
    """Return in words why the candidate at ``index`` stands where it does."""
    mine = ranked[index]
    if mine.excluded:
        return mine.excluded
    others = [one for one in ranked if not one.excluded and one is not mine]
    if not others:
        return "the only one that can be used"
    rival = ranked[0] if index else ranked[1]
    for name, figure in mine.figures.items():
        if figure != rival.figures[name]:
            return f"{name} {figure:.3g} against {rival.figures[name]:.3g} of {rival.replica.service}"
    return f"as good as {rival.replica.service}; the names decide"
