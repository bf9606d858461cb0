"""What all requests share: opened services, the database, and the virtual directory made with them."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

from cloudmesh.cdir.offers import Offer
from cloudmesh.cdir.service.security import Principal
from cloudmesh.cdir.service.security.limited import services_for
from cloudmesh.storage.binding import Call, constructor_parameters, load
from cloudmesh.storage.database import Database
from cloudmesh.storage.services import Services
from cloudmesh.vdir import Vdir


class House:
    """The services and the database of one process, until `close`."""

    def __init__(self) -> None:
        self.database = Database()
        self._lock = threading.Lock()
        self._seen: tuple[tuple[int, ...], ...] = ()
        self._opened: list[tuple[Services, Vdir]] = []

    @property
    def services(self) -> Services:
        """The services as they are configured now."""
        return self._current()[0]

    def vdir(self, principal: Principal) -> Vdir:
        """Return the virtual directory on the services that somebody may use."""
        services, vdir = self._current()
        if principal.services is None:
            return vdir
        return Vdir(services=services_for(principal, services), database=self.database)

    def _current(self) -> tuple[Services, Vdir]:
        with self._lock:
            if self._opened:
                configuration = self._opened[-1][0].configuration
                if self._seen == _state_of(configuration.path, configuration.vault.path):
                    return self._opened[-1]
            # those opened before the change are still used by who began with them
            services = Services()
            services.configuration.vault.ask_nobody()
            self._seen = _state_of(services.configuration.path, services.configuration.vault.path)
            self._opened.append((services, Vdir(services=services, database=self.database)))
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
        for services, vdir in self._opened:
            vdir.close()
            services.close()
        self.database.close()


def _state_of(*files: Path) -> tuple[tuple[int, ...], ...]:
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
