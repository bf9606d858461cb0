"""Comparing all replicas below a directory with what their services list, in one pass and with one listing a service.

The catalogue's walk and the listings have one order, so they are merged as streams. Only what is not plainly as it was
goes on, to disk (`spool`). Replicas that do not lie at their name's path are looked for afterwards, each directory in
one listing. Nothing is changed here, nor decided.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import Any, Literal

from cloudmesh.storage import paths
from cloudmesh.storage.abc import Entry, StorageABC
from cloudmesh.storage.errors import ConfigError, NotADirectory, NotFound, StorageError, VaultError
from cloudmesh.storage.pool import run_parallel
from cloudmesh.storage.transfer.ahead import Ahead
from cloudmesh.vdir import intents
from cloudmesh.vdir.clocks import Clocks
from cloudmesh.vdir.copies import is_as_seen
from cloudmesh.vdir.nodes import Node, Replica, replica_of
from cloudmesh.vdir.records import is_good
from cloudmesh.vdir.spool import Seen, Spool, Wanted, mark
from cloudmesh.vdir.work import Work

_LIST_FROM = 4
"""From so many files in one directory on, listing it is cheaper than asking for each."""

_AHEAD = 4000
_BUNDLE = 200
"""Entries of a listing that wait to be compared, and those handed over together."""


@dataclass(slots=True)
class ServiceCount:
    """What was seen of a service.

    Attributes:
        known: replicas that the catalogue has as good.
        missing: those of them that are not there.
        listed: whether anything at all was listed.
    """

    known: int = 0
    missing: int = 0
    listed: bool = False


@dataclass(slots=True)
class Detection:
    """What a look at all services has found, beside what the spool holds.

    Attributes:
        files: names that were compared.
        unchanged: replicas that are as they should be.
        services: by name.
        failed: services that could not be asked, with the first error.
    """

    files: int = 0
    unchanged: int = 0
    services: dict[str, ServiceCount] = field(default_factory=dict)
    failed: dict[str, StorageError] = field(default_factory=dict)

    def count(self, service: str) -> ServiceCount:
        """Return the counts of a service."""
        if service not in self.services:
            self.services[service] = ServiceCount()
        return self.services[service]


def detect(scope: Node, work: Work, spool: Spool, clocks: Clocks) -> Detection:
    """Compare what the catalogue has at and below a name with what is there.

    Args:
        scope: a file or directory.
        work: the catalogue and the services.
        spool: takes what is not plainly as it was.
        clocks: of the services.
    """
    found = Detection()
    pending = intents.concerned(work.catalogue.database)
    with ExitStack() as stack:
        if scope.is_directory:
            names = [one.service for one in work.catalogue.totals(scope.path).services]
            listings = _Listings(names, scope.path, work, spool, found, stack, clocks)
            nodes: Iterable[Node] = work.catalogue.walk(scope.path)
        else:
            listings = _Listings((), "", work, spool, found, stack, clocks)
            nodes = [scope]
        for node, rows in work.catalogue.with_rows(nodes):
            if work.stop():  # nobody will act on it
                return found
            if not node.is_directory:
                found.files += 1
                if rows and node.id not in pending and listings.are_plain(node, rows):
                    found.unchanged += len(rows)
                else:
                    _compare(node, tuple(map(replica_of, rows)), listings, pending, spool, found)
        listings.finish()
    for service, directory, files in spool.directories():
        if service not in found.failed:
            _look_elsewhere(service, directory, files, work, spool, found, clocks)
    found.unchanged += spool.settled()
    return found


def _compare(
    node: Node, replicas: tuple[Replica, ...], listings: _Listings, pending: set[int], spool: Spool, found: Detection
) -> None:
    key = node.sort_key
    looks: list[tuple[Replica, Entry | None, bool]] = []
    elsewhere: list[Replica] = []
    doubtful = not replicas or node.id in pending
    for one in replicas:
        known = is_good(node, one)
        expected = known or _was_lost(node, one)
        entry = listings.find(one.service, one.path, key) if one.path == node.path else "elsewhere"
        if entry == "elsewhere":
            elsewhere.append(one)
            spool.add_elsewhere(node, one, expected)
            doubtful = doubtful or not known
        elif entry != "away":
            looks.append((one, entry, known and entry is not None and listings.is_same(one, entry)))
            if expected:
                found.count(one.service).known += 1
                found.count(one.service).missing += entry is None
    if not (doubtful or elsewhere) and all(plain for _, _, plain in looks):
        found.unchanged += len(looks)
        return
    spool.add_file(node, doubtful)
    for one, entry, plain in looks:
        marked = mark(one)
        spool.add_seen(node.id, one.service, Seen(marked, entry, plain))
        if entry is None and (is_good(node, one) or _was_lost(node, one)):
            spool.add_lost(node.id, one, one.sha256 or node.sha256, marked)


def _was_lost(node: Node, replica: Replica) -> bool:
    """Tell whether a good replica was found missing by whoever looked before, which decides nothing."""
    was_whole = replica.etag is not None or replica.sha256 is not None
    return replica.state == "missing" and replica.version == node.version and was_whole


def _look_elsewhere(
    service: str, directory: str, files: int, work: Work, spool: Spool, found: Detection, clocks: Clocks
) -> None:
    """Look for the replicas that are known to lie in a directory of a service."""
    wanted = spool.elsewhere(service, directory)
    count = found.count(service)
    try:
        storage = work.open(service)
        if files < _LIST_FROM:
            looks = _asked(list(wanted), storage, work)
        else:
            looks = _listed(wanted, _Listing(_scanned(storage, directory, recursive=False), lambda entry: None))
        for one, entry in looks:
            count.known += one.known
            count.missing += one.known and entry is None
            count.listed = count.listed or entry is not None
            plain = one.known and entry is not None and _is_same(one.replica, entry, storage, clocks)
            spool.add_seen(one.entry_id, service, Seen(one.mark, entry, plain))
            if entry is None and one.known:
                spool.add_lost(one.entry_id, one.replica, one.replica.sha256, one.mark)
    except VaultError:
        raise
    except StorageError as error:
        found.failed.setdefault(service, error)


def _listed(wanted: Iterable[Wanted], listing: _Listing) -> Iterator[tuple[Wanted, Entry | None]]:
    for one in wanted:
        yield one, listing.find(paths.sort_key(one.replica.path, False), one.replica.path)


def _asked(wanted: Iterable[Wanted], storage: StorageABC, work: Work) -> Iterator[tuple[Wanted, Entry | None]]:
    def look(one: Wanted) -> Entry | None:
        try:
            return storage.stat(one.replica.path)
        except (NotFound, NotADirectory):
            return None

    for one, entry in run_parallel(look, wanted, work.threads({storage.name})):
        if isinstance(entry, StorageError):
            raise entry
        yield one, entry


class _Listings:
    """The listings of one directory by all services, read along with the names in it."""

    def __init__(
        self,
        services: Iterable[str],
        directory: str,
        work: Work,
        spool: Spool,
        found: Detection,
        stack: ExitStack,
        clocks: Clocks,
    ) -> None:
        self._found = found
        self._clocks = clocks
        self._listings: dict[str, _Listing] = {}
        self._services: dict[str, StorageABC] = {}
        for name in dict.fromkeys(services):
            try:
                service = work.open(name)
            except VaultError:
                raise
            except ConfigError as error:
                found.failed[name] = error
                continue
            self._services[name] = service
            entries: Iterable[Entry | None] = _scanned(service, directory, recursive=True)
            if not service.immediate:
                entries = stack.enter_context(Ahead(_scanned(service, directory, recursive=True), _AHEAD, _BUNDLE))
            self._listings[name] = _Listing(entries, _noting(spool, name))

    def are_plain(self, node: Node, rows: Sequence[Any]) -> bool:
        """Tell whether the replicas of a file, as `replica_of` reads them, all are good, and plainly as they were.

        This is how nearly all files are passed by, so no object is made of a row. It says no to a replica of which a
        closer look (`is_same`) may say yes.
        """
        key = node.sort_key
        for _, service, path, state, size, mtime_ns, _, etag, _, _, version, checked_ns, failures, _ in rows:
            if state != "available" or failures or version != node.version or path != node.path:
                return False
            entry = self.find(service, path, key)
            if not isinstance(entry, Entry) or entry.size != size:
                return False
            tokens = (etag, entry.etag) if None not in (etag, entry.etag) else (mtime_ns, entry.mtime_ns)
            same = tokens[0] == tokens[1] is not None
            if not same or not self._clocks.vouches(checked_ns, entry, self._services[service]):
                return False
        for row in rows:
            self._found.count(row[1]).known += 1
        return True

    def find(self, name: str, path: str, key: bytes) -> Entry | Literal["away", "elsewhere"] | None:
        """Return the file that a service has at a path, None where it is not listed, or why that cannot be told."""
        if name in self._found.failed:
            return "away"
        listing = self._listings.get(name)
        if listing is None:
            return "elsewhere"
        try:
            return listing.find(key, path)
        except StorageError as error:
            return self._fail(name, error)

    def is_same(self, replica: Replica, entry: Entry) -> bool:
        """Tell whether a replica surely is the file that was seen last."""
        return _is_same(replica, entry, self._services[replica.service], self._clocks)

    def finish(self) -> None:
        """Read the listings to their ends."""
        for name, listing in self._listings.items():
            if name not in self._found.failed:
                try:
                    listing.finish()
                except StorageError as error:
                    self._fail(name, error)
            self._found.count(name).listed = listing.listed

    def _fail(self, name: str, error: StorageError) -> Literal["away"]:
        self._found.failed[name] = error
        return "away"


def _is_same(replica: Replica, entry: Entry, service: StorageABC, clocks: Clocks) -> bool:
    # one whose last reading failed, or gave wrong bytes, is read, whatever its size and time are
    return not replica.failures and is_as_seen(replica, entry) and clocks.vouches(replica.checked_ns, entry, service)


def _noting(spool: Spool, service: str) -> Callable[[Entry], None]:
    return lambda entry: spool.add_extra(service, entry)


def _scanned(service: StorageABC, directory: str, *, recursive: bool) -> Iterator[Entry]:
    """List a directory; one that is not there is empty."""
    try:
        yield from service.scan(directory, recursive=recursive)
    except (NotFound, NotADirectory):
        return


class _Listing:
    """A listing as a stream, read along with files that are asked for in its order.

    Args:
        entries: sorted by `paths.sort_key`; None among them = the next one is not there yet.
        passed: is told of the files that were not asked for.

    Attributes:
        listed: whether it holds anything.
    """

    def __init__(self, entries: Iterable[Entry | None], passed: Callable[[Entry], None]) -> None:
        self._entries = iter(entries)
        self._passed = passed
        self._here: Entry | None = None
        self._key = b""
        self._taken = False
        self.listed = False

    def find(self, key: bytes, path: str) -> Entry | None:
        """Return the file at ``path``, whose sort key is ``key``; None where it is not there."""
        while self._key < key and self._advance():
            pass
        if self._here is not None and self._here.path == path and not self._here.is_directory:
            self._taken = True
            return self._here
        return None

    def finish(self) -> None:
        """Read to the end."""
        while self._advance():
            pass

    def _advance(self) -> bool:
        if self._here is not None and not self._taken and not self._here.is_directory:
            self._passed(self._here)
        self._taken = False
        for entry in self._entries:
            if entry is not None:
                self._here, self._key, self.listed = entry, entry.sort_key, True
                return True
        self._here = None
        return False
