"""Many rows in one statement, in each database's own way: executemany on SQLite, COPY on PostgreSQL, keys as JSON.

One statement a row would be ten times too slow, and a statement with one parameter a value cannot be prepared once.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from functools import cache
from typing import Any

from sqlalchemy.engine import Connection
from sqlalchemy.exc import DBAPIError
from sqlalchemy.schema import Table
from sqlalchemy.sql.expression import TextClause, text

from cloudmesh.storage import database
from cloudmesh.vdir import schema

_POSTGRESQL_TYPES = {
    "name": "text",
    "service": "text",
    "path": "text",
    "state": "text",
    "etag": "text",
    "hashes": "text",
}
_POSTGRESQL_TYPES |= dict.fromkeys(
    ("preferred", "rankers", "rules", "kind", "name", "origin", "service_version"), "text"
)
_POSTGRESQL_TYPES |= {"is_directory": "boolean", "sha256": "bytea"}


def select(
    connection: Connection,
    statement: str,
    columns: tuple[str, ...],
    keys: Sequence[Sequence[Any]],
    **parameters: Any,
) -> Sequence[Any]:
    """Run ``statement``, in which ``{keys}`` is a table of the given columns and rows; return all that it gives.

    Args:
        connection: to run it on.
        statement: SQL; it names the table of keys ``k``.
        columns: of entry or replica, by whose types the keys are sent.
        keys: the rows.
        parameters: named parameters that stand in the statement as ``:name``.
    """
    prepared = _prepared(connection.dialect.name, statement, columns)
    return database.rows(connection, prepared, {"keys": json.dumps(keys, ensure_ascii=False)} | parameters)


def execute(
    connection: Connection,
    statement: str,
    columns: tuple[str, ...],
    keys: Sequence[Sequence[Any]],
    **parameters: Any,
) -> Any:
    """Run a statement as `select` does and return SQLAlchemy's result, for statements that change rows."""
    prepared = _prepared(connection.dialect.name, statement, columns)
    return connection.execute(prepared, {"keys": json.dumps(keys, ensure_ascii=False)} | parameters)


@cache
def _prepared(dialect: str, statement: str, columns: tuple[str, ...]) -> TextClause:
    if dialect == "sqlite":
        source, field = "json_each(:keys)", "json_extract(value, '$[{0}]') AS {1}"
    else:
        source, field = "json_array_elements(CAST(:keys AS json))", "CAST(value ->> {0} AS {2}) AS {1}"
    fields = ", ".join(field.format(i, name, _type(name)) for i, name in enumerate(columns))
    return text(statement.replace("{keys}", f"(SELECT {fields} FROM {source}) AS k"))  # noqa: S608 - names of this program


def insert(connection: Connection, table: Table, rows: Sequence[Sequence[Any]], *, replace: bool = False) -> None:
    """Add rows, each with a value for every column of ``table`` in its order.

    Args:
        connection: in a write transaction.
        table: `schema.entry` or `schema.replica`.
        rows: what to add.
        replace: overwrite the row that has the same primary key.
    """
    if not rows:
        return
    if connection.dialect.name == "sqlite":
        connection.exec_driver_sql(_insertion("sqlite", table, replace), [tuple(row) for row in rows])
    elif replace:
        columns = tuple(list(column) for column in zip(*rows, strict=True))
        connection.exec_driver_sql(_insertion("postgresql", table, replace), columns)
    else:
        _copy(connection, table, rows)


def _copy(connection: Connection, table: Table, rows: Sequence[Sequence[Any]]) -> None:
    """Add rows with PostgreSQL's COPY, which SQLAlchemy does not know."""
    statement = f"COPY {table.name} ({', '.join(table.columns.keys())}) FROM STDIN"
    driver: Any = connection.dialect.dbapi
    try:
        with connection.connection.cursor() as cursor, cursor.copy(statement) as copy:  # type: ignore[attr-defined]
            for row in rows:
                copy.write_row(row)
    except driver.Error as error:
        raise DBAPIError(statement, None, error) from error


@cache
def _insertion(dialect: str, table: Table, replace: bool) -> str:
    names = table.columns.keys()
    keys = [column.name for column in table.primary_key.columns]
    if dialect == "sqlite":
        body = f"VALUES ({', '.join('?' for _ in names)})"
    else:
        body = f"SELECT * FROM unnest({', '.join(f'%s::{_type(name)}[]' for name in names)})"  # noqa: S608
    statement = f"INSERT INTO {table.name} ({', '.join(names)}) {body}"
    if replace:
        changes = ", ".join(f"{name} = excluded.{name}" for name in names if name not in keys)
        statement += f" ON CONFLICT ({', '.join(keys)}) DO UPDATE SET {changes}"
    return statement


def allocate(connection: Connection, count: int) -> Sequence[int]:
    """Return ``count`` new ids for entries; call it in a write transaction."""
    if connection.dialect.name == "sqlite":
        last: int = connection.exec_driver_sql("SELECT seq FROM sqlite_sequence WHERE name = 'entry'").scalar_one()
        return range(last + 1, last + 1 + count)
    sequence = f"pg_get_serial_sequence('{schema.entry.name}', 'id')"
    statement = text(f"SELECT nextval({sequence}) FROM generate_series(1, :count)")  # noqa: S608
    return connection.execute(statement, {"count": count}).scalars().all()


def _type(column: str) -> str:
    return _POSTGRESQL_TYPES.get(column, "bigint")
