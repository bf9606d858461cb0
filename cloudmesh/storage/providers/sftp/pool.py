"""Connections kept for the next call: opened when needed, at most so many, each used by one thread at a time."""

from __future__ import annotations

import os
import threading
import time
from collections import Counter
from collections.abc import Callable
from typing import Generic, Protocol, TypeVar

from cloudmesh.storage.errors import Unavailable

HANDSHAKES = 4
"""Connections that are being opened at once; OpenSSH drops some when ten wait to log in (MaxStartups)."""


class Pooled(Protocol):
    """What a pool can hold."""

    def is_usable(self) -> bool:
        """Tell whether an idle connection can be used, without asking the server."""

    def close(self) -> None:
        """Close it; safe to call twice."""


T = TypeVar("T", bound=Pooled)


class Lease(Generic[T]):
    """A connection taken from a pool; give it back with `release`, or `discard` it. Either may be called again."""

    def __init__(self, pool: Pool[T], item: T) -> None:
        self.item = item
        self.thread = threading.get_ident()
        self._pool: Pool[T] | None = pool

    @property
    def is_held(self) -> bool:
        """Whether it was not given back yet."""
        return self._pool is not None

    def __del__(self) -> None:
        # A reader that was neither read nor closed.
        self.discard(broken=False)

    def release(self) -> None:
        """Give the connection back, in order to be used again."""
        pool, self._pool = self._pool, None
        if pool is not None:
            pool._take_back(self, usable=True, broken=False)

    def discard(self, *, broken: bool = True) -> None:
        """Give the connection back to be closed; where it is ``broken`` the idle ones are closed too."""
        pool, self._pool = self._pool, None
        if pool is not None:
            pool._take_back(self, usable=False, broken=broken)


class Pool(Generic[T]):
    """At most ``limit`` connections made by ``connect``.

    A thread that holds a connection already (it reads one file of the service in order to write another) gets a
    second one beyond the limit at once: whoever holds never waits, so that no two can wait for each other.

    Args:
        subject: the service's name, for errors.
        connect: opens one.
        limit: how many may be open at once.
        patience: seconds that a call waits for a free one.
    """

    def __init__(self, subject: str, connect: Callable[[], T], limit: int, patience: float) -> None:
        self._subject = subject
        self._connect = connect
        self._limit = max(1, limit)
        self._patience = patience
        self._reset()

    def _reset(self) -> None:
        self._pid = os.getpid()
        self._changed = threading.Condition()
        self._handshakes = threading.BoundedSemaphore(HANDSHAKES)
        self._idle: list[T] = []
        self._held: Counter[int] = Counter()
        self._used = 0
        self._closed = False

    def lease(self) -> Lease[T]:
        """Take an idle connection or open one.

        Raises:
            Unavailable: none became free; or what ``connect`` raises.
        """
        if self._pid != os.getpid():
            # A forked child: the connections are its parent's.
            self._reset()
        me = threading.get_ident()
        deadline = time.monotonic() + self._patience
        with self._changed:
            while self._used >= self._limit and not self._held[me]:
                if not self._changed.wait(deadline - time.monotonic()):
                    raise Unavailable(self._subject, f"all {self._limit} connections are in use")
            self._used += 1
            self._held[me] += 1
            item = self._idle.pop() if self._idle else None
        try:
            while item is not None and not item.is_usable():
                item.close()
                with self._changed:
                    item = self._idle.pop() if self._idle else None
            if item is None:
                with self._handshakes:
                    item = self._connect()
        except BaseException:
            self._give_up(me)
            raise
        return Lease(self, item)

    def close(self) -> None:
        """Close the idle connections now and each of the others when it is given back."""
        if self._pid != os.getpid():
            self._reset()
        with self._changed:
            self._closed = True
            idle, self._idle = self._idle, []
        for item in idle:
            item.close()

    def _take_back(self, lease: Lease[T], *, usable: bool, broken: bool) -> None:
        if self._pid != os.getpid():
            return
        close = []
        with self._changed:
            if broken:
                # What broke one has mostly broken the idle ones too; a retry must not try them one by one.
                close, self._idle = [lease.item, *self._idle], []
            elif not usable or self._closed or self._used > self._limit:
                close = [lease.item]
            else:
                self._idle.append(lease.item)
        for item in close:
            item.close()
        self._give_up(lease.thread)

    def _give_up(self, thread: int) -> None:
        with self._changed:
            self._used -= 1
            self._held[thread] -= 1
            if not self._held[thread]:
                del self._held[thread]
            self._changed.notify()
