"""What keeps the requests of `test_fuzz` within the test's own folders; schemathesis imports it."""

from __future__ import annotations

from typing import Any

import schemathesis

from cloudmesh.cdir.offers import offers
from cloudmesh.storage.meaning import Concerns

_OF_THE_COMPUTER = {
    field.name
    for offer in offers()
    for field in offer.fields
    if field.concern in (Concerns.HERE, Concerns.PLACE_OR_HERE)
}


@schemathesis.hook
def before_call(context: schemathesis.HookContext, case: schemathesis.Case[Any], kwargs: dict[str, Any]) -> None:
    """Have paths of the computer lie below the service's own working directory, and no cluster be looked for."""
    if not isinstance(case.body, dict):
        return
    for name in _OF_THE_COMPUTER.intersection(case.body):
        if isinstance(value := case.body[name], str):
            case.body[name] = value.replace("..", "").lstrip("/~")
    if isinstance(case.body.get("cluster"), str):
        case.body["cluster"] = ""


@schemathesis.serializer("application/x-ndjson")
def lines(context: schemathesis.SerializationContext, value: Any) -> bytes:
    """Send lines as they are."""
    return value if isinstance(value, bytes) else str(value).encode("utf-8", "surrogatepass")
