"""Jobs with a lease, all their counts, requests to the process that does them, and the failures of single files."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"

_count = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
_text = sa.String().with_variant(sa.String(collation="C"), "postgresql")


def upgrade() -> None:
    """Add the columns and the table of failures."""
    for column in (
        sa.Column("files_skipped", _count, nullable=False, server_default="0"),
        sa.Column("files_removed", _count, nullable=False, server_default="0"),
        sa.Column("bytes_per_s", sa.Double, nullable=False, server_default="0"),
        sa.Column("requested", _text, nullable=False, server_default=""),
        sa.Column("holder", _text),
        sa.Column("fence", _count, nullable=False, server_default="0"),
        sa.Column("expires_ns", _count),
        sa.Column("log", _text, nullable=False, server_default=""),
    ):
        op.add_column("job", column)
    op.create_table(
        "job_failure",
        sa.Column("job_id", _count, autoincrement=False, nullable=False),
        sa.Column("number", _count, autoincrement=False, nullable=False),
        sa.Column("name", _text, nullable=False),
        sa.Column("error", _text, nullable=False),
        sa.PrimaryKeyConstraint("job_id", "number", name="pk_job_failure"),
        sa.ForeignKeyConstraint(["job_id"], ["job.id"], name="fk_job_failure_job_id", ondelete="CASCADE"),
    )
