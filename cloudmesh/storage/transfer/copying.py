"""Copying one file between two services, by the best way that both can."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator

from cloudmesh.storage.abc import Content, Entry, Reader, StorageABC, WriteMode
from cloudmesh.storage.disk import Disk
from cloudmesh.storage.errors import ChecksumMismatch
from cloudmesh.storage.transfer.events import Event, Observer, nobody


def copy_file(
    source: StorageABC,
    entry: Entry,
    destination: StorageABC,
    target: str,
    *,
    mode: WriteMode = "overwrite",
    expected_sha256: str | None = None,
    observer: Observer = nobody,
) -> Entry:
    """Copy one file: on the service's own side, to or from the local disk natively, or streaming from one to the other.

    Args:
        source: where it is.
        entry: which file; while it has an ``etag`` the file must still have the same.
        destination: where to.
        target: path there.
        mode: as `StorageABC.write`.
        expected_sha256: what the bytes must be, lower-case hex, where they are read through this process.
        observer: hears of the bytes moved.

    Returns:
        the new file.

    Raises:
        StorageError: as `StorageABC.open_read` and `StorageABC.write`; ChecksumMismatch if the bytes are not those
            expected: then nothing was changed.
    """
    name = source.location(entry.path)
    if source is destination and source.capabilities.server_copy:
        made = destination.copy_within(entry.path, target, mode=mode)
        observer(Event("moved", name, entry.size or 0))
        return made
    if isinstance(destination, Disk) and not isinstance(source, Disk):
        made = destination.fetch(source, entry, target, mode=mode, expected_sha256=expected_sha256)
        observer(Event("moved", name, made.size or 0))
        return made
    if isinstance(source, Disk):
        return destination.write(target, _of_disk(source, entry, observer), mode=mode)
    with _Relay(source, entry, observer, expected_sha256) as content:
        return destination.write(target, content, mode=mode)


def _of_disk(source: Disk, entry: Entry, observer: Observer) -> Content:
    """The content of a local file; refused by its reader or by its size if it changes meanwhile."""
    name = source.location(entry.path)

    def pieces() -> Iterator[bytes]:
        with source.open_read(entry.path, if_match=entry.etag) as reader:
            for piece in reader:
                yield piece
                observer(Event("moved", name, len(piece)))

    return Content(open=pieces, size=entry.size, mtime_ns=entry.mtime_ns, path=source.path_of(entry.path))


class _Relay:
    """A file being read from one service as the content of a write to another.

    The file is opened before the write begins, because its modification time, which a listing need not tell, comes with
    the answer; so a file costs one request on the side that is read.
    """

    def __init__(self, source: StorageABC, entry: Entry, observer: Observer, expected_sha256: str | None) -> None:
        self._source = source
        self._entry = entry
        self._observer = observer
        self._expected = expected_sha256
        self._reader: Reader | None = source.open_read(entry.path, if_match=entry.etag)
        opened = self._reader.entry
        self._content = Content(
            open=self._pieces,
            size=entry.size if entry.size is not None else opened.size,
            mtime_ns=entry.mtime_ns if entry.mtime_ns is not None else opened.mtime_ns,
        )

    def __enter__(self) -> Content:
        return self._content

    def __exit__(self, *_: object) -> None:
        if self._reader is not None:
            self._reader.close()

    def _pieces(self) -> Iterator[bytes]:
        reader = self._reader or self._source.open_read(self._entry.path, if_match=self._entry.etag)
        self._reader = None
        state = hashlib.sha256() if self._expected else None
        name = self._source.location(self._entry.path)
        with reader:
            for piece in reader:
                if state is not None:
                    state.update(piece)
                yield piece
                self._observer(Event("moved", name, len(piece)))
        if state is not None and state.hexdigest() != self._expected:
            raise ChecksumMismatch(name, "its bytes are not those of this version")
