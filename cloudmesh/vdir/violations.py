"""What is not as the rules want it, from the catalogue alone."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from decimal import Decimal

from cloudmesh.storage.transfer.prices import monthly
from cloudmesh.vdir.nodes import Node
from cloudmesh.vdir.records import Violation, dollars
from cloudmesh.vdir.rules import NAMES
from cloudmesh.vdir.wanted import unmet
from cloudmesh.vdir.work import Work

_COST = "max_monthly_cost"


def violations(way: Sequence[Node], work: Work) -> Iterator[Violation]:
    """Yield what violates the rules at and below a name, as a stream.

    Args:
        way: the entries on the way to the name, from the root to itself; a limit of cost set above is checked too.
        work: the catalogue and the services.
    """
    top = way[-1]
    nodes = work.catalogue.walk(top.path) if top.is_directory else iter(())
    limit = next((one for one in reversed(way) if _COST in one.own_rules), None)
    if limit is not None:
        yield from _cost(limit, work)
    if not top.is_directory:
        yield from _of_file(top, work)
    for node, replicas in work.catalogue.with_replicas(nodes):
        if _COST in node.own_rules:
            yield from _cost(node, work)
        if not node.is_directory:
            for service, rule, detail in unmet(node, replicas, work.offers):
                yield Violation(f"/{node.path}", service, rule, detail)


def _of_file(node: Node, work: Work) -> Iterator[Violation]:
    for service, rule, detail in unmet(node, work.catalogue.replicas_of([node])[node.id], work.offers):
        yield Violation(f"/{node.path}", service, rule, detail)


def _cost(node: Node, work: Work) -> Iterator[Violation]:
    """Yield what is wrong with the cost of all that is at and below a name that has a limit of its own."""
    name, rule, limit = f"/{node.path}", NAMES[_COST], node.rules.max_monthly_cost
    sizes: dict[str, int] = {}
    for one in work.catalogue.totals(node.path).services:
        sizes[one.service] = sizes.get(one.service, 0) + one.bytes
    total = Decimal(0)
    for service, size in sizes.items():
        offer = work.offers.get(service)
        cost = None if offer is None else monthly(offer.price, size)
        if cost is None:
            yield Violation(name, service, rule, "what it charges for storage is not known: set its price")
        total += cost or Decimal(0)
    if limit is not None and total > limit:
        yield Violation(name, "", rule, f"all replicas cost {dollars(total)} a month, more than {dollars(limit)}")
