"""Lists one directory, or all below it."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import islice

from cloudmesh.storage import paths
from cloudmesh.storage.abc import Entry, OnError, leave_out
from cloudmesh.storage.errors import NotADirectory, NotFound, StorageError
from cloudmesh.storage.paths import HIDDEN
from cloudmesh.storage.providers.webdav.answers import segments_of
from cloudmesh.storage.providers.webdav.multistatus import Response
from cloudmesh.storage.providers.webdav.properties import entry_of_properties
from cloudmesh.storage.providers.webdav.service import Service, Unsettled

_AHEAD = 8
_ATTEMPTS = 4


def scan_below(service: Service, path: str, *, parallel: int, on_error: OnError | None) -> Iterator[Entry]:
    """Yield all that is below ``path``, sorted, with up to ``parallel`` requests at once.

    The next few directories in order are listed meanwhile; no more, so that memory stays bounded.

    Raises:
        as `list_directory`.
    """
    first = list_directory(service, path)
    listings = {path: iter(first)}
    waiting: deque[str] = deque(entry.path for entry in first if entry.is_directory)
    coming: dict[str, Future[list[Entry]]] = {}
    stack = [path]
    pool = ThreadPoolExecutor(min(_AHEAD, max(1, parallel)), "webdav-scan")
    try:
        while stack:
            entry = next(listings[stack[-1]], None)
            if entry is None:
                del listings[stack.pop()]
                continue
            yield entry
            if entry.is_directory:
                for ahead in islice(waiting, _AHEAD):
                    if ahead not in coming:
                        coming[ahead] = pool.submit(_list_if_there, service, ahead)
                waiting.popleft()
                try:
                    entries = coming.pop(entry.path).result()
                except StorageError as error:
                    leave_out(entry, error, on_error)
                    continue
                waiting.extendleft(e.path for e in reversed(entries) if e.is_directory)
                listings[entry.path] = iter(entries)
                stack.append(entry.path)
    finally:
        pool.shutdown(wait=False, cancel_futures=True)


def _list_if_there(service: Service, path: str) -> list[Entry]:
    """List a directory that was seen a moment ago; one that is gone by now holds nothing."""
    try:
        return list_directory(service, path)
    except (NotFound, NotADirectory):
        return []


def list_directory(service: Service, path: str) -> list[Entry]:
    """Return what is in one directory, sorted.

    Raises:
        NotFound, NotADirectory: there is no such directory.
        StorageError: the service refuses.
    """
    for _ in range(_ATTEMPTS - 1):
        # A file that vanishes while it is listed makes some servers answer 500 or break off their XML. The retry
        # layer cannot repeat one directory of a running scan, so that is done here.
        try:
            return _list_once(service, path)
        except Unsettled:
            continue
    return _list_once(service, path)


def _list_once(service: Service, path: str) -> list[Entry]:
    own_mtime = service.server.own_mtime
    subject = service.location(path)
    entries: list[tuple[list[str], Entry]] = []

    def take(response: Response) -> None:
        if response.status not in (None, 200):
            return
        # A proxy may have changed the beginning of an address, so only its last part is taken for true.
        segments = segments_of(response.href)
        name = segments[-1] if segments else ""
        entries.append((segments, entry_of_properties(paths.join(path, name), response.props, own_mtime=own_mtime)))

    answer = service.propfind(service.addresses.of(path) + "/", "1", subject, take)[0]
    if answer.status != 207:
        if answer.status == 404 and not path:
            return []
        if answer.status == 500:
            raise Unsettled(subject, "the service is in trouble (HTTP 500)")
        if service.stat(path).is_directory:
            raise service.error(answer, path)
        raise NotADirectory(subject)
    # The directory itself is among the responses, with the shortest address.
    shortest = min((len(segments) for segments, _ in entries), default=0)
    if any(len(segments) == shortest and not entry.is_directory for segments, entry in entries):
        raise NotADirectory(subject)
    found = [
        entry
        for segments, entry in entries
        if len(segments) == shortest + 1
        and "/" not in segments[-1]
        and not segments[-1].startswith(HIDDEN)
        and segments[-1] not in (".", "..")
    ]
    for segments, entry in entries:
        if len(segments) == shortest + 1:
            service.leftovers.see(entry.path, entry.changed_ns)
    found.sort(key=lambda entry: entry.sort_key)
    return found
