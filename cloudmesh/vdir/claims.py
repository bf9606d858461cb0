"""Claims: no two processes, on whatever computers, work on one name at once.

A process that changes replicas has one lease, a row that it renews until it ends; under it it claims the names that it
is about to work on, and releases them when their rows are written. A lease that is not renewed, because its process was
cut off, ends by itself, and its claims with it; that of a process that is certainly gone (`presence`) ends at once. The
lease's number only grows, so it is a fencing token: what a process writes into the catalogue about a name is written
only while the claim still bears its number (`still_mine`).
"""

from __future__ import annotations

import logging
import os
import socket
import threading
from collections.abc import Collection, Iterable, Iterator
from contextlib import contextmanager
from types import TracebackType
from typing import Self

from sqlalchemy.engine import Connection
from sqlalchemy.sql.expression import text

from cloudmesh.storage import presence
from cloudmesh.storage.database import Database, clock_ns
from cloudmesh.storage.errors import StorageError
from cloudmesh.vdir import bulk, schema

SECONDS = 60.0
"""How long a lease lasts unless it is renewed."""

_LOG = logging.getLogger(__name__)
_RENEWALS = 4
"""Times that a lease is renewed while it would last."""

_HOLDERS = (
    "SELECT c.entry_id, l.holder FROM {keys} CROSS JOIN claim AS c CROSS JOIN lease AS l"
    " WHERE c.entry_id = k.entry_id AND l.id = c.lease_id AND c.lease_id <> :mine"
)
_MINE = "SELECT c.entry_id FROM {keys} CROSS JOIN claim AS c WHERE c.entry_id = k.entry_id AND c.lease_id = :mine"
_ALIVE = "SELECT e.id, 0 FROM {keys} CROSS JOIN entry AS e WHERE e.id = k.entry_id"
_RELEASE = "DELETE FROM claim WHERE lease_id = :mine AND entry_id IN (SELECT k.entry_id FROM {keys})"


class Claims:
    """What one process has claimed; a context manager. Threads may share it. It has no lease before the first claim.

    Args:
        database: of the catalogue.
        purpose: what the process does, for those who have to wait, such as ``vdir sync``.
        seconds: how long the lease lasts unless it is renewed.
    """

    def __init__(self, database: Database, purpose: str, seconds: float = SECONDS) -> None:
        self._database = database
        self._holder = f"{purpose}, process {os.getpid()} on {socket.gethostname()}"
        self._seconds = seconds
        self._lease: int | None = None
        self._inside: set[int] = set()
        self._lock = threading.Lock()
        self._ended = threading.Event()

    def __enter__(self) -> Self:
        with self._database.read() as connection:
            ended = _ended(connection)
        if ended:  # seldom: their processes died
            with self._database.write() as connection:
                _end(connection)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    @contextmanager
    def claimed(self, entries: Collection[int]) -> Iterator[dict[int, str]]:
        """Claim names, by id, for the block; give those that another process works on, each with who that is.

        What is known of the others has to be read again inside the block: it may have changed before. Of blocks that
        stand inside each other the outermost one holds a name.
        """
        with self._lock:
            new = set(entries) - self._inside
            self._inside |= new
        try:
            yield self.claim(new) if new else {}
        finally:
            with self._lock:
                self._inside -= new
            if new:
                self.release(new)

    def claim(self, entries: Collection[int]) -> dict[int, str]:
        """Claim names, by id; return those that another process works on, each with who that is."""
        keys = [(key,) for key in entries]
        with self._lock, self._database.write() as connection:
            now_ns = clock_ns(connection)
            _end(connection)
            mine = self._leased(connection, now_ns)
            held = self.holders(connection, entries)
            alive = (row[0] for row in bulk.select(connection, _ALIVE, ("entry_id",), keys))
            rows = [(key, mine) for key in alive if key not in held]
            bulk.insert(connection, schema.claim, rows, replace=True)
        return held

    def release(self, entries: Collection[int]) -> None:
        """Let others work on names."""
        if self._lease is not None:
            with self._database.write() as connection:
                bulk.execute(connection, _RELEASE, ("entry_id",), [(key,) for key in entries], mine=self._lease)

    def still_mine(self, connection: Connection, entries: Iterable[int]) -> set[int]:
        """Return those of the names whose claim is still this process's, in the caller's write transaction."""
        keys = [(key,) for key in entries]
        return {row[0] for row in bulk.select(connection, _MINE, ("entry_id",), keys, mine=self._lease or 0)}

    def holders(self, connection: Connection, entries: Iterable[int]) -> dict[int, str]:
        """Return who works on the names that others work on."""
        keys = [(key,) for key in entries]
        mine = self._lease or 0
        return {row[0]: row[1] for row in bulk.select(connection, _HOLDERS, ("entry_id",), keys, mine=mine)}

    def close(self) -> None:
        """Give the lease back, and all claims with it."""
        self._ended.set()
        with self._lock:
            if self._lease is not None:
                with self._database.write() as connection:
                    connection.execute(text("DELETE FROM lease WHERE id = :mine"), {"mine": self._lease})
                self._lease = None

    def _leased(self, connection: Connection, now_ns: int) -> int:
        """Return the number of the lease, which is made where there is none, or none any more."""
        expires_ns = now_ns + int(self._seconds * 1e9)
        if self._lease is not None and self._renew(connection, expires_ns):
            return self._lease
        statement = text(
            "INSERT INTO lease (holder, process, expires_ns) VALUES (:holder, :process, :expires) RETURNING id"
        )
        row = {"holder": self._holder, "process": presence.mine(), "expires": expires_ns}
        found = connection.execute(statement, row).scalar_one()
        if self._lease is None:
            threading.Thread(target=self._keep, name="claims", daemon=True).start()
        self._lease = int(found)
        return self._lease

    def _renew(self, connection: Connection, expires_ns: int) -> bool:
        statement = text("UPDATE lease SET expires_ns = :expires WHERE id = :mine")
        return connection.execute(statement, {"expires": expires_ns, "mine": self._lease}).rowcount == 1

    def _keep(self) -> None:
        """Renew the lease until it is given back; where that fails it ends, and what is written is refused."""
        while not self._ended.wait(self._seconds / _RENEWALS):
            try:
                with self._lock, self._database.write() as connection:
                    if self._lease is not None:
                        self._renew(connection, clock_ns(connection) + int(self._seconds * 1e9))
            except StorageError as error:
                _LOG.warning("the lease could not be renewed: %s", error)


def _ended(connection: Connection) -> list[int]:
    """Return the leases that have run out, and those of processes that are gone."""
    now_ns = clock_ns(connection)
    rows = connection.execute(text("SELECT id, process, expires_ns FROM lease")).all()
    return [key for key, process, expires_ns in rows if expires_ns <= now_ns or presence.is_gone(process)]


def _end(connection: Connection) -> None:
    for key in _ended(connection):
        connection.execute(text("DELETE FROM lease WHERE id = :id"), {"id": key})
