"""The first schema: names, replicas, jobs and measured speeds."""

import time

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None

_count = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
_text = sa.String().with_variant(sa.String(collation="C"), "postgresql")


def upgrade() -> None:
    """Make all tables, the root and the trash."""
    entry = op.create_table(
        "entry",
        sa.Column("id", _count, nullable=False),
        sa.Column("parent_id", _count),
        sa.Column("name", _text, nullable=False),
        sa.Column("is_directory", sa.Boolean, nullable=False),
        sa.Column("size", _count),
        sa.Column("mtime_ns", _count),
        sa.Column("sha256", sa.LargeBinary(32)),
        sa.Column("version", _count, nullable=False, server_default="1"),
        sa.Column("created_ns", _count, nullable=False),
        sa.Column("preferred", _text),
        sa.PrimaryKeyConstraint("id", name="pk_entry"),
        sa.ForeignKeyConstraint(["parent_id"], ["entry.id"], name="fk_entry_parent_id"),
        sa.UniqueConstraint("parent_id", "name", name="uq_entry_parent_id"),
        sqlite_autoincrement=True,
    )
    now = time.time_ns()
    op.bulk_insert(
        entry,
        [
            {"id": 1, "parent_id": None, "name": "", "is_directory": True, "created_ns": now},
            {"id": 2, "parent_id": None, "name": "trash", "is_directory": True, "created_ns": now},
        ],
    )
    if op.get_context().dialect.name == "postgresql":
        op.execute("SELECT setval(pg_get_serial_sequence('entry', 'id'), 2)")
    op.create_table(
        "replica",
        sa.Column("entry_id", _count, autoincrement=False, nullable=False),
        sa.Column("service", _text, nullable=False),
        sa.Column("path", _text, nullable=False),
        sa.Column("state", _text, nullable=False),
        sa.Column("size", _count),
        sa.Column("mtime_ns", _count),
        sa.Column("mtime_precision_ns", _count),
        sa.Column("etag", _text),
        sa.Column("hashes", _text),
        sa.Column("sha256", sa.LargeBinary(32)),
        sa.Column("version", _count, nullable=False),
        sa.Column("checked_ns", _count),
        sa.PrimaryKeyConstraint("entry_id", "service", name="pk_replica"),
        sa.ForeignKeyConstraint(["entry_id"], ["entry.id"], name="fk_replica_entry_id", ondelete="CASCADE"),
        sa.CheckConstraint(
            "state IN ('available', 'stale', 'copying', 'missing', 'bad', 'unavailable', 'deleting')",
            name="ck_replica_state",
        ),
        sqlite_with_rowid=False,
    )
    op.create_index("ix_replica_location", "replica", ["service", sa.text("substr(path, 1, 600)")])
    op.create_table(
        "speed",
        sa.Column("service", _text, nullable=False),
        sa.Column("direction", _text, nullable=False),
        sa.Column("latency_s", sa.Double, nullable=False),
        sa.Column("bytes_per_s", sa.Double, nullable=False),
        sa.Column("samples", _count, nullable=False),
        sa.Column("updated_ns", _count, nullable=False),
        sa.PrimaryKeyConstraint("service", "direction", name="pk_speed"),
        sa.CheckConstraint("direction IN ('read', 'write')", name="ck_speed_direction"),
    )
    op.create_table(
        "job",
        sa.Column("id", _count, nullable=False),
        sa.Column("name", _text, nullable=False),
        sa.Column("kind", _text, nullable=False),
        sa.Column("arguments", _text, nullable=False),
        sa.Column("state", _text, nullable=False),
        sa.Column("created_ns", _count, nullable=False),
        sa.Column("started_ns", _count),
        sa.Column("finished_ns", _count),
        sa.Column("pid", _count),
        sa.Column("host", _text),
        sa.Column("files_total", _count),
        sa.Column("files_done", _count, nullable=False, server_default="0"),
        sa.Column("bytes_total", _count),
        sa.Column("bytes_done", _count, nullable=False, server_default="0"),
        sa.Column("errors", _count, nullable=False, server_default="0"),
        sa.Column("message", _text, nullable=False, server_default=""),
        sa.PrimaryKeyConstraint("id", name="pk_job"),
        sa.UniqueConstraint("name", name="uq_job_name"),
    )
