"""The provider for SFTP: the primitives of the contract, in SFTP's requests."""

from __future__ import annotations

import posixpath
import time
import uuid
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from importlib.util import find_spec
from pathlib import Path
from typing import NoReturn

from cloudmesh.storage import paths
from cloudmesh.storage.abc import (
    Capabilities,
    Content,
    Entry,
    Reader,
    ServiceSettings,
    StorageABC,
    Usage,
    WriteMode,
)
from cloudmesh.storage.errors import (
    AlreadyExists,
    ConfigError,
    DirectoryNotEmpty,
    InvalidName,
    IsADirectory,
    MissingExtra,
    NotADirectory,
    NotFound,
    PermissionDenied,
    PreconditionFailed,
    QuotaExceeded,
    Refused,
    SourceChanged,
    StorageError,
    Unavailable,
    Unsupported,
)
from cloudmesh.storage.paths import TEMPORARY_PREFIX
from cloudmesh.storage.providers.sftp import protocol
from cloudmesh.storage.providers.sftp.known_hosts import DEFAULT_FILES
from cloudmesh.storage.providers.sftp.pool import Lease, Pool
from cloudmesh.storage.providers.sftp.protocol import BLOCK, Attributes, ProtocolError, Sftp, Status
from cloudmesh.storage.providers.sftp.session import Connection, ConnectionLost, Host, Login, parse_host

_SECOND = 1_000_000_000
_WINDOW = 48
"""Reads or writes of one file under way at once: 1.5 MiB, less than the 2 MiB that sshd takes before it stalls us."""
_COPY_STEP = 64 * 1024 * 1024
"""Bytes that the server copies in one request, so that it answers before the timeout."""
_BATCH = 64
"""Small requests under way at once."""
_LAST_SECOND = 0xFFFFFFFF
_REMEMBERED = 10_000
_BELIEVED_SECONDS = 30.0


class _Session:
    """A pooled connection: the ssh channel and the SFTP session on it."""

    def __init__(self, login: Login) -> None:
        self._connection = Connection(login)
        try:
            self.sftp = Sftp(self._connection)
        except (ConnectionLost, ProtocolError) as error:
            self._connection.close()
            raise Unavailable(login.service, str(error)) from error

    def is_usable(self) -> bool:
        return self._connection.is_open(answers_due=self.sftp.answers_due)

    def close(self) -> None:
        self._connection.close()


class SftpStorage(StorageABC):
    """Files below one directory of a host that is reached by ssh.

    The host's key must be in the known_hosts file. Without ``key_file`` and ``password`` the keys of the ssh agent and
    of ~/.ssh are tried. A relative ``default.directory`` lies below the directory of the login.

    A file is written under a temporary name and then renamed over the old one (``posix-rename@openssh.com``); on a
    server that cannot do that, the old file is set aside for the moment of the rename. ``mode="create"`` uses SFTP's
    own rename, which refuses to replace. Modification times have whole seconds. The ``etag`` is made of modification
    time and size, for SFTP tells no more. Symbolic links are followed where they end inside the root; one that leads
    out is left out of scans and refused with PermissionDenied.
    """

    kind = "sftp"
    keys = {  # noqa: RUF012 - ClassVar in the base
        "host": "name or address of the host",
        "port": "its port; 22 where it is left out",
        "username": "the user to log in as",
        "password": "the user's password, where no key is used",
        "key_file": "the private key; without it and a password the ssh agent and ~/.ssh are tried",
        "key_passphrase": "the passphrase of the key file",
        "known_hosts": "the file of known host keys; ~/.ssh/known_hosts where it is left out",
        "jump": "a host to go through, as user@host:port",
    }
    required = frozenset({"host", "username"})
    secrets = frozenset({"password", "key_passphrase"})

    def __init__(self, settings: ServiceSettings) -> None:
        """Take the settings; no connection is opened.

        Raises:
            ConfigError: host or username is missing, the port is no number, or ``jump`` cannot be understood.
            MissingExtra: ssh-python is not installed.
        """
        super().__init__(settings)
        if find_spec("ssh") is None:
            raise MissingExtra(self.name, "package ssh-python is not installed", "pip install 'cloudmesh-vdir[sftp]'")
        self._root = _root(settings.root)
        self._real_root: bytes | None = None
        self._inside: dict[str, float] = {}
        login = _login(settings)
        self._pool: Pool[_Session] = Pool(self.name, lambda: _Session(login), settings.parallel, settings.timeouts.read)
        self.capabilities = Capabilities(
            mtime_precision_ns=_SECOND,
            scan_mtime=True,
            set_mtime=True,
            conditional_create=True,
            server_copy=True,
            server_move=True,
            quota=True,
            path_max_bytes=4095 - len(self._root) - 1 - len(TEMPORARY_PREFIX) - 32,
        )

    # ---- looking --------------------------------------------------------------------------------------------------

    def stat(self, path: str) -> Entry:
        """See `StorageABC.stat`."""
        if not path:
            return Entry("", is_directory=True)
        self.check_path(path)
        with self._session(path) as sftp:
            return self._entry(path, self._look(sftp, path))

    def scan(self, path: str = "", *, recursive: bool = False) -> Iterator[Entry]:
        """See `StorageABC.scan`. No connection is held between two entries."""
        self.check_path(path)
        yield from self._scan(path, recursive, frozenset())

    def _scan(self, path: str, recursive: bool, above: frozenset[bytes]) -> Iterator[Entry]:
        try:
            entries, above = self._list(path, above)
        except NotFound:
            if path and not above:
                raise
            return  # the root that is not made yet, or a directory that went while we came to it
        for entry in entries:
            yield entry
            if recursive and entry.is_directory:
                with suppress(NotADirectory):
                    yield from self._scan(entry.path, recursive, above)

    def _list(self, path: str, above: frozenset[bytes]) -> tuple[list[Entry], frozenset[bytes]]:
        """Return the sorted entries of one directory, and the real paths of it and the directories above it."""
        with self._session(path) as sftp:
            real = _real(sftp, self._remote(path))
            if path:
                self._refuse_outside(sftp, path, real)
            try:
                handle = sftp.handle(sftp.opendir(self._remote(path)))
            except Status as error:
                if error.code in (protocol.FAILURE, protocol.NO_SUCH_FILE):
                    attributes = sftp.attributes(sftp.stat(self._remote(path)))
                    if not attributes.is_directory:
                        raise NotADirectory(self.location(path)) from error
                raise
            entries = []
            for name, attributes in _read_dir(sftp, handle):
                child = paths.join(path, name.decode("utf-8", "surrogateescape"))
                if attributes.permissions is None or attributes.is_link:
                    with suppress(Status, PermissionDenied, NotFound):
                        target, attributes = self._follow(sftp, child)
                        if attributes.is_directory and (target == real or target in above or _holds(target, real)):
                            continue  # a link to a directory that holds it would never end
                if attributes.is_directory or (attributes.is_file and not attributes.is_link):
                    entries.append(self._entry(child, attributes))
        entries.sort(key=lambda entry: entry.sort_key)
        return entries, above | {real}

    # ---- reading --------------------------------------------------------------------------------------------------

    def open_read(self, path: str, *, start: int = 0, length: int | None = None, if_match: str | None = None) -> Reader:
        """See `StorageABC.open_read`. The reader holds one connection until it is closed or read to its end."""
        self.check_path(path)
        if not path:
            raise IsADirectory(self.location(path))
        lease = self._pool.lease()
        try:
            return self._open_read(lease, path, start, length, if_match)
        except BaseException:
            lease.release()
            raise

    def _open_read(
        self, lease: Lease[_Session], path: str, start: int, length: int | None, if_match: str | None
    ) -> Reader:
        with self._failing(lease, path, keep=True):
            sftp = lease.item.sftp
            opened = sftp.open(self._remote(path), protocol.OPEN_READ)
            try:
                looked = self._look(sftp, path)
            except (Status, StorageError):
                with suppress(Status):
                    sftp.forget(sftp.close(sftp.handle(opened)))
                raise
            handle = None
            requests: deque[tuple[int, int, int]] = deque()
            try:
                if looked.is_directory:
                    raise IsADirectory(self.location(path))
                handle = sftp.handle(opened)
                # What is read is what was opened, even if the name means another file by now.
                status = sftp.fstat(handle)
                size = looked.size or 0
                begin = max(0, size + start) if start < 0 else start
                end = size if length is None else min(size, begin + length)
                requests = _ask(sftp, handle, begin, end, 4)
                entry = self._entry(path, sftp.attributes(status))
                if if_match is not None and entry.etag != if_match:
                    raise PreconditionFailed(self.location(path))
                if entry.size != size:
                    for number, _, _ in requests:
                        sftp.forget(number)
                    size = entry.size or 0
                    begin = max(0, size + start) if start < 0 else start
                    end = size if length is None else min(size, begin + length)
                    requests = _ask(sftp, handle, begin, end, 4)
            except (Status, StorageError):
                if looked.is_directory:
                    with suppress(Status):
                        handle = sftp.handle(opened)
                if handle is not None:
                    sftp.forget(sftp.close(handle))
                for number, _, _ in requests:
                    sftp.forget(number)
                raise

            def close() -> None:
                """Let go of the handle and the connection; once."""
                if lease.is_held:
                    for number, _, _ in requests:
                        sftp.forget(number)
                    sftp.forget(sftp.close(handle))
                    with self._failing(lease, path):
                        sftp.flush()

        return Reader(entry, self._pieces(lease, path, handle, requests, end, close), close)

    def _pieces(
        self,
        lease: Lease[_Session],
        path: str,
        handle: bytes,
        requests: deque[tuple[int, int, int]],
        end: int,
        close: Callable[[], None],
    ) -> Iterator[bytes]:
        """Yield what was asked for and ask for more, ever more at once, until ``end``."""
        sftp = lease.item.sftp
        window = len(requests)
        try:
            while requests:
                with self._failing(lease, path, keep=True):
                    number, offset, length = requests.popleft()
                    try:
                        data = sftp.data(number)
                    except Status as error:
                        if error.code == protocol.EOF:
                            why = "the file became shorter while it was read"
                            raise SourceChanged(self.location(path), why) from error
                        raise
                    last = requests[-1] if requests else (number, offset, length)
                    if not data:
                        raise ProtocolError("the server sent no bytes where some were due")
                    if len(data) < length:
                        rest, missing = offset + len(data), length - len(data)
                        requests.appendleft((sftp.read(handle, rest, missing), rest, missing))
                    window = min(window + 1, _WINDOW)
                    requests += _ask(sftp, handle, last[1] + last[2], end, window - len(requests))
                    sftp.flush()
                yield data
        finally:
            close()

    # ---- writing --------------------------------------------------------------------------------------------------

    def write(
        self, path: str, content: Content, *, mode: WriteMode = "overwrite", if_match: str | None = None
    ) -> Entry:
        """See `StorageABC.write`. ``if_match`` is looked at just before the rename, so a moment is left for a race."""
        self.check_path(path)

        def fill(sftp: Sftp, handle: bytes) -> tuple[int, int | None]:
            size = self._send(sftp, path, handle, content)
            return size, content.mtime_ns

        return self._store(path, fill, mode, if_match)

    def copy_within(self, source: str, destination: str, *, mode: WriteMode = "overwrite") -> Entry:
        """See `StorageABC.copy_within`. Needs OpenSSH 9.0 or newer on the server (Unsupported otherwise)."""
        self.check_path(source)
        self.check_path(destination)
        if source == destination:
            return self.stat(source)

        def fill(sftp: Sftp, handle: bytes) -> tuple[int, int | None]:
            with self._about(source):
                attributes = self._look(sftp, source)
                if attributes.is_directory:
                    raise IsADirectory(self.location(source))
                original = sftp.handle(sftp.open(self._remote(source), protocol.OPEN_READ))
                attributes = sftp.attributes(sftp.fstat(original))
                size = attributes.size or 0
                try:
                    for offset in range(0, size, _COPY_STEP):
                        sftp.done(sftp.copy_data(original, offset, min(_COPY_STEP, size - offset), handle))
                finally:
                    sftp.forget(sftp.close(original))
            return size, None if attributes.mtime is None else attributes.mtime * _SECOND

        with self._session(source) as sftp:
            if b"copy-data" not in sftp.extensions:
                raise Unsupported(self.location(source), "this server cannot copy on its own side")
            if self._look(sftp, source).is_directory:
                raise IsADirectory(self.location(source))
        return self._store(destination, fill, mode, None)

    def _store(
        self,
        path: str,
        fill: Callable[[Sftp, bytes], tuple[int, int | None]],
        mode: WriteMode,
        if_match: str | None,
    ) -> Entry:
        """Let ``fill`` write a new temporary file (it returns size and mtime in ns), then give it the name ``path``."""
        if not path:
            raise IsADirectory(self.location(path))
        remote = self._remote(path)
        temporary = posixpath.join(posixpath.dirname(remote), f"{TEMPORARY_PREFIX}{uuid.uuid4().hex}".encode())
        begun = False
        try:
            with self._session(path) as sftp:
                self._guard(sftp, path)
                looked = sftp.stat(remote)
                opened = sftp.open(temporary, protocol.OPEN_WRITE | protocol.OPEN_CREATE | protocol.OPEN_EXCLUSIVE)
                begun = True
                old = _attributes_or_none(sftp, looked)
                try:
                    handle = sftp.handle(opened)
                except Status as error:
                    begun = False
                    if error.code != protocol.NO_SUCH_FILE:
                        self._explain_write_failure(sftp, path, error)
                    self._make_dirs(sftp, posixpath.dirname(remote), path)
                    begun = True
                    handle = sftp.handle(
                        sftp.open(temporary, protocol.OPEN_WRITE | protocol.OPEN_CREATE | protocol.OPEN_EXCLUSIVE)
                    )
                try:
                    self._check_target(path, old, mode, if_match)
                    size, mtime_ns = fill(sftp, handle)
                except BaseException:
                    with suppress(Status, ConnectionLost, ProtocolError):
                        sftp.forget(sftp.close(handle))
                        sftp.done(sftp.remove(temporary))
                        begun = False
                    raise
                permissions = old.permissions & 0o777 if old is not None and old.permissions is not None else None
                changes = None
                if permissions is not None or mtime_ns is not None:
                    seconds = None if mtime_ns is None else _seconds(mtime_ns)
                    changes = sftp.fsetstat(handle, permissions=permissions, mtime=seconds)
                closed = sftp.close(handle)
                written = sftp.lstat(temporary)
                if changes is not None:
                    sftp.done(changes)
                try:
                    sftp.done(closed)
                except Status as error:
                    self._explain_write_failure(sftp, path, error)
                attributes = sftp.attributes(written)
                if attributes.size != size:
                    raise Unavailable(self.location(path), f"the server kept {attributes.size} of {size} bytes")
                if if_match is not None:
                    self._check_target(path, _attributes_or_none(sftp, sftp.stat(remote)), mode, if_match)
                self._rename(sftp, temporary, path, mode)
                begun = False
                return self._entry(path, attributes)
        finally:
            if begun:
                # The connection may be the reason why we are here, so this goes over another one.
                with suppress(StorageError), self._session(path) as sftp, suppress(Status):
                    sftp.done(sftp.remove(temporary))

    def _send(self, sftp: Sftp, path: str, handle: bytes, content: Content) -> int:
        """Write the content's pieces, many blocks under way at once; return the number of bytes.

        Raises:
            SourceChanged: it is longer or shorter than promised.
        """
        pending: deque[int] = deque()
        offset = 0
        try:
            for piece in content.open():
                view = memoryview(piece)
                if content.size is not None and offset + len(view) > content.size:
                    raise SourceChanged(self.location(path), f"more than the promised {content.size} bytes came")
                for at in range(0, len(view), BLOCK):
                    block = view[at : at + BLOCK]
                    pending.append(sftp.write(handle, offset, block))
                    offset += len(block)
                    if len(pending) >= _WINDOW:
                        sftp.done(pending.popleft())
            if content.size is not None and offset != content.size:
                raise SourceChanged(self.location(path), f"{offset} of the promised {content.size} bytes came")
            while pending:
                sftp.done(pending.popleft())
        except Status as error:
            self._explain_write_failure(sftp, path, error)
        finally:
            for number in pending:
                sftp.forget(number)
        return offset

    def _check_target(self, path: str, old: Attributes | None, mode: WriteMode, if_match: str | None) -> None:
        """Refuse early what the rename would refuse, or could not refuse."""
        if old is not None and old.is_directory:
            raise IsADirectory(self.location(path))
        if old is not None and mode == "create":
            raise AlreadyExists(self.location(path))
        if if_match is not None and (old is None or self._entry(path, old).etag != if_match):
            raise PreconditionFailed(self.location(path))

    def _rename(self, sftp: Sftp, source: bytes, path: str, mode: WriteMode) -> None:
        """Give ``source`` the name ``path``, replacing what is there unless ``mode`` is create."""
        target = self._remote(path)
        try:
            if mode == "create":
                sftp.done(sftp.rename(source, target))
            elif b"posix-rename@openssh.com" in sftp.extensions:
                sftp.done(sftp.posix_rename(source, target))
            else:
                _replace(sftp, source, target)
        except Status as error:
            if error.code in (protocol.FAILURE, protocol.NO_SUCH_FILE):
                there = _attributes_or_none(sftp, sftp.lstat(target))
                if there is not None and there.is_directory:
                    raise IsADirectory(self.location(path)) from error
                if there is not None and mode == "create":
                    raise AlreadyExists(self.location(path)) from error
            raise

    def _explain_write_failure(self, sftp: Sftp, path: str, error: Status) -> NoReturn:
        """Find out whether the plain FAILURE of a write means that the disk is full."""
        if error.code == protocol.FAILURE:
            with suppress(Status):
                room = sftp.file_system(sftp.statvfs(self._existing(sftp, paths.parent(path))))
                if room.available < BLOCK or room.files_available == 0:
                    raise QuotaExceeded(self.location(path)) from error
        raise error

    # ---- changing the tree ----------------------------------------------------------------------------------------

    def remove(self, path: str) -> None:
        """See `StorageABC.remove`."""
        self.check_path(path)
        with self._session(path) as sftp:
            self._guard(sftp, path)
            try:
                sftp.done(sftp.remove(self._remote(path)))
            except Status as error:
                if sftp.attributes(sftp.lstat(self._remote(path))).is_directory:
                    raise IsADirectory(self.location(path)) from error
                raise

    def remove_many(self, files: Iterable[str]) -> Iterator[tuple[str, StorageError]]:
        """See `StorageABC.remove_many`."""
        batch: list[str] = []
        for path in files:
            batch.append(path)
            if len(batch) == _BATCH:
                yield from self._remove_batch(batch)
                batch = []
        yield from self._remove_batch(batch)

    def _remove_batch(self, batch: list[str]) -> list[tuple[str, StorageError]]:
        again = []
        failed: list[tuple[str, StorageError]] = []
        sendable = []
        for path in batch:
            try:
                self.check_path(path)
                sendable.append(path)
            except InvalidName as error:
                failed.append((path, error))
        if not sendable:
            return failed
        try:
            with self._session(sendable[0]) as sftp:
                numbers = {}
                for path in sendable:
                    try:
                        self._guard(sftp, path)
                    except PermissionDenied:
                        again.append(path)
                        continue
                    numbers[path] = sftp.remove(self._remote(path))
                for path, number in numbers.items():
                    try:
                        sftp.done(number)
                    except Status:
                        again.append(path)
        except StorageError:
            again = sendable
        # Those that did not go are asked for once more, each alone, to learn why.
        failed.extend(super().remove_many(again))
        return failed

    def make_dir(self, path: str) -> None:
        """See `StorageABC.make_dir`."""
        self.check_path(path)
        with self._session(path) as sftp:
            self._guard(sftp, path)
            self._make_dirs(sftp, self._remote(path), path)

    def _make_dirs(self, sftp: Sftp, remote: bytes, path: str) -> None:
        """Make ``remote``, which ``path`` means, and its missing parents, also those of the root."""
        missing = []
        at = remote or b"."
        while True:
            try:
                sftp.done(sftp.mkdir(at))
                break
            except Status as error:
                above = posixpath.dirname(at) or b"."
                if error.code == protocol.NO_SUCH_FILE and above != at:
                    missing.append(at)
                    at = above
                    continue
                there = _attributes_or_none(sftp, sftp.stat(at))
                if there is None:
                    raise
                if not there.is_directory:
                    raise self._not_a_directory(path, at) from error
                break
        for at in reversed(missing):
            try:
                sftp.done(sftp.mkdir(at))
            except Status as error:
                there = _attributes_or_none(sftp, sftp.stat(at))
                if there is None:
                    # A parent that is there, yet nothing can be in it, is a file.
                    above_it = _attributes_or_none(sftp, sftp.stat(posixpath.dirname(at) or b"."))
                    if above_it is not None and not above_it.is_directory:
                        raise self._not_a_directory(path, posixpath.dirname(at)) from error
                    raise
                if not there.is_directory:
                    raise self._not_a_directory(path, at) from error

    def _not_a_directory(self, path: str, remote: bytes) -> NotADirectory:
        if remote == self._remote(path):
            return NotADirectory(self.location(path))
        return NotADirectory(self.location(path), f"{posixpath.basename(remote).decode('utf-8', 'replace')} is a file")

    def remove_dir(self, path: str) -> None:
        """See `StorageABC.remove_dir`."""
        self.check_path(path)
        if not path:
            raise Refused(self.location(path), "the root directory of a service is not removed")
        with self._session(path) as sftp:
            self._guard(sftp, path)
            try:
                sftp.done(sftp.rmdir(self._remote(path)))
            except Status as error:
                if not sftp.attributes(sftp.lstat(self._remote(path))).is_directory:
                    raise NotADirectory(self.location(path)) from error
                if error.code == protocol.FAILURE:
                    raise DirectoryNotEmpty(self.location(path)) from error
                raise

    def move_within(self, source: str, destination: str, *, mode: WriteMode = "overwrite") -> None:
        """See `StorageABC.move_within`. Directories can be moved too, but never replaced."""
        self.check_path(source)
        self.check_path(destination)
        if not source or not destination:
            raise Refused(self.location(source or destination), "the root directory of a service is not moved")
        with self._session(source) as sftp:
            self._guard(sftp, source)
            self._guard(sftp, destination)
            target = self._remote(destination)
            there = sftp.lstat(target)
            try:
                what = sftp.attributes(sftp.lstat(self._remote(source)))
            finally:
                old = _attributes_or_none(sftp, there)
            if source == destination:
                return
            if destination.startswith(source + "/"):
                if what.is_directory:
                    raise Refused(self.location(source), "a directory cannot be moved into itself")
                raise NotADirectory(self.location(destination), f"{paths.basename(source)} is a file")
            with self._about(destination):
                if old is not None and what.is_directory and (old.is_directory or mode == "create"):
                    raise AlreadyExists(self.location(destination))
                if old is not None and what.is_directory:
                    raise NotADirectory(self.location(destination))
                if old is not None:
                    self._check_target(destination, old, mode, None)
                try:
                    self._rename(sftp, self._remote(source), destination, mode)
                except Status as error:
                    if error.code != protocol.NO_SUCH_FILE:
                        raise
                    self._make_dirs(sftp, posixpath.dirname(target), destination)
                    self._rename(sftp, self._remote(source), destination, mode)

    def set_mtime(self, path: str, mtime_ns: int) -> None:
        """See `StorageABC.set_mtime`. Whole seconds from 1970 to 2106 are kept."""
        self.check_path(path)
        with self._session(path) as sftp:
            self._look(sftp, path)
            sftp.done(sftp.setstat(self._remote(path), _seconds(mtime_ns)))

    # ---- the service ----------------------------------------------------------------------------------------------

    def usage(self) -> Usage:
        """See `StorageABC.usage`: of the file system that holds the root."""
        with self._session("") as sftp:
            try:
                room = sftp.file_system(sftp.statvfs(self._existing(sftp, "")))
            except Status as error:
                if error.code == protocol.UNSUPPORTED:
                    raise Unsupported(self.name, "this server does not tell how much room there is") from error
                raise
        return Usage(total=room.total, used=room.total - room.free, free=room.available)

    def probe(self) -> None:
        """See `StorageABC.probe`. A root that is not made yet is no error, for the first write makes it."""
        with self._session("") as sftp:
            attributes = _attributes_or_none(sftp, sftp.stat(self._remote("")))
            if attributes is not None and not attributes.is_directory:
                raise NotADirectory(self.location(""))

    def close(self) -> None:
        """See `StorageABC.close`."""
        self._pool.close()

    def check_path(self, path: str) -> None:
        """See `StorageABC.check_path`. What could lead out of the root is refused here once more."""
        super().check_path(path)
        if path and ("\0" in path or any(name in ("", ".", "..") for name in path.split("/"))):
            raise InvalidName(self.location(path))

    # ---- inside ---------------------------------------------------------------------------------------------------

    @contextmanager
    def _session(self, path: str) -> Iterator[Sftp]:
        """Lend a session for requests about ``path``; whatever goes wrong leaves as an error of the closed set."""
        lease = self._pool.lease()
        with self._failing(lease, path):
            yield lease.item.sftp
            lease.item.sftp.flush()

    @contextmanager
    def _failing(self, lease: Lease[_Session], path: str, *, keep: bool = False) -> Iterator[None]:
        """Translate failures, and give the lease back: when the connection broke, or (unless ``keep``) at the end."""
        try:
            with self._about(path):
                yield
        except (ConnectionLost, ProtocolError) as error:
            lease.discard()
            raise Unavailable(self.location(path), str(error)) from error
        except StorageError:
            if not keep:
                lease.release()
            raise
        except BaseException:
            # Something else broke in, perhaps in the middle of an answer.
            lease.discard()
            raise
        if not keep:
            lease.release()

    @contextmanager
    def _about(self, path: str) -> Iterator[None]:
        """Turn the server's error answers into errors about ``path``."""
        try:
            yield
        except Status as error:
            raise _translate(error, self.location(path)) from error

    def _remote(self, path: str) -> bytes:
        """Return the name on the wire."""
        name = path.encode("utf-8", "surrogateescape")
        return posixpath.join(self._root, name) if name else self._root or b"."

    def _entry(self, path: str, attributes: Attributes) -> Entry:
        mtime_ns = None if attributes.mtime is None else attributes.mtime * _SECOND
        if attributes.is_directory:
            return Entry(path, is_directory=True, mtime_ns=mtime_ns)
        return Entry(path, size=attributes.size, mtime_ns=mtime_ns, etag=f"{attributes.mtime}-{attributes.size}")

    def _look(self, sftp: Sftp, path: str) -> Attributes:
        """Return what is at ``path``, which no link may lead out of the root.

        Raises:
            NotFound: nothing is there, or a special file.
            PermissionDenied: a link leads out of the root.
        """
        self._guard(sftp, path)
        looked = sftp.lstat(self._remote(path))
        attributes = sftp.attributes(looked)
        if attributes.is_link:
            _, attributes = self._follow(sftp, path)
        if not attributes.is_directory and not attributes.is_file:
            raise NotFound(self.location(path), "is neither a file nor a directory")
        return attributes

    def _guard(self, sftp: Sftp, path: str) -> None:
        """Refuse a path of which a parent is a link that leads out of the root; what was seen is believed for a while.

        Raises:
            PermissionDenied: it leads out.
        """
        parent = paths.parent(path)
        now = time.monotonic()
        if not parent or self._inside.get(parent, 0.0) > now:
            return
        try:
            real = _real(sftp, self._remote(parent))
        except Status as error:
            if error.code != protocol.NO_SUCH_FILE:
                raise
            # Its own parent decides, then.
            self._guard(sftp, parent)
            return
        self._refuse_outside(sftp, path, real)
        if len(self._inside) >= _REMEMBERED:
            self._inside.clear()
        self._inside[parent] = now + _BELIEVED_SECONDS

    def _follow(self, sftp: Sftp, path: str) -> tuple[bytes, Attributes]:
        """Return where the link at ``path`` ends and what is there; raises as `_look`."""
        status = sftp.stat(self._remote(path))
        try:
            real = _real(sftp, self._remote(path))
        finally:
            attributes = _attributes_or_none(sftp, status)
        if attributes is None:
            raise NotFound(self.location(path))
        self._refuse_outside(sftp, path, real)
        return real, attributes

    def _refuse_outside(self, sftp: Sftp, path: str, real: bytes) -> None:
        root = self._real_root
        if root is None:
            root = self._real_root = _real(sftp, self._remote(""))
        if real != root and not _holds(root, real):
            raise PermissionDenied(self.location(path), "a symbolic link leads out of the service's directory")

    def _existing(self, sftp: Sftp, path: str) -> bytes:
        """Return the nearest directory at or above ``path`` that is there."""
        remote = self._remote(path)
        while _attributes_or_none(sftp, sftp.stat(remote)) is None and remote not in (b"", b".", b"/"):
            remote = posixpath.dirname(remote) or b"."
        return remote


def _root(text: str) -> bytes:
    """Return the root's name on the wire; empty for the directory of the login."""
    text = text.strip()
    if text == "~":
        text = ""
    root = posixpath.normpath(text.removeprefix("~/")) if text else ""
    return b"" if root == "." else root.encode()


def _login(settings: ServiceSettings) -> Login:
    """Read the credentials.

    Raises:
        ConfigError: a required one is missing or one makes no sense.
    """
    given = settings.credentials
    for key in ("host", "username"):
        if not given.get(key):
            raise ConfigError(settings.name, f"the credential {key} is missing", "see: cms storage config edit")

    def text(key: str) -> str | None:
        value = given.get(key)
        return None if value in (None, "") else str(value)

    try:
        port = int(given.get("port") or 22)
    except (TypeError, ValueError):
        port = 0
    if not 0 < port < 65536:
        raise ConfigError(settings.name, "the credential port is not a number from 1 to 65535")
    username = str(given["username"])
    jump, key_file, known = text("jump"), text("key_file"), text("known_hosts")
    return Login(
        service=settings.name,
        target=Host(str(given["host"]), port, username),
        jump=parse_host(jump, username, settings.name) if jump else None,
        known_hosts=(Path(known).expanduser(),) if known else DEFAULT_FILES,
        key_file=Path(key_file) if key_file else None,
        timeouts=settings.timeouts,
        password=text("password"),
        key_passphrase=text("key_passphrase"),
    )


def _seconds(mtime_ns: int) -> int:
    """Return the nearest time that SFTP can keep, at or before ``mtime_ns``."""
    return min(max(mtime_ns // _SECOND, 0), _LAST_SECOND)


def _holds(directory: bytes, path: bytes) -> bool:
    """Tell whether ``path`` lies below ``directory``, both absolute and real."""
    return path.startswith(directory.rstrip(b"/") + b"/")


def _real(sftp: Sftp, remote: bytes) -> bytes:
    return sftp.names(sftp.realpath(remote))[0][0]


def _attributes_or_none(sftp: Sftp, number: int) -> Attributes | None:
    try:
        return sftp.attributes(number)
    except Status as error:
        if error.code == protocol.NO_SUCH_FILE:
            return None
        raise


def _ask(sftp: Sftp, handle: bytes, begin: int, end: int, count: int) -> deque[tuple[int, int, int]]:
    """Send up to ``count`` reads from ``begin`` on; return number, offset and length of each."""
    requests: deque[tuple[int, int, int]] = deque()
    while len(requests) < count and begin < end:
        length = min(BLOCK, end - begin)
        requests.append((sftp.read(handle, begin, length), begin, length))
        begin += length
    return requests


def _read_dir(sftp: Sftp, handle: bytes) -> list[tuple[bytes, Attributes]]:
    """Return what an open directory holds, several requests ahead, and close it."""
    result: list[tuple[bytes, Attributes]] = []
    pending = deque(sftp.readdir(handle) for _ in range(2))
    try:
        while pending:
            try:
                names = sftp.names(pending.popleft())
            except Status as error:
                if error.code != protocol.EOF:
                    raise
                break
            result += (
                found
                for found in names
                if found[0] not in (b".", b"..") and not found[0].startswith(TEMPORARY_PREFIX.encode())
            )
            while len(pending) < 8:
                pending.append(sftp.readdir(handle))
    finally:
        for number in pending:
            sftp.forget(number)
        sftp.forget(sftp.close(handle))
    return result


def _replace(sftp: Sftp, source: bytes, target: bytes) -> None:
    """Rename over ``target`` where the server cannot replace: the old file is set aside, and comes back on failure."""
    aside = posixpath.join(posixpath.dirname(target), f"{TEMPORARY_PREFIX}{uuid.uuid4().hex}".encode())
    try:
        sftp.done(sftp.rename(target, aside))
    except Status as error:
        if error.code != protocol.NO_SUCH_FILE:
            raise
        sftp.done(sftp.rename(source, target))
        return
    try:
        sftp.done(sftp.rename(source, target))
    except Status:
        sftp.done(sftp.rename(aside, target))
        raise
    sftp.done(sftp.remove(aside))


def _translate(error: Status, subject: str) -> StorageError:
    if error.code == protocol.NO_SUCH_FILE:
        return NotFound(subject)
    if error.code == protocol.PERMISSION_DENIED:
        return PermissionDenied(subject)
    if error.code == protocol.BAD_MESSAGE:
        return InvalidName(subject, "the server cannot hold this name")
    if error.code == protocol.UNSUPPORTED:
        return Unsupported(subject)
    return Unavailable(subject, "the server failed and does not say why")
