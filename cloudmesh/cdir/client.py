"""`Client`: the virtual directory and the services behind a REST service, with the methods and types of the APIs.

    from cloudmesh.cdir import Client

    client = Client("http://127.0.0.1:8765", token="…")
    for info in client.vdir.ls("/run7"):
        print(info.name, info.services)

Its methods are those of the list from which the service makes its routes; none is written here. What names a path of
this computer is refused: such a path would be the service's. Files are read with `cat`, and read and written by URL.
"""

from __future__ import annotations

import functools
import http.client
import inspect
import json
from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Any, cast, get_args, get_origin

from cloudmesh.cdir import progress
from cloudmesh.cdir.exchange import Exchange, known_error, lines, pieces
from cloudmesh.cdir.offers import Offer, offers, row_type
from cloudmesh.storage.binding import Call
from cloudmesh.storage.errors import StorageError, Unavailable, Unsupported
from cloudmesh.storage.json_values import from_json
from cloudmesh.storage.meaning import Concerns
from cloudmesh.storage.output import gives_bytes
from cloudmesh.storage.records import Job
from cloudmesh.storage.transfer.events import Observer, nobody

if TYPE_CHECKING:
    from cloudmesh.storage import Storage
    from cloudmesh.vdir import Vdir

_SOON = {"Prefer": "wait=1"}
"""Short work is answered at once."""


class Client:
    """A REST service.

    Args:
        url: where it is.
        token: that it gave out; the environment's ``CDIR_TOKEN`` where None.
        observer: hears of the progress of long work.
    """

    def __init__(self, url: str, token: str | None = None, observer: Observer = nobody) -> None:
        self._exchange = Exchange(url, token)
        self._observer = observer

    @property
    def vdir(self) -> Vdir:
        """The virtual directory, as `Vdir`."""
        return cast("Vdir", self.api("vdir", {}))

    @property
    def storage(self) -> Storage:
        """The services, as `Storage`."""
        return self.storage_on(None)

    def storage_on(self, service: str | None) -> Storage:
        """Return the services, as ``Storage(service)``."""
        return cast("Storage", self.api("storage", {} if service is None else {"storage": service}))

    def api(self, command: str, made_with: Mapping[str, Any]) -> Any:
        """Return the API of a command as though it had been made with these values."""
        return _Remote(self._exchange, self._observer, command, dict(made_with), ())


class _Remote:
    """An API of the service, or a group of one: its methods are those that the service offers."""

    def __init__(
        self, exchange: Exchange, observer: Observer, command: str, made_with: dict[str, Any], groups: tuple[str, ...]
    ) -> None:
        self._exchange = exchange
        self._observer = observer
        self._command = command
        self._made_with = made_with
        self._groups = groups

    def __getattr__(self, name: str) -> Any:
        for offer in offers():
            if offer.command != self._command:
                continue
            if (offer.target.groups, offer.target.name) == (self._groups, name):
                return self._method(offer)
            if offer.target.groups[: len(self._groups) + 1] == (*self._groups, name):
                return _Remote(self._exchange, self._observer, self._command, self._made_with, (*self._groups, name))
        raise AttributeError(f"a service offers no {' '.join((self._command, *self._groups, name))}")

    def _method(self, offer: Offer) -> Callable[..., Any]:
        signature = inspect.signature(offer.target.method)

        @functools.wraps(offer.target.method)
        def method(*positional: Any, **named: Any) -> Any:
            values = signature.bind(None, *positional, **named).arguments
            values.pop("self")
            return self._ask(offer, Call(offer.target, self._made_with, values))

        return method

    def _ask(self, offer: Offer, call: Call) -> Any:
        values = offer.values(call)
        for field in offer.fields:
            if field.concern is Concerns.HERE and values.get(field.name) not in (None, "-"):
                raise Unsupported(
                    f"{field.name}={values[field.name]}",
                    "a path of this computer cannot be used over a service",
                    "read a file with cat, write one with PUT /files/DIR/NAME",
                )
        if row_type(offer.target.returns) is not None or gives_bytes(offer.target.returns):
            rows = self._stream(offer, values)
            return rows if get_origin(offer.target.returns) is Iterator else list(rows)
        is_detached = bool(call.method_values.get("async_"))
        headers = _SOON if offer.is_long and not is_detached else {}
        with self._exchange.answer(offer.http_method, offer.path, values, headers) as answer:
            if answer.getheader("Content-Type", "") != "application/json":
                return None
            told = json.loads(answer.read())
            if answer.status != 202:
                return from_json(offer.path, offer.target.returns, told)
        return from_json("job", Job, _job(told)) if is_detached else self._follow(offer, told["name"])

    def _stream(self, offer: Offer, values: Mapping[str, Any]) -> Iterator[Any]:
        returns = offer.target.returns
        headers = {"Accept": "*/*" if gives_bytes(returns) else "application/x-ndjson"}
        with self._exchange.answer(offer.http_method, offer.path, values, headers) as answer:
            if gives_bytes(returns):
                yield from pieces(answer)
                return
            row = row_type(returns)
            try:
                for line in lines(answer):
                    yield from_json(offer.path, row, json.loads(line))
            except (http.client.HTTPException, ValueError):
                raise Unavailable(offer.path, "the answer was cut") from None

    def _follow(self, offer: Offer, name: str) -> Any:
        """Tell of a job's progress until it ends, and return what it returned."""
        try:
            ended = progress.follow(self._exchange, name, self._observer)
        except KeyboardInterrupt:
            with self._exchange.answer("POST", f"{progress.JOBS}/{name}/pause"):
                pass
            raise
        result = ended["result"]
        if result is None:
            raise StorageError(name, f"the job is {ended['job']['state']}", f"cdir storage jobs resume {name} goes on")
        if (error := result.get("error")) is not None:
            raise known_error(**error)
        kinds = [one for one in get_args(offer.target.returns) if one is not Job] or [offer.target.returns]
        return from_json(name, kinds[0], result["returned"])


def _job(told: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in told.items() if name != "failures"}
