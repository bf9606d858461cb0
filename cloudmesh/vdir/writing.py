"""Giving a name the bytes of a stream that can be read only once, such as an upload.

They go to a service under a temporary name as they come, and from there to where they belong, as every `put` does. So
nothing of an upload is seen before it is whole, and none needs room on this computer.
"""

from __future__ import annotations

import hashlib
import logging
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass

from cloudmesh.storage import paths, presence
from cloudmesh.storage.abc import Content, Entry, StorageABC
from cloudmesh.storage.errors import ChecksumMismatch, IsADirectory, NotFound, StorageError
from cloudmesh.storage.transfer.report import Report
from cloudmesh.vdir.claiming import alone
from cloudmesh.vdir.lookup import check_path
from cloudmesh.vdir.nodes import NewFile, Node
from cloudmesh.vdir.placing import Placing
from cloudmesh.vdir.upload import Upload, upload
from cloudmesh.vdir.work import Work

Check = Callable[[Node | None], None]
"""Is told what has the name, or None; raises to refuse it a new content."""

_LOG = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Arrival:
    """What is to be written.

    Attributes:
        path: the virtual path, normalised.
        content: the bytes, read once.
        size: of them, where it is known; others are then refused.
        mtime_ns: their modification time, ns since the epoch; None for now.
        sha256: that they must have, lower-case hex; None where nobody told.
    """

    path: str
    content: Iterable[bytes]
    size: int | None
    mtime_ns: int | None = None
    sha256: str | None = None


def write(
    arrival: Arrival, services: Sequence[str] | None, work: Work, check: Check | None, report: Report, *, force: bool
) -> None:
    """Make a stream the content of a name: a new one, or its new version on all services that have it.

    Args:
        arrival: name and bytes.
        services: where to; None as of `Vdir.put`.
        work: the catalogue and the services.
        check: is asked before the bytes come, and again when they are there and nobody else works on the name; None
            where that does not matter, and then nobody waits for others. A name that has no replica is not there yet:
            of that nothing was acknowledged.
        report: counts the copies.
        force: as of `upload`.

    Raises:
        ChecksumMismatch: the bytes are others than promised; the name is as it was.
        StorageError: as `upload`, and what ``check`` raises; the name is as it was. Also where no service took it.
        Unavailable: somebody else writes the name, for longer than we wait.
    """
    check_path(arrival.path)
    placing = Placing(work, services, dryrun=False)
    node = _lookup(work, arrival.path)
    if node is not None and node.is_directory:
        raise IsADirectory(f"/{arrival.path}", "a directory has this name")
    placing.look_up([arrival.path])
    held = [] if node is None else [one.service for one in work.catalogue.replicas_of([node])[node.id]]
    if check is not None:
        check(node if held else None)
    first = placing.services(arrival.path, node, arrival.size, held)[0]
    with ExitStack() as stack:
        service, entry, sha256 = stack.enter_context(_staged(arrival, work.target(first)))
        if arrival.sha256 not in (None, sha256):
            raise ChecksumMismatch(f"/{arrival.path}", "the bytes that came are not those that were promised")
        if check is not None:
            new = NewFile(arrival.path, entry.size, entry.mtime_ns, sha256)
            node, replicas = stack.enter_context(alone(lambda: _registered(new, work), work, "an upload"))
            if not replicas:
                stack.callback(work.catalogue.remove_lost, [node.id])
            check(node if replicas else None)
        file = Upload(service, entry, arrival.path, sha256)
        upload([file], Placing(work, services, dryrun=False), work, report, force=force, dryrun=False)
        report.ended()
        report.need_something()


@contextmanager
def _staged(arrival: Arrival, service: StorageABC) -> Iterator[tuple[StorageABC, Entry, str]]:
    """Bring the bytes to a service under a temporary name, and give what lies there, with its SHA-256."""
    staged = presence.temporary_name(paths.STAGING)
    digest, size = hashlib.sha256(), 0
    mtime_ns = time.time_ns() if arrival.mtime_ns is None else arrival.mtime_ns

    def seen() -> Iterator[bytes]:
        nonlocal size
        for piece in arrival.content:
            digest.update(piece)
            size += len(piece)
            yield piece

    try:
        entry = service.write(staged, Content.of_stream(seen(), arrival.size, mtime_ns), mode="create")
        yield service, entry._replace(size=size, mtime_ns=mtime_ns), digest.hexdigest()
    finally:
        try:
            service.remove(staged)
        except NotFound:
            pass
        except StorageError as error:  # the upload is what counts
            _LOG.warning("%s was left behind: %s", service.location(staged), error)


def _registered(new: NewFile, work: Work) -> Node:
    """Return what has the name; where nothing has, it is made, so that it can be claimed: two that make it find one."""
    while (node := _lookup(work, new.path)) is None:
        work.catalogue.register([new])
    return node


def _lookup(work: Work, path: str) -> Node | None:
    return work.catalogue.lookup_many([path]).get(path)
