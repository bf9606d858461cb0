"""Where `put` and `copy` bring files: to the services that the user names, else to those that the rules want, else to
those that have the name already, and a new name to the default service.

What a rule forbids is refused, with the rule's name and the directory where it was set.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from decimal import Decimal

from cloudmesh.storage import paths
from cloudmesh.storage.errors import Refused
from cloudmesh.storage.transfer.prices import monthly
from cloudmesh.vdir.nodes import Node
from cloudmesh.vdir.records import dollars
from cloudmesh.vdir.rules import DEFAULT, NAMES
from cloudmesh.vdir.wanted import targets
from cloudmesh.vdir.work import Work


@dataclass(slots=True)
class Budget:
    """What may be spent a month at and below a directory.

    Attributes:
        limit: US dollars.
        spent: what is there costs already, and what was planned since.
    """

    limit: Decimal
    spent: Decimal


class Placing:
    """Chooses services for files, one file after the other, in one thread.

    Args:
        work: the catalogue and the services.
        to: services that the user names; None for the others.
        dryrun: open no service.
    """

    def __init__(self, work: Work, to: Sequence[str] | None, *, dryrun: bool) -> None:
        self._work = work
        self._to = to
        self._opens = not dryrun
        self._opened: set[str] = set()
        self._directories: dict[str, Node | None] = {}
        self._nearest: dict[str, Node] = {}
        self._budgets: dict[str, Budget] = {}

    def look_up(self, files: Iterable[str]) -> None:
        """Learn what holds for files, by path; they need not exist."""
        parents = {paths.parent(path) for path in files} - self._nearest.keys()
        above = {one for parent in parents for one in _with_above(parent)} - self._directories.keys()
        found = self._work.catalogue.lookup_many(above)
        self._directories |= {path: found.get(path) for path in above}
        for parent in parents:
            there = (self._directories[one] for one in _with_above(parent))
            self._nearest[parent] = next(one for one in there if one is not None)

    def services(self, path: str, node: Node | None, size: int | None, holders: Collection[str]) -> list[str]:
        """Return the services that a file goes to, and count what keeping it there will cost.

        Args:
            path: of the file, one of those that were looked up.
            node: the file, where there is one.
            size: bytes of the content that it shall have.
            holders: services that have a replica already.

        Raises:
            Refused: a rule forbids it.
            ConfigError: a service cannot be opened: that is told once, before anything is done, not file by file.
        """
        rules = (node or self._nearest[paths.parent(path)]).rules
        if self._to is not None:
            chosen = list(self._to)
            for service in chosen:
                if service in rules.not_on:
                    raise self._refusal(path, node, "not_on", f"no replica may be on {service}")
        elif (rules.on, rules.copies, rules.locations) == (DEFAULT.on, DEFAULT.copies, DEFAULT.locations):
            chosen = [one for one in holders if one not in rules.not_on] or [self._work.services.default()]
            if chosen[0] in rules.not_on:
                raise self._refusal(path, node, "not_on", f"no replica may be on {chosen[0]}, the default service")
        else:
            first = list(holders) or ([] if rules.on else [self._work.services.default()])
            kept = [one for one in first if one not in rules.not_on]
            chosen = [*kept, *targets(rules, size, kept, self._work.offers)[0]]
            if not chosen:
                raise self._refusal(path, node, "not_on", "no service is left")
        self._spend(path, node, size or 0, [one for one in chosen if one not in holders])
        for service in chosen if self._opens else ():
            if service not in self._opened:
                self._work.target(service)
                self._opened.add(service)
        return chosen

    def _origin(self, path: str, node: Node | None, rule: str) -> Node:
        """Return where the rule that holds for a file was set."""
        nodes = [node, *(self._directories[one] for one in _with_above(paths.parent(path)))]
        return next(one for one in nodes if one is not None and rule in one.own_rules)

    def _refusal(self, path: str, node: Node | None, rule: str, why: str) -> Refused:
        origin = self._origin(path, node, rule)
        return Refused(
            f"/{path}", f"{why}: rule {NAMES[rule]} of /{origin.path}", f"cms vdir rules show /{origin.path}"
        )

    def _spend(self, path: str, node: Node | None, size: int, services: Sequence[str]) -> None:
        limit = (node or self._nearest[paths.parent(path)]).rules.max_monthly_cost
        if limit is None or not services:
            return
        origin = self._origin(path, node, "max_monthly_cost")
        budget = self._budgets.get(origin.path)
        if budget is None:
            there = self._work.catalogue.totals(origin.path).services
            known = (self._price(one.service, one.bytes) for one in there)
            budget = self._budgets[origin.path] = Budget(limit, sum((one or Decimal(0) for one in known), Decimal(0)))
        costs = {one: self._price(one, size) for one in services}
        for service, cost in costs.items():
            if cost is None:
                why = f"what {service} charges for storage is not known"
                raise self._refusal(path, node, "max_monthly_cost", why)
        spent = budget.spent + sum((one or Decimal(0) for one in costs.values()), Decimal(0))
        if spent > budget.limit:
            why = f"keeping it would raise the cost to {dollars(spent)} a month, more than {dollars(budget.limit)}"
            raise self._refusal(path, node, "max_monthly_cost", why)
        budget.spent = spent

    def _price(self, service: str, size: int) -> Decimal | None:
        offer = self._work.offers.get(service)
        return None if offer is None else monthly(offer.price, size)


def _with_above(directory: str) -> list[str]:
    """Return the path of a directory, and those of all above it, the nearest first; the root is the last."""
    found = [directory]
    while found[-1]:
        found.append(paths.parent(found[-1]))
    return found
