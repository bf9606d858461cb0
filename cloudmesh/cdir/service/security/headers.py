"""The headers of every answer, and how a file's name goes into one."""

from __future__ import annotations

import re
import uuid
from urllib.parse import quote

from cloudmesh.cdir.service.security.asgi import Application, Denied, Message, Receive, Scope, Send

CONTENT_POLICY = (
    b"default-src 'self'; img-src 'self' data:; object-src 'none'; base-uri 'none'; form-action 'self'; "
    b"frame-ancestors 'none'"
)

FILE_POLICY = b"sandbox; default-src 'none'; style-src 'unsafe-inline'; img-src data:; frame-ancestors 'none'"
"""For the users' own files: a page among them is shown, but neither runs scripts nor speaks as the service."""

_ALWAYS = (
    (b"x-content-type-options", b"nosniff"),
    (b"x-frame-options", b"DENY"),
    (b"referrer-policy", b"no-referrer"),
    (b"cross-origin-opener-policy", b"same-origin"),
    (b"cross-origin-resource-policy", b"same-origin"),
    (b"permissions-policy", b"camera=(), geolocation=(), microphone=()"),
)
_STRICT_TRANSPORT = (b"strict-transport-security", b"max-age=31536000")
_NO_STORE = (b"cache-control", b"no-store")
_CLOSED = frozenset({b"access-control-allow-origin", b"access-control-allow-credentials"})
"""What would open the service to the pages of others; nothing here may set it."""

_LINE = re.compile(rb"[\r\n\0]")
_UNSAFE_ASCII = re.compile(r"[^ !#$&+\-.0-9A-Z^_`a-z{}~(),;=@\[\]]")


class Headers:
    """Gives every request an id, and every answer that and its security headers, also after an unexpected failure.

    Args:
        app: answers the requests.
        is_https: tell browsers to come with TLS alone.
        files: where the paths of the users' files begin.
    """

    def __init__(self, app: Application, is_https: bool, files: str) -> None:
        self._app = app
        self._always = [*_ALWAYS, _STRICT_TRANSPORT] if is_https else list(_ALWAYS)
        self._files = f"{files}/"

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        if "request_id" not in (state := scope.setdefault("state", {})):
            state["request_id"] = uuid.uuid4().hex
        has_started = False

        async def send_with_headers(message: Message) -> None:
            nonlocal has_started
            if message["type"] == "http.response.start":
                message["headers"] = self._complete(scope, message.get("headers", ()))
                has_started = True
            await send(message)

        try:
            await self._app(scope, receive, send_with_headers)
        except Exception:
            if not has_started:
                await Denied(500, "an internal error, which the service's log tells").send(scope, send_with_headers)
            raise

    def _complete(self, scope: Scope, given: list[tuple[bytes, bytes]]) -> list[tuple[bytes, bytes]]:
        kept = [(name.lower(), value) for name, value in given]
        for name, value in kept:
            if _LINE.search(name) or _LINE.search(value):
                raise ValueError("a header holds the end of a line")
        names = {name for name, _ in kept}
        own = [*self._always, (b"x-request-id", scope["state"]["request_id"].encode())]
        # a share link's path was changed to that of the file
        is_file = scope["path"].startswith(self._files)
        own.append((b"content-security-policy", FILE_POLICY if is_file else CONTENT_POLICY))
        overwritten = {name for name, _ in own} | _CLOSED
        if b"cache-control" not in names:
            own.append(_NO_STORE)
        return [one for one in kept if one[0] not in overwritten] + own


def content_disposition(name: str, *, inline: bool = False) -> str:
    """Return the header's value that has a file saved under its name, whatever is in that (RFC 6266, RFC 8187)."""
    kind = "inline" if inline else "attachment"
    plain = _UNSAFE_ASCII.sub("_", name)
    if plain == name:
        return f'{kind}; filename="{name}"'
    encoded = quote(name.encode("utf-8", "replace"), safe="!#$&+-.^_`|~")
    return f"{kind}; filename=\"{plain}\"; filename*=UTF-8''{encoded}"
