"""The provider contract: what a service can do for us, in a handful of primitives.

A provider implements the primitives of `StorageABC` and declares facts as data in its `Capabilities`. It contains only
the protocol: retries, limits and metering are layers around it (`layers.py`), the user's verbs are written once on top
of it (`api.py`). One conformance suite (``tests/storage/conformance``) checks every provider against real servers.

Rules that hold for every primitive:

* Paths are normalised (`paths.normalize`) and relative to the service's root; the root is ``""``.
* Calls are blocking and thread-safe; many threads share one provider object.
* Only errors of `errors.py` leave a provider. A retryable error means that the same call may be made again as it was.
* ``subject`` of an error is ``self.location(path)``.
* A provider refuses with InvalidName what the service cannot hold before it sends anything (`check_path`).
* Temporary objects carry `TEMPORARY_PREFIX` in their base name and never appear in ``scan``.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType, TracebackType
from typing import Any, ClassVar, Literal, NamedTuple, Self

from cloudmesh.storage import paths
from cloudmesh.storage.errors import (
    AuthenticationFailed,
    InvalidName,
    NotFound,
    SourceChanged,
    StorageError,
    Unsupported,
)
from cloudmesh.storage.local_files import write_pieces
from cloudmesh.storage.paths import MEASURING, STAGING, TEMPORARY_PREFIX
from cloudmesh.storage.pool import run_parallel

CHUNK = 1024 * 1024
"""Bytes in one piece of a stream, where the protocol does not ask for another size."""

SMALL = 1024 * 1024
"""Files of at most so many bytes are moved whole, many at once; larger ones as streams, each by itself."""

WriteMode = Literal["overwrite", "create"]
NO_HASHES: Mapping[str, str] = MappingProxyType({})


class Entry(NamedTuple):
    """What a listing yields: a file or a directory on a service.

    A tuple with names, because listings make millions of them, and a frozen dataclass takes four times as long to make.

    Attributes:
        path: normalised, relative to the service's root.
        is_directory: True for a directory; then only ``path`` is certain.
        size: bytes; None where the service does not tell.
        mtime_ns: the content's own modification time as its writer gave it, in ns since the epoch; None where unknown
            (a service that does not keep it, or a scan that does not tell it).
        changed_ns: when the service says that it last stored the file, in ns since the epoch.
        etag: opaque token that differs when the content differs, as far as the service can tell.
        hashes: algorithm (``md5``, ``sha1``, ``sha256``, ``crc32c`` …) to lower-case hex digest of the whole content.
        version: the service's own version id where versioning is on.
    """

    path: str
    is_directory: bool = False
    size: int | None = None
    mtime_ns: int | None = None
    changed_ns: int | None = None
    etag: str | None = None
    hashes: Mapping[str, str] = NO_HASHES
    version: str | None = None

    @property
    def name(self) -> str:
        """The last part of the path."""
        return paths.basename(self.path)

    @property
    def sort_key(self) -> bytes:
        """The key by which scans are sorted; see `paths.sort_key`."""
        return paths.sort_key(self.path, self.is_directory)


OnError = Callable[[Entry, StorageError], None]
"""Hears of an entry that a scan leaves out, and why."""


def leave_out(entry: Entry, error: StorageError, on_error: OnError | None) -> None:
    """Tell of an entry that a scan cannot look into; raise the error where nobody hears of it, or it concerns more."""
    if on_error is None or error.retryable or isinstance(error, AuthenticationFailed):
        raise error
    on_error(entry, error)


Moved = Callable[[int], object]
"""Takes the number of bytes that go through now, from any thread; it may wait, and what it raises ends the call."""


def nobody_counts(count: int) -> None:
    """Take no notice of bytes: the `Moved` where none was given."""


@dataclass(frozen=True, slots=True)
class Content:
    """What is to be written: bytes that can be opened, once or again.

    Attributes:
        open: gives the pieces from the first byte on; called once an attempt.
        size: bytes that it will give; None where that is not known beforehand. A provider that receives fewer or more
            than promised raises SourceChanged and leaves nothing visible.
        mtime_ns: the modification time to store with it.
        path: the local file that holds exactly these bytes, for providers that take them from there.
        moved: hears of the bytes that are taken from ``path``, as they are sent; ``open`` tells it by itself.
        replayable: whether ``open`` may be called again after a failed attempt.
        check: sees whether ``path`` still is the file that was meant, and raises SourceChanged where not. A provider
            that reads ``path`` itself calls it after the last byte and before the new file is visible; ``open`` gives
            its last piece only after it has seen to that itself.
        hashes: what is known beforehand of the bytes: algorithm to lower-case hex digest.
    """

    open: Callable[[], Iterable[bytes]]
    size: int | None = None
    mtime_ns: int | None = None
    path: Path | None = None
    moved: Moved = nobody_counts
    replayable: bool = True
    check: Callable[[], None] | None = None
    hashes: Mapping[str, str] = field(default_factory=lambda: NO_HASHES)

    @classmethod
    def of_bytes(cls, data: bytes, mtime_ns: int | None = None) -> Content:
        """The content that ``data`` is."""
        return cls(open=lambda: (data,) if data else (), size=len(data), mtime_ns=mtime_ns)

    @classmethod
    def of_file(cls, path: Path) -> Content:
        """The content of a local file, with its size and modification time as they are now.

        Raises:
            OSError: it cannot be read.
        """
        status = path.stat()

        def check() -> None:
            now = path.stat()
            if (now.st_ino, now.st_size, now.st_mtime_ns) != (status.st_ino, status.st_size, status.st_mtime_ns):
                raise SourceChanged(str(path))

        def pieces() -> Iterator[bytes]:
            with path.open("rb", buffering=0) as file:
                piece = file.read(CHUNK)
                while piece:
                    following = file.read(CHUNK)
                    if not following:
                        check()
                    yield piece
                    piece = following

        return cls(open=pieces, size=status.st_size, mtime_ns=status.st_mtime_ns, path=path, check=check)

    @classmethod
    def of_stream(cls, pieces: Iterable[bytes], size: int | None = None, mtime_ns: int | None = None) -> Content:
        """Bytes that can be read only once, such as a pipe."""
        return cls(open=lambda: pieces, size=size, mtime_ns=mtime_ns, replayable=False)


def counted(pieces: Iterable[bytes], moved: Moved) -> Iterator[bytes]:
    """Yield the pieces, and tell ``moved`` of each."""
    for piece in pieces:
        moved(len(piece))
        yield piece


class Reader:
    """A stream of bytes being read, with the entry that they belong to. Iterate it, or `read` it whole; close it.

    Attributes:
        entry: what is being read, as the service described it when the read began.
    """

    def __init__(self, entry: Entry, pieces: Iterator[bytes], close: Callable[[], None] | None = None) -> None:
        self.entry = entry
        self._pieces = pieces
        self._close = close

    def __iter__(self) -> Iterator[bytes]:
        return self._pieces

    def read(self) -> bytes:
        """Return all that is left."""
        return b"".join(self._pieces)

    def close(self) -> None:
        """Release the connection; safe to call twice and before the end of the stream."""
        generator_close = getattr(self._pieces, "close", None)
        if generator_close is not None:
            generator_close()
        if self._close is not None:
            close, self._close = self._close, None
            close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


@dataclass(slots=True, eq=False)
class ReadRequest:
    """A small file wanted from `StorageABC.read_many`.

    Attributes:
        path: of the file.
        if_match: an ``etag`` that it must still have.
        size: bytes, where the caller knows them; memory is planned by it.
        context: the caller's own, handed back untouched.
    """

    path: str
    if_match: str | None = None
    size: int | None = None
    context: Any = None


@dataclass(frozen=True, slots=True)
class Loaded:
    """A small file, wholly in memory.

    Attributes:
        entry: what the bytes belong to.
        data: its bytes.
        permissions: its permission bits (0o777 at most), where it has some that a local copy of it should take.
    """

    entry: Entry
    data: bytes
    permissions: int | None = None


@dataclass(slots=True, eq=False)
class WriteRequest:
    """A small file to be stored by `StorageABC.write_many`, wholly in memory.

    Attributes:
        path: where to.
        data: its bytes.
        mtime_ns: the modification time to store with it.
        mode: as `StorageABC.write`.
        context: the caller's own, handed back untouched.
        permissions: permission bits of a new file before the umask, as `Loaded` gives them; None where the service
            decides. Services other than the local disk take no notice.
    """

    path: str
    data: bytes
    mtime_ns: int | None = None
    mode: WriteMode = "overwrite"
    context: Any = None
    permissions: int | None = None


@dataclass(frozen=True, slots=True)
class Usage:
    """Room on a service, in bytes; None where the service does not tell."""

    total: int | None = None
    used: int | None = None
    free: int | None = None


@dataclass(frozen=True, slots=True)
class Capabilities:
    """Facts about a service, as data; code asks these instead of the kind.

    Attributes:
        mtime_precision_ns: the unit in which a written modification time is kept, in ns (1 = exactly); None = not kept.
        scan_mtime: whether `scan` tells the modification time (else only `stat` does).
        set_mtime: whether the modification time of an existing file can be changed.
        hashes: the hash algorithms that entries may carry.
        case_sensitive: whether names that differ only in case are different files.
        empty_directories: whether a directory exists without files in it.
        flat: whether names are a flat set of keys: a file may then lie at the path of a directory and below another
            file, so `write` and the copies do not promise IsADirectory and NotADirectory for their destination, and a
            directory that `make_dir` did not make vanishes with its last file.
        conditional_create: whether ``mode="create"`` is decided by the service itself, free of races.
        conditional_match: likewise ``if_match`` of a write.
        server_copy, server_move: whether `copy_within`, `move_within` work.
        presign: whether `presign` works.
        versions: whether the service keeps old versions: `versions` lists them, `recall` copies one.
        quota: whether `usage` works.
        name_max_bytes: longest name of one file or directory, UTF-8 bytes; None = only the path counts.
        path_max_bytes: longest path below the root, UTF-8 bytes; None = no limit known.
        forbidden: characters that no name may hold there (besides ``/`` and NUL).
        part_bytes: content longer than this is sent in parts, unless `verifies` holds for it; None where it is always
            one stream.
        verifies: hash algorithm to the largest content, in bytes, that the service itself compares with
            `Content.hashes` before the new file is visible: a `write` then raises ChecksumMismatch for other bytes.
    """

    mtime_precision_ns: int | None = None
    scan_mtime: bool = False
    set_mtime: bool = False
    hashes: frozenset[str] = frozenset()
    case_sensitive: bool = True
    empty_directories: bool = True
    flat: bool = False
    conditional_create: bool = False
    conditional_match: bool = False
    server_copy: bool = False
    server_move: bool = False
    presign: bool = False
    versions: bool = False
    quota: bool = False
    name_max_bytes: int | None = 255
    path_max_bytes: int | None = None
    forbidden: frozenset[str] = frozenset()
    part_bytes: int | None = None
    verifies: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Timeouts:
    """Seconds that a provider waits for a connection, and for the next bytes of an open one."""

    connect: float = 10.0
    read: float = 60.0


@dataclass(frozen=True, slots=True)
class ServiceSettings:
    """What a provider is made from: one service of the configuration, its secrets filled in from the vault.

    Attributes:
        name: the service's name.
        kind: the provider's name, such as ``awss3``.
        root: ``default.directory``, the directory on the service below which all paths lie; raw, as configured.
        credentials: key to value as in ``cloudmesh.yaml``, ``TBD`` and empty values left out. Never printed.
        options: keys of ``default`` other than ``directory``.
        timeouts: for connections.
        parallel: connections that may be open at once.
        bytes_per_second: content that may be moved in a second, both directions together; None = no limit.
        requests_per_second: calls that may be begun in a second; None = no limit.
    """

    name: str
    kind: str
    root: str = ""
    credentials: Mapping[str, Any] = field(default_factory=dict, repr=False)
    options: Mapping[str, Any] = field(default_factory=dict)
    timeouts: Timeouts = Timeouts()
    parallel: int = 32
    bytes_per_second: float | None = None
    requests_per_second: float | None = None


class StorageABC(ABC):
    """One service, through its primitives. See the module's text for the rules that hold for all of them.

    Class attributes:
        kind: the name by which the configuration chooses this provider.
        keys: configuration key below ``credentials`` to what it means, for the guided ``config add`` and the manual.
        required: those of ``keys`` without which the service cannot be used.
        secrets: those of ``keys`` that belong into the vault and are never shown.
        immediate: whether calls are answered without waiting for anybody, so that threads do not make them faster.
    """

    kind: ClassVar[str]
    keys: ClassVar[Mapping[str, str]] = {}
    required: ClassVar[frozenset[str]] = frozenset()
    secrets: ClassVar[frozenset[str]] = frozenset()
    immediate: bool = False

    capabilities: Capabilities
    name: str

    def __init__(self, settings: ServiceSettings) -> None:
        """Take the settings; open no connection yet.

        Raises:
            ConfigError: a required key is missing or a value makes no sense.
            MissingExtra: the package that this kind needs is not installed.
        """
        self.settings = settings
        self.name = settings.name

    # ---- primitives every provider has --------------------------------------------------------------------------

    @abstractmethod
    def stat(self, path: str) -> Entry:
        """Return what is at ``path``. The root is a directory even where it does not exist yet on the service.

        Raises:
            NotFound: nothing is there (also where a parent is a file).
        """

    @abstractmethod
    def scan(self, path: str = "", *, recursive: bool = False, on_error: OnError | None = None) -> Iterator[Entry]:
        """Yield what lies below the directory ``path`` (not itself), sorted by `paths.sort_key`, as a stream.

        With ``recursive`` all levels, each directory before what it holds; directories that exist only as part of a
        file's path are yielded too. The memory needed does not grow with the number of entries beyond one directory.
        Entries that come and go while it runs may or may not be seen; all others are seen exactly once. Symbolic
        links and special files are followed only inside the root, otherwise left out.

        Args:
            path: of the directory.
            recursive: also what lies deeper.
            on_error: hears of each directory below ``path`` that the service refuses to list (and of a file that it
                refuses to look at), in its turn: a directory was yielded just before, what is in it is left out, and
                the scan goes on. What concerns more than that, such as a service that cannot be reached, ends the scan
                as ever; so does the first refusal where nobody hears of it.

        Raises (at the first step of the iteration at the latest):
            NotFound: nothing is there. The root of an object store is never missing, only empty.
            NotADirectory: a file is there.
        """

    @abstractmethod
    def open_read(self, path: str, *, start: int = 0, length: int | None = None, if_match: str | None = None) -> Reader:
        """Open a file for reading.

        Args:
            path: of a file.
            start: first byte; a negative value counts from the end (all of it where the file is shorter).
            length: bytes at most; None = to the end. A range that begins at or past the end gives no bytes.
            if_match: an ``etag`` that the file must still have.

        The stream ends with Unavailable if the connection breaks before the promised number of bytes has come.

        Raises:
            NotFound, IsADirectory: there is no such file.
            PreconditionFailed: it has another ``etag``.
        """

    @abstractmethod
    def write(
        self, path: str, content: Content, *, mode: WriteMode = "overwrite", if_match: str | None = None
    ) -> Entry:
        """Store a whole file, atomically: readers see the old file or the new, and after an error the old.

        Missing parent directories are made. ``content.mtime_ns`` is kept where the service can.

        Args:
            mode: ``create`` refuses with AlreadyExists where a file is there already.
            if_match: an ``etag`` that the file to be replaced must still have.

        Returns:
            the new entry, with size and ``etag`` where the service tells them without another request.

        Raises:
            AlreadyExists, PreconditionFailed: see above; nothing was changed.
            IsADirectory: a directory is at ``path``.
            NotADirectory: a parent of ``path`` is a file.
            InvalidName: the service cannot hold the name; nothing was sent.
            SourceChanged: the content was not as long as promised; nothing was changed.
            ChecksumMismatch: other bytes arrived than were sent, or than ``content.hashes`` tells; nothing was changed.
            QuotaExceeded: no room; nothing was changed.
        """

    @abstractmethod
    def remove(self, path: str) -> None:
        """Remove one file.

        Raises:
            NotFound: nothing is there.
            IsADirectory: a directory is there.
        """

    @abstractmethod
    def make_dir(self, path: str) -> None:
        """Make a directory and its missing parents; nothing happens where it exists.

        Raises:
            NotADirectory: ``path`` or a parent of it is a file.
        """

    @abstractmethod
    def remove_dir(self, path: str) -> None:
        """Remove one empty directory.

        Raises:
            NotFound: nothing is there.
            NotADirectory: a file is there.
            DirectoryNotEmpty: something is in it.
            Refused: it is the root.
        """

    # ---- what some services can do better, or at all; declared in the capabilities --------------------------------

    def read_many(self, requests: Iterable[ReadRequest | None]) -> Iterator[tuple[ReadRequest, Loaded | StorageError]]:
        """Read small files whole, many under way at once; yield each as it comes, in any order.

        Where requests can be under way at once without a thread for each, a provider overrides this: small files cost
        more in threads than on the way. Nothing happens until the iterator is advanced, and all of it in the thread
        that does: so the caller's pace holds, and memory is bounded by the requests under way. ``requests`` is read
        only as far ahead as there are free places; None in it says that the next one is not known yet: what is under
        way goes on, and then it is asked again. Giving the iterator up ends what is under way.

        Args:
            requests: files of at most `SMALL` bytes (more is right, but wholly in memory).

        Yields:
            each request with the file, as `open_read` gives it (``entry`` with size, modification time and ``etag``
            as there), or with the error that `open_read` or its stream would raise.
        """

        def read(request: ReadRequest) -> Loaded:
            with self.open_read(request.path, if_match=request.if_match) as reader:
                return Loaded(reader.entry, reader.read())

        return run_parallel(read, requests, self.settings.parallel)

    def write_many(
        self, requests: Iterable[WriteRequest | None]
    ) -> Iterator[tuple[WriteRequest, Entry | StorageError]]:
        """Store small files, many under way at once; the counterpart of `read_many`, with the same rules.

        Yields:
            each request with what `write` would return or raise. Files of one path must not be under way at once: the
            caller gives each path once.
        """

        def write(request: WriteRequest) -> Entry:
            return self.write(request.path, Content.of_bytes(request.data, request.mtime_ns), mode=request.mode)

        return run_parallel(write, requests, self.settings.parallel)

    def remove_many(self, files: Iterable[str]) -> Iterator[tuple[str, StorageError]]:
        """Remove files, in batches where the service has such a call; yield those that could not be, with the error.

        A file that is not there counts as removed.
        """
        for path in files:
            try:
                with suppress(NotFound):
                    self.remove(path)
            except StorageError as error:
                yield path, error

    def download(
        self,
        path: str,
        destination: Path,
        *,
        size: int | None = None,
        if_match: str | None = None,
        moved: Moved = nobody_counts,
    ) -> Entry:
        """Read a file into the existing or new local file ``destination`` (not atomic: give a temporary one).

        The modification time is not set. Providers whose library writes files natively override this.

        Args:
            path: of the file.
            destination: where its bytes go.
            size: of the version ``if_match``, where the caller knows it: saves some providers a request.
            if_match: an ``etag`` that the file must still have.
            moved: hears of the bytes as they come; those of an attempt that failed are told again.

        Raises:
            as `open_read`; QuotaExceeded where the local disk is full.
        """
        with self.open_read(path, if_match=if_match) as reader:
            write_pieces(destination, counted(reader, moved))
            return reader.entry

    def copy_within(self, source: str, destination: str, *, mode: WriteMode = "overwrite") -> Entry:
        """Copy a file on the service itself, with its modification time; atomic as `write`.

        Onto itself it does nothing. Raises as `open_read` and `write`.
        """
        raise Unsupported(self.location(source), "this service cannot copy on its own side")

    def move_within(self, source: str, destination: str, *, mode: WriteMode = "overwrite") -> None:
        """Rename a file (or, where the service can, a directory) on the service itself; parents are made.

        Onto itself it does nothing. Raises as `open_read` and `write`; Unsupported for a directory where only files can
        be renamed.
        """
        raise Unsupported(self.location(source), "this service cannot move on its own side")

    def set_mtime(self, path: str, mtime_ns: int) -> None:
        """Change a file's modification time, in ns since the epoch; raises as `stat`, and Unsupported."""
        raise Unsupported(self.location(path), "this service cannot change a modification time")

    def presign(self, path: str, *, expires: int, method: Literal["GET", "PUT"] = "GET") -> str:
        """Return a URL that gives anyone this one file for ``expires`` seconds; raises Unsupported."""
        raise Unsupported(self.location(path), "this service has no presigned URLs")

    def versions(self, path: str) -> list[Entry]:
        """Return the kept versions of a file, newest first, each with its ``version``; raises NotFound, Unsupported."""
        raise Unsupported(self.location(path), "this service keeps no versions")

    def recall(self, path: str, version: str, destination: str) -> Entry:
        """Copy a version from `versions`, by its id, to another path on the service itself; atomic as `write`.

        Raises:
            NotFound: there is no such version.
            Unsupported: this service keeps no versions.
        """
        raise Unsupported(self.location(path), "this service keeps no versions")

    def sweep(self) -> None:  # noqa: B027 - most services show nothing before it is whole
        """Remove temporary objects that scans came across and on which certainly nobody works any more."""

    def flush(self) -> None:  # noqa: B027 - most services answer only when the bytes are safe
        """Wait until everything written so far survives a power failure. Called before a source is deleted."""

    def usage(self) -> Usage:
        """Return how much room there is; raises Unsupported where the service does not tell."""
        raise Unsupported(self.name, "this service does not tell how much room there is")

    def probe(self) -> None:
        """Make one cheap request that needs the credentials.

        Raises:
            AuthenticationFailed, PermissionDenied, Unavailable, NotFound (a bucket), ConfigError.
        """
        next(iter(self.scan("")), None)

    def close(self) -> None:  # noqa: B027 - most have nothing to close
        """Release connections; the object is not used afterwards."""

    # ---- for providers ------------------------------------------------------------------------------------------

    def location(self, path: str) -> str:
        """Return ``path`` as the user would type it."""
        return str(paths.Location(self.name, path))

    def identity(self, path: str) -> str:
        """Return ``path`` so that it means the same place whoever says it, by whatever service on this computer.

        It asks nobody, and holds no secret. The same place may have several, where it has several addresses.
        """
        return self.location(path)

    @property
    def name_limits(self) -> Capabilities:
        """The facts that `check_path` goes by; a provider that asks its service for the others overrides this."""
        return self.capabilities

    def check_path(self, path: str) -> None:
        """Refuse what this service cannot hold.

        Raises:
            InvalidName: a name is too long or holds a character that is forbidden there, or the path is not normalised,
                so that it might lead out of the root.
        """
        if paths.normalize(path) != path:
            raise InvalidName(self.location(path), "the path is not normalised")
        facts = self.name_limits
        try:
            encoded = path.encode()
        except UnicodeEncodeError:
            raise InvalidName(self.location(path), "the name is not Unicode text") from None
        if facts.path_max_bytes is not None and len(encoded) > facts.path_max_bytes:
            raise InvalidName(self.location(path), f"the path is longer than {facts.path_max_bytes} bytes")
        name_max = facts.name_max_bytes
        if name_max is not None and len(encoded) > name_max and any(len(n) > name_max for n in encoded.split(b"/")):
            raise InvalidName(self.location(path), f"a name is longer than {name_max} bytes")
        if facts.forbidden and (bad := facts.forbidden.intersection(path)):
            raise InvalidName(self.location(path), f"the service cannot hold the character {min(bad)!r} in a name")
        if TEMPORARY_PREFIX in path and any(
            name.startswith(TEMPORARY_PREFIX) for name in path.removeprefix(MEASURING).removeprefix(STAGING).split("/")
        ):
            raise InvalidName(self.location(path), f"names that begin with {TEMPORARY_PREFIX} are kept for our own use")
