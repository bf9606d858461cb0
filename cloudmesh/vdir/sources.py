"""Reading a name's content: from the best replica that gives it, or else from the next one."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from typing import TypeVar

from cloudmesh.storage.abc import Entry, StorageABC
from cloudmesh.storage.digest import digest_of
from cloudmesh.storage.errors import NotFound, PreconditionFailed, StorageError
from cloudmesh.vdir.nodes import Node, Replica
from cloudmesh.vdir.stalls import open_watched

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Source:
    """Where content can be read: a file of a service, or of this computer, while its ``etag`` is still the same.

    Attributes:
        service: that has it.
        entry: the file.
        replica: that it is in the catalogue; None for a file of this computer or one that is not registered.
    """

    service: StorageABC
    entry: Entry
    replica: Replica | None = None


def source_of(service: StorageABC, node: Node, replica: Replica) -> Source:
    """Return a replica as a source: its ``etag`` must still hold, and its copies get the content's time."""
    entry = Entry(replica.path, size=node.size, mtime_ns=node.mtime_ns, etag=replica.etag, hashes=replica.hashes)
    return Source(service, entry, replica)


def use_first(node: Node, sources: Iterable[Source], use: Callable[[Source], T]) -> T:
    """Return what ``use`` gives for the first source with which it works.

    A file whose token has changed is read nevertheless where its bytes are still those of the name.

    Raises:
        StorageError: the last failure, where it works with none.
    """
    failure: StorageError = unreadable(node)
    for source in sources:
        try:
            try:
                return use(source)
            except PreconditionFailed:
                return use(recognised(node, source))
        except StorageError as error:
            failure = error
    raise failure


def recognised(node: Node, source: Source, patience: float | None = None) -> Source:
    """Return the source as it is now, if it has the name's content.

    Args:
        node: the name.
        source: as it was.
        patience: as of `open_watched`.

    Raises:
        PreconditionFailed: it has not, or that cannot be known.
        Unavailable: as `open_watched`.
    """
    there = source.service.stat(source.entry.path)
    entry = Entry(there.path, size=there.size, mtime_ns=node.mtime_ns, etag=there.etag, hashes=there.hashes)
    now = replace(source, entry=entry)
    if node.sha256 is None or there.size not in (None, node.size) or sha256_of(now, patience) != node.sha256:
        raise PreconditionFailed(source.service.location(source.entry.path))
    return now


def sha256_of(source: Source, patience: float | None = None) -> str:
    """Read a source and return its SHA-256, lower-case hex. Waits and raises as `open_watched`."""
    with open_watched(source.service, source.entry.path, patience, if_match=source.entry.etag) as reader:
        return digest_of(reader)


def unreadable(node: Node) -> NotFound:
    """Return the error for a name that no replica can be read of."""
    return NotFound(f"/{node.path}", "no good replica is left", f"cms vdir status --check /{node.path}")
