"""Adding many files to the catalogue at once, in the caller's write transaction."""

from __future__ import annotations

import time
from collections.abc import Collection, Mapping, Sequence
from types import MappingProxyType
from typing import Any

from sqlalchemy.engine import Connection

from cloudmesh.storage import paths
from cloudmesh.storage.errors import IsADirectory
from cloudmesh.vdir import bulk, lookup, schema
from cloudmesh.vdir.nodes import NewFile, Registered, Replica, State, replica_row


def ensure_directories(
    connection: Connection,
    directories: Collection[str],
    created_ns: Mapping[str, int | None] = MappingProxyType({}),
) -> tuple[dict[str, int], set[str]]:
    """Make the missing ones of ``directories`` and of those above them.

    Args:
        connection: in a write transaction.
        directories: their paths.
        created_ns: when each was made, where that is not now.

    Returns:
        the ids of all of them by path, and the paths of those that were made.

    Raises:
        NotADirectory: a file has that name.
    """
    found = lookup.lookup_levels(connection, directories)
    for node in found.values():
        lookup.need_directory(node)
    ids = {path: node.id for path, node in found.items()}
    missing = {path for directory in directories for path in _and_parents(directory) if path not in ids}
    if missing:
        # by depth, so that the row that another one refers to is there before it
        ordered = sorted(missing, key=lambda path: (lookup.depth(path), path))
        ids.update(zip(ordered, bulk.allocate(connection, len(ordered)), strict=True))
        now = time.time_ns()
        rows: list[tuple[Any, ...]] = [
            (
                ids[path],
                ids[paths.parent(path)],
                paths.basename(path),
                True,
                None,
                None,
                None,
                1,
                made or now,
                None,
                None,
                None,
                None,
            )
            for path in ordered
            for made in (created_ns.get(path),)
        ]
        bulk.insert(connection, schema.entry, rows)
    return ids, missing


def register(connection: Connection, files: Sequence[NewFile]) -> Registered:
    """Add one batch of files; see `Catalogue.register`."""
    ids, _ = ensure_directories(connection, {paths.parent(file.path) for file in files})
    keys: dict[tuple[int, str], NewFile] = {}
    repeated: list[NewFile] = []
    for file in files:
        directory, _, name = file.path.rpartition("/")
        key = (ids[directory], name)
        if key in keys:
            repeated.append(file)
        else:
            keys[key] = file
    there = {
        (row[1], row[2]): row for row in bulk.select(connection, lookup.BY_NAME, ("parent_id", "name"), list(keys))
    }
    new = [key for key in keys if key not in there]
    now = time.time_ns()
    entries: list[tuple[Any, ...]] = []
    replicas: list[tuple[Any, ...]] = []
    for entry_id, key in zip(bulk.allocate(connection, len(new)), new, strict=True):
        file = keys[key]
        sha256 = bytes.fromhex(file.sha256) if file.sha256 else None
        entries.append(
            (entry_id, *key, False, file.size, file.mtime_ns, sha256, 1, now, None, None, None, file.origin or None)
        )
        replicas.extend({r.service: replica_row(r, entry_id, r.state, 1) for r in file.replicas}.values())
    bulk.insert(connection, schema.entry, entries)
    bulk.insert(connection, schema.replica, replicas)
    differing = _register_existing(connection, [(row, keys[key]) for key, row in there.items()])
    result = Registered(len(new), len(there), differing)
    if repeated:
        # a name that came twice is by now an existing one
        again = register(connection, repeated)
        result = Registered(result.new, result.existing + again.existing, differing + again.differing)
    return result


def _register_existing(connection: Connection, found: Sequence[tuple[Any, NewFile]]) -> int:
    """Add replicas to files that are there; return how many of the files differ from what is registered."""
    differing = 0
    rows: dict[tuple[int, str], tuple[Any, ...]] = {}
    for row, file in found:
        if row[3]:
            raise IsADirectory(lookup.shown(file.path))
        differs = False
        for replica in file.replicas:
            state, version = _compare(row, file, replica)
            differs = differs or not version
            rows[row[0], replica.service] = replica_row(replica, row[0], state, version)
        differing += differs
    bulk.insert(connection, schema.replica, list(rows.values()), replace=True)
    return differing


def _compare(row: Any, file: NewFile, replica: Replica) -> tuple[State, int]:
    """Return the state and version that a replica has beside the content that the entry's row tells."""
    size = file.size if replica.size is None else replica.size
    sha256 = replica.sha256 or file.sha256
    if (size is not None and row[4] is not None and size != row[4]) or (
        sha256 and row[6] is not None and bytes.fromhex(sha256) != row[6]
    ):
        return "stale", 0
    return replica.state, row[7]


def _and_parents(path: str) -> list[str]:
    parts = path.split("/") if path else []
    return ["/".join(parts[: i + 1]) for i in range(len(parts))]
