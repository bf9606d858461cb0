"""Rules of a directory, inherited by what is below it: where replicas have to be, and what becomes of changes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from decimal import Decimal
from types import MappingProxyType
from typing import Any, Literal, Self

Deletes = Literal["heal", "propagate"]


@dataclass(frozen=True, slots=True)
class Rules:
    """What holds for a file or directory; every part of it may be set on its own.

    Attributes:
        copies: how many replicas there have to be; 0 = as many as there are.
        on: services that have to have a replica.
        not_on: services that may have none.
        locations: in how many different places of the world replicas have to be.
        max_monthly_cost: US dollars a month that all replicas below may cost together; None = no limit.
        deletes: what a replica that others removed means: ``heal`` brings it back, ``propagate`` deletes the name.
        versions: how many contents that a name has no longer are kept.
        versions_age: for how many seconds they are kept.
    """

    copies: int = 0
    on: tuple[str, ...] = ()
    not_on: tuple[str, ...] = ()
    locations: int = 1
    max_monthly_cost: Decimal | None = None
    deletes: Deletes = "heal"
    versions: int = 5
    versions_age: float = 30 * 86400.0

    def changed(self, given: Mapping[str, Any]) -> Self:
        """Return these rules with those that are given, in their place.

        Args:
            given: by attribute, as JSON can hold it: lists for tuples, a text for money.

        Raises:
            TypeError, ValueError, ArithmeticError: that are no rules.
        """
        values = dict(given)
        for name in ("on", "not_on"):
            if name in values:
                values[name] = tuple(values[name])
        if values.get("max_monthly_cost") is not None:
            values["max_monthly_cost"] = Decimal(values["max_monthly_cost"])
        return replace(self, **values)


DEFAULT = Rules()
NOTHING: Mapping[str, Any] = MappingProxyType({})
"""No rules set."""

NAMES: Mapping[str, str] = MappingProxyType({one.name: one.name.replace("_", "-") for one in fields(Rules)})
"""The rules by attribute, each with its name as it is typed."""
