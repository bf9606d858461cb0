"""Threads that do the steps of a run; none of them keeps an interrupted process from ending."""

from __future__ import annotations

import threading
from collections.abc import Callable
from queue import SimpleQueue
from typing import Generic, TypeVar

from cloudmesh.storage.pool import GRACE_S, join

T = TypeVar("T")


class Threads(Generic[T]):
    """Threads that do one kind of work, begun as they are needed.

    They are daemons: after an interruption one that hangs in a call is left alone and ends with the process, which
    those of the standard library's executors would keep alive.

    Args:
        count: at most.
        work: called with each task; it raises nothing.
    """

    def __init__(self, count: int, work: Callable[[T], None]) -> None:
        self._count = count
        self._work = work
        self._todo: SimpleQueue[T | None] = SimpleQueue()
        self._threads: list[threading.Thread] = []
        self._given_up = False

    def submit(self, task: T) -> None:
        """Hand a task over."""
        self._todo.put(task)
        if len(self._threads) < self._count:
            self._threads.append(threading.Thread(target=self._serve, name="transfer", daemon=True))
            self._threads[-1].start()

    def finish(self) -> None:
        """Wait until every task is done; nothing is submitted afterwards."""
        self._end()
        join(self._threads)

    def give_up(self) -> None:
        """Drop what was not begun, and wait no longer than `GRACE_S` for what was."""
        self._given_up = True
        self._end()
        join(self._threads, GRACE_S)

    def _end(self) -> None:
        for _ in self._threads:
            self._todo.put(None)

    def _serve(self) -> None:
        while (task := self._todo.get()) is not None and not self._given_up:
            self._work(task)
