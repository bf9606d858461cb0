"""Which services work, remembered from one command to the next: a circuit breaker for each.

A service that has failed `LIMIT` times, in one command or over several, with no success between, is out of use for a
minute; each time that it fails again after that, for twice as long, an hour at most. Any success ends it. What is full
can still be read, and what a vault does is not the service's doing: such failures do not count.
"""

from __future__ import annotations

import datetime
import threading
from collections.abc import Iterable
from dataclasses import dataclass

from sqlalchemy.sql.expression import text

from cloudmesh.storage.database import Database, clock_ns, rows
from cloudmesh.storage.errors import AuthenticationFailed, RateLimited, StorageError, Unavailable
from cloudmesh.storage.tables import service as table

LIMIT = 20
"""Failed calls with no success between them that put a service out of use."""

_OUT_OF_USE = text("SELECT name, resume_ns, why FROM service WHERE resume_ns > :now")
_FIRST_S, _LONGEST_S = 60, 3600
_OF_THE_SERVICE = (AuthenticationFailed, RateLimited, Unavailable)


@dataclass(frozen=True, slots=True)
class Outage:
    """A service that is out of use.

    Attributes:
        service: its name.
        resume_ns: until when, in ns since the epoch, by the database's clock.
        why: the last error.
    """

    service: str
    resume_ns: int
    why: str

    def __str__(self) -> str:
        until = datetime.datetime.fromtimestamp(self.resume_ns // 10**9).isoformat(sep=" ")
        return f"out of use until {until}, as it failed too often: {self.why}"

    def refusal(self, subject: str) -> StorageError:
        """Return the error of a call that is not made."""
        return Unavailable(subject, str(self), f"cms storage measure {self.service} tries it now")


@dataclass(slots=True)
class _Seen:
    """What this process has seen of a service since it last wrote that down: failures since the last success."""

    failures: int = 0
    succeeded: bool = False
    why: str = ""
    out_of_use: bool = False


class Health:
    """Counts what calls to services come to, and knows which are out of use. Threads may share it.

    Args:
        database: where it is remembered.
    """

    def __init__(self, database: Database) -> None:
        self._database = database
        self._lock = threading.Lock()
        self._seen: dict[str, _Seen] = {}

    def outages(self) -> dict[str, Outage]:
        """Return the services that are out of use now, by name."""
        with self._database.read() as connection:
            now_ns = clock_ns(connection)
            found = rows(connection, _OUT_OF_USE, {"now": now_ns})
        return {name: Outage(name, resume_ns, why) for name, resume_ns, why in found}

    def succeeded(self, service: str) -> None:
        """Count a call that worked."""
        seen = self._of(service)
        if seen.failures or not seen.succeeded:
            with self._lock:
                seen.failures, seen.succeeded, seen.out_of_use = 0, True, False

    def failed(self, service: str, error: StorageError) -> None:
        """Count a call that failed after all attempts, if the service is to blame; one too many is written down."""
        if not isinstance(error, _OF_THE_SERVICE):
            return
        seen = self._of(service)
        with self._lock:
            seen.failures += 1
            seen.why = error.why
            at_limit = seen.failures >= LIMIT and not seen.out_of_use
        if at_limit:
            self._write([service])

    def remember(self) -> None:
        """Write down what was seen; nothing is written where all is as it was."""
        self._write([*self._seen])

    def reset(self, services: Iterable[str]) -> None:
        """Put services back in use: they were tried, and work."""
        with self._lock, self._database.write() as connection:
            for name in services:
                self._seen.pop(name, None)
                connection.execute(
                    table.update().where(table.c.name == name).values(failures=0, resume_ns=None, why="")
                )

    def _of(self, service: str) -> _Seen:
        return self._seen.get(service) or self._seen.setdefault(service, _Seen())

    def _write(self, services: list[str]) -> None:
        with self._lock:
            if not any(self._seen[name].failures or self._seen[name].succeeded for name in services):
                return
            with self._database.read() as connection:
                known = {row.name: row for row in connection.execute(table.select())}
            changed = [
                name
                for name in services
                if self._seen[name].failures or (name in known and known[name].failures and self._seen[name].succeeded)
            ]
            if changed:
                with self._database.write() as connection:
                    now_ns = clock_ns(connection)
                    for name in changed:
                        row = connection.execute(table.select().where(table.c.name == name)).first()
                        values = _after(
                            self._seen[name], row.failures if row else 0, row.resume_ns if row else None, now_ns
                        )
                        if row is None:
                            connection.execute(table.insert().values(name=name, **values))
                        else:
                            connection.execute(table.update().where(table.c.name == name).values(**values))
            for name in services:
                self._seen[name] = _Seen(out_of_use=self._seen[name].out_of_use)


def _after(seen: _Seen, failures: int, resume_ns: int | None, now_ns: int) -> dict[str, object]:
    """Return the row of a service after what was seen, given what stood there."""
    before = 0 if seen.succeeded else failures
    if before < LIMIT:
        total = min(before + seen.failures, LIMIT)
    elif resume_ns is not None and resume_ns > now_ns:
        return {"why": seen.why}  # it was tried as the last resort; that makes it no longer
    else:
        total = before + 1
    resume_ns = now_ns + 10**9 * min(_FIRST_S << min(total - LIMIT, 16), _LONGEST_S) if total >= LIMIT else None
    return {"failures": total, "resume_ns": resume_ns, "why": seen.why if seen.failures else ""}
