"""Old contents of names: kept on the service where they are, before another content takes their place.

A content is kept once. Where the service keeps old contents by itself, only its id of this one is written down. Else it
goes to ``.cdir-versions`` at the service's root, which no listing shows; by a copy or a move on the service's own side
where it can do that.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace

from cloudmesh.storage import paths
from cloudmesh.storage.abc import Entry, StorageABC
from cloudmesh.storage.errors import (
    AlreadyExists,
    ChecksumMismatch,
    NotADirectory,
    NotFound,
    PreconditionFailed,
    StorageError,
)
from cloudmesh.storage.pool import run_parallel
from cloudmesh.storage.transfer.copying import copy_file
from cloudmesh.storage.transfer.report import Report
from cloudmesh.vdir import intents, versions
from cloudmesh.vdir.copies import is_as_seen
from cloudmesh.vdir.intents import Intent
from cloudmesh.vdir.lookup import chunks, paths_of
from cloudmesh.vdir.nodes import Node, Replica
from cloudmesh.vdir.records import is_good
from cloudmesh.vdir.sources import Source, sha256_of
from cloudmesh.vdir.versions import Kept
from cloudmesh.vdir.work import Work

_NAME_MAX = 255
_HASH_DIGITS = 12
_BATCH = 500


@dataclass(frozen=True, slots=True)
class Keeping:
    """A content to be kept.

    Attributes:
        node: the name, with the content: its size, time, hash, and the version as which it is kept.
        replica: the file that holds it, as it was just seen.
        required: without it nothing may be overwritten; else it is overwritten already, and kept only where the service
            still has it by itself.
    """

    node: Node
    replica: Replica
    required: bool = True

    @property
    def key(self) -> tuple[int, int]:
        """The name and the version."""
        return self.node.id, self.node.version

    @property
    def path(self) -> str:
        """Where it is kept."""
        return kept_path(self.node)


def kept_path(node: Node) -> str:
    """Return where a content of a name is kept: a name that tells what it is, and that no other content can have."""
    stem, extension = os.path.splitext(node.name)
    # another catalogue may keep things there, too: with the same number for another name or content
    mark = f"~v{node.version}-{node.id}" + (f"-{node.sha256[:_HASH_DIGITS]}" if node.sha256 else "")
    ending = f"{mark}{extension}"
    if len(ending.encode()) > _NAME_MAX // 2:
        ending = mark
    room = _NAME_MAX - len(ending.encode())
    name = stem.encode()[:room].decode("utf-8", "ignore") + ending
    return paths.join(paths.join(paths.VERSIONS, paths.parent(node.path)), name)


def keep(wanted: Sequence[Keeping], work: Work) -> dict[tuple[int, int], StorageError]:
    """Keep contents; what is kept already is not kept again.

    A replica that had to be moved away is then ``missing`` in the catalogue. One that looks as it did but has other
    bytes is then known as changed by others: `sync` decides about it.

    Returns:
        those that could not be kept, by entry id and version; of these nothing may be overwritten.
    """
    database = work.catalogue.database
    there = {
        (one.entry_id, one.version)
        for kept in versions.of(database, {one.node.id for one in wanted}).values()
        for one in kept
    }
    waiting = list({one.key: one for one in wanted if one.key not in there}.values())
    failed: dict[tuple[int, int], StorageError] = {}
    recorded: list[Kept] = []
    left: list[Keeping] = []
    threads = work.threads({one.replica.service for one in waiting})
    for one, result in run_parallel(lambda one: _recorded(one, work), waiting, threads):
        if isinstance(result, Kept):
            recorded.append(result)
        elif one.required:
            left.append(one)
    work.catalogue.add_versions(recorded)
    while left:  # one after the other where a name has several to keep on one service: an intent is for one file there
        now = list({(one.node.id, one.replica.service): one for one in reversed(left)}.values())
        left = [one for one in left if one not in now]
        failed |= _keep_files(now, work)
    return failed


def _keep_files(wanted: Sequence[Keeping], work: Work) -> dict[tuple[int, int], StorageError]:
    """Keep contents in files of ours."""
    others = work.catalogue.add_intents([_intent(one) for one in wanted])
    failed: dict[tuple[int, int], StorageError] = {
        one.key: PreconditionFailed(f"/{one.node.path}", others[one.node.id]) for one in wanted if one.node.id in others
    }
    wanted = [one for one in wanted if one.node.id not in others]
    done: list[Kept] = []
    learnt: list[Replica] = []
    threads = work.threads({one.replica.service for one in wanted})
    for one, result in run_parallel(lambda one: _kept(one, work), wanted, threads):
        if isinstance(result, ChecksumMismatch):
            learnt.append(replace(one.replica, state="stale", version=0, entry_id=one.node.id))
        if isinstance(result, StorageError):
            failed[one.key] = result
            continue
        done.append(_row(one, one.path))
        if result:
            learnt.append(replace(one.replica, state="missing", etag=None, entry_id=one.node.id))
    work.catalogue.update_replicas(learnt)
    work.catalogue.add_versions(done)
    return failed


def keep_one_of(wanted: Sequence[Sequence[Keeping]], work: Work) -> dict[tuple[int, int], StorageError]:
    """Keep contents, each by the first of several ways that works; return those that no way could keep, as `keep`."""
    failed: dict[tuple[int, int], StorageError] = {}
    left = [ways for ways in wanted if ways]
    while left:
        errors = keep([ways[0] for ways in left], work)
        for ways in left:
            failed.pop(ways[0].key, None)
        failed |= errors
        left = [ways[1:] for ways in left if ways[0].key in errors and len(ways) > 1]
    return failed


def outdated(node: Node, replica: Replica) -> Keeping | None:
    """Return what keeps an older content that a replica holds, before the present one takes its place: its service was
    away when that was superseded, and nothing else may have it. None where it holds no such, or nothing is kept.
    """
    is_older = replica.state in ("available", "stale") and 0 < replica.version < node.version
    if not (is_older and node.rules.versions) or replica.sha256 == node.sha256:
        return None
    old = replace(node, size=replica.size, mtime_ns=replica.mtime_ns, sha256=replica.sha256, version=replica.version)
    return Keeping(replace(old, origin=""), replica)


def superseded(node: Node, replicas: Iterable[Replica]) -> list[Keeping]:
    """Return the ways to keep the present content of a name, which is about to get another: from each good replica.

    There are none where the rule is to keep nothing.
    """
    return [Keeping(node, one) for one in replicas if is_good(node, one)] if node.rules.versions else []


def fetched(kept: Kept, node: Node, work: Work) -> Kept:
    """Return a kept content that lies in a file; one that only the service itself keeps is copied into one.

    Raises:
        NotFound: the service does not keep it any longer.
        PreconditionFailed: the name is another process's.
    """
    if kept.service_version is None:
        return kept
    path = kept_path(replace(node, version=kept.version, sha256=kept.sha256))
    facts = (kept.version, kept.size, kept.mtime_ns, kept.sha256)
    others = work.catalogue.add_intents([Intent(node.id, kept.service, "keep", path, *facts)])
    if others:
        raise PreconditionFailed(f"/{node.path}", others[node.id])
    work.target(kept.service).recall(kept.path, kept.service_version, path)
    now = replace(kept, path=path, service_version=None)
    work.catalogue.add_versions([now])
    return now


def resume(intent: Intent, work: Work) -> None:
    """Finish what somebody began who died: what was kept is written down, if it is whole.

    Raises:
        StorageError: the service cannot be asked.
    """
    database = work.catalogue.database
    service = work.open(intent.service)
    whole = False
    with suppress(NotFound, NotADirectory):
        whole = _is_whole(service, intent.path, intent.size, intent.sha256)
        if not whole:
            service.remove(intent.path)
    if whole:
        now_ns = time.time_ns()
        facts = (intent.entry_id, intent.version, intent.size, intent.mtime_ns, intent.sha256)
        work.catalogue.add_versions([Kept(*facts, _origin(intent, work), now_ns, intent.service, intent.path)])
    else:
        with database.write() as connection:
            intents.done(connection, "keep", [(intent.entry_id, intent.service)])


def _origin(intent: Intent, work: Work) -> str:
    """Return where a content appeared that was being kept: one that had lost was not the name's."""
    database, entry_id = work.catalogue.database, intent.entry_id
    for one in versions.of(database, [entry_id]).get(entry_id, ()):
        if one.version == intent.version:
            return one.origin
    with database.read() as connection:
        path = paths_of(connection, [entry_id]).get(entry_id, "")
    node = work.catalogue.lookup_many([path]).get(path)
    if node is None or intent.version < node.version:
        return ""
    return node.origin if intent.version == node.version else intent.service


def expire(directory: str, work: Work, report: Report, away: Iterable[str]) -> None:
    """Remove the kept contents at and below a virtual path that are too many or too old by rule: files, then rows.

    Args:
        directory: virtual path.
        work: the catalogue and the services.
        report: counts what cannot be removed.
        away: services that cannot be asked; what they keep is left for the next run, as is what lies on services that
            are not configured any more.
    """
    there = set(work.services.names()) - set(away)
    for page in versions.names(work.catalogue.database):
        mine = [path for path in page.values() if path == directory or not directory or paths.is_below(path, directory)]
        nodes = {node.id: node for node in work.catalogue.lookup_many(mine).values()}
        for batch in chunks(sorted(nodes), _BATCH):
            kept = versions.of(work.catalogue.database, batch)
            expired = [one for key, all_of in kept.items() for one in _expired(nodes[key], all_of)]
            discard([one for one in expired if one.service in there], work, report)


def discard(kept: Sequence[Kept], work: Work, report: Report) -> None:
    """Remove kept contents: their files first, then what is known of them."""
    failed: set[tuple[str, str]] = set()
    for service in sorted({one.service for one in kept}):
        files = [one.path for one in kept if one.service == service and one.service_version is None]
        try:
            for path, error in work.target(service).remove_many(files):
                report.fail(f"{service}:{path}", error)
                failed.add((service, path))
        except StorageError as error:
            report.fail(service, error)
            failed.update((service, path) for path in files)
    gone = [one for one in kept if (one.service, one.path) not in failed]
    versions.remove(work.catalogue.database, gone)
    for one in gone:
        _remove_empty(one, work)


def _remove_empty(kept: Kept, work: Work) -> None:
    directory = paths.parent(kept.path) if kept.service_version is None else ""
    with suppress(StorageError):  # something is left in it, or it is gone already
        while directory:
            work.target(kept.service).remove_dir(directory)
            directory = paths.parent(directory)


def _expired(node: Node, kept: Sequence[Kept]) -> list[Kept]:
    oldest_ns = time.time_ns() - int(node.rules.versions_age * 1e9)
    return [one for place, one in enumerate(kept) if place >= node.rules.versions or one.replaced_ns < oldest_ns]


def _intent(one: Keeping) -> Intent:
    node = one.node
    return Intent(node.id, one.replica.service, "keep", one.path, node.version, node.size, node.mtime_ns, node.sha256)


def _row(one: Keeping, path: str, service_version: str | None = None) -> Kept:
    node = one.node
    facts = (node.id, node.version, node.size, node.mtime_ns, node.sha256)
    return Kept(*facts, node.origin, time.time_ns(), one.replica.service, path, service_version)


def _recorded(one: Keeping, work: Work) -> Kept | None:
    """Return a content as its service keeps it by itself; None where it does not."""
    replica = one.replica
    if replica.etag is None or not work.keeps_versions(replica.service):
        return None
    found = work.open(replica.service).versions(replica.path)
    version = next((entry.version for entry in found if entry.etag == replica.etag and entry.version), None)
    return None if version is None else _row(one, replica.path, version)


def _kept(one: Keeping, work: Work) -> bool:
    """Keep one content; return whether its file was moved, so that it is not there any more.

    What is kept is never overwritten: this process may have slept for so long that another one works on the name now,
    has kept the content, and put another one in its place.

    Raises:
        AlreadyExists: a file with other content is where it is to be kept.
        PreconditionFailed: the file is not as it was seen.
        ChecksumMismatch: its bytes are not those of the content, although it is as it was seen.
        StorageError: as `copy_file`.
    """
    service, source = work.target(one.replica.service), one.replica
    facts = service.capabilities
    there = _checked(service, source, one.node.sha256)
    moves = facts.server_move and not facts.server_copy
    try:
        if moves:
            service.move_within(source.path, one.path, mode="create")
        else:
            entry = Entry(source.path, size=one.node.size, mtime_ns=one.node.mtime_ns, etag=there.etag)
            copy_file(service, entry, service, one.path, mode="create", expected_sha256=one.node.sha256)
    except AlreadyExists:
        if not _is_whole(service, one.path, one.node.size, one.node.sha256):
            raise
        return False  # it was kept before, and that was not written down
    if moves:
        taken = service.stat(one.path)
        if (taken.size, taken.mtime_ns) != (there.size, there.mtime_ns):
            service.move_within(one.path, source.path, mode="create")
            raise PreconditionFailed(service.location(source.path))
        return True
    now = service.stat(source.path)  # a copy on the service's own side takes what is there
    if (now.size, now.mtime_ns, now.etag) != (there.size, there.mtime_ns, there.etag):
        raise PreconditionFailed(service.location(source.path))
    return False


def _is_whole(service: StorageABC, path: str, size: int | None, sha256: str | None) -> bool:
    there = service.stat(path)
    return there.size == size and sha256 in (None, sha256_of(Source(service, there)))


def _checked(service: StorageABC, source: Replica, sha256: str | None) -> Entry:
    """Return a replica's file as it is, if it has the content that was seen.

    All others may be overwritten next. So bytes that do not come by here, as the service copies or moves them itself,
    are read: rot leaves size and time as they were.
    """
    there = service.stat(source.path)
    is_seen = is_as_seen(source, there)
    facts = service.capabilities
    if is_seen and (sha256 is None or _same_hash(source, there) or not (facts.server_copy or facts.server_move)):
        return there
    wanted = source.sha256 or sha256
    if wanted is None or there.is_directory or there.size != source.size:
        raise PreconditionFailed(service.location(source.path))
    if sha256_of(Source(service, there)) != wanted:
        if is_seen:
            why = "its bytes are not those that were seen, while its size and time are"
            raise ChecksumMismatch(service.location(source.path), why, "cms vdir sync decides about it")
        raise PreconditionFailed(service.location(source.path))
    return there


def _same_hash(replica: Replica, there: Entry) -> bool:
    """Tell whether a hash that the service tells of a file says that its bytes are as they were."""
    return any(there.hashes.get(name) == digest for name, digest in replica.hashes.items())
