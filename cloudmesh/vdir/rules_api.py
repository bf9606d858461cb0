"""`RulesApi`: what ``vdir rules`` does."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from decimal import Decimal, InvalidOperation
from typing import Annotated, Any, get_args

from cloudmesh.storage.binding import Count, Duration, Names, Reads, ServiceNames, tells_when_empty
from cloudmesh.storage.errors import ConfigError, NotFound, Refused, UsageError
from cloudmesh.storage.meaning import VirtualPath, reading
from cloudmesh.vdir.nodes import Node
from cloudmesh.vdir.records import RuleInfo, Violation
from cloudmesh.vdir.rules import DEFAULT, NAMES, Deletes
from cloudmesh.vdir.violations import violations
from cloudmesh.vdir.work import Work


def _money(text: str) -> Decimal:
    try:
        amount = Decimal(text)
    except InvalidOperation:
        raise ValueError(text) from None
    if not amount.is_finite() or amount < 0:
        raise ValueError(text)
    return amount


def _number(text: str) -> int:
    if (number := int(text)) < 0:
        raise ValueError(text)
    return number


Money = Annotated[Decimal, Reads(_money, "US dollars, such as 20 or 0.5")]
"""An amount that is not negative."""

Number = Annotated[int, Reads(_number, "a whole number of at least 0")]
"""A whole number that is not negative."""


class RulesApi:
    """The rules of directories: where replicas have to be, and what becomes of changes. What is below inherits them.

    Args:
        work: gives the catalogue and the services.
        path: reads a virtual path as typed.
    """

    def __init__(self, work: Callable[[], Work], path: Callable[[str], str]) -> None:
        self._work = work
        self._path = path

    @reading
    def show(self, dir: VirtualPath = "") -> list[RuleInfo]:
        """Return the rules that hold for a directory, or a file, each with where it was set.

        Raises:
            NotFound: nothing is there.
        """
        way = self._way(dir)
        infos: list[RuleInfo] = []
        for attribute, name in NAMES.items():
            origin = next((f"/{one.path}" for one in reversed(way) if attribute in one.own_rules), "")
            infos.append(RuleInfo(name, _typed(getattr(way[-1].rules, attribute)), origin))
        return infos

    def set(
        self,
        dir: VirtualPath,
        *,
        copies: Count | None = None,
        on: ServiceNames | None = None,
        not_on: ServiceNames | None = None,
        locations: Count | None = None,
        max_monthly_cost: Money | None = None,
        deletes: Deletes | None = None,
        versions: Number | None = None,
        versions_age: Duration | None = None,
    ) -> list[RuleInfo]:
        """Set rules of a directory, in place of those of the same name; return all that hold there.

        Replicas that are there already move with the next `sync`.

        Args:
            dir: a directory, or a file.
            copies: how many replicas there have to be, at least.
            on: services that have to have one.
            not_on: services that may have none.
            locations: in how many different places of the world they have to be, at least.
            max_monthly_cost: US dollars that all replicas below may cost a month.
            deletes: what a replica that others removed means: it is brought back, or the name is deleted.
            versions: how many contents that a name has no longer are kept.
            versions_age: seconds that they are kept.

        Raises:
            NotFound: nothing is there.
            ConfigError: there is no such service.
            UsageError: no rule is given, or a value makes no sense.
            Refused: rules contradict each other, or those above.
        """
        given: dict[str, Any] = {
            "copies": copies,
            "on": on and list(dict.fromkeys(on)),
            "not_on": not_on and list(dict.fromkeys(not_on)),
            "locations": locations,
            "max_monthly_cost": None if max_monthly_cost is None else str(max_monthly_cost),
            "deletes": deletes,
            "versions": versions,
            "versions_age": versions_age,
        }
        changes = {name: value for name, value in given.items() if value is not None}
        if not changes:
            raise UsageError("vdir rules set", "no rule is given", f"such as --{' --'.join(NAMES.values())}")
        if deletes is not None and deletes not in get_args(Deletes):
            raise UsageError("--deletes", f"{deletes!r} is not allowed", "allowed is heal or propagate")
        way = self._way(dir)
        own = {**way[-1].own_rules, **changes}
        self._check(way, own)
        self._work().catalogue.set_rules(way[-1].path, own)
        return self.show(f"/{way[-1].path}")

    def remove(self, dir: VirtualPath, rules: Names | None = None) -> list[RuleInfo]:
        """Take rules back that were set on a directory, so that those above hold; all of them where none is named.

        Args:
            dir: the directory.
            rules: the names of those, as `show` tells them.

        Raises:
            NotFound: nothing is there, or such a rule is not set there.
            UsageError: there is no such rule.
            Refused: those that are left contradict each other, or those above.
        """
        way = self._way(dir)
        attributes = {name: attribute for attribute, name in NAMES.items()}
        for name in rules or ():
            if name not in attributes:
                raise UsageError(name, "there is no such rule", f"rules are {', '.join(attributes)}")
            if attributes[name] not in way[-1].own_rules:
                raise NotFound(
                    f"/{way[-1].path}", f"the rule {name} is not set here", "cms vdir rules show tells where"
                )
        gone = {attributes[name] for name in rules} if rules else set(way[-1].own_rules)
        own = {name: value for name, value in way[-1].own_rules.items() if name not in gone}
        self._check(way, own)
        self._work().catalogue.set_rules(way[-1].path, own)
        return self.show(f"/{way[-1].path}")

    @reading
    @tells_when_empty("no rule is violated")
    def check(self, dir: VirtualPath = "") -> Iterator[Violation]:
        """Yield what violates the rules at and below a directory, as the catalogue knows it.

        Raises:
            NotFound: nothing is there.
        """
        return violations(self._way(dir), self._work())

    def _way(self, dir: VirtualPath) -> list[Node]:
        """Return the directory, behind all those above it. Raises NotFound, NotADirectory."""
        path = self._path(dir)
        catalogue = self._work().catalogue
        catalogue.lookup(path)
        return catalogue.way(path)

    def _check(self, way: Sequence[Node], own: Mapping[str, Any]) -> None:
        """Refuse rules that nothing can fulfil.

        Raises:
            ConfigError: there is no such service.
            Refused: they contradict each other, or those above.
        """
        offers = self._work().offers
        for service in (*own.get("on", ()), *own.get("not_on", ())):
            if service not in offers:
                raise ConfigError(service, "there is no such service", "cms storage config list names those there are")
        rules = (way[-2].rules if len(way) > 1 else DEFAULT).changed(own)
        allowed = [one for one in offers if one not in rules.not_on]
        here = f"/{way[-1].path}"
        if both := sorted({*rules.on} & {*rules.not_on}):
            raise Refused(here, f"replicas have to be on {both[0]} (on), and may not be (not-on)", _hint(here))
        if rules.copies > len(allowed):
            raise Refused(here, f"{rules.copies} copies on {len(allowed)} services that are allowed", _hint(here))
        if rules.locations > len({offers[one].place for one in allowed}):
            raise Refused(here, f"the services that are allowed are not in {rules.locations} places", _hint(here))


def _hint(here: str) -> str:
    return f"cms vdir rules show {here} tells what holds already, and where it was set"


def _typed(value: Any) -> str:
    if isinstance(value, tuple):
        return ",".join(value)
    if isinstance(value, float):
        return f"{value:g}s" if value % 86400 else f"{value / 86400:g}d"
    return "" if value is None else str(value)
