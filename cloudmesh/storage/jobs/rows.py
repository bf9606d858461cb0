"""Jobs as they are read from the database."""

from __future__ import annotations

import json
from typing import Any

from sqlalchemy.engine import Connection, Row

from cloudmesh.storage.errors import NotFound
from cloudmesh.storage.records import Job, JobState
from cloudmesh.storage.tables import job as table

WHEN_GONE: dict[str, JobState] = {"": "interrupted", "pause": "paused", "cancel": "cancelled"}
"""The state of a job whose process is gone, by what was requested of it."""

_KEPT = ("id", "arguments", "state", "holder", "fence", "expires_ns", "files_total", "bytes_total")
_ARGUMENTS: dict[str, Any] = {
    "source": "",
    "destination": "",
    "storage": "",
    "computer": "",
    "options": {},
    "parallel": None,
}


def no_such_job(name: str) -> NotFound:
    """Return the error that tells of a job that is not there."""
    return NotFound(name, "there is no such job", "cms storage jobs list names those there are")


def find(connection: Connection, name: str) -> Row[Any]:
    """Return the row of a job.

    Raises:
        NotFound: there is none of this name.
    """
    row = connection.execute(table.select().where(table.c.name == name)).first()
    if row is None:
        raise no_such_job(name)
    return row


def is_held(row: Row[Any], now_ns: int) -> bool:
    """Tell whether somebody holds the job's lease."""
    return row.holder is not None and row.expires_ns is not None and row.expires_ns > now_ns


def job(row: Row[Any], now_ns: int, arguments: dict[str, Any] | None = None) -> Job:
    """Return the job that a row holds, as it stands at a moment of `clock_ns`; with other ``arguments`` if given."""
    values = {name: value for name, value in row._mapping.items() if name not in _KEPT}
    arguments = json.loads(row.arguments) if arguments is None else arguments
    values |= {name: arguments.get(name) or absent for name, absent in _ARGUMENTS.items()}
    state = row.state
    if state in ("waiting", "running") and not is_held(row, now_ns):
        state, values["requested"] = WHEN_GONE[row.requested], ""
    return Job(state=state, files_total=row.files_total or 0, bytes_total=row.bytes_total or 0, **values)
