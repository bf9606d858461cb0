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
from cloudmesh.storage.errors import ChecksumMismatch, IsADirectory, NotFound, StorageError, Unavailable
from cloudmesh.storage.transfer.report import Report
from cloudmesh.vdir.claiming import claiming
from cloudmesh.vdir.claims import Claims
from cloudmesh.vdir.lookup import check_path
from cloudmesh.vdir.nodes import Node
from cloudmesh.vdir.placing import Placing
from cloudmesh.vdir.upload import Upload, upload
from cloudmesh.vdir.work import Work

Check = Callable[[Node | None], None]
"""Is told what has the name, or None; raises to refuse it a new content."""

_PATIENCE_S = 20.0
_POLL_S = 0.05
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
        services: where to; the rules or the default service decide where None.
        work: the catalogue and the services.
        check: is asked while nobody else writes the name in this way; None where that does not matter, and then nobody
            waits for others.
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
    first = placing.services(arrival.path, node, arrival.size, held)[0]
    with ExitStack() as stack:
        service, entry, sha256 = stack.enter_context(_staged(arrival, work.target(first)))
        if arrival.sha256 not in (None, sha256):
            raise ChecksumMismatch(f"/{arrival.path}", "the bytes that came are not those that were promised")
        claims = None
        if check is not None:
            claims = stack.enter_context(_alone(arrival.path, work))
            check(_lookup(work, arrival.path))
        file = Upload(service, entry, arrival.path, sha256)
        placing = Placing(work, services, dryrun=False)
        upload([file], placing, work, report, force=force, dryrun=False, claims=claims)
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


@contextmanager
def _alone(path: str, work: Work) -> Iterator[Claims]:
    """Let nobody else write a name in this way: the name is claimed, or where it is new the directory above it.

    Of a new name whose directory somebody makes meanwhile, two may be written at once: the second is the next version.
    """
    deadline = time.monotonic() + _PATIENCE_S
    with claiming(work, "an upload") as claims:
        while True:
            wanted = _claimable(path, work)
            with claims.claimed([wanted]) as held:
                if not held and _claimable(path, work) == wanted:  # else somebody was faster
                    yield claims
                    return
            if time.monotonic() > deadline:
                raise Unavailable(
                    f"/{path}", f"{next(iter(held.values()), 'somebody')} writes it", "try again", retry_after=1
                )
            time.sleep(_POLL_S)


def _claimable(path: str, work: Work) -> int:
    """Return the id of the name, or of the nearest directory above it that is there."""
    while True:
        node = _lookup(work, path)
        if node is not None:
            return node.id
        path = paths.parent(path)


def _lookup(work: Work, path: str) -> Node | None:
    return work.catalogue.lookup_many([path]).get(path)
