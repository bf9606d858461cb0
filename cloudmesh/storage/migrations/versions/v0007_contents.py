"""Finds the names that have a content, so that the last copy of one is known as such."""

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"


def upgrade() -> None:
    """Add the index."""
    known = sa.text("sha256 IS NOT NULL")
    op.create_index("ix_entry_sha256", "entry", ["sha256"], sqlite_where=known, postgresql_where=known)
