"""The REST service: tokens, share links, sessions of the page, and the audit log."""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"

_count = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
_text = sa.String().with_variant(sa.String(collation="C"), "postgresql")


def upgrade() -> None:
    """Add the tables."""
    op.create_table(
        "token",
        sa.Column("id", _count, nullable=False),
        sa.Column("name", _text, nullable=False),
        sa.Column("hash", sa.LargeBinary(32), nullable=False),
        sa.Column("scopes", _text, nullable=False),
        sa.Column("prefix", _text, nullable=False),
        sa.Column("services", _text),
        sa.Column("created_ns", _count, nullable=False),
        sa.Column("expires_ns", _count),
        sa.Column("revoked_ns", _count),
        sa.Column("last_used_ns", _count),
        sa.PrimaryKeyConstraint("id", name="pk_token"),
        sa.UniqueConstraint("hash", name="uq_token_hash"),
        sqlite_autoincrement=True,
    )
    op.create_table(
        "share",
        sa.Column("id", _count, nullable=False),
        sa.Column("path", _text, nullable=False),
        sa.Column("created_ns", _count, nullable=False),
        sa.Column("expires_ns", _count, nullable=False),
        sa.Column("revoked_ns", _count),
        sa.PrimaryKeyConstraint("id", name="pk_share"),
        sqlite_autoincrement=True,
    )
    op.create_table(
        "session",
        sa.Column("id", _count, nullable=False),
        sa.Column("hash", sa.LargeBinary(32), nullable=False),
        sa.Column("kind", _text, nullable=False),
        sa.Column("created_ns", _count, nullable=False),
        sa.Column("expires_ns", _count, nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_session"),
        sa.UniqueConstraint("hash", name="uq_session_hash"),
        sa.CheckConstraint("kind IN ('link', 'session')", name="ck_session_kind"),
        sqlite_autoincrement=True,
    )
    op.create_table(
        "audit",
        sa.Column("id", _count, nullable=False),
        sa.Column("time_ns", _count, nullable=False),
        sa.Column("who", _text, nullable=False),
        sa.Column("what", _text, nullable=False),
        sa.Column("path", _text, nullable=False),
        sa.Column("outcome", _text, nullable=False),
        sa.Column("status", _count),
        sa.Column("request_id", _text, nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_audit"),
        sqlite_autoincrement=True,
    )
    op.create_index("ix_audit_time", "audit", ["time_ns"])
