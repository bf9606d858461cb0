"""Running an iterator in a thread of its own, a little ahead of whoever takes what it gives."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from queue import Empty, SimpleQueue
from types import TracebackType
from typing import Generic, Self, TypeVar

from cloudmesh.storage.pool import GRACE_S, join

T = TypeVar("T")

PATIENCE_S = 0.005
"""How long to wait for the next item before saying that it is not known yet."""

_MAX_WAIT_S = 1.0


class _End:
    """The iterator has ended, or ended with ``error``."""

    def __init__(self, error: BaseException | None = None) -> None:
        self.error = error


class Handover(Generic[T]):
    """A bounded way from one thread to another: one puts, the other iterates.

    Args:
        limit: items that may wait to be taken, or their weight together.
        weight: of an item.
    """

    def __init__(self, limit: int, weight: Callable[[T], int] = lambda item: 1) -> None:
        self._limit = limit
        self._weight = weight
        # each is changed by one of the two threads only
        self._given = self._taken = 0
        self._queue: SimpleQueue[T | _End] = SimpleQueue()
        self._room = threading.Event()
        self._refused = False

    def put(self, item: T) -> bool:
        """Hand an item over, once there is room; return False where nobody takes any more."""
        self._given += self._weight(item)
        self._queue.put(item)
        while self._given - self._taken >= self._limit and not self._refused:
            self._room.clear()
            if self._given - self._taken >= self._limit:  # not taken since: there will be a signal
                self._room.wait(_MAX_WAIT_S)
        return not self._refused

    def end(self, error: BaseException | None = None) -> None:
        """Say that nothing more comes, or that this went wrong."""
        self._queue.put(_End(error))

    def refuse(self) -> None:
        """Say that nothing more is taken."""
        self._refused = True
        self._room.set()

    def __iter__(self) -> Iterator[T | None]:
        """Yield the items, and None where the next one is not there yet; raise what went wrong."""
        while True:
            try:
                item = self._queue.get(timeout=PATIENCE_S)
            except Empty:
                yield None
                continue
            if isinstance(item, _End):
                if item.error is not None:
                    raise item.error
                return
            self._taken += self._weight(item)
            if not self._room.is_set() and self._given - self._taken <= self._limit // 2:
                self._room.set()
            yield item


class Ahead(Generic[T]):
    """What an iterator gives, made in a thread; a context manager that ends the thread.

    Args:
        items: iterated, and in the end closed, in the thread.
        limit: items that may wait to be taken.
        bundle: items handed over together, where they come fast enough: waking a thread costs more than making an item.
    """

    def __init__(self, items: Iterable[T], limit: int, bundle: int = 1) -> None:
        self._items = items
        self._bundle = bundle
        self._handover: Handover[list[T]] = Handover(max(1, limit // bundle))
        self._thread = threading.Thread(target=self._run, name="ahead", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._handover.refuse()
        # after an interruption it may still wait for an answer of a service: then it ends with the process
        join([self._thread], None if kind is None or issubclass(kind, Exception) else GRACE_S)

    def __iter__(self) -> Iterator[T | None]:
        """Yield the items, and None where the next one is not there yet; raise what the iterator raised."""
        for bundle in self._handover:
            if bundle is None:
                yield None
            else:
                yield from bundle

    def _run(self) -> None:
        failure: BaseException | None = None
        items = iter(self._items)
        bundle: list[T] = []
        try:
            began = time.monotonic()
            for item in items:
                bundle.append(item)
                if len(bundle) >= self._bundle or time.monotonic() - began > PATIENCE_S:
                    if not self._handover.put(bundle):
                        break
                    bundle = []
                    began = time.monotonic()
        except BaseException as error:  # goes on in the taker's thread
            failure = error
        finally:
            if bundle:
                self._handover.put(bundle)
            with suppress(Exception):
                close = getattr(items, "close", None)
                if close is not None:
                    close()
            self._handover.end(failure)
