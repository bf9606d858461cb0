"""Writes the audit log behind the requests' backs, many entries in one transaction."""

from __future__ import annotations

import logging
import queue
import threading
import time
from collections.abc import Callable

from cloudmesh.cdir.service.security import audit
from cloudmesh.cdir.service.security.audit import Entry
from cloudmesh.cdir.service.security.tokens import Tokens
from cloudmesh.storage.database import Database
from cloudmesh.storage.errors import StorageError

COLLECT_S = 0.2
"""For how long entries are collected, in seconds: at most so much is lost where the process is killed."""

_MOST = 50_000
_USED_S = 60
_FORGET_S = 3600

_log = logging.getLogger(__name__)


class Recorder:
    """Takes entries at once, and writes them in a thread of its own, which begins with the first.

    Args:
        database: gives the one to write to; called when there is something to write.
    """

    def __init__(self, database: Callable[[], Database]) -> None:
        self._database = database
        self._tokens = Tokens(database)
        self._queue: queue.SimpleQueue[Entry | int | None] = queue.SimpleQueue()
        self._thread: threading.Thread | None = None
        self._ends = threading.Event()
        self._starting = threading.Lock()
        self._used: dict[int, float] = {}
        self._forgot = 0.0

    @property
    def is_behind(self) -> bool:
        """Whether so much waits that no more should be done that would have to be written down."""
        return self._queue.qsize() > _MOST

    def used(self, token: int) -> None:
        """Take down that a token is used; once a minute is enough."""
        now = time.monotonic()
        if now - self._used.get(token, -_USED_S) >= _USED_S:
            self._used[token] = now
            self.add(token)

    def add(self, entry: Entry | int) -> None:
        """Take an entry, or the number of a token that is used."""
        self._queue.put(entry)
        if self._thread is None:
            with self._starting:
                if self._thread is None:
                    self._thread = threading.Thread(target=self._work, name="audit", daemon=True)
                    self._thread.start()

    def close(self) -> None:
        """Write what waits, and end."""
        if self._thread is not None:
            self._ends.set()
            self._queue.put(None)
            self._thread.join()

    def _work(self) -> None:
        is_open = True
        while is_open:
            batch = self._next()
            is_open = None not in batch
            entries = [one for one in batch if isinstance(one, Entry)]
            try:
                self._write(entries)
                if used := [one for one in batch if isinstance(one, int)]:
                    self._tokens.used(used)
            except StorageError as error:
                _log.error("the audit log cannot be written: %s", error)
                for entry in entries:  # then at least the service's log has them
                    _log.error("not in the audit log: %s", entry)

    def _next(self) -> list[Entry | int | None]:
        """Return what has come, some time after the first: whoever waited for each would be woken by each request."""
        first = self._queue.get()
        self._ends.wait(COLLECT_S)
        return [first, *(self._queue.get() for _ in range(self._queue.qsize()))]

    def _write(self, entries: list[Entry]) -> None:
        if entries:
            now = time.monotonic()
            with self._database().write() as connection:
                audit.add(connection, entries)
                if now - self._forgot > _FORGET_S or not self._forgot:
                    self._forgot = now
                    audit.forget_old(connection)
