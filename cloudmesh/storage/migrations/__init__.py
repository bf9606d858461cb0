"""The database's schema, step by step. A released step is never changed; a change is a new one, and its revision goes
into `cloudmesh.storage.database.REVISIONS`."""

from __future__ import annotations

import logging
from pathlib import Path

from alembic import command
from alembic.config import Config
from sqlalchemy.engine import Connection


def config(connection: Connection | None = None) -> Config:
    """Return Alembic's configuration of this package's steps, run on ``connection``."""
    settings = Config()
    settings.set_main_option("script_location", str(Path(__file__).parent).replace("%", "%%"))
    settings.attributes["connection"] = connection
    return settings


def upgrade(connection: Connection) -> None:
    """Bring the schema to the newest revision, inside the transaction that is open on ``connection``."""
    logging.getLogger("alembic").setLevel(logging.WARNING)
    command.upgrade(config(connection), "head")
