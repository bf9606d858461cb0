"""The bytes that a job has not to move, so that whoever follows it elsewhere can tell how much is left."""

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"

_count = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    """Add the columns."""
    for name in ("bytes_skipped", "bytes_removed", "bytes_failed"):
        op.add_column("job", sa.Column(name, _count, nullable=False, server_default="0"))
