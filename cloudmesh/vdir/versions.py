"""The rows of kept contents: what names had before, and where one file of each is."""

from __future__ import annotations

import time
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass

from sqlalchemy.engine import Connection
from sqlalchemy.sql.expression import text

from cloudmesh.storage.database import Database, clock_ns
from cloudmesh.vdir import bulk, schema
from cloudmesh.vdir.lookup import paths_of
from cloudmesh.vdir.nodes import Node

_PAGE = 1000

_OF = (
    "SELECT v.entry_id, v.version, v.size, v.mtime_ns, v.sha256, v.origin, v.replaced_ns, v.service, v.path,"
    " v.service_version, v.verified_ns FROM {keys} JOIN version AS v ON v.entry_id = k.entry_id"
    " ORDER BY v.entry_id, v.version DESC"
)
_VERIFIED = (
    "UPDATE version SET verified_ns = :now FROM {keys}"
    " WHERE version.entry_id = k.entry_id AND version.version = k.version"
)
_REMOVE = "DELETE FROM version WHERE (entry_id, version) IN (SELECT k.entry_id, k.version FROM {keys})"
_ENTRIES = text("SELECT DISTINCT entry_id FROM version WHERE entry_id > :after ORDER BY entry_id LIMIT :limit")


@dataclass(frozen=True, slots=True)
class Kept:
    """A content that a name has no longer, and the file in which it was kept.

    Attributes:
        entry_id: of the name.
        version: as which the name had it.
        size: bytes.
        mtime_ns: of the content.
        sha256: of the content; None = not known.
        origin: the service on which the content appeared; empty where it came through us.
        replaced_ns: when another content took its place.
        service: where it is kept.
        path: of the file there.
        service_version: the service's own id of the version, where ``path`` is the name's own file.
        verified_ns: when its bytes were last read and right.
    """

    entry_id: int
    version: int
    size: int | None
    mtime_ns: int | None
    sha256: str | None
    origin: str
    replaced_ns: int
    service: str
    path: str
    service_version: str | None = None
    verified_ns: int | None = None


def of(database: Database, entries: Collection[int]) -> dict[int, list[Kept]]:
    """Return the kept contents of names by id, the newest first; names that have none are left out."""
    found: dict[int, list[Kept]] = {}
    with database.read() as connection:
        for row in bulk.select(connection, _OF, ("entry_id",), [(key,) for key in entries]):
            entry_id, version, size, mtime_ns, sha256, *rest = row
            digest = None if sha256 is None else sha256.hex()
            found.setdefault(entry_id, []).append(Kept(entry_id, version, size, mtime_ns, digest, *rest))
    return found


def following(database: Database, nodes: Collection[Node]) -> dict[int, int]:
    """Return the number of the next version of each name, by id."""
    kept = of(database, [node.id for node in nodes])
    return {node.id: 1 + max([node.version, *(one.version for one in kept.get(node.id, ()))]) for node in nodes}


def add(connection: Connection, kept: Sequence[Kept]) -> None:
    """Write kept contents down, in the caller's write transaction."""
    rows = [
        (
            one.entry_id,
            one.version,
            one.size,
            one.mtime_ns,
            bytes.fromhex(one.sha256) if one.sha256 else None,
            one.origin,
            one.replaced_ns,
            one.service,
            one.path,
            one.service_version,
            one.verified_ns,
        )
        for one in kept
    ]
    bulk.insert(connection, schema.version, rows, replace=True)


def verified(database: Database, kept: Iterable[Kept]) -> None:
    """Write down that the bytes of kept contents were read just now and are right."""
    if keys := [(one.entry_id, one.version) for one in kept]:
        with database.write() as connection:
            bulk.execute(connection, _VERIFIED, ("entry_id", "version"), keys, now=time.time_ns())


def remove(database: Database, kept: Iterable[Kept]) -> None:
    """Forget kept contents."""
    if keys := [(one.entry_id, one.version) for one in kept]:
        with database.write() as connection:
            bulk.execute(connection, _REMOVE, ("entry_id", "version"), keys)


def bury(connection: Connection, entries: Collection[int]) -> None:
    """Leave a tombstone for each kept file of names that are about to be deleted, in the caller's transaction: the next
    `sync` removes them."""
    keys = [(key,) for key in entries]
    rows = [row for row in bulk.select(connection, _OF, ("entry_id",), keys) if row[9] is None]
    if rows:
        paths, now_ns = paths_of(connection, {row[0] for row in rows}), clock_ns(connection)
        stones = [(row[7], row[8], paths.get(row[0], ""), row[2], None, None, None, row[4], now_ns) for row in rows]
        bulk.insert(connection, schema.tombstone, stones, replace=True)


def names(database: Database) -> Iterator[dict[int, str]]:
    """Yield the ids and paths of all names that have kept contents, a page at a time."""
    after = 0
    while True:
        with database.read() as connection:
            ids = connection.execute(_ENTRIES, {"after": after, "limit": _PAGE}).scalars().all()
            found = paths_of(connection, ids)
        if found:
            yield found
        if len(ids) < _PAGE:
            return
        after = ids[-1]
