"""Jobs: long work that has a name and a row in the database, and may go on without the shell that began it."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from typing import Any, ClassVar

from sqlalchemy.engine import Row

from cloudmesh.storage.database import Database
from cloudmesh.storage.errors import AlreadyExists, NotFound, Refused, StorageError
from cloudmesh.storage.records import Job
from cloudmesh.storage.tables import job as table
from cloudmesh.storage.transfer.events import Event, Observer
from cloudmesh.storage.transfer.report import Report

_WRITE_EVERY_S = 1.0


class Jobs:
    """The jobs in the database, and the commands ``storage jobs …``.

    Args:
        database: gives the database; called when it is first needed.
    """

    usage_exempt: ClassVar[frozenset[str]] = frozenset({"create", "running", "start_detached"})

    def __init__(self, database: Callable[[], Database]) -> None:
        self._database = database

    def list(self) -> Iterator[Job]:
        """Yield all jobs, the newest first."""
        statement = table.select().order_by(table.c.created_ns.desc(), table.c.id.desc())
        with self._database().read() as connection:
            rows = connection.execute(statement).all()
        return (_job(row) for row in rows)

    def show(self, name: str) -> Job:
        """Return one job.

        Raises:
            NotFound: there is none of this name.
        """
        with self._database().read() as connection:
            row = connection.execute(table.select().where(table.c.name == name)).first()
        if row is None:
            raise NotFound(name, "there is no such job", "cms storage jobs list names those there are")
        return _job(row)

    def remove(self, name: str) -> Job:
        """Forget a job that is not running, and return what it was; no file is touched.

        Raises:
            NotFound: there is none of this name.
            Refused: it is running.
        """
        found = self.show(name)
        if found.state == "running":
            raise Refused(name, f"the job is running as process {found.pid}")
        with self._database().write() as connection:
            connection.execute(table.delete().where(table.c.name == name))
        return found

    def create(self, kind: str, name: str | None, arguments: dict[str, Any]) -> Job:
        """Write a new job down; one of the same name that has ended is replaced, so that a sync can be run again.

        Args:
            kind: the command.
            name: None makes one from the kind and the time.
            arguments: ``source``, ``destination``, ``storage`` and what else the kind needs to run it again.

        Raises:
            AlreadyExists: a job of this name is waiting or running.
        """
        now = time.time_ns()
        name = name or f"{kind}-{time.strftime('%Y%m%d-%H%M%S')}-{now % 1_000_000:06d}"
        with self._database().write() as connection:
            row = connection.execute(table.select().where(table.c.name == name)).first()
            if row is not None:
                if _job(row).state in ("waiting", "running"):
                    raise AlreadyExists(name, "this job is still running", f"cms storage jobs show {name}")
                connection.execute(table.delete().where(table.c.name == name))
            values = {"name": name, "kind": kind, "arguments": json.dumps(arguments), "state": "waiting"}
            connection.execute(table.insert().values(**values, created_ns=now))
        return self.show(name)

    @contextmanager
    def running(self, job: Job, observer: Observer) -> Iterator[tuple[Observer, Callable[[Report], None]]]:
        """Mark a job as running in this process while the block runs; give an observer that counts, and what ends it.

        The second part of what is given takes the report of the work. An exception in the block fails the job.
        """
        progress = _Progress(self._database(), job.name, observer)
        progress.update(
            state="running", started_ns=time.time_ns(), pid=os.getpid(), host=socket.gethostname(), message=""
        )
        reports: list[Report] = []
        try:
            yield progress, reports.append
        except BaseException as error:
            text = str(error) if isinstance(error, StorageError) else type(error).__name__
            state = "interrupted" if isinstance(error, KeyboardInterrupt) else "failed"
            progress.update(state=state, finished_ns=time.time_ns(), message=text)
            raise
        failed = any(report.failed for report in reports)
        progress.update(state="failed" if failed else "done", finished_ns=time.time_ns())

    def start_detached(self, job: Job) -> Job:
        """Run a waiting job in a process of its own that outlives this one and its terminal; return it as it stands."""
        process = subprocess.Popen(
            [sys.executable, "-m", "cloudmesh.storage.worker", job.name],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
            cwd="/",
        )
        # else it would stay a zombie, and look alive, as long as this process lives
        threading.Thread(target=process.wait, daemon=True).start()
        with self._database().write() as connection:
            waiting = (table.c.name == job.name) & (table.c.state == "waiting")
            connection.execute(table.update().where(waiting).values(pid=process.pid, host=socket.gethostname()))
        return self.show(job.name)


class _Progress:
    """Counts events into the job's row, at most once in `_WRITE_EVERY_S`, and passes them on."""

    def __init__(self, database: Database, name: str, observer: Observer) -> None:
        self._database = database
        self._name = name
        self._observer = observer
        self._counts = dict.fromkeys(("files_total", "files_done", "bytes_total", "bytes_done", "errors"), 0)
        self._message = ""
        self._written = time.monotonic()

    def __call__(self, event: Event) -> None:
        if event.kind == "planned":
            self._counts["files_total"] += 1
            self._counts["bytes_total"] += event.size
        elif event.kind == "done":
            self._counts["files_done"] += 1
            self._counts["bytes_done"] += event.size
        elif event.kind == "failed":
            self._counts["errors"] += 1
            self._message = event.error
        # `planned`, `done` and `failed` come from one thread, the others from many
        if event.kind in ("planned", "done") and time.monotonic() - self._written > _WRITE_EVERY_S:
            self._written = time.monotonic()
            with suppress(StorageError):  # counts that cannot be written now are written later; the work goes on
                self.update()
        self._observer(event)

    def update(self, **values: Any) -> None:
        """Write the counts and ``values`` into the job's row."""
        if self._message:
            values.setdefault("message", self._message)
        with self._database.write() as connection:
            mine = table.c.name == self._name
            connection.execute(table.update().where(mine).values(**self._counts, **values))
        self._written = time.monotonic()


def _job(row: Row[Any]) -> Job:
    values = dict(row._mapping)
    arguments = json.loads(values.pop("arguments"))
    del values["id"]
    for name in ("files_total", "bytes_total"):
        values[name] = values[name] or 0
    values.update({name: str(arguments.get(name) or "") for name in ("source", "destination", "storage")})
    found = Job(**values)
    if found.state in ("waiting", "running") and _is_gone(found):
        return replace(found, state="interrupted")
    return found


def _is_gone(job: Job) -> bool:
    """Tell whether the process is surely gone; of another computer's we do not know."""
    if job.host != socket.gethostname() or job.pid is None:
        return False
    if hasattr(time, "CLOCK_BOOTTIME"):
        booted_ns = time.time_ns() - time.clock_gettime_ns(time.CLOCK_BOOTTIME)
        if (job.started_ns or job.created_ns) < booted_ns:  # its number may be another process's by now
            return True
    try:
        os.kill(job.pid, 0)
    except ProcessLookupError:
        return True
    except PermissionError:
        return False
    return False
