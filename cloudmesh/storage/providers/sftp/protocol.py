"""The SFTP protocol, version 3 (draft-ietf-secsh-filexfer-02) with OpenSSH's extensions, over a byte channel.

Each request is two steps, so that many can be under way at once: a method that sends it and returns its number, and a
method that waits for the answer to that number::

    opened = sftp.open(b"a.txt", OPEN_READ)
    status = sftp.lstat(b"a.txt")
    handle, attributes = sftp.handle(opened), sftp.attributes(status)

Sent requests are collected and leave together when an answer has to be waited for. Names are bytes, as they are on the
wire.
"""

from __future__ import annotations

import stat
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol

OPEN_READ, OPEN_WRITE, OPEN_CREATE, OPEN_EXCLUSIVE = 0x01, 0x02, 0x08, 0x20

EOF, NO_SUCH_FILE, PERMISSION_DENIED, FAILURE, BAD_MESSAGE, UNSUPPORTED = 1, 2, 3, 4, 5, 8

BLOCK = 32 * 1024
"""Bytes in one read or write request: what every server must take."""
WINDOW = 48
"""Reads or writes of one file under way at once: 1.5 MiB, less than the 2 MiB that sshd takes before it stalls us."""

_INIT, _VERSION, _OPEN, _CLOSE, _READ, _WRITE, _LSTAT, _FSTAT, _SETSTAT, _FSETSTAT = 1, 2, 3, 4, 5, 6, 7, 8, 9, 10
_OPENDIR, _READDIR, _REMOVE, _MKDIR, _RMDIR, _REALPATH, _STAT, _RENAME = 11, 12, 13, 14, 15, 16, 17, 18
_STATUS, _HANDLE, _DATA, _NAME, _ATTRS, _EXTENDED, _EXTENDED_REPLY = 101, 102, 103, 104, 105, 200, 201
_SIZE, _OWNER, _PERMISSIONS, _TIMES, _MORE = 0x01, 0x02, 0x04, 0x08, 0x80000000

_COLLECT = 128 * 1024
"""Bytes of requests that are collected before they are sent."""
_LONGEST = 64 * 1024 * 1024
"""Bytes in one answer that are believed."""


class Channel(Protocol):
    """What carries the bytes."""

    def send(self, data: bytes) -> None:
        """Send all of ``data``."""

    def receive(self) -> bytes:
        """Return the next bytes, at least one."""


class Status(Exception):
    """The server answered a request with an error: one of the codes above."""

    def __init__(self, code: int, text: str) -> None:
        self.code = code
        super().__init__(code, text)


class ProtocolError(Exception):
    """What came is not SFTP, or not the answer to what was asked; the connection is of no more use."""


@dataclass(frozen=True, slots=True)
class Attributes:
    """What the server told about a file; None where it did not tell. ``mtime`` in whole seconds since the epoch."""

    size: int | None = None
    permissions: int | None = None
    mtime: int | None = None

    @property
    def is_directory(self) -> bool:
        """Whether it is a directory."""
        return stat.S_ISDIR(self.permissions or 0)

    @property
    def is_link(self) -> bool:
        """Whether it is a symbolic link."""
        return stat.S_ISLNK(self.permissions or 0)

    @property
    def is_file(self) -> bool:
        """Whether it is a regular file; what has no type is believed to be one."""
        return stat.S_IFMT(self.permissions or 0) in (0, stat.S_IFREG)


@dataclass(frozen=True, slots=True)
class FileSystem:
    """Room on a file system, in bytes, and free places for new files (None where it has no such limit)."""

    total: int
    free: int
    available: int
    files_available: int | None


class Sftp:
    """An SFTP session. Used by one thread at a time.

    Attributes:
        extensions: name to version of what the server can do beyond version 3.
    """

    def __init__(self, channel: Channel) -> None:
        self._channel = channel
        self._received = bytearray()
        self._collected: list[bytes] = []
        self._collected_bytes = 0
        self._number = 0
        self._early: dict[int, tuple[int, bytes]] = {}
        self._forgotten: set[int] = set()
        channel.send(struct.pack(">IBI", 5, _INIT, 3))
        kind, body = self._packet()
        if kind != _VERSION:
            raise ProtocolError("the server does not speak SFTP")
        self.extensions = dict(_pairs(body[4:]))

    @property
    def answers_due(self) -> bool:
        """Whether answers may come that nobody waits for any more."""
        return bool(self._forgotten)

    # ---- requests: each returns the number by which its answer is asked for ----------------------------------------

    def open(self, path: bytes, flags: int) -> int:
        """Open a file; the answer is a `handle`."""
        return self._send(_OPEN, _string(path), struct.pack(">II", flags, 0))

    def close(self, handle: bytes) -> int:
        """Close a handle; the answer is a status (`done`)."""
        return self._send(_CLOSE, _string(handle))

    def read(self, handle: bytes, offset: int, length: int) -> int:
        """Read at most ``length`` bytes; the answer is `data`."""
        return self._send(_READ, _string(handle), struct.pack(">QI", offset, length))

    def write(self, handle: bytes, offset: int, data: bytes | memoryview) -> int:
        """Write at most `BLOCK` bytes; the answer is a status."""
        return self._send(_WRITE, _string(handle), struct.pack(">QI", offset, len(data)), data)

    def lstat(self, path: bytes) -> int:
        """Ask for `attributes`, of a link itself."""
        return self._send(_LSTAT, _string(path))

    def stat(self, path: bytes) -> int:
        """Ask for `attributes`, of what a link points to."""
        return self._send(_STAT, _string(path))

    def fstat(self, handle: bytes) -> int:
        """Ask for `attributes` of an open file."""
        return self._send(_FSTAT, _string(handle))

    def setstat(self, path: bytes, mtime: int) -> int:
        """Set the modification time, in seconds since the epoch; the answer is a status."""
        return self._send(_SETSTAT, _string(path), struct.pack(">III", _TIMES, mtime, mtime))

    def fsetstat(self, handle: bytes, *, permissions: int | None = None, mtime: int | None = None) -> int:
        """Set permissions and modification time of an open file; the answer is a status."""
        flags = (_PERMISSIONS if permissions is not None else 0) | (_TIMES if mtime is not None else 0)
        body = struct.pack(">I", flags)
        if permissions is not None:
            body += struct.pack(">I", permissions)
        if mtime is not None:
            body += struct.pack(">II", mtime, mtime)
        return self._send(_FSETSTAT, _string(handle), body)

    def opendir(self, path: bytes) -> int:
        """Open a directory; the answer is a `handle`."""
        return self._send(_OPENDIR, _string(path))

    def readdir(self, handle: bytes) -> int:
        """Ask for the next `names` of an open directory."""
        return self._send(_READDIR, _string(handle))

    def remove(self, path: bytes) -> int:
        """Remove a file; the answer is a status."""
        return self._send(_REMOVE, _string(path))

    def mkdir(self, path: bytes) -> int:
        """Make a directory; the answer is a status."""
        return self._send(_MKDIR, _string(path), struct.pack(">I", 0))

    def rmdir(self, path: bytes) -> int:
        """Remove an empty directory; the answer is a status."""
        return self._send(_RMDIR, _string(path))

    def realpath(self, path: bytes) -> int:
        """Ask for the absolute path without links, as the one of `names`."""
        return self._send(_REALPATH, _string(path))

    def rename(self, source: bytes, destination: bytes) -> int:
        """Rename where ``destination`` does not exist; the answer is a status."""
        return self._send(_RENAME, _string(source), _string(destination))

    def posix_rename(self, source: bytes, destination: bytes) -> int:
        """Rename, replacing what is there; the answer is a status. Needs ``posix-rename@openssh.com``."""
        return self._extended(b"posix-rename@openssh.com", _string(source), _string(destination))

    def copy_data(self, source: bytes, offset: int, length: int, destination: bytes) -> int:
        """Copy bytes between two handles, to the same offset; the answer is a status. Needs ``copy-data``."""
        return self._extended(
            b"copy-data",
            _string(source),
            struct.pack(">QQ", offset, length),
            _string(destination),
            struct.pack(">Q", offset),
        )

    def statvfs(self, path: bytes) -> int:
        """Ask for the `file_system` that holds ``path``. Needs ``statvfs@openssh.com``."""
        return self._extended(b"statvfs@openssh.com", _string(path))

    # ---- answers; each raises Status where the server answered with an error --------------------------------------

    def done(self, number: int) -> None:
        """Wait until the request is carried out."""
        kind, body = self._answer(number)
        if kind != _STATUS:
            raise ProtocolError(f"the server answered with {kind} where a status was due")
        _raise_unless_ok(body)

    def handle(self, number: int) -> bytes:
        """Wait for the handle of what was opened."""
        return _take_string(self._expect(number, _HANDLE), 0)[0]

    def data(self, number: int) -> bytes:
        """Wait for bytes that were read; Status with the code EOF at the end of the file."""
        return self._expect(number, _DATA)[4:]

    def attributes(self, number: int) -> Attributes:
        """Wait for attributes."""
        return _take_attributes(self._expect(number, _ATTRS), 0)[0]

    def attributes_or_none(self, number: int) -> Attributes | None:
        """Wait for attributes; None where nothing is there."""
        try:
            return self.attributes(number)
        except Status as error:
            if error.code == NO_SUCH_FILE:
                return None
            raise

    def path(self, number: int) -> bytes:
        """Wait for the one name that answers `realpath`."""
        return self.names(number)[0][0]

    def names(self, number: int) -> list[tuple[bytes, Attributes]]:
        """Wait for names; Status with the code EOF after the last ones of a directory."""
        body = self._expect(number, _NAME)
        (count,) = struct.unpack_from(">I", body)
        at = 4
        result = []
        for _ in range(count):
            name, at = _take_string(body, at)
            _, at = _take_string(body, at)
            attributes, at = _take_attributes(body, at)
            result.append((name, attributes))
        return result

    def file_system(self, number: int) -> FileSystem:
        """Wait for the answer to `statvfs`."""
        answer = self._expect(number, _EXTENDED_REPLY)
        _, unit, blocks, free, available, files, _, files_available = struct.unpack_from(">8Q", answer)
        return FileSystem(blocks * unit, free * unit, available * unit, files_available if files else None)

    def forget(self, number: int) -> None:
        """Let the answer to ``number`` be thrown away when it comes."""
        if self._early.pop(number, None) is None:
            self._forgotten.add(number)

    def flush(self) -> None:
        """Send what is collected now."""
        if self._collected:
            data = b"".join(self._collected)
            self._collected.clear()
            self._collected_bytes = 0
            self._channel.send(data)

    # ---- packets --------------------------------------------------------------------------------------------------

    def _extended(self, name: bytes, *parts: bytes) -> int:
        if name not in self.extensions:
            raise Status(UNSUPPORTED, f"the server has no {name.decode()}")
        return self._send(_EXTENDED, _string(name), *parts)

    def _send(self, kind: int, *parts: bytes | memoryview) -> int:
        self._number = self._number % 0xFFFFFFFF + 1
        length = sum(map(len, parts))
        self._collected.append(struct.pack(">IBI", length + 5, kind, self._number))
        self._collected.extend(parts)  # type: ignore[arg-type]
        self._collected_bytes += length + 9
        if self._collected_bytes >= _COLLECT:
            self.flush()
        return self._number

    def _expect(self, number: int, wanted: int) -> bytes:
        kind, body = self._answer(number)
        if kind == wanted:
            return body
        if kind == _STATUS:
            _raise_unless_ok(body)
        raise ProtocolError(f"the server answered with {kind} where {wanted} was due")

    def _answer(self, number: int) -> tuple[int, bytes]:
        """Wait for one answer; those that overtake it are kept for who asks for them."""
        while number not in self._early:
            kind, body = self._packet()
            got = int.from_bytes(body[:4], "big")
            if got in self._forgotten:
                self._forgotten.remove(got)
            elif got == number:
                return kind, body[4:]
            else:
                self._early[got] = (kind, body[4:])
        return self._early.pop(number)

    def _packet(self) -> tuple[int, bytes]:
        received = self._received
        while len(received) < 5:
            self.flush()
            received += self._channel.receive()
        length = int.from_bytes(received[:4], "big")
        if not 5 <= length <= _LONGEST:
            raise ProtocolError("the server does not speak SFTP; its shell may print something at login")
        while len(received) < length + 4:
            self.flush()
            received += self._channel.receive()
        with memoryview(received) as view:
            kind, body = view[4], bytes(view[5 : length + 4])
        del received[: length + 4]
        return kind, body


def _string(data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + data


def _take_string(body: bytes, at: int) -> tuple[bytes, int]:
    (length,) = struct.unpack_from(">I", body, at)
    return body[at + 4 : at + 4 + length], at + 4 + length


def _take_attributes(body: bytes, at: int) -> tuple[Attributes, int]:
    (flags,) = struct.unpack_from(">I", body, at)
    at += 4
    size = permissions = mtime = None
    if flags & _SIZE:
        (size,) = struct.unpack_from(">Q", body, at)
        at += 8
    if flags & _OWNER:
        at += 8
    if flags & _PERMISSIONS:
        (permissions,) = struct.unpack_from(">I", body, at)
        at += 4
    if flags & _TIMES:
        _, mtime = struct.unpack_from(">II", body, at)
        at += 8
    if flags & _MORE:
        (count,) = struct.unpack_from(">I", body, at)
        at += 4
        for _ in range(2 * count):
            _, at = _take_string(body, at)
    return Attributes(size, permissions, mtime), at


def _pairs(body: bytes) -> Iterator[tuple[bytes, bytes]]:
    at = 0
    while at < len(body):
        name, at = _take_string(body, at)
        value, at = _take_string(body, at)
        yield name, value


def _raise_unless_ok(body: bytes) -> None:
    (code,) = struct.unpack_from(">I", body)
    if code:
        text = _take_string(body, 4)[0].decode("utf-8", "replace") if len(body) >= 8 else ""
        raise Status(code, text)
