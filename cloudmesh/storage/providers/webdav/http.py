"""HTTP over libcurl, as WebDAV needs it: any method, streams in both directions, Basic, Digest and bearer, one pool.

Redirects are never followed, so credentials never reach another host. No failure's text holds a header or a query.
See docs/decisions/0045-webdav-http-library.md for why libcurl.
"""

from __future__ import annotations

import ssl
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pycurl

from cloudmesh.storage.abc import Timeouts
from cloudmesh.storage.errors import AuthenticationFailed, SourceChanged, StorageError, Unavailable

_BUFFER = 256 * 1024
_MAX_ANSWER = 16 * 1024 * 1024
_HEADER_LINE = "iso-8859-1"

_CAUSES = {
    pycurl.E_COULDNT_RESOLVE_HOST: "the host name cannot be resolved",
    pycurl.E_COULDNT_CONNECT: "the connection was refused or the host cannot be reached",
    pycurl.E_OPERATION_TIMEDOUT: "connecting took too long",
    pycurl.E_SSL_CONNECT_ERROR: "no TLS connection could be made",
    pycurl.E_GOT_NOTHING: "the service closed the connection without an answer",
    pycurl.E_PARTIAL_FILE: "the connection broke before all bytes had come",
    pycurl.E_SEND_ERROR: "the connection broke while sending",
    pycurl.E_RECV_ERROR: "the connection broke while receiving",
}


@dataclass(frozen=True, slots=True)
class Body:
    """What is sent: ``open`` gives the pieces; ``size`` in bytes or None; ``replayable`` as in `Content`."""

    open: Callable[[], Iterable[bytes]]
    size: int | None
    replayable: bool = True

    @classmethod
    def of_bytes(cls, data: bytes) -> Body:
        """The body that ``data`` is."""
        return cls(open=lambda: (data,), size=len(data))


@dataclass(frozen=True, slots=True)
class Answer:
    """A whole answer; header names are lower-case, the values of repeated ones joined by a comma."""

    status: int
    headers: Mapping[str, str]
    body: bytes = b""


class _Source:
    """Feeds a body to libcurl piece by piece and makes sure that a wrong length never looks like a whole file."""

    def __init__(self, body: Body, subject: str) -> None:
        self.body = body
        self.subject = subject
        self.error: BaseException | None = None
        self._opened = False

    def _restart(self) -> None:
        if self._opened and not self.body.replayable:
            raise Unavailable(self.subject, "the connection broke, and the source can be read only once")
        self._opened = True
        self._pieces = iter(self.body.open())
        self._view = memoryview(b"")
        self._given = 0

    def _next(self) -> memoryview:
        """Return the next piece that is not empty; empty at the end."""
        for piece in self._pieces:
            if piece:
                return memoryview(piece)
        return memoryview(b"")

    def read(self, limit: int) -> bytes | int:
        """Return up to ``limit`` bytes, as libcurl asks for them."""
        try:
            if not self._opened:
                self._restart()
            if not self._view:
                self._view = self._next()
            size = self.body.size
            if size is not None:
                if not self._view and self._given < size:
                    raise SourceChanged(self.subject, f"the source ended after {self._given} of {size} bytes")
                if self._given + len(self._view) > size:
                    raise SourceChanged(self.subject, f"the source gives more than {size} bytes")
            part = self._view[:limit]
            rest = self._view[limit:]
            # The service takes the file for whole once it has the last byte: first see that there is no more.
            last = part and not rest and self._given + len(part) == size
            if last and self._next():
                raise SourceChanged(self.subject, f"the source gives more than {size} bytes")
            self._view = rest
            self._given += len(part)
            return bytes(part)
        except BaseException as error:  # it must not be lost in C code: raised again by the exchange
            self.error = error
            return int(pycurl.READFUNC_ABORT)

    def seek(self, offset: int, origin: int) -> int:
        """Begin again, when libcurl has to send the body once more (a Digest nonce ran out, a stale connection)."""
        try:
            if offset or origin:
                return int(pycurl.SEEKFUNC_CANTSEEK)
            if self._opened:
                self._restart()
            return int(pycurl.SEEKFUNC_OK)
        except BaseException as error:
            self.error = error
            return int(pycurl.SEEKFUNC_FAIL)

    def check_empty(self) -> None:
        """An empty body is never asked for: see that its source is really empty."""
        if self.body.size == 0:
            self._restart()
            if self._next():
                raise SourceChanged(self.subject, "the source gives more than 0 bytes")


class _Connection:
    """One easy handle (which remembers a Digest nonce) in one multi handle (which keeps the connection)."""

    def __init__(self) -> None:
        self.easy: Any = pycurl.Curl()
        self.multi: Any = pycurl.CurlMulti()
        self.multi.setopt(pycurl.M_MAXCONNECTS, 1)


class Exchange:
    """One request under way: its answer's status and headers, then the body as it comes."""

    def __init__(
        self, connection: _Connection, subject: str, timeouts: Timeouts, patience: float, source: _Source | None
    ) -> None:
        self.status = 0
        self.headers: dict[str, str] = {}
        self._connection = connection
        self._subject = subject
        self._timeouts = timeouts
        self._patience = patience
        self._source = source
        self._pieces: deque[bytes] = deque()
        self._headers_done = False
        self._done = False
        self._progress = False
        easy = connection.easy
        easy.setopt(pycurl.HEADERFUNCTION, self._on_header)
        easy.setopt(pycurl.WRITEFUNCTION, self._on_data)
        connection.multi.add_handle(easy)

    def _on_header(self, raw: bytes) -> None:
        self._progress = True
        line = raw.decode(_HEADER_LINE).strip()
        if line.startswith("HTTP/"):
            self.status = int(line.split(None, 2)[1])
            self.headers = {}
        elif line:
            name, _, value = line.partition(":")
            name, value = name.strip().lower(), value.strip()
            known = self.headers.get(name)
            self.headers[name] = f"{known}, {value}" if known else value

    def _on_data(self, data: bytes) -> None:
        self._progress = True
        self._headers_done = True
        self._pieces.append(data)

    def _advance(self) -> None:
        """Move bytes until there is a piece of the body or the exchange has ended."""
        multi, easy = self._connection.multi, self._connection.easy
        last = time.monotonic()
        while not self._pieces and not self._done:
            self._progress = False
            _, active = multi.perform()
            if not active:
                self._finish()
                return
            if self._pieces:
                return
            now = time.monotonic()
            if self._progress:
                last = now
            elif now - last > self._patience and easy.getinfo(pycurl.PRETRANSFER_TIME) > 0:
                raise Unavailable(self._subject, f"the service sent nothing for {self._patience:g} s")
            multi.select(min(1.0, self._patience / 4))

    def _finish(self) -> None:
        self._done = True
        _, _, failed = self._connection.multi.info_read()
        if self._source is not None and self._source.error is not None:
            raise self._source.error
        for _, code, message in failed:
            raise _translate(code, message, self._subject)

    def begin(self) -> None:
        """Wait for the status and headers.

        Raises:
            StorageError: no answer came.
        """
        self._advance()

    def __iter__(self) -> Iterator[bytes]:
        while True:
            while self._pieces:
                yield self._pieces.popleft()
            if self._done:
                return
            self._advance()

    @property
    def reusable(self) -> bool:
        """Whether the connection is in order and can serve the next request."""
        return self._done and not self._pieces

    def detach(self) -> None:
        """Take the request off its connection."""
        self._connection.multi.remove_handle(self._connection.easy)


def _translate(code: int, message: str, subject: str) -> StorageError:
    if code in (pycurl.E_PEER_FAILED_VERIFICATION, pycurl.E_SSL_CACERT_BADFILE):
        return AuthenticationFailed(
            subject,
            "the server's certificate cannot be verified",
            "add its authority to the system's certificates, or name it in SSL_CERT_FILE",
        )
    return Unavailable(subject, _CAUSES.get(code, f"the connection failed (libcurl error {code})"))


class Client:
    """Sends requests to one service; thread-safe.

    Up to ``keep`` idle connections are kept. A thread that needs one never waits for another thread's: a copy within
    one service reads and writes at once, so waiting could lock all threads. Callers bound their own number.
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
        self._idle: list[_Connection] = []
        self._lock = threading.Lock()
        self._closed = False
        self._auth = pycurl.HTTPAUTH_BASIC | pycurl.HTTPAUTH_DIGEST
        self._auth_known = username is None
        self._negotiating = threading.Lock()
        places = ssl.get_default_verify_paths()
        self._ca_file = places.cafile
        self._ca_path = places.capath if places.capath and Path(places.capath).is_dir() else None

    def _new(self) -> _Connection:
        connection = _Connection()
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

    def _take(self) -> _Connection:
        with self._lock:
            if self._idle:
                return self._idle.pop()
        return self._new()

    def _give_back(self, connection: _Connection) -> None:
        with self._lock:
            if not self._closed and len(self._idle) < self._keep:
                self._idle.append(connection)
                return
        _close(connection)

    def _prepare(
        self, easy: Any, method: str, url: str, headers: Sequence[tuple[str, str]], source: _Source | None
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
    ) -> tuple[_Connection, Exchange]:
        source = None if body is None else _Source(body, subject)
        if source is not None:
            source.check_empty()
        connection = self._take()
        try:
            self._prepare(connection.easy, method, url, headers, source)
            wait = self._timeouts.read if patience is None else patience
            return connection, Exchange(connection, subject, self._timeouts, wait, source)
        except BaseException:
            _close(connection)
            raise

    def _end(self, connection: _Connection, exchange: Exchange) -> None:
        exchange.detach()
        if exchange.reusable:
            self._give_back(connection)
        else:
            _close(connection)

    def close(self) -> None:
        """Close all idle connections; those in use close when they are given back."""
        with self._lock:
            self._closed = True
            idle, self._idle = self._idle, []
        for connection in idle:
            _close(connection)


def _close(connection: _Connection) -> None:
    connection.easy.close()
    connection.multi.close()
