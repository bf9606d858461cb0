"""Comparing what the catalogue says of replicas with what the services say, from listings rather than file by file."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from cloudmesh.storage import paths
from cloudmesh.storage.abc import Entry, StorageABC
from cloudmesh.storage.errors import (
    AuthenticationFailed,
    ConfigError,
    NotADirectory,
    NotFound,
    RateLimited,
    StorageError,
    Unavailable,
)
from cloudmesh.storage.paths import Location
from cloudmesh.storage.pool import run_parallel
from cloudmesh.vdir.claiming import claimed, claiming
from cloudmesh.vdir.claims import Claims
from cloudmesh.vdir.clocks import Clocks, was_touched
from cloudmesh.vdir.copies import is_as_seen
from cloudmesh.vdir.lookup import chunks
from cloudmesh.vdir.nodes import Files, Node, Replica, State
from cloudmesh.vdir.sources import Source, sha256_of
from cloudmesh.vdir.work import BATCH, Work

_LIST_FROM = 4
"""From so many files in one directory on, listing it is cheaper than asking for each."""

_OPEN_LISTINGS = 8
"""Directory listings of a service kept open, for directories whose files are asked for in several batches."""

_AT_ONCE = 8
"""Services that are listed at the same time."""

GONE = "nothing at all is there any more: is it the right place, and mounted?"


@dataclass(frozen=True, slots=True)
class Found:
    """A replica as it is now.

    Attributes:
        node: the name.
        known: as the catalogue had it.
        now: with the state that the service's answer means.
        error: why the service could not be asked; then ``now`` is as ``known``.
    """

    node: Node
    known: Replica
    now: Replica
    error: str = ""

    @property
    def name(self) -> str:
        """The replica as a person names it."""
        return f"/{self.node.path} on {self.known.service}"

    @property
    def changed(self) -> bool:
        """Whether the catalogue must learn something."""
        return (self.now.state, self.now.version, self.now.etag) != (
            self.known.state,
            self.known.version,
            self.known.etag,
        )


class Inspector:
    """Asks services about replicas.

    Args:
        work: opens the services.
        believe: a service on which nothing at all is left has lost its files; else it is taken for one that is away.

    Attributes:
        failed: services that cannot be asked, with why; they are not asked again.
    """

    def __init__(self, work: Work, *, believe: bool = False) -> None:
        self._work = work
        self._believe = believe
        self._listings: dict[str, dict[str, _Listing]] = {}
        self.failed: dict[str, str] = {}
        self._clocks = Clocks(work, exact=False)

    def inspect(self, files: Sequence[tuple[Node, tuple[Replica, ...]]]) -> list[tuple[Node, list[Found]]]:
        """Return, for each file of a batch, how its replicas are now.

        A service that cannot be asked is not asked again, and none of its replicas is declared bad. That a file is not
        there is believed only where the listing and the question for this one file say so.
        """
        listed = self.listed(
            [Location(one.service, one.path) for _, each in files for one in each if one.state != "deleting"]
        )
        questions = [
            _Question(place, node, replica, listed.get(Location(replica.service, replica.path)))
            for place, (node, replicas) in enumerate(files)
            for replica in replicas
        ]
        found: list[list[Found]] = [[] for _ in files]
        open_questions: list[_Question] = []
        for question in questions:
            if (now := self._unchanged(question)) is None:
                open_questions.append(question)
            else:
                found[question.place].append(Found(question.node, question.replica, now))
        threads = self._work.threads({question.replica.service for question in open_questions})
        for question, result in run_parallel(self._look, open_questions, threads):
            node, replica = question.node, question.replica
            if not isinstance(result, StorageError):
                found[question.place].append(Found(node, replica, result))
                continue
            found[question.place].append(Found(node, replica, replica, str(result)))
            self.remember(replica.service, result)
        self._doubt(found)
        for each in found:
            each.sort(key=lambda one: one.known.service)
        return [(node, each) for (node, _), each in zip(files, found, strict=True)]

    def listed(self, files: Sequence[Location]) -> dict[Location, Entry]:
        """Return what listings say of files, several services at once, where making them pays.

        Args:
            files: those of a service in about the order of listings, over all calls.
        """
        sizes = Counter((one.service, paths.parent(one.path)) for one in files)
        worth: dict[str, list[Location]] = {}
        for one in files:
            if sizes[one.service, paths.parent(one.path)] >= _LIST_FROM:
                worth.setdefault(one.service, []).append(one)
        remote = sum(self._work.knowledge.kinds.get(one) != "local" for one in worth)
        found: dict[Location, Entry] = {}
        for _, entries in run_parallel(
            lambda name: {one: self._listed(one) for one in worth[name]},
            worth,
            max(1, min(remote, _AT_ONCE)),
        ):
            if not isinstance(entries, StorageError):
                found |= {place: entry for place, entry in entries.items() if entry is not None}
        return found

    def _listed(self, file: Location) -> Entry | None:
        """Return what a listing of the file's directory says, where it has the file; one thread a service."""
        if file.service in self.failed:
            return None
        directory = paths.parent(file.path)
        listings = self._listings.setdefault(file.service, {})
        try:
            if directory not in listings:
                while len(listings) >= _OPEN_LISTINGS:
                    del listings[next(iter(listings))]
                listings[directory] = _Listing(self._work.open(file.service).scan(directory))
            return listings[directory].find(file.path)
        except (NotFound, NotADirectory):
            return None
        except StorageError as error:
            listings.pop(directory, None)
            self.remember(file.service, error)
            return None

    def _unchanged(self, question: _Question) -> Replica | None:
        """Return a replica that a listing shows to be as it was; None where that has to be asked."""
        replica, entry = question.replica, question.listed
        if entry is None:
            return None
        service = self._work.open(replica.service)
        if not _is_unchanged(service, replica, entry):
            return None
        return self._vouched(service, replica, entry, _seen(question.node, replica))

    def _look(self, question: _Question) -> Replica:
        replica = question.replica
        if replica.state == "deleting":  # a removal that died halfway: whether the file is there changes nothing
            return replica
        if replica.service in self.failed:
            raise StorageError("", self.failed[replica.service])
        service = self._work.open(replica.service)
        try:
            entry = question.listed or service.stat(replica.path)
            return self._vouched(service, replica, entry, judged(service, question.node, replica, entry))
        except (NotFound, NotADirectory):
            return replace(replica, state="missing", checked_ns=time.time_ns())

    def _vouched(self, service: StorageABC, known: Replica, entry: Entry, now: Replica) -> Replica:
        """Return a replica as it is now; as not looked at, where that cannot tell a second write from the first."""
        is_sure = self._clocks.has_settled(known.checked_ns, entry, service)
        return now if is_sure else replace(now, checked_ns=known.checked_ns)

    def remember(self, service: str, error: StorageError) -> None:
        """Note that a service cannot be asked, if that is what an error means."""
        if isinstance(error, (Unavailable, RateLimited, AuthenticationFailed, ConfigError)):
            self.failed.setdefault(service, str(error))

    def _doubt(self, found: list[list[Found]]) -> None:
        """Take back that files are missing, where all of them are and the service is empty."""
        if self._believe:
            return
        seen = [one for each in found for one in each if one.known.state == "available" and not one.error]
        missing = {one.known.service for one in seen if one.now.state == "missing"}
        there = {one.known.service for one in seen if one.now.state != "missing"}
        for name in missing:
            if name in there or not self._work.is_empty(name):
                continue
            self.failed[name] = f"{name}: {GONE}"
            for each in found:
                each[:] = [
                    Found(one.node, one.known, one.known, self.failed[name]) if one.known.service == name else one
                    for one in each
                ]


def inspect(files: Files, work: Work) -> Iterator[tuple[Node, list[Found]]]:
    """Ask the services about all replicas, and yield those of one file at a time.

    Args:
        files: with what the catalogue knows of their replicas.
        work: the catalogue and the services.
    """
    inspector = Inspector(work)
    with claiming(work, "vdir status --check") as claims:
        for batch in chunks(files, BATCH):
            found = inspector.inspect(batch)
            changed = [one for _, each in found for one in each if one.changed]
            if changed:
                _write_down(changed, claims, work)
            yield from found


def _write_down(changed: Sequence[Found], claims: Claims, work: Work) -> None:
    """Tell the catalogue how replicas are, where nobody has changed them since."""
    with claimed({one.node.id: one.node for one in changed}.values(), claims, work) as now:
        as_known = {(node.id, one.service): one for node, replicas in now.files.values() for one in replicas}
        work.catalogue.update_replicas(
            replace(one.now, entry_id=one.node.id)
            for one in changed
            if as_known.get((one.node.id, one.known.service)) == replace(one.known, entry_id=one.node.id)
        )


@dataclass(frozen=True, slots=True)
class _Question:
    """A replica to be looked at: which file of the batch it belongs to, and what a listing said."""

    place: int
    node: Node
    replica: Replica
    listed: Entry | None


class _Listing:
    """The listing of one directory as a stream, read along with files that are asked for in about its order."""

    def __init__(self, entries: Iterator[Entry]) -> None:
        self._entries = entries
        self._here: Entry | None = None
        self._passed = b""
        self._ended = False

    def find(self, path: str) -> Entry | None:
        """Return the file, or None where it is not there or was passed by already."""
        key = paths.sort_key(path, False)
        if key < self._passed:
            return None
        self._passed = key
        while not self._ended and (self._here is None or self._here.sort_key < key):
            self._here = next(self._entries, None)
            self._ended = self._here is None
        return self._here if self._here is not None and self._here.path == path else None


def _is_unchanged(service: StorageABC, replica: Replica, entry: Entry) -> bool:
    """Tell whether a replica that was whole is the file that we saw last."""
    seen = _was_whole(replica) and is_as_seen(replica, entry)
    return seen and not was_touched(replica.checked_ns, entry, service)


def _was_whole(replica: Replica) -> bool:
    return replica.state in ("available", "stale") and replica.version > 0


def _seen(node: Node, replica: Replica) -> Replica:
    state: State = "available" if replica.version == node.version else "stale"
    return replace(replica, state=state, checked_ns=time.time_ns())


def judged(service: StorageABC, node: Node, replica: Replica, entry: Entry) -> Replica:
    """Return a replica with the state that what is there now means.

    It is ``available`` (or ``stale``, where it holds an older version) while it is the file that we saw last, ``stale``
    with version 0 where it was changed by others. A replica that was never finished (``copying``, ``missing``) is the
    right content only where a strong hash or the size and the modification time say so. One is ``bad`` whose bytes were
    read and are wrong although nobody has changed it, by its size and time; it stays so, whatever the service says.

    Raises:
        StorageError: the file had to be read, and could not be.
    """
    if _is_unchanged(service, replica, entry):
        return _seen(node, replica)
    seen = replace(replica, checked_ns=time.time_ns())
    if replica.state == "bad" and is_as_seen(replica, entry):
        return seen
    if entry.is_directory or not _same_facts(service, node, replica, entry):
        if _was_whole(replica) and is_as_seen(replica, entry):
            return replace(seen, state="bad")
        # all else is kept as it was before the change: the time, by which an edit and damage are told apart, too
        return replace(replica, state="stale", version=0)
    return replace(
        seen,
        state="available",
        version=node.version,
        size=entry.size,
        etag=entry.etag,
        mtime_ns=entry.mtime_ns if entry.mtime_ns is not None else replica.mtime_ns,
        mtime_precision_ns=service.capabilities.mtime_precision_ns,
        hashes=entry.hashes or replica.hashes,
        sha256=node.sha256,
    )


def _same_facts(service: StorageABC, node: Node, replica: Replica, entry: Entry) -> bool:
    """Tell whether a file whose token is unknown or has changed surely has the content that the name has."""
    if entry.size != node.size:
        return False
    common = replica.hashes.keys() & entry.hashes.keys() if replica.version == node.version else ()
    if common:
        return all(replica.hashes[name] == entry.hashes[name] for name in common)
    if node.sha256 is not None:
        return sha256_of(Source(service, entry)) == node.sha256
    precision = service.capabilities.mtime_precision_ns
    if entry.mtime_ns is not None and node.mtime_ns is not None and precision is not None:
        return abs(entry.mtime_ns - node.mtime_ns) < max(precision, replica.mtime_precision_ns or 1, 1)
    return False
