"""The provider; see `S3Storage`."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import ClassVar, Literal

from cloudmesh.storage.abc import (
    Capabilities,
    Content,
    Entry,
    Loaded,
    Moved,
    OnError,
    Reader,
    ReadRequest,
    ServiceSettings,
    StorageABC,
    WriteMode,
    WriteRequest,
    nobody_counts,
)
from cloudmesh.storage.errors import (
    IsADirectory,
    NotADirectory,
    NotFound,
    PreconditionFailed,
    Refused,
    StorageError,
    Unavailable,
    Unsupported,
)
from cloudmesh.storage.providers.awss3 import (
    copying,
    downloading,
    listing,
    many,
    metadata,
    reading,
    scanning,
    versions,
    writing,
)
from cloudmesh.storage.providers.awss3.bucket import Bucket
from cloudmesh.storage.providers.awss3.conditions import Conditions
from cloudmesh.storage.providers.awss3.directories import Directories
from cloudmesh.storage.providers.awss3.removing import Removal

PRESIGN_LIMIT = 7 * 24 * 3600


class S3Storage(StorageABC):
    """Amazon S3, and every service that speaks its protocol.

    What a flat set of keys cannot promise (``Capabilities.flat``): a directory is a common prefix of keys, or an empty
    object whose key ends in a slash, as Amazon's console makes them. A file may therefore lie at the path of a
    directory and below another file, and `write` does not look for either beforehand, which would cost a request for
    each file; a directory that was not made by `make_dir` vanishes with its last file. `move_within` copies and then
    removes: others see both for a moment, and nothing is lost in between.

    A service other than Amazon may ignore the conditions of a write. Before the first conditional write (or in `probe`)
    one request finds out, which changes nothing where conditions are honoured; where they are not, the file is looked
    up beforehand and ``Capabilities.conditional_create`` stays False.
    """

    kind: ClassVar[str] = "awss3"
    keys: ClassVar[Mapping[str, str]] = {
        "bucket": "name of the bucket",
        "access_key_id": "access key; without one the AWS configuration files, environment or machine role are used",
        "secret_access_key": "secret key that belongs to the access key",
        "region": "region of the bucket, such as us-east-1",
        "endpoint_url": "URL of a service other than Amazon",
        "addressing_style": "where the bucket's name stands: path, or virtual (in the host's name)",
        "session_token": "token that temporary keys come with",
        "profile": "profile of the AWS configuration files",
        "role_arn": "role to assume",
        "anonymous": "true: a public bucket, nothing is signed",
    }
    required: ClassVar[frozenset[str]] = frozenset({"bucket"})
    secrets: ClassVar[frozenset[str]] = frozenset({"secret_access_key", "session_token"})

    def __init__(self, settings: ServiceSettings) -> None:
        super().__init__(settings)
        self._bucket = Bucket(settings)
        self._conditions = Conditions(self._bucket)
        self._directories = Directories(self._bucket)
        self._removal = Removal(self._bucket)

    @property
    def capabilities(self) -> Capabilities:  # type: ignore[override]  # learnt, not set
        """What is known about the service by now: `probe`, conditional writes and `make_dir` learn more."""
        return self._bucket.capabilities

    # ---- reading ----------------------------------------------------------------------------------------------------

    def stat(self, path: str) -> Entry:
        if not path:
            return Entry("", is_directory=True)
        self.check_path(path)
        try:
            return self._bucket.head(path)
        except NotFound:
            if self._bucket.is_directory(path):
                return Entry(path, is_directory=True)
            raise

    def scan(self, path: str = "", *, recursive: bool = False, on_error: OnError | None = None) -> Iterator[Entry]:
        self.check_path(path)
        prefix = f"{self._bucket.key(path)}/" if path or self._bucket.root else ""
        found = False
        for entry in scanning.scan(self._bucket, prefix, recursive=recursive, on_error=on_error):
            found = True
            if entry is not None:
                yield entry
        if path and not found:
            self._bucket.head(path)
            raise NotADirectory(self.location(path))

    def open_read(self, path: str, *, start: int = 0, length: int | None = None, if_match: str | None = None) -> Reader:
        self._check_file(path)
        if start < 0 or length == 0:
            # One more request, but correct everywhere: servers differ about ranges that reach before the beginning.
            entry = self._bucket.file(path)
            self._bucket.match(entry, if_match)
            size = entry.size or 0
            begin = max(0, size + start) if start < 0 else start
            end = size if length is None else min(size, begin + length)
            if begin >= end:
                return Reader(entry, iter(()))
            return reading.read(self._bucket, path, begin, end, if_match or entry.etag)
        return reading.read(self._bucket, path, start, None if length is None else start + length, if_match)

    def read_many(self, requests: Iterable[ReadRequest | None]) -> Iterator[tuple[ReadRequest, Loaded | StorageError]]:
        return many.read(self._bucket, requests, self._check_file)

    def download(
        self,
        path: str,
        destination: Path,
        *,
        size: int | None = None,
        if_match: str | None = None,
        moved: Moved = nobody_counts,
    ) -> Entry:
        self._check_file(path)
        if size is None or if_match is None:
            entry = self._bucket.file(path)
            self._bucket.match(entry, if_match)
            size, if_match = entry.size or 0, entry.etag
        return downloading.download(self._bucket, path, size, if_match, destination, moved)

    def identity(self, path: str) -> str:
        bucket = self._bucket
        return f"{bucket.connection.endpoint or 'https://s3.amazonaws.com'}/{bucket.name}/{bucket.key(path)}"

    # ---- writing ----------------------------------------------------------------------------------------------------

    def write(
        self, path: str, content: Content, *, mode: WriteMode = "overwrite", if_match: str | None = None
    ) -> Entry:
        self._check_new(path)
        condition = self._conditions.of_write(path, mode, if_match)
        try:
            return writing.write(self._bucket, path, content, condition)
        except (NotFound, PreconditionFailed) as error:
            raise self._conditions.failure(path, error, condition) from None
        except Unavailable as error:
            self._bucket.explain(path, error)
            raise

    def write_many(
        self, requests: Iterable[WriteRequest | None]
    ) -> Iterator[tuple[WriteRequest, Entry | StorageError]]:
        def condition(request: WriteRequest) -> Mapping[str, str] | None:
            self._check_new(request.path)
            return self._conditions.headers(request.path, request.mode)

        def failure(request: WriteRequest, error: StorageError) -> StorageError:
            if isinstance(error, Unavailable):
                self._bucket.explain(request.path, error)
            sent = {"If-None-Match": "*"} if request.mode == "create" else {}
            return self._conditions.failure(request.path, error, sent)

        return many.write(self._bucket, requests, condition, failure)

    def remove(self, path: str) -> None:
        self._check_file(path)
        self._bucket.file(path)
        self._removal.one(path)

    def remove_many(self, files: Iterable[str]) -> Iterator[tuple[str, StorageError]]:
        return self._removal.many(files, self._check_file)

    def make_dir(self, path: str) -> None:
        self.check_path(path)
        self._bucket.check_new(path)
        self._directories.make(path)

    def remove_dir(self, path: str) -> None:
        self.check_path(path)
        if not path:
            raise Refused(self.location(path), "it is the root of the service")
        self._directories.remove(path)

    # ---- on the server's side ---------------------------------------------------------------------------------------

    def copy_within(self, source: str, destination: str, *, mode: WriteMode = "overwrite") -> Entry:
        self._check_file(source)
        self._check_file(destination)
        self._bucket.check_new(destination)
        entry = self._bucket.file(source)
        if source == destination:
            return entry
        condition = self._conditions.of_write(destination, mode)
        try:
            etag, version = copying.copy(self._bucket, entry, destination, condition)
        except PreconditionFailed as error:
            raise self._conditions.failure(destination, error, condition) from None
        except Unavailable as error:
            self._bucket.explain(destination, error)
            raise
        etag = metadata.quoted(etag)
        hashes = self._bucket.hashes(etag)
        return entry._replace(path=destination, etag=etag, hashes=hashes, version=version, changed_ns=None)

    def move_within(self, source: str, destination: str, *, mode: WriteMode = "overwrite") -> None:
        try:
            self.copy_within(source, destination, mode=mode)
        except IsADirectory as error:
            if source and error.subject == self.location(source):
                raise Unsupported(self.location(source), "only files can be renamed on this service") from None
            raise
        if source != destination:
            self._removal.one(source)

    def set_mtime(self, path: str, mtime_ns: int) -> None:
        """Copy the file onto itself with other metadata, as S3 wants it; in a bucket with versions that makes one."""
        self._check_file(path)
        copying.set_mtime(self._bucket, path, mtime_ns)

    def presign(self, path: str, *, expires: int, method: Literal["GET", "PUT"] = "GET") -> str:
        self._check_file(path)
        if not self.capabilities.presign:
            raise Unsupported(self.location(path), "an anonymous service has no key to sign with")
        if not 0 < expires <= PRESIGN_LIMIT:
            raise Unsupported(self.location(path), f"a presigned URL lasts from 1 to {PRESIGN_LIMIT} seconds")
        import obstore

        with self._bucket.translated(path):
            store = self._bucket.connection.store
            return obstore.sign(store, method, self._bucket.key(path), timedelta(seconds=expires))

    def versions(self, path: str) -> list[Entry]:
        self._check_file(path)
        return versions.versions(self._bucket, path)

    def probe(self) -> None:
        """List one key, then find out what the service's own behaviour and the bucket's state make possible."""
        bucket = self._bucket
        prefix = f"{bucket.root}/" if bucket.root else ""
        next(listing.pages(bucket.connection.http, self.name, prefix, one_level=False, limit=1))
        with suppress(StorageError):
            self._conditions.honoured("")
        with suppress(StorageError):
            bucket.capabilities = replace(bucket.capabilities, versions=versions.keeps_versions(bucket))

    def close(self) -> None:
        self._bucket.close()

    def _check_new(self, path: str) -> None:
        self._check_file(path)
        self._bucket.check_new(path)

    def _check_file(self, path: str) -> None:
        if not path:
            raise IsADirectory(self.location(path))
        self.check_path(path)
