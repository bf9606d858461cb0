"""Reading a file: many blocks under way at once, as many as the reader keeps up with."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from contextlib import suppress

from cloudmesh.storage.abc import Reader
from cloudmesh.storage.errors import IsADirectory, PreconditionFailed, SourceChanged, StorageError
from cloudmesh.storage.providers.sftp import protocol
from cloudmesh.storage.providers.sftp.entries import to_entry
from cloudmesh.storage.providers.sftp.pool import Lease, Pool
from cloudmesh.storage.providers.sftp.protocol import BLOCK, OPEN_READ, WINDOW, ProtocolError, Sftp, Status
from cloudmesh.storage.providers.sftp.root import Root
from cloudmesh.storage.providers.sftp.sessions import Session, failing

_FIRST = 4
"""Blocks that are asked for before any came."""

Requests = deque[tuple[int, int, int]]
"""Reads under way: number, offset and length of each."""


def open_read(
    pool: Pool[Session], root: Root, path: str, start: int, length: int | None, if_match: str | None
) -> Reader:
    """Open as `StorageABC.open_read`. The reader holds one session until it is closed or read to its end."""
    lease = pool.lease()
    try:
        with failing(lease, root.location(path), keep=True):
            return _open(lease, root, path, start, length, if_match)
    except BaseException:
        lease.release()
        raise


def _open(lease: Lease[Session], root: Root, path: str, start: int, length: int | None, if_match: str | None) -> Reader:
    sftp = lease.item.sftp
    # Opening a FIFO would never end, so one looks first. Whoever has an etag saw a file there, and need not wait.
    opened = sftp.open(root.remote(path), OPEN_READ) if if_match is not None else None
    handle = None
    requests: Requests = deque()
    try:
        looked = root.look(sftp, path)
        if looked.is_directory:
            raise IsADirectory(root.location(path))
        number, opened = opened or sftp.open(root.remote(path), OPEN_READ), None
        handle = sftp.handle(number)
        # What is read is what was opened, even if the name means another file by now.
        status = sftp.fstat(handle)
        begin, end = _range(looked.size or 0, start, length)
        requests = _ask(sftp, handle, begin, end, _FIRST)
        attributes = sftp.attributes(status)
        entry = to_entry(path, attributes)
        if if_match is not None and entry.etag != if_match:
            raise PreconditionFailed(root.location(path))
        if attributes.size != looked.size:
            _forget(sftp, requests)
            begin, end = _range(attributes.size or 0, start, length)
            requests = _ask(sftp, handle, begin, end, _FIRST)
    except (Status, StorageError):
        if opened is not None:
            with suppress(Status):
                handle = sftp.handle(opened)
        _forget(sftp, requests)
        if handle is not None:
            sftp.forget(sftp.close(handle))
        raise
    stream = _Stream(lease, root.location(path), handle, requests, end)
    return Reader(entry, stream.pieces(), stream.close)


class _Stream:
    """An open file and the reads of it that are under way."""

    def __init__(self, lease: Lease[Session], subject: str, handle: bytes, requests: Requests, end: int) -> None:
        self._lease = lease
        self._subject = subject
        self._handle = handle
        self._requests = requests
        self._end = end

    def pieces(self) -> Iterator[bytes]:
        """Yield what was asked for and ask for more, ever more at once, until the end."""
        sftp, requests = self._lease.item.sftp, self._requests
        window = len(requests)
        try:
            while requests:
                with failing(self._lease, self._subject, keep=True):
                    number, offset, length = requests.popleft()
                    try:
                        data = sftp.data(number)
                    except Status as error:
                        if error.code == protocol.EOF:
                            raise SourceChanged(self._subject, "the file became shorter while it was read") from error
                        raise
                    last = requests[-1] if requests else (number, offset, length)
                    if not data:
                        raise ProtocolError("the server sent no bytes where some were due")
                    if len(data) < length:
                        rest, missing = offset + len(data), length - len(data)
                        requests.appendleft((sftp.read(self._handle, rest, missing), rest, missing))
                    window = min(window + 1, WINDOW)
                    requests += _ask(sftp, self._handle, last[1] + last[2], self._end, window - len(requests))
                    sftp.flush()
                yield data
        finally:
            self.close()

    def close(self) -> None:
        """Let go of the handle and the session; once."""
        if self._lease.is_held:
            sftp = self._lease.item.sftp
            _forget(sftp, self._requests)
            sftp.forget(sftp.close(self._handle))
            with failing(self._lease, self._subject):
                sftp.flush()


def _range(size: int, start: int, length: int | None) -> tuple[int, int]:
    """Return the first byte and the one after the last, of a file of ``size`` bytes."""
    begin = max(0, size + start) if start < 0 else start
    return begin, size if length is None else min(size, begin + length)


def _ask(sftp: Sftp, handle: bytes, begin: int, end: int, count: int) -> Requests:
    """Send up to ``count`` reads from ``begin`` on."""
    requests: Requests = deque()
    while len(requests) < count and begin < end:
        length = min(BLOCK, end - begin)
        requests.append((sftp.read(handle, begin, length), begin, length))
        begin += length
    return requests


def _forget(sftp: Sftp, requests: Requests) -> None:
    for number, _, _ in requests:
        sftp.forget(number)
