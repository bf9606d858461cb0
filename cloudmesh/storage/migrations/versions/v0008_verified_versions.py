"""When the bytes of a kept content were last read and right, so that a verification can go on."""

import sqlalchemy as sa
from alembic import op

revision = "0008"
down_revision = "0007"


def upgrade() -> None:
    """Add the column."""
    op.add_column("version", sa.Column("verified_ns", sa.BigInteger().with_variant(sa.Integer(), "sqlite")))
