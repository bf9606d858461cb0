"""`Client`: the virtual directory and the services behind a REST service, with the methods and types of the APIs.

    from cloudmesh.cdir import Client

    client = Client("http://127.0.0.1:8765", token="…")
    for info in client.vdir.ls("/run7"):
        print(info.name, info.services)

It has the methods of the APIs: those that a service offers are asked of it, as the list says from which it makes its
routes; what concerns files of this computer is done here, with `files_here`.
"""

from __future__ import annotations

import functools
import http.client
import inspect
import json
from collections.abc import Iterator, Mapping
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self, cast, get_args, get_origin

from cloudmesh.cdir.commands import COMMANDS
from cloudmesh.cdir.exchange import Exchange, lines, pieces
from cloudmesh.cdir.files_here import OURS, Here
from cloudmesh.cdir.offers import Field, Offer, offer_of_method, row_type
from cloudmesh.storage import paths
from cloudmesh.storage.binding import Call, load
from cloudmesh.storage.errors import Unavailable, Unsupported
from cloudmesh.storage.json_values import from_json
from cloudmesh.storage.meaning import Concerns, why_at_the_terminal
from cloudmesh.storage.output import gives_bytes
from cloudmesh.storage.records import Job
from cloudmesh.storage.transfer.events import Observer, nobody
from cloudmesh.vdir import cwd

if TYPE_CHECKING:
    from cloudmesh.storage import Storage
    from cloudmesh.vdir import Vdir


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

    def close(self) -> None:
        """Close the connections; the next call opens new ones."""
        self._exchange.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


class _Remote:
    """An API of the service, or a group of one."""

    def __init__(
        self, exchange: Exchange, observer: Observer, command: str, made_with: dict[str, Any], groups: tuple[str, ...]
    ) -> None:
        self._exchange = exchange
        self._observer = observer
        self._command = command
        self._made_with = made_with
        self._groups = groups

    def __getattr__(self, name: str) -> Any:
        owner = self._owner
        if name in getattr(owner, "usage_groups", {}):
            return _Remote(self._exchange, self._observer, self._command, self._made_with, (*self._groups, name))
        method = inspect.getattr_static(owner, name, None)
        if name.startswith("_") or not inspect.isfunction(method):
            raise AttributeError(f"{owner.__name__} has no {name!r}")
        signature = inspect.signature(method)
        ours = OURS.get((self._command, name)) if not self._groups else None

        @functools.wraps(method)
        def called(*positional: Any, **named: Any) -> Any:
            given = signature.bind(self, *positional, **named)
            if ours is None:
                return self.asked(name, *given.args[1:], **given.kwargs)
            here = Here(self._exchange, self._observer, self._made_with, self)
            return ours(here, *given.args[1:], **given.kwargs)

        parameters = [*signature.parameters.values()][1:]
        called.__signature__ = signature.replace(parameters=parameters)  # type: ignore[attr-defined]
        return called

    @property
    def _owner(self) -> type:
        """The class of the API whose methods these are."""
        owner = COMMANDS[self._command].api_class()
        for group in self._groups:
            owner = load(vars(owner)["usage_groups"][group])
        return owner

    def asked(self, name: str, /, *positional: Any, **named: Any) -> Any:
        """Return what the service answers where a method is called.

        Raises:
            Unsupported: it does not offer this.
        """
        method = inspect.getattr_static(self._owner, name)
        if (offer := offer_of_method(self._command, self._groups, name)) is not None:
            values = inspect.signature(method).bind(None, *positional, **named).arguments
            values.pop("self")
            return self._ask(offer, Call(offer.target, self._made_with, values))
        words = " ".join((self._command, *self._groups, name.rstrip("_").replace("_", " ")))
        raise Unsupported(words, f"not over a service: {why_at_the_terminal(method)}")

    def close(self) -> None:
        """Close the connections."""
        self._exchange.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _ask(self, offer: Offer, call: Call) -> Any:
        values = offer.values(call)
        for field in offer.fields:
            value = values.get(field.name)
            if field.concern in (Concerns.NAME, Concerns.REPLICA) and (named := _named(field, value)) is not None:
                values[field.name] = named
        if row_type(offer.target.returns) is not None or gives_bytes(offer.target.returns):
            rows = self._stream(offer, values)
            return rows if get_origin(offer.target.returns) is Iterator else list(rows)
        is_detached = bool(call.method_values.get("async_"))
        if offer.is_long and not is_detached:
            return self._done(offer, values)
        with self._exchange.answer(offer.http_method, offer.path, values) as answer:
            if answer.getheader("Content-Type", "") != "application/json":
                return None
            told = json.loads(answer.read())
        return from_json("job", Job, _job(told)) if is_detached else from_json(offer.path, offer.target.returns, told)

    def _done(self, offer: Offer, values: Mapping[str, Any]) -> Any:
        from cloudmesh.cdir.following import Following  # `cdir ls` has to be quick

        jobs: Any = _Remote(self._exchange, self._observer, "storage", {}, ("jobs",))
        told = Following(self._exchange, self._observer, jobs).done(offer, values)
        kinds = [one for one in get_args(offer.target.returns) if one is not Job] or [offer.target.returns]
        return from_json(offer.path, kinds[0], told)

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


def _named(field: Field, value: Any) -> str | None:
    """Return the virtual path that was typed here, from the root; None where it is that, or the root, already."""
    if value is None and field.parameter.default == "":
        return f"/{here}" if (here := cwd.current()) else None
    if not isinstance(value, str) or value.startswith("/"):
        return None
    if field.concern is Concerns.REPLICA and paths.split_location(value)[0] is not None:
        return None
    return f"/{paths.resolve(value, cwd.current())}" + ("/" if value.endswith("/") else "")


def _job(told: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in told.items() if name != "failures"}
