"""Tokens: what a program shows to the service to be let in."""

from __future__ import annotations

import builtins
import hmac
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar

from sqlalchemy.engine import Row

from cloudmesh.cdir.service.security import audit, revocable
from cloudmesh.cdir.service.security.principal import SCOPES, Principal, Scope
from cloudmesh.cdir.service.security.secret import hashed, is_secret, new_secret
from cloudmesh.cdir.service.tables import token as table
from cloudmesh.storage.binding import Duration, Names, Reads, tells_when_empty
from cloudmesh.storage.database import Database, clock_ns
from cloudmesh.storage.errors import InvalidName

PREFIX = "cdir_"
"""Begins every token, so that it is recognised where it should not stand, as in a published file."""

_LONGEST = 60


def _scopes(text: str) -> list[Scope]:
    wanted = {one.strip() for one in text.split(",")}
    if not wanted <= set(SCOPES):
        raise ValueError(text)
    return [one for one in SCOPES if one in wanted]


Scopes = Annotated[list[Scope], Reads(_scopes, f"one or more of {', '.join(SCOPES)}, separated by commas")]
"""Scopes, typed as ``read,write``."""


@dataclass(frozen=True, slots=True)
class TokenInfo:
    """What is known of a token.

    Attributes:
        id: its number; the audit log calls it ``token-ID``.
        name: what its maker called it.
        scopes: what it allows.
        prefix: the virtual path to which it is limited; ``/`` is no limit.
        services: those to which it is limited; None is no limit.
        last_used_ns: right to a minute.
    """

    columns: ClassVar[tuple[str, ...]] = (
        *("id", "name", "scopes", "services"),
        *("created_ns", "expires_ns", "revoked_ns", "last_used_ns", "prefix"),
    )

    id: int
    name: str
    scopes: list[Scope]
    prefix: str
    services: list[str] | None
    created_ns: int
    expires_ns: int | None
    revoked_ns: int | None
    last_used_ns: int | None


@dataclass(frozen=True, slots=True)
class NewToken:
    """A token as it is shown once. Its text is in no other record, and cannot be found again."""

    columns: ClassVar[tuple[str, ...]] = ("token",)

    token: str
    id: int

    def __repr__(self) -> str:
        return f"NewToken(id={self.id})"


class Tokens:
    """The tokens in the database.

    Args:
        database: gives the database; called when it is first needed.
    """

    usage_exempt: ClassVar[frozenset[str]] = frozenset({"verify", "used"})

    def __init__(self, database: Callable[[], Database]) -> None:
        self._database = database

    def create(
        self,
        name: str = "",
        scope: Scopes | None = None,
        prefix: str = "/",
        service: Names | None = None,
        expires: Duration | None = None,
    ) -> NewToken:
        """Make a token and return it; it is shown this once.

        Args:
            name: to know it by in the list.
            scope: what it allows; only to read where none is given.
            prefix: a virtual path, in the current directory without a slash before it; the token is good for what is
                there and below.
            service: the services it may use; all where none is given.
            expires: seconds after which it is good no longer; never where none is given.

        Raises:
            InvalidName: the name or the prefix cannot be one.
            UsageError: it would expire at once, or the prefix is empty.
        """
        if len(name) > _LONGEST or (name and not name.isprintable()):
            raise InvalidName(name, f"a token's name has at most {_LONGEST} characters and no control characters")
        text = PREFIX + new_secret()
        values = {
            "name": name,
            "hash": hashed(text),
            "scopes": json.dumps(scope or ["read"]),
            "prefix": revocable.path("--prefix", prefix),
            "services": json.dumps(sorted(set(service))) if service else None,
        }
        with self._database().write() as connection:
            now_ns = clock_ns(connection)
            expires_ns = None if expires is None else revocable.end_ns(now_ns, expires)
            made = connection.execute(table.insert().values(created_ns=now_ns, expires_ns=expires_ns, **values))
            (number,) = made.inserted_primary_key or (0,)
            audit.add(connection, [audit.local("token create", f"token-{number}")])
        return NewToken(text, number)

    @tells_when_empty("there are no tokens")
    def list(self) -> Iterator[TokenInfo]:
        """Yield all tokens, the newest first; never their text."""
        return map(_info, revocable.newest_first(self._database(), table))

    def revoke(self, id: int) -> TokenInfo:
        """Make a token good for nothing, for good; a running service knows it within a second.

        Args:
            id: the number in the list.

        Raises:
            NotFound: there is no such token.
        """
        return _info(revocable.revoke(self._database(), table, id, lambda row: f"token-{row.id}"))

    def verify(self, text: str) -> Principal | None:
        """Return whose token this is; None where it is none of ours, expired or revoked."""
        if not text.startswith(PREFIX) or not is_secret(text.removeprefix(PREFIX)):
            return None
        wanted = hashed(text)
        with self._database().read() as connection:
            row = connection.execute(table.select().where(table.c.hash == wanted)).first()
            if row is None or not hmac.compare_digest(row.hash, wanted) or row.revoked_ns is not None:
                return None
            if row.expires_ns is not None and row.expires_ns <= clock_ns(connection):
                return None
        services = frozenset(json.loads(row.services)) if row.services is not None else None
        return Principal(f"token-{row.id}", frozenset(json.loads(row.scopes)), row.prefix, services)

    def used(self, ids: builtins.list[int]) -> None:
        """Note that tokens were used just now."""
        with self._database().write() as connection:
            connection.execute(table.update().where(table.c.id.in_(ids)).values(last_used_ns=clock_ns(connection)))


def _info(row: Row[Any]) -> TokenInfo:
    return TokenInfo(
        id=row.id,
        name=row.name,
        scopes=json.loads(row.scopes),
        prefix=f"/{row.prefix}",
        services=json.loads(row.services) if row.services is not None else None,
        created_ns=row.created_ns,
        expires_ns=row.expires_ns,
        revoked_ns=row.revoked_ns,
        last_used_ns=row.last_used_ns,
    )
