"""What tokens and share links have in common: each is a row that is listed, and taken back for good."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from sqlalchemy.engine import Row
from sqlalchemy.schema import Table

from cloudmesh.cdir.service.security import audit
from cloudmesh.storage.database import Database, clock_ns
from cloudmesh.storage.errors import NotFound


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
    with database.write() as connection:
        mine = table.c.id == id
        now_ns = clock_ns(connection)
        connection.execute(table.update().where(mine, table.c.revoked_ns.is_(None)).values(revoked_ns=now_ns))
        row = connection.execute(table.select().where(mine)).first()
        if row is None:
            raise NotFound(f"{table.name} {id}", f"there is no such {table.name}")
        audit.add(connection, [audit.local(f"{table.name} revoke", shown(row))])
    return row
