"""The services behind a REST service, as services of this computer's transfers: each of their primitives is a request.

So `put`, `get` and `sync` with files of this computer are the same here as without a REST service between: the plan,
the comparison, the journal, the retries and the progress are those of `cloudmesh.storage`, and only bytes and
primitives go over the network.
"""

from __future__ import annotations

import http.client
import json
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from functools import cached_property
from typing import Any

from cloudmesh.cdir import urls
from cloudmesh.cdir.exchange import Exchange, lines, pieces
from cloudmesh.storage.abc import (
    Capabilities,
    Content,
    Entry,
    OnError,
    Reader,
    ServiceSettings,
    StorageABC,
    WriteMode,
    leave_out,
)
from cloudmesh.storage.errors import SourceChanged, Unavailable, from_words
from cloudmesh.storage.layers import layered
from cloudmesh.storage.services import Services

_PARALLEL = 16
"""Requests that are under way at once unless the user says otherwise."""


class RemoteServices(Services):
    """The services of a REST service.

    Args:
        exchange: with it.
        parallel: requests under way at once to each of them.
    """

    def __init__(self, exchange: Exchange, parallel: int | None = None) -> None:
        super().__init__(parallel=parallel)
        self._exchange = exchange

    @cached_property
    def _told(self) -> Mapping[str, Any]:
        told: dict[str, Any] = self._exchange.ask("GET", urls.SERVICES)
        return told

    def names(self) -> list[str]:
        """Return the names of those that may be used."""
        return list(self._told["services"])

    def default(self) -> str:
        """Return the service that a path without one means there."""
        return str(self._told["default"])

    def open(self, name: str) -> StorageABC:
        """Return the service called ``name``. Raises as `Services.open`."""
        with self._lock:
            if name not in self._open:
                self._open[name] = layered(RemoteService(self._exchange, name, self._parallel or _PARALLEL))
            return self._open[name]


class RemoteService(StorageABC):
    """One of them.

    Args:
        exchange: with the REST service.
        name: of the service there.
        parallel: requests under way at once.
    """

    kind = "remote"

    def __init__(self, exchange: Exchange, name: str, parallel: int) -> None:
        self._exchange = exchange
        facts = exchange.ask("GET", urls.filled(urls.SERVICE, service=name))
        super().__init__(ServiceSettings(name, facts["kind"], options={"price": facts["price"]}, parallel=parallel))
        told = facts["capabilities"]
        told |= {one: frozenset(told[one]) for one in ("hashes", "forbidden")}
        self.capabilities = Capabilities(**told | {"presign": False, "versions": False, "quota": False})

    def stat(self, path: str) -> Entry:
        """See `StorageABC.stat`."""
        return _entry(self._exchange.ask("GET", self._url(urls.ENTRY), {"path": path}))

    def scan(self, path: str = "", *, recursive: bool = False, on_error: OnError | None = None) -> Iterator[Entry]:
        """See `StorageABC.scan`."""
        headers = {"Accept": "application/x-ndjson"}
        values = {"path": path, "recursive": recursive}
        with self._exchange.answer("GET", self._url(urls.ENTRIES), values, headers) as answer:
            for line in lines(answer):
                try:
                    told = json.loads(line)
                except ValueError:
                    raise Unavailable(self.location(path), "the answer was cut") from None
                if (error := told.get("error")) is not None:
                    leave_out(_entry(told["entry"]), from_words(**error), on_error)
                else:
                    yield _entry(told["entry"])

    def open_read(self, path: str, *, start: int = 0, length: int | None = None, if_match: str | None = None) -> Reader:
        """See `StorageABC.open_read`."""
        values = {"start": start} | ({} if length is None else {"length": length})
        with ExitStack() as stack:
            asked = self._exchange.answer("GET", self._url(urls.CONTENT, path), values, _if_match(if_match))
            answer = stack.enter_context(asked)
            entry = _entry(json.loads(answer.getheader(urls.ENTRY_HEADER, "{}")))
            held = stack.pop_all()
        return Reader(entry, whole_pieces(answer, self.location(path)), held.close)

    def write(
        self, path: str, content: Content, *, mode: WriteMode = "overwrite", if_match: str | None = None
    ) -> Entry:
        """See `StorageABC.write`."""
        self.check_path(path)
        values: dict[str, Any] = {"mode": mode}
        if content.mtime_ns is not None:
            values["modified_ns"] = content.mtime_ns
        headers = _if_match(if_match) | body_headers(content.size)
        body = exactly(content, self.location(path))
        with self._exchange.answer("PUT", self._url(urls.CONTENT, path), values, headers, body) as answer:
            return _entry(json.loads(answer.read()))

    def remove(self, path: str) -> None:
        """See `StorageABC.remove`."""
        self._exchange.ask("DELETE", self._url(urls.CONTENT, path))

    def make_dir(self, path: str) -> None:
        """See `StorageABC.make_dir`."""
        if path:
            self._exchange.ask("PUT", self._url(urls.DIRECTORIES, path))

    def remove_dir(self, path: str) -> None:
        """See `StorageABC.remove_dir`."""
        self._exchange.ask("DELETE", self._url(urls.DIRECTORIES, path))

    def copy_within(self, source: str, destination: str, *, mode: WriteMode = "overwrite") -> Entry:
        """See `StorageABC.copy_within`."""
        values = {"source": source, "destination": destination, "mode": mode}
        return _entry(self._exchange.ask("POST", self._url(urls.COPIES), values))

    def move_within(self, source: str, destination: str, *, mode: WriteMode = "overwrite") -> None:
        """See `StorageABC.move_within`."""
        self._exchange.ask("POST", self._url(urls.MOVES), {"source": source, "destination": destination, "mode": mode})

    def identity(self, path: str) -> str:
        """Return the place with the REST service that it is behind."""
        return f"{self._exchange.place}/{self.location(path)}"

    def _url(self, url: str, path: str = "") -> str:
        return urls.filled(url, service=self.name, path=path)


def whole_pieces(answer: http.client.HTTPResponse, subject: str) -> Iterator[bytes]:
    """Yield an answer's bytes as they come.

    Raises:
        Unavailable: it was cut.
    """
    try:
        yield from pieces(answer)
    except (OSError, http.client.HTTPException):
        raise Unavailable(subject, "the connection was cut") from None


def body_headers(size: int | None) -> dict[str, str]:
    """Return the headers of a body of so many bytes."""
    length = {} if size is None else {"Content-Length": str(size)}
    return {"Content-Type": "application/octet-stream"} | length


def exactly(content: Content, subject: str) -> Iterator[bytes]:
    """Yield a content's pieces.

    Raises:
        SourceChanged: they are more or fewer bytes than promised; the request has then not been sent whole.
    """
    size = 0
    for piece in content.open():
        size += len(piece)
        if content.size is not None and size > content.size:
            raise SourceChanged(subject)
        yield piece
    if content.size is not None and size != content.size:
        raise SourceChanged(subject)


def _if_match(etag: str | None) -> dict[str, str]:
    return {} if etag is None else {"If-Match": etag}


def _entry(told: Mapping[str, Any]) -> Entry:
    return Entry(**told)
