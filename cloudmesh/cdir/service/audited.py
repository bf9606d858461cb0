"""What the audit log tells of an operation, in the words of the command line."""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Mapping
from typing import Any

from cloudmesh.cdir.offers import Offer
from cloudmesh.storage.meaning import Concerns


def told(offer: Offer, values: Mapping[str, Any]) -> tuple[str, str]:
    """Return the command, and what it was about, as it would be typed.

    That are its arguments, its flags and the options that name places. No other option is told: secrets are options.

    Args:
        offer: the operation.
        values: by their names in JSON.
    """
    return " ".join((offer.command, *offer.operation.words)), shlex.join(_typed(offer, values))


def _typed(offer: Offer, values: Mapping[str, Any]) -> Iterator[str]:
    arguments = [one.name.lower() for one in offer.operation.arguments]
    for name in arguments:
        if (value := values.get(name)) is not None:
            yield from map(str, value) if isinstance(value, list) else [str(value)]
    for field in offer.fields:
        value, option = values.get(field.name), f"--{field.name.replace('_', '-')}"
        if value is True:
            yield option
        elif field.concern not in (None, Concerns.SCHEDULER) and value and field.name not in arguments:
            yield f"{option}={','.join(map(str, value)) if isinstance(value, list) else value}"
