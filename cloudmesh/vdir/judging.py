"""What to think of replicas: from the services' listings, and where that is wanted from all their bytes.

Nothing bad is believed after one look. A file that is not there is asked for once more; wrong bytes are read once more;
and a file that cannot be read counts as a failure of its own only where its service answers all the same.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from cloudmesh.storage.abc import Entry
from cloudmesh.storage.errors import NotADirectory, NotFound, StorageError
from cloudmesh.storage.pool import run_parallel
from cloudmesh.vdir.clocks import Clocks
from cloudmesh.vdir.hashing import Unread, hash_many, hash_one
from cloudmesh.vdir.nodes import Node, Replica
from cloudmesh.vdir.records import is_good
from cloudmesh.vdir.scrub import Found, Inspector, judged
from cloudmesh.vdir.work import Work

LOOKS = 3
"""Readings that have to fail, with none that was right between them, until a replica is bad."""

_MANY = 10
"""Replicas of one service that cannot be read, from which on it is the service that fails."""

_GIVEN_UP = "not looked at, as too many files of the service could not be read"

Hashed = tuple[Found, str | StorageError]
"""A replica with its hash, lower-case hex, or with why it could not be read."""

Outcome = Literal["good", "repaired", "suspicious", "bad", "missing", "stale", "unavailable"]


@dataclass(slots=True)
class Verdict:
    """What to think of one replica.

    Attributes:
        found: how it was known, and how it is.
        outcome: as counted; see `records.ServiceVerified`.
        detail: what is wrong, in words.
        bytes_read: of it.
        unread: whether its bytes were asked for and did not come.
    """

    found: Found
    outcome: Outcome
    detail: str = ""
    bytes_read: int = 0
    unread: bool = False


class Judge:
    """Looks at replicas.

    Args:
        work: opens the services.
        inspector: asks them.
        deep: read all of their bytes; else only of those under suspicion, which nothing else can clear.
    """

    def __init__(self, work: Work, inspector: Inspector, *, deep: bool) -> None:
        self._work = work
        self._deep = deep
        self._inspector = inspector
        self._clocks = Clocks(work, exact=False)
        self._given_up: set[str] = set()

    def look(self, files: Sequence[tuple[Node, tuple[Replica, ...]]]) -> tuple[list[Verdict], list[tuple[Node, str]]]:
        """Return what to think of replicas, and the contents whose SHA-256 was found out, each with it."""
        left = [(node, tuple(one for one in replicas if one.service not in self._given_up)) for node, replicas in files]
        looked = list(self._asked_again([one for _, found in self._inspector.inspect(left) for one in found]))
        verdicts = [_of_listing(one) for one in looked if not self._reads(one)]
        verdicts += [
            Verdict(Found(node, one, one), "unavailable", _GIVEN_UP)
            for node, replicas in files
            for one in replicas
            if one.service in self._given_up
        ]
        read, learnt = self._read([one for one in looked if self._reads(one)])
        return verdicts + read, learnt

    def reads(self, node: Node, replica: Replica) -> bool:
        """Tell whether a replica's bytes will be read, as far as the catalogue knows."""
        if replica.version != node.version:
            return False
        if self._deep:
            return replica.state in ("available", "bad")
        return replica.state == "available" and replica.failures > 0

    def _reads(self, one: Found) -> bool:
        return not one.error and self.reads(one.node, one.now)

    def _asked_again(self, looked: Sequence[Found]) -> Iterator[Found]:
        """Yield what was looked at, with a second answer for what is newly missing."""
        doubted: list[Found] = []
        for one in looked:
            if one.error or one.now.state != "missing" or one.known.state == "missing":
                yield one
            else:
                doubted.append(one)
        for one, result in run_parallel(self._ask, doubted, self._threads(doubted)):
            yield replace(one, now=one.known, error=str(result)) if isinstance(result, StorageError) else result

    def _ask(self, one: Found) -> Found:
        """Ask the service about one replica again, and return how it is."""
        service = self._work.open(one.known.service)
        try:
            return replace(one, now=judged(service, one.node, one.known, service.stat(one.known.path)))
        except (NotFound, NotADirectory):
            return replace(one, now=replace(one.known, state="missing", checked_ns=time.time_ns()))

    def _read(self, found: Sequence[Found]) -> tuple[list[Verdict], list[tuple[Node, str]]]:
        first = [(one.context, result) for one, result in hash_many([*map(_unread, found)], self._work)]
        right = _right(first, of_all=True)
        verdicts = [_right_bytes(one, right[one.node.id]) for one, result in first if result == right[one.node.id]]
        doubted = [one for one, result in first if result != right[one.node.id]]
        second: list[Hashed] = []
        for one, result in run_parallel(self._read_again, doubted, self._threads(doubted)):
            if isinstance(result, StorageError):  # the service does not even tell whether the file is there
                verdicts.append(_of_listing(replace(one, now=one.known, error=str(result))))
            elif self._reads(result[0]):
                second.append(result)
            else:
                verdicts.append(_of_listing(result[0]))
        settled = _right(second, of_all=False)
        right = {key: settled.get(key) if one is None else one for key, one in right.items()}
        judgements = [_of_bytes(one, result, right[one.node.id]) for one, result in second]
        self._doubt(verdicts, judgements)
        verdicts += judgements
        learnt = {
            one.found.node.id: (one.found.node, sha256)
            for one in verdicts
            if one.found.node.sha256 is None and (sha256 := right.get(one.found.node.id)) is not None
        }
        return verdicts, list(learnt.values())

    def _read_again(self, one: Found) -> Hashed:
        """Return how a replica is after all, and where its bytes are still worth reading, their hash or the error."""
        now = self._ask(one)
        if not self._reads(now):
            return now, ""
        try:
            sha256 = hash_one(_unread(now), self._work)
            if one.node.sha256 in (None, sha256) or self._has_settled(now.known):
                return now, sha256
        except StorageError as error:
            return now, error
        # others may have written it in the second in which we saw it: `sync` decides
        return replace(now, now=replace(now.known, state="stale", version=0)), ""

    def _has_settled(self, known: Replica) -> bool:
        service = self._work.open(known.service)
        return self._clocks.has_settled(known.checked_ns, service.stat(known.path), service)

    def _doubt(self, sure: Sequence[Verdict], judgements: Sequence[Verdict]) -> None:
        """Blame the service rather than its files, where many of them cannot be read and fewer can; leave it out."""
        could = Counter(one.found.now.service for one in (*sure, *judgements) if one.bytes_read)
        could_not = Counter(one.found.now.service for one in judgements if one.unread)
        self._given_up |= {name for name, files in could_not.items() if files >= _MANY and files > could[name]}
        for one in judgements:
            if one.unread and one.found.now.service in self._given_up:
                one.found = replace(one.found, now=one.found.known, error=one.detail)
                one.outcome = "unavailable"

    def _threads(self, found: Sequence[Found]) -> int:
        return self._work.threads({one.known.service for one in found})


def _unread(one: Found) -> Unread[Found]:
    return Unread(one.now.service, Entry(one.now.path, size=one.now.size, etag=one.now.etag), one, one.name)


def _right(readings: Iterable[Hashed], *, of_all: bool) -> dict[int, str | None]:
    """Return the SHA-256 that a file's replicas should have, by entry id; None where nothing tells it.

    Where the catalogue does not know it all replicas that could be read have to agree, with ``of_all`` all that there
    are: none is right by majority.
    """
    found: dict[int, set[str | None]] = {}
    for one, result in readings:
        hashes = found.setdefault(one.node.id, set())
        if one.node.sha256 is not None:
            hashes.add(one.node.sha256)
        elif isinstance(result, str):
            hashes.add(result)
        elif of_all:
            hashes.add(None)
    return {key: hashes.pop() if len(hashes) == 1 else None for key, hashes in found.items()}


def _of_listing(one: Found) -> Verdict:
    """Judge a replica by what its service told, without its bytes."""
    if one.error:
        return Verdict(one, "unavailable", one.error)
    if is_good(one.node, one.now):
        return Verdict(one, "good")
    match one.now.state:
        case "missing":
            return Verdict(one, "missing", "it is not there")
        case "bad":
            return Verdict(one, "bad", "its bytes were wrong, or could not be read")
        case "copying":
            return Verdict(one, "stale", "its making was not finished")
        case "deleting":
            return Verdict(one, "stale", "its removal was not finished")
        case _ if one.now.version == 0:
            return Verdict(one, "stale", "it was changed on the service")
        case _:
            return Verdict(one, "stale", "it holds an older content")


def _of_bytes(one: Found, result: str | StorageError, right: str | None) -> Verdict:
    """Judge a replica by its second reading."""
    if isinstance(result, StorageError):
        failures = one.now.failures + 1
        is_bad = failures >= LOOKS or one.now.state == "bad"
        now = replace(one.now, state="bad" if is_bad else one.now.state, failures=failures)
        return Verdict(replace(one, now=now), "bad" if is_bad else "suspicious", str(result), unread=True)
    if result == right:
        return _right_bytes(one, result)
    size = one.now.size or 0
    if right is None:
        return Verdict(one, "suspicious", "the replicas differ, and which is right is not known", size)
    now = replace(one.now, state="bad", failures=max(LOOKS, one.now.failures + 1))
    return Verdict(replace(one, now=now), "bad", "its bytes are wrong", size)


def _right_bytes(one: Found, sha256: str | None) -> Verdict:
    now_ns = time.time_ns()
    now = replace(
        one.now,
        state="available",
        sha256=sha256,
        failures=0,
        checked_ns=now_ns,
        verified_ns=now_ns,
    )
    return Verdict(replace(one, now=now), "good", bytes_read=one.now.size or 0)
