"""Writing local files safely, for downloads, the local provider, and our own state files."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Literal

from cloudmesh.storage.errors import (
    AlreadyExists,
    DirectoryNotEmpty,
    InvalidName,
    IsADirectory,
    NotADirectory,
    NotFound,
    PermissionDenied,
    QuotaExceeded,
    StorageError,
    Unavailable,
    Unsupported,
)
from cloudmesh.storage.presence import temporary_name

Links = Literal["inside", "follow", "skip"]
"""Which symbolic links are taken for what they lead to: those that stay in the tree, all, or none."""

_BY_ERRNO: dict[int, type[StorageError]] = {
    errno.ENOENT: NotFound,
    errno.ELOOP: NotFound,
    errno.EEXIST: AlreadyExists,
    errno.EISDIR: IsADirectory,
    errno.ENOTDIR: NotADirectory,
    errno.ENOTEMPTY: DirectoryNotEmpty,
    errno.EACCES: PermissionDenied,
    errno.EPERM: PermissionDenied,
    errno.EROFS: PermissionDenied,
    errno.ENOSPC: QuotaExceeded,
    errno.EDQUOT: QuotaExceeded,
    errno.EFBIG: QuotaExceeded,
    errno.ENAMETOOLONG: InvalidName,
    errno.EILSEQ: InvalidName,
    errno.ENOTSUP: Unsupported,
    errno.ENOSYS: Unsupported,
}


def translate(error: OSError, subject: str) -> StorageError:
    """Return the error of our closed set that an operating system error means; disk faults become Unavailable."""
    kind = _BY_ERRNO.get(error.errno or 0, Unavailable)
    return kind(subject, error.strerror.lower() if kind is Unavailable and error.strerror else "")


@contextmanager
def translated(subject: str) -> Iterator[None]:
    """Turn every OSError inside into an error of our closed set about ``subject``."""
    try:
        yield
    except OSError as error:
        raise translate(error, subject) from error


def file_here(typed: str) -> Path:
    """Return the file of this computer that was typed; ``~`` is the home directory.

    Raises:
        InvalidName: it names no file.
    """
    path = Path(typed).expanduser()
    if not path.name or "\0" in typed:
        raise InvalidName(typed, "this names no file")
    return path


def write_pieces(destination: Path, pieces: Iterable[bytes]) -> int:
    """Write ``pieces`` into ``destination`` and return the number of bytes.

    Raises:
        StorageError: the local file cannot be written (QuotaExceeded: the disk is full), or what ``pieces`` raises.
    """
    size = 0
    with translated(str(destination)), destination.open("wb", buffering=0) as file:
        for piece in pieces:
            view = memoryview(piece)
            while view:
                view = view[file.write(view) :]
            size += len(piece)
    return size


def temporary_beside(path: Path) -> Path:
    """Return a new name in the same directory, recognisable as ours, never longer than a name may be."""
    return path.with_name(temporary_name())


@contextmanager
def replacing(path: Path, *, mode: int | None = None) -> Iterator[Path]:
    """Give a temporary path beside ``path``; when the block ends well it takes its place, else it vanishes.

    Args:
        path: the file to replace.
        mode: permission bits of the new file; None leaves the process's default.
    """
    temporary = temporary_beside(path)
    try:
        if mode is not None:
            os.close(os.open(temporary, os.O_CREAT | os.O_EXCL | os.O_WRONLY, mode))
        yield temporary
        with temporary.open("rb") as file:
            os.fsync(file.fileno())
        temporary.replace(path)
    finally:
        with suppress(FileNotFoundError):
            temporary.unlink()
