"""Files below one directory of this computer (or of anything mounted on it)."""

from __future__ import annotations

import ctypes
import errno
import io
import os
import shutil
import stat as modes
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path

from cloudmesh.storage import paths
from cloudmesh.storage.abc import (
    CHUNK,
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
    Usage,
    WriteMode,
    WriteRequest,
    nobody_counts,
)
from cloudmesh.storage.errors import (
    AlreadyExists,
    ConfigError,
    DirectoryNotEmpty,
    InvalidName,
    IsADirectory,
    NotADirectory,
    NotFound,
    PermissionDenied,
    PreconditionFailed,
    Refused,
    SourceChanged,
    StorageError,
    Unsupported,
)
from cloudmesh.storage.local_files import Links, temporary_beside, translate, translated
from cloudmesh.storage.paths import HIDDEN, TEMPORARY_PREFIX

_PATH_MAX = 4096
_NAME_MAX = 255
# A FIFO must not block us when it is opened by mistake; on a regular file this flag does nothing.
_READ = os.O_RDONLY | os.O_CLOEXEC | getattr(os, "O_NONBLOCK", 0)
# What is a link is left to the calls that know links.
_READ_NO_LINK = _READ | getattr(os, "O_NOFOLLOW", 0)
_NEW = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
_CANNOT = {errno.ENOSYS, errno.EINVAL, errno.ENOTSUP, errno.EOPNOTSUPP, errno.EPERM, errno.EMLINK}
_NO_NATIVE_COPY = {errno.EXDEV, errno.EINVAL, errno.ENOSYS, errno.EOPNOTSUPP, errno.ETXTBSY, errno.EBADF, errno.EPERM}
_LEFTOVER_SECONDS = 3600
_ATTEMPTS = 1000  # at a directory that others remove as often as we make it
_AT_FDCWD = -100
_RENAME_NOREPLACE = 1


class LocalStorage(StorageABC):
    """The local disk.

    The root is ``credentials.directory``; a relative ``default.directory`` lies below it, and stands alone where there
    are no credentials. It need not exist: it is made by the first write.

    No path leads out of the root. Symbolic links are followed where they end inside it; a link that leads out is left
    out of scans and refused with PermissionDenied. This guards against what lies on the disk, not against a process
    that swaps directories for links between our look and our access.

    Writing does not wait for the disk file by file (as cp and rsync do not); `flush` does, once for all.
    """

    kind = "local"
    immediate = True
    keys = {"directory": "the directory that is the root; ~ is your home directory"}  # noqa: RUF012 - ClassVar in the base

    def __init__(self, settings: ServiceSettings, links: Links = "inside") -> None:
        """Take the settings.

        Args:
            settings: of the service.
            links: which symbolic links below the root count; ``follow`` lets paths lead out of it, and links that
                ``skip`` leaves out of scans are still followed where they are named.

        Raises:
            ConfigError: no directory is given, or a relative one alone.
        """
        super().__init__(settings)
        self._links = links
        self._unfinished: set[str] = set()
        base = str(settings.credentials.get("directory") or "")
        below = settings.root
        if base and (os.path.isabs(below) or below.startswith("~")):
            below = ""  # the published template gives both, and means the first
        root = os.path.expanduser(os.path.join(base, below) if below else base)
        if not root:
            raise ConfigError(self.name, "no directory is given", f"cms storage config edit {self.name}")
        if not os.path.isabs(root):
            raise ConfigError(self.name, f"the directory {root} is not absolute", "begin it with / or ~")
        self._root = os.path.realpath(root)
        self.capabilities = Capabilities(
            mtime_precision_ns=1,
            scan_mtime=True,
            set_mtime=True,
            case_sensitive=sys.platform not in ("darwin", "win32"),
            conditional_create=True,
            server_copy=True,
            server_move=True,
            quota=True,
            name_max_bytes=_NAME_MAX,
            # room for a temporary file of the longest name of ours beside any file
            path_max_bytes=_PATH_MAX - len(os.fsencode(self._root)) - 64,
        )

    @property
    def directory(self) -> str:
        """The real path of the root; it need not exist."""
        return self._root

    def stat(self, path: str) -> Entry:
        if not path:
            return Entry("", is_directory=True)
        return _entry(path, self._status(path))

    def scan(self, path: str = "", *, recursive: bool = False, on_error: OnError | None = None) -> Iterator[Entry]:
        target = self._inside(path)
        try:
            status = os.stat(target)
        except (FileNotFoundError, NotADirectoryError):
            if not path:
                return
            raise NotFound(self.location(path)) from None
        except OSError as error:
            raise translate(error, self.location(path)) from error
        if not modes.S_ISDIR(status.st_mode):
            raise NotADirectory(self.location(path))

        def failed(entry: Entry, error: OSError) -> None:
            told = translate(error, self.location(entry.path))
            if on_error is None or entry.path == path:
                raise told from error
            on_error(entry, told)  # also a fault of the disk: asking again would not help

        # One level a directory on the way down: the iterator over what it holds, and its identity, so that a link back
        # to a directory that we are in cannot lead us in a circle.
        levels = [(self._level(path, target, failed), (status.st_dev, status.st_ino))]
        while levels:
            found = next(levels[-1][0], None)
            if found is None:
                levels.pop()
                continue
            entry, status, place = found
            yield entry
            if recursive and entry.is_directory:
                identity = (status.st_dev, status.st_ino)
                if all(identity != above for _, above in levels):
                    levels.append((self._level(entry.path, place, failed), identity))

    def open_read(self, path: str, *, start: int = 0, length: int | None = None, if_match: str | None = None) -> Reader:
        file = self._open(path, if_match)
        before = os.fstat(file.fileno())
        first = max(0, before.st_size + start) if start < 0 else start
        last = before.st_size if length is None else min(before.st_size, first + length)

        def pieces() -> Iterator[bytes]:
            position = first
            with translated(self.location(path)):
                while position < last and (piece := os.pread(file.fileno(), min(CHUNK, last - position), position)):
                    position += len(piece)
                    if position == last:  # before who sends the last piece somewhere publishes a mixture there
                        self._check_unchanged(path, before, file)
                    yield piece
                if position < last:
                    raise SourceChanged(self.location(path), "it became shorter while it was read")

        return Reader(_entry(path, before), pieces(), close=file.close)

    def download(
        self,
        path: str,
        destination: Path,
        *,
        size: int | None = None,
        if_match: str | None = None,
        moved: Moved = nobody_counts,
    ) -> Entry:
        with self._open(path, if_match) as source, translated(str(destination)):
            before = os.fstat(source.fileno())
            permissions = modes.S_IMODE(before.st_mode) & 0o777
            target = os.open(destination, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, permissions)
            try:
                _copy(source.fileno(), target, moved)
            finally:
                os.close(target)
            self._check_unchanged(path, before, source)
            return _entry(path, before)

    def write(
        self, path: str, content: Content, *, mode: WriteMode = "overwrite", if_match: str | None = None
    ) -> Entry:
        self.check_path(path)
        subject = self.location(path)
        target = self._inside(path)
        old = self._replaceable(path, target, mode, if_match)
        with _source(content) as source, self._temporary(path, target, _permissions(source)) as (temporary, file):
            size = _pour(content, file, subject) if source is None else 0
            with translated(subject):
                if source is not None:
                    size = _copy(source, file, content.moved)
                if content.size is not None and size != content.size:
                    raise SourceChanged(subject, f"{content.size} bytes were promised, {size} came")
                if old is not None:  # as with cp, a file that is replaced keeps its permissions
                    os.fchmod(file, modes.S_IMODE(old.st_mode))
                if content.mtime_ns is not None:
                    os.utime(file, ns=(content.mtime_ns, content.mtime_ns))
            if source is not None and content.check is not None:
                content.check()
            with translated(subject):
                if if_match is not None:
                    self._replaceable(path, target, mode, if_match)
                self._publish(temporary, target, mode)
                return _entry(path, os.fstat(file))

    def read_many(self, requests: Iterable[ReadRequest | None]) -> Iterator[tuple[ReadRequest, Loaded | StorageError]]:
        """See `StorageABC.read_many`. One after the other: nobody is waited for, and threads would only cost."""
        checked = _Directory(self._inside)
        for request in requests:
            if request is None:
                checked.forget()
                continue
            try:
                yield request, self._load(request, checked)
            except StorageError as error:
                yield request, error

    def write_many(
        self, requests: Iterable[WriteRequest | None]
    ) -> Iterator[tuple[WriteRequest, Entry | StorageError]]:
        """See `StorageABC.write_many`. One after the other, as `read_many`."""
        checked = _Directory(self._inside)
        name = temporary_beside(Path(self._root)).name  # one for all: it is free again before the next file begins
        for request in requests:
            if request is None:
                checked.forget()
                continue
            try:
                yield request, self._store(request, checked, name)
            except StorageError as error:
                yield request, error

    def _load(self, request: ReadRequest, checked: _Directory) -> Loaded:
        """Read one file whole; what is not plainly a file in a directory is left to `open_read`."""
        path = request.path
        file = None
        if paths.normalize(path) == path and hasattr(os, "O_NOFOLLOW"):
            with suppress(OSError):
                file = os.open(f"{checked.place(paths.parent(path))}/{paths.basename(path)}", _READ_NO_LINK)
        if file is not None:
            try:
                before = os.fstat(file)
                if modes.S_ISREG(before.st_mode) and before.st_size <= CHUNK:
                    entry = _entry(path, before)
                    if request.if_match is not None and entry.etag != request.if_match:
                        raise PreconditionFailed(self.location(path))
                    data = os.read(file, before.st_size + 1)
                    if len(data) != before.st_size or _version(os.fstat(file)) != _version(before):
                        raise SourceChanged(self.location(path))
                    return Loaded(entry, data, modes.S_IMODE(before.st_mode) & 0o777)
            except OSError as error:
                raise translate(error, self.location(path)) from error
            finally:
                os.close(file)
        with self.open_read(path, if_match=request.if_match) as reader:
            return Loaded(reader.entry, reader.read())

    def _store(self, request: WriteRequest, checked: _Directory, name: str) -> Entry:
        """Write one new file; where something is there already, or in the way, it is left to `write`."""
        path = request.path
        self.check_path(path)
        directory = checked.place(paths.parent(path))
        target = f"{directory}/{paths.basename(path)}"
        if os.path.lexists(target):
            return self.write(path, Content.of_bytes(request.data, request.mtime_ns), mode=request.mode)
        temporary = f"{directory}/{name}"
        try:
            file = self._open_new(path, temporary, 0o666 if request.permissions is None else request.permissions)
            try:
                view = memoryview(request.data)
                while view:
                    view = view[os.write(file, view) :]
                if request.mtime_ns is not None:
                    os.utime(file, ns=(request.mtime_ns, request.mtime_ns))
                self._publish(temporary, target, request.mode)
                return _entry(path, os.fstat(file))
            except BaseException:
                with suppress(OSError):
                    os.unlink(temporary)
                raise
            finally:
                os.close(file)
        except OSError as error:
            raise translate(error, self.location(path)) from error

    def remove(self, path: str) -> None:
        if not path or modes.S_ISDIR(self._status(path).st_mode):
            raise IsADirectory(self.location(path))
        with translated(self.location(path)):
            os.unlink(self._inside(path, follow=False))

    def make_dir(self, path: str) -> None:
        self.check_path(path)
        self._make_dirs(path, self._inside(path))

    def remove_dir(self, path: str) -> None:
        subject = self.location(path)
        if not path:
            raise Refused(subject, "the root is not removed")
        if not modes.S_ISDIR(self._status(path).st_mode):
            raise NotADirectory(subject)
        target = self._inside(path, follow=False)
        with translated(subject):
            if os.path.islink(target):
                if os.listdir(target):
                    raise DirectoryNotEmpty(subject)
                os.unlink(target)
                return
            try:
                os.rmdir(target)
            except OSError as error:
                if error.errno not in (errno.ENOTEMPTY, errno.EEXIST) or not _remove_leftovers(target):
                    raise
                os.rmdir(target)

    def copy_within(self, source: str, destination: str, *, mode: WriteMode = "overwrite") -> Entry:
        self.check_path(destination)
        status = self._status(source)
        if modes.S_ISDIR(status.st_mode):
            raise IsADirectory(self.location(source))
        place = self._inside(source)
        if place == self._inside(destination):
            return _entry(destination, status)
        with translated(self.location(source)):
            content = Content.of_file(Path(place))
        return self.write(destination, content, mode=mode)

    def move_within(self, source: str, destination: str, *, mode: WriteMode = "overwrite") -> None:
        self.check_path(destination)
        if not source:
            raise Refused(self.location(source), "the root is not moved")
        is_directory = modes.S_ISDIR(self._status(source).st_mode)
        old = self._inside(source, follow=False)
        new = self._inside(destination)
        if new in (old, self._inside(source)):
            return
        if is_directory and new.startswith(old + "/"):
            raise Refused(self.location(source), "a directory cannot be moved into itself")
        self._replaceable(destination, new, mode, None)
        rename: Callable[[str, str], None] = _rename_new if mode == "create" else os.replace
        with translated(self.location(destination)):
            try:
                try:
                    rename(old, new)
                except FileNotFoundError:
                    self._make_dirs(paths.parent(destination), os.path.dirname(new))
                    rename(old, new)
            except OSError as error:
                if error.errno != errno.EXDEV:
                    raise
                if is_directory:
                    raise Unsupported(self.location(source), "it cannot be renamed onto another disk") from error
                self.copy_within(source, destination, mode=mode)
                os.unlink(old)

    def set_mtime(self, path: str, mtime_ns: int) -> None:
        status = self._status(path)
        if modes.S_ISDIR(status.st_mode):
            raise IsADirectory(self.location(path))
        with translated(self.location(path)):
            os.utime(self._inside(path), ns=(status.st_atime_ns, mtime_ns))

    def flush(self) -> None:
        """Wait until the root's whole file system is on the disk."""
        with translated(self.name):
            try:
                root = os.open(self._root, os.O_RDONLY | os.O_CLOEXEC)
            except FileNotFoundError:
                return
            try:
                syncfs = _libc("syncfs")
                if syncfs is None:
                    os.sync()
                elif syncfs(root):
                    code = ctypes.get_errno()
                    raise OSError(code, os.strerror(code))
            finally:
                os.close(root)

    def usage(self) -> Usage:
        place = self._root
        while not os.path.exists(place):
            place = os.path.dirname(place)
        with translated(self.name):
            room = shutil.disk_usage(place)
        return Usage(total=room.total, used=room.used, free=room.free)

    def probe(self) -> None:
        with translated(self.name):
            if os.path.exists(self._root):
                os.scandir(self._root).close()

    def identity(self, path: str) -> str:
        """Return the real path."""
        return os.path.realpath(f"{self._root}/{path}")

    def _inside(self, path: str, *, follow: bool = True) -> str:
        """Return the real place of ``path``, its last part not followed as a link unless ``follow``.

        Raises:
            PermissionDenied: a link on the way leads out of the root.
        """
        if paths.normalize(path) != path:
            raise InvalidName(self.location(path), "the path is not normalised")
        place = self._root
        names = path.split("/") if path else []
        for name in names if follow else names[:-1]:
            place = f"{place}/{name}"
            try:
                if modes.S_ISLNK(os.lstat(place).st_mode):
                    break
            except OSError:  # what is not there is no link; who uses the path learns the reason
                return f"{self._root}/{path}"
        else:
            return f"{self._root}/{path}" if path else self._root
        whole = f"{self._root}/{path}"
        real = os.path.realpath(whole) if follow else f"{os.path.realpath(os.path.dirname(whole))}/{names[-1]}"
        if not self._holds(real):
            raise PermissionDenied(self.location(path), "a link leads out of the root directory")
        return real

    def _holds(self, real: str) -> bool:
        return self._links == "follow" or real == self._root or real.startswith(self._root.rstrip("/") + "/")

    def _status(self, path: str) -> os.stat_result:
        """Return the status of the file or directory that is at ``path``."""
        try:
            status = os.stat(self._inside(path))
        except (FileNotFoundError, NotADirectoryError):
            raise NotFound(self.location(path)) from None
        except OSError as error:
            raise translate(error, self.location(path)) from error
        if not _is_ours(status):
            raise NotFound(self.location(path), "it is neither a file nor a directory")
        return status

    def _open(self, path: str, if_match: str | None) -> io.FileIO:
        """Open a regular file, and check that it is the version asked for."""
        try:
            file = io.FileIO(os.open(self._inside(path), _READ))
        except (FileNotFoundError, NotADirectoryError):
            raise NotFound(self.location(path)) from None
        except OSError as error:
            raise translate(error, self.location(path)) from error
        try:
            status = os.fstat(file.fileno())
            if modes.S_ISDIR(status.st_mode):
                raise IsADirectory(self.location(path))
            if not _is_ours(status):
                raise NotFound(self.location(path), "it is neither a file nor a directory")
            if if_match is not None and _etag(status) != if_match:
                raise PreconditionFailed(self.location(path))
        except StorageError:
            file.close()
            raise
        return file

    def _check_unchanged(self, path: str, before: os.stat_result, file: io.FileIO) -> None:
        """Refuse a file that was written in place while we read it."""
        if _version(os.fstat(file.fileno())) != _version(before):
            raise SourceChanged(self.location(path))

    def _replaceable(self, path: str, target: str, mode: WriteMode, if_match: str | None) -> os.stat_result | None:
        """Return the status of the file that a write to ``path`` would replace; None where nothing is there."""
        subject = self.location(path)
        try:
            status = os.lstat(target)
        except (FileNotFoundError, NotADirectoryError):
            if if_match is not None:
                raise PreconditionFailed(subject, "the file is not there any longer") from None
            return None
        except OSError as error:
            raise translate(error, subject) from error
        if modes.S_ISDIR(status.st_mode):
            raise IsADirectory(subject)
        if mode == "create":
            raise AlreadyExists(subject)
        if not _is_ours(status):
            raise AlreadyExists(subject, "something that is neither a file nor a directory is in the way")
        if if_match is not None and _etag(status) != if_match:
            raise PreconditionFailed(subject)
        return status

    @contextmanager
    def _temporary(self, path: str, target: str, permissions: int) -> Iterator[tuple[str, int]]:
        """Give the path and descriptor of a new file beside ``target``; what is still there afterwards is removed."""
        temporary = str(temporary_beside(Path(target)))
        with translated(self.location(path)):
            file = self._open_new(path, temporary, permissions)
        self._unfinished.add(temporary)
        try:
            yield temporary, file
        finally:
            self._unfinished.discard(temporary)
            os.close(file)
            with suppress(OSError):  # after a rename it is not there; a second failure must not hide the first
                os.unlink(temporary)

    def drop_unfinished(self) -> None:
        """Remove the temporary files of large writes that still go on and will not be waited for; they then fail."""
        for temporary in list(self._unfinished):
            with suppress(OSError):
                os.unlink(temporary)

    def _open_new(self, path: str, temporary: str, permissions: int) -> int:
        """Return the descriptor of the new file ``temporary``, whose missing directories, those of ``path``, are made.

        Raises:
            OSError: it cannot be made.
        """
        for _ in range(_ATTEMPTS):
            with suppress(FileNotFoundError):
                return os.open(temporary, _NEW, permissions)
            self._make_dirs(paths.parent(path), os.path.dirname(temporary))
        return os.open(temporary, _NEW, permissions)

    @staticmethod
    def _publish(temporary: str, target: str, mode: WriteMode) -> None:
        """Let a finished temporary file take its place."""
        if mode == "create":
            _rename_new(temporary, target)
        else:
            os.replace(temporary, target)

    def _make_dirs(self, path: str, target: str) -> None:
        try:
            os.makedirs(target, exist_ok=True)
        except (FileExistsError, NotADirectoryError):
            raise NotADirectory(self.location(path)) from None
        except OSError as error:
            raise translate(error, self.location(path)) from error

    def _level(
        self, path: str, target: str, failed: Callable[[Entry, OSError], None]
    ) -> Iterator[tuple[Entry, os.stat_result, str]]:
        """Yield the entries of one directory in order, each with its status and real place."""
        found: list[tuple[bytes, os.DirEntry[str], str]] = []
        try:
            with os.scandir(target) as listing:
                for item in listing:
                    if item.name.startswith(HIDDEN):
                        continue
                    place = item.path
                    if item.is_symlink():
                        if self._links == "skip":
                            continue
                        place = os.path.realpath(place)
                        if not self._holds(place) or not os.path.exists(place):
                            where = "nowhere" if self._links == "follow" else "outside or nowhere"
                            self._leave_out(paths.join(path, item.name), f"a link that leads {where}")
                            continue
                    found.append((paths.sort_key(item.name, item.is_dir()), item, place))
        except FileNotFoundError:  # removed since its parent was listed
            return
        except OSError as error:
            failed(Entry(path, is_directory=True), error)
            return
        found.sort(key=lambda each: each[0])
        for _, item, place in found:
            try:
                status = item.stat()
            except FileNotFoundError:  # removed since, or a link to nothing
                continue
            except OSError as error:
                failed(Entry(paths.join(path, item.name), item.is_dir()), error)
                continue
            if _is_ours(status):
                yield _entry(paths.join(path, item.name), status), status, place
            else:
                self._leave_out(paths.join(path, item.name), "neither a file nor a directory")

    def _leave_out(self, path: str, why: str) -> None:
        """Hear of something that a scan leaves out."""


class _Directory:
    """The directory that a batch is in, looked at once for all files of it that follow each other.

    That saves a look at every part of every path. It is as safe as the look itself, which does not guard against a
    process that swaps directories for links either; it ends with the directory and with each pause.
    """

    def __init__(self, look: Callable[[str], str]) -> None:
        self._look = look
        self._path: str | None = None
        self._place = ""

    def place(self, path: str) -> str:
        """Return the real place of the directory ``path``; raises as `LocalStorage._inside`."""
        if path != self._path:
            self._place = self._look(path)
            self._path = path
        return self._place

    def forget(self) -> None:
        """Look again the next time."""
        self._path = None


def _is_ours(status: os.stat_result) -> bool:
    """Tell whether it is a file or a directory, and no device, pipe or socket."""
    return modes.S_ISREG(status.st_mode) or modes.S_ISDIR(status.st_mode)


def _version(status: os.stat_result) -> tuple[int, int, int]:
    """Return what changes with a file's content."""
    return status.st_ino, status.st_mtime_ns, status.st_size


def _etag(status: os.stat_result) -> str:
    return "{:x}-{:x}-{:x}".format(*_version(status))


def _entry(path: str, status: os.stat_result) -> Entry:
    if modes.S_ISDIR(status.st_mode):
        return Entry(path, is_directory=True)
    return Entry(
        path,
        size=status.st_size,
        mtime_ns=status.st_mtime_ns,
        changed_ns=status.st_ctime_ns,
        etag=_etag(status),
    )


@contextmanager
def _source(content: Content) -> Iterator[int | None]:
    """Give a descriptor of the regular file that holds the content; None where it must be streamed."""
    if content.path is None:
        yield None
        return
    with translated(str(content.path)):
        file = os.open(content.path, _READ)
    try:
        yield file if modes.S_ISREG(os.fstat(file).st_mode) else None
    finally:
        os.close(file)


def _permissions(source: int | None) -> int:
    """Return the permissions of a new file before the umask: as with cp, those of the file that it is a copy of."""
    return 0o666 if source is None else modes.S_IMODE(os.fstat(source).st_mode) & 0o777


def _pour(content: Content, file: int, subject: str) -> int:
    """Write the content's pieces into ``file`` and return the number of bytes; what its source raises passes."""
    size = 0
    for piece in content.open():
        with translated(subject):
            view = memoryview(piece)
            while view:
                view = view[os.write(file, view) :]
        size += len(piece)
    return size


def _copy(source: int, destination: int, moved: Moved) -> int:
    """Copy an open file to its end and return the number of bytes: inside the kernel, sharing blocks where it can."""
    size = 0
    if hasattr(os, "copy_file_range"):
        try:
            while count := os.copy_file_range(source, destination, CHUNK):
                size += count
                moved(count)
        except OSError as error:
            if size or error.errno not in _NO_NATIVE_COPY:
                raise
        if size:
            return size
    # no such call, other file systems, or a file whose size the kernel does not know (such as those of /proc)
    with open(destination, "wb", buffering=0, closefd=False) as writer:
        while piece := os.read(source, CHUNK):
            moved(len(piece))
            size += len(piece)
            view = memoryview(piece)
            while view:
                view = view[writer.write(view) :]
    return size


@cache
def _libc(name: str) -> Callable[..., int] | None:
    """Return a function of the C library that Python's os does not offer; None where there is no such function."""
    return getattr(ctypes.CDLL(None, use_errno=True), name, None) if sys.platform == "linux" else None


def _rename_new(old: str, new: str) -> None:
    """Rename, but never over what is there, decided by the file system itself.

    Raises:
        OSError: EEXIST where something is there; ENOTSUP where the file system cannot do this.
    """
    renameat2 = _libc("renameat2")
    if renameat2 is not None:
        if not renameat2(_AT_FDCWD, os.fsencode(old), _AT_FDCWD, os.fsencode(new), _RENAME_NOREPLACE):
            return
        code = ctypes.get_errno()
        if code not in _CANNOT:
            raise OSError(code, os.strerror(code), new)
    try:
        os.link(old, new, follow_symlinks=False)
    except OSError as error:
        if error.errno in _CANNOT:
            raise OSError(errno.ENOTSUP, os.strerror(errno.ENOTSUP), new) from error
        raise
    os.unlink(old)


def _remove_leftovers(directory: str) -> bool:
    """Remove temporary files that a killed process left long ago, if a directory holds nothing else."""
    names = os.listdir(directory)
    old = time.time() - _LEFTOVER_SECONDS
    places = [os.path.join(directory, name) for name in names if name.startswith(TEMPORARY_PREFIX)]
    if len(places) < len(names) or any(os.lstat(place).st_ctime > old for place in places):
        return False
    for place in places:
        os.unlink(place)
    return True
