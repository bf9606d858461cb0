"""Noticing that a service gives nothing any more, long before its connection is given up."""

from __future__ import annotations

import threading
import time
from collections.abc import Generator, Iterable, Iterator
from contextlib import closing
from typing import Any, TypeVar

from cloudmesh.storage.abc import Entry, Loaded, Reader, ReadRequest, StorageABC
from cloudmesh.storage.errors import StorageError, Unavailable
from cloudmesh.storage.layers import Layer, Limit, find_layer
from cloudmesh.storage.transfer.ahead import Handover
from cloudmesh.vdir.guard import Guarded

STALL_S = 10.0
"""After so many seconds without a byte another replica is read, where there is one."""

_WAITING = 2
"""Pieces that were read and wait to be taken."""

T = TypeVar("T")


def can_stall(service: StorageABC) -> bool:
    """Tell whether a pause of a service tells anything: not on the local disk, nor where a rate of the user's holds."""
    if service.immediate:
        return False
    while isinstance(service, Layer):
        if isinstance(service, Limit) and service.delays:
            return False
        service = service.inner
    return True


def unless_it_stalls(
    items: Generator[T, None, None], service: StorageABC, subject: str, patience: float | None = None
) -> Generator[T, None, None]:
    """Yield what reading a service gives, run in a thread, as long as it does not keep us waiting.

    No library's read can be left from outside. The thread of one that stalls ends when its provider gives up, and holds
    none of the items until then: all were taken.

    Raises:
        Unavailable: nothing came for ``patience`` seconds (`STALL_S` where None), or for the service's own read timeout
            where that is shorter.
    """
    handover: Handover[T] = Handover(_WAITING)
    patience = min(STALL_S if patience is None else patience, service.settings.timeouts.read)

    def run() -> None:
        failure: BaseException | None = None
        try:
            with closing(items):
                for item in items:
                    if not handover.put(item):
                        break
        except BaseException as error:  # goes on in the reader's thread
            failure = error
        handover.end(failure)

    threading.Thread(target=run, name="reading", daemon=True).start()
    begin = time.monotonic()
    try:
        for item in handover:
            if item is not None:
                yield item
                begin = time.monotonic()
            elif time.monotonic() - begin > patience:
                error = Unavailable(subject, f"it has given nothing for {patience:g} s")
                guard = find_layer(service, Guarded)
                if guard is not None:
                    guard.failed(error)
                raise error
    finally:
        handover.refuse()


def open_watched(
    service: StorageABC,
    path: str,
    patience: float | None,
    *,
    start: int = 0,
    length: int | None = None,
    if_match: str | None = None,
) -> Reader:
    """Open a file as `StorageABC.open_read` does, and read it only as long as it does not keep us waiting.

    Args:
        service: where it is.
        path: of the file.
        patience: seconds to wait for each piece, and for the first answer; None = the service's own retries decide.
        start: as of ``open_read``.
        length: likewise.
        if_match: likewise.

    Raises:
        Unavailable: as `unless_it_stalls`.
    """
    if patience is None or not can_stall(service):
        return service.open_read(path, start=start, length=length, if_match=if_match)

    def opened() -> Generator[Any, None, None]:
        with service.open_read(path, start=start, length=length, if_match=if_match) as reader:
            yield reader.entry
            yield from reader

    given = unless_it_stalls(opened(), service, service.location(path), patience)
    entry: Entry = next(given)
    return Reader(entry, given)


class Watched(Layer):
    """A service that is not waited for when it stalls in a batch: what is left of it then fails at once."""

    def read_many(self, requests: Iterable[ReadRequest | None]) -> Iterator[tuple[ReadRequest, Loaded | StorageError]]:
        """See `StorageABC.read_many`; ``requests`` are read in a thread."""
        remaining = iter(requests)
        under_way: dict[int, ReadRequest] = {}
        lock = threading.Lock()
        given_up = False

        def wanted() -> Iterator[ReadRequest | None]:
            while True:
                with lock:
                    if given_up:
                        return
                    try:
                        request = next(remaining)
                    except StopIteration:
                        return
                    if request is not None:
                        under_way[id(request)] = request
                yield request

        def answers() -> Generator[tuple[ReadRequest, Loaded | StorageError], None, None]:
            yield from self.inner.read_many(wanted())

        try:
            for request, answer in unless_it_stalls(answers(), self.inner, self.name):
                del under_way[id(request)]
                yield request, answer
        except Unavailable as error:
            with lock:
                given_up = True
            for left in (*under_way.values(), *remaining):
                if left is not None:
                    yield left, error
