"""The ``webdav`` provider: any WebDAV server, and what Nextcloud and ownCloud add.

Servers differ in what they promise, so the provider finds out what it talks to (`detection`), and where a promise is
not kept by all, tries it (`mtimes`, `moving`). The primitives are here; `reading`, `writing`, `listing` and
`directories` hold how each is done, all by way of one `service`.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from typing import ClassVar

from cloudmesh.storage import paths
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
    AlreadyExists,
    ConfigError,
    DirectoryNotEmpty,
    IsADirectory,
    MissingExtra,
    Refused,
    StorageError,
    Unsupported,
)
from cloudmesh.storage.providers.webdav.address import Addresses, configured_url, encoded
from cloudmesh.storage.providers.webdav.detection import Server
from cloudmesh.storage.providers.webdav.directories import Directories
from cloudmesh.storage.providers.webdav.listing import list_directory, scan_below
from cloudmesh.storage.providers.webdav.moving import Mover, discard
from cloudmesh.storage.providers.webdav.mtimes import ModificationTimes, stored_within
from cloudmesh.storage.providers.webdav.nextcloud import PART_BYTES, Uploads
from cloudmesh.storage.providers.webdav.properties import DAV, SECOND, SERVICE_PROPS, count
from cloudmesh.storage.providers.webdav.reading import open_file
from cloudmesh.storage.providers.webdav.refusals import check_condition, explain_refusal
from cloudmesh.storage.providers.webdav.service import Service
from cloudmesh.storage.providers.webdav.writing import Writer

_NAMES = Capabilities(name_max_bytes=255)


class WebdavStorage(StorageABC):
    """One account on a WebDAV server, Nextcloud or ownCloud.

    ``capabilities`` asks the service when it is first read: a few small requests, among them, where the server is
    unknown, one that sets and one that removes a property of the root directory, to learn whether it keeps them.
    """

    kind = "webdav"
    keys: ClassVar[Mapping[str, str]] = {
        "url": "address of the collection, such as https://cloud.example.org/remote.php/dav/files/USER/",
        "username": "name of the account (Basic or Digest, as the server asks)",
        "password": "password of the account, or better an app password",
        "token": "bearer token, instead of name and password",
    }
    required = frozenset({"url"})
    secrets = frozenset({"password", "token"})

    def __init__(self, settings: ServiceSettings) -> None:
        super().__init__(settings)
        try:
            from cloudmesh.storage.providers.webdav.http import Client
        except ImportError as error:
            if error.name != "pycurl":
                raise
            raise MissingExtra(
                self.name, "package pycurl is not installed", "pip install 'cloudmesh-vdir[webdav]'"
            ) from None
        username, password, token = (_text(settings, key) for key in ("username", "password", "token"))
        if token and (username or password):
            raise ConfigError(self.name, "has both a token and a username or password", "keep one of the two")
        if password and not username:
            raise ConfigError(self.name, "has a password but no username", "set credentials.username")
        base = configured_url(self.name, _text(settings, "url"))
        addresses = Addresses(base, base + encoded(paths.normalize(settings.root)))
        client = Client(
            username=username, password=password, token=token, timeouts=settings.timeouts, keep=settings.parallel
        )
        self._service = Service(self.name, client, addresses, Uploads.of(addresses.root, username))
        self._mtimes = ModificationTimes(self._service)
        self._directories = Directories(self._service)
        self._mover = Mover(self._service)
        self._writer = Writer(self._service, self._directories, self._mover, self._mtimes)
        self._facts: Capabilities | None = None
        self._facts_lock = threading.Lock()

    # ---- what the service is ----------------------------------------------------------------------------------------

    @property
    def capabilities(self) -> Capabilities:  # type: ignore[override]  # asked once, then a constant
        """The facts, asked from the service once.

        Raises:
            StorageError: the service cannot be asked.
        """
        server = self._service.server
        with self._facts_lock:
            if self._facts is None:
                self._facts = self._facts_of(server)
            return self._facts

    @property
    def name_limits(self) -> Capabilities:
        return _NAMES

    def identity(self, path: str) -> str:
        return self._service.addresses.of(path)

    def _facts_of(self, server: Server) -> Capabilities:
        nextcloud = server.family == "nextcloud"
        in_property = self._mtimes.in_property
        return replace(
            _NAMES,
            mtime_precision_ns=SECOND if server.own_mtime else 1 if in_property else None,
            scan_mtime=server.own_mtime or in_property,
            set_mtime=nextcloud or in_property,
            hashes=frozenset({"sha1", "md5", "sha256"}) if nextcloud else frozenset(),
            # Measured: mod_dav and wsgidav look and act in two steps, so that two of eight writers may both win.
            conditional_create=server.family == "rclone",
            server_copy=True,
            server_move=True,
            quota=server.quota,
            part_bytes=PART_BYTES if self._service.uploads is not None else None,
        )

    def probe(self) -> None:
        self._service.connect()

    def usage(self) -> Usage:
        untold = Unsupported(self.name, "this service does not tell how much room there is")
        if not self._service.server.quota:
            raise untold
        for url in (self._service.addresses.root, self._service.addresses.base):
            answer, found = self._service.propfind(url + "/", "0", self.location(""), body=SERVICE_PROPS)
            if answer.status == 207 and found:
                break
        else:
            raise self._service.error(answer, "")
        free, used = (count(found[0].props.get(f"{DAV}quota-{name}-bytes")) for name in ("available", "used"))
        if free is None and used is None:
            raise untold
        return Usage(total=None if free is None or used is None else free + used, used=used, free=free)

    def close(self) -> None:
        self._service.client.close()

    # ---- looking and reading ----------------------------------------------------------------------------------------

    def stat(self, path: str) -> Entry:
        self.check_path(path)
        return self._service.stat(path)

    def scan(self, path: str = "", *, recursive: bool = False, on_error: OnError | None = None) -> Iterator[Entry]:
        self.check_path(path)
        if recursive:
            yield from scan_below(self._service, path, parallel=self.settings.parallel, on_error=on_error)
        else:
            yield from list_directory(self._service, path)

    def open_read(self, path: str, *, start: int = 0, length: int | None = None, if_match: str | None = None) -> Reader:
        self.check_path(path)
        return open_file(self._service, path, start, length, if_match)

    def read_many(self, requests: Iterable[ReadRequest | None]) -> Iterator[tuple[ReadRequest, Loaded | StorageError]]:
        from cloudmesh.storage.providers.webdav.batches import BatchReader

        return BatchReader(self, self._service).run(requests)

    # ---- changing ---------------------------------------------------------------------------------------------------

    def write(
        self, path: str, content: Content, *, mode: WriteMode = "overwrite", if_match: str | None = None
    ) -> Entry:
        self.check_path(path)
        if not path:
            raise IsADirectory(self.location(path))
        return self._writer.write(path, content, mode, if_match)

    def write_many(
        self, requests: Iterable[WriteRequest | None]
    ) -> Iterator[tuple[WriteRequest, Entry | StorageError]]:
        from cloudmesh.storage.providers.webdav.batches import BatchWriter

        batch = BatchWriter(self, self._service, self._directories, self._mover, self._mtimes, self._writer)
        return batch.run(requests)

    def remove(self, path: str) -> None:
        # A DELETE takes a directory with all that it holds, so look first. A directory that takes a file's place
        # between the two requests would be lost; WebDAV has no way to prevent that.
        if self.stat(path).is_directory:
            raise IsADirectory(self.location(path))
        self._directories.delete(path, is_directory=False)

    def make_dir(self, path: str) -> None:
        self.check_path(path)
        self._directories.make(path)

    def remove_dir(self, path: str) -> None:
        # A file that another client adds between the two requests is lost with the directory; see `remove`.
        self.check_path(path)
        if not path:
            raise Refused(self.location(path), "the root of a service is not removed")
        if list_directory(self._service, path):
            raise DirectoryNotEmpty(self.location(path))
        self._directories.delete(path, is_directory=True)

    def set_mtime(self, path: str, mtime_ns: int) -> None:
        self.check_path(path)
        if not self.capabilities.set_mtime:
            raise Unsupported(self.location(path), "this service cannot change a modification time")
        entry = self._service.stat(path)
        if entry.is_directory:
            raise IsADirectory(self.location(path))
        self._mtimes.change(entry, mtime_ns)

    def copy_within(self, source: str, destination: str, *, mode: WriteMode = "overwrite") -> Entry:
        self.check_path(destination)
        entry = self.stat(source)
        subject = self.location(source)
        if entry.is_directory:
            raise IsADirectory(subject)
        if source == destination:
            return entry
        if not destination:
            raise IsADirectory(self.location(destination))
        if mode == "create":
            check_condition(self._service, destination, mode, None)
        self._directories.make_parents(destination, again=True)
        if not self._mover.is_faithful(destination):
            with self.open_read(source) as reader:
                return self.write(destination, Content.of_stream(reader, entry.size, entry.mtime_ns), mode=mode)
        temporary = self._service.addresses.temporary(destination)
        begun = time.monotonic()
        try:
            headers = [("Destination", temporary), ("Overwrite", "T"), ("Depth", "0")]
            answer = self._service.client.request("COPY", self._service.addresses.of(source), subject, headers=headers)
            if not 200 <= answer.status < 300 or answer.status == 207:
                explain_refusal(self._service, destination, answer)
                raise self._service.error(answer, source)
            self._mtimes.after_copy(entry, temporary, stored_within(begun, answer))
            self._mover.into_place(temporary, destination, mode, None)
        except BaseException:
            discard(self._service, temporary)
            raise
        return entry._replace(path=destination, etag=None, changed_ns=None)

    def move_within(self, source: str, destination: str, *, mode: WriteMode = "overwrite") -> None:
        self.check_path(destination)
        entry = self.stat(source)
        if source == destination:
            return
        if entry.is_directory and (not source or not destination or paths.is_below(destination, source)):
            raise Refused(self.location(source), "a directory cannot be moved into itself")
        if not destination:
            raise IsADirectory(self.location(destination))
        self._directories.make_parents(destination, again=True)
        if not self._mover.is_faithful(destination):
            if entry.is_directory:
                raise Unsupported(self.location(source), "this server cannot give a directory such a name")
            self.copy_within(source, destination, mode=mode)
            self.remove(source)
        elif entry.is_directory:
            self._move_directory(source, destination)
        else:
            self._mover.into_place(self._service.addresses.of(source), destination, mode, None)

    def _move_directory(self, source: str, destination: str) -> None:
        self._directories.forget(source)
        addresses, subject = self._service.addresses, self.location(source)
        headers = [("Destination", addresses.of(destination) + "/"), ("Overwrite", "F")]
        answer = self._service.client.request("MOVE", addresses.of(source) + "/", subject, headers=headers)
        if answer.status == 412:
            raise AlreadyExists(self.location(destination))
        if answer.status not in (200, 201, 204):
            explain_refusal(self._service, destination, answer)
            raise self._service.error(answer, source)


def _text(settings: ServiceSettings, key: str) -> str | None:
    value = settings.credentials.get(key)
    return None if value is None or value == "" else str(value)
