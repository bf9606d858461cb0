"""The provider for SFTP: the primitives of the contract."""

from __future__ import annotations

from collections.abc import Generator, Iterable, Iterator
from dataclasses import replace
from importlib.util import find_spec

from cloudmesh.storage.abc import (
    Capabilities,
    Content,
    Entry,
    Loaded,
    OnError,
    Reader,
    ReadRequest,
    ServiceSettings,
    StorageABC,
    Usage,
    WriteMode,
    WriteRequest,
)
from cloudmesh.storage.errors import (
    InvalidName,
    IsADirectory,
    MissingExtra,
    NotADirectory,
    PermissionDenied,
    Refused,
    StorageError,
    Unsupported,
)
from cloudmesh.storage.paths import TEMPORARY_PREFIX
from cloudmesh.storage.providers.sftp import directories, listing, reading, renaming, small_files
from cloudmesh.storage.providers.sftp.entries import SECOND, to_entry, to_seconds
from cloudmesh.storage.providers.sftp.flows import Flows, Line
from cloudmesh.storage.providers.sftp.pool import Pool
from cloudmesh.storage.providers.sftp.protocol import BLOCK, Status
from cloudmesh.storage.providers.sftp.root import Root
from cloudmesh.storage.providers.sftp.sessions import Session, lend
from cloudmesh.storage.providers.sftp.settings import read_login, read_root
from cloudmesh.storage.providers.sftp.writing import Writer, content_of, copy_of

_BATCH = 64
"""Small requests under way at once."""
_FEW = 4
"""With fewer connections than this a batch does not keep one to itself, for others would wait for it to end."""
_COPY, _ROOM = b"copy-data", b"statvfs@openssh.com"


class SftpStorage(StorageABC):
    """Files below one directory of a host that is reached by ssh.

    The host's key must be in the known_hosts file. Without ``key_file`` and ``password`` the keys of the ssh agent and
    of ~/.ssh are tried. What the service leaves open (host name, port, user, keys, jump host) is as ~/.ssh/config says.
    A relative ``default.directory`` lies below the directory of the login.

    A file is written under a temporary name and then renamed over the old one (``posix-rename@openssh.com``); on a
    server that cannot do that, the old file is set aside for the moment of the rename. ``mode="create"`` uses SFTP's
    own rename, which refuses to replace. Modification times have whole seconds. The ``etag`` is made of modification
    time and size, for SFTP tells no more. Symbolic links are followed where they end inside the root; one that leads
    out is left out of scans and refused with PermissionDenied.
    """

    kind = "sftp"
    keys = {  # noqa: RUF012 - ClassVar in the base
        "host": "name or address of the host, or a Host of ~/.ssh/config",
        "port": "its port; as ~/.ssh/config says, or 22, where it is left out",
        "username": "the user to log in as; as ~/.ssh/config says, or the local user, where it is left out",
        "password": "the user's password, where no key is used",
        "key_file": "the private key; without it and a password the ssh agent and ~/.ssh are tried",
        "key_passphrase": "the passphrase of the key file",
        "known_hosts": "the file of known host keys; ~/.ssh/known_hosts where it is left out",
        "jump": "a host to go through, as user@host:port; as ~/.ssh/config says where it is left out",
    }
    required = frozenset({"host"})
    secrets = frozenset({"password", "key_passphrase"})

    def __init__(self, settings: ServiceSettings) -> None:
        """Take the settings; no connection is opened.

        Raises:
            ConfigError: the host is missing, the port is no number, or ``jump`` cannot be understood.
            MissingExtra: ssh-python is not installed.
        """
        super().__init__(settings)
        if find_spec("ssh") is None:
            raise MissingExtra(self.name, "package ssh-python is not installed", "pip install 'cloudmesh-vdir[sftp]'")
        directory = read_root(settings.root)
        login = read_login(settings)
        self._root = Root(self.name, directory)
        self._target = login.target
        self._pool = Pool(self.name, lambda: Session(login), settings.parallel, settings.timeouts.read)
        self._writer = Writer(self._pool, self._root)
        self._limits = Capabilities(
            mtime_precision_ns=SECOND,
            scan_mtime=True,
            set_mtime=True,
            conditional_create=True,
            server_move=True,
            path_max_bytes=4095 - len(directory) - 1 - len(TEMPORARY_PREFIX) - 32,
        )
        self._facts: Capabilities | None = None

    def identity(self, path: str) -> str:
        name = self._root.remote(path).decode("utf-8", "surrogateescape")
        user = "" if name.startswith("/") else f"{self._target.username}@"  # below that user's own directory
        return f"sftp://{user}{self._target.host}:{self._target.port or ''}/{name}"

    # ---- what the service is --------------------------------------------------------------------------------------

    @property
    def capabilities(self) -> Capabilities:  # type: ignore[override]  # asked once, then a constant
        """The facts, of which the server's greeting tells some.

        Raises:
            StorageError: it cannot be reached.
        """
        if self._facts is None:
            with lend(self._pool, self.name) as sftp:
                self._facts = replace(
                    self._limits, server_copy=_COPY in sftp.extensions, quota=_ROOM in sftp.extensions
                )
        return self._facts

    @property
    def name_limits(self) -> Capabilities:
        """See `StorageABC.name_limits`; known without the server."""
        return self._limits

    # ---- looking --------------------------------------------------------------------------------------------------

    def stat(self, path: str) -> Entry:
        """See `StorageABC.stat`."""
        if not path:
            return Entry("", is_directory=True)
        self.check_path(path)
        with lend(self._pool, self.location(path)) as sftp:
            return to_entry(path, self._root.look(sftp, path))

    def scan(self, path: str = "", *, recursive: bool = False, on_error: OnError | None = None) -> Iterator[Entry]:
        """See `StorageABC.scan`. No connection is held between two entries."""
        self.check_path(path)
        yield from listing.scan(self._pool, self._root, path, recursive=recursive, on_error=on_error)

    # ---- files ----------------------------------------------------------------------------------------------------

    def open_read(self, path: str, *, start: int = 0, length: int | None = None, if_match: str | None = None) -> Reader:
        """See `StorageABC.open_read`. The reader holds one connection until it is closed or read to its end."""
        self.check_path(path)
        if not path:
            raise IsADirectory(self.location(path))
        return reading.open_read(self._pool, self._root, path, start, length, if_match)

    def write(
        self, path: str, content: Content, *, mode: WriteMode = "overwrite", if_match: str | None = None
    ) -> Entry:
        """See `StorageABC.write`. ``if_match`` is looked at just before the rename, so a moment is left for a race."""
        self.check_path(path)
        return self._writer.store(path, content_of(self._root, path, content), mode, if_match)

    def read_many(self, requests: Iterable[ReadRequest | None]) -> Iterator[tuple[ReadRequest, Loaded | StorageError]]:
        """See `StorageABC.read_many`. Holds one connection until it ends."""
        if self.settings.parallel < _FEW:
            return super().read_many(requests)

        def begin(line: Line, request: ReadRequest) -> Generator[None, None, Loaded]:
            self.check_path(request.path)
            return (yield from small_files.load(line, self._root, request))

        def alone(request: ReadRequest) -> Loaded:
            with self.open_read(request.path, if_match=request.if_match) as reader:
                return Loaded(reader.entry, reader.read())

        return Flows(self._pool, begin, alone, _size_wanted, lambda request: self.location(request.path)).run(requests)

    def write_many(
        self, requests: Iterable[WriteRequest | None]
    ) -> Iterator[tuple[WriteRequest, Entry | StorageError]]:
        """See `StorageABC.write_many`. Holds one connection until it ends."""
        if self.settings.parallel < _FEW:
            yield from super().write_many(requests)
            return
        made: set[bytes] = set()

        def begin(line: Line, request: WriteRequest) -> Generator[None, None, Entry]:
            self.check_path(request.path)
            return (yield from small_files.store(line, self._root, request, made, self._writer.leave))

        def alone(request: WriteRequest) -> Entry:
            return self.write(request.path, Content.of_bytes(request.data, request.mtime_ns), mode=request.mode)

        flows = Flows(
            self._pool, begin, alone, lambda request: len(request.data), lambda request: self.location(request.path)
        )
        try:
            yield from flows.run(requests)
        finally:
            self._writer.remove_left()

    def copy_within(self, source: str, destination: str, *, mode: WriteMode = "overwrite") -> Entry:
        """See `StorageABC.copy_within`. Needs OpenSSH 9.0 or newer on the server (Unsupported otherwise)."""
        self.check_path(source)
        self.check_path(destination)
        if source == destination:
            return self.stat(source)
        with lend(self._pool, self.location(source)) as sftp:
            if _COPY not in sftp.extensions:
                raise Unsupported(self.location(source), "this server cannot copy on its own side")
            if self._root.look(sftp, source).is_directory:
                raise IsADirectory(self.location(source))
        return self._writer.store(destination, copy_of(self._root, source, destination), mode)

    # ---- changing the tree ----------------------------------------------------------------------------------------

    def remove(self, path: str) -> None:
        """See `StorageABC.remove`."""
        self.check_path(path)
        with lend(self._pool, self.location(path)) as sftp:
            self._root.guard(sftp, path)
            try:
                sftp.done(sftp.remove(self._root.remote(path)))
            except Status as error:
                if sftp.attributes(sftp.lstat(self._root.remote(path))).is_directory:
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
            with lend(self._pool, self.location(sendable[0])) as sftp:
                numbers = {}
                for path in sendable:
                    try:
                        self._root.guard(sftp, path)
                    except PermissionDenied:
                        again.append(path)
                        continue
                    numbers[path] = sftp.remove(self._root.remote(path))
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
        with lend(self._pool, self.location(path)) as sftp:
            self._root.guard(sftp, path)
            directories.make_dirs(sftp, self._root, path, self._root.remote(path))

    def remove_dir(self, path: str) -> None:
        """See `StorageABC.remove_dir`."""
        self.check_path(path)
        if not path:
            raise Refused(self.location(path), "the root directory of a service is not removed")
        with lend(self._pool, self.location(path)) as sftp:
            directories.remove_dir(sftp, self._root, path)

    def move_within(self, source: str, destination: str, *, mode: WriteMode = "overwrite") -> None:
        """See `StorageABC.move_within`. Directories can be moved too, but never replaced."""
        self.check_path(source)
        self.check_path(destination)
        if not source or not destination:
            raise Refused(self.location(source or destination), "the root directory of a service is not moved")
        with lend(self._pool, self.location(source)) as sftp:
            renaming.move(sftp, self._root, source, destination, mode)

    def set_mtime(self, path: str, mtime_ns: int) -> None:
        """See `StorageABC.set_mtime`. Whole seconds from 1970 to 2106 are kept."""
        self.check_path(path)
        with lend(self._pool, self.location(path)) as sftp:
            self._root.look(sftp, path)
            sftp.done(sftp.setstat(self._root.remote(path), to_seconds(mtime_ns)))

    # ---- the service ----------------------------------------------------------------------------------------------

    def usage(self) -> Usage:
        """See `StorageABC.usage`: of the file system that holds the root."""
        with lend(self._pool, self.name) as sftp:
            if _ROOM not in sftp.extensions:
                raise Unsupported(self.name, "this server does not tell how much room there is")
            room = sftp.file_system(sftp.statvfs(self._root.existing(sftp, "")))
        return Usage(total=room.total, used=room.total - room.free, free=room.available)

    def probe(self) -> None:
        """See `StorageABC.probe`. A root that is not made yet is no error, for the first write makes it."""
        with lend(self._pool, self.name) as sftp:
            attributes = sftp.attributes_or_none(sftp.stat(self._root.remote("")))
            if attributes is not None and not attributes.is_directory:
                raise NotADirectory(self.location(""))

    def close(self) -> None:
        """See `StorageABC.close`."""
        self._pool.close()


def _size_wanted(request: ReadRequest) -> int:
    return BLOCK if request.size is None else request.size
