"""The service's tables: who may do what (`token`, `share`, `session`), and who did what (`audit`).

No secret is in them: of tokens, sign-in links and sessions there is the SHA-256, of a share link nothing that opens it.
"""

from __future__ import annotations

from sqlalchemy.schema import CheckConstraint, Column, Index, Table
from sqlalchemy.types import LargeBinary

from cloudmesh.storage.tables import Count, Text, metadata

token = Table(
    "token",
    metadata,
    Column("id", Count, primary_key=True),
    Column("name", Text, nullable=False),
    Column("hash", LargeBinary(32), nullable=False, unique=True),
    Column("scopes", Text, nullable=False),
    Column("prefix", Text, nullable=False),
    Column("services", Text),
    Column("created_ns", Count, nullable=False),
    Column("expires_ns", Count),
    Column("revoked_ns", Count),
    Column("last_used_ns", Count),
    # the audit log names a token by its id, which no later one may get
    sqlite_autoincrement=True,
)
"""Tokens. ``scopes`` is a JSON list; ``services`` too, NULL = all; ``prefix`` a normalised virtual path."""

share = Table(
    "share",
    metadata,
    Column("id", Count, primary_key=True),
    Column("path", Text, nullable=False),
    Column("created_ns", Count, nullable=False),
    Column("expires_ns", Count, nullable=False),
    Column("revoked_ns", Count),
    sqlite_autoincrement=True,
)
"""Share links, each to one virtual file or directory."""

session = Table(
    "session",
    metadata,
    Column("id", Count, primary_key=True),
    Column("hash", LargeBinary(32), nullable=False, unique=True),
    Column("kind", Text, CheckConstraint("kind IN ('link', 'session')", name="kind"), nullable=False),
    Column("created_ns", Count, nullable=False),
    Column("expires_ns", Count, nullable=False),
    sqlite_autoincrement=True,
)
"""Sign-in links that were not used yet, and sessions of the page."""

audit = Table(
    "audit",
    metadata,
    Column("id", Count, primary_key=True),
    Column("time_ns", Count, nullable=False),
    Column("who", Text, nullable=False),
    Column("what", Text, nullable=False),
    Column("path", Text, nullable=False),
    Column("outcome", Text, nullable=False),
    Column("status", Count),
    Column("request_id", Text, nullable=False),
    sqlite_autoincrement=True,
)
"""What was asked of the service and how it ended; ``status`` is HTTP's, NULL for what was done on the command line."""

Index("ix_audit_time", audit.c.time_ns)
