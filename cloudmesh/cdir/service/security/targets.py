"""What is asked for, before anything else is done: the Host, and the path in one form alone."""

from __future__ import annotations

import re
from urllib.parse import unquote_to_bytes

from cloudmesh.cdir.service.security.asgi import Application, Denied, Receive, Scope, Send, values

_HOST = re.compile(r"(?P<name>\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9._-]+)(?::(?P<port>[0-9]{1,5}))?\Z", re.ASCII)
MAX_HEAD_BYTES = 64 << 10
"""What all headers of a request may have."""

_LONGEST = 8192
_ESCAPE = re.compile(rb"%(?![0-9A-Fa-f]{2})")


class Targets:
    """Lets through what asks for this service by a name of its own, and for a path that has one meaning.

    A page of somebody else's whose name was made to lead here (DNS rebinding) still sends its own name as Host. A path
    is decoded once, here and by the server; what then holds ``..`` is refused, not resolved, and so is what is not
    UTF-8, of which the server would make the same text as of another.

    Args:
        app: answers the requests.
        names: the names, in lower case.
    """

    def __init__(self, app: Application, names: frozenset[str]) -> None:
        self._app = app
        self._names = names

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] == "websocket":  # there is none here, and its handshake is no subject of CORS
            await send({"type": "websocket.close", "code": 1008})
            return
        if scope["type"] == "http":
            try:
                if sum(len(name) + len(value) for name, value in scope["headers"]) > MAX_HEAD_BYTES:
                    raise Denied(431, f"the headers of a request have at most {MAX_HEAD_BYTES} bytes")
                self._check_host(scope)
                _check_path(scope)
            except Denied as denied:
                await denied.send(scope, send)
                return
        await self._app(scope, receive, send)

    def _check_host(self, scope: Scope) -> None:
        hosts = values(scope, b"host")
        found = _HOST.match(hosts[0]) if len(hosts) == 1 else None
        if found is None:
            raise Denied(400, "the request needs one Host header")
        if found["name"].lower().strip("[]").rstrip(".") not in self._names:
            raise Denied(421, "this service is not asked for by this name; the setting 'hosts' adds names")


def _check_path(scope: Scope) -> None:
    raw: bytes = scope["raw_path"]
    if len(raw) > _LONGEST or len(scope["query_string"]) > _LONGEST:
        raise Denied(414, f"a path and a query have at most {_LONGEST} bytes each")
    if not raw.startswith(b"/") or _ESCAPE.search(raw):
        raise Denied(400, "this is not a path")
    try:
        path = unquote_to_bytes(raw).decode("utf-8")
    except UnicodeDecodeError:
        raise Denied(400, "the path is not UTF-8") from None
    if "\0" in path or ".." in path.split("/"):
        raise Denied(400, "a path holds neither '..' nor NUL")
