"""The caller's own files, the ones without a service's name: SOURCE of a put, DESTINATION of a get."""

from __future__ import annotations

import hashlib
import logging
import os
from collections.abc import Mapping
from pathlib import Path

from cloudmesh.storage import paths
from cloudmesh.storage.abc import Entry, Moved, ServiceSettings, StorageABC, WriteMode, nobody_counts
from cloudmesh.storage.digest import strongest
from cloudmesh.storage.errors import ChecksumMismatch, StorageError
from cloudmesh.storage.local_files import Links, translated
from cloudmesh.storage.providers.local import LocalStorage

_log = logging.getLogger(__name__)


class Disk(LocalStorage):
    """A directory of this computer, named in errors and listings as the user typed it.

    Args:
        directory: the root, as typed; ``~`` is the home directory, an empty text the current one.
        links: which symbolic links below it are followed.
    """

    def __init__(self, directory: str, links: Links = "inside") -> None:
        self._typed = directory
        real = os.path.abspath(os.path.expanduser(directory))
        super().__init__(ServiceSettings(name="", kind=self.kind, root=real), links)

    def location(self, path: str) -> str:
        """Return ``path`` as the user would type it: below the directory as it was typed."""
        return os.path.join(self._typed, path) if path else self._typed or "."

    def path_of(self, path: str) -> Path:
        """Return the real place of ``path``."""
        return Path(self._inside(path))

    def _leave_out(self, path: str, why: str) -> None:
        """Say what is not taken along: on a service this is known, of the user's own files it is not."""
        _log.warning("%s: left out, as it is %s", self.location(path), why)

    def fetch(
        self,
        source: StorageABC,
        entry: Entry,
        target: str,
        *,
        mode: WriteMode = "overwrite",
        expected_sha256: str | None = None,
        moved: Moved = nobody_counts,
    ) -> Entry:
        """Download a file of another service, atomically as `write`, by the service's native way where it has one.

        Args:
            source: the service.
            entry: the file there.
            target: path here.
            mode: as `write`.
            expected_sha256: what the bytes must be; lower-case hex.
            moved: hears of the bytes as they come.

        Raises:
            StorageError: as `StorageABC.download` and `write`; ChecksumMismatch if the bytes are others. Then what was
                at ``target`` before is still there.
        """
        self.check_path(target)
        place = self._inside(target)
        self._replaceable(target, place, mode, None)
        with self._temporary(target, place, 0o666) as (temporary, file):
            try:
                got = source.download(entry.path, Path(temporary), size=entry.size, if_match=entry.etag, moved=moved)
            except StorageError as error:
                if error.subject == str(temporary):  # of the local file: by the name that it would have had
                    error.subject = self.location(target)
                raise
            with translated(self.location(target)):
                _check(temporary, {"sha256": expected_sha256} if expected_sha256 else got.hashes, source, entry)
                mtime_ns = entry.mtime_ns if entry.mtime_ns is not None else got.mtime_ns
                if mtime_ns is not None:
                    os.utime(file, ns=(mtime_ns, mtime_ns))
                self._publish(temporary, place, mode)
        return self.stat(target)


def _check(file: str, expected: Mapping[str, str], source: StorageABC, entry: Entry) -> None:
    """Compare a file with one hash that it must have, if we can compute any.

    Raises:
        ChecksumMismatch: it has another.
    """
    algorithm = strongest(expected)
    if algorithm is None:
        return
    with open(file, "rb") as opened:
        if hashlib.file_digest(opened, algorithm).hexdigest() != expected[algorithm]:
            raise ChecksumMismatch(source.location(entry.path), "its bytes are not those that they should be")


def split_file(typed: str) -> tuple[Disk, str]:
    """Return the directory that holds a local file or directory, and its name in it.

    For a path that has no name of its own (``/``, ``..``), the name is empty.
    """
    directory, name = os.path.split(typed.rstrip("/") or typed)
    if name in ("", ".", "..", "~"):
        return Disk(typed or "."), ""
    return Disk(directory), paths.normalize(name)
