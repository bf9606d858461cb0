"""From virtual paths to entries and back, inside a connection that the caller has."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from itertools import islice
from typing import Any, TypeVar

from sqlalchemy.engine import Connection
from sqlalchemy.sql.expression import TextClause, text

from cloudmesh.storage import paths
from cloudmesh.storage.database import rows
from cloudmesh.storage.errors import InvalidName, NotADirectory, NotFound
from cloudmesh.vdir import bulk, schema
from cloudmesh.vdir.nodes import ENTRY_COLUMNS, Node, Replica, node_of, replica_of

T = TypeVar("T")

COLUMNS = ", ".join(f"e.{name}" for name in ENTRY_COLUMNS)
"""What `node_of` needs, from a table named ``e``."""

REPLICA_COLUMNS = ", ".join(f"r.{one.name}" for one in schema.replica.columns)
"""What `replica_of` needs, from a table named ``r``."""

BY_ID = f"SELECT {COLUMNS} FROM {{keys}} CROSS JOIN entry AS e WHERE e.id = k.id"  # noqa: S608
BY_NAME = f"SELECT {COLUMNS} FROM {{keys}} CROSS JOIN entry AS e WHERE e.parent_id = k.parent_id AND e.name = k.name"  # noqa: S608

_CHAIN = """
WITH RECURSIVE c(depth, {columns}) AS (
    SELECT 0, {entry} FROM entry AS e WHERE e.id = 1
    UNION ALL
    SELECT c.depth + 1, {entry} FROM c JOIN entry AS e ON e.parent_id = c.id AND e.name = {part}
)
"""
_ALONE = "SELECT {columns} FROM c ORDER BY depth"
_WITH_REPLICAS = """
SELECT {way}, {replica} FROM c LEFT JOIN replica AS r ON r.entry_id = c.id AND NOT c.is_directory
ORDER BY c.depth, r.service
"""
_COLUMNS = {
    "columns": ", ".join(ENTRY_COLUMNS),
    "entry": COLUMNS,
    "way": ", ".join(f"c.{name}" for name in ENTRY_COLUMNS),
    "replica": REPLICA_COLUMNS,
}
_PARTS = {
    "sqlite": "json_extract(:parts, '$[' || c.depth || ']')",
    "postgresql": "(CAST(:parts AS json) ->> c.depth)",
}
_CHAINS = {one: text((_CHAIN + _ALONE).format(part=part, **_COLUMNS)) for one, part in _PARTS.items()}
_FILES = {one: text((_CHAIN + _WITH_REPLICAS).format(part=part, **_COLUMNS)) for one, part in _PARTS.items()}


def shown(path: str) -> str:
    """Return a virtual path as the user types it."""
    return f"/{path}"


def chunks(items: Iterable[T], size: int) -> Iterator[list[T]]:
    """Yield ``items`` in lists of ``size``, the last one shorter."""
    iterator = iter(items)
    while chunk := list(islice(iterator, size)):
        yield chunk


def check_path(path: str) -> None:
    """Refuse a path that the catalogue cannot hold.

    Raises:
        InvalidName: a name is not Unicode text, longer than `schema.NAME_MAX_BYTES`, or one that no scan would yield.
    """
    try:
        encoded = path.encode()
    except UnicodeEncodeError:
        raise InvalidName(ascii(shown(path)), "the name is not Unicode text") from None
    if len(encoded) > schema.NAME_MAX_BYTES and max(map(len, encoded.split(b"/"))) > schema.NAME_MAX_BYTES:
        raise InvalidName(shown(path), f"a name is longer than {schema.NAME_MAX_BYTES} bytes")
    if ".cdir-" in path and any(part.startswith(paths.HIDDEN) for part in path.split("/")):
        raise InvalidName(shown(path), f"names that begin with {' or '.join(paths.HIDDEN)} are kept for our own use")


def depth(path: str) -> int:
    """Return how many names ``path`` has; the root has none."""
    return path.count("/") + 1 if path else 0


def need_directory(node: Node) -> None:
    """Raise NotADirectory where ``node`` is a file."""
    if not node.is_directory:
        raise NotADirectory(shown(node.path))


def chain(connection: Connection, path: str) -> list[Node]:
    """Return the entries on the way to ``path``, from the root on, as far as there are any."""
    return _nodes(_way(connection, path, _CHAINS))


def lookup(connection: Connection, path: str) -> list[Node]:
    """Return the entries on the way to ``path``, from the root to itself.

    Raises:
        NotFound: nothing is there.
        NotADirectory: a parent of it is a file.
    """
    nodes = chain(connection, path)
    _need_end(nodes, path)
    return nodes


def lookup_with_replicas(connection: Connection, path: str) -> tuple[Node, tuple[Replica, ...]]:
    """Return what is at ``path``, and its replicas sorted by service, in one query; raises as `lookup`."""
    found = _way(connection, path, _FILES)
    nodes = _nodes(found)
    _need_end(nodes, path)
    width = len(ENTRY_COLUMNS)
    replicas = (row[width:] for row in found[len(nodes) - 1 :])
    return nodes[-1], tuple(replica_of(one) for one in replicas if one[0] is not None)


def _way(connection: Connection, path: str, statements: Mapping[str, TextClause]) -> Sequence[Any]:
    check_path(path)
    parts = path.split("/") if path else []
    return rows(connection, statements[connection.dialect.name], {"parts": json.dumps(parts, ensure_ascii=False)})


def _nodes(way: Iterable[Any]) -> list[Node]:
    """Return the nodes of rows that begin with `ENTRY_COLUMNS`, each in the one before; one may be in several rows."""
    nodes: list[Node] = []
    for row in way:
        above = nodes[-1] if nodes else None
        if above is None or row[0] != above.id:
            nodes.append(node_of(row, paths.join(above.path, row[2]) if above else "", above))
    return nodes


def _need_end(nodes: Sequence[Node], path: str) -> None:
    if len(nodes) <= depth(path):
        need_directory(nodes[-1])
        raise NotFound(shown(path))


def lookup_levels(connection: Connection, wanted: Iterable[str]) -> dict[str, Node]:
    """Return by path those of ``wanted``, and of all directories above them, that there are; one query a level."""
    found = {"": lookup(connection, "")[0]}
    levels: dict[int, set[str]] = {}
    for path in wanted:
        while path and path not in (level := levels.setdefault(depth(path), set())):
            level.add(path)
            path = paths.parent(path)
    for number in sorted(levels):
        keys: dict[tuple[int, str], str] = {}
        for path in levels[number]:
            above = found.get(paths.parent(path))
            if above is not None and above.is_directory:
                keys[above.id, paths.basename(path)] = path
        for row in bulk.select(connection, BY_NAME, ("parent_id", "name"), list(keys)) if keys else ():
            path = keys[row[1], row[2]]
            found[path] = node_of(row, path, found[paths.parent(path)])
    return found


def paths_of(connection: Connection, ids: Collection[int]) -> dict[int, str]:
    """Return the paths of entries by id; those that were removed are left out."""
    entries: dict[int, tuple[int | None, str]] = {}
    missing = set(ids)
    while missing:
        fetched = {row[0]: (row[1], row[2]) for row in bulk.select(connection, BY_ID, ("id",), [(i,) for i in missing])}
        entries.update(fetched)
        missing = {parent for parent, _ in fetched.values() if parent is not None and parent not in entries}
    found: dict[int, str] = {}
    for start in ids:
        names: list[str] = []
        here: int | None = start
        while here is not None and here != schema.ROOT and here in entries:
            here, name = entries[here]
            names.append(name)
        if here == schema.ROOT:
            found[start] = "/".join(reversed(names))
    return found
