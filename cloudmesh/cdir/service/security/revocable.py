"""What tokens and share links have in common: each is good for a path, is listed, and is taken back for good."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from sqlalchemy.engine import Row
from sqlalchemy.schema import Table

from cloudmesh.cdir.service.security import audit
from cloudmesh.storage.database import Database, clock_ns
from cloudmesh.storage.errors import NotFound, UsageError
from cloudmesh.storage.paths import resolve
from cloudmesh.vdir import cwd

_END = 1 << 63
"""No database holds a number as large."""


def path(element: str, typed: str) -> str:
    """Return the virtual path that was typed, normalised.

    Args:
        element: where, such as ``--prefix``.
        typed: what.

    Raises:
        InvalidName: it cannot be one.
        UsageError: it is empty, as of a variable that is not set, and would be taken for everything.
    """
    if not typed:
        raise UsageError(element, "is empty", "/ is the root")
    return resolve(typed, cwd.current())


def end_ns(now_ns: int, seconds: float) -> int:
    """Return when something ends that is good for so long from now on.

    Raises:
        UsageError: that is no time to come, or beyond all times.
    """
    if seconds <= 0:
        raise UsageError("--expires", "is in the past")
    if (end := now_ns + int(seconds * 1e9)) >= _END:
        raise UsageError("--expires", "is too far away")
    return end


def newest_first(database: Database, table: Table) -> Sequence[Row[Any]]:
    """Return all rows of a table."""
    with database.read() as connection:
        return connection.execute(table.select().order_by(table.c.id.desc())).all()


def revoke(database: Database, table: Table, id: int, shown: Callable[[Row[Any]], str]) -> Row[Any]:
    """Take a row back, unless it was taken back before, and return it.

    Args:
        database: where it is.
        table: of which; its name tells people what is in it.
        id: of the row.
        shown: gives the path under which the audit log tells of it.

    Raises:
        NotFound: there is none.
    """
    missing = NotFound(f"{table.name} {id}", f"there is no such {table.name}")
    if id >= _END:
        raise missing
    with database.write() as connection:
        mine = table.c.id == id
        now_ns = clock_ns(connection)
        connection.execute(table.update().where(mine, table.c.revoked_ns.is_(None)).values(revoked_ns=now_ns))
        row = connection.execute(table.select().where(mine)).first()
        if row is None:
            raise missing
        audit.add(connection, [audit.local(f"{table.name} revoke", shown(row))])
    return row
