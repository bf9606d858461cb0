"""A small application behind the guards, on the real server."""

from __future__ import annotations

import http.client
import socket
import ssl
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import psutil
from fastapi import Body, Depends, FastAPI, Request, Response
from fastapi.responses import JSONResponse, PlainTextResponse

from cloudmesh.cdir.service import security
from cloudmesh.cdir.service.security import audit
from cloudmesh.cdir.service.security.headers import content_disposition
from cloudmesh.cdir.service.security.principal import Principal
from cloudmesh.cdir.service.security.sessions import Sessions
from cloudmesh.cdir.service.security.shares import Shares
from cloudmesh.cdir.service.security.tokens import Tokens
from cloudmesh.storage import paths
from cloudmesh.storage.abc import ServiceSettings
from cloudmesh.storage.errors import NotFound, PermissionDenied, StorageError
from cloudmesh.storage.providers.local import LocalStorage

HOST = "Host: 127.0.0.1\r\n"
"""A line of a request's head."""


@dataclass
class Answer:
    status: int
    headers: http.client.HTTPMessage
    body: bytes


@dataclass
class Running:
    """The service, running, and what a test does to it."""

    port: int
    root: Path
    settings: security.Settings
    tokens: Tokens
    shares: Shares
    sessions: Sessions
    context: ssl.SSLContext | None

    def ask(
        self,
        method: str,
        path: str,
        token: str = "",
        headers: dict[str, str] | None = None,
        body: Any = None,
        **more: Any,
    ) -> Answer:
        """Send one request as it stands and return the answer."""
        if self.context is None:
            connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=20)
        else:
            connection = http.client.HTTPSConnection("127.0.0.1", self.port, timeout=20, context=self.context)
        all_headers = ({"Authorization": f"Bearer {token}"} if token else {}) | (headers or {})
        try:
            connection.request(method, path, body, all_headers, **more)
            found = connection.getresponse()
            return Answer(found.status, found.headers, found.read())
        finally:
            connection.close()

    def raw(self, sent: bytes) -> bytes:
        """Send bytes and return all that comes until the server closes."""
        with self.connect() as connection:
            connection.sendall(sent)
            return read_all(connection)

    def connect(self) -> socket.socket:
        """Return a new connection."""
        return socket.create_connection(("127.0.0.1", self.port), timeout=20)

    def connections(self) -> int:
        """How many connections the server holds, in this process."""
        found = psutil.Process().net_connections("tcp")
        return len([one for one in found if one.laddr.port == self.port and one.raddr])

    def audit(self) -> list[tuple[str, str, str, str]]:
        """What the audit log holds once all that was asked so far is written."""
        return [(one.who, one.what, one.path, one.outcome) for one in audit.entries(self.settings.database())]

    def sign_in(self) -> str:
        """Return the Cookie header of a new session."""
        link = self.sessions.new_link(self.settings.url)
        answer = self.ask("GET", link.removeprefix(self.settings.url))
        assert answer.status == 200, answer.body
        return answer.headers["set-cookie"].partition(";")[0]


def wait_for(is_so: Callable[[], bool]) -> None:
    """Return as soon as it is so; fail where it does not become so."""
    until = time.monotonic() + 60
    while not is_so():
        assert time.monotonic() < until
        time.sleep(0.02)


def expiring(make: Callable[[float], str], status: Callable[[str], int]) -> str:
    """Return what is made to be good for some seconds, once it was seen to work: on a busy machine for more of them."""
    for seconds in (1.5, 6, 24):
        began = time.monotonic()
        made = make(seconds)
        if status(made) == 200:
            return made
        assert time.monotonic() - began >= seconds, "it has not expired, and is refused"
    raise AssertionError("this machine is too busy")


def read_all(connection: socket.socket) -> bytes:
    got = b""
    while True:
        try:
            piece = connection.recv(65536)
        except ConnectionResetError:
            return got
        if not piece:
            return got
        got += piece


def application(root: Path) -> FastAPI:
    """One route for each scope, and files of a local service."""
    app = FastAPI()
    storage = LocalStorage(ServiceSettings(name="local", kind="local", root=str(root)))

    @app.exception_handler(StorageError)
    def problem(request: Request, error: Exception) -> Response:
        status = 404 if isinstance(error, NotFound) else 403 if isinstance(error, PermissionDenied) else 400
        return JSONResponse({"detail": str(error)}, status)

    @app.get("/healthz")
    def healthz() -> str:
        return "ok"

    @app.get("/read")
    def read(principal: Annotated[Principal, Depends(security.require("read"))]) -> str:
        return principal.name

    @app.post("/write")
    def write(
        principal: Annotated[Principal, Depends(security.require("write"))],
        item: Annotated[dict[str, Any], Body(default_factory=dict)],
    ) -> int:
        return len(item)

    @app.delete("/delete")
    def delete(principal: Annotated[Principal, Depends(security.require("delete"))]) -> str:
        return principal.name

    @app.get("/admin")
    def admin(principal: Annotated[Principal, Depends(security.require("admin"))]) -> str:
        return principal.name

    @app.get("/unguarded")
    def unguarded() -> str:
        return "anybody who is known"

    @app.get("/breaks")
    def breaks() -> str:
        raise RuntimeError("secret detail")

    @app.get("/splits")
    def splits(text: str) -> Response:
        return PlainTextResponse("x", headers={"X-Name": text})

    @app.get("/files/{path:path}")
    def get(path: str, principal: Annotated[Principal, Depends(security.require("read"))]) -> Response:
        name = paths.normalize(path)
        principal.check_path(name)
        data = b"".join(storage.open_read(name))
        disposition = content_disposition(paths.basename(name))
        return Response(data, headers={"Content-Disposition": disposition}, media_type="text/html")

    @app.put("/files/{path:path}")
    async def put(
        path: str, request: Request, principal: Annotated[Principal, Depends(security.require("write"))]
    ) -> int:
        principal.check_path(paths.normalize(path))
        size = 0
        async for piece in request.stream():
            size += len(piece)
        return size

    @app.get("/much")
    def much(principal: Annotated[Principal, Depends(security.require("read"))]) -> Response:
        return Response(bytes(64 << 20))

    return app
