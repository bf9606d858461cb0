"""Deadlines for calls into libssh, which waits without limit in places.

A server may accept the connection and then say nothing, or never open the window. One thread shuts the socket down of
each session whose deadline has passed; libssh then fails at once.
"""

from __future__ import annotations

import os
import threading
import time
import weakref
from typing import Protocol


class Watched(Protocol):
    """What calls under a deadline."""

    deadline: float | None
    """`time.monotonic` at which the call under way must have ended; None where there is none."""

    def cut(self) -> None:
        """End the call, for the deadline has passed."""

    def abandon(self) -> None:
        """Let go of what belongs to the parent of this forked process."""


class Watchdog:
    """Cuts the connections whose deadline has passed."""

    def __init__(self) -> None:
        self._sessions: weakref.WeakSet[Watched] = weakref.WeakSet()
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None

    def add(self, session: Watched) -> None:
        with self._lock:
            self._sessions.add(session)
            if self._thread is None or not self._thread.is_alive():
                self._thread = threading.Thread(target=self._watch, name="sftp-watchdog", daemon=True)
                self._thread.start()

    def _watch(self) -> None:
        while True:
            time.sleep(0.25)
            with self._lock:
                sessions = list(self._sessions)
            now = time.monotonic()
            for session in sessions:
                deadline = session.deadline
                if deadline is not None and now > deadline:
                    session.cut()
            del sessions

    def after_fork(self) -> None:
        self._lock = threading.Lock()
        self._thread = None
        for session in list(self._sessions):
            session.abandon()
        self._sessions = weakref.WeakSet()


watchdog = Watchdog()
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=lambda: watchdog.after_fork())
