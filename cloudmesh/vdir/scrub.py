"""Comparing what the catalogue says of replicas with what the services say, from listings rather than file by file."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace

from cloudmesh.storage import paths
from cloudmesh.storage.abc import Entry, StorageABC
from cloudmesh.storage.errors import NotADirectory, NotFound, StorageError
from cloudmesh.storage.transfer.plan import digest
from cloudmesh.vdir.nodes import Node, Replica

_LIST_FROM = 4
"""From so many files in one directory on, listing it is cheaper than asking for each."""

_REMEMBERED = 8
"""Directory listings kept, for those whose files are asked for in several batches."""


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
    def changed(self) -> bool:
        """Whether the catalogue must learn something."""
        return self.now.state != self.known.state or self.now.version != self.known.version


class Inspector:
    """Asks services about replicas.

    Args:
        open_service: gives a service by name.
    """

    def __init__(self, open_service: Callable[[str], StorageABC]) -> None:
        self._open = open_service
        self._listings: dict[tuple[str, str], Mapping[str, Entry]] = {}
        self._failed: dict[str, str] = {}

    def inspect(self, nodes: Iterable[tuple[Node, tuple[Replica, ...]]]) -> Iterator[list[Found]]:
        """Yield, for each file of a batch, how its replicas are now.

        A service that cannot be asked is not asked again, and none of its replicas is declared bad.
        """
        batch = list(nodes)
        wanted: dict[tuple[str, str], int] = defaultdict(int)
        for _, replicas in batch:
            for replica in replicas:
                wanted[replica.service, paths.parent(replica.path)] += 1
        for node, replicas in batch:
            found = []
            for replica in replicas:
                many = wanted[replica.service, paths.parent(replica.path)] >= _LIST_FROM
                try:
                    found.append(Found(node, replica, self._look(node, replica, many)))
                except StorageError as error:
                    self._failed.setdefault(replica.service, str(error))
                    found.append(Found(node, replica, replica, self._failed[replica.service]))
            yield found

    def _look(self, node: Node, replica: Replica, many: bool) -> Replica:
        if replica.state == "deleting":  # a removal that died halfway: whether the file is there changes nothing
            return replica
        if replica.service in self._failed:
            raise StorageError(replica.service, self._failed[replica.service])
        service = self._open(replica.service)
        try:
            entry = self._entry(service, replica.path, many)
        except (NotFound, NotADirectory):
            return replace(replica, state="missing", checked_ns=time.time_ns())
        return judged(service, node, replica, entry)

    def _entry(self, service: StorageABC, path: str, many: bool) -> Entry:
        if not many:
            return service.stat(path)
        key = (service.name, paths.parent(path))
        if key not in self._listings:
            while len(self._listings) >= _REMEMBERED:
                del self._listings[next(iter(self._listings))]
            self._listings[key] = {one.path: one for one in service.scan(key[1])}
        if path not in self._listings[key]:
            raise NotFound(service.location(path))
        return self._listings[key][path]


def judged(service: StorageABC, node: Node, replica: Replica, entry: Entry) -> Replica:
    """Return a replica with the state that what is there now means.

    It is ``available`` while it is the file that we saw last, ``stale`` with version 0 where it was changed by others.
    A replica that was never finished (``copying``, ``missing``) is the right content only where a strong hash or the
    size and the modification time say so.
    """
    seen = replace(replica, checked_ns=time.time_ns())
    if entry.is_directory or (entry.size is not None and entry.size != node.size and replica.version == node.version):
        return replace(seen, state="stale", version=0)
    if replica.etag is not None and entry.etag is not None and replica.state in ("available", "stale"):
        if replica.etag == entry.etag:
            return replace(seen, state="available" if replica.version == node.version else "stale")
        if not _same_facts(service, node, replica, entry):
            return replace(seen, state="stale", version=0)
    elif not _same_facts(service, node, replica, entry):
        return replace(seen, state="stale", version=0)
    return replace(
        seen,
        state="available",
        version=node.version,
        size=entry.size,
        etag=entry.etag,
        mtime_ns=entry.mtime_ns if entry.mtime_ns is not None else replica.mtime_ns,
        mtime_precision_ns=service.capabilities.mtime_precision_ns,
        hashes=entry.hashes or replica.hashes,
    )


def _same_facts(service: StorageABC, node: Node, replica: Replica, entry: Entry) -> bool:
    """Tell whether a file whose token is unknown or has changed surely has the content that the name has."""
    if entry.size != node.size:
        return False
    common = replica.hashes.keys() & entry.hashes.keys()
    if common:
        return all(replica.hashes[name] == entry.hashes[name] for name in common)
    if node.sha256 is not None:
        return digest(service, entry.path, "sha256") == node.sha256
    precision = service.capabilities.mtime_precision_ns
    if entry.mtime_ns is not None and node.mtime_ns is not None and precision is not None:
        return abs(entry.mtime_ns - node.mtime_ns) < max(precision, replica.mtime_precision_ns or 1, 1)
    return False
