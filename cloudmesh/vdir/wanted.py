"""Where the rules want a file's replicas: pure functions of the rules, of where there are some, and of the offers.

Services of ``on`` come first, in their order. What is then still lacking, for ``copies`` or for different
``locations``, is chosen among the other configured services that ``not_on`` does not exclude: a new place before a
known one where places are lacking, then the cheapest to keep the file at (unknown prices last), then the fastest to
write to, then by name. So everybody who knows the same chooses the same. ``not_on`` wins over all.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from decimal import Decimal

from cloudmesh.storage.transfer.prices import monthly
from cloudmesh.vdir.nodes import Node, Replica
from cloudmesh.vdir.offers import Offer
from cloudmesh.vdir.records import is_good
from cloudmesh.vdir.rules import Rules

Offers = Mapping[str, Offer]


def targets(rules: Rules, size: int | None, holders: Collection[str], offers: Offers) -> tuple[list[str], list[str]]:
    """Return the services that a file's replicas have to be added on, and those to take them away from.

    Args:
        rules: for the file.
        size: bytes.
        holders: services that have a replica.
        offers: of all configured services.
    """
    kept = [one for one in holders if one not in rules.not_on and one in offers]
    allowed = [one for one in offers if one not in rules.not_on]
    add = [one for one in dict.fromkeys(rules.on) if one in allowed and one not in kept]
    while True:
        have = [*kept, *add]
        seen = {offers[one].place for one in have}
        lacks_places = rules.locations > 1 and len(seen) < rules.locations
        open_to = [one for one in allowed if one not in have]
        if lacks_places:
            new = [one for one in open_to if offers[one].place not in seen]
            open_to = new or (open_to if len(have) < rules.copies else [])
        elif len(have) >= rules.copies:
            break
        if not open_to:
            break
        add.append(min(open_to, key=lambda one: _order(offers[one], size or 0)))
    remove = [one for one in holders if one in rules.not_on] if kept or add else []
    return add, remove


def _order(offer: Offer, size: int) -> tuple[bool, Decimal, float, str]:
    cost = monthly(offer.price, size)
    return (cost is None, cost or Decimal(0), offer.writing.seconds(size), offer.service)


def missing_services(node: Node, replicas: Collection[Replica], offers: Offers) -> list[str]:
    """Return the services on which the rules want a replica of a file and none is registered."""
    return targets(node.rules, node.size, _holders(replicas), offers)[0]


def surplus_services(node: Node, replicas: Collection[Replica], offers: Offers) -> list[str]:
    """Return the services that have a replica and may have none, where enough good ones are elsewhere to take it away.

    Enough are as many as the rules want, and at least one.
    """
    unwanted = [one.service for one in replicas if one.service in node.rules.not_on]
    good = [one.service for one in replicas if is_good(node, one) and one.service not in unwanted]
    return unwanted if good and not targets(node.rules, node.size, good, offers)[0] else []


def _holders(replicas: Collection[Replica]) -> list[str]:
    return [one.service for one in replicas if one.state != "deleting"]


def unmet(node: Node, replicas: Collection[Replica], offers: Offers) -> Iterator[tuple[str, str, str]]:
    """Yield what a file violates of its rules: the service concerned (or none), the rule's name, and how.

    A replica on a service that is not configured counts no more than it does for `targets`.
    """
    rules = node.rules
    good = [one.service for one in replicas if is_good(node, one) and one.service in offers]
    for service in rules.on:
        if service not in good:
            yield service, "on", "it has no good replica there"
    for one in replicas:
        if one.service in rules.not_on:
            yield one.service, "not-on", "it has a replica there"
    counted = [one for one in good if one not in rules.not_on]
    if len(counted) < rules.copies:
        yield "", "copies", f"good replicas: {len(counted)}, needed: {rules.copies}"
    seen = {offers[one].place for one in counted}
    if rules.locations > 1 and len(seen) < rules.locations:
        yield "", "locations", f"places with good replicas: {len(seen)}, needed: {rules.locations}"
