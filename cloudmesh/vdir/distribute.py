"""Bringing the content of names to services, so that whatever dies halfway, doing it again completes it.

Every copy is written down as a replica in state ``copying`` before the first byte is sent, and as ``available`` after
the service has it. A new replica is written in the service's create mode: a file that is there already is either our
own of an earlier run (then its content is right, and it is adopted) or a foreign one, never overwritten unasked.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

from cloudmesh.storage.abc import Entry, StorageABC, WriteMode
from cloudmesh.storage.disk import Disk
from cloudmesh.storage.errors import AlreadyExists, NotFound, SourceChanged, StorageError
from cloudmesh.storage.transfer.copying import copy_file
from cloudmesh.storage.transfer.events import Event, Observer
from cloudmesh.storage.transfer.plan import digest
from cloudmesh.storage.transfer.pool import run_parallel
from cloudmesh.storage.transfer.report import Report
from cloudmesh.vdir.catalogue import Catalogue
from cloudmesh.vdir.lookup import chunks
from cloudmesh.vdir.nodes import Node, Replica

BATCH = 500
"""Copies whose intents are written in one transaction."""

Open = Callable[[str], StorageABC]


@dataclass(frozen=True, slots=True)
class Source:
    """Where content can be read: a file of a service, or of this computer."""

    service: StorageABC
    entry: Entry


@dataclass(frozen=True, slots=True)
class Copy:
    """One copy to be made.

    Attributes:
        node: the name.
        target: the replica as it shall be: service, path, version.
        sources: where the content is, the best first.
        sha256: of the content, where it is known.
        overwrite: replace what is there, whatever it is.
        known: the replica as the catalogue has it; None for a new one.
    """

    node: Node
    target: Replica
    sources: Sequence[Source]
    sha256: str | None
    overwrite: bool = False
    known: Replica | None = None

    @property
    def name(self) -> str:
        """The copy as a person names it."""
        return f"/{self.node.path} on {self.target.service}"


def distribute(
    copies: Iterable[Copy],
    catalogue: Catalogue,
    open_service: Open,
    report: Report,
    *,
    parallel: int | None,
    observer: Observer,
) -> None:
    """Make copies, in batches; failures are added to ``report`` and do not stop the rest.

    A copy that fails leaves the replica as ``missing`` where the file is not there, so that it is healed later, and
    forgotten where a foreign file is in the way.
    """

    def planned(batch: Sequence[Copy]) -> Iterator[Copy]:
        for copy in batch:
            observer(Event("planned", copy.name, copy.node.size or 0))
        catalogue.update_replicas(
            replace(copy.target, state="copying", entry_id=copy.node.id, etag=None, checked_ns=time.time_ns())
            for copy in batch
            # a replica that holds an older version is readable until it is replaced
            if copy.known is None or copy.known.state not in ("available", "stale")
        )
        yield from batch

    def work(copy: Copy) -> Replica:
        observer(Event("started", copy.name, copy.node.size or 0))
        return make(copy, open_service(copy.target.service), observer)

    for batch in chunks(copies, BATCH):
        made: list[Replica] = []
        gone: list[Replica] = []
        for copy, result in run_parallel(work, planned(batch), parallel):
            if isinstance(result, StorageError):
                report.fail(copy.name, result)
                observer(Event("failed", copy.name, error=str(result)))
                if copy.known is None and isinstance(result, AlreadyExists):
                    gone.append(replace(copy.target, entry_id=copy.node.id))
                elif copy.known is None or copy.known.state not in ("available", "stale"):
                    made.append(replace(copy.target, state="missing", entry_id=copy.node.id))
            else:
                made.append(result)
                report.done(copy.node.size)
                observer(Event("done", copy.name, copy.node.size or 0))
        catalogue.update_replicas(made)
        catalogue.remove_replicas(gone)


def make(copy: Copy, service: StorageABC, observer: Observer) -> Replica:
    """Make one copy from the first source that gives it, and return the replica that is now there.

    Raises:
        AlreadyExists: a foreign file is in the way.
        StorageError: no source could be read, or the service could not be written to; the last failure.
    """
    mode: WriteMode = "overwrite" if copy.overwrite else "create"
    failure: StorageError = NotFound(f"/{copy.node.path}", "no good replica is left", "cms vdir status shows them")
    for source in copy.sources:
        try:
            entry = copy_file(
                source.service,
                source.entry,
                service,
                copy.target.path,
                mode=mode,
                expected_sha256=copy.sha256,
                observer=observer,
            )
            _check_unchanged(source)
            return replica_of(copy, service, entry)
        except AlreadyExists:
            there = service.stat(copy.target.path)
            if _holds(service, there, copy):
                return replica_of(copy, service, there)
            raise AlreadyExists(
                service.location(copy.target.path), "a file that is not ours is in the way", "--force replaces it"
            ) from None
        except StorageError as error:
            failure = error
            if len(copy.sources) > 1:
                observer(Event("skipped", source.service.location(source.entry.path), error=str(error)))
    raise failure


def _check_unchanged(source: Source) -> None:
    """Refuse a local file that was changed since it was hashed: what was sent is neither the old nor the new."""
    if isinstance(source.service, Disk) and source.service.stat(source.entry.path).etag != source.entry.etag:
        raise SourceChanged(source.service.location(source.entry.path))


def _holds(service: StorageABC, there: Entry, copy: Copy) -> bool:
    if there.is_directory or there.size != copy.node.size:
        return False
    wanted = copy.sha256 or _digest_of_source(copy)
    return wanted is not None and digest(service, there.path, "sha256") == wanted


def _digest_of_source(copy: Copy) -> str | None:
    for source in copy.sources:
        try:
            return digest(source.service, source.entry.path, "sha256")
        except StorageError:
            continue
    return None


def replica_of(copy: Copy, service: StorageABC, entry: Entry) -> Replica:
    """Return the replica that a finished copy is."""
    return replace(
        copy.target,
        state="available",
        size=entry.size if entry.size is not None else copy.node.size,
        mtime_ns=entry.mtime_ns if entry.mtime_ns is not None else copy.node.mtime_ns,
        mtime_precision_ns=service.capabilities.mtime_precision_ns,
        etag=entry.etag,
        hashes=entry.hashes,
        sha256=copy.sha256,
        checked_ns=time.time_ns(),
        entry_id=copy.node.id,
    )


def source_of(service: StorageABC, node: Node, replica: Replica) -> Source:
    """Return a replica as a source: its ``etag`` must still hold, and its copies get the content's time."""
    return Source(
        service, Entry(replica.path, size=node.size, mtime_ns=node.mtime_ns, etag=replica.etag, hashes=replica.hashes)
    )
