"""What earlier runs between two places did, on disk: a killed run goes on, and the next one asks for nothing twice.

For each file that surely is the same on both sides the journal holds how each side looked then: its `mark`. A file
whose two marks are still those needs no further look, however little its services tell of it. It is a cache: without
it, or where it cannot be read or written, files are compared by their other facts.

One SQLite file for each pair of places, below ``journals`` in the configuration folder. The standard library's module
is used directly, since SQLAlchemy alone takes longer to import than a thousand small files to move.
"""

from __future__ import annotations

import hashlib
import logging
import os
import shutil
import sqlite3
import tempfile
import time
from collections.abc import Iterable, Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from types import TracebackType
from typing import NamedTuple, Self

from cloudmesh.storage.abc import Entry, StorageABC
from cloudmesh.storage.errors import QuotaExceeded
from cloudmesh.storage.home import config_dir

_LOG = logging.getLogger(__name__)
FOLDER = "journals"
_VERSION = 2
_BATCH = 500
_SECONDS = 1.0
_PATIENCE_S = 5.0
"""How long to wait for another run between the same places to write: it holds the file for some milliseconds."""

_SAME = """
    CREATE TABLE IF NOT EXISTS same (
        key BLOB PRIMARY KEY, source TEXT NOT NULL, destination TEXT NOT NULL
    ) WITHOUT ROWID
"""
_SURPLUS = "CREATE TABLE surplus (key BLOB PRIMARY KEY, size INTEGER NOT NULL) WITHOUT ROWID"


def mark(service: StorageABC, entry: Entry) -> str | None:
    """Return a text that differs when the file differs, as far as its service can tell; None where it tells too little.

    A size alone, or with the time when the service stored it to the second, decides nothing. On this computer's disk
    the time of the last change is part of it, which nobody can set back as the modification time can be.
    """
    if service.immediate:
        return f"{entry.etag}/{entry.changed_ns}"
    if entry.etag is not None:
        return entry.etag
    if entry.size is not None and entry.mtime_ns is not None:
        return f"{entry.size}@{entry.mtime_ns}"
    return None


class Known(NamedTuple):
    """A file that was the same on both sides: its place in the order of listings, and both sides' marks."""

    key: bytes
    source: str
    destination: str


class Journal:
    """The journal of one pair of places; what is added is on disk at the latest a second or 500 files later.

    Where the configuration folder cannot be written to, it lasts for this run alone; where that fails too, or later,
    nothing more is noted. One that turns out to be damaged is begun anew by the next run.

    Args:
        source: the place that files come from, as text that stays the same from run to run.
        destination: the place that they go to.
        fixed: note nothing, as in a dry run.
    """

    def __init__(self, source: str, destination: str, *, fixed: bool = False) -> None:
        name = hashlib.sha256(f"{source}\0{destination}".encode("utf-8", "surrogateescape")).hexdigest()[:32]
        self._passing: str | None = None
        try:
            folder = config_dir() / FOLDER
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._path = folder / f"{name}.db"
            self._connection = _open(self._path)
        except (OSError, sqlite3.Error) as error:
            _LOG.warning("nothing is remembered of this run, as the journal cannot be written: %s", error)
            self._passing = tempfile.mkdtemp(prefix="cdir-")
            self._path = Path(self._passing) / f"{name}.db"
            self._connection = _open(self._path)
        self._waiting: list[tuple[bytes, str, str]] = []
        self._gone: list[tuple[bytes]] = []
        self._written = time.monotonic()
        self._is_fixed = fixed
        self._is_damaged = False
        self._surplus: sqlite3.Connection | None = None

    def known(self) -> Iterator[Known]:
        """Yield what was known when this began, in the order of listings; the journal may be added to meanwhile."""
        try:
            with closing(sqlite3.connect(self._path, isolation_level=None, check_same_thread=False)) as reader:
                for key, source, destination in reader.execute("SELECT * FROM same ORDER BY key"):
                    if not isinstance(key, bytes):
                        raise sqlite3.DatabaseError("it is damaged")
                    yield Known(key, source, destination)
        except sqlite3.Error as error:
            self._give_up(error)

    def add(self, key: bytes, source: str | None, destination: str | None) -> None:
        """Note the marks of a file that is the same on both sides; nothing is noted where a side has none."""
        if self._is_fixed or source is None or destination is None:
            return
        self._waiting.append((key, source, destination))
        if len(self._waiting) >= _BATCH or time.monotonic() - self._written > _SECONDS:
            self.write()

    def forget(self, key: bytes) -> None:
        """Note that a file is on neither side any longer."""
        if not self._is_fixed:
            self._gone.append((key,))

    def write(self) -> None:
        """Bring what was noted to the disk."""
        self._written = time.monotonic()
        if (self._waiting or self._gone) and not self._is_fixed:
            gone, self._gone = self._gone, []  # added to by another thread
            try:
                with _transaction(self._connection) as connection:
                    connection.executemany("DELETE FROM same WHERE key = ?", gone)
                    connection.executemany("INSERT OR REPLACE INTO same VALUES (?, ?, ?)", self._waiting)
            except sqlite3.Error as error:
                self._give_up(error)
            self._waiting.clear()

    def add_surplus(self, files: Iterable[tuple[bytes, int]]) -> None:
        """Keep what only the destination has, each with its size, until the end of the run; not in memory.

        Raises:
            QuotaExceeded: the folder for temporary files is full.
        """
        try:
            if self._surplus is None:
                self._surplus = sqlite3.connect("", isolation_level=None, check_same_thread=False)
                self._surplus.execute(_SURPLUS)
            with _transaction(self._surplus) as connection:
                connection.executemany("INSERT OR REPLACE INTO surplus VALUES (?, ?)", files)
        except sqlite3.Error as error:
            raise QuotaExceeded(tempfile.gettempdir(), str(error)) from error

    def surplus(self) -> Iterator[tuple[bytes, int]]:
        """Yield what was kept, the contents of a directory before it."""
        if self._surplus is not None:
            yield from self._surplus.execute("SELECT key, size FROM surplus ORDER BY key DESC")

    def close(self) -> None:
        """Write and close."""
        self.write()
        self._connection.close()
        if self._surplus is not None:
            self._surplus.close()
        if self._passing is not None:
            shutil.rmtree(self._passing, ignore_errors=True)
        elif self._is_damaged:
            for one in _files(self._path):
                one.unlink(missing_ok=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _give_up(self, error: sqlite3.Error) -> None:
        """Note nothing more: the run goes on without."""
        _LOG.warning("nothing more is noted in the journal %s: %s", self._path, error)
        self._is_fixed = True
        self._is_damaged = _is_damage(error)


@contextmanager
def _transaction(connection: sqlite3.Connection) -> Iterator[sqlite3.Connection]:
    connection.execute("BEGIN IMMEDIATE")
    try:
        yield connection
        connection.execute("COMMIT")
    except BaseException:
        with suppress(sqlite3.Error):  # some errors have rolled it back already
            connection.execute("ROLLBACK")
        raise


def _open(path: Path) -> sqlite3.Connection:
    """Open the file; one that is damaged or of another version is only a cache, and begun anew.

    Raises:
        OSError, sqlite3.Error: it cannot be made.
    """
    try:
        return _connect(path)
    except sqlite3.DatabaseError as error:
        if not _is_damage(error):
            raise
        for leftover in _files(path):
            leftover.unlink(missing_ok=True)
        return _connect(path)


def _is_damage(error: sqlite3.Error) -> bool:
    """Tell whether the file itself is wrong; it is not where it is locked for long, not writable, or finds no room."""
    return not isinstance(error, sqlite3.OperationalError) or error.sqlite_errorcode == sqlite3.SQLITE_ERROR


def _connect(path: Path) -> sqlite3.Connection:
    connection = sqlite3.connect(path, isolation_level=None, check_same_thread=False, timeout=_PATIENCE_S)
    try:
        os.chmod(path, 0o600)
        # Nothing is waited for: what a power failure takes or mixes up is knowledge, of which each row is true alone;
        # one that is damaged so is begun anew. Closing it would else cost a tenth of a second.
        connection.execute("PRAGMA synchronous = OFF")
        connection.execute("PRAGMA journal_mode = WAL")
        version = connection.execute("PRAGMA user_version").fetchone()[0]
        if version == 0:
            connection.executescript(f"BEGIN IMMEDIATE; {_SAME}; PRAGMA user_version = {_VERSION}; COMMIT;")
        elif version != _VERSION:
            raise sqlite3.DatabaseError("another version")
        connection.execute("SELECT * FROM same LIMIT 1").fetchone()
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
