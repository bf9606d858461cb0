"""One copy of a name's content on a service: what it is before it is made, how it is made, what it is afterwards.

A file is written in the service's create mode, unless what is there is an older version of our own: a file that is
there already is either our own of an earlier run (then its content is right, and it is adopted) or a foreign one, never
overwritten unasked. A file that another name uses too is never overwritten at all.
"""

from __future__ import annotations

import time
from collections.abc import Collection, Sequence
from contextlib import suppress
from dataclasses import dataclass

from cloudmesh.storage.abc import Entry, StorageABC, WriteMode
from cloudmesh.storage.errors import AlreadyExists, NotFound, PreconditionFailed
from cloudmesh.storage.paths import Location
from cloudmesh.storage.transfer.copying import copy_file
from cloudmesh.storage.transfer.events import Event, Observer, nobody
from cloudmesh.vdir.intents import Intent
from cloudmesh.vdir.nodes import Node, Replica, State
from cloudmesh.vdir.sources import Source, sha256_of, use_first
from cloudmesh.vdir.work import Work


@dataclass(frozen=True, slots=True)
class Copy:
    """One copy to be made.

    Attributes:
        node: the name, with the content that the copy shall have.
        service: where to.
        sources: where the content is, the best first.
        known: the replica on ``service`` as the catalogue has it; None for a new one.
        force: replace what is there, whatever it is.
    """

    node: Node
    service: str
    sources: Sequence[Source]
    known: Replica | None = None
    force: bool = False

    @property
    def name(self) -> str:
        """The copy as a person names it."""
        return f"/{self.node.path} on {self.service}"

    @property
    def path(self) -> str:
        """The path on the service."""
        return self.node.path if self.known is None else self.known.path

    @property
    def location(self) -> Location:
        """The file that is to be written."""
        return Location(self.service, self.path)

    @property
    def replaces(self) -> bool:
        """Whether a file is there, as far as we know: it stays until it is replaced, and so does its row."""
        return self.known is not None and self.known.state in ("available", "stale", "bad")

    def replica(self, state: State, version: int | None = None) -> Replica:
        """Return the replica that this copy is before it is made, or when it failed."""
        return Replica(
            self.service,
            self.path,
            state,
            size=self.node.size,
            mtime_ns=self.node.mtime_ns,
            version=self.node.version if version is None else version,
            checked_ns=time.time_ns(),
            entry_id=self.node.id,
        )

    @property
    def intent(self) -> Intent:
        """What is written down before a file is overwritten."""
        node = self.node
        return Intent(node.id, self.service, "write", self.path, node.version, node.size, node.mtime_ns, node.sha256)

    @property
    def plain_mode(self) -> WriteMode | None:
        """How it is written where that needs no look at the service: an older version of our own may be replaced."""
        if self.force:
            return "overwrite"
        if self.known is None or not self.replaces or self.known.version == 0:
            return "create"
        return None


def make(copy: Copy, work: Work, shared: Collection[Location] = ()) -> Replica:
    """Make one copy from the first source that gives it, and return the replica that is now there.

    Args:
        copy: what to make; its intent is written down already.
        work: for the service.
        shared: files that other names use too.

    Raises:
        AlreadyExists: a foreign file, or that of another name, is in the way.
        StorageError: no source could be read, or the service could not be written to; the last failure.
    """
    work.observer(Event("started", copy.name, copy.node.size or 0))
    service = work.target(copy.service)
    if copy.location in shared:
        return _adopted(copy, service, "another name has its file there", "cms vdir search finds it")
    mode, etag = _mode(copy, service)

    def write(source: Source) -> Entry | None:
        try:
            return copy_file(
                source.service,
                source.entry,
                service,
                copy.path,
                mode=mode,
                if_match=etag,
                expected_sha256=copy.node.sha256,
                observer=under_names([copy.name], work.observer),
            )
        except AlreadyExists:
            return None
        except PreconditionFailed:
            # a write of ours that was given up, in this run or the last, may have arrived after all
            if etag is None or (arrived := _arrived(copy, service)) is None:
                raise
            return arrived

    made = use_first(copy.node, copy.sources, write)
    if made is not None:
        return available(copy, service, made)
    return _adopted(copy, service, "a file that is not ours is in the way", "put and copy replace it with --force")


def under_names(names: Sequence[str], observer: Observer) -> Observer:
    """Return an observer that tells of each event under the names by which the copies that it concerns were planned."""

    def tell(event: Event) -> None:
        for name in names:
            observer(Event(event.kind, name, event.size, event.error))

    return observer if observer is nobody else tell


def _mode(copy: Copy, service: StorageABC) -> tuple[WriteMode, str | None]:
    """Return ``overwrite`` where that is asked for, or where what is there is surely our own older version: then with
    the token that it must still have when it is replaced."""
    if copy.plain_mode is not None or copy.known is None:
        return copy.plain_mode or "create", None
    try:
        there = service.stat(copy.path)
    except NotFound:
        return "create", None
    if is_as_seen(copy.known, there):
        return "overwrite", there.etag
    if copy.known.sha256 is None or there.is_directory or there.size != copy.known.size:
        return "create", None
    same = sha256_of(Source(service, there)) == copy.known.sha256
    return ("overwrite", there.etag) if same else ("create", None)


def is_as_seen(replica: Replica, there: Entry) -> bool:
    """Tell whether a file is the one that we saw last, by its token, or else by size and time."""
    if there.is_directory or (there.size is not None and replica.size is not None and there.size != replica.size):
        return False
    if replica.etag is not None and there.etag is not None:
        return replica.etag == there.etag
    if replica.mtime_ns is None or there.mtime_ns is None:
        return False
    return abs(replica.mtime_ns - there.mtime_ns) < max(replica.mtime_precision_ns or 1, 1)


def _arrived(copy: Copy, service: StorageABC) -> Entry | None:
    """Return the file that is there, if it has the right content."""
    with suppress(NotFound):  # that of another name, and gone
        there = service.stat(copy.path)
        if _holds(service, there, copy):
            return there
    return None


def _adopted(copy: Copy, service: StorageABC, why: str, hint: str) -> Replica:
    """Return the replica that the file there is, if it has the right content.

    Raises:
        AlreadyExists: it has not.
    """
    there = _arrived(copy, service)
    if there is not None:
        return available(copy, service, there)
    raise AlreadyExists(service.location(copy.path), why, hint)


def _holds(service: StorageABC, there: Entry, copy: Copy) -> bool:
    if there.is_directory or there.size != copy.node.size:
        return False
    wanted = copy.node.sha256 or use_first(copy.node, copy.sources, sha256_of)
    return sha256_of(Source(service, there)) == wanted


def available(copy: Copy, service: StorageABC, entry: Entry) -> Replica:
    """Return the replica that a finished copy is."""
    return Replica(
        copy.service,
        copy.path,
        "available",
        size=entry.size if entry.size is not None else copy.node.size,
        mtime_ns=entry.mtime_ns if entry.mtime_ns is not None else copy.node.mtime_ns,
        mtime_precision_ns=service.capabilities.mtime_precision_ns,
        etag=entry.etag,
        hashes=entry.hashes,
        sha256=copy.node.sha256,
        version=copy.node.version,
        checked_ns=time.time_ns(),
        entry_id=copy.node.id,
    )
