"""Signing in to the page: a link that works once becomes a session, whose secret only the browser's cookie holds."""

from __future__ import annotations

import hmac
from collections.abc import Callable

from sqlalchemy.engine import Connection

from cloudmesh.cdir.service.security.principal import SCOPES, Principal
from cloudmesh.cdir.service.security.secret import hashed, is_secret, new_secret
from cloudmesh.cdir.service.tables import session as table
from cloudmesh.storage.database import Database, clock_ns

ROUTE = "/signin"
"""The path of a sign-in link; its query holds ``code``."""

LINK_S = 15 * 60
"""For how long a sign-in link is good, in seconds."""

SESSION_S = 12 * 3600
"""For how long a session is good, in seconds, used or not."""


class Sessions:
    """The sign-in links and sessions in the database.

    Args:
        database: gives the database; called when it is first needed.
    """

    def __init__(self, database: Callable[[], Database]) -> None:
        self._database = database

    def new_link(self, url: str) -> str:
        """Return a link that signs in once to the service at ``url``; whoever has it may do everything there."""
        code = new_secret()
        with self._database().write() as connection:
            _insert(connection, code, "link", LINK_S)
        return f"{url.rstrip('/')}{ROUTE}?code={code}"

    def sign_in(self, code: str) -> str | None:
        """Return the secret of a new session for a link's code, which is used up; None where it is not good."""
        if not is_secret(code):
            return None
        with self._database().write() as connection:
            now_ns = clock_ns(connection)
            connection.execute(table.delete().where(table.c.expires_ns <= now_ns))
            mine = (table.c.hash == hashed(code), table.c.kind == "link")
            if not connection.execute(table.delete().where(*mine)).rowcount:
                return None
            secret = new_secret()
            _insert(connection, secret, "session", SESSION_S)
        return secret

    def sign_out(self, secret: str) -> None:
        """End a session."""
        with self._database().write() as connection:
            connection.execute(table.delete().where(table.c.hash == hashed(secret), table.c.kind == "session"))

    def verify(self, secret: str) -> Principal | None:
        """Return who has this session; None where there is none (any more)."""
        if not is_secret(secret):
            return None
        wanted = hashed(secret)
        with self._database().read() as connection:
            row = connection.execute(table.select().where(table.c.hash == wanted, table.c.kind == "session")).first()
            if row is None or not hmac.compare_digest(row.hash, wanted) or row.expires_ns <= clock_ns(connection):
                return None
        return Principal(f"session-{row.id}", frozenset(SCOPES))


def _insert(connection: Connection, secret: str, kind: str, seconds: int) -> None:
    now_ns = clock_ns(connection)
    values = {"kind": kind, "created_ns": now_ns, "expires_ns": now_ns + seconds * 10**9}
    connection.execute(table.insert().values(hash=hashed(secret), **values))
