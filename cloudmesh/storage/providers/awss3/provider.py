"""The provider; see `S3Storage`."""

from __future__ import annotations

import io
import itertools
import math
import os
import threading
import time
import uuid
from collections import deque
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import contextmanager, suppress
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal, InvalidOperation
from mimetypes import guess_type
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from cloudmesh.storage import local_files, paths
from cloudmesh.storage.abc import (
    CHUNK,
    NO_HASHES,
    Capabilities,
    Content,
    Entry,
    Reader,
    ServiceSettings,
    StorageABC,
    WriteMode,
)
from cloudmesh.storage.errors import (
    AlreadyExists,
    DirectoryNotEmpty,
    InvalidName,
    IsADirectory,
    NotADirectory,
    NotFound,
    PermissionDenied,
    PreconditionFailed,
    RateLimited,
    Refused,
    SourceChanged,
    StorageError,
    Unavailable,
    Unsupported,
)
from cloudmesh.storage.paths import TEMPORARY_PREFIX
from cloudmesh.storage.providers.awss3 import listing, multipart
from cloudmesh.storage.providers.awss3.connection import Connection
from cloudmesh.storage.providers.awss3.faults import (
    BUSY,
    INTERNAL,
    NOT_PARTIAL,
    from_code,
    retry_after,
    status_and_code,
    translate,
    translated,
)
from cloudmesh.storage.providers.awss3.multipart import MIB

if TYPE_CHECKING:
    from obstore import GetOptions, GetResult, ObjectMeta, PutMode

SMALL = MIB
"""Up to here obstore sends a file, in a tenth of the time; its read timeout counts from the start of a request, so that
more bytes might not get through a slow line in time. botocore's counts from the end of what is sent."""

PARALLEL_DOWNLOAD = 64 * MIB
RANGE = 16 * MIB
COPY_LIMIT = 5 * 1024 * MIB
PRESIGN_LIMIT = 7 * 24 * 3600
DELETE_BATCH = 1000

# What XML cannot hold or obstore does not send. S3 itself would take most of them.
_FORBIDDEN = frozenset(map(chr, (*range(1, 32), 127, 0xFFFE, 0xFFFF)))


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
        self._connection = Connection(settings)
        self._bucket = self._connection.bucket
        self._root = paths.normalize(settings.root)
        amazon = self._connection.is_amazon
        self.capabilities = Capabilities(
            mtime_precision_ns=1,
            set_mtime=True,
            hashes=frozenset({"md5"}),
            flat=True,
            conditional_create=amazon,
            conditional_match=amazon,
            server_copy=True,
            server_move=True,
            presign=not self._connection.anonymous,
            name_max_bytes=None,
            path_max_bytes=1024 - len(f"{self._root}/".encode()) if self._root else 1024,
            forbidden=_FORBIDDEN,
            part_bytes=multipart.PART,
        )
        self._lock = threading.Lock()
        self._asking = threading.Lock()
        self._batch_delete = True
        self._executor: ThreadPoolExecutor | None = None
        self._client_ready = False
        self._conditional: bool | None = True if amazon else None
        self._markers: bool | None = True if amazon else None
        self._pause_until = 0.0
        self._pause_asked = float("-inf")
        self._md5_etags: bool | None = None if amazon else True
        self._server: str | None = None
        # Directory buckets and servers that lie on a tree list "a/b" before "a.txt".
        self._key_order = not self._bucket.endswith("--x-s3")

    # ---- reading ----------------------------------------------------------------------------------------------------

    def stat(self, path: str) -> Entry:
        if not path:
            return Entry("", is_directory=True)
        self.check_path(path)
        try:
            return self._head(path)
        except NotFound:
            if self._is_directory(path):
                return Entry(path, is_directory=True)
            raise

    def scan(self, path: str = "", *, recursive: bool = False) -> Iterator[Entry]:
        self.check_path(path)
        prefix = f"{self._key(path)}/" if path or self._root else ""
        found = False
        for entry in self._scan(prefix, recursive):
            found = True
            if entry is not None:
                yield entry
        if path and not found:
            self._head(path)
            raise NotADirectory(self.location(path))

    def open_read(self, path: str, *, start: int = 0, length: int | None = None, if_match: str | None = None) -> Reader:
        self._check_file(path)
        if start < 0 or length == 0:
            # One more request, but correct everywhere: servers differ about ranges that reach before the beginning.
            entry = self._file(path)
            self._match(entry, if_match)
            size = entry.size or 0
            begin = max(0, size + start) if start < 0 else start
            end = size if length is None else min(size, begin + length)
            if begin >= end:
                return Reader(entry, iter(()))
            return self._read(path, begin, end, if_match or entry.etag)
        return self._read(path, start, None if length is None else start + length, if_match)

    def download(self, path: str, destination: Path, *, if_match: str | None = None) -> Entry:
        self._check_file(path)
        with self.open_read(path, if_match=if_match) as reader:
            entry = reader.entry
            if (entry.size or 0) < PARALLEL_DOWNLOAD or entry.etag is None:
                local_files.write_pieces(destination, reader)
                return entry
        self._download_ranges(path, entry, destination)
        return entry

    # ---- writing ----------------------------------------------------------------------------------------------------

    def write(
        self, path: str, content: Content, *, mode: WriteMode = "overwrite", if_match: str | None = None
    ) -> Entry:
        self._check_file(path)
        self._check_server_takes(path)
        condition = self._condition(path, mode, if_match)
        source = _Source(content, self.location(path))
        try:
            if content.size is not None and content.size <= SMALL:
                etag, version = self._put_small(path, b"".join(source), content.mtime_ns, condition)
            else:
                etag, version = self._put_large(path, source, content, condition)
        except (NotFound, PreconditionFailed) as error:
            raise self._condition_failed(path, error, condition) from None
        except Unavailable as error:
            self._explain(path, error)
            raise
        etag = _quoted(etag)
        return Entry(
            path,
            size=source.sent,
            mtime_ns=content.mtime_ns,
            etag=etag,
            hashes=self._hashes(etag),
            version=version,
        )

    def remove(self, path: str) -> None:
        self._check_file(path)
        self._file(path)
        import obstore

        with self._translated(path):
            obstore.delete(self._connection.store, self._key(path))

    def remove_many(self, files: Iterable[str]) -> Iterator[tuple[str, StorageError]]:
        remaining = iter(files)
        while batch := list(itertools.islice(remaining, DELETE_BATCH)):
            yield from self._remove_batch(batch)

    def make_dir(self, path: str) -> None:
        self.check_path(path)
        self._check_server_takes(path)
        if self._markers is None:
            # One at a time: a marker that the server takes for a file must not be seen by another thread.
            with self._asking:
                self._make_dir(path)
        else:
            self._make_dir(path)

    def _make_dir(self, path: str) -> None:
        missing = []
        level = path
        while level:
            if self._is_file(level):
                raise NotADirectory(self.location(level))
            if not self._is_directory(level):
                missing.append(level)
            level = paths.parent(level)
        for level in reversed(missing):
            if self._markers is False:
                return
            with self._translated(level):
                self._client.put_object(Bucket=self._bucket, Key=f"{self._key(level)}/", Body=b"")
            if self._markers is None:
                self._markers = not self._is_file(level)
                if not self._markers:
                    # The server dropped the slash and holds an empty file now: it has directories only with files.
                    self._remove_one(level)
                    self.capabilities = replace(self.capabilities, empty_directories=False)

    def remove_dir(self, path: str) -> None:
        self.check_path(path)
        if not path:
            raise Refused(self.location(path), "it is the root of the service")
        marker = f"{self._key(path)}/"
        items = self._first_keys(path)
        if any(item.key != marker for item in items):
            raise DirectoryNotEmpty(self.location(path))
        if not items:
            self._head(path)
            raise NotADirectory(self.location(path))
        with self._translated(path):
            self._client.delete_object(Bucket=self._bucket, Key=marker)

    # ---- on the server's side ---------------------------------------------------------------------------------------

    def copy_within(self, source: str, destination: str, *, mode: WriteMode = "overwrite") -> Entry:
        self._check_file(source)
        self._check_file(destination)
        self._check_server_takes(destination)
        entry = self._file(source)
        if source == destination:
            return entry
        condition = self._condition(destination, mode, None)
        try:
            with self._translated(source):
                etag, version = self._copy(entry, destination, condition)
            etag = _quoted(etag)
        except PreconditionFailed as error:
            raise self._condition_failed(destination, error, condition) from None
        except Unavailable as error:
            self._explain(destination, error)
            raise
        return replace(entry, path=destination, etag=etag, hashes=self._hashes(etag), version=version, changed_ns=None)

    def move_within(self, source: str, destination: str, *, mode: WriteMode = "overwrite") -> None:
        self._check_file(source)
        try:
            self.copy_within(source, destination, mode=mode)
        except IsADirectory as error:
            if error.subject == self.location(source):
                raise Unsupported(self.location(source), "only files can be renamed on this service") from None
            raise
        if source != destination:
            import obstore

            with self._translated(source):
                obstore.delete(self._connection.store, self._key(source))

    def set_mtime(self, path: str, mtime_ns: int) -> None:
        """Copy the file onto itself with other metadata, as S3 wants it; in a bucket with versions that makes one."""
        self._check_file(path)
        entry = self._file(path)
        target = {"Bucket": self._bucket, "Key": self._key(path)}
        with self._translated(path):
            known = self._client.head_object(**target)
            metadata = {name: text for name, text in known["Metadata"].items() if name.lower() != "mtime"}
            known["Metadata"] = metadata | {"mtime": _mtime_text(mtime_ns)}
            self._copy(entry, path, {}, replace_with=known)

    def presign(self, path: str, *, expires: int, method: Literal["GET", "PUT"] = "GET") -> str:
        self._check_file(path)
        if self._connection.anonymous:
            raise Unsupported(self.location(path), "an anonymous service has no key to sign with")
        if not 0 < expires <= PRESIGN_LIMIT:
            raise Unsupported(self.location(path), f"a presigned URL lasts from 1 to {PRESIGN_LIMIT} seconds")
        import obstore

        with self._translated(path):
            return obstore.sign(self._connection.store, method, self._key(path), timedelta(seconds=expires))

    def versions(self, path: str) -> list[Entry]:
        self._check_file(path)
        key = self._key(path)
        found: list[Entry] = []
        options: dict[str, Any] = {"Bucket": self._bucket, "Prefix": key}
        while True:
            with self._translated(path):
                answer = self._client.list_object_versions(**options)
            items = answer.get("Versions", [])
            found += [self._version(path, item) for item in items if item["Key"] == key]
            # The key itself comes before all longer ones.
            if not answer.get("IsTruncated") or any(item["Key"] != key for item in items):
                break
            options |= {"KeyMarker": answer["NextKeyMarker"], "VersionIdMarker": answer["NextVersionIdMarker"]}
        if not found:
            raise NotFound(self.location(path))
        return sorted(found, key=lambda entry: entry.changed_ns or 0, reverse=True)

    def probe(self) -> None:
        """List one key, then find out what the service's own behaviour and the bucket's state make possible."""
        prefix = f"{self._root}/" if self._root else ""
        with translated(self.name, self._bucket):
            next(listing.pages(self._client, self._bucket, prefix, one_level=False, limit=1))
        with suppress(StorageError):
            self._honours_conditions("")
        with suppress(StorageError), self._translated(""):
            status = self._client.get_bucket_versioning(Bucket=self._bucket).get("Status")
            self.capabilities = replace(self.capabilities, versions=status == "Enabled")

    def close(self) -> None:
        with self._lock:
            executor, self._executor = self._executor, None
            self._client_ready = False
        if executor is not None:
            executor.shutdown(cancel_futures=True)
        self._connection.close()

    # ---- names ------------------------------------------------------------------------------------------------------

    def _key(self, path: str) -> str:
        return paths.join(self._root, path)

    def _path(self, key: str) -> str:
        return key[len(self._root) + 1 :] if self._root else key

    def _check_file(self, path: str) -> None:
        if not path:
            raise IsADirectory(self.location(path))
        self.check_path(path)

    def _check_server_takes(self, path: str) -> None:
        """Refuse a backslash where the server would store a slash for it (SeaweedFS)."""
        if "\\" in path and not self._connection.is_amazon:
            if self._server is None:
                self._is_directory(path)
            if self._seaweedfs:
                raise InvalidName(self.location(path), "SeaweedFS cannot hold the character '\\' in a name")

    @contextmanager
    def _translated(self, path: str) -> Iterator[None]:
        try:
            with translated(self.location(path), self._bucket):
                yield
        except (RateLimited, Unavailable) as error:
            if error.retry_after is None and (isinstance(error, RateLimited) or error.why == BUSY):
                error.retry_after = self._pause()
            raise

    def _pause(self) -> float | None:
        """Return for how many seconds the service wants no requests; None where it does not say.

        obstore does not hand on the Retry-After header, so botocore asks once more, at most once a second.
        """
        with self._lock:
            now = time.monotonic()
            if now < self._pause_until:
                return math.ceil(self._pause_until - now)
            if now < self._pause_asked + 1:
                return None
            self._pause_asked = now
        try:
            self._connection.client.head_bucket(Bucket=self._bucket)
        except Exception as error:
            seconds = retry_after(error)
            if seconds is not None:
                self._pause_until = now + seconds
            return seconds
        return None

    # ---- lookups ----------------------------------------------------------------------------------------------------

    @property
    def _client(self) -> Any:
        client = self._connection.client
        with self._lock:
            if not self._client_ready:
                listing.install(client)
                self._client_ready = True
        return client

    def _head(self, path: str) -> Entry:
        """Return the file at ``path``; NotFound also where a directory is."""
        import obstore

        try:
            with self._translated(path):
                result = obstore.get(self._connection.store, self._key(path), options={"head": True})
        except PermissionDenied:
            # The answer to a HEAD has no text: ask again for one byte to learn whether the credentials are wrong.
            with self._translated(path):
                obstore.get(self._connection.store, self._key(path), options={"range": (0, 1)})
            raise
        return self._entry(path, result.meta, result.attributes)

    def _file(self, path: str) -> Entry:
        try:
            return self._head(path)
        except NotFound as error:
            raise self._missing(path, error) from None

    def _is_file(self, path: str) -> bool:
        try:
            self._head(path)
        except NotFound:
            return False
        return True

    def _is_directory(self, path: str) -> bool:
        return bool(self._first_keys(path))

    def _first_keys(self, path: str) -> list[listing.Listed]:
        """Return the first two keys in the directory ``path``, its marker included; none where there is none."""
        # By one level, because only then SeaweedFS shows a directory that it keeps after its last file went.
        with self._translated(path):
            page = next(listing.pages(self._client, self._bucket, f"{self._key(path)}/", one_level=True, limit=2))
        self._note_server(page.server)
        return page.items

    @property
    def _seaweedfs(self) -> bool:
        return self._server is not None and self._server.startswith("SeaweedFS")

    def _missing(self, path: str, error: StorageError) -> StorageError:
        return IsADirectory(self.location(path)) if self._is_directory(path) else error

    def _explain(self, path: str, error: StorageError) -> None:
        """Raise what an internal error of the server really means, where something is in the way of ``path``."""
        if error.why != INTERNAL:
            return
        if self._is_directory(path):
            raise IsADirectory(self.location(path))
        level = paths.parent(path)
        while level:
            if self._is_file(level):
                raise NotADirectory(self.location(path), f"{self.location(level)} is a file")
            level = paths.parent(level)

    # ---- entries ----------------------------------------------------------------------------------------------------

    def _entry(self, path: str, meta: ObjectMeta, attributes: Mapping[str, str]) -> Entry:
        etag = _quoted(meta["e_tag"])
        return Entry(
            path,
            size=meta["size"],
            mtime_ns=_mtime(attributes),
            changed_ns=_nanoseconds(meta["last_modified"]),
            etag=etag,
            hashes=self._hashes(etag),
            version=meta["version"],
        )

    def _listed(self, path: str, item: listing.Listed) -> Entry:
        etag = _quoted(item.etag)
        return Entry(
            path,
            size=item.size,
            changed_ns=_parse_time(item.modified),
            etag=etag,
            hashes=self._hashes(etag),
        )

    def _version(self, path: str, item: Mapping[str, Any]) -> Entry:
        etag = _quoted(item.get("ETag"))
        return Entry(
            path,
            size=item["Size"],
            changed_ns=_nanoseconds(item["LastModified"]),
            etag=etag,
            hashes=self._hashes(etag),
            version=item["VersionId"],
        )

    def _hashes(self, etag: str | None) -> Mapping[str, str]:
        digest = (etag or "").strip('"').lower()
        if len(digest) != 32 or not set(digest) <= set("0123456789abcdef") or not self._etags_are_md5():
            return NO_HASHES
        return {"md5": digest}

    def _etags_are_md5(self) -> bool:
        """Whether an ETag without a dash is the content's MD5: not in a bucket encrypted with a key of KMS."""
        if self._md5_etags is None:
            try:
                with self._translated(""):
                    answer = self._client.get_bucket_encryption(Bucket=self._bucket)
                rules = answer["ServerSideEncryptionConfiguration"]["Rules"]
                algorithms = {rule["ApplyServerSideEncryptionByDefault"]["SSEAlgorithm"] for rule in rules}
                self._md5_etags = algorithms == {"AES256"}
            except (StorageError, KeyError):
                self._md5_etags = False
        return self._md5_etags

    def _match(self, entry: Entry, if_match: str | None) -> None:
        if if_match is not None and entry.etag != _quoted(if_match):
            raise PreconditionFailed(self.location(entry.path))

    # ---- scan -------------------------------------------------------------------------------------------------------

    def _scan(self, prefix: str, recursive: bool) -> Iterator[Entry | None]:
        """Yield what is below ``prefix`` in order; None for a key that shows that the directory is there, no more."""
        if not recursive:
            yield from self._level(prefix)
            return
        if self._key_order:
            pages = self._pages(prefix, one_level=False)
            first = next(pages)
            # The first answer may have told that this server has an order of its own.
            if self._key_order:
                yield from self._tree(prefix, itertools.chain((first,), pages))
                return
        yield from self._levels(prefix)

    def _pages(self, prefix: str, *, one_level: bool) -> Iterator[list[listing.Listed]]:
        subject = self.location(self._path(prefix.rstrip("/")))
        pages = listing.pages(self._client, self._bucket, prefix, one_level=one_level)
        last = ""
        while True:
            with translated(subject, self._bucket):
                page = next(pages, None)
            if page is None:
                return
            self._note_server(page.server)
            items = sorted(page.items, key=lambda item: item.key) if one_level else page.items
            for item in items if self._key_order else ():
                if item.key < last:
                    self._key_order = False
                    raise Unavailable(subject, "the service lists in an order of its own; the next try allows for it")
                last = item.key
            yield items

    def _level(self, prefix: str) -> Iterator[Entry | None]:
        unsorted: list[Entry | None] = []
        for items in self._pages(prefix, one_level=True):
            entries = [self._one(prefix, item) for item in items]
            if self._key_order:
                yield from entries
            else:
                unsorted += entries
        yield from sorted(unsorted, key=lambda entry: b"" if entry is None else entry.sort_key)

    def _levels(self, prefix: str) -> Iterator[Entry | None]:
        """Yield a whole tree by one listing a directory: for servers that do not list a tree in the order of keys."""
        for entry in self._level(prefix):
            yield entry
            if entry is not None and entry.is_directory:
                yield from self._levels(f"{self._key(entry.path)}/")

    def _tree(self, prefix: str, pages: Iterable[list[listing.Listed]]) -> Iterator[Entry | None]:
        """Yield a whole tree from one listing in the order of keys."""
        inside: list[str] = []
        for item in itertools.chain.from_iterable(pages):
            *directories, name = item.key[len(prefix) :].split("/")
            if not _visible(directories) or (name and not _visible([name])):
                yield None
                continue
            pairs = zip(inside, directories, strict=False)
            same = sum(1 for _ in itertools.takewhile(lambda pair: pair[0] == pair[1], pairs))
            for depth in range(same, len(directories)):
                path = self._path(prefix + "/".join(directories[: depth + 1]))
                yield Entry(path, is_directory=True)
            inside = directories
            yield self._listed(self._path(item.key), item) if name else None

    def _one(self, prefix: str, item: listing.Listed) -> Entry | None:
        name = item.key[len(prefix) :].removesuffix("/")
        if not _visible([name]):
            return None
        if item.size is None:
            return Entry(self._path(item.key[:-1]), is_directory=True)
        return self._listed(self._path(item.key), item)

    def _note_server(self, name: str) -> None:
        self._server = name
        if self._seaweedfs:
            self._key_order = False

    # ---- streams in -------------------------------------------------------------------------------------------------

    def _read(self, path: str, start: int, end: int | None, if_match: str | None) -> Reader:
        import obstore

        options: GetOptions = {}
        if if_match is not None:
            options["if_match"] = if_match
        if end is not None:
            options["range"] = (start, end)
        elif start:
            options["range"] = {"offset": start}
        try:
            result = obstore.get(self._connection.store, self._key(path), options=options)
        except Exception as error:
            if status_and_code(error)[0] == 416:
                entry = self._file(path)
                self._match(entry, if_match)
                return Reader(entry, iter(()))
            if NOT_PARTIAL in str(error):
                with self._translated(path):
                    result = obstore.get(self._connection.store, self._key(path))
            else:
                with self._translated(path):
                    try:
                        raise
                    except FileNotFoundError:
                        raise self._missing(path, translate(error, self.location(path), self._bucket)) from None
        entry = self._entry(path, result.meta, result.attributes)
        self._match(entry, if_match)
        size = entry.size or 0
        end = size if end is None else min(end, size)
        return Reader(entry, self._stream(path, result, start - result.range[0], end - start))

    def _stream(self, path: str, result: GetResult, skip: int, left: int) -> Iterator[bytes]:
        """Yield ``left`` bytes of an answer after the first ``skip``."""
        stream = iter(result.stream(min_chunk_size=CHUNK))
        while left > 0:
            with self._translated(path):
                piece = next(stream, None)
            if piece is None:
                raise Unavailable(self.location(path), f"the connection ended {left} bytes too early")
            if skip:
                skipped = min(skip, len(piece))
                skip -= skipped
                piece = piece[skipped:]
            piece = bytes(piece[:left])
            left -= len(piece)
            if piece:
                yield piece

    def _download_ranges(self, path: str, entry: Entry, destination: Path) -> None:
        size = entry.size or 0
        with local_files.translated(str(destination)), destination.open("wb") as file:
            descriptor = file.fileno()
            os.truncate(descriptor, size)

            def fetch(start: int) -> None:
                with self._read(path, start, min(start + RANGE, size), entry.etag) as reader:
                    offset = start
                    for piece in reader:
                        view = memoryview(piece)
                        while view:
                            written = os.pwrite(descriptor, view, offset)
                            view = view[written:]
                            offset += written

            pending: deque[Future[None]] = deque()
            try:
                for start in range(0, size, RANGE):
                    if len(pending) == multipart.IN_FLIGHT:
                        pending.popleft().result()
                    pending.append(self._pool.submit(fetch, start))
                while pending:
                    pending.popleft().result()
            finally:
                for future in pending:
                    future.cancel()
                wait(pending)

    # ---- streams out ------------------------------------------------------------------------------------------------

    def _put_small(
        self, path: str, data: bytes, mtime_ns: int | None, condition: Mapping[str, str]
    ) -> tuple[str | None, str | None]:
        import obstore

        mode: PutMode = "overwrite"
        if "IfNoneMatch" in condition:
            mode = "create"
        elif "IfMatch" in condition:
            mode = {"e_tag": condition["IfMatch"]}
        attributes = {"Content-Type": _content_type(path)}
        if mtime_ns is not None:
            attributes["mtime"] = _mtime_text(mtime_ns)
        with self._translated(path):
            answer = obstore.put(
                self._connection.store,
                self._key(path),
                data,
                attributes=attributes,
                mode=mode,
                use_multipart=False,
            )
        return answer["e_tag"], answer["version"]

    def _put_large(
        self, path: str, source: _Source, content: Content, condition: Mapping[str, str]
    ) -> tuple[str | None, str | None]:
        target = {"Bucket": self._bucket, "Key": self._key(path)}
        attributes: dict[str, Any] = {"ContentType": _content_type(path)}
        if content.mtime_ns is not None:
            attributes["Metadata"] = {"mtime": _mtime_text(content.mtime_ns)}
        parts = multipart.regroup(source, multipart.part_bytes(content.size))
        head = list(itertools.islice(parts, 2))
        with self._translated(path):
            if len(head) == 2:
                answer = multipart.send(
                    self._client,
                    target,
                    itertools.chain(head, parts),
                    self._pool,
                    attributes=attributes,
                    condition=condition,
                )
            else:
                body = io.BytesIO(b"".join(head))
                answer = self._client.put_object(**target, **attributes, **condition, Body=body)
        return answer.get("ETag"), answer.get("VersionId")

    def _copy(
        self,
        entry: Entry,
        destination: str,
        condition: Mapping[str, str],
        *,
        replace_with: Mapping[str, Any] | None = None,
    ) -> tuple[str | None, str | None]:
        """Copy on the server; ``replace_with`` is an answer to head_object whose metadata the copy shall have."""
        source = {"Bucket": self._bucket, "Key": self._key(entry.path)}
        target = {"Bucket": self._bucket, "Key": self._key(destination)}
        if (entry.size or 0) <= COPY_LIMIT:
            replaced = _attributes(replace_with) | {"MetadataDirective": "REPLACE"} if replace_with else {}
            answer = self._client.copy_object(**target, CopySource=source, **replaced, **condition)
            return answer["CopyObjectResult"].get("ETag"), answer.get("VersionId")
        known = replace_with or self._client.head_object(**source)
        answer = multipart.copy(
            self._client,
            source,
            target,
            known["ContentLength"],
            known["ETag"],
            self._pool,
            attributes=_attributes(known),
            condition=condition,
        )
        return answer.get("ETag"), answer.get("VersionId")

    @property
    def _pool(self) -> ThreadPoolExecutor:
        with self._lock:
            if self._executor is None:
                self._executor = ThreadPoolExecutor(max(self.settings.parallel, multipart.IN_FLIGHT), "awss3")
            return self._executor

    # ---- conditions -------------------------------------------------------------------------------------------------

    def _condition(self, path: str, mode: WriteMode, if_match: str | None) -> Mapping[str, str]:
        """Return what the service shall check itself; where it would not, check it now and return nothing."""
        if mode == "overwrite" and if_match is None:
            return {}
        if self._honours_conditions(path):
            return {"IfNoneMatch": "*"} if if_match is None else {"IfMatch": if_match}
        try:
            entry = self._head(path)
        except NotFound:
            if if_match is not None:
                raise PreconditionFailed(self.location(path)) from None
            return {}
        if if_match is None:
            raise AlreadyExists(self.location(path))
        self._match(entry, if_match)
        return {}

    def _condition_failed(self, path: str, error: StorageError, condition: Mapping[str, str]) -> StorageError:
        if "IfNoneMatch" in condition and isinstance(error, PreconditionFailed):
            return AlreadyExists(self.location(path))
        # What is not there does not match either; only a missing bucket comes with a hint.
        if "IfMatch" in condition and not error.hint:
            return PreconditionFailed(self.location(path))
        return error

    def _honours_conditions(self, path: str) -> bool:
        with self._asking:
            if self._conditional is None:
                self._conditional = self._ask_conditions(path)
                self.capabilities = replace(
                    self.capabilities, conditional_create=self._conditional, conditional_match=self._conditional
                )
            return self._conditional

    def _ask_conditions(self, path: str) -> bool:
        """Ask the service to replace a file that is not there, of a version that never was: it should refuse."""
        import obstore

        store = self._connection.store
        key = self._key(f"{TEMPORARY_PREFIX}{uuid.uuid4().hex}")
        try:
            obstore.put(store, key, b"", mode={"e_tag": '"00000000000000000000000000000000"'})
        except Exception as error:
            status, code = status_and_code(error)
            if code == "NoSuchBucket" or status not in (400, 404, 412, 501):
                with self._translated(path):
                    raise
            return status in (404, 412)
        with self._translated(path):
            obstore.delete(store, key)
        return False

    # ---- batches ----------------------------------------------------------------------------------------------------

    def _remove_batch(self, batch: list[str]) -> Iterator[tuple[str, StorageError]]:
        accepted: dict[str, str] = {}
        for path in batch:
            try:
                self._check_file(path)
            except StorageError as error:
                yield path, error
            else:
                accepted[self._key(path)] = path
        if not accepted:
            return
        if self._batch_delete:
            request = {"Objects": [{"Key": key} for key in accepted], "Quiet": True}
            try:
                with self._translated(""):
                    answer = self._client.delete_objects(Bucket=self._bucket, Delete=request)
            except Unsupported:
                # Some services have no such call, or want a checksum with it that nobody else does.
                self._batch_delete = False
            except StorageError as error:
                for path in accepted.values():
                    yield path, type(error)(self.location(path), error.why, error.hint, retry_after=error.retry_after)
                return
            else:
                for item in answer.get("Errors", []):
                    path = accepted[item["Key"]]
                    failure = from_code(item.get("Code", ""), self.location(path))
                    if not isinstance(failure, NotFound):
                        yield path, failure
                return
        paths_left = list(accepted.values())
        for path, problem in zip(paths_left, self._pool.map(self._remove_one, paths_left), strict=True):
            if problem is not None:
                yield path, problem

    def _remove_one(self, path: str) -> StorageError | None:
        import obstore

        try:
            with self._translated(path), suppress(FileNotFoundError):
                obstore.delete(self._connection.store, self._key(path))
        except StorageError as error:
            return error
        return None


class _Source:
    """The pieces of a content, counted and compared with the promised size before the last one is handed out."""

    def __init__(self, content: Content, subject: str) -> None:
        self._content = content
        self._subject = subject
        self.sent = 0

    def __iter__(self) -> Iterator[bytes]:
        promised = self._content.size
        with local_files.translated(str(self._content.path or self._subject)):
            for piece in self._content.open():
                self.sent += len(piece)
                if promised is not None and self.sent > promised:
                    raise SourceChanged(self._subject, f"the source gave more than the {promised} bytes promised")
                yield piece
        if promised is not None and self.sent < promised:
            raise SourceChanged(self._subject, f"the source gave {self.sent} of the {promised} bytes promised")


_COPIED = (
    "Metadata",
    "ContentType",
    "CacheControl",
    "ContentDisposition",
    "ContentEncoding",
    "ContentLanguage",
    "StorageClass",
)


def _attributes(known: Mapping[str, Any]) -> dict[str, Any]:
    """Return what an answer to head_object tells about an object, as a new one is given it."""
    return {name: known[name] for name in _COPIED if name in known}


def _visible(names: list[str]) -> bool:
    """Tell whether these parts of a key can stand in a path of ours, and are not temporary."""
    return not any(name in ("", ".", "..") or name.startswith(TEMPORARY_PREFIX) for name in names)


def _content_type(path: str) -> str:
    return guess_type(paths.basename(path), strict=False)[0] or "application/octet-stream"


def _quoted(etag: str | None) -> str | None:
    """Return an ETag as HTTP writes it; some servers leave the quotes away in listings."""
    if not etag:
        return None
    return etag if etag.endswith('"') else f'"{etag}"'


def _mtime_text(mtime_ns: int) -> str:
    """Return seconds as rclone writes them: decimal, with all nine digits."""
    seconds, rest = divmod(abs(mtime_ns), 1_000_000_000)
    return f"{'-' if mtime_ns < 0 else ''}{seconds}.{rest:09}"


def _mtime(attributes: Mapping[str, str]) -> int | None:
    text = next((value for name, value in attributes.items() if name.lower() == "mtime"), None)
    if text is None:
        return None
    try:
        return int(Decimal(text) * 1_000_000_000)
    except (InvalidOperation, ValueError, OverflowError):
        return None


def _nanoseconds(moment: datetime) -> int:
    return (moment - _EPOCH) // _MICROSECOND * 1000


def _parse_time(text: str) -> int | None:
    try:
        return _nanoseconds(datetime.fromisoformat(text))
    except ValueError:
        return None


_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)
