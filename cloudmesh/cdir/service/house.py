"""What all requests share: opened services, the database, and the virtual directory made with them."""

from __future__ import annotations

import threading
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple, ParamSpec, TypeVar

from anyio import CapacityLimiter, to_thread

from cloudmesh.cdir.offers import Offer
from cloudmesh.cdir.service.security import Principal
from cloudmesh.cdir.service.security.limited import services_for
from cloudmesh.storage.binding import Call, constructor_parameters, load
from cloudmesh.storage.database import Database
from cloudmesh.storage.services import Services
from cloudmesh.vdir import Vdir

_FEW = 4
"""Threads for what asks the database alone. More of them only take the interpreter from each other: 16 need half as
much processor time again. What waits for a service has threads of its own, so that nobody here waits for it."""

_State = tuple[tuple[int, ...], ...]
P = ParamSpec("P")
T = TypeVar("T")


class Opened(NamedTuple):
    """Services as they are configured now, and the virtual directory on them.

    Attributes:
        services: all of them.
        database: the house's.
        whole: the virtual directory on all of them.
        seen: what the files of their configuration were like.
    """

    services: Services
    database: Database
    whole: Vdir
    seen: _State

    def vdir(self, principal: Principal) -> Vdir:
        """Return the virtual directory on the services that somebody may use."""
        if principal.services is None:
            return self.whole
        return Vdir(services=services_for(principal, self.services), database=self.database)

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


class House:
    """The services and the database of one process, until `close`."""

    def __init__(self) -> None:
        self.database = Database()
        self._lock = threading.Lock()
        self._few = CapacityLimiter(_FEW)
        self._opened: list[Opened] = []

    def opened(self) -> Opened:
        """Return the services as they are configured now: to be asked once for each request, as it looks at files."""
        opened = self._opened[-1] if self._opened else None
        # without the lock: each request comes by here, and would wait for the looks of all others
        if opened is not None and _is_of_now(opened):
            return opened
        with self._lock:
            if not self._opened or not _is_of_now(self._opened[-1]):
                # those opened before the change are still used by who began with them
                self._opened.append(_open(self.database))
            return self._opened[-1]

    async def look(self, work: Callable[P, T], *arguments: P.args, **more: P.kwargs) -> T:
        """Return what ``work`` gives, which asks the database alone.

        Who reads from SQLite waits for nobody, and has the answer sooner than a thread would have begun. A database
        beyond a network is asked in a thread.
        """
        if self.database.is_sqlite:
            return work(*arguments, **more)
        return await to_thread.run_sync(partial(work, *arguments, **more), limiter=self._few)

    def close(self) -> None:
        """Remember how fast the services were and which failed, and close everything."""
        for opened in self._opened:
            opened.whole.close()
            opened.services.close()
        self.database.close()


def _is_of_now(opened: Opened) -> bool:
    configuration = opened.services.configuration
    return opened.seen == _state_of(configuration.path, configuration.vault.path)


def _open(database: Database) -> Opened:
    services = Services()
    services.configuration.vault.ask_nobody()
    seen = _state_of(services.configuration.path, services.configuration.vault.path)
    return Opened(services, database, Vdir(services=services, database=database), seen)


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
