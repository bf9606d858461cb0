"""What a verification writes into the catalogue: that it has begun, what it saw, what it learnt."""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence
from typing import Any

from sqlalchemy.sql.expression import text

from cloudmesh.storage.database import Database
from cloudmesh.vdir import bulk, schema
from cloudmesh.vdir.lookup import chunks
from cloudmesh.vdir.nodes import Node, Replica, replica_row

_BATCH = 5000
_BEGIN = text(
    "INSERT INTO verification (entry_id, deep, sample, started_ns) VALUES (:entry, :deep, :sample, :now)"
    " ON CONFLICT (entry_id, deep, sample) DO NOTHING"
)
_BEGUN = text("SELECT started_ns FROM verification WHERE entry_id = :entry AND deep = :deep AND sample = :sample")
_END = text("DELETE FROM verification WHERE entry_id = :entry AND deep = :deep AND sample = :sample")
_LEARN = text("UPDATE entry SET sha256 = :sha256 WHERE id = :id AND version = :version AND sha256 IS NULL")
_LOOKS = ("checked_ns", "failures", "verified_ns")
_LOOKED = (
    f"UPDATE replica SET {', '.join(f'{name} = k.{name}' for name in _LOOKS)} FROM {{keys}}"  # noqa: S608
    " WHERE replica.entry_id = k.entry_id AND replica.service = k.service"
)
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
            there = {
                (row[0], row[1]): _facts(row) for row in bulk.select(connection, _NOW, ("entry_id", "service"), keys)
            }
            rows: list[tuple[Any, ...]] = []
            looked: list[tuple[Any, ...]] = []
            for before, now in batch:
                known, row = _facts(_row(before)), _row(now)
                if there.get((before.entry_id, before.service)) == known:
                    if _facts(row) == known and before.hashes == now.hashes:
                        looked.append((now.entry_id, now.service, now.checked_ns, now.failures, now.verified_ns))
                    else:
                        rows.append(row)
            bulk.insert(connection, schema.replica, rows, replace=True)
            if looked:
                bulk.execute(connection, _LOOKED, ("entry_id", "service", *_LOOKS), looked)


def _row(replica: Replica) -> tuple[Any, ...]:
    return replica_row(replica, replica.entry_id, replica.state, replica.version)


def _facts(row: Sequence[Any]) -> tuple[Any, ...]:
    """Return what of a replica's row tells whether another process has changed it: all but the times and counts of
    looks, and the hashes, which change with the rest and may be written in several ways."""
    return (*row[2:8], *row[9:11])


def learn(database: Database, hashes: Sequence[tuple[Node, str]]) -> None:
    """Tell the SHA-256 of contents of which it was not known; a name that has other content meanwhile is left alone."""
    if hashes:
        values = [{"id": node.id, "version": node.version, "sha256": bytes.fromhex(one)} for node, one in hashes]
        with database.write() as connection:
            connection.execute(_LEARN, values)
