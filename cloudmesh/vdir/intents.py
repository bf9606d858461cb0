"""Intents in the catalogue: what is about to happen to a file that is there already, written down before it does."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

from sqlalchemy.engine import Connection
from sqlalchemy.sql.expression import text

from cloudmesh.storage.database import Database
from cloudmesh.vdir import bulk, schema

Kind = Literal["write", "keep"]

_OF = (
    "SELECT i.entry_id, i.service, i.kind, i.path, i.version, i.size, i.mtime_ns, i.sha256"
    " FROM {keys} CROSS JOIN intent AS i WHERE i.entry_id = k.entry_id ORDER BY i.entry_id, i.kind, i.service"
)
_DONE = "DELETE FROM intent WHERE kind = :kind AND (entry_id, service) IN (SELECT k.entry_id, k.service FROM {keys})"


@dataclass(frozen=True, slots=True)
class Intent:
    """A file of a service that is about to be overwritten with a content (``write``), or whose content is about to be
    kept at another path (``keep``).

    Attributes:
        entry_id: of the name.
        service: where.
        kind: which of the two.
        path: of the file that is written.
        version: of the content.
        size: of the content, bytes.
        mtime_ns: of the content.
        sha256: of the content.
    """

    entry_id: int
    service: str
    kind: Kind
    path: str
    version: int
    size: int | None
    mtime_ns: int | None
    sha256: str | None


def concerned(database: Database) -> set[int]:
    """Return the ids of all names that have an intent; only those of which somebody died halfway, or works on now."""
    with database.read() as connection:
        return set(connection.execute(text("SELECT DISTINCT entry_id FROM intent")).scalars())


def of(database: Database, entries: Collection[int]) -> dict[int, list[Intent]]:
    """Return the intents of names, by id; those that have none are left out."""
    found: dict[int, list[Intent]] = {}
    with database.read() as connection:
        for row in bulk.select(connection, _OF, ("entry_id",), [(key,) for key in entries]):
            entry_id, service, kind, path, version, size, mtime_ns, sha256 = row
            digest = None if sha256 is None else sha256.hex()
            found.setdefault(entry_id, []).append(
                Intent(entry_id, service, kind, path, version, size, mtime_ns, digest)
            )
    return found


def add(connection: Connection, intents: Sequence[Intent]) -> None:
    """Write intents down, in place of earlier ones for the same files, in the caller's write transaction."""
    rows = [
        (
            one.entry_id,
            one.service,
            one.kind,
            one.path,
            one.version,
            one.size,
            one.mtime_ns,
            bytes.fromhex(one.sha256) if one.sha256 else None,
        )
        for one in intents
    ]
    bulk.insert(connection, schema.intent, rows, replace=True)


def done(connection: Connection, kind: Kind, files: Iterable[tuple[int, str]]) -> None:
    """Forget the intents of one kind for files, by entry id and service, in the caller's write transaction."""
    if keys := list(files):
        bulk.execute(connection, _DONE, ("entry_id", "service"), keys, kind=kind)
