"""Puts the guards before an application, and gives routes the one who asks."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable
from urllib.parse import parse_qs

from fastapi import FastAPI, HTTPException, Request
from fastapi.concurrency import run_in_threadpool

from cloudmesh.cdir.service.security import sessions
from cloudmesh.cdir.service.security.asgi import Application, Denied, Message, Receive, Send, values
from cloudmesh.cdir.service.security.asgi import Scope as Asked
from cloudmesh.cdir.service.security.audit import Entry, Outcome
from cloudmesh.cdir.service.security.bodies import Bodies
from cloudmesh.cdir.service.security.headers import Headers
from cloudmesh.cdir.service.security.identity import Identity
from cloudmesh.cdir.service.security.principal import Principal, Scope
from cloudmesh.cdir.service.security.rates import Rate, address_key
from cloudmesh.cdir.service.security.recorder import Recorder
from cloudmesh.cdir.service.security.secret import redacted
from cloudmesh.cdir.service.security.settings import Settings
from cloudmesh.cdir.service.security.targets import Targets

SIGN_OUT = "/signout"

_SAFE = ("GET", "HEAD", "OPTIONS")
_REFUSED = (401, 403, 405, 413, 415, 429)
_PAGE = '<!doctype html><html lang="en"><meta charset="utf-8"><title>cdir</title>{}</html>'
_SIGNED_IN = _PAGE.format(
    '<meta http-equiv="refresh" content="0; url=/docs"><p>You are signed in.</p><p><a href="/docs">Go on</a></p>'
)
_SIGNED_OUT = _PAGE.format("<p>You are signed out; <code>cdir service open</code> makes a link that signs in.</p>")


def install(app: FastAPI, settings: Settings) -> None:
    """Guard every request to ``app``: nobody comes to a route who is not known, but to the public paths.

    Also what a page needs: the sign-in link's path and ``POST /signout``. Nothing may be added to ``app`` later that is
    meant to see requests before the guards do.
    """
    # the last one added is the first to be asked
    app.add_middleware(Bodies, max_bytes=settings.max_body_bytes, max_upload_bytes=settings.max_upload_bytes)
    app.add_middleware(Guard, settings=settings)
    app.add_middleware(Targets, names=settings.names)
    app.add_middleware(Headers, is_https=settings.is_https, files=settings.files)


def require(scope: Scope) -> Callable[[Request], Awaitable[Principal]]:
    """Return the dependency of a route that needs ``scope``: it gives whoever asks.

    The route still has to ask its principal's `check_path` and `check_service` about what it uses.
    """

    async def principal(request: Request) -> Principal:  # no thread for so little
        found = getattr(request.state, "principal", None)
        if not isinstance(found, Principal):  # on a public path
            raise HTTPException(401, "this needs a token", {"www-authenticate": 'Bearer realm="cdir"'})
        found.check_scope(scope)
        return found

    return principal


def write_as(request: Request, tell: Callable[[], tuple[str, str]], *, content: bool = False) -> None:
    """Have the audit log tell of a request in its route's own words.

    Args:
        request: that is answered.
        tell: returns the command, and what it was about; called where the request is written down.
        content: the answer holds the content of files, so that it is written down although nothing changes.
    """
    request.scope["state"]["written_as"] = tell, content


class Guard:
    """Lets in whoever is known and not too often here, and writes down what they did.

    Args:
        app: answers the requests.
        settings: of the service.
    """

    def __init__(self, app: Application, settings: Settings) -> None:
        self._app = app
        self._settings = settings
        self._identity = Identity(settings)
        self._recorder = Recorder(settings.database)
        self._rate = Rate(settings.requests_per_s, settings.burst)
        self._strangers = Rate(settings.strangers_per_s, settings.strangers_burst)

    async def __call__(self, scope: Asked, receive: Receive, send: Send) -> None:
        """Answer one request; at the end of the service, write down what was not yet."""
        if scope["type"] != "http":
            await self._app(scope, self._ending(receive), send)
            return
        path, status, who, is_whole, left = scope["path"], 500, "", False, -1

        async def noticed(message: Message) -> None:
            nonlocal status, is_whole, left
            if message["type"] == "http.response.start":
                status, left = message["status"], _length(message)
            await send(message)
            if message["type"] == "http.response.body":
                left -= len(message.get("body", b""))
                # who has all that was announced may go before the server has said that this is all
                is_whole = left == 0 or not message.get("more_body")

        try:
            principal = await self._admit(scope, path)
            who = principal.name if principal else ""
            if not await self._signing(scope, path, noticed):
                await self._app(scope, receive, noticed)
        except Denied as denied:
            await denied.send(scope, noticed)
        finally:
            self._write_down(scope, path, who, status, is_whole=is_whole)

    async def _admit(self, scope: Asked, path: str) -> Principal | None:
        """Return who asks, once it is known that they may; None on a public path."""
        try:
            principal, by_cookie = await self._identity.of(scope)
        except Denied as denied:
            raise self._stranger(scope) or denied from None
        if principal is None:
            if late := self._stranger(scope):
                raise late
            if scope["method"] in ("GET", "HEAD") and path in (*self._settings.public, sessions.ROUTE):
                return None
            raise Denied(401, "this needs a token or a session", [(b"www-authenticate", b'Bearer realm="cdir"')])
        if wait_s := self._rate.wait_s(principal.name):
            raise _too_often(wait_s)
        if by_cookie:
            self._check_origin(scope)
        if self._recorder.is_behind:
            raise Denied(503, "the audit log cannot be written fast enough", [(b"retry-after", b"5")])
        if principal.name.startswith("token-"):
            self._recorder.used(int(principal.name.removeprefix("token-")))
        scope["state"]["principal"] = principal
        return principal

    def _stranger(self, scope: Asked) -> Denied | None:
        wait_s = self._strangers.wait_s(address_key(_address(scope)))
        return _too_often(wait_s) if wait_s else None

    def _check_origin(self, scope: Asked) -> None:
        """Refuse what a page of somebody else has a signed-in browser do.

        SameSite keeps the cookie from other sites; but all ports of a host are one site, and old browsers know none.
        """
        site = values(scope, b"sec-fetch-site")
        is_visit = scope["method"] == "GET" and values(scope, b"sec-fetch-mode") == ["navigate"]
        if site and site[0] not in ("same-origin", "none") and not is_visit:
            raise Denied(403, "another page may not use this session")
        scheme = "https" if self._settings.is_https else "http"
        own = f"{scheme}://{''.join(values(scope, b'host'))}".lower()
        origins = values(scope, b"origin")
        if (origins or scope["method"] not in _SAFE) and [one.lower() for one in origins] != [own]:
            raise Denied(403, "a session changes something only from the service's own page")

    async def _signing(self, scope: Asked, path: str, send: Send) -> bool:
        """Sign in or out, where that is what was asked for."""
        if path == sessions.ROUTE and scope["method"] == "GET":
            code = parse_qs(scope["query_string"].decode("latin-1")).get("code", [""])[-1]
            secret = await run_in_threadpool(self._identity.sessions.sign_in, code)
            if secret is None:
                raise Denied(
                    401, "this sign-in link was used already or has expired; cdir service open makes a new one"
                )
            await self._page(send, _SIGNED_IN, secret, sessions.SESSION_S)
            return True
        if path == SIGN_OUT and scope["method"] == "POST":
            if secret := self._identity.secret(scope):
                await run_in_threadpool(self._identity.sessions.sign_out, secret)
                self._identity.forget(secret)
            await self._page(send, _SIGNED_OUT, "", 0)
            return True
        return False

    async def _page(self, send: Send, page: str, secret: str, seconds: int) -> None:
        # not a redirect: browsers would count the request after it to whoever had the link, and keep the cookie back
        body = page.encode()
        secure = "; Secure" if self._settings.is_https else ""
        cookie = f"{self._identity.cookie}={secret}; Path=/; HttpOnly; SameSite=Strict; Max-Age={seconds}{secure}"
        headers = [
            (b"content-type", b"text/html; charset=utf-8"),
            (b"content-length", str(len(body)).encode()),
            (b"set-cookie", cookie.encode()),
        ]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": body})

    def _write_down(self, scope: Asked, path: str, who: str, status: int, *, is_whole: bool) -> None:
        """Write down changes, what was refused, sign-ins, and files that were read; not every look at a name.

        A file that was cut on its way, by whomever, was not read whatever the status promised.
        """
        method = scope["method"]
        is_file = scope["path"].startswith(f"{self._settings.files}/")
        tell, is_content = scope["state"].get("written_as", (None, is_file))
        if not who and status == 429:
            return  # a flood from nowhere does not fill the disk
        if method in _SAFE and status < 400 and not is_content and path != sessions.ROUTE:
            return
        if method in _SAFE and status >= 400 and status not in _REFUSED:
            return
        is_good = status < 400 and (is_whole or method not in _SAFE)
        outcome: Outcome = "done" if is_good else "refused" if status in _REFUSED else "failed"
        what, concerned = tell() if tell is not None else (method, scope["path"])
        who, number = who or _address(scope), scope["state"]["request_id"]
        self._recorder.add(Entry(time.time_ns(), who, what, redacted(concerned), outcome, status, number))

    def _ending(self, receive: Receive) -> Receive:
        async def ending() -> Message:
            message = await receive()
            if message["type"] == "lifespan.shutdown":  # before the application closes the database
                await run_in_threadpool(self._recorder.close)
            return message

        return ending


def _length(start: Message) -> int:
    """Return the bytes that the beginning of an answer announces; -1 where it does not."""
    return next((int(value) for name, value in start["headers"] if name.lower() == b"content-length"), -1)


def _address(scope: Asked) -> str:
    return str((scope.get("client") or ("unknown",))[0])


def _too_often(wait_s: float) -> Denied:
    return Denied(429, "too many requests", [(b"retry-after", str(int(wait_s) + 1).encode())])
