"""Requests to a service and its answers, as the client needs them: errors as those of the API, streams as they come."""

from __future__ import annotations

import http.client
import ipaddress
import json
import os
import socket
import ssl
import threading
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from functools import cached_property
from typing import Any
from urllib.parse import SplitResult, urlencode, urlsplit

from cloudmesh.storage.errors import (
    AuthenticationFailed,
    RateLimited,
    Refused,
    StorageError,
    Unavailable,
    UsageError,
    from_words,
)

TOKEN_VARIABLE = "CDIR_TOKEN"  # noqa: S105 - the name of a variable
"""The environment variable that holds the token."""

_CONNECT_S = 10.0
_ANSWER_S = 3600.0
"""Work that is no job, such as storing a large file that was sent, may take so long; a dead host is noticed earlier."""

_IDLE_S = 3.0
"""A connection that was not used for longer is not used again: the service closes it after 5 s."""

_PIECE = 1 << 20
_PROBES = (("TCP_KEEPIDLE", 20), ("TCP_KEEPINTVL", 10), ("TCP_KEEPCNT", 4))

Body = bytes | Iterable[bytes]


class Exchange:
    """A service by its URL; many threads share one object of it.

    Args:
        url: such as ``http://127.0.0.1:8765``.
        token: that the service gave out; that of the environment where None.

    Raises:
        UsageError: it is no URL of a service.
        Refused: the token would cross a network unencrypted.
    """

    def __init__(self, url: str, token: str | None = None) -> None:
        allowed = UsageError("--url", f"{url!r} is not allowed", "allowed is a URL such as http://127.0.0.1:8765")
        try:
            self._url: SplitResult = urlsplit(url)
            self._port = self._url.port
        except ValueError:
            raise allowed from None
        if self._url.username is not None:  # what stands there may be a secret: it is not repeated
            raise UsageError("--url", "holds a user's name or password", f"{TOKEN_VARIABLE} holds the token")
        if self._url.scheme not in ("http", "https") or not self._url.hostname:
            raise allowed
        self._token = token or os.environ.get(TOKEN_VARIABLE)
        if self._token and self._url.scheme == "http" and not _is_this_computer(self._url.hostname):
            raise Refused(
                "--url", f"a token is not sent to {self._url.hostname} where others can read it", "use https://"
            )
        if self._token and not (self._token.isascii() and self._token.isprintable()):
            raise UsageError(TOKEN_VARIABLE, "is no token", "cdir token create makes one")
        self._idle: list[tuple[float, http.client.HTTPConnection]] = []
        self._lock = threading.Lock()

    @property
    def url(self) -> str:
        """Where the service is."""
        return self._url.geturl()

    @property
    def place(self) -> str:
        """The service as it is named in errors and journals: host and port."""
        return self._url.netloc

    @contextmanager
    def answer(
        self,
        method: str,
        path: str,
        values: Mapping[str, Any] | None = None,
        headers: Mapping[str, str] | None = None,
        body: Body | None = None,
    ) -> Iterator[http.client.HTTPResponse]:
        """Send a request and give the answer, to be read in the block.

        Args:
            method: GET, PUT, POST or DELETE.
            path: of the URL.
            values: the query, or of POST the body.
            headers: further ones.
            body: of PUT; pieces are sent as they come.

        Raises:
            StorageError: what the service tells, or what ``body`` raises; Unavailable: the service tells nothing.
        """
        query = ""
        given = {"Accept": "application/json", **(headers or {})}
        if method == "POST":
            body = json.dumps(values or {}, ensure_ascii=False).encode("utf-8", "backslashreplace")
            given["Content-Type"] = "application/json"
        elif values:
            query = "?" + urlencode({name: _texts(one) for name, one in values.items()}, doseq=True)
        if self._token:
            given["Authorization"] = f"Bearer {self._token}"
        sending = _Sending(body) if body is not None and not isinstance(body, bytes) else body
        connection = self._connection()
        is_free = False
        try:
            with suppress(BrokenPipeError, ConnectionResetError):  # refused before all was sent: the answer tells why
                is_chunked = sending is not None and not isinstance(sending, bytes) and "Content-Length" not in given
                target = f"{self._url.path.rstrip('/')}{path}{query}"
                connection.request(method, target, sending, given, encode_chunked=is_chunked)
            answer = connection.getresponse()
            if answer.status >= 400:
                raise self._error(answer)
            yield answer
            if answer.isclosed() and not answer.will_close:
                is_free = True
        except (OSError, http.client.HTTPException) as error:
            if isinstance(sending, _Sending) and sending.failure is error:
                raise
            raise self._unavailable(error) from None
        finally:
            if is_free:
                with self._lock:
                    self._idle.append((time.monotonic(), connection))
            else:
                connection.close()

    def ask(
        self, method: str, path: str, values: Mapping[str, Any] | None = None, headers: Mapping[str, str] | None = None
    ) -> Any:
        """Send a request and return the JSON of its answer; None where it has none. Raises as `answer`."""
        with self.answer(method, path, values, headers) as answer:
            data = answer.read()
        return json.loads(data) if data else None

    def close(self) -> None:
        """Close the connections that nobody uses."""
        with self._lock:
            while self._idle:
                self._idle.pop()[1].close()

    def _connection(self) -> http.client.HTTPConnection:
        """Return a connection that is open already, or a new one.

        Raises:
            Unavailable: nobody listens there.
        """
        with self._lock:
            while self._idle:
                since, connection = self._idle.pop()
                if time.monotonic() - since < _IDLE_S:
                    return connection
                connection.close()
        host = self._url.hostname or ""
        if self._url.scheme == "http":
            connection = http.client.HTTPConnection(host, self._port, timeout=_CONNECT_S)
        else:
            connection = http.client.HTTPSConnection(host, self._port, timeout=_CONNECT_S, context=self._trust)
        try:
            connection.connect()
        except OSError as error:
            raise self._unavailable(error) from None
        connection.sock.settimeout(_ANSWER_S)
        connection.sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        for name, value in _PROBES:
            if hasattr(socket, name):
                connection.sock.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), value)
        return connection

    @cached_property
    def _trust(self) -> ssl.SSLContext:
        return ssl.create_default_context()  # reads all authorities of the system: 20 ms

    def _error(self, answer: http.client.HTTPResponse) -> StorageError:
        if answer.status == 401:
            why = "the service did not accept the token" if self._token else "the service asks for a token"
            return AuthenticationFailed(self.place, why, f"cdir token create makes one there; set {TOKEN_VARIABLE}")
        after = answer.getheader("Retry-After", "")
        wait_s = float(after) if after.isdecimal() else None
        try:
            told = json.loads(answer.read())
            if answer.status == 429:
                return RateLimited(self.place, told["detail"], retry_after=wait_s)
            return from_words(told["error"], told["subject"], told["why"], told["hint"], wait_s)
        except (ValueError, KeyError, TypeError):
            return StorageError(self.place, f"{answer.status} {answer.reason}", "is this a service of cdir?")

    def _unavailable(self, error: Exception) -> Unavailable:
        why = getattr(error, "strerror", None) or str(error) or type(error).__name__
        hint = "cdir service start"
        if isinstance(error, ssl.SSLCertVerificationError):
            why = f"its certificate is not trusted: {error.verify_message}"
            hint = "SSL_CERT_FILE names a copy of service-certificate.pem of a service that made its own"
        elif isinstance(error, ssl.SSLError):
            why, hint = "it does not speak TLS", "use http://"
        elif isinstance(error, http.client.RemoteDisconnected) and self._url.scheme == "http":
            why, hint = "it ended the connection", "use https:// where it speaks TLS"
        elif not _is_this_computer(self._url.hostname or ""):
            hint = "is it running there?"
        return Unavailable(self.place, f"the service does not answer: {why}", hint)


class _Sending:
    """The pieces of a body, which remembers what ended them: it is no failure of the connection.

    Attributes:
        failure: what the pieces raised.
    """

    def __init__(self, pieces: Iterable[bytes]) -> None:
        self._pieces = pieces
        self.failure: BaseException | None = None

    def __iter__(self) -> Iterator[bytes]:
        try:
            yield from self._pieces
        except BaseException as error:
            self.failure = error
            raise


def _is_this_computer(host: str) -> bool:
    with suppress(ValueError):
        return ipaddress.ip_address(host).is_loopback
    return host == "localhost"


def lines(answer: http.client.HTTPResponse) -> Iterator[str]:
    """Yield an answer's lines as they come, without their ends."""
    while line := answer.readline():
        yield line.decode("utf-8").rstrip("\r\n")
    _end(answer)


def pieces(answer: http.client.HTTPResponse) -> Iterator[bytes]:
    """Yield an answer's bytes as they come."""
    while piece := answer.read1(_PIECE):
        yield piece
    _end(answer)


def _end(answer: http.client.HTTPResponse) -> None:
    """Free the connection of an answer that gives nothing more, or raise where it was cut."""
    if answer.length:
        raise http.client.IncompleteRead(b"", answer.length)
    answer.close()


def _texts(value: Any) -> Any:
    if isinstance(value, bool):
        return "true" if value else "false"
    return value
