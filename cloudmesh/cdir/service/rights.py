"""Whether somebody may ask for this: beyond the scope, for these values."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from cloudmesh.cdir.offers import Field, Offer
from cloudmesh.cdir.service.security import Principal
from cloudmesh.storage import paths
from cloudmesh.storage.errors import PermissionDenied
from cloudmesh.storage.jobs.commands import Jobs
from cloudmesh.storage.meaning import Concerns
from cloudmesh.storage.services import Services

_STREAM = "-"


def check(principal: Principal, offer: Offer, values: Mapping[str, Any], services: Services, jobs: Jobs) -> None:
    """Refuse an operation on what somebody may not touch.

    A path of the service's own computer is for ``admin`` alone. Who is limited to a virtual directory may ask for
    nothing but operations on names, all of them in it. Who is limited to services may name no other.

    Args:
        principal: who asks.
        offer: for what.
        values: by their names in JSON.
        services: the configured ones.
        jobs: to know whose they are.

    Raises:
        PermissionDenied: so it is.
    """
    if offer.target.groups == ("jobs",) and values.get("name") is not None:
        check_owner(principal, values["name"], jobs)
        return
    for field in offer.fields:
        for value in _texts(values.get(field.name)):
            if "admin" not in principal.scopes and is_here(field.concern, value, services):
                raise PermissionDenied(f"{field.name}={value}", "a path of the service's computer needs scope admin")
    if principal.prefix:
        _check_names(principal, offer, values)
    if principal.services is not None:
        _check_services(principal, offer, values, services)


def check_name(principal: Principal, path: str) -> None:
    """Refuse a virtual path outside of the directory that somebody is limited to.

    Raises:
        PermissionDenied: so it is.
    """
    limit, path = paths.resolve(principal.prefix), paths.resolve(path)
    if limit and path != limit and not paths.is_below(path, limit):
        raise PermissionDenied(f"/{path}", f"{principal.name} is limited to /{limit}")


def check_service(principal: Principal, service: str) -> None:
    """Refuse a service that is not among those that somebody is limited to.

    Raises:
        PermissionDenied: so it is.
    """
    if principal.services is not None and service not in principal.services:
        raise PermissionDenied(service, f"{principal.name} is limited to {', '.join(sorted(principal.services))}")


def check_owner(principal: Principal, job: str, jobs: Jobs) -> None:
    """Refuse a job of another to somebody who is limited in what may be seen.

    Raises:
        NotFound: there is no such job.
        PermissionDenied: so it is.
    """
    is_limited = bool(principal.prefix) or principal.services is not None
    if is_limited and jobs.owner(job) != principal.name:
        raise PermissionDenied(job, "the job is another's")


def _check_names(principal: Principal, offer: Offer, values: Mapping[str, Any]) -> None:
    names = [field for field in offer.fields if field.concern is Concerns.NAME]
    places = [one for one in offer.fields if one.concern in (Concerns.PLACE, Concerns.PLACE_OR_HERE)]
    if not names or any(values.get(field.name) is not None for field in places):
        raise PermissionDenied(
            offer.operation.line.partition(" [")[0], f"{principal.name} is limited to names in {principal.prefix}"
        )
    for field in names:
        given = values.get(field.name)
        check_name(principal, paths.split_location(given)[1] if given else _absent(field))


def _check_services(principal: Principal, offer: Offer, values: Mapping[str, Any], services: Services) -> None:
    for field in offer.fields:
        given = values.get(field.name)
        if field.concern is Concerns.SERVICES:
            absent = [services.default()] if field.part == "method" and not field.required else []
            for name in _texts(given) or absent:
                check_service(principal, name)
        elif field.concern in (Concerns.PLACE, Concerns.PLACE_OR_HERE):
            for text in _texts(given) or [""]:
                for one in text.split(","):
                    default = values.get("storage") or services.default()
                    check_service(principal, paths.split_location(one)[0] or default)
        elif field.concern is Concerns.NAME:
            for text in _texts(given):
                if (service := paths.split_location(text)[0]) is not None:
                    check_service(principal, service)


def is_here(concern: Concerns | None, value: str, services: Services) -> bool:
    """Tell whether a value is a path of the service's own computer."""
    if concern is Concerns.HERE:
        return value != _STREAM
    return concern is Concerns.PLACE_OR_HERE and not services.is_location(value)


def _absent(field: Field) -> str:
    """What the value means that is not given."""
    default = field.parameter.default
    return default if isinstance(default, str) else ""


def _texts(value: Any) -> list[str]:
    if value is None:
        return []
    return list(map(str, value)) if isinstance(value, Iterable) and not isinstance(value, str) else [str(value)]
