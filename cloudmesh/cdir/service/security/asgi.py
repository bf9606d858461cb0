"""ASGI's types, and an answer of our own from outside the application."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, Iterable, MutableMapping
from http import HTTPStatus
from typing import Any

from cloudmesh.storage.errors import (
    AuthenticationFailed,
    ConfigError,
    NotFound,
    PermissionDenied,
    RateLimited,
    StorageError,
    Unavailable,
    UsageError,
)

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
Application = Callable[[Scope, Receive, Send], Awaitable[None]]


def values(scope: Scope, name: bytes) -> list[str]:
    """Return all values of a request's header, named in lower case."""
    return [value.decode("latin-1") for key, value in scope["headers"] if key == name]


_KINDS: dict[int, type[StorageError]] = {
    401: AuthenticationFailed,
    403: PermissionDenied,
    404: NotFound,
    421: ConfigError,
    429: RateLimited,
    500: StorageError,
    503: Unavailable,
}
"""What the application calls such an answer."""


class Denied(Exception):
    """Ends a request with an answer; raised by a guard, never seen by the application.

    Args:
        status: HTTP's.
        detail: what is wrong, for people. It repeats nothing that was sent.
        headers: further ones of the answer.
    """

    def __init__(self, status: int, detail: str, headers: Iterable[tuple[bytes, bytes]] = ()) -> None:
        super().__init__(detail)
        self.status = status
        self.detail = detail
        self.headers = list(headers)

    async def send(self, scope: Scope, send: Send) -> None:
        """Answer with problem details (RFC 9457); a body that was not read yet is not read any more."""
        kind = _KINDS.get(self.status, UsageError)
        problem = {
            "type": f"urn:cdir:error:{kind.__name__}",
            "title": HTTPStatus(self.status).phrase,
            "status": self.status,
            "detail": self.detail,
            "error": kind.__name__,
            "subject": "",
            "why": self.detail,
            "hint": "",
            "retryable": kind.retryable,
        }
        body = json.dumps(problem).encode()
        headers = [
            (b"content-type", b"application/problem+json"),
            (b"content-length", str(len(body)).encode()),
            (b"connection", b"close"),
            *self.headers,
        ]
        await send({"type": "http.response.start", "status": self.status, "headers": headers})
        await send({"type": "http.response.body", "body": b"" if scope["method"] == "HEAD" else body})
