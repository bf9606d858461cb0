"""Versions of contents, rules of directories, claims under leases, and what is known of services beside their speed."""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"

_count = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
_text = sa.String().with_variant(sa.String(collation="C"), "postgresql")


def upgrade() -> None:
    """Add the columns and the tables."""
    op.add_column("entry", sa.Column("rankers", _text))
    op.add_column("entry", sa.Column("rules", _text))
    op.add_column("replica", sa.Column("failures", _count, nullable=False, server_default="0"))
    op.add_column("replica", sa.Column("verified_ns", _count))
    op.create_table(
        "version",
        sa.Column("entry_id", _count, autoincrement=False, nullable=False),
        sa.Column("version", _count, autoincrement=False, nullable=False),
        sa.Column("size", _count),
        sa.Column("mtime_ns", _count),
        sa.Column("sha256", sa.LargeBinary(32)),
        sa.Column("origin", _text, nullable=False),
        sa.Column("replaced_ns", _count, nullable=False),
        sa.Column("service", _text, nullable=False),
        sa.Column("path", _text, nullable=False),
        sa.Column("service_version", _text),
        sa.PrimaryKeyConstraint("entry_id", "version", name="pk_version"),
        sa.ForeignKeyConstraint(["entry_id"], ["entry.id"], name="fk_version_entry_id", ondelete="CASCADE"),
    )
    op.create_table(
        "lease",
        sa.Column("id", _count, nullable=False),
        sa.Column("holder", _text, nullable=False),
        sa.Column("expires_ns", _count, nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_lease"),
        sqlite_autoincrement=True,
    )
    op.create_table(
        "claim",
        sa.Column("entry_id", _count, autoincrement=False, nullable=False),
        sa.Column("lease_id", _count, nullable=False),
        sa.PrimaryKeyConstraint("entry_id", name="pk_claim"),
        sa.ForeignKeyConstraint(["entry_id"], ["entry.id"], name="fk_claim_entry_id", ondelete="CASCADE"),
        sa.ForeignKeyConstraint(["lease_id"], ["lease.id"], name="fk_claim_lease_id", ondelete="CASCADE"),
    )
    op.create_index("ix_claim_lease", "claim", ["lease_id"])
    op.create_table(
        "intent",
        sa.Column("entry_id", _count, autoincrement=False, nullable=False),
        sa.Column("service", _text, nullable=False),
        sa.Column("kind", _text, nullable=False),
        sa.Column("path", _text, nullable=False),
        sa.Column("version", _count, nullable=False),
        sa.Column("size", _count),
        sa.Column("mtime_ns", _count),
        sa.Column("sha256", sa.LargeBinary(32)),
        sa.PrimaryKeyConstraint("entry_id", "service", "kind", name="pk_intent"),
        sa.ForeignKeyConstraint(["entry_id"], ["entry.id"], name="fk_intent_entry_id", ondelete="CASCADE"),
        sa.CheckConstraint("kind IN ('write', 'keep')", name="ck_intent_kind"),
    )
    op.create_table(
        "tombstone",
        sa.Column("service", _text, nullable=False),
        sa.Column("path", _text, nullable=False),
        sa.Column("name", _text, nullable=False),
        sa.Column("size", _count),
        sa.Column("mtime_ns", _count),
        sa.Column("mtime_precision_ns", _count),
        sa.Column("etag", _text),
        sa.Column("sha256", sa.LargeBinary(32)),
        sa.Column("deleted_ns", _count, nullable=False),
        sa.PrimaryKeyConstraint("service", "path", name="pk_tombstone"),
    )
    op.create_table(
        "verification",
        sa.Column("entry_id", _count, autoincrement=False, nullable=False),
        sa.Column("deep", sa.Boolean, nullable=False),
        sa.Column("sample", _text, nullable=False),
        sa.Column("started_ns", _count, nullable=False),
        sa.PrimaryKeyConstraint("entry_id", "deep", "sample", name="pk_verification"),
        sa.ForeignKeyConstraint(["entry_id"], ["entry.id"], name="fk_verification_entry_id", ondelete="CASCADE"),
    )
    op.create_table(
        "service",
        sa.Column("name", _text, nullable=False),
        sa.Column("clock_offset_ns", _count),
        sa.Column("clock_error_ns", _count),
        sa.Column("measured_ns", _count),
        sa.Column("failures", _count, nullable=False, server_default="0"),
        sa.Column("resume_ns", _count),
        sa.Column("why", _text, nullable=False, server_default=""),
        sa.PrimaryKeyConstraint("name", name="pk_service"),
    )
