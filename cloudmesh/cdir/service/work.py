"""Long work as jobs: threads of this process do them, under a lease, and others take them up after a restart."""

from __future__ import annotations

import logging
import secrets
import socket
import threading
import time
from collections.abc import Mapping
from typing import Any

from cloudmesh.cdir.offers import Offer
from cloudmesh.cdir.service import rights
from cloudmesh.cdir.service.house import House
from cloudmesh.cdir.service.security import Principal
from cloudmesh.storage.binding import Call
from cloudmesh.storage.errors import AlreadyExists, StorageError
from cloudmesh.storage.jobs.call import JobCall, perform
from cloudmesh.storage.jobs.commands import Jobs
from cloudmesh.storage.jobs.lease import Lease
from cloudmesh.storage.jobs.running import Running
from cloudmesh.storage.meaning import Concerns
from cloudmesh.storage.records import JobDetails
from cloudmesh.storage.transfer.events import nobody
from cloudmesh.storage.transfer.totals import Snapshot

_LEASE_S = 12.0
"""How long the jobs of a service that was killed wait for the next one."""

_LOOK_S = 2.0
_SHOWN = (Concerns.NAME, Concerns.REPLICA, Concerns.PLACE, Concerns.PLACE_OR_HERE, Concerns.HERE)
_log = logging.getLogger(__name__)


class Crew:
    """The threads of one process that do jobs.

    Args:
        house: the services and the database.
    """

    def __init__(self, house: House) -> None:
        self.jobs = Jobs(lambda: house.database, _LEASE_S)
        self.stopping = threading.Event()
        self._is_interrupted = False
        self._house = house
        self._lock = threading.Lock()
        self._running: dict[str, tuple[Running, threading.Thread]] = {}
        self._looking = threading.Thread(target=self._take_up, name="interrupted jobs", daemon=True)
        self._looking.start()

    def begin(self, offer: Offer, call: Call, given: Mapping[str, Any], principal: Principal) -> JobDetails:
        """Begin a call as a job, and return the job.

        Args:
            offer: the operation.
            call: what to do.
            given: the values by their names in JSON.
            principal: who asks; whoever does the job later does it within their limits.

        Raises:
            AlreadyExists: a job of the name that was given is running.
            Refused: one of that name is not done, and is about something else.
        """
        values = dict(call.method_values)
        name = values.pop("name", None) if _names_its_job(offer) else None
        places = [str(given[field.name]) for field in offer.fields if field.concern in _SHOWN and given.get(field.name)]
        source, destination, *_ = [*places, "", ""]
        with self._house.visit() as visit:
            is_here = any(
                rights.is_here(field.concern, str(given[field.name]), visit.services)
                for field in offer.fields
                if given.get(field.name)
            )
        arguments = {
            "source": source,
            "destination": destination,
            "storage": given.get("storage") or "",
            "computer": socket.gethostname() if is_here else "",
            "options": {
                one.name: given[one.name] for one in offer.fields if one.part == "record" and given.get(one.name)
            },
            "parallel": given.get("parallel"),
            "call": JobCall.of(offer.api, call.target.name, call.class_values, values, principal.services).as_json(),
            "owner": principal.name,
        }
        words = offer.operation.words if offer.command == "storage" else (offer.command, *offer.operation.words)
        if not _names_its_job(offer):
            name = f"{'-'.join(words)}-{secrets.token_hex(5)}"
        lease = self.jobs.begin(" ".join(words), name, arguments)
        self._start(lease)
        return self.jobs.show(lease.job.name)

    def wait(self, name: str, seconds: float) -> None:
        """Wait until a job of this process has ended, but not longer than so many seconds."""
        with self._lock:
            found = self._running.get(name)
        if found is not None:
            found[1].join(seconds)

    def snapshot(self, name: str) -> Snapshot | None:
        """Return how far a job of this process has come; None where another does it, or nobody."""
        with self._lock:
            found = self._running.get(name)
        return None if found is None else found[0].snapshot()

    def interrupt(self) -> None:
        """Let all jobs end between two files; they are taken up at the next start. Safe in a signal handler."""
        if self._is_interrupted:
            return  # perhaps a second signal in the middle of this, and the locks below would wait for themselves
        self._is_interrupted = True
        self.stopping.set()
        for running, _ in [*self._running.values()]:
            running.interrupt()

    def close(self, patience_s: float) -> None:
        """Interrupt all jobs and wait for them, so long at most: what is left is found interrupted, too."""
        self.interrupt()
        deadline = time.monotonic() + patience_s
        for _, thread in [*self._running.values()]:
            thread.join(max(0, deadline - time.monotonic()))

    def _start(self, lease: Lease) -> None:
        running = Running(lease, nobody)
        thread = threading.Thread(target=self._do, args=(running,), name=lease.job.name, daemon=True)
        with self._lock:
            self._running[lease.job.name] = running, thread
        thread.start()
        if self.stopping.is_set():
            running.interrupt()

    def _do(self, running: Running) -> None:
        name = running.lease.job.name
        try:
            with self._house.visit() as visit:
                perform(running, services=visit.services, database=visit.database)
        except StorageError:
            pass  # it stands in the job's row
        except Exception:
            _log.exception("job %s", name)
        finally:
            with self._lock:
                self._running.pop(name, None)

    def _take_up(self) -> None:
        """Take up the jobs of a service that was ended, now and when its leases end."""
        while True:
            try:
                for name in self.jobs.interrupted(with_call=True):
                    try:
                        self._start(self.jobs.begin_again(name))
                    except AlreadyExists:
                        continue  # another process was faster
            except StorageError as error:
                _log.warning("jobs: %s", error)
            if self.stopping.wait(_LOOK_S):
                return


def _names_its_job(offer: Offer) -> bool:
    return any(parameter.name == "async_" for parameter in offer.target.to_method.values())
