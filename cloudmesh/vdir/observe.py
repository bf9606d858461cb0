"""From what a service told of a replica to what that means: the cheap facts first, and the bytes where they are silent.

A replica that is as it was seen last has the content that it had. Else a hash that the service tells decides, or the
SHA-256 of what is there: a file that was only touched is no change.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from cloudmesh.storage.abc import Entry
from cloudmesh.storage.clock import NO_OFFSET
from cloudmesh.storage.errors import NotADirectory, NotFound, PreconditionFailed, StorageError, VaultError
from cloudmesh.storage.pool import run_parallel
from cloudmesh.vdir.clocks import Clocks
from cloudmesh.vdir.copies import is_as_seen
from cloudmesh.vdir.decide import Kind, Sight
from cloudmesh.vdir.hashing import Unread, hash_many
from cloudmesh.vdir.nodes import Node, Replica, State
from cloudmesh.vdir.spool import Seen, mark
from cloudmesh.vdir.work import Work

_EXACT_NS = 1_000_000
"""Modification times kept so exactly that two of them are the same only where nobody has written in between."""


@dataclass(slots=True)
class Observed:
    """One replica, and what it turned out to be.

    Attributes:
        node: its name.
        known: as the catalogue has it.
        entry: what is there.
        kind: how it was seen; None while only its bytes can tell.
        now: what the catalogue shall know.
        sha256: of the bytes, where they were read.
        error: why it could not be seen.
        elsewhere: a file of its service with its content, where it was not listed itself: it may have been renamed.
    """

    node: Node
    known: Replica
    entry: Entry | None
    kind: Kind | None
    now: Replica
    sha256: str | None = None
    error: StorageError | None = None
    elsewhere: Entry | None = None

    @property
    def is_renamed(self) -> bool:
        """Whether it is not where it was."""
        return self.now.path != self.known.path

    @property
    def is_new(self) -> bool:
        """Whether it is not what the catalogue has, beside when it was looked at."""
        known = self.known
        looks = (known.checked_ns, known.failures, known.verified_ns)
        return known != replace(self.now, checked_ns=looks[0], failures=looks[1], verified_ns=looks[2])

    @property
    def service(self) -> str:
        """Where it is."""
        return self.known.service

    @property
    def name(self) -> str:
        """The replica as a person names it."""
        return f"/{self.node.path} on {self.known.service}"


def observe(
    files: Sequence[tuple[Node, Sequence[Replica], Mapping[str, Seen]]],
    work: Work,
    away: Mapping[str, StorageError],
    clocks: Clocks,
) -> list[list[Observed]]:
    """Return, for each file, how its replicas are.

    Args:
        files: names with their replicas as the catalogue has them now, and what was seen of them.
        work: the services.
        away: services that cannot be asked, or shall be left alone.
        clocks: of the services.
    """
    found = [
        [_cheaply(node, one, seen.get(one.service), work, away, clocks) for one in replicas]
        for node, replicas, seen in files
    ]
    everything = [one for each in found for one in each]
    _look_again([one for one in everything if one.kind is None and one.entry is None], work, clocks)
    unknown = [one for each in found for one in each if one.kind is None and one.entry is not None]
    wanted = [_unread(one, one.entry) for one in unknown if one.entry is not None]
    for each in found:
        if any(one.kind is None for one in each) and each[0].node.sha256 is None:
            # what the name holds is known by its size and time only: its bytes are needed to compare with
            good = next((one for one in each if one.kind == "good" and one.entry is not None), None)
            if good is not None and good.entry is not None:
                wanted.append(_unread(good, good.entry))
    for request, result in hash_many(wanted, work):
        if isinstance(result, StorageError):
            _fail(request.context, result)
        else:
            request.context.sha256 = result
    for each in found:
        present = next((one.sha256 for one in each if one.kind == "good" and one.sha256), None)
        for one in each:
            if present is not None and one.node.sha256 is None:
                one.node = replace(one.node, sha256=present)
            if one.kind is None:
                _by_content(one, work, clocks)
    _tell_times([one for one in unknown if one.kind == "changed"], work)
    return found


def sight(one: Observed, work: Work, clocks: Clocks | None) -> Sight:
    """Return what `decide` needs to know of a replica; without ``clocks`` its time is as its service tells it."""
    assert one.kind is not None  # noqa: S101 - every one has been judged
    if one.kind != "changed" or one.entry is None:
        return Sight(one.service, one.kind)
    precision = work.open(one.service).capabilities.mtime_precision_ns
    kept = precision is not None and one.entry.mtime_ns is not None
    time_ns = one.entry.mtime_ns if kept else one.entry.changed_ns
    offset = NO_OFFSET if clocks is None else clocks.of(one.service)
    right_ns = None if time_ns is None else time_ns - offset.offset_ns
    error_ns = (precision if kept and precision is not None else 10**9) + offset.error_ns
    silent = kept and _is_silent(one, one.entry, right_ns or 0, error_ns, exact=(precision or 0) <= _EXACT_NS)
    return Sight(one.service, "changed", one.sha256 or "", right_ns, error_ns, one.known.version, silent)


def _is_silent(one: Observed, entry: Entry, right_ns: int, error_ns: int, *, exact: bool) -> bool:
    """Tell whether a changed file's modification time says that it was not changed.

    Where times are not exact, a second change may bear the time of the first; but not when we have seen the file since.
    """
    known = one.known
    # a look at sizes and times has called it stale, and left what was known of the content that it had before
    was_looked_at = known.state == "stale" and known.sha256 not in (None, one.sha256)
    if not (known.state == "available" or was_looked_at) or entry.mtime_ns is None or entry.mtime_ns != known.mtime_ns:
        return False
    return exact or (known.checked_ns is not None and right_ns + 2 * error_ns <= known.checked_ns)


def _cheaply(
    node: Node, known: Replica, seen: Seen | None, work: Work, away: Mapping[str, StorageError], clocks: Clocks
) -> Observed:
    one = Observed(node, known, None, None, known)
    if known.service in away:
        _fail(one, away[known.service])
    elif seen is not None and seen.mark == mark(known):  # else the catalogue has learned of it since
        if seen.renamed:  # not believed before the service was asked: the listing may be older than the replica
            one.elsewhere = seen.entry
        else:
            _judge(one, seen.entry, work, clocks)
    return one


def _look_again(unseen: Sequence[Observed], work: Work, clocks: Clocks) -> None:
    def look(one: Observed) -> Entry | None:
        try:
            return work.open(one.service).stat(one.known.path)
        except (NotFound, NotADirectory):
            return None

    for one, result in run_parallel(look, unseen, work.threads({one.service for one in unseen})):
        if isinstance(result, StorageError):
            _fail(one, result)
        else:
            renamed = result is None and one.elsewhere is not None
            _judge(one, result or one.elsewhere, work, clocks, renamed=renamed)


def _judge(one: Observed, entry: Entry | None, work: Work, clocks: Clocks, *, renamed: bool = False) -> None:
    """Judge by what a listing tells; where that is not enough, ``kind`` stays None."""
    known, node = one.known, one.node
    one.entry = entry
    if entry is None:
        one.kind = "missing" if _was_whole(known) and known.version == node.version else "absent"
        if known.state not in ("missing", "copying"):
            one.now = replace(known, state="missing", checked_ns=time.time_ns())
    elif entry.is_directory:
        one.kind, one.error = "obstacle", PreconditionFailed(one.name, "a directory is in the way", "move it away")
    elif renamed:
        _learn(one, known.version, work)
    elif _was_whole(known) and known.version > 0 and is_as_seen(known, entry):
        is_known = (known.sha256 or node.sha256) is not None  # else reading it would tell nothing
        if is_known and known.state != "bad" and (known.failures or not _is_vouched(one, entry, work, clocks)):
            return
        one.kind = "damaged" if known.state == "bad" else "good" if known.version == node.version else "old"
        state: State = "bad" if one.kind == "damaged" else "available" if one.kind == "good" else "stale"
        if known.state != state:
            one.now = replace(known, state=state, checked_ns=time.time_ns())
    elif _was_whole(known) and known.state != "bad" and (_same_hashes(known, entry) or _same_time(node, known, entry)):
        _learn(one, known.version, work)


def _is_vouched(one: Observed, entry: Entry, work: Work, clocks: Clocks) -> bool:
    return clocks.vouches(one.known.checked_ns, entry, work.open(one.service))


def _by_content(one: Observed, work: Work, clocks: Clocks) -> None:
    known, node, entry = one.known, one.node, one.entry
    if node.sha256 is not None and one.sha256 == node.sha256:
        _learn(one, node.version, work)
    elif _was_whole(known) and known.version > 0 and known.sha256 is not None and one.sha256 == known.sha256:
        _learn(one, known.version, work)
    elif known.state == "copying" or (known.state == "missing" and not _was_whole(known)):
        why, hint = "a file that is not ours is in the way", "move it away, then run the same command again"
        one.kind, one.error = "obstacle", PreconditionFailed(one.name, why, hint)
    elif known.failures and entry is not None and is_as_seen(known, entry) and _is_vouched(one, entry, work, clocks):
        one.kind = "damaged"  # nobody has written it since it was right
        one.now = replace(known, state="bad", checked_ns=time.time_ns())
    else:
        one.kind = "changed"
        one.now = seen_now(one, work, "stale", 0)


def _learn(one: Observed, version: int, work: Work) -> None:
    """Note that what is there is the content of a version."""
    one.kind = "good" if version == one.node.version else "old"
    one.now = seen_now(one, work, "available" if one.kind == "good" else "stale", version)


def seen_now(one: Observed, work: Work, state: State, version: int) -> Replica:
    """Return the replica that a file is, with the facts that its service told of it just now."""
    entry, known, node = one.entry, one.known, one.node
    assert entry is not None  # noqa: S101 - it was seen
    sha256 = one.sha256 or (node.sha256 if version == node.version else known.sha256)
    kept = version == known.version
    return replace(
        known,
        path=entry.path,
        state=state,
        version=version,
        size=entry.size,
        etag=entry.etag,
        mtime_ns=entry.mtime_ns if entry.mtime_ns is not None else known.mtime_ns if kept else None,
        mtime_precision_ns=work.open(one.service).capabilities.mtime_precision_ns,
        hashes=entry.hashes or (known.hashes if kept else {}),
        sha256=sha256,
        checked_ns=time.time_ns(),
        failures=0 if one.sha256 else known.failures,
        verified_ns=time.time_ns() if one.sha256 else known.verified_ns if kept else None,
    )


def _was_whole(known: Replica) -> bool:
    """Tell whether a replica has once been seen whole: what is different now was then changed by others."""
    if known.state in ("copying", "deleting"):
        return False
    return known.state != "missing" or known.etag is not None or known.sha256 is not None


def _same_hashes(known: Replica, entry: Entry) -> bool:
    common = known.hashes.keys() & entry.hashes.keys() if known.version > 0 and known.size == entry.size else ()
    return bool(common) and all(known.hashes[name] == entry.hashes[name] for name in common)


def _same_time(node: Node, known: Replica, entry: Entry) -> bool:
    """Tell whether size and time say that a file is as it was, of whose bytes nothing is known to compare."""
    if (
        node.sha256
        or known.sha256
        or not known.version
        or known.size != entry.size
        or None in (known.mtime_ns, entry.mtime_ns)
    ):
        return False
    return abs((known.mtime_ns or 0) - (entry.mtime_ns or 0)) < max(known.mtime_precision_ns or 1, 1)


def _unread(one: Observed, entry: Entry) -> Unread[Observed]:
    return Unread(one.service, entry, one, f"/{one.node.path} on {one.service}")


def _fail(one: Observed, error: StorageError) -> None:
    if isinstance(error, VaultError):
        raise error
    one.kind, one.error = "away", error


def _tell_times(changed: Iterable[Observed], work: Work) -> None:
    """Ask for the modification times that listings do not tell."""

    def look(one: Observed) -> Entry:
        assert one.entry is not None  # noqa: S101 - it was seen
        there = work.open(one.service).stat(one.entry.path)
        if there.etag != one.entry.etag and one.entry.etag is not None:
            raise PreconditionFailed(one.name)
        return there

    untold = [one for one in changed if one.entry is not None and one.entry.mtime_ns is None]
    for one, result in run_parallel(look, untold, work.threads({one.service for one in untold})):
        if isinstance(result, StorageError):
            _fail(one, result)
        else:
            one.entry = result
            one.now = seen_now(one, work, "stale", 0)
