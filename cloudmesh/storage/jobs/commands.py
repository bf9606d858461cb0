"""`Jobs`: what there is, and the commands ``storage jobs …``; and how a job is begun, handed over and run."""

from __future__ import annotations

import builtins
import hashlib
import json
import os
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from dataclasses import fields
from typing import Any, ClassVar

from sqlalchemy.engine import URL, Connection, Row

from cloudmesh.storage.binding import tells_when_empty
from cloudmesh.storage.database import Database, clock_ns
from cloudmesh.storage.errors import AlreadyExists, InvalidName, Refused
from cloudmesh.storage.jobs import log, rows
from cloudmesh.storage.jobs.lease import SECONDS, Lease, take
from cloudmesh.storage.meaning import reading
from cloudmesh.storage.records import Job, JobAsked, JobDetails, JobState
from cloudmesh.storage.tables import job as table
from cloudmesh.storage.tables import job_failure
from cloudmesh.storage.transfer.report import Failure

_LONGEST = 60
_HERE = socket.gethostname()


class Jobs:
    """The jobs in the database.

    Args:
        database: gives the database; called when it is first needed.
        lease_s: how long a job stays taken when its process is not heard of any more.
    """

    usage_exempt: ClassVar[frozenset[str]] = frozenset(
        {"begin", "begin_again", "adopt", "start_detached", "interrupted", "clean", "owner", "result"}
    )

    def __init__(self, database: Callable[[], Database], lease_s: float = SECONDS) -> None:
        self._database = database
        self._lease_s = lease_s

    # ---- commands ----------------------------------------------------------------------------------------------------

    @reading
    @tells_when_empty("there are no jobs")
    def list(self) -> Iterator[Job]:
        """Yield all jobs, the newest first."""
        statement = table.select().order_by(table.c.created_ns.desc(), table.c.id.desc())
        with self._database().read() as connection:
            now_ns = clock_ns(connection)
            found = connection.execute(statement).all()
        return (rows.job(row, now_ns) for row in found)

    @reading
    def show(self, name: str) -> JobDetails:
        """Return one job with the first files that it could not do.

        Args:
            name: of the job.

        Raises:
            NotFound: there is none of this name.
        """
        with self._database().read() as connection:
            row = rows.find(connection, name)
            job = rows.job(row, clock_ns(connection))
            mine = job_failure.select().where(job_failure.c.job_id == row.id).order_by(job_failure.c.number)
            failures = [Failure(one.name, one.error) for one in connection.execute(mine)]
        return JobDetails(**{one.name: getattr(job, one.name) for one in fields(job)}, failures=failures)

    def pause(self, name: str) -> JobAsked:
        """Let a job end between two files, to be resumed by its name alone; one that nobody does is paused at once.

        Args:
            name: of the job.

        Raises:
            NotFound: there is none of this name.
            Refused: it has ended.
        """
        return self._request(name, "pause", ("interrupted", "paused"))

    def cancel(self, name: str) -> JobAsked:
        """Let a job end between two files, for good; what is done stays done. Raises as `pause`.

        Args:
            name: of the job.
        """
        return self._request(name, "cancel", ("interrupted", "paused", "cancelled"))

    @tells_when_empty("no job was interrupted")
    def resume(self, name: str | None = None) -> Iterator[Job]:
        """Let a job go on, in a process of its own; what is done already is skipped.

        Args:
            name: without it, all that were interrupted, as after a restart of this computer.

        Raises:
            NotFound: there is none of this name.
            AlreadyExists: it is running.
            Refused: it is done, or concerns the files of another computer.
        """
        for one in [name] if name is not None else self.interrupted():
            try:
                lease = self.begin_again(one, detached=True)
            except AlreadyExists:
                if name is not None:
                    raise
                continue  # another process was faster
            yield self.start_detached(lease)

    def remove(self, name: str) -> Job:
        """Forget a job that is not running, with its log, and return what it was; no other file is touched.

        Args:
            name: of the job.

        Raises:
            NotFound: there is none of this name.
            Refused: it is running.
        """
        with self._database().write() as connection:
            found = self._remove(connection, rows.find(connection, name))
        log.remove(found)
        return found

    @reading
    def log(self, name: str, *, follow: bool = False) -> Iterator[bytes]:
        """Yield a job's log.

        Args:
            name: of the job.
            follow: also what is added, until the job ends.

        Raises:
            NotFound: there is none of this name; or its log is on another computer, and the error says which.
        """

        def ended() -> bool:
            return self.show(name).state not in ("waiting", "running")

        return log.lines(self.show(name), _HERE, ended if follow else None)

    # ---- for those who do jobs ---------------------------------------------------------------------------------------

    def begin(self, kind: str, name: str | None, arguments: dict[str, Any], *, detached: bool = False) -> Lease:
        """Write a job down and take its lease; one of the same name that has ended is replaced.

        Args:
            kind: the command.
            name: None makes one from what the arguments name, so that the same work has the same name each time.
            arguments: ``source``, ``destination``, ``storage``, ``computer``, ``options`` and ``parallel``.
            detached: it will be handed over to `start_detached`.

        Raises:
            AlreadyExists: a job of this name is running; the error says where.
            Refused: a job that was given this name is not done, and has other places or options.
            InvalidName: no job can be called so.
        """
        is_given = name is not None
        if name is None:
            place = [arguments.get(one) or "" for one in ("source", "destination", "storage", "computer")]
            name = f"{kind}-{hashlib.sha256(json.dumps(place).encode()).hexdigest()[:10]}"
        if not name.isprintable() or not 0 < len(name.encode("utf-8", "surrogatepass")) <= _LONGEST:
            raise InvalidName(name, f"a job's name has 1 to {_LONGEST} bytes and no control characters")
        database = self._database()
        with database.write() as connection:
            now_ns = clock_ns(connection)
            values = {"kind": kind, "arguments": json.dumps(arguments), "created_ns": now_ns}
            row = connection.execute(table.select().where(table.c.name == name)).first()
            if row is None:
                connection.execute(table.insert().values(name=name, state="waiting", **values))
            elif not rows.is_held(row, now_ns):  # else taking it tells who has it
                if is_given:
                    _refuse_another(rows.job(row, now_ns), rows.job(row, now_ns, arguments))
                # not a new row: the number of the lease must not fall
                connection.execute(table.update().where(table.c.id == row.id).values(**values))
            return self._take(connection, name, detached)

    def begin_again(self, name: str, *, detached: bool = False) -> Lease:
        """Take the lease on a job that has not been completed; raises as `resume`."""
        database = self._database()
        with database.write() as connection:
            job = rows.job(rows.find(connection, name), clock_ns(connection))
            if job.computer not in ("", _HERE):
                raise Refused(name, f"its files are on {job.computer}", "resume it there")
            if job.state == "done":
                raise Refused(name, "the job is done", f"cms storage {job.kind} --name={name} … begins it anew")
            return self._take(connection, name, detached)

    def adopt(self, name: str, token: str) -> Lease:
        """Take over the lease that another process took for this one.

        Raises:
            NotFound, Refused: the job was removed or ended meanwhile.
        """
        with self._database().write() as connection:
            return self._take(connection, name, False, token)

    def start_detached(self, lease: Lease) -> Job:
        """Do a job in a process of its own that outlives this one and its terminal; return it as it stands."""
        name = lease.job.name
        # it does not stand where we do
        environment = dict(os.environ)
        if folder := environment.get("CLOUDMESH_CONFIG_DIR"):
            environment["CLOUDMESH_CONFIG_DIR"] = os.path.abspath(os.path.expanduser(folder))
        database = self._database()
        if database.is_sqlite and environment.get("CDIR_DATABASE"):
            file = URL.create("sqlite", database=os.path.abspath(database.subject))
            environment["CDIR_DATABASE"] = file.render_as_string()
        writing = log.Log(log.path_of(name))  # before there is a process that may be followed
        writing.write("waiting: a process is being started")
        writing.close()
        process = subprocess.Popen(
            [sys.executable, "-m", "cloudmesh.storage.worker", name, lease.token, str(self._lease_s)],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
            cwd="/",
            env=environment,
        )
        # else it would stay a zombie as long as this process lives
        threading.Thread(target=process.wait, daemon=True).start()
        with self._database().read() as connection:
            return rows.job(rows.find(connection, name), clock_ns(connection))

    def interrupted(self, *, with_call: bool = False) -> builtins.list[str]:
        """Return the names of the interrupted jobs that can go on here, the oldest first.

        Args:
            with_call: only those whose row holds a call: a service's.
        """
        is_open = table.c.state.in_(("waiting", "running", "interrupted"))
        with self._database().read() as connection:
            now_ns = clock_ns(connection)
            found = connection.execute(table.select().where(is_open).order_by(table.c.created_ns, table.c.id)).all()
        return [
            one.name
            for row in found
            if (one := rows.job(row, now_ns)).state == "interrupted"
            and one.computer in ("", _HERE)
            and (not with_call or "call" in json.loads(row.arguments))
        ]

    def owner(self, name: str) -> str:
        """Return who asked a service for a job; empty for one that was begun here. Raises NotFound."""
        return str(self._arguments(name).get("owner") or "")

    def result(self, name: str) -> Any:
        """Return what a job's work ``returned`` or its ``error``, as JSON holds it; None where there is none yet.

        Raises:
            NotFound: there is none of this name.
        """
        return self._arguments(name).get("result")

    def _arguments(self, name: str) -> dict[str, Any]:
        with self._database().read() as connection:
            found: dict[str, Any] = json.loads(rows.find(connection, name).arguments)
        return found

    def clean(self, older_s: float, *, dryrun: bool) -> Iterator[Job]:
        """Forget the done, failed and cancelled jobs that ended so long ago, with their logs, and yield them."""
        with self._database().read() as connection:
            now_ns = clock_ns(connection)
        for job in self.list():
            ended_ns = job.finished_ns or job.created_ns
            if job.state in ("done", "failed", "cancelled") and ended_ns <= now_ns - older_s * 1e9:
                yield job if dryrun else self.remove(job.name)

    # ---- rows --------------------------------------------------------------------------------------------------------

    def _take(self, connection: Connection, name: str, detached: bool, token: str = "") -> Lease:
        state: JobState = "waiting" if detached else "running"
        path = str(log.path_of(name))
        return take(connection, self._database(), name, self._lease_s, state=state, log=path, token=token)

    def _request(self, name: str, request: str, at_once: tuple[str, ...]) -> JobAsked:
        with self._database().write() as connection:
            row = rows.find(connection, name)
            now_ns = clock_ns(connection)
            job = rows.job(row, now_ns)
            if job.state in ("waiting", "running"):
                values: dict[str, Any] = {"requested": request}
            elif job.state in at_once:
                # the lease is gone, but not its number: whoever comes back late finds another
                values = {"state": rows.WHEN_GONE[request], "requested": "", "holder": None, "fence": row.fence + 1}
                values["finished_ns"] = now_ns
            else:
                raise Refused(name, f"the job is {job.state}")
            connection.execute(table.update().where(table.c.id == row.id).values(**values))
            asked = rows.job(rows.find(connection, name), now_ns)
        return JobAsked(**{one.name: getattr(asked, one.name) for one in fields(asked)})

    def _remove(self, connection: Connection, row: Row[Any]) -> Job:
        found = rows.job(row, clock_ns(connection))
        if found.state in ("waiting", "running"):
            raise Refused(
                found.name,
                f"the job is {found.state}, as process {found.pid} on {found.host}",
                f"cms storage jobs cancel {found.name} ends it",
            )
        connection.execute(table.delete().where(table.c.id == row.id))
        return found


def _refuse_another(there: Job, new: Job) -> None:
    """Refuse to put a job in the place of one that is not done and is about something else.

    Raises:
        Refused: so it is.
    """
    if there.state == "done" or _what(there) == _what(new):
        return
    others = "" if _places(there) != _places(new) else " with other options"
    raise Refused(
        there.name,
        f"this is a job from {there.source} to {there.destination}{others}, which is {there.state} and not done",
        f"cms storage jobs resume {there.name} goes on with it, cms storage jobs remove {there.name} forgets it;"
        " or choose another --name",
    )


def _places(job: Job) -> tuple[str, ...]:
    return job.source, job.destination, job.storage, job.computer


def _what(job: Job) -> tuple[Any, ...]:
    # "the last 36 hours" is another moment each time
    return *_places(job), job.options | {"newer": "newer" in job.options}
