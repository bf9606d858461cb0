"""Whether a file at the destination is already what the source would bring: by the cheapest facts that decide it."""

from __future__ import annotations

from dataclasses import dataclass

from cloudmesh.storage.abc import SMALL, Entry, StorageABC
from cloudmesh.storage.digest import digest
from cloudmesh.storage.errors import NotFound
from cloudmesh.storage.transfer.options import TransferOptions

_LOCAL_HASHES = ("md5", "sha1", "sha256")
_STORED_PRECISION_NS = 1_000_000_000
"""Services tell when they stored a file in whole seconds (HTTP dates), and by their own clock."""


@dataclass(frozen=True, slots=True)
class Comparison:
    """How a transfer compares two files.

    Attributes:
        checksum: by content: hashes that both report, else what one reports or both hold is read.
        size_only: by size alone.
        update: leave a file alone that is newer at the destination, whatever it holds.
    """

    checksum: bool = False
    size_only: bool = False
    update: bool = False

    @classmethod
    def from_options(cls, options: TransferOptions) -> Comparison:
        """Return the comparison that the options ask for."""
        return cls(checksum=options.checksum, size_only=options.size_only, update=options.update)

    @property
    def trusts_journal(self) -> bool:
        """Whether a file that was the same, and has not changed since on either side by its facts, still is."""
        return not self.checksum

    def decide(self, source: StorageABC, entry: Entry, destination: StorageABC, existing: Entry) -> bool | None:
        """Return what `skips` would, where the two entries alone tell it; None where it costs a request or a read."""
        try:
            return self._skips(_NOTHING_ASKED, source, entry, destination, existing)
        except _Costs:
            return None

    def skips(self, source: StorageABC, entry: Entry, destination: StorageABC, existing: Entry) -> bool:
        """Tell whether nothing is to be done: ``existing`` is the same, or with ``update`` it is newer.

        Raises:
            StorageError: a file had to be looked at or read, and cannot be.
        """
        return self._skips(_ASKING, source, entry, destination, existing)

    def _skips(
        self, asking: _Asking, source: StorageABC, entry: Entry, destination: StorageABC, existing: Entry
    ) -> bool:
        if self.update and _is_newer(asking, destination, existing, source, entry):
            return True
        if self.size_only:
            return entry.size is not None and entry.size == existing.size
        if self.checksum:
            return _certainly_same(asking, source, entry, destination, existing)
        return _same(asking, source, entry, destination, existing)


class _Costs(Exception):
    """It cannot be told without asking a service."""


class _Asking:
    """What costs a request or a read."""

    def stat(self, service: StorageABC, entry: Entry) -> Entry:
        """The entry with its modification time, where the service knows it."""
        try:
            return service.stat(entry.path)
        except NotFound:
            return entry._replace(mtime_ns=None)

    def digest(self, service: StorageABC, path: str, algorithm: str) -> str:
        """The hash of a file's bytes."""
        return digest(service, path, algorithm)


class _NothingAsked(_Asking):
    """Nothing may cost anything."""

    def stat(self, service: StorageABC, entry: Entry) -> Entry:
        """Not for free."""
        raise _Costs

    def digest(self, service: StorageABC, path: str, algorithm: str) -> str:
        """Not for free."""
        raise _Costs


_ASKING = _Asking()
_NOTHING_ASKED = _NothingAsked()


def same(source: StorageABC, entry: Entry, destination: StorageABC, existing: Entry) -> bool:
    """Tell whether two files surely hold the same content, by the cheapest facts that decide it.

    Sizes that differ decide; then a hash that both report; then modification times, if both sides keep them, within the
    coarser precision (a listing that does not tell them costs one `stat`, or where the other side is a small file of
    this computer and a hash is known, a read of that). Where a side keeps none, one side's hash is
    compared with the other's bytes; and where the destination reports none either, it counts as the same if it was
    stored after the source was last modified, as ``aws s3 sync`` does.
    """
    return _same(_ASKING, source, entry, destination, existing)


def certainly_same(source: StorageABC, entry: Entry, destination: StorageABC, existing: Entry) -> bool:
    """Tell whether two files hold the same bytes, by hashes: reported ones, or else both are read."""
    return _certainly_same(_ASKING, source, entry, destination, existing)


def _same(asking: _Asking, source: StorageABC, entry: Entry, destination: StorageABC, existing: Entry) -> bool:
    if entry.size is None or existing.size is None or entry.size != existing.size:
        return False
    if not (source.capabilities.mtime_precision_ns and destination.capabilities.mtime_precision_ns):
        known = _same_hash(asking, source, entry, destination, existing)
        return known if known is not None else _stored_later(entry, existing)
    if entry.hashes and existing.hashes and not entry.hashes.keys().isdisjoint(existing.hashes):
        return bool(_same_hash(asking, source, entry, destination, existing))
    if _reads_cheaper(source, entry, destination, existing) or _reads_cheaper(destination, existing, source, entry):
        return bool(_same_hash(asking, source, entry, destination, existing))
    mine = _with_mtime(asking, source, entry)
    theirs = _with_mtime(asking, destination, existing)
    if mine.mtime_ns is None or theirs.mtime_ns is None:
        known = _same_hash(asking, source, mine, destination, theirs)
        return known if known is not None else _stored_later(mine, theirs)
    precision = max(source.capabilities.mtime_precision_ns, destination.capabilities.mtime_precision_ns)
    return abs(mine.mtime_ns - theirs.mtime_ns) < max(precision, 1)


def _reads_cheaper(service: StorageABC, entry: Entry, other: StorageABC, existing: Entry) -> bool:
    """Tell whether reading ``entry``, a small file of this computer, costs less than asking for the other's time."""
    is_told = existing.mtime_ns is not None or other.capabilities.scan_mtime
    is_near = service.settings.kind == "local" and entry.size is not None and entry.size <= SMALL
    return not is_told and is_near and not existing.hashes.keys().isdisjoint(_LOCAL_HASHES)


def _certainly_same(
    asking: _Asking, source: StorageABC, entry: Entry, destination: StorageABC, existing: Entry
) -> bool:
    if entry.size != existing.size:
        return False
    known = _same_hash(asking, source, entry, destination, existing)
    if known is not None:
        return known
    algorithm = "sha256"
    return asking.digest(source, entry.path, algorithm) == asking.digest(destination, existing.path, algorithm)


def _is_newer(asking: _Asking, service: StorageABC, entry: Entry, than_service: StorageABC, than: Entry) -> bool:
    """Tell whether ``entry`` was modified after ``than``, by more than the coarser precision.

    Where a service does not know when a file was modified, it counts as modified when it was stored there.
    """
    mine, my_precision = _modified(asking, service, entry)
    theirs, their_precision = _modified(asking, than_service, than)
    return mine is not None and theirs is not None and mine - theirs > max(my_precision, their_precision)


def _with_mtime(asking: _Asking, service: StorageABC, entry: Entry) -> Entry:
    if entry.mtime_ns is not None or service.capabilities.scan_mtime:
        return entry
    return asking.stat(service, entry)


def _modified(asking: _Asking, service: StorageABC, entry: Entry) -> tuple[int | None, int]:
    """When a file was last modified, and how precisely that is known; both in ns."""
    precision = service.capabilities.mtime_precision_ns
    if precision and (mtime_ns := _with_mtime(asking, service, entry).mtime_ns) is not None:
        return mtime_ns, precision
    return entry.changed_ns, _STORED_PRECISION_NS


def _stored_later(entry: Entry, existing: Entry) -> bool:
    modified = entry.mtime_ns if entry.mtime_ns is not None else entry.changed_ns
    return modified is not None and existing.changed_ns is not None and existing.changed_ns > modified


def _same_hash(
    asking: _Asking, source: StorageABC, entry: Entry, destination: StorageABC, existing: Entry
) -> bool | None:
    """Compare by a hash, reading a side that does not report the other's; None where no side reports one."""
    common = entry.hashes.keys() & existing.hashes.keys()
    if common:
        return all(entry.hashes[algorithm] == existing.hashes[algorithm] for algorithm in common)
    for known, service, path in ((existing, source, entry.path), (entry, destination, existing.path)):
        algorithm = next((name for name in _LOCAL_HASHES if name in known.hashes), None)
        if algorithm is not None:
            return asking.digest(service, path, algorithm) == known.hashes[algorithm]
    return None
