"""Whether somebody may ask for this: beyond the scope, for these values.

What nobody has thought of is refused to whoever has limits: an operation is open to them only where all that it
concerns stands in its values and was checked here.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from cloudmesh.cdir.offers import Field, Offer
from cloudmesh.cdir.service.security import Principal
from cloudmesh.storage import paths
from cloudmesh.storage.errors import PermissionDenied
from cloudmesh.storage.jobs.commands import Jobs
from cloudmesh.storage.jobs.rows import no_such_job
from cloudmesh.storage.meaning import Concerns
from cloudmesh.storage.services import Services

_STREAM = "-"
_NAMES = (Concerns.NAME, Concerns.REPLICA)
_PLACES = (Concerns.PLACE, Concerns.PLACE_OR_HERE)


def check(principal: Principal, offer: Offer, values: Mapping[str, Any], services: Services, jobs: Jobs) -> None:
    """Refuse an operation on what somebody may not touch.

    Paths of the service's own computer, and a scheduler that is sent credentials, are for ``admin`` without limits
    alone. Who is limited to a virtual directory may ask for nothing but operations on names, all of them in it. Who is
    limited to services may name no other. Neither may ask for what needs ``admin``.

    Args:
        principal: who asks.
        offer: for what.
        values: by their names in JSON.
        services: the configured ones.
        jobs: to know whose they are.

    Raises:
        PermissionDenied: so it is.
        NotFound: there is no such job.
    """
    limited = is_limited(principal)
    for field in offer.fields:
        for value in _texts(values.get(field.name)):
            if needs_computer(field.concern, value, services) and (limited or "admin" not in principal.scopes):
                raise PermissionDenied(f"{field.name}={value}", "this needs the scope 'admin', without limits")
    if not limited:
        return
    if offer.scope == "admin":
        raise _too_limited(principal, offer)
    if offer.target.groups == ("jobs",) and values.get("name") is not None:
        check_owner(principal, values["name"], jobs)
        return
    if principal.prefix:
        _check_names(principal, offer, values, services)
    if principal.services is not None:
        _check_services(principal, offer, values, services)


def is_limited(principal: Principal) -> bool:
    """Tell whether somebody may use only some names or some services."""
    return bool(principal.prefix) or principal.services is not None


def check_owner(principal: Principal, job: str, jobs: Jobs) -> None:
    """Refuse a job of another to somebody who is limited in what may be seen, as one that is not there.

    Raises:
        NotFound: there is no such job, or it is another's.
    """
    if is_limited(principal) and jobs.owner(job) != principal.name:
        raise no_such_job(job)


def is_here(concern: Concerns | None, value: str, services: Services) -> bool:
    """Tell whether a value is a path of the service's own computer."""
    if concern is Concerns.HERE:
        return value != _STREAM
    return concern is Concerns.PLACE_OR_HERE and not services.is_location(value)


def needs_computer(concern: Concerns | None, value: str, services: Services) -> bool:
    """Tell whether a value gives what only the service's own user may give."""
    return concern is Concerns.SCHEDULER or is_here(concern, value, services)


def _check_names(principal: Principal, offer: Offer, values: Mapping[str, Any], services: Services) -> None:
    names = [field for field in offer.fields if field.concern in _NAMES]
    if not names or any(field.concern in _PLACES for field in offer.fields):
        raise _too_limited(principal, offer)
    for field in names:
        given = values.get(field.name)
        text = _absent(field) if given is None else str(given)
        if field.concern is Concerns.REPLICA:
            text = _replica(text, services)[1]
        principal.check_path(paths.resolve(text))


def _check_services(principal: Principal, offer: Offer, values: Mapping[str, Any], services: Services) -> None:
    concerns = {field.concern for field in offer.fields}
    # without names or places it concerns the services that it names, and without those all of them
    is_checked = not concerns.isdisjoint((*_NAMES, *_PLACES)) or any(
        field.concern is Concerns.SERVICES and values.get(field.name) for field in offer.fields
    )
    if not is_checked:
        raise _too_limited(principal, offer)
    for field in offer.fields:
        given = values.get(field.name)
        if field.concern is Concerns.SERVICES:
            for name in _texts(given):
                principal.check_service(name)
        elif field.concern in _PLACES:
            default = values.get("storage") or services.default()
            for text in _texts(given) or [""]:
                for one in text.split(","):
                    principal.check_service(paths.split_location(one)[0] or default)
        elif field.concern is Concerns.REPLICA:
            for text in _texts(given):
                # whether or not there is such a service: that is not told
                if (service := paths.split_location(text)[0]) is not None:
                    principal.check_service(service)


def _replica(text: str, services: Services) -> tuple[str | None, str]:
    """Return service and path of what a method reads as a name or a replica of one, as `Vdir` does."""
    service, path = paths.split_location(text)
    return (service, path) if service is not None and service in services.names() else (None, text)


def _too_limited(principal: Principal, offer: Offer) -> PermissionDenied:
    limits = [f"/{principal.prefix}"] if principal.prefix else []
    limits += sorted(principal.services or ())
    return PermissionDenied(
        offer.operation.line.partition(" [")[0], f"{principal.name} is limited to {', '.join(limits)}"
    )


def _absent(field: Field) -> str:
    """What the value means that is not given."""
    default = field.parameter.default
    return default if isinstance(default, str) else ""


def _texts(value: Any) -> list[str]:
    if value is None:
        return []
    return list(map(str, value)) if isinstance(value, Iterable) and not isinstance(value, str) else [str(value)]
