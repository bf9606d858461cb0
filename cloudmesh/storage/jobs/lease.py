"""The lease on a job: whoever holds it does the job, alone among all processes on all computers.

It is three columns of the job's row: who holds it (a random text), until when (by the database's clock), and a number
that rises with every taking. The holder renews it every second and gives it back at the end; where it does not, because
it was killed or cut off, the lease ends by itself and anybody may take it. A holder that comes back after that finds
another holder and number in the row: it stops, and every statement by which it would write says whose lease it needs,
so nothing that it believes gets into the row.
"""

from __future__ import annotations

import json
import os
import secrets
import socket
import threading
import time
from dataclasses import dataclass
from typing import Any

from sqlalchemy.engine import Connection, Row

from cloudmesh.storage.database import Database, clock_ns
from cloudmesh.storage.errors import AlreadyExists, Refused
from cloudmesh.storage.jobs import rows
from cloudmesh.storage.records import Job, JobState
from cloudmesh.storage.tables import job as table
from cloudmesh.storage.tables import job_failure
from cloudmesh.storage.transfer.report import Failure

SECONDS = 30.0
"""How long a lease lasts unless it is renewed."""

# it goes on while the computer sleeps, during which others may take the lease
_CLOCK = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)


@dataclass
class Lease:
    """A lease that was taken, until `end`.

    Attributes:
        job: as it was when the lease was taken.
        seconds: how long it lasts unless it is renewed.
        call: what the job does, as its row holds it; None for a sync.
    """

    job: Job
    seconds: float
    call: dict[str, Any] | None
    _database: Database
    _id: int
    _holder: str
    _fence: int

    def __post_init__(self) -> None:
        self._lock = threading.Lock()
        self._until = time.clock_gettime(_CLOCK) + self.seconds

    @property
    def token(self) -> str:
        """What another process needs to take this lease over."""
        return self._holder

    @property
    def is_sure(self) -> bool:
        """Whether nobody else can have it; false when it was not renewed in time. Asks nobody."""
        return time.clock_gettime(_CLOCK) < self._until

    def renew(self, counts: dict[str, Any], failures: list[tuple[int, Failure]]) -> str:
        """Make it last again, write how far the work has come, and return what was requested of the process.

        Args:
            counts: columns of the job's row.
            failures: those not written yet, with their numbers.

        Raises:
            Refused: another has taken it.
        """
        asked = time.clock_gettime(_CLOCK)
        with self._lock, self._database.write() as connection:
            now_ns = clock_ns(connection)
            self._update(connection, expires_ns=now_ns + int(self.seconds * 1e9), **counts)
            self._add(connection, failures)
            requested = str(rows.find(connection, self.job.name).requested)
        self._until = asked + self.seconds
        return requested

    def end(
        self, state: JobState, counts: dict[str, Any], failures: list[tuple[int, Failure]], result: Any = None
    ) -> JobState:
        """Give it back, and write how the job ended; return the state in which it is now.

        Args:
            state: in which the process leaves it; one that was to be paused may have been cancelled meanwhile.
            counts: as of `renew`.
            failures: likewise.
            result: what the work returned, as JSON can hold it.

        Raises:
            Refused: another has taken it.
        """
        with self._lock, self._database.write() as connection:
            now_ns = clock_ns(connection)
            row = rows.find(connection, self.job.name)
            if state == "paused" and row.requested == "cancel":
                state = "cancelled"
            values = {"state": state, "finished_ns": now_ns, "requested": "", "holder": None, "expires_ns": None}
            arguments = json.loads(row.arguments) | {"result": result}
            self._update(connection, **values, **counts, arguments=json.dumps(arguments))
            self._add(connection, failures)
        return state

    def _update(self, connection: Connection, **values: Any) -> None:
        mine = (table.c.id == self._id) & (table.c.holder == self._holder) & (table.c.fence == self._fence)
        if connection.execute(table.update().where(mine).values(**values)).rowcount != 1:
            row = connection.execute(table.select().where(table.c.id == self._id)).first()
            by = f"process {row.pid} on {row.host}" if row is not None else "somebody who removed it"
            raise Refused(self.job.name, f"the job was taken over by {by}, because this process was not heard of")

    def _add(self, connection: Connection, failures: list[tuple[int, Failure]]) -> None:
        values = [
            {"job_id": self._id, "number": number, "name": _storable(one.name), "error": _storable(one.error)}
            for number, one in failures
        ]
        if values:
            connection.execute(job_failure.insert(), values)


def take(
    connection: Connection, database: Database, name: str, seconds: float, *, state: JobState, log: str, token: str = ""
) -> Lease:
    """Take the lease on a job that nobody has, or that was handed over; in the transaction open on ``connection``.

    Args:
        connection: of ``database``.
        database: for the lease's own writing.
        name: of the job.
        seconds: how long it lasts unless it is renewed.
        state: ``waiting`` for a process to be started, ``running`` for this one.
        log: the file of the job's log.
        token: that of the lease that is handed over.

    Raises:
        NotFound: there is no job of this name.
        AlreadyExists: another has it; the error says who.
    """
    row = rows.find(connection, name)
    now_ns = clock_ns(connection)
    if row.holder != token and rows.is_held(row, now_ns):
        raise _held(row, now_ns)
    if token and row.holder != token:
        raise Refused(name, "the job was ended before its process began")
    values: dict[str, Any] = {
        "state": state,
        "holder": secrets.token_hex(16),
        "fence": row.fence + 1,
        "expires_ns": now_ns + int(seconds * 1e9),
        "started_ns": now_ns,
        "finished_ns": None,
        "host": socket.gethostname(),
        "pid": os.getpid(),
        "log": log,
        "message": "",
        # what is requested while it is handed over is for the one who gets it
        "requested": row.requested if token else "",
        **dict.fromkeys(("files_total", "files_done", "files_skipped", "files_removed"), 0),
        **dict.fromkeys(("bytes_total", "bytes_done", "bytes_skipped", "bytes_removed", "bytes_failed"), 0),
        **dict.fromkeys(("bytes_per_s", "errors"), 0),
    }
    connection.execute(table.update().where(table.c.id == row.id).values(**values))
    connection.execute(job_failure.delete().where(job_failure.c.job_id == row.id))
    taken = rows.find(connection, name)
    return Lease(
        rows.job(taken, now_ns),
        seconds,
        json.loads(taken.arguments).get("call"),
        database,
        row.id,
        taken.holder,
        taken.fence,
    )


def _held(row: Row[Any], now_ns: int) -> AlreadyExists:
    since = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime((row.started_ns or now_ns) / 1e9))
    left = (row.expires_ns - now_ns) / 1e9
    return AlreadyExists(
        row.name,
        f"this job is still running, as process {row.pid} on {row.host} since {since}",
        f"if that process is gone, the job is free in {left:.0f} s; cms storage jobs cancel {row.name} ends it",
    )


def _storable(text: str) -> str:
    """The text without lone surrogates and NUL, which no database takes."""
    return text.replace("\0", "\\x00").encode("utf-8", "backslashreplace").decode("utf-8")
