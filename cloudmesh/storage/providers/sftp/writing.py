"""Storing a file: a temporary one beside it is filled, and then given the name."""

from __future__ import annotations

import posixpath
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from typing import NoReturn

from cloudmesh.storage import paths
from cloudmesh.storage.abc import Content, Entry, WriteMode
from cloudmesh.storage.errors import IsADirectory, QuotaExceeded, SourceChanged, StorageError, Unavailable
from cloudmesh.storage.providers.sftp import protocol
from cloudmesh.storage.providers.sftp.directories import make_dirs
from cloudmesh.storage.providers.sftp.entries import SECOND, to_entry, to_seconds
from cloudmesh.storage.providers.sftp.faults import about
from cloudmesh.storage.providers.sftp.pool import Pool
from cloudmesh.storage.providers.sftp.protocol import BLOCK, WINDOW, Attributes, ProtocolError, Sftp, Status
from cloudmesh.storage.providers.sftp.renaming import check_target, rename, temporary_beside
from cloudmesh.storage.providers.sftp.root import Root
from cloudmesh.storage.providers.sftp.sessions import Session, lend
from cloudmesh.storage.providers.sftp.ssh_session import ConnectionLost

Fill = Callable[[Sftp, bytes], tuple[int, int | None]]
"""Writes into the open file with that handle; returns its size and its modification time in ns."""

_COPY_STEP = 64 * 1024 * 1024
"""Bytes that the server copies in one request, so that it answers before the timeout."""
_NEW = protocol.OPEN_WRITE | protocol.OPEN_CREATE | protocol.OPEN_EXCLUSIVE


class Writer:
    """Stores files of one service.

    A temporary file that could not be removed, because the connection to do so failed too, is remembered and removed
    with the next file that is stored.
    """

    def __init__(self, pool: Pool[Session], root: Root) -> None:
        self._pool = pool
        self._root = root
        self._left: deque[bytes] = deque()

    def store(self, path: str, fill: Fill, mode: WriteMode, if_match: str | None = None) -> Entry:
        """Let ``fill`` write a new temporary file, then give it the name ``path``; as `StorageABC.write`."""
        root = self._root
        if not path:
            raise IsADirectory(root.location(path))
        temporary = temporary_beside(root.remote(path))
        begun = False
        try:
            with lend(self._pool, root.location(path)) as sftp:
                self._tidy(sftp)
                root.guard(sftp, path)
                looked = sftp.stat(root.remote(path))
                opened = sftp.open(temporary, _NEW)
                begun = True
                old = sftp.attributes_or_none(looked)
                try:
                    handle = sftp.handle(opened)
                except Status as error:
                    begun = False
                    if error.code != protocol.NO_SUCH_FILE:
                        _explain(sftp, root, path, error)
                    make_dirs(sftp, root, path, posixpath.dirname(root.remote(path)))
                    begun = True
                    handle = sftp.handle(sftp.open(temporary, _NEW))
                try:
                    check_target(root, path, old, mode, if_match)
                    size, mtime_ns = fill(sftp, handle)
                except BaseException:
                    with suppress(Status, ConnectionLost, ProtocolError):
                        sftp.forget(sftp.close(handle))
                        sftp.done(sftp.remove(temporary))
                        begun = False
                    raise
                attributes = self._finish(sftp, path, temporary, handle, old, size, mtime_ns)
                if if_match is not None:
                    now = sftp.attributes_or_none(sftp.stat(root.remote(path)))
                    check_target(root, path, now, mode, if_match)
                rename(sftp, root, temporary, path, mode)
                begun = False
                return to_entry(path, attributes)
        finally:
            if begun:
                self._remove(temporary)

    def _finish(
        self,
        sftp: Sftp,
        path: str,
        temporary: bytes,
        handle: bytes,
        old: Attributes | None,
        size: int,
        mtime_ns: int | None,
    ) -> Attributes:
        """Give the temporary file the time and the ``old`` one's permissions, close it and see that all is there."""
        permissions = old.permissions & 0o777 if old is not None and old.permissions is not None else None
        changes = None
        if permissions is not None or mtime_ns is not None:
            seconds = None if mtime_ns is None else to_seconds(mtime_ns)
            changes = sftp.fsetstat(handle, permissions=permissions, mtime=seconds)
        closed = sftp.close(handle)
        written = sftp.lstat(temporary)
        if changes is not None:
            sftp.done(changes)
        try:
            sftp.done(closed)
        except Status as error:
            _explain(sftp, self._root, path, error)
        attributes = sftp.attributes(written)
        if attributes.size != size:
            # OpenSSH's copy-data says that all is well when the disk is full.
            if _is_full(sftp, self._root, path):
                raise QuotaExceeded(self._root.location(path))
            raise Unavailable(self._root.location(path), f"the server kept {attributes.size} of {size} bytes")
        return attributes

    def _remove(self, temporary: bytes) -> None:
        """Remove what was begun. The connection may be the reason why, so this goes over another one."""
        try:
            with lend(self._pool, self._root.location("")) as sftp:
                sftp.done(sftp.remove(temporary))
        except StorageError:
            # Also where it is not there: the server may still be about to make it.
            self._left.append(temporary)

    def leave(self, temporary: bytes) -> None:
        """Remember a temporary file that could not be removed."""
        self._left.append(temporary)

    def remove_left(self) -> None:
        """Remove now what could not be removed, if a connection can be had."""
        if self._left:
            with suppress(StorageError), lend(self._pool, self._root.location("")) as sftp:
                left, numbers = [], []
                while self._left:
                    left.append(self._left.popleft())
                    numbers.append(sftp.remove(left[-1]))
                try:
                    for temporary, number in zip(left, numbers, strict=True):
                        try:
                            sftp.done(number)
                        except Status:  # not there: the server may still be about to make it
                            self._left.append(temporary)
                except (ConnectionLost, ProtocolError):
                    self._left.extend(left)
                    raise

    def _tidy(self, sftp: Sftp) -> None:
        while self._left:
            with suppress(IndexError):  # another thread may be tidying up too
                sftp.forget(sftp.remove(self._left.popleft()))


def content_of(root: Root, path: str, content: Content) -> Fill:
    """Return what writes ``content``, which is to become ``path``.

    Raises (when called):
        SourceChanged: it is longer or shorter than promised.
        QuotaExceeded: no room.
    """

    def fill(sftp: Sftp, handle: bytes) -> tuple[int, int | None]:
        return _send(sftp, root, path, handle, content), content.mtime_ns

    return fill


def copy_of(root: Root, source: str, destination: str) -> Fill:
    """Return what lets the server copy the file ``source``, to become ``destination``.

    Raises (when called):
        NotFound, IsADirectory, PermissionDenied: there is no such file.
        QuotaExceeded: no room.
    """

    def fill(sftp: Sftp, handle: bytes) -> tuple[int, int | None]:
        with about(root.location(source)):
            if root.look(sftp, source).is_directory:
                raise IsADirectory(root.location(source))
            original = sftp.handle(sftp.open(root.remote(source), protocol.OPEN_READ))
            try:
                attributes = sftp.attributes(sftp.fstat(original))
                size = attributes.size or 0
                for offset in range(0, size, _COPY_STEP):
                    sftp.done(sftp.copy_data(original, offset, min(_COPY_STEP, size - offset), handle))
            except Status as error:
                _explain(sftp, root, destination, error)
            finally:
                sftp.forget(sftp.close(original))
        return size, None if attributes.mtime is None else attributes.mtime * SECOND

    return fill


def _send(sftp: Sftp, root: Root, path: str, handle: bytes, content: Content) -> int:
    """Write the content's pieces, many blocks under way at once; return the number of bytes."""
    pending: deque[int] = deque()
    offset = 0
    try:
        for piece in content.open():
            view = memoryview(piece)
            if content.size is not None and offset + len(view) > content.size:
                raise SourceChanged(root.location(path), f"more than the promised {content.size} bytes came")
            for at in range(0, len(view), BLOCK):
                block = view[at : at + BLOCK]
                pending.append(sftp.write(handle, offset, block))
                offset += len(block)
                if len(pending) >= WINDOW:
                    sftp.done(pending.popleft())
        if content.size is not None and offset != content.size:
            raise SourceChanged(root.location(path), f"{offset} of the promised {content.size} bytes came")
        while pending:
            sftp.done(pending.popleft())
    except Status as error:
        _explain(sftp, root, path, error)
    finally:
        for number in pending:
            sftp.forget(number)
    return offset


def _explain(sftp: Sftp, root: Root, path: str, error: Status) -> NoReturn:
    """Raise what the failure of a write means: its plain FAILURE may be a full disk."""
    if error.code == protocol.FAILURE and _is_full(sftp, root, path):
        raise QuotaExceeded(root.location(path)) from error
    raise error


def _is_full(sftp: Sftp, root: Root, path: str) -> bool:
    """Tell whether no room is left where ``path`` lies; False where the server does not tell."""
    try:
        room = sftp.file_system(sftp.statvfs(root.existing(sftp, paths.parent(path))))
    except Status:
        return False
    return room.available < BLOCK or room.files_available == 0
