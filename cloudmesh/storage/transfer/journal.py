"""What earlier runs between two places did, on disk: a killed run goes on, and the next one asks for nothing twice.

For each file that surely is the same on both sides the journal holds how each side looked then: its `mark`. A file
whose two marks are still those needs no further look, however little its services tell of it. It is a cache: without
it files are compared by their other facts.

One SQLite file for each pair of places, below ``journals`` in the configuration folder. The standard library's module
is used directly, since SQLAlchemy alone takes longer to import than a thousand small files to move.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import sqlite3
import tempfile
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

from cloudmesh.storage.abc import Entry
from cloudmesh.storage.home import config_dir

FOLDER = "journals"
_VERSION = 1
_BATCH = 500
_SECONDS = 1.0
_SAME = """
    CREATE TABLE IF NOT EXISTS same (
        key BLOB PRIMARY KEY, source TEXT NOT NULL, destination TEXT NOT NULL
    ) WITHOUT ROWID
"""
_SURPLUS = "CREATE TEMP TABLE surplus (key BLOB PRIMARY KEY) WITHOUT ROWID"


def mark(entry: Entry) -> str | None:
    """Return a text that differs when the file differs, as far as its service can tell; None where it tells too little.

    A size alone, or with the time when the service stored it to the second, decides nothing.
    """
    if entry.etag is not None:
        return entry.etag
    if entry.size is not None and entry.mtime_ns is not None:
        return f"{entry.size}@{entry.mtime_ns}"
    return None


@dataclass(frozen=True, slots=True)
class Known:
    """A file that was the same on both sides: its place in the order of listings, and both sides' marks."""

    key: bytes
    source: str
    destination: str


class Journal:
    """The journal of one pair of places; what is added is on disk at the latest a second or 500 files later.

    Where the configuration folder cannot be written to, it lasts for this run alone.

    Args:
        source: the place that files come from, as text that stays the same from run to run.
        destination: the place that they go to.
    """

    def __init__(self, source: str, destination: str) -> None:
        name = hashlib.sha256(f"{source}\0{destination}".encode("utf-8", "surrogateescape")).hexdigest()[:32]
        self._passing: str | None = None
        try:
            folder = config_dir() / FOLDER
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._path = folder / f"{name}.db"
            self._connection = _open(self._path)
        except (OSError, sqlite3.Error):
            self._passing = tempfile.mkdtemp(prefix="cdir-")
            self._path = Path(self._passing) / f"{name}.db"
            self._connection = _open(self._path)
        self._waiting: list[tuple[bytes, str, str]] = []
        self._gone: list[tuple[bytes]] = []
        self._written = time.monotonic()

    def known(self) -> Iterator[Known]:
        """Yield what was known when this began, in the order of listings; the journal may be added to meanwhile."""
        reader = sqlite3.connect(self._path, isolation_level=None, check_same_thread=False)
        try:
            for row in reader.execute("SELECT key, source, destination FROM same ORDER BY key"):
                yield Known(*row)
        finally:
            reader.close()

    def add(self, key: bytes, source: Entry, destination: Entry) -> None:
        """Note that a file is the same on both sides; nothing is noted where a side tells too little."""
        one, other = mark(source), mark(destination)
        if one is None or other is None:
            return
        self._waiting.append((key, one, other))
        if len(self._waiting) >= _BATCH or time.monotonic() - self._written > _SECONDS:
            self.write()

    def forget(self, key: bytes) -> None:
        """Note that a file is on neither side any longer."""
        self._gone.append((key,))

    def write(self) -> None:
        """Bring what was noted to the disk."""
        self._written = time.monotonic()
        if self._waiting or self._gone:
            gone, self._gone = self._gone, []  # added to by another thread
            with self._transaction() as connection:
                connection.executemany("DELETE FROM same WHERE key = ?", gone)
                connection.executemany("INSERT OR REPLACE INTO same VALUES (?, ?, ?)", self._waiting)
            self._waiting.clear()

    def add_surplus(self, keys: Iterable[bytes]) -> None:
        """Keep what only the destination has until the end of the run; not in memory."""
        with self._transaction() as connection:
            connection.executemany("INSERT OR REPLACE INTO surplus VALUES (?)", ((key,) for key in keys))

    def surplus(self) -> Iterator[bytes]:
        """Yield what was kept, the contents of a directory before it."""
        yield from (row[0] for row in self._connection.execute("SELECT key FROM surplus ORDER BY key DESC"))

    def close(self) -> None:
        """Write and close."""
        self.write()
        self._connection.close()
        if self._passing is not None:
            shutil.rmtree(self._passing, ignore_errors=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    @contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        self._connection.execute("BEGIN IMMEDIATE")
        try:
            yield self._connection
        except BaseException:
            self._connection.execute("ROLLBACK")
            raise
        self._connection.execute("COMMIT")


def _open(path: Path) -> sqlite3.Connection:
    """Open the file; one that is damaged or of another version is only a cache, and begun anew.

    Raises:
        OSError, sqlite3.Error: it cannot be made.
    """
    try:
        return _connect(path)
    except sqlite3.DatabaseError as error:
        if isinstance(error, sqlite3.OperationalError):  # locked for long, or not writable: not ours to remove
            raise
        for leftover in _files(path):
            leftover.unlink(missing_ok=True)
        return _connect(path)


def _connect(path: Path) -> sqlite3.Connection:
    connection = sqlite3.connect(path, isolation_level=None, check_same_thread=False, timeout=30)
    try:
        os.chmod(path, 0o600)
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = NORMAL")
        version = connection.execute("PRAGMA user_version").fetchone()[0]
        if version == 0:
            connection.executescript(f"BEGIN IMMEDIATE; {_SAME}; PRAGMA user_version = {_VERSION}; COMMIT;")
        elif version != _VERSION:
            raise sqlite3.DatabaseError("another version")
        connection.execute("SELECT * FROM same LIMIT 1").fetchone()
        connection.execute(_SURPLUS)
    except BaseException:
        connection.close()
        raise
    return connection


def remove_journals(unused_s: float) -> int:
    """Remove the journals that no run has used for so many seconds, and return how many."""
    removed = 0
    for path in (config_dir() / FOLDER).glob("*.db"):
        with suppress(FileNotFoundError):
            newest = max(one.stat().st_mtime for one in _files(path))
            if newest <= time.time() - unused_s:
                for one in _files(path):
                    one.unlink(missing_ok=True)
                removed += 1
    return removed


def _files(path: Path) -> list[Path]:
    return [path, *path.parent.glob(f"{path.name}-*")]
