"""The tables of the storage floor, and the types that every table shares.

A later floor adds its own tables to `metadata`; the database is brought to this shape by ``migrations/`` alone.
"""

from __future__ import annotations

from sqlalchemy.schema import CheckConstraint, Column, ForeignKey, MetaData, Table
from sqlalchemy.types import BigInteger, Double, Integer, String

metadata = MetaData(
    naming_convention={
        "pk": "pk_%(table_name)s",
        "fk": "fk_%(table_name)s_%(column_0_name)s",
        "uq": "uq_%(table_name)s_%(column_0_name)s",
        "ck": "ck_%(table_name)s_%(constraint_name)s",
    }
)

Count = BigInteger().with_variant(Integer(), "sqlite")
"""Whole numbers of 64 bits: ids, bytes, nanoseconds. SQLite numbers rows by themselves only for INTEGER."""

Text = String().with_variant(String(collation="C"), "postgresql")
"""Text compared by its bytes on both databases, so that every listing has one order."""

speed = Table(
    "speed",
    metadata,
    Column("service", Text, primary_key=True),
    Column("direction", Text, CheckConstraint("direction IN ('read', 'write')", name="direction"), primary_key=True),
    Column("latency_s", Double, nullable=False),
    Column("bytes_per_s", Double, nullable=False),
    Column("samples", Count, nullable=False),
    Column("updated_ns", Count, nullable=False),
)
"""How fast a service was found to be, reading and writing."""

service = Table(
    "service",
    metadata,
    Column("name", Text, primary_key=True),
    Column("clock_offset_ns", Count),
    Column("clock_error_ns", Count),
    Column("measured_ns", Count),
    Column("failures", Count, nullable=False, server_default="0"),
    Column("resume_ns", Count),
    Column("why", Text, nullable=False, server_default=""),
)
"""What is known of a service beside its speed.

``clock_offset_ns`` is its clock less this computer's, right within ``clock_error_ns``, as it was at ``measured_ns``. A
service that has failed too often, ``failures`` times, is out of use until ``resume_ns``; ``why`` is the last error.
"""

job = Table(
    "job",
    metadata,
    Column("id", Count, primary_key=True),
    Column("name", Text, nullable=False, unique=True),
    Column("kind", Text, nullable=False),
    Column("arguments", Text, nullable=False),
    Column("state", Text, nullable=False),
    Column("created_ns", Count, nullable=False),
    Column("started_ns", Count),
    Column("finished_ns", Count),
    Column("pid", Count),
    Column("host", Text),
    Column("files_total", Count),
    Column("files_done", Count, nullable=False, server_default="0"),
    Column("bytes_total", Count),
    Column("bytes_done", Count, nullable=False, server_default="0"),
    Column("errors", Count, nullable=False, server_default="0"),
    Column("message", Text, nullable=False, server_default=""),
    Column("files_skipped", Count, nullable=False, server_default="0"),
    Column("files_removed", Count, nullable=False, server_default="0"),
    Column("bytes_per_s", Double, nullable=False, server_default="0"),
    Column("requested", Text, nullable=False, server_default=""),
    Column("holder", Text),
    Column("fence", Count, nullable=False, server_default="0"),
    Column("expires_ns", Count),
    Column("log", Text, nullable=False, server_default=""),
    Column("bytes_skipped", Count, nullable=False, server_default="0"),
    Column("bytes_removed", Count, nullable=False, server_default="0"),
    Column("bytes_failed", Count, nullable=False, server_default="0"),
)
"""Jobs. ``arguments`` is a JSON object; ``requested`` is empty, ``pause`` or ``cancel``; ``log`` a file on ``host``.

``holder``, ``fence`` and ``expires_ns`` are the lease, as `cloudmesh.storage.jobs.lease` explains.
"""

job_failure = Table(
    "job_failure",
    metadata,
    Column("job_id", Count, ForeignKey("job.id", ondelete="CASCADE"), primary_key=True, autoincrement=False),
    Column("number", Count, primary_key=True, autoincrement=False),
    Column("name", Text, nullable=False),
    Column("error", Text, nullable=False),
)
"""The first files that a job could not do, and why."""
