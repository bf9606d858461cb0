"""What a method of an API does, and what its parameters mean, as data: whoever offers it to others decides by this.

The command line asks nothing of it. The REST service derives from it by which HTTP method an operation is asked for,
what somebody needs to be allowed to do it, and which operations it cannot offer.
"""

from __future__ import annotations

from collections.abc import Callable
from enum import Enum
from typing import Annotated, Any, TypeVar, get_args, get_origin

Method = TypeVar("Method", bound=Callable[..., Any])


class Concerns(Enum):
    """What the value of a parameter names, as metadata of an ``Annotated`` type."""

    NAME = "a virtual path"
    REPLICA = "a virtual path, or the replica of one on a service"
    PLACE = "a place on a service"
    HERE = "a path of the computer that does the work"
    PLACE_OR_HERE = "a place on a service, or where it names no service perhaps a path of the computer"
    SERVICES = "services"
    SCHEDULER = "who hands work, and the credentials for it, to other computers"


VirtualPath = Annotated[str, Concerns.NAME]
"""A virtual path, literally: a colon in it is one of its characters."""

VirtualFile = Annotated[str, Concerns.REPLICA]
"""A virtual path, or ``SERVICE:/path`` for its replica there, where that is a service."""

Place = Annotated[str, Concerns.PLACE]
"""``SERVICE:PATH``, or a path on a service that is chosen elsewhere."""

PathHere = Annotated[str, Concerns.HERE]
"""A path of this computer; ``-`` is standard input or output."""

PlaceOrPathHere = Annotated[str, Concerns.PLACE_OR_HERE]
"""A side of a sync."""

ServiceName = Annotated[str, Concerns.SERVICES]
"""The name of a service."""


SchedulerAddress = Annotated[str, Concerns.SCHEDULER]
"""The address of a cluster's scheduler."""


def concern(annotation: Any) -> Concerns | None:
    """Return what a parameter of this type names; None for what names nothing, such as a number."""
    if get_origin(annotation) is Annotated:
        return next((one for one in annotation.__metadata__ if isinstance(one, Concerns)), None)
    return next((found for one in get_args(annotation) if (found := concern(one)) is not None), None)


def reading(method: Method) -> Method:
    """Mark a method that changes nothing, neither files nor what we know of them."""
    method.reading = True  # type: ignore[attr-defined]
    return method


def is_reading(method: Callable[..., Any]) -> bool:
    """Tell whether the method was marked with `reading`."""
    return bool(getattr(method, "reading", False))


def quick(method: Method) -> Method:
    """Mark a method that asks the database alone, and has its first rows at once: it waits for no service."""
    method.quick = True  # type: ignore[attr-defined]
    return method


def is_quick(method: Callable[..., Any]) -> bool:
    """Tell whether the method was marked with `quick`."""
    return bool(getattr(method, "quick", False))


def long(method: Method) -> Method:
    """Mark a method that may take hours and tells of its progress: a service does it as a job."""
    method.long = True  # type: ignore[attr-defined]
    return method


def is_long(method: Callable[..., Any]) -> bool:
    """Tell whether the method was marked with `long`."""
    return bool(getattr(method, "long", False))


def at_the_terminal(why: str) -> Callable[[Method], Method]:
    """Mark a method that makes sense only where the person sits, with the reason; no service offers it."""

    def mark(method: Method) -> Method:
        method.at_the_terminal = why  # type: ignore[attr-defined]
        return method

    return mark


def why_at_the_terminal(method: Callable[..., Any]) -> str:
    """Return why a method was marked with `at_the_terminal`; empty for one that was not."""
    return str(getattr(method, "at_the_terminal", ""))
