"""Finds out who a request comes from: a share link in its path, a token in a header, or a session in a cookie."""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable
from http.cookies import CookieError, SimpleCookie
from urllib.parse import quote

from fastapi.concurrency import run_in_threadpool

from cloudmesh.cdir.service.security.asgi import Denied, Scope, values
from cloudmesh.cdir.service.security.principal import Principal
from cloudmesh.cdir.service.security.secret import hashed
from cloudmesh.cdir.service.security.sessions import Sessions
from cloudmesh.cdir.service.security.settings import Settings
from cloudmesh.cdir.service.security.shares import ROUTE as SHARE
from cloudmesh.cdir.service.security.shares import Shares
from cloudmesh.cdir.service.security.tokens import Tokens

FRESH_S = 1.0
"""For how long an answer of the database is believed, in seconds: so late a revocation may be known."""

_KNOWN = 1000


class Identity:
    """Who requests come from.

    Args:
        settings: of the service.
    """

    def __init__(self, settings: Settings) -> None:
        self.sessions = Sessions(settings.database)
        self._tokens = Tokens(settings.database)
        self._shares = Shares(settings.database)
        self._files = settings.files
        # a cookie is for all ports of a host: with the port in its name two services do not take it from each other
        self.cookie = f"{'__Host-' if settings.is_https else ''}cdir-session-{settings.port}"
        self._known: OrderedDict[bytes, tuple[float, Principal]] = OrderedDict()

    async def of(self, scope: Scope) -> tuple[Principal | None, bool]:
        """Return who a request comes from, None where nobody is known; and whether a browser said so by itself.

        A share link's path becomes the path of the file that it leads to.

        Raises:
            Denied: what should tell who it is, is not good.
        """
        if scope["path"].startswith(SHARE):
            return await self._shared(scope), False
        if given := values(scope, b"authorization"):
            kind, _, text = given[0].partition(" ")
            found = await self._fresh(self._tokens.verify, text.strip()) if kind.lower() == "bearer" else None
            if found is None or len(given) > 1:
                challenge = [(b"www-authenticate", b'Bearer realm="cdir", error="invalid_token"')]
                raise Denied(401, "the token is not known, has expired or was revoked", challenge)
            return found, False
        if secret := self.secret(scope):
            return await self._fresh(self.sessions.verify, secret), True
        return None, False

    def secret(self, scope: Scope) -> str:
        """Return the secret of the session that a request's cookie holds; empty where there is none."""
        for header in values(scope, b"cookie"):
            try:
                cookies = SimpleCookie(header)
            except CookieError:
                continue
            if self.cookie in cookies:
                return cookies[self.cookie].value
        return ""

    def forget(self, secret: str) -> None:
        """Believe the database alone about this secret, at once."""
        self._known.pop(hashed(secret), None)

    async def _shared(self, scope: Scope) -> Principal:
        link, slash, below = scope["path"].removeprefix(SHARE).partition("/")
        found = await self._fresh(self._shares.verify, link)
        if found is None:
            raise Denied(404, "the share link is not known, has expired or was revoked")
        if scope["method"] not in ("GET", "HEAD"):
            raise Denied(405, "a share link is for reading", [(b"allow", b"GET, HEAD")])
        path = f"{self._files}/{found.prefix}{slash}{below}"
        scope["state"]["asked_path"] = scope["raw_path"]
        scope["path"], scope["raw_path"] = path, quote(path).encode()
        return found

    async def _fresh(self, verify: Callable[[str], Principal | None], secret: str) -> Principal | None:
        """Ask the database, unless it was asked a moment ago; only whoever is known is remembered."""
        key = hashed(secret)
        then, found = self._known.get(key, (0.0, None))
        if found is None or time.monotonic() - then > FRESH_S:
            self._known.pop(key, None)
            found = await run_in_threadpool(verify, secret)
            if found is not None:
                self._known[key] = time.monotonic(), found
                if len(self._known) > _KNOWN:
                    self._known.popitem(last=False)
        return found
