"""What all requests share: opened services, the database, and the virtual directory made with them."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cached_property, partial
from pathlib import Path
from typing import Any, ParamSpec, TypeVar

from anyio import CapacityLimiter, to_thread
from fastapi import FastAPI
from starlette.types import ASGIApp, Receive, Scope, Send

from cloudmesh.cdir.offers import Offer
from cloudmesh.cdir.service.security import Principal
from cloudmesh.cdir.service.security.limited import services_for
from cloudmesh.storage.binding import Call, constructor_parameters, load
from cloudmesh.storage.database import Database
from cloudmesh.storage.errors import StorageError
from cloudmesh.storage.services import Services
from cloudmesh.vdir import Vdir

_FEW = 4
"""Threads for what asks the database alone. More of them only take the interpreter from each other: 16 need half as
much processor time again. What waits for a service has threads of its own, so that nobody here waits for it."""

_State = tuple[tuple[int, ...], ...]
P = ParamSpec("P")
T = TypeVar("T")
_log = logging.getLogger(__name__)


class _Opened:
    """Services, the virtual directory on them, and what the files of their configuration were like.

    Attributes:
        users: how many work with them; the house is one of them as long as these are the services of now.
    """

    def __init__(self, database: Database) -> None:
        self.services = Services()
        configuration = self.services.configuration
        configuration.vault.ask_nobody()
        self._seen = _state_of(configuration.path, configuration.vault.path)
        self.vdir = Vdir(services=self.services, database=database)
        self.users = 1

    def is_of_now(self) -> bool:
        configuration = self.services.configuration
        return self._seen == _state_of(configuration.path, configuration.vault.path)

    def close(self) -> None:
        """Remember how fast the services were and which failed, and close them."""
        try:
            self.vdir.close()
            self.services.close()
        except StorageError as error:
            _log.warning("services were not closed: %s", error)


class House:
    """The services and the database of one process, until `close`."""

    def __init__(self) -> None:
        self.database = Database()
        self._lock = threading.Lock()
        self._few = CapacityLimiter(_FEW)
        self._current: _Opened | None = None

    @contextmanager
    def visit(self) -> Iterator[Visit]:
        """Give what there is to work with in the block."""
        visit = Visit(self)
        try:
            yield visit
        finally:
            visit.end()

    def enter(self) -> _Opened:
        """Return the services as they are configured now, to be given back with `leave`."""
        seen = self._current
        # without the lock: each request comes by here, and would wait for the looks of all others
        if seen is not None and not seen.is_of_now():
            seen = None
        with self._lock:
            replaced = current = self._current
            if current is None or not (current is seen or current.is_of_now()):
                current = self._current = _Opened(self.database)
            current.users += 1
        if replaced is not None and replaced is not current and self.leave(replaced):
            replaced.close()
        return current

    def leave(self, opened: _Opened) -> bool:
        """Work with services no more; return whether nobody does any more, so that they are to be closed."""
        with self._lock:
            opened.users -= 1
            return not opened.users

    async def look(self, work: Callable[P, T], *arguments: P.args, **more: P.kwargs) -> T:
        """Return what ``work`` gives, which asks the database alone.

        Who reads from SQLite waits for nobody, and has the answer sooner than a thread would have begun. A database
        beyond a network is asked in a thread.
        """
        if self.database.is_sqlite:
            return work(*arguments, **more)
        return await to_thread.run_sync(partial(work, *arguments, **more), limiter=self._few)

    def close(self) -> None:
        """Close everything."""
        if self._current is not None:
            self._current.close()
        self.database.close()


class Visit:
    """What one request, or one job, has of the house: the services as they were configured when it first asked.

    Args:
        house: that keeps them open until `end`.
    """

    def __init__(self, house: House) -> None:
        self._house = house

    @cached_property
    def _opened(self) -> _Opened:
        return self._house.enter()

    @property
    def database(self) -> Database:
        """The database."""
        return self._house.database

    @property
    def services(self) -> Services:
        """All services."""
        return self._opened.services

    def vdir(self, principal: Principal) -> Vdir:
        """Return the virtual directory on the services that somebody may use."""
        if principal.services is None:
            return self._opened.vdir
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

    def end(self) -> None:
        """Give back what was used."""
        if "_opened" in self.__dict__ and self._house.leave(self._opened):
            # the event loop does not wait for connections that take their time
            threading.Thread(target=self._opened.close, name="closing services", daemon=True).start()


class Visits:
    """Gives each request its visit, until all of its answer is sent.

    Args:
        app: finds it as the request's ``state.visit``.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        with scope["app"].state.house.visit() as visit:
            scope["state"]["visit"] = visit
            await self._app(scope, receive, send)


def install(app: FastAPI) -> None:
    """Give a visit to each request that what was added to ``app`` before answers."""
    app.add_middleware(Visits)


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
