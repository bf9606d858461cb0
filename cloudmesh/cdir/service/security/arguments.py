"""What a principal may name in a command: the one place that knows what each argument of a usage line stands for.

A principal with a prefix may name virtual paths in it alone, and nothing on the services themselves; one with services
may name and use those alone. And whoever may not administer the service names nothing of the computer that it runs on:
its files hold the vault's key and the database, and who could copy them to a service could read them there.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Literal

from cloudmesh.cdir.service.security.principal import Principal
from cloudmesh.storage import paths
from cloudmesh.storage.abc import StorageABC
from cloudmesh.storage.binding import parse_names
from cloudmesh.storage.errors import PermissionDenied
from cloudmesh.storage.services import Services
from cloudmesh.storage.usage import Operation, Value
from cloudmesh.vdir import cwd

Role = Literal["path", "replica", "location", "place", "services", "computer", "text"]
"""path: a virtual path; replica: one that may name a service first; location: on a service; place: a location, or a
path of this computer; services: names of some; computer: a path of this computer, or where our credentials may be sent;
text: none of these."""

_ROLES: Mapping[str, Mapping[str, Role]] = {
    "vdir": {
        "DIR": "path",
        "DIR_OR_NAME": "path",
        "DIR_AND_NAME": "path",
        "SOURCE": "path",
        "DESTINATION": "path",
        "NAME": "replica",
        "FILEENDPOINT": "location",
        "SERVICES": "services",
        "--to": "services",
        "--from": "services",
        "FILE": "computer",
        "--filter-from": "computer",
        "PATTERN": "text",
    },
    "storage": {
        "SOURCE": "location",
        "DESTINATION": "location",
        "DIRECTORY": "location",
        "--storage": "services",
        "--to": "computer",
        "--identity": "computer",
        "--filter-from": "computer",
        "--cluster": "computer",
        "FILENAME": "text",
        "NAME": "text",
        "KEY": "text",
    },
}
_OTHERWISE: Mapping[tuple[str, str, str], Role] = {
    ("vdir", "put", "SOURCE"): "computer",
    ("vdir", "get", "DESTINATION"): "computer",
    ("storage", "put", "SOURCE"): "computer",
    ("storage", "get", "DESTINATION"): "computer",
    ("storage", "sync", "SOURCE"): "place",
    ("storage", "sync", "DESTINATION"): "place",
}
_FOR_ALL = {
    "vdir": frozenset({"cd", "pwd"}),
    "storage": frozenset({"run", "monitor", "clean", "jobs", "config", "vault"}),
}
"""The first words of commands about everybody's things: no principal with limits may use them."""


def role_of(command: str, operation: Operation, element: str) -> Role | None:
    """Return what an argument or option of a usage line stands for; None where that was not decided."""
    known = _OTHERWISE.get((command, operation.words[0], element)) or _ROLES[command].get(element)
    return known or ("text" if element.startswith("-") else None)


def check(
    principal: Principal, command: str, operation: Operation, values: Mapping[str, Value], services: Collection[str]
) -> None:
    """Let a command through that names only what the principal may use.

    Args:
        principal: who asks.
        command: ``vdir`` or ``storage``.
        operation: the usage line.
        values: what was given for its elements, as docopt would: texts, by ``NAME`` and ``--option``.
        services: the names of all services.

    Raises:
        PermissionDenied: it names something else.
    """
    if principal.is_limited and operation.words[0] in _FOR_ALL[command]:
        raise _denied(principal, operation, "concerns more than that")
    if principal.prefix and command == "storage":
        raise _denied(principal, operation, "works on the services themselves")
    for element in operation.elements:
        role = role_of(command, operation, element.name)
        for text in _texts(values.get(element.name)) or ([""] if role == "path" else []):
            if role is None and principal.is_limited:
                raise _denied(principal, operation, f"takes {element.name}")
            _check_text(principal, operation, role, text, services)


def services_for(principal: Principal, services: Services) -> Services:
    """Return the services as the principal may use them: others can be named by no default and no rule either."""
    return services if principal.services is None else _LimitedServices(services, principal)


class _LimitedServices(Services):
    """The services of another object, which opens and closes them, as far as a principal may use them."""

    def __init__(self, services: Services, principal: Principal) -> None:
        super().__init__(services.configuration)
        self._services = services
        self._principal = principal

    def open(self, name: str) -> StorageABC:
        self._principal.check_service(name)
        return self._services.open(name)

    def opened(self) -> dict[str, StorageABC]:
        return self._services.opened()

    def close(self) -> None:
        """Leave them to their owner."""


def _check_text(
    principal: Principal, operation: Operation, role: Role | None, text: str, services: Collection[str]
) -> None:
    service, path = paths.split_location(text)
    if role == "computer" or (role == "place" and service is None):
        if principal.is_limited or "admin" not in principal.scopes:
            raise _denied(principal, operation, "names something of the computer that the service runs on")
    elif role == "replica" and service in services and service is not None:
        principal.check_service(service)
        principal.check_path(paths.resolve(path))
    elif role in ("path", "replica"):
        if principal.prefix:
            principal.check_path(paths.resolve(text, cwd.current() if not text.startswith("/") else ""))
    elif role in ("location", "place"):
        if principal.prefix:
            raise _denied(principal, operation, "names a place on a service")
        if service is not None:
            principal.check_service(service)
    elif role == "services":
        for name in parse_names(text):
            principal.check_service(name)


def _texts(value: Value) -> Sequence[str]:
    if isinstance(value, str):
        return [value]
    return value if isinstance(value, list) else []


def _denied(principal: Principal, operation: Operation, why: str) -> PermissionDenied:
    return PermissionDenied(" ".join(operation.words), f"{principal.name} may not use this: it {why}")
