"""What all requests share: opened services, the database, and the virtual directory made with them."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from cloudmesh.cdir.offers import Offer
from cloudmesh.cdir.service.security import Principal
from cloudmesh.cdir.service.security.limited import services_for
from cloudmesh.storage.binding import Call, constructor_parameters, load
from cloudmesh.storage.database import Database
from cloudmesh.storage.services import Services
from cloudmesh.vdir import Vdir

_State = tuple[tuple[int, ...], ...]


class _Opened(NamedTuple):
    """Services, the virtual directory on them, and what the files of their configuration were like."""

    services: Services
    vdir: Vdir
    seen: _State

    def is_of_now(self) -> bool:
        configuration = self.services.configuration
        return self.seen == _state_of(configuration.path, configuration.vault.path)


class House:
    """The services and the database of one process, until `close`."""

    def __init__(self) -> None:
        self.database = Database()
        self._lock = threading.Lock()
        self._opened: list[_Opened] = []

    @property
    def services(self) -> Services:
        """The services as they are configured now."""
        return self._current().services

    def vdir(self, principal: Principal) -> Vdir:
        """Return the virtual directory on the services that somebody may use."""
        opened = self._current()
        if principal.services is None:
            return opened.vdir
        return Vdir(services=services_for(principal, opened.services), database=self.database)

    def _current(self) -> _Opened:
        opened = self._opened[-1] if self._opened else None
        # without the lock: each request comes by here, and would wait for the looks of all others
        if opened is not None and opened.is_of_now():
            return opened
        with self._lock:
            if not self._opened or not self._opened[-1].is_of_now():
                # those opened before the change are still used by who began with them
                self._opened.append(_open(self.database))
            return self._opened[-1]

    def method(self, offer: Offer, call: Call, principal: Principal) -> Callable[..., Any]:
        """Return the method that an operation is bound to, of an object of its API with what somebody may use."""
        api = load(offer.api)
        if api is Vdir and not call.class_values:
            owner: Any = self.vdir(principal)
        else:
            shared = {"services": services_for(principal, self.services), "database": self.database}
            makers = constructor_parameters(api)
            owner = api(**{name: one for name, one in shared.items() if name in makers}, **call.class_values)
        for group in call.target.groups:
            owner = getattr(owner, group)
        method: Callable[..., Any] = getattr(owner, call.target.name)
        return method

    def close(self) -> None:
        """Remember how fast the services were and which failed, and close everything."""
        for opened in self._opened:
            opened.vdir.close()
            opened.services.close()
        self.database.close()


def _open(database: Database) -> _Opened:
    services = Services()
    services.configuration.vault.ask_nobody()
    seen = _state_of(services.configuration.path, services.configuration.vault.path)
    return _Opened(services, Vdir(services=services, database=database), seen)


def _state_of(*files: Path) -> _State:
    """What differs when a file has been replaced."""
    found: list[tuple[int, ...]] = []
    for file in files:
        try:
            status = file.stat()
        except OSError:
            found.append(())
        else:
            found.append((status.st_ino, status.st_mtime_ns, status.st_size))
    return tuple(found)
