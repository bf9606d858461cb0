"""Old contents of names: kept on the service where they are, before another content takes their place.

A content is kept once, in ``.cdir-versions`` at the service's root, which no listing shows; by a copy or a move on the
service's own side where it can do that.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace

from cloudmesh.storage import paths
from cloudmesh.storage.abc import Entry, StorageABC
from cloudmesh.storage.errors import NotADirectory, NotFound, PreconditionFailed, StorageError
from cloudmesh.storage.pool import run_parallel
from cloudmesh.storage.transfer.copying import copy_file
from cloudmesh.storage.transfer.report import Report
from cloudmesh.vdir import intents, versions
from cloudmesh.vdir.copies import is_as_seen
from cloudmesh.vdir.intents import Intent
from cloudmesh.vdir.lookup import chunks
from cloudmesh.vdir.nodes import Node, Replica
from cloudmesh.vdir.records import is_good
from cloudmesh.vdir.sources import Source, sha256_of
from cloudmesh.vdir.versions import Kept
from cloudmesh.vdir.work import Work

_NAME_MAX = 255
_BATCH = 500


@dataclass(frozen=True, slots=True)
class Keeping:
    """A content to be kept.

    Attributes:
        node: the name, with the content: its size, time, hash, and the version as which it is kept.
        replica: the file that holds it, as it was just seen.
        origin: as of `Kept`.
    """

    node: Node
    replica: Replica
    origin: str = ""

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
    ending = f"~v{node.version}-{node.id}{extension}"
    if len(ending.encode()) > _NAME_MAX // 2:
        ending = f"~v{node.version}-{node.id}"
    room = _NAME_MAX - len(ending.encode())
    name = stem.encode()[:room].decode("utf-8", "ignore") + ending
    return paths.join(paths.join(paths.VERSIONS, paths.parent(node.path)), name)


def keep(wanted: Sequence[Keeping], work: Work) -> dict[tuple[int, int], StorageError]:
    """Keep contents; what is kept already is not kept again.

    A replica that had to be moved away is then ``missing`` in the catalogue.

    Returns:
        those that could not be kept, by entry id and version; of these nothing may be overwritten.
    """
    database = work.catalogue.database
    there = {
        (one.entry_id, one.version)
        for kept in versions.of(database, {one.node.id for one in wanted}).values()
        for one in kept
    }
    # one after the other where a name has several to keep on one service: an intent is for one file there
    waiting = list({one.key: one for one in wanted if one.key not in there}.values())
    failed: dict[tuple[int, int], StorageError] = {}
    while waiting:
        now = list({(one.node.id, one.replica.service): one for one in reversed(waiting)}.values())
        waiting = [one for one in waiting if one not in now]
        left = work.catalogue.add_intents([_intent(one) for one in now])
        failed.update(
            {one.key: PreconditionFailed(f"/{one.node.path}", left[one.node.id]) for one in now if one.node.id in left}
        )
        now = [one for one in now if one.node.id not in left]
        done: list[Kept] = []
        moved: list[Replica] = []
        threads = work.threads({one.replica.service for one in now})
        for one, result in run_parallel(lambda one: _kept(one, work), now, threads):
            if isinstance(result, StorageError):
                failed[one.key] = result
                continue
            done.append(_row(one.node, one.replica.service, one.path, one.origin))
            if result:
                moved.append(replace(one.replica, state="missing", etag=None, entry_id=one.node.id))
        work.catalogue.update_replicas(moved)
        versions.add(work.catalogue, done)
    return failed


def superseded(node: Node, replicas: Iterable[Replica]) -> list[Keeping]:
    """Return what keeps the present content of a name, which is about to get another; nothing by rule, or where no good
    replica is left."""
    good = next((one for one in replicas if is_good(node, one)), None)
    return [] if good is None or not node.rules.versions else [Keeping(node, good)]


def resume(intent: Intent, work: Work) -> None:
    """Finish what somebody began who died: what was kept is written down, if it is whole.

    Raises:
        StorageError: the service cannot be asked.
    """
    database = work.catalogue.database
    service = work.open(intent.service)
    whole = False
    with suppress(NotFound, NotADirectory):
        there = service.stat(intent.path)
        whole = there.size == intent.size and intent.sha256 in (None, sha256_of(Source(service, there)))
        if not whole:
            service.remove(intent.path)
    if whole:
        now_ns = time.time_ns()
        facts = (intent.entry_id, intent.version, intent.size, intent.mtime_ns, intent.sha256)
        versions.add(work.catalogue, [Kept(*facts, "", now_ns, intent.service, intent.path)])
    else:
        with database.write() as connection:
            intents.done(connection, "keep", [(intent.entry_id, intent.service)])


def expire(directory: str, work: Work, report: Report, away: Iterable[str]) -> None:
    """Remove the kept contents at and below a virtual path that are too many or too old by rule: files, then rows.

    Args:
        directory: virtual path.
        work: the catalogue and the services.
        report: counts what cannot be removed.
        away: services that cannot be asked; what they keep is left for the next run.
    """
    left = set(away)
    for page in versions.names(work.catalogue.database):
        mine = [path for path in page.values() if path == directory or not directory or paths.is_below(path, directory)]
        nodes = {node.id: node for node in work.catalogue.lookup_many(mine).values()}
        for batch in chunks(sorted(nodes), _BATCH):
            kept = versions.of(work.catalogue.database, batch)
            expired = [one for key, all_of in kept.items() for one in _expired(nodes[key], all_of)]
            discard([one for one in expired if one.service not in left], work, report)


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


def _row(node: Node, service: str, path: str, origin: str) -> Kept:
    facts = (node.id, node.version, node.size, node.mtime_ns, node.sha256)
    return Kept(*facts, origin, time.time_ns(), service, path)


def _kept(one: Keeping, work: Work) -> bool:
    """Keep one content; return whether its file was moved, so that it is not there any more.

    Raises:
        PreconditionFailed: the file is not as it was seen.
        StorageError: as `copy_file`.
    """
    service, source = work.target(one.replica.service), one.replica
    facts = service.capabilities
    entry = Entry(source.path, size=one.node.size, mtime_ns=one.node.mtime_ns, etag=source.etag)
    _check(service, source)
    if facts.server_move and not facts.server_copy:
        service.move_within(source.path, one.path)
        return True
    copy_file(service, entry, service, one.path, expected_sha256=one.node.sha256)
    _check(service, source)  # a copy on the service's own side takes what is there
    return False


def _check(service: StorageABC, source: Replica) -> None:
    if not is_as_seen(source, service.stat(source.path)):
        raise PreconditionFailed(service.location(source.path))
