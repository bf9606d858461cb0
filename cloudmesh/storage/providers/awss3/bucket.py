"""The bucket that a service means: names and keys, errors, lookups, and what is learnt about the server on the way."""

from __future__ import annotations

import hashlib
import math
import re
import threading
import time
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress

from cloudmesh.storage import paths
from cloudmesh.storage.abc import NO_HASHES, Capabilities, Entry, ServiceSettings
from cloudmesh.storage.errors import (
    InvalidName,
    IsADirectory,
    NotADirectory,
    NotFound,
    PermissionDenied,
    PreconditionFailed,
    RateLimited,
    StorageError,
    Unavailable,
    Unsupported,
)
from cloudmesh.storage.home import config_dir
from cloudmesh.storage.leftovers import Leftovers
from cloudmesh.storage.providers.awss3 import listing, metadata, multipart
from cloudmesh.storage.providers.awss3.connection import Connection
from cloudmesh.storage.providers.awss3.faults import BUSY, INTERNAL, translated
from cloudmesh.storage.providers.awss3.local_parts import Room
from cloudmesh.storage.providers.awss3.unfinished import UnfinishedUploads

STREAMED = 64 * multipart.MIB
"""Bytes of the largest content that is sent in one piece as it comes, where its MD5 is known beforehand."""

ORDERS = "s3-orders"
"""The folder with an empty file for each bucket whose listings are known to come in an order of their own."""

# What XML cannot hold or obstore does not send. S3 itself would take most of them.
_ALGORITHM = re.compile(rb"<SSEAlgorithm>\s*([^<\s]*)")
_FORBIDDEN = frozenset(map(chr, (*range(1, 32), 127, 0xFFFE, 0xFFFF)))


class Bucket:
    """A bucket, below the root of a service. Thread-safe.

    Attributes:
        connection: to the service.
        name: of the bucket.
        root: of the service in it, normalised.
        capabilities: what is known by now; some of it only the first answers tell.
        room: memory for parts of local files.
        leftovers: temporary objects that listings came across.
        unfinished: notes about uploads in parts.
        key_order: whether a listing of a tree comes in the order of its keys, as far as known. Directory buckets and
            servers that lie on a tree list "a/b" before "a.txt".
    """

    def __init__(self, settings: ServiceSettings) -> None:
        self.connection = Connection(settings)
        self.name = self.connection.bucket
        self.root = paths.normalize(settings.root)
        self.leftovers = Leftovers()
        place = hashlib.sha256(f"{self.connection.endpoint}\0{self.name}".encode()).hexdigest()[:32]
        self._own_order = config_dir() / ORDERS / place
        self.key_order = not self.name.endswith("--x-s3") and not self._own_order.exists()
        amazon = self.connection.is_amazon
        self.capabilities = Capabilities(
            mtime_precision_ns=1,
            set_mtime=True,
            hashes=frozenset({"md5"}),
            flat=True,
            conditional_create=amazon,
            conditional_match=amazon,
            server_copy=True,
            server_move=True,
            presign=not self.connection.anonymous,
            name_max_bytes=None,
            path_max_bytes=1024 - len(f"{self.root}/".encode()) if self.root else 1024,
            forbidden=_FORBIDDEN,
            part_bytes=multipart.PART,
            verifies={"md5": STREAMED},
        )
        self.room = Room(multipart.ROOM)
        self.unfinished = UnfinishedUploads(self.connection.endpoint, self.name)
        self._service = settings.name
        self._workers = max(settings.parallel, multipart.IN_FLIGHT)
        self._lock = threading.Lock()
        self._executor: ThreadPoolExecutor | None = None
        self._server: str | None = None
        self._md5_etags: bool | None = None if amazon else True
        self._pause_until = 0.0
        self._pause_asked = float("-inf")

    @property
    def pool(self) -> ThreadPoolExecutor:
        """Threads for the requests that one call makes at once."""
        with self._lock:
            if self._executor is None:
                self._executor = ThreadPoolExecutor(self._workers, "awss3")
            return self._executor

    def close(self) -> None:
        """End the threads and the connections."""
        with self._lock:
            executor, self._executor = self._executor, None
        if executor is not None:
            executor.shutdown(cancel_futures=True)
        self.connection.close()

    # ---- names ------------------------------------------------------------------------------------------------------

    def location(self, path: str) -> str:
        """Return ``path`` as the user would type it."""
        return str(paths.Location(self._service, path))

    def key(self, path: str) -> str:
        """Return the key of the file ``path``; that of a directory's marker has a slash behind it."""
        return paths.join(self.root, path)

    def path(self, key: str) -> str:
        """Return the path of a key below the root."""
        return key[len(self.root) + 1 :] if self.root else key

    # ---- errors -----------------------------------------------------------------------------------------------------

    @contextmanager
    def translated(self, path: str) -> Iterator[None]:
        """Turn what the libraries raise inside into errors of our closed set about ``path``."""
        try:
            with translated(self.location(path), self.name):
                yield
        except (RateLimited, Unavailable) as error:
            if error.retry_after is None and (isinstance(error, RateLimited) or error.why == BUSY):
                error.retry_after = self._pause()
            raise

    def _pause(self) -> float | None:
        """Return for how many seconds the service wants no requests; None where it does not say.

        obstore does not hand on the Retry-After header, so one more request asks, at most once a second.
        """
        with self._lock:
            now = time.monotonic()
            if now < self._pause_until:
                return math.ceil(self._pause_until - now)
            if now < self._pause_asked + 1:
                return None
            self._pause_asked = now
        try:
            self.connection.http.request(self.location(""), "HEAD")
        except StorageError as error:
            if error.retry_after is not None:
                self._pause_until = now + error.retry_after
            return error.retry_after
        return None

    def explain(self, path: str, error: StorageError) -> None:
        """Raise what an internal error of the server really means, where something is in the way of ``path``."""
        if error.why != INTERNAL:
            return
        if self.is_directory(path):
            raise IsADirectory(self.location(path))
        level = paths.parent(path)
        while level:
            if self.is_file(level):
                raise NotADirectory(self.location(path), f"{self.location(level)} is a file")
            level = paths.parent(level)

    # ---- lookups ----------------------------------------------------------------------------------------------------

    def head(self, path: str) -> Entry:
        """Return the file at ``path``; NotFound also where a directory is."""
        http = self.connection.http
        subject = self.location(path)
        try:
            answer = http.request(subject, "HEAD", self.key(path))
        except StorageError as error:
            # The answer to a HEAD has no text, so what is wrong is not told: ask again for one byte.
            if isinstance(error, (PermissionDenied, Unsupported)):
                http.request(subject, "GET", self.key(path), headers={"Range": "bytes=0-0"})
            raise
        return self.entry(path, answer.headers)

    def file(self, path: str) -> Entry:
        """Return the file at ``path``.

        Raises:
            NotFound, IsADirectory: there is none.
        """
        try:
            return self.head(path)
        except NotFound as error:
            raise self.missing(path, error) from None

    def is_file(self, path: str) -> bool:
        """Tell whether a file is at ``path``."""
        try:
            self.head(path)
        except NotFound:
            return False
        return True

    def is_directory(self, path: str) -> bool:
        """Tell whether a directory is at ``path``."""
        return bool(self.first_keys(path))

    def first_keys(self, path: str) -> list[listing.Listed]:
        """Return the first two keys in the directory ``path``, its marker included; none where there is none."""
        # By one level, because only then SeaweedFS shows a directory that it keeps after its last file went.
        page = next(
            listing.pages(self.connection.http, self.location(path), f"{self.key(path)}/", one_level=True, limit=2)
        )
        self.note_server(page.server)
        return page.items

    def missing(self, path: str, error: StorageError) -> StorageError:
        """Return what it means that no file is at ``path``: ``error``, or that a directory is there."""
        return IsADirectory(self.location(path)) if self.is_directory(path) else error

    # ---- the server -------------------------------------------------------------------------------------------------

    def note_server(self, name: str) -> None:
        """Learn from an answer what the server calls itself."""
        self._server = name
        if name.startswith("SeaweedFS"):
            self.key_order = False

    def note_own_order(self) -> None:
        """Note that listings of trees are not in the order of keys: for later processes too, as it may show late."""
        self.key_order = False
        with suppress(OSError):
            self._own_order.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._own_order.touch(0o600)

    def check_new(self, path: str) -> None:
        """Refuse with InvalidName a backslash where the server would store a slash for it (SeaweedFS)."""
        if "\\" in path and not self.connection.is_amazon:
            if self._server is None:
                self.first_keys(path)
            if self._server is not None and self._server.startswith("SeaweedFS"):
                raise InvalidName(self.location(path), "SeaweedFS cannot hold the character '\\' in a name")

    # ---- entries ----------------------------------------------------------------------------------------------------

    def entry(self, path: str, headers: Mapping[str, str], *, size: int | None = None) -> Entry:
        """Return the file that an answer's headers, by lower-case name, describe.

        Args:
            size: where it is known better than by Content-Length.
        """
        length = headers.get("content-length")
        etag = metadata.quoted(headers.get("etag"))
        return Entry(
            path,
            size=int(length) if size is None and length is not None else size,
            mtime_ns=metadata.mtime(headers),
            changed_ns=metadata.parse_http_time(headers.get("last-modified", "")),
            etag=etag,
            hashes=self.hashes(etag),
            version=headers.get("x-amz-version-id"),
        )

    def hashes(self, etag: str | None) -> Mapping[str, str]:
        """Return the content's MD5 where the ETag is that."""
        digest = metadata.md5_like(etag)
        return {"md5": digest} if digest and self._etags_are_md5() else NO_HASHES

    def _etags_are_md5(self) -> bool:
        """Whether an ETag without a dash is the content's MD5: not in a bucket encrypted with a key of KMS."""
        if self._md5_etags is None:
            try:
                answer = self.connection.http.request(self.location(""), "GET", query={"encryption": ""})
                self._md5_etags = set(_ALGORITHM.findall(answer.body)) == {b"AES256"}
            except StorageError:
                self._md5_etags = False
        return self._md5_etags

    def match(self, entry: Entry, if_match: str | None) -> None:
        """Refuse with PreconditionFailed where ``entry`` has another ETag."""
        if if_match is not None and entry.etag != metadata.quoted(if_match):
            raise PreconditionFailed(self.location(entry.path))
