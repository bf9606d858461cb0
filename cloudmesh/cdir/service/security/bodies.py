"""How much a request may bring."""

from __future__ import annotations

from cloudmesh.cdir.service.security.asgi import Application, Denied, Message, Receive, Scope, Send, values


class Bodies:
    """Ends a request whose body is too large, once that is known, or compressed, which is larger than it looks.

    Args:
        app: answers the requests.
        max_bytes: the largest body in general.
        max_upload_bytes: the largest one of a PUT: only content is put.
    """

    def __init__(self, app: Application, max_bytes: int, max_upload_bytes: int) -> None:
        self._app = app
        self._max_bytes = max_bytes
        self._max_upload_bytes = max_upload_bytes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        limit = self._max_upload_bytes if scope["method"] == "PUT" else self._max_bytes
        got = 0
        denied: Denied | None = None
        has_started = False

        async def counted() -> Message:
            nonlocal got, denied
            message = await receive()
            got += len(message.get("body", b""))
            if got > limit:
                denied = Denied(413, f"the body is larger than {limit} bytes")
                raise denied
            return message

        async def answered(message: Message) -> None:
            nonlocal has_started
            if denied is None or has_started:
                has_started = True
                await send(message)
            # else what the application makes of the failed reading is not told: the true reason follows

        try:
            _check_announced(scope, limit)
            await self._app(scope, counted, answered)
        except Denied as error:
            denied = error
        if denied is not None and not has_started:
            await denied.send(scope, send)


def _check_announced(scope: Scope, limit: int) -> None:
    for encoding in values(scope, b"content-encoding"):
        if encoding.strip().lower() not in ("", "identity"):
            raise Denied(415, "compressed bodies are not taken", [(b"accept-encoding", b"identity")])
    for length in values(scope, b"content-length"):
        if not length.isdecimal() or int(length) > limit:
            raise Denied(413, f"the body is larger than {limit} bytes")
