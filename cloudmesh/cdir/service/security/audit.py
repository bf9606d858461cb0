"""The audit log: who asked for what, when, on which path, and how it ended. Never a secret, a query or a body."""

from __future__ import annotations

import getpass
import os
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Annotated, ClassVar, Literal

from sqlalchemy.engine import Connection
from sqlalchemy.sql.expression import true

from cloudmesh.cdir.service.tables import audit as table
from cloudmesh.storage.binding import Reads
from cloudmesh.storage.database import Database
from cloudmesh.storage.errors import UsageError
from cloudmesh.storage.transfer.options import parse_moment

Outcome = Literal["done", "refused", "failed"]
"""refused: by what this package guards; failed: for any other reason."""

KEEP_NS = 400 * 86400 * 10**9
"""How long entries are kept: a year, and some weeks to look back at it."""

_LONGEST = 4096
_BATCH = 1000


def _since(text: str) -> int:
    try:
        return parse_moment(text, time.time_ns())
    except UsageError:
        raise ValueError(text) from None


Since = Annotated[int, Reads(_since, "a time such as 2026-01-31, 2026-01-31T18:00, 36h or 7d")]
"""A moment in ns since the epoch, typed as a date or as how long ago it was."""


@dataclass(frozen=True, slots=True)
class Entry:
    """One thing that was asked for.

    Attributes:
        time_ns: when it had ended.
        who: ``token-3``, ``session-8``, ``share-5``, ``user-ann`` on the command line; else an address.
        what: the command, or HTTP's method.
        path: what the command concerns, as it would be typed, or the path of the URL; without what is secret in it.
        status: HTTP's; None on the command line.
        request_id: finds the request in the service's own log.
    """

    columns: ClassVar[tuple[str, ...]] = ("time_ns", "who", "outcome", "status", "what", "path")

    time_ns: int
    who: str
    what: str
    path: str
    outcome: Outcome
    status: int | None
    request_id: str


def local(what: str, path: str) -> Entry:
    """Return the entry for what the user of this computer has done on the command line."""
    return Entry(time.time_ns(), f"user-{_user()}", what, path, "done", None, "")


def add(connection: Connection, entries: Sequence[Entry]) -> None:
    """Write entries, in the transaction that is open on ``connection``."""
    rows = [asdict(one) | {"path": _storable(one.path), "what": one.what[:_LONGEST]} for one in entries]
    connection.execute(table.insert(), rows)


def forget_old(connection: Connection) -> None:
    """Remove what is older than is kept."""
    connection.execute(table.delete().where(table.c.time_ns < time.time_ns() - KEEP_NS))


def entries(database: Database, since: int | None = None, who: str | None = None) -> Iterator[Entry]:
    """Yield what was done, the oldest first.

    Args:
        database: where.
        since: only what ended since, ns since the epoch.
        who: only what was asked for by them.
    """
    chosen = [table.c.time_ns >= since] if since is not None else []
    chosen += [table.c.who == who] if who is not None else []
    last = 0
    while True:
        page = table.select().where(true(), *chosen, table.c.id > last).order_by(table.c.id).limit(_BATCH)
        with database.read() as connection:
            rows = connection.execute(page).all()
        for row in rows:
            last = row.id
            yield Entry(row.time_ns, row.who, row.what, row.path, row.outcome, row.status, row.request_id)
        if len(rows) < _BATCH:
            return


def _storable(path: str) -> str:
    """Return the path as every database takes it."""
    return path.encode("utf-8", "replace").decode().replace("\0", "\ufffd")[:_LONGEST]


def _user() -> str:
    try:
        return getpass.getuser()
    except (OSError, KeyError):  # a container's user may have no name
        return str(os.getuid())
