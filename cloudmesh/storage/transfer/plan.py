"""What has to be done to make one tree like another: two sorted listings, compared in one pass.

The memory needed is that of the listings' own streams: neither side is ever held whole.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Literal

from cloudmesh.storage import paths
from cloudmesh.storage.abc import Entry, StorageABC
from cloudmesh.storage.digest import digest
from cloudmesh.storage.errors import NotFound

_LOCAL_HASHES = ("md5", "sha1", "sha256")


@dataclass(frozen=True, slots=True)
class Step:
    """One thing to do.

    Attributes:
        action: ``copy`` a file, ``make_dir`` an empty directory, or ``skip`` a file that is the same already.
        source: the file or directory on the source service.
        destination: path on the destination service.
        replaces: the destination's file that a copy overwrites.
    """

    action: Literal["copy", "make_dir", "skip"]
    source: Entry
    destination: str
    replaces: Entry | None = None


class Tree:
    """A directory, or one file, of a service: one side of a plan."""

    def __init__(self, service: StorageABC, path: str) -> None:
        self.service = service
        self.path = path

    def relative(self, entry: Entry) -> str:
        """Return the entry's path below this tree's top."""
        return entry.path[len(self.path) + 1 :] if self.path else entry.path

    def entries(self) -> Iterator[Entry]:
        """Yield what is in the tree, sorted; nothing where it does not exist."""
        with suppress(NotFound):
            yield from self.service.scan(self.path, recursive=True)


def plan_tree(source: Tree, destination: Tree) -> Iterator[Step]:
    """Yield the steps that bring every file and every empty directory of ``source`` to ``destination``.

    Nothing is removed. The source must exist.

    Raises:
        NotFound, NotADirectory: about the source, at the first step.
        StorageError: what the listings raise.
    """
    for entry, existing, is_empty in _paired(source, destination):
        target = paths.join(destination.path, source.relative(entry))
        if entry.is_directory:
            if is_empty and existing is None and destination.service.capabilities.empty_directories:
                yield Step("make_dir", entry, target)
        else:
            yield plan_file(source.service, entry, destination.service, target, existing)


def plan_file(source: StorageABC, entry: Entry, destination: StorageABC, target: str, existing: Entry | None) -> Step:
    """Return the step for one file: ``skip`` where ``existing`` is surely the same, else ``copy``."""
    if existing is not None and same(source, entry, destination, existing):
        return Step("skip", entry, target, existing)
    return Step("copy", entry, target, existing)


def _paired(source: Tree, destination: Tree) -> Iterator[tuple[Entry, Entry | None, bool]]:
    """Yield each source entry with the destination's entry of the same kind and name, and whether nothing is in it."""
    others = destination.entries()
    other = next(others, None)
    pending: tuple[Entry, Entry | None] | None = None
    for entry in source.service.scan(source.path, recursive=True):
        if pending is not None:
            yield (*pending, not entry.path.startswith(pending[0].path + "/"))
        key = paths.sort_key(source.relative(entry), entry.is_directory)
        while other is not None and paths.sort_key(destination.relative(other), other.is_directory) < key:
            other = next(others, None)
        matches = other is not None and paths.sort_key(destination.relative(other), other.is_directory) == key
        pending = (entry, other if matches else None)
    if pending is not None:
        yield (*pending, True)


def same(source: StorageABC, entry: Entry, destination: StorageABC, existing: Entry) -> bool:
    """Tell whether two files surely hold the same content, by the cheapest facts that decide it.

    Sizes that differ decide; then a hash that both report; then modification times, if both sides keep them, within the
    coarser precision (a listing that does not tell them costs one `stat`). Where a side keeps none, one side's hash is
    compared with the other's bytes; and where the destination reports none either, it counts as the same if it was
    stored after the source was last modified, as ``aws s3 sync`` does.
    """
    if entry.size is None or existing.size is None or entry.size != existing.size:
        return False
    if not (source.capabilities.mtime_precision_ns and destination.capabilities.mtime_precision_ns):
        known = _same_hash(source, entry, destination, existing)
        return known if known is not None else _stored_later(entry, existing)
    if entry.hashes and existing.hashes and not entry.hashes.keys().isdisjoint(existing.hashes):
        return bool(_same_hash(source, entry, destination, existing))
    mine = _with_mtime(source, entry)
    theirs = _with_mtime(destination, existing)
    if mine.mtime_ns is None or theirs.mtime_ns is None:
        known = _same_hash(source, mine, destination, theirs)
        return known if known is not None else _stored_later(mine, theirs)
    precision = max(source.capabilities.mtime_precision_ns, destination.capabilities.mtime_precision_ns)
    return abs(mine.mtime_ns - theirs.mtime_ns) < max(precision, 1)


def certainly_same(source: StorageABC, entry: Entry, destination: StorageABC, existing: Entry) -> bool:
    """Tell whether two files hold the same bytes, by hashes: reported ones, or else both are read."""
    if entry.size != existing.size:
        return False
    known = _same_hash(source, entry, destination, existing)
    if known is not None:
        return known
    return digest(source, entry.path) == digest(destination, existing.path)


def _with_mtime(service: StorageABC, entry: Entry) -> Entry:
    if entry.mtime_ns is not None or service.capabilities.scan_mtime:
        return entry
    try:
        return service.stat(entry.path)
    except NotFound:
        return replace(entry, mtime_ns=None)


def _stored_later(entry: Entry, existing: Entry) -> bool:
    modified = entry.mtime_ns if entry.mtime_ns is not None else entry.changed_ns
    return modified is not None and existing.changed_ns is not None and existing.changed_ns > modified


def _same_hash(source: StorageABC, entry: Entry, destination: StorageABC, existing: Entry) -> bool | None:
    """Compare by a hash, reading a side that does not report the other's; None where no side reports one."""
    common = entry.hashes.keys() & existing.hashes.keys()
    if common:
        return all(entry.hashes[algorithm] == existing.hashes[algorithm] for algorithm in common)
    for known, service, path in ((existing, source, entry.path), (entry, destination, existing.path)):
        algorithm = next((name for name in _LOCAL_HASHES if name in known.hashes), None)
        if algorithm is not None:
            return digest(service, path, algorithm) == known.hashes[algorithm]
    return None
