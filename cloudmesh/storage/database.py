"""The database: SQLite in our own folder, or PostgreSQL by URL. Connections, migrations, and transactions.

There is one writer at a time on both databases: on SQLite because ``BEGIN IMMEDIATE`` says so, on PostgreSQL because of
an advisory lock. So no write fails halfway because another one got in between, nothing can deadlock, and what a
transaction has read is still so when it writes. Readers wait for nobody. Keep write transactions short.

SQLAlchemy Core only, and Alembic only where the schema is behind: both would cost every command its start-up time.
"""

from __future__ import annotations

import os
import shutil
import sqlite3
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager, suppress
from functools import cache
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from sqlalchemy import event
from sqlalchemy.engine import URL, Connection, Dialect, Engine, create_engine, make_url
from sqlalchemy.exc import ArgumentError, DBAPIError, NoSuchModuleError, SQLAlchemyError
from sqlalchemy.sql.expression import TextClause

from cloudmesh.storage import home
from cloudmesh.storage.errors import (
    AlreadyExists,
    AuthenticationFailed,
    ConfigError,
    MissingExtra,
    PermissionDenied,
    QuotaExceeded,
    StorageError,
    Unavailable,
)
from cloudmesh.storage.local_files import translated as translated_os_errors

REVISIONS = ("0001", "0002", "0003", "0004", "0005", "0006", "0007", "0008")
"""All revisions in ``migrations/versions``, oldest first, known here so that Alembic need not be asked."""

WAIT_S = 60
"""Seconds that a writer waits for the others."""

_KEPT = 16
"""Connections that are kept open once there are as many: so many readers at a time do not open one for each query."""

_POLL_S = 0.005
_ALMOST_NOTHING = 1 << 16
_WRITER_LOCK = 0x636469725F646200
"""The key of PostgreSQL's advisory lock; the letters ``cdir_db``."""

_NOW = "SELECT CAST(extract(epoch FROM clock_timestamp()) * 1000000000 AS bigint)"

_POSTGRESQL_SETTINGS = {
    "lock_timeout": WAIT_S * 1000,
    "client_encoding": "UTF8",
    # Plans are kept, those of the foreign keys too: one made while the tables were nearly empty reads whole tables when
    # they have grown, a hundred times slower. All our questions have an index; JIT would see only the forbidden costs.
    "enable_seqscan": "off",
    "jit": "off",
}

_SQLITE_ERRORS: dict[int, tuple[type[StorageError], str, str]] = {
    sqlite3.SQLITE_BUSY: (Unavailable, "other programs kept the database busy", "try again"),
    sqlite3.SQLITE_LOCKED: (Unavailable, "other programs kept the database busy", "try again"),
    sqlite3.SQLITE_FULL: (QuotaExceeded, "", "make room on the disk; nothing was changed"),
    sqlite3.SQLITE_NOTADB: (ConfigError, "is not a database", "restore it from a copy, or move it away and import"),
    sqlite3.SQLITE_CORRUPT: (
        ConfigError,
        "the database is damaged",
        "restore it from a copy, or move it away and import",
    ),
    sqlite3.SQLITE_READONLY: (PermissionDenied, "", ""),
    sqlite3.SQLITE_PERM: (PermissionDenied, "", ""),
    sqlite3.SQLITE_AUTH: (PermissionDenied, "", ""),
    sqlite3.SQLITE_CANTOPEN: (ConfigError, "the database file cannot be opened", ""),
    sqlite3.SQLITE_CONSTRAINT: (AlreadyExists, "the database refused a row that does not fit", ""),
}
_POSTGRESQL_ERRORS: dict[str, tuple[type[StorageError], str, str]] = {
    "28": (AuthenticationFailed, "the database did not accept the credentials", ""),
    "3D": (ConfigError, "the database does not exist", "create it with createdb"),
    "42501": (PermissionDenied, "the database role may not do this", ""),
    "53100": (QuotaExceeded, "the database server's disk is full", ""),
    "55P03": (Unavailable, "other programs kept the database busy", "try again"),
    "23": (AlreadyExists, "the database refused a row that does not fit", ""),
    "XX00": (ConfigError, "the database is damaged", ""),
    "25006": (PermissionDenied, "the database is read-only", ""),
}


class Database:
    """One database, opened and at the program's own revision. Threads may share it; processes may not (open another).

    Args:
        url: ``sqlite:///FILE`` or ``postgresql://USER:PASSWORD@HOST/NAME``. None takes the environment variable
            ``CDIR_DATABASE``, else ``vdir.db`` in the configuration's folder, which is made where it is missing.

    Attributes:
        subject: the database as errors name it, without any secret.
        is_sqlite: whether it is SQLite; else it is PostgreSQL.

    Raises:
        ConfigError: the URL makes no sense; the file is no database, is damaged, or was made by a newer program.
        MissingExtra: PostgreSQL's driver is not installed.
        AuthenticationFailed, PermissionDenied, Unavailable: it cannot be reached.
    """

    def __init__(self, url: str | None = None) -> None:
        parsed = _parse(url or os.environ.get("CDIR_DATABASE") or None)
        self.is_sqlite = parsed.get_backend_name() == "sqlite"
        self.subject = (parsed.database or "") if self.is_sqlite else _shown(parsed)
        self._turn = threading.Lock()
        self._engine = _sqlite_engine(parsed) if self.is_sqlite else _postgresql_engine(parsed, self.subject)
        try:
            self._migrate()
        except BaseException:
            self.close()
            raise

    @staticmethod
    def exists(url: str | None = None) -> bool:
        """Tell whether there may be something in the database: false for a file that is not there yet.

        Raises:
            ConfigError: the URL makes no sense.
        """
        parsed = _parse(url or os.environ.get("CDIR_DATABASE") or None)
        return parsed.get_backend_name() != "sqlite" or Path(parsed.database or "").exists()

    @contextmanager
    def read(self) -> Iterator[Connection]:
        """Give a connection on which every statement is a transaction of its own; it keeps nobody from writing.

        Raises:
            StorageError: of the closed set, whatever the database's trouble.
        """
        with translated(self.subject), self._engine.connect() as connection:
            if not self.is_sqlite:
                connection.execution_options(isolation_level="AUTOCOMMIT")
            yield connection

    @contextmanager
    def write(self) -> Iterator[Connection]:
        """Give a connection in a transaction, alone among all writers; it ends with the block, undone by an exception.

        Raises:
            StorageError: of the closed set; Unavailable where others kept the database busy for `WAIT_S` seconds.
        """
        with translated(self.subject), self._turn, self._engine.connect() as connection, connection.begin():
            if self.is_sqlite:
                _begin_immediate(connection)
            else:
                connection.exec_driver_sql(f"SELECT pg_advisory_xact_lock({_WRITER_LOCK})")
            yield connection

    def close(self) -> None:
        """Close all connections."""
        self._engine.dispose()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def _migrate(self) -> None:
        """Bring the schema to this program's revision, once, whoever comes first."""
        with self.read() as connection:
            revision = _revision(connection)
        if revision == REVISIONS[-1]:
            return
        with self.write() as connection:
            revision = _revision(connection)
            if revision is not None and revision not in REVISIONS:
                raise ConfigError(
                    self.subject,
                    f"the database was made by a newer program (its revision is {revision}, ours {REVISIONS[-1]})",
                    "upgrade with: pip install -U cloudmesh-vdir",
                )
            if revision != REVISIONS[-1]:
                from cloudmesh.storage.migrations import upgrade

                upgrade(connection)


def clock_ns(connection: Connection) -> int:
    """Return the database's time in ns since the epoch: the server's, or for SQLite this computer's."""
    if connection.dialect.name == "sqlite":
        return time.time_ns()
    # not now(), which is when the transaction began: it may have waited a minute for the other writers
    return int(connection.exec_driver_sql(_NOW).scalar_one())


def rows(connection: Connection, statement: TextClause, parameters: Mapping[str, Any]) -> Sequence[Any]:
    """Return all rows of a query, as the driver gives them: tuples of values whose types nobody changes.

    SQLAlchemy's own result costs two thirds of a small question.

    Args:
        connection: to ask.
        statement: kept by the caller: each is compiled once.
        parameters: of the statement, by name.
    """
    dialect = connection.dialect
    driver: Any = dialect.dbapi
    query, names = _compiled(dialect, statement)
    values = parameters if names is None else [parameters[name] for name in names]
    kept = connection.connection
    try:
        with closing(kept.cursor()) as cursor:
            cursor.execute(query, values)
            return cursor.fetchall()
    except driver.Error as error:
        is_lost = dialect.is_disconnect(error, kept, None)
        if is_lost:  # so are the others that are kept
            connection.invalidate(error)
            connection.engine.dispose()
        raise DBAPIError(query, None, error, connection_invalidated=is_lost) from error


@cache
def _compiled(dialect: Dialect, statement: TextClause) -> tuple[str, list[str] | None]:
    """Return the driver's text of a statement, and the parameters in its order; None where it takes their names."""
    compiled = statement.compile(dialect=dialect)
    return str(compiled), compiled.positiontup


@contextmanager
def translated(subject: str) -> Iterator[None]:
    """Turn every exception of SQLAlchemy inside into an error of our closed set about ``subject``."""
    try:
        yield
    except UnicodeEncodeError as error:
        raise StorageError(subject, "a text is not Unicode") from error
    except SQLAlchemyError as error:
        raise _translate(error, subject) from error


def _translate(error: SQLAlchemyError, subject: str) -> StorageError:
    cause = error.orig if isinstance(error, DBAPIError) else None
    if isinstance(cause, sqlite3.Error):
        code = getattr(cause, "sqlite_errorcode", 0)
        found = _SQLITE_ERRORS.get(code & 0xFF)
        if code & 0xFF == sqlite3.SQLITE_IOERR and _is_full(subject):
            found = _SQLITE_ERRORS[sqlite3.SQLITE_FULL]
        return found[0](subject, *found[1:]) if found else Unavailable(subject, f"database error: {cause}")
    if cause is None:
        return Unavailable(subject, f"database error: {type(error).__name__}")
    state = getattr(cause, "sqlstate", None) or _state_of_refusal(str(cause))
    for length in (5, 4, 2):
        if found := _POSTGRESQL_ERRORS.get(state[:length]):
            return found[0](subject, *found[1:])
    lines = str(cause).strip().splitlines() or [type(cause).__name__]
    return Unavailable(subject, f"database error: {lines[0]}")


def _is_full(file: str) -> bool:
    """Tell whether a write to ``file`` failed because nothing fits any more; SQLite calls some of it an I/O error."""
    with suppress(OSError, ImportError):
        if shutil.disk_usage(Path(file).parent).free < _ALMOST_NOTHING:
            return True
        import resource  # Windows has no such limit

        limit = resource.getrlimit(resource.RLIMIT_FSIZE)[0]
        size = Path(f"{file}-wal").stat().st_size
        return limit != resource.RLIM_INFINITY and size + _ALMOST_NOTHING > limit
    return False


def _state_of_refusal(message: str) -> str:
    """Return the SQLSTATE that a refused connection stands for; the driver passes only the server's words."""
    if "authentication failed" in message or "no password supplied" in message or "pg_hba.conf" in message:
        return "28000"
    if "database" in message and "does not exist" in message:
        return "3D000"
    if "role" in message and "does not exist" in message:
        return "28000"
    return ""


def _shown(url: URL) -> str:
    """Return a server's URL without its user, password and options."""
    return str(URL.create("postgresql", host=url.host, port=url.port, database=url.database))


def _parse(url: str | None) -> URL:
    if url is None:
        return URL.create("sqlite", database=str(home.config_dir() / "vdir.db"))
    try:
        parsed = make_url(url)
        backend = parsed.get_backend_name()
    except (ArgumentError, NoSuchModuleError, ValueError):
        # the text may hold a password: it is not repeated
        raise ConfigError(
            "CDIR_DATABASE", "is not a database URL", "sqlite:///FILE or postgresql://HOST/NAME"
        ) from None
    if backend == "sqlite" and parsed.database and parsed.database != ":memory:":
        return URL.create("sqlite", database=str(Path(parsed.database).expanduser()))
    if backend in ("postgresql", "postgres"):
        return parsed.set(drivername="postgresql+psycopg")
    raise ConfigError(
        "CDIR_DATABASE",
        f"a {backend} database of this form is not supported",
        "sqlite:///FILE or postgresql://HOST/NAME",
    )


def _sqlite_engine(url: URL) -> Engine:
    file = Path(url.database or "")
    with translated_os_errors(str(file)):
        if not file.exists():
            file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            # names are private: nobody else may read them
            os.close(os.open(file, os.O_CREAT | os.O_RDWR, 0o600))
    engine = create_engine(url, pool_size=_KEPT, max_overflow=-1, connect_args={"timeout": WAIT_S})

    @event.listens_for(engine, "connect")
    def _configure(connection: sqlite3.Connection, record: object) -> None:
        cursor = connection.cursor()
        if cursor.execute("PRAGMA journal_mode").fetchone()[0] != "wal":
            _enter_wal(cursor)
        cursor.execute("PRAGMA synchronous = NORMAL")
        cursor.execute("PRAGMA foreign_keys = ON")
        cursor.execute("PRAGMA cache_size = -32768")
        cursor.close()

    return engine


def _enter_wal(cursor: sqlite3.Cursor) -> None:
    """Switch a new database to WAL; SQLite does not wait here when another process does the same."""
    deadline = time.monotonic() + WAIT_S
    while True:
        try:
            if cursor.execute("PRAGMA journal_mode = WAL").fetchone()[0] == "wal":
                return
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode & 0xFF != sqlite3.SQLITE_BUSY:
                raise
        if time.monotonic() > deadline:
            raise sqlite3.OperationalError("the journal cannot be switched to WAL")
        time.sleep(_POLL_S)


def _begin_immediate(connection: Connection) -> None:
    """Begin a write transaction, asking often: SQLite's own waiting is so coarse that a busy writer starves others."""
    connection.exec_driver_sql("PRAGMA busy_timeout = 0")
    deadline = time.monotonic() + WAIT_S
    try:
        while True:
            try:
                connection.exec_driver_sql("BEGIN IMMEDIATE")
                return
            except DBAPIError as error:
                if getattr(error.orig, "sqlite_errorcode", 0) & 0xFF != sqlite3.SQLITE_BUSY:
                    raise
                if time.monotonic() > deadline:
                    raise
            time.sleep(_POLL_S)
    finally:
        connection.exec_driver_sql(f"PRAGMA busy_timeout = {WAIT_S * 1000}")


def _postgresql_engine(url: URL, subject: str) -> Engine:
    arguments: dict[str, Any] = {
        "connect_timeout": 10,
        "application_name": "cdir",
        "options": " ".join(f"-c {key}={value}" for key, value in _POSTGRESQL_SETTINGS.items()),
    }
    arguments = {key: value for key, value in arguments.items() if key not in url.query}
    try:
        return create_engine(url, pool_size=_KEPT, max_overflow=-1, connect_args=arguments)
    except ImportError as error:
        raise MissingExtra(
            subject, f"package {error.name or 'psycopg'} is not installed", "pip install 'cloudmesh-vdir[postgresql]'"
        ) from error


def _revision(connection: Connection) -> str | None:
    """Return the schema's revision, None for a database without any."""
    if connection.dialect.name == "sqlite":
        there = "SELECT count(*) FROM sqlite_master WHERE name = 'alembic_version'"
    else:
        there = "SELECT count(*) FROM (SELECT to_regclass('alembic_version') AS name) AS t WHERE name IS NOT NULL"
    if not connection.exec_driver_sql(there).scalar_one():
        return None
    revision: str | None = connection.exec_driver_sql("SELECT version_num FROM alembic_version").scalar()
    return revision
