"""The catalogue's tables: names (`entry`) and the real files that they point to (`replica`).

An entry knows its parent and its own name, so that moving a directory changes one row. Two rows have no parent:
the root (`ROOT`), and `TRASH`, below which a removed subtree waits to be deleted piece by piece, out of sight.
"""

from __future__ import annotations

from sqlalchemy.schema import CheckConstraint, Column, ForeignKey, Index, Table, UniqueConstraint
from sqlalchemy.sql.functions import func
from sqlalchemy.types import Boolean, LargeBinary

from cloudmesh.storage.tables import Count, Text, metadata
from cloudmesh.vdir.nodes import STATES

ROOT = 1
TRASH = 2

NAME_MAX_BYTES = 1024
"""A name's length in UTF-8. No service that we know holds more in one name; PostgreSQL indexes up to 2,700 bytes."""

PATH_INDEXED = 600
"""Characters of a replica's path that are indexed, again because of PostgreSQL's limit."""

entry = Table(
    "entry",
    metadata,
    Column("id", Count, primary_key=True),
    Column("parent_id", Count, ForeignKey("entry.id")),
    Column("name", Text, nullable=False),
    Column("is_directory", Boolean, nullable=False),
    Column("size", Count),
    Column("mtime_ns", Count),
    Column("sha256", LargeBinary(32)),
    Column("version", Count, nullable=False, server_default="1"),
    Column("created_ns", Count, nullable=False),
    Column("preferred", Text),
    UniqueConstraint("parent_id", "name"),
    # an id is never used again, so that a job that began before a removal cannot hit another entry
    sqlite_autoincrement=True,
)
"""One row a name. ``preferred`` is a JSON list of services, best first; NULL = as the directory above says."""

replica = Table(
    "replica",
    metadata,
    Column("entry_id", Count, ForeignKey("entry.id", ondelete="CASCADE"), primary_key=True, autoincrement=False),
    Column("service", Text, primary_key=True),
    Column("path", Text, nullable=False),
    Column(
        "state",
        Text,
        CheckConstraint("state IN ({})".format(", ".join(f"'{s}'" for s in STATES)), name="state"),
        nullable=False,
    ),
    Column("size", Count),
    Column("mtime_ns", Count),
    Column("mtime_precision_ns", Count),
    Column("etag", Text),
    Column("hashes", Text),
    Column("sha256", LargeBinary(32)),
    Column("version", Count, nullable=False),
    Column("checked_ns", Count),
    sqlite_with_rowid=False,
)
"""One row a copy. ``hashes`` is a JSON object; ``version`` is the entry's version whose content this copy holds."""


def indexed(path: str) -> str:
    """Return the SQL expression that `location_index` holds of a column ``path``."""
    return f"substr({path}, 1, {PATH_INDEXED})"


location_index = Index("ix_replica_location", replica.c.service, func.substr(replica.c.path, 1, PATH_INDEXED))
"""Finds the names that use a file of a service."""
