"""When files were modified, asked for where a listing does not tell and an answer could change what is concerned."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress

from cloudmesh.storage.abc import Entry, StorageABC
from cloudmesh.storage.errors import StorageError

_AHEAD = 4
"""Entries for each thread that are taken from the listing before the answers about those before them have come."""


def with_ages(
    service: StorageABC, entries: Iterator[Entry], since_ns: int, concerns: Callable[[Entry], bool]
) -> Iterator[Entry]:
    """Yield the entries of a listing in their order, with the modification time where that decides about them.

    A file that the service stored before that moment was not modified later, so nothing is asked about it; nor where
    the service keeps no modification times. One that cannot be asked about stays as it was listed.

    Args:
        service: that of the listing.
        entries: the listing.
        since_ns: the moment, in ns since the epoch.
        concerns: tells, by what is known so far, whether an answer is worth its request.
    """
    facts = service.capabilities
    if facts.scan_mtime or facts.mtime_precision_ns is None:
        yield from entries
        return

    def is_open(entry: Entry) -> bool:
        stored_ns = entry.changed_ns
        if entry.is_directory or entry.mtime_ns is not None or (stored_ns is not None and stored_ns < since_ns):
            return False
        return concerns(entry)

    def asked(entry: Entry) -> Entry:
        with suppress(StorageError):  # whoever reads it learns what is wrong
            return entry._replace(mtime_ns=service.stat(entry.path).mtime_ns)
        return entry

    threads = service.settings.parallel
    waiting: deque[Entry | Future[Entry]] = deque()
    pool = ThreadPoolExecutor(threads, "ages")
    try:
        for entry in entries:
            waiting.append(pool.submit(asked, entry) if is_open(entry) else entry)
            while waiting and (len(waiting) > _AHEAD * threads or isinstance(waiting[0], Entry)):
                yield _ready(waiting.popleft())
        while waiting:
            yield _ready(waiting.popleft())
    finally:
        pool.shutdown(wait=False, cancel_futures=True)


def _ready(entry: Entry | Future[Entry]) -> Entry:
    return entry if isinstance(entry, Entry) else entry.result()
