"""What a verification writes into the catalogue: that it has begun, what it saw, what it learnt."""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence
from dataclasses import replace

from sqlalchemy.sql.expression import text

from cloudmesh.storage.database import Database
from cloudmesh.vdir import bulk, schema
from cloudmesh.vdir.lookup import chunks
from cloudmesh.vdir.nodes import Node, Replica, replica_of, replica_row

_BATCH = 5000
_BEGIN = text(
    "INSERT INTO verification (entry_id, deep, sample, started_ns) VALUES (:entry, :deep, :sample, :now)"
    " ON CONFLICT (entry_id, deep, sample) DO NOTHING"
)
_BEGUN = text("SELECT started_ns FROM verification WHERE entry_id = :entry AND deep = :deep AND sample = :sample")
_END = text("DELETE FROM verification WHERE entry_id = :entry AND deep = :deep AND sample = :sample")
_LEARN = text("UPDATE entry SET sha256 = :sha256 WHERE id = :id AND version = :version AND sha256 IS NULL")
_NOW = "SELECT r.* FROM {keys} CROSS JOIN replica AS r WHERE r.entry_id = k.entry_id AND r.service = k.service"


class Run:
    """One verification, which goes on where an earlier one of the same kind was ended before its time.

    Args:
        database: of the catalogue.
        top: what is verified, with all that is below.
        deep: whether bytes are read.
        sample: how much is looked at, as text; empty for all.
    """

    def __init__(self, database: Database, top: Node, *, deep: bool, sample: str) -> None:
        self._database = database
        self._key = {"entry": top.id, "deep": deep, "sample": sample}
        with database.write() as connection:
            connection.execute(_BEGIN, self._key | {"now": time.time_ns()})
            self.started_ns: int = connection.execute(_BEGUN, self._key).scalar_one()

    def ended(self) -> None:
        """Write down that all was looked at: the next verification begins anew."""
        with self._database.write() as connection:
            connection.execute(_END, self._key)


def record(database: Database, looks: Iterable[tuple[Replica, Replica]]) -> None:
    """Write down how replicas are: each as it was known before it was looked at, and as it is.

    One that another process has changed meanwhile is left as that process wrote it.
    """
    for batch in chunks(looks, _BATCH):
        keys = [(before.entry_id, before.service) for before, _ in batch]
        with database.write() as connection:
            rows = map(replica_of, bulk.select(connection, _NOW, ("entry_id", "service"), keys))
            there = {(row.entry_id, row.service): _compared(row) for row in rows}
            bulk.insert(
                connection,
                schema.replica,
                [
                    replica_row(now, now.entry_id, now.state, now.version)
                    for before, now in batch
                    if there.get((before.entry_id, before.service)) == _compared(before)
                ],
                replace=True,
            )


def _compared(replica: Replica) -> Replica:
    """Return what tells whether another process has changed it: all but the times and counts of looks."""
    return replace(replica, checked_ns=None, failures=0, verified_ns=None)


def learn(database: Database, hashes: Sequence[tuple[Node, str]]) -> None:
    """Tell the SHA-256 of contents of which it was not known; a name that has other content meanwhile is left alone."""
    if hashes:
        values = [{"id": node.id, "version": node.version, "sha256": bytes.fromhex(one)} for node, one in hashes]
        with database.write() as connection:
            connection.execute(_LEARN, values)
