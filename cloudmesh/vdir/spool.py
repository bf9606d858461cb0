"""What a look at all services has found, on disk: its memory does not grow with the number of files.

The standard library's sqlite3 is used directly, as for the journal of transfers.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self

from cloudmesh.storage import paths
from cloudmesh.storage.abc import Entry
from cloudmesh.vdir.nodes import Node, Replica

_TABLES = """
CREATE TABLE file (
    number INTEGER PRIMARY KEY, id INTEGER NOT NULL UNIQUE, path TEXT NOT NULL, doubtful INTEGER NOT NULL
);
CREATE TABLE seen (
    id INTEGER, service TEXT, mark TEXT NOT NULL, entry TEXT, plain INTEGER NOT NULL, renamed INTEGER NOT NULL,
    PRIMARY KEY (id, service)
) WITHOUT ROWID;
CREATE TABLE elsewhere (
    service TEXT, directory TEXT, key BLOB, id INTEGER, path TEXT, mark TEXT NOT NULL, replica TEXT NOT NULL,
    PRIMARY KEY (service, directory, key, id)
) WITHOUT ROWID;
CREATE TABLE lost (
    service TEXT, id INTEGER, size INTEGER, mtime_ns INTEGER, precision_ns INTEGER, mark TEXT NOT NULL,
    PRIMARY KEY (service, id)
) WITHOUT ROWID;
CREATE INDEX lost_size ON lost (service, size, mtime_ns);
CREATE TABLE content (service TEXT, hash TEXT, id INTEGER, PRIMARY KEY (service, hash, id)) WITHOUT ROWID;
CREATE TABLE extra (
    service TEXT, path TEXT, size INTEGER, mtime_ns INTEGER, entry TEXT NOT NULL, PRIMARY KEY (service, path)
) WITHOUT ROWID;
"""

_OPEN = "(doubtful OR EXISTS (SELECT 1 FROM seen WHERE seen.id = file.id AND NOT plain))"
"""Of a file: it has to be decided about."""

_SUSPECTS = """
SELECT e.service, e.path, e.entry FROM extra AS e WHERE (e.service, e.path) > (?, ?) AND e.size > 0 AND EXISTS (
    SELECT 1 FROM lost AS l WHERE l.service = e.service AND l.size = e.size
    AND (e.mtime_ns IS NULL OR l.mtime_ns IS NULL OR e.mtime_ns > l.mtime_ns - max(l.precision_ns, 1))
) ORDER BY e.service, e.path LIMIT ?
"""
_LOST = """
SELECT l.id, l.mark FROM content AS c JOIN lost AS l ON l.service = c.service AND l.id = c.id
WHERE c.service = ? AND c.hash = ? AND l.size = ? ORDER BY l.id LIMIT 1
"""


@dataclass(frozen=True, slots=True)
class Seen:
    """A replica as a service told of it.

    Attributes:
        mark: the replica as the catalogue had it then; see `mark`.
        entry: what is there; None where nothing is.
        plain: it is good, and plainly as it was.
        renamed: it is not where it was, and was recognised by its content.
    """

    mark: str
    entry: Entry | None
    plain: bool = False
    renamed: bool = False


@dataclass(frozen=True, slots=True)
class Wanted:
    """A replica that does not lie at its name's path.

    Attributes:
        entry_id: its name.
        known: it should be there, as far as the catalogue knows.
        mark: as of `Seen`.
        replica: where it should be, with what recognises its content.
    """

    entry_id: int
    known: bool
    mark: str
    replica: Replica


def mark(replica: Replica) -> str:
    """Return a text that differs when what the catalogue knows of a replica does."""
    return f"{replica.state} {replica.version} {replica.etag} {replica.checked_ns} {replica.path}"


class Spool:
    """A temporary database; a context manager."""

    def __init__(self) -> None:
        self._database = sqlite3.connect("", isolation_level=None)  # a file that SQLite itself removes
        self._database.execute("PRAGMA journal_mode = OFF")
        self._database.executescript(_TABLES)
        self._database.execute("BEGIN")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._database.close()

    def add_file(self, node: Node, doubtful: bool) -> None:
        """Note a file, in the order of the catalogue's walk; one that is not ``doubtful`` has to be decided about only
        where a replica of it is not plainly as it was."""
        row = (node.id, node.path, doubtful)
        self._database.execute("INSERT OR IGNORE INTO file (id, path, doubtful) VALUES (?, ?, ?)", row)

    def add_seen(self, entry_id: int, service: str, seen: Seen) -> None:
        """Note how a replica of such a file is."""
        entry = None if seen.entry is None else _packed(seen.entry)
        row = (entry_id, service, seen.mark, entry, seen.plain, seen.renamed)
        self._database.execute("INSERT OR REPLACE INTO seen VALUES (?, ?, ?, ?, ?, ?)", row)

    def add_elsewhere(self, node: Node, replica: Replica, known: bool) -> None:
        """Note a replica that does not lie at its name's path, so that it is looked for; ``known`` to be there."""
        size, times = replica.size, (replica.mtime_ns, replica.mtime_precision_ns)
        content = (replica.etag, dict(replica.hashes), replica.sha256 or node.sha256)
        facts = json.dumps([known, size, *times, *content, replica.checked_ns, replica.failures])
        key = paths.sort_key(replica.path, False)
        directory = paths.parent(replica.path)
        row = (replica.service, directory, key, node.id, replica.path, mark(replica), facts)
        self._database.execute("INSERT OR REPLACE INTO elsewhere VALUES (?, ?, ?, ?, ?, ?, ?)", row)

    def add_lost(self, node_id: int, replica: Replica, sha256: str | None, marked: str) -> None:
        """Note a replica that is not there any more."""
        facts = (replica.size, replica.mtime_ns, replica.mtime_precision_ns or 1, marked)
        self._database.execute(
            "INSERT OR REPLACE INTO lost VALUES (?, ?, ?, ?, ?, ?)", (replica.service, node_id, *facts)
        )
        hashes = {**replica.hashes, **({} if sha256 is None else {"sha256": sha256})}
        rows = [(replica.service, f"{name}:{digest}", node_id) for name, digest in hashes.items()]
        self._database.executemany("INSERT OR REPLACE INTO content VALUES (?, ?, ?)", rows)

    def add_extra(self, service: str, entry: Entry) -> None:
        """Note a file that is at the path of no name."""
        row = (service, entry.path, entry.size, entry.mtime_ns, _packed(entry))
        self._database.execute("INSERT OR REPLACE INTO extra VALUES (?, ?, ?, ?, ?)", row)

    def directories(self) -> Iterator[tuple[str, str, int]]:
        """Yield service, directory and number of files of what is elsewhere."""
        statement = "SELECT service, directory, count(*) FROM elsewhere GROUP BY service, directory ORDER BY 1, 2"
        yield from self._rows(statement)

    def elsewhere(self, service: str, directory: str) -> Iterator[Wanted]:
        """Yield what is to be looked for in a directory, in the order of listings."""
        statement = "SELECT id, path, mark, replica FROM elsewhere WHERE service = ? AND directory = ? ORDER BY key, id"
        for entry_id, path, marked, facts in self._rows(statement, service, directory):
            known, size, mtime_ns, precision, etag, hashes, sha256, checked_ns, failures = json.loads(facts)
            told = (size, mtime_ns, precision, etag, hashes, sha256)
            replica = Replica(service, path, "available", *told, checked_ns=checked_ns, failures=failures)
            yield Wanted(entry_id, known, marked, replica)

    def suspects(self, size: int) -> Iterator[list[tuple[str, Entry]]]:
        """Yield the files that no name has and that may be lost replicas, with their service, ``size`` at a time.

        They are of the same size as one, and not older than it was where times are told: who copies a file and removes
        the first leaves a newer one. An empty file is none: it is made faster than found.
        """
        after = ("", "")
        while rows := list(self._rows(_SUSPECTS, *after, size)):
            after = rows[-1][:2]
            yield [(service, unpacked(entry)) for service, _, entry in rows]

    def recognise(self, service: str, entry: Entry, algorithm: str, digest: str) -> bool:
        """Note that a file is the lost replica with this content; tell whether there is one."""
        row = next(self._rows(_LOST, service, f"{algorithm}:{digest}", entry.size), None)
        if row is None:
            return False
        entry_id, marked = row
        self._database.execute("DELETE FROM lost WHERE service = ? AND id = ?", (service, entry_id))
        self.add_seen(entry_id, service, Seen(marked, entry, renamed=True))
        return True

    def settled(self) -> int:
        """Return how many replicas are plainly as they were, of files about which nothing has to be decided."""
        statement = f"SELECT count(*) FROM seen WHERE id IN (SELECT id FROM file WHERE NOT ({_OPEN}))"  # noqa: S608
        return int(next(self._rows(statement))[0])

    def batches(self, size: int) -> Iterator[list[tuple[int, str, dict[str, Seen]]]]:
        """Yield the files to decide about, ``size`` at a time: id, path, and how each replica is, by service."""
        after = 0
        statement = f"SELECT number, id, path FROM file WHERE {_OPEN} AND number > ? ORDER BY number LIMIT ?"  # noqa: S608
        while rows := list(self._rows(statement, after, size)):
            after = rows[-1][0]
            files: dict[int, tuple[int, str, dict[str, Seen]]] = {row[1]: (row[1], row[2], {}) for row in rows}
            marks = ", ".join("?" * len(files))
            seen = f"SELECT id, service, mark, entry, plain, renamed FROM seen WHERE id IN ({marks})"  # noqa: S608 - marks only
            for entry_id, service, marked, entry, plain, renamed in self._rows(seen, *files):
                found = None if entry is None else unpacked(entry)
                files[entry_id][2][service] = Seen(marked, found, bool(plain), bool(renamed))
            yield list(files.values())

    def _rows(self, statement: str, *values: Any) -> Iterator[Any]:
        with closing(self._database.execute(statement, values)) as cursor:
            yield from cursor


def _packed(entry: Entry) -> str:
    fields: Sequence[Any] = (*entry[:6], dict(entry.hashes), entry.version)
    return json.dumps(fields)


def unpacked(text: str) -> Entry:
    """Return the entry that was packed."""
    return Entry(*json.loads(text))
