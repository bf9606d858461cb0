"""Which replica to use: filters take candidates out, then rankers put the rest in order, each with its figure.

A filter returns why a replica cannot be used, or nothing. A ranker returns a number, lower is better, or None where it
knows nothing; what is unknown stands behind all that is known, and a ranker that knows nothing of any decides nothing.
The first ranker, in the order that the user has set, on which two candidates differ decides between them, and the
service's name where none does. So every choice can be explained, and is the same for everybody who knows the same.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from cloudmesh.storage.errors import UsageError
from cloudmesh.storage.health import Outage
from cloudmesh.storage.speed import UNKNOWN, Speed
from cloudmesh.storage.transfer.prices import Price
from cloudmesh.vdir.nodes import Node, Replica
from cloudmesh.vdir.records import figure


@dataclass(frozen=True, slots=True)
class Knowledge:
    """What filters and rankers may ask.

    Attributes:
        kinds: service to kind, for all configured services.
        read: measured reading speed by service.
        kilometres: from here to each service whose place is known.
        prices: what each service charges.
        outages: the services that are out of use because they failed.
    """

    kinds: Mapping[str, str]
    read: Mapping[str, Speed]
    kilometres: Mapping[str, float] = field(default_factory=dict)
    prices: Mapping[str, Price] = field(default_factory=dict)
    outages: Mapping[str, Outage] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Candidate:
    """A replica with all that decides about it.

    Attributes:
        replica: the copy.
        excluded: why it cannot be used; empty where it can.
        avoided: why it is used only where no other one is left; empty where it need not be avoided.
        figures: each ranker's number, by its name; lower is better, None is unknown.
        measured: whether its speed was measured, and not only supposed.
        rankers: the names of those that decide, in their order.
    """

    replica: Replica
    excluded: str
    avoided: str
    figures: Mapping[str, float | None]
    measured: bool
    rankers: tuple[str, ...]

    @property
    def order(self) -> tuple[bool, bool, tuple[float, ...], str]:
        """What candidates are sorted by."""
        weights = tuple(math.inf if (one := self.figures[name]) is None else one for name in self.rankers)
        return bool(self.excluded), bool(self.avoided), weights, self.replica.service


Filter = Callable[[Node, Replica, Knowledge], str]
Ranker = Callable[[Node, Replica, Knowledge], float | None]


def _is_available(node: Node, replica: Replica, knowledge: Knowledge) -> str:
    return "" if replica.state == "available" else f"its state is {replica.state}"


def _is_current(node: Node, replica: Replica, knowledge: Knowledge) -> str:
    return "" if replica.version == node.version else "it holds another version"


def _is_configured(node: Node, replica: Replica, knowledge: Knowledge) -> str:
    return "" if replica.service in knowledge.kinds else "the service is not configured"


def _is_up(node: Node, replica: Replica, knowledge: Knowledge) -> str:
    outage = knowledge.outages.get(replica.service)
    return "" if outage is None else f"the service is {outage}"


def _is_allowed(node: Node, replica: Replica, knowledge: Knowledge) -> str:
    return "a rule allows no replica on this service" if replica.service in node.rules.not_on else ""


def _set(node: Node, replica: Replica, knowledge: Knowledge) -> float | None:
    """Place in the user's own order (`vdir prefer`), from 1; unknown where it is not named."""
    return node.preferred.index(replica.service) + 1 if replica.service in node.preferred else None


def _seconds(node: Node, replica: Replica, knowledge: Knowledge) -> float | None:
    """Seconds that reading it is expected to take, by measurement; the local disk needs none."""
    if knowledge.kinds.get(replica.service) == "local":
        return 0.0
    return knowledge.read.get(replica.service, UNKNOWN).seconds(node.size or 0)


def _kilometres(node: Node, replica: Replica, knowledge: Knowledge) -> float | None:
    """Great-circle distance from here."""
    return knowledge.kilometres.get(replica.service)


def _dollars(node: Node, replica: Replica, knowledge: Knowledge) -> float | None:
    """US dollars that reading it is estimated to cost: one request, and its bytes out of the service."""
    price = knowledge.prices.get(replica.service)
    if price is None or price.read is None or price.out is None:
        return None
    return float(price.read / 1000 + price.out * (node.size or 0) / 10**9)


FILTERS: tuple[Filter, ...] = (_is_available, _is_current, _is_configured)
"""Those without which a replica cannot be read."""

CAUTIONS: tuple[Filter, ...] = (_is_up, _is_allowed)
"""Those that a replica has to pass as long as another one does: bytes from a doubtful place are better than none."""

RANKERS: Mapping[str, Ranker] = {"set": _set, "speed": _seconds, "location": _kilometres, "cost": _dollars}
"""By name, in the order that holds where the user has set none."""


def rankers_of(node: Node) -> tuple[str, ...]:
    """Return the names of the rankers that decide about a file, in their order."""
    known = tuple(name for name in node.rankers if name in RANKERS)  # an imported catalogue may name others
    return known or tuple(RANKERS)


def checked_rankers(names: Sequence[str]) -> list[str]:
    """Return the names of rankers, if they are such, each once.

    Raises:
        UsageError: they are not.
    """
    for name in names:
        if name not in RANKERS:
            raise UsageError("--rank", f"there is no ranker {name!r}", f"rankers: {', '.join(RANKERS)}")
    if len(set(names)) < len(names):
        raise UsageError("--rank", "a ranker is named twice")
    return [*names]


def candidates(node: Node, replicas: Sequence[Replica], knowledge: Knowledge) -> list[Candidate]:
    """Return all replicas of a file, the best first, those that cannot be used last."""
    rankers = rankers_of(node)
    found = []
    for replica in replicas:
        figures = {name: rank(node, replica, knowledge) for name, rank in RANKERS.items()}
        excluded, avoided = (
            next((why for one in filters if (why := one(node, replica, knowledge))), "")
            for filters in (FILTERS, CAUTIONS)
        )
        measured = replica.service in knowledge.read or knowledge.kinds.get(replica.service) == "local"
        found.append(Candidate(replica, excluded, avoided, figures, measured, rankers))
    return sorted(found, key=lambda one: one.order)


def usable(node: Node, replicas: Sequence[Replica], knowledge: Knowledge) -> list[Replica]:
    """Return the replicas that can be read, the best first; those to avoid come last."""
    return [one.replica for one in candidates(node, replicas, knowledge) if not one.excluded]


def reason(ranked: Sequence[Candidate], index: int) -> str:
    """Return in words why the candidate at ``index`` stands where it does."""
    mine = ranked[index]
    if mine.excluded:
        return mine.excluded
    others = [one for one in ranked if not one.excluded and one is not mine]
    if not others:
        return f"the only one left, although {mine.avoided}" if mine.avoided else "the only one that can be used"
    rival = ranked[0] if index else ranked[1]
    if mine.avoided:
        return f"the best of those left, although {mine.avoided}" if not index else mine.avoided
    if rival.avoided:
        return f"{rival.replica.service} is avoided: {rival.avoided}"
    for name in mine.rankers:
        if mine.figures[name] != rival.figures[name]:
            return f"{name}: {_shown(name, mine)} against {_shown(name, rival)} of {rival.replica.service}"
    return f"as good as {rival.replica.service}; the names decide"


def _shown(name: str, one: Candidate) -> str:
    text = figure(name, one.figures[name])
    return text if one.measured or name != "speed" else f"{text} (supposed)"
