"""The catalogue's tables: names (`entry`), the real files that they point to (`replica`), and work on them.

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
    Column("rankers", Text),
    Column("rules", Text),
    Column("origin", Text),
    UniqueConstraint("parent_id", "name"),
    # an id is never used again, so that a job that began before a removal cannot hit another entry
    sqlite_autoincrement=True,
)
"""One row a name.

``preferred`` is a JSON list of services, best first, ``rankers`` one of what decides between replicas; NULL = as the
directory above says. ``rules`` is a JSON object of the rules that are set here; others are as above.
``origin`` is the service on which the present content appeared; NULL where it came through us.
"""

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
    Column("failures", Count, nullable=False, server_default="0"),
    Column("verified_ns", Count),
    sqlite_with_rowid=False,
)
"""One row a copy. ``hashes`` is a JSON object; ``version`` is the entry's version whose content this copy holds.

``failures`` counts readings that failed or gave wrong bytes since the last one that was right, ``verified_ns``.
"""

version = Table(
    "version",
    metadata,
    Column("entry_id", Count, ForeignKey("entry.id", ondelete="CASCADE"), primary_key=True, autoincrement=False),
    Column("version", Count, primary_key=True, autoincrement=False),
    Column("size", Count),
    Column("mtime_ns", Count),
    Column("sha256", LargeBinary(32)),
    Column("origin", Text, nullable=False),
    Column("replaced_ns", Count, nullable=False),
    Column("service", Text, nullable=False),
    Column("path", Text, nullable=False),
    Column("service_version", Text),
    Column("verified_ns", Count),
)
"""Contents that a name has no longer, and the one file that was kept of each.

``origin`` is the service on which the content appeared, empty where it came through us. ``service_version`` is the
service's own id of the version, where it keeps versions by itself and ``path`` is the name's own file.
``verified_ns`` is when the file's bytes were last read and right.
"""

lease = Table(
    "lease",
    metadata,
    Column("id", Count, primary_key=True),
    Column("holder", Text, nullable=False),
    Column("process", Text, nullable=False),
    Column("expires_ns", Count, nullable=False),
    # an id is a fencing token: it only grows
    sqlite_autoincrement=True,
)
"""One row a process that works on names; it renews the row until it ends. ``process`` is its id, as of `presence`."""

claim = Table(
    "claim",
    metadata,
    Column("entry_id", Count, ForeignKey("entry.id", ondelete="CASCADE"), primary_key=True, autoincrement=False),
    Column("lease_id", Count, ForeignKey("lease.id", ondelete="CASCADE"), nullable=False),
    Index("ix_claim_lease", "lease_id"),
)
"""The names that are being worked on, each by the holder of one lease."""

intent = Table(
    "intent",
    metadata,
    Column("entry_id", Count, ForeignKey("entry.id", ondelete="CASCADE"), primary_key=True, autoincrement=False),
    Column("service", Text, primary_key=True),
    Column("kind", Text, CheckConstraint("kind IN ('write', 'keep')", name="kind"), primary_key=True),
    Column("path", Text, nullable=False),
    Column("version", Count, nullable=False),
    Column("size", Count),
    Column("mtime_ns", Count),
    Column("sha256", LargeBinary(32)),
)
"""What is about to happen to a file that is there already: it is overwritten (``write``) with this content, or the
content that it has is kept at ``path`` (``keep``). A new replica's intent is its state ``copying``, a removal's
``deleting``."""

tombstone = Table(
    "tombstone",
    metadata,
    Column("service", Text, primary_key=True),
    Column("path", Text, primary_key=True),
    Column("name", Text, nullable=False),
    Column("size", Count),
    Column("mtime_ns", Count),
    Column("mtime_precision_ns", Count),
    Column("etag", Text),
    Column("sha256", LargeBinary(32)),
    Column("deleted_ns", Count, nullable=False),
)
"""Files of deleted names that could not be removed yet, because their service was away."""

verification = Table(
    "verification",
    metadata,
    Column("entry_id", Count, ForeignKey("entry.id", ondelete="CASCADE"), primary_key=True, autoincrement=False),
    Column("deep", Boolean, primary_key=True),
    Column("sample", Text, primary_key=True),
    Column("started_ns", Count, nullable=False),
)
"""Verifications that have begun and not ended: replicas verified since then are not read again.

``sample`` is how much of the directory is looked at, as it was typed; empty for all of it.
"""


_hashed = entry.c.sha256.is_not(None)
Index("ix_entry_sha256", entry.c.sha256, sqlite_where=_hashed, postgresql_where=_hashed)

_ruled = entry.c.rules.is_not(None)
Index("ix_entry_ruled", entry.c.id, sqlite_where=_ruled, postgresql_where=_ruled)


def indexed(path: str) -> str:
    """Return the SQL expression that `location_index` holds of a column ``path``."""
    return f"substr({path}, 1, {PATH_INDEXED})"


location_index = Index("ix_replica_location", replica.c.service, func.substr(replica.c.path, 1, PATH_INDEXED))
"""Finds the names that use a file of a service."""
