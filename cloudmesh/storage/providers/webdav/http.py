"""HTTP over libcurl, as WebDAV needs it: any method, streams in both directions, Basic, Digest and bearer, one pool.

Redirects are never followed, so credentials never reach another host. No failure's text holds a header or a query.
See docs/decisions/0045-webdav-http-library.md for why libcurl.
"""

from __future__ import annotations

import ssl
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pycurl

from cloudmesh.storage.abc import Timeouts
from cloudmesh.storage.errors import StorageError, Unavailable
from cloudmesh.storage.http_body import Body
from cloudmesh.storage.http_multi import Failure, HttpMulti, Transfer
from cloudmesh.storage.http_source import Source
from cloudmesh.storage.providers.webdav.exchange import Connection, Exchange, silence, translate
from cloudmesh.storage.providers.webdav.messages import Answer

_BUFFER = 256 * 1024
_MAX_ANSWER = 16 * 1024 * 1024


class Client:
    """Sends requests to one service; thread-safe.

    Up to ``keep`` idle connections are kept. A thread that needs one never waits for another thread's: a copy within
    one service reads and writes at once, so waiting could lock all threads. Callers bound their own number.

    Attributes:
        multi: makes many requests at once in one thread, with connections of its own; `transfer` makes them.
    """

    def __init__(
        self,
        *,
        username: str | None,
        password: str | None,
        token: str | None,
        timeouts: Timeouts,
        keep: int,
    ) -> None:
        self._username = username
        self._password = password
        self._token = token
        self._timeouts = timeouts
        self._keep = keep
        self._idle: list[Connection] = []
        self._lock = threading.Lock()
        self._closed = False
        self.multi = HttpMulti(timeouts, keep)
        self._auth = pycurl.HTTPAUTH_BASIC | pycurl.HTTPAUTH_DIGEST
        self._auth_known = username is None
        places = ssl.get_default_verify_paths()
        self._ca_file = places.cafile
        self._ca_path = places.capath if places.capath and Path(places.capath).is_dir() else None

    def _new(self) -> Connection:
        connection = Connection()
        easy = connection.easy
        easy.setopt(pycurl.NOSIGNAL, 1)
        easy.setopt(pycurl.HTTP_VERSION, pycurl.CURL_HTTP_VERSION_1_1)
        easy.setopt(pycurl.FOLLOWLOCATION, 0)
        easy.setopt(pycurl.PROTOCOLS, pycurl.PROTO_HTTP | pycurl.PROTO_HTTPS)
        easy.setopt(pycurl.PATH_AS_IS, 1)
        easy.setopt(pycurl.TCP_KEEPALIVE, 1)
        easy.setopt(pycurl.BUFFERSIZE, _BUFFER)
        easy.setopt(pycurl.UPLOAD_BUFFERSIZE, _BUFFER)
        easy.setopt(pycurl.CONNECTTIMEOUT_MS, max(1, int(self._timeouts.connect * 1000)))
        easy.setopt(pycurl.USERAGENT, "cloudmesh-vdir")
        if self._ca_file:
            easy.setopt(pycurl.CAINFO, self._ca_file)
        if self._ca_path:
            easy.setopt(pycurl.CAPATH, self._ca_path)
        if self._username is not None:
            easy.setopt(pycurl.USERNAME, self._username.encode())
            easy.setopt(pycurl.PASSWORD, (self._password or "").encode())
        return connection

    def _take(self) -> Connection:
        with self._lock:
            if self._idle:
                return self._idle.pop()
        return self._new()

    def _give_back(self, connection: Connection) -> None:
        with self._lock:
            if not self._closed and len(self._idle) < self._keep:
                self._idle.append(connection)
                return
        connection.close()

    def _prepare(
        self, easy: Any, method: str, url: str, headers: Sequence[tuple[str, str]], source: Source | None
    ) -> None:
        # Never an empty list: pycurl would keep that of the request before.
        lines = [b"Accept: */*", *(f"{name}: {value}".encode() for name, value in headers)]
        if self._token is not None:
            lines.append(f"Authorization: Bearer {self._token}".encode())
        if source is None or source.body.size == 0:
            easy.setopt(pycurl.UPLOAD, 0)
            easy.setopt(pycurl.HTTPGET, 1)
            if source is not None:
                lines.append(b"Content-Length: 0")
        else:
            easy.setopt(pycurl.UPLOAD, 1)
            easy.setopt(pycurl.INFILESIZE_LARGE, -1 if source.body.size is None else source.body.size)
            easy.setopt(pycurl.READFUNCTION, source.read)
            easy.setopt(pycurl.SEEKFUNCTION, source.seek)
        easy.setopt(pycurl.CUSTOMREQUEST, method)
        easy.setopt(pycurl.URL, url)
        easy.setopt(pycurl.HTTPHEADER, lines)
        if self._username is not None:
            easy.setopt(pycurl.HTTPAUTH, self._auth)

    def negotiate(self, method: str, url: str, headers: Sequence[tuple[str, str]], body: bytes, subject: str) -> Answer:
        """Make a first request and learn from it whether Basic or Digest is wanted.

        Digest wins where both are offered; a password goes out in Basic only after the service has asked for that.

        Raises:
            StorageError: no answer came.
        """
        answer, offered = self._send(method, url, subject, headers, Body.of_bytes(body), None, None)
        if not self._auth_known and offered:
            digest = offered & pycurl.HTTPAUTH_DIGEST
            self._auth = pycurl.HTTPAUTH_DIGEST if digest else pycurl.HTTPAUTH_BASIC
            self._auth_known = True
        return answer

    def transfer(
        self, method: str, url: str, headers: Sequence[tuple[str, str]] = (), body: bytes | None = None
    ) -> Transfer:
        """Return a request for `multi`, with what proves who we are; made after `negotiate`.

        What a PUT sends is not sent again by itself: see `Source`.
        """
        once = method == "PUT"
        if self._token is not None:
            headers = [*headers, ("Authorization", f"Bearer {self._token}")]
        if self._username is None:
            return Transfer(method, url, headers, body, once=once)
        username, password = self._username.encode(), (self._password or "").encode()
        options = ((pycurl.HTTPAUTH, self._auth), (pycurl.USERNAME, username), (pycurl.PASSWORD, password))
        return Transfer(method, url, headers, body, once=once, options=options)

    def error_of(self, failure: Failure, subject: str) -> StorageError:
        """Return what it means that a request of `multi` got no answer; ``subject`` is what was asked for."""
        if failure.stalled:
            return silence(subject, self._timeouts.read)
        return translate(failure.code, failure.message, failure.verified, subject)

    def request(
        self,
        method: str,
        url: str,
        subject: str,
        *,
        headers: Sequence[tuple[str, str]] = (),
        body: Body | None = None,
        sink: Callable[[int, bytes], None] | None = None,
        patience: float | None = None,
    ) -> Answer:
        """Make one request and read its whole answer.

        Args:
            method, url, headers: sent as they are; the URL is percent-encoded already.
            subject: what an error is about.
            body: what is sent.
            sink: takes the status and each piece of the body instead of `Answer.body`.
            patience: seconds without a byte until it fails; the settings' read timeout by default.

        Raises:
            Unavailable, AuthenticationFailed (the server's certificate), SourceChanged, or what the source raises.
        """
        return self._send(method, url, subject, headers, body, sink, patience)[0]

    def _send(
        self,
        method: str,
        url: str,
        subject: str,
        headers: Sequence[tuple[str, str]],
        body: Body | None,
        sink: Callable[[int, bytes], None] | None,
        patience: float | None,
    ) -> tuple[Answer, int]:
        connection, exchange = self._start(method, url, subject, headers, body, patience)
        collected: list[bytes] = []
        total = 0
        try:
            for piece in exchange:
                if sink is not None:
                    sink(exchange.status, piece)
                    continue
                total += len(piece)
                if total > _MAX_ANSWER:
                    raise Unavailable(subject, "the service's answer is far too long")
                collected.append(piece)
            offered = connection.easy.getinfo(pycurl.HTTPAUTH_AVAIL)
            return Answer(exchange.status, exchange.headers, b"".join(collected)), offered
        finally:
            self._end(connection, exchange)

    def open(
        self, method: str, url: str, subject: str, *, headers: Sequence[tuple[str, str]] = ()
    ) -> tuple[Exchange, Callable[[], None]]:
        """Make one request and return its exchange, whose body is not read yet, and what ends it (safe to repeat).

        Raises:
            as `request`.
        """
        connection, exchange = self._start(method, url, subject, headers, None, None)
        ended = False

        def end() -> None:
            nonlocal ended
            if not ended:
                ended = True
                self._end(connection, exchange)

        try:
            exchange.begin()
        except BaseException:
            end()
            raise
        return exchange, end

    def _start(
        self,
        method: str,
        url: str,
        subject: str,
        headers: Sequence[tuple[str, str]],
        body: Body | None,
        patience: float | None,
    ) -> tuple[Connection, Exchange]:
        source = None if body is None else Source(body, subject, once=method == "PUT")
        if source is not None:
            source.check_empty()
        connection = self._take()
        try:
            self._prepare(connection.easy, method, url, headers, source)
            wait = self._timeouts.read if patience is None else patience
            return connection, Exchange(connection, subject, wait, source)
        except BaseException:
            connection.close()
            raise

    def _end(self, connection: Connection, exchange: Exchange) -> None:
        exchange.detach()
        if exchange.reusable:
            self._give_back(connection)
        else:
            connection.close()

    def close(self) -> None:
        """Close all idle connections; those in use close when they are given back."""
        with self._lock:
            self._closed = True
            idle, self._idle = self._idle, []
        for connection in idle:
            connection.close()
        self.multi.close()
