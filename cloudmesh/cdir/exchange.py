"""Requests to a service and its answers, as the client needs them: errors as those of the API, streams as they come."""

from __future__ import annotations

import http.client
import ipaddress
import json
import os
import ssl
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import Any
from urllib.parse import SplitResult, urlencode, urlsplit

from cloudmesh.storage import errors
from cloudmesh.storage.errors import AuthenticationFailed, Refused, StorageError, Unavailable, UsageError

TOKEN_VARIABLE = "CDIR_TOKEN"  # noqa: S105 - the name of a variable
"""The environment variable that holds the token."""

_TIMEOUT_S = 60.0
_PIECE = 1 << 20


class Exchange:
    """A service by its URL.

    Args:
        url: such as ``http://127.0.0.1:8765``.
        token: that the service gave out; that of the environment where None.

    Raises:
        UsageError: it is no URL of a service.
        Refused: the token would cross a network unencrypted.
    """

    def __init__(self, url: str, token: str | None = None) -> None:
        self._url: SplitResult = urlsplit(url)
        if self._url.scheme not in ("http", "https") or not self._url.hostname or self._url.username is not None:
            raise UsageError("--url", f"{url!r} is not allowed", "allowed is a URL such as http://127.0.0.1:8765")
        self._token = token or os.environ.get(TOKEN_VARIABLE)
        if self._token and self._url.scheme == "http" and not _is_this_computer(self._url.hostname):
            raise Refused(
                "--url", f"a token is not sent to {self._url.hostname} where others can read it", "use https://"
            )

    @contextmanager
    def answer(
        self,
        method: str,
        path: str,
        values: Mapping[str, Any] | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> Iterator[http.client.HTTPResponse]:
        """Send a request and give the answer, to be read in the block.

        Args:
            method: GET, POST or DELETE.
            path: of the URL.
            values: the query, or of POST the body.
            headers: further ones.

        Raises:
            StorageError: what the service tells; Unavailable: it does not.
        """
        query, body = "", None
        given = {"Accept": "application/json", **(headers or {})}
        if method == "POST":
            body = json.dumps(values or {})
            given["Content-Type"] = "application/json"
        elif values:
            query = "?" + urlencode({name: _texts(one) for name, one in values.items()}, doseq=True)
        if self._token:
            given["Authorization"] = f"Bearer {self._token}"
        connection = self._connection()
        try:
            connection.request(method, f"{self._url.path.rstrip('/')}{path}{query}", body, given)
            answer = connection.getresponse()
            if answer.status >= 400:
                raise _error(answer, self._url.netloc)
            yield answer
        except (OSError, http.client.HTTPException) as error:
            why = getattr(error, "strerror", None) or str(error) or type(error).__name__
            raise Unavailable(self._url.netloc, f"the service does not answer: {why}", "cdir service start") from None
        finally:
            connection.close()

    def _connection(self) -> http.client.HTTPConnection:
        host, port = self._url.hostname or "", self._url.port
        if self._url.scheme == "http":
            return http.client.HTTPConnection(host, port, timeout=_TIMEOUT_S)
        return http.client.HTTPSConnection(host, port, timeout=_TIMEOUT_S, context=ssl.create_default_context())


def _is_this_computer(host: str) -> bool:
    with suppress(ValueError):
        return ipaddress.ip_address(host).is_loopback
    return host == "localhost"


def lines(answer: http.client.HTTPResponse) -> Iterator[str]:
    """Yield an answer's lines as they come, without their ends."""
    while line := answer.readline():
        yield line.decode("utf-8").rstrip("\r\n")


def pieces(answer: http.client.HTTPResponse) -> Iterator[bytes]:
    """Yield an answer's bytes as they come."""
    while piece := answer.read1(_PIECE):
        yield piece
    if answer.length:
        raise http.client.IncompleteRead(b"", answer.length)


def known_error(kind: str, subject: str, why: str, hint: str) -> StorageError:
    """Return the error of the closed set that has a name."""
    found = getattr(errors, kind, None)
    is_known = isinstance(found, type) and issubclass(found, StorageError)
    return (found if is_known else StorageError)(subject, why, hint)  # type: ignore[misc]


def _error(answer: http.client.HTTPResponse, subject: str) -> StorageError:
    if answer.status == 401:
        return AuthenticationFailed(subject, "the service did not accept the token", f"set {TOKEN_VARIABLE}")
    try:
        told = json.loads(answer.read())
        return known_error(told["error"], told["subject"], told["why"], told["hint"])
    except (ValueError, KeyError, TypeError):
        return StorageError(subject, f"the service answered {answer.status} {answer.reason}")


def _texts(value: Any) -> Any:
    if isinstance(value, bool):
        return "true" if value else "false"
    return value
