"""Listing directories: one at a time, sorted, links followed inside the root only."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from contextlib import suppress

from cloudmesh.storage import paths
from cloudmesh.storage.abc import Entry
from cloudmesh.storage.errors import NotADirectory, NotFound, PermissionDenied
from cloudmesh.storage.paths import TEMPORARY_PREFIX
from cloudmesh.storage.providers.sftp import protocol
from cloudmesh.storage.providers.sftp.entries import to_entry
from cloudmesh.storage.providers.sftp.pool import Pool
from cloudmesh.storage.providers.sftp.protocol import Attributes, Sftp, Status
from cloudmesh.storage.providers.sftp.root import Root, holds
from cloudmesh.storage.providers.sftp.sessions import Session, lend

_AHEAD = 8
"""Requests for names under way at once."""


def scan(
    pool: Pool[Session], root: Root, path: str, *, recursive: bool, above: frozenset[bytes] = frozenset()
) -> Iterator[Entry]:
    """Yield as `StorageABC.scan`; no session is held between two entries.

    Args:
        above: real paths of the directories that the scan came through.
    """
    try:
        entries, above = _list(pool, root, path, above)
    except NotFound:
        if path and not above:
            raise
        return  # the root that is not made yet, or a directory that went while we came to it
    for entry in entries:
        yield entry
        if recursive and entry.is_directory:
            with suppress(NotADirectory):
                yield from scan(pool, root, entry.path, recursive=True, above=above)


def _list(pool: Pool[Session], root: Root, path: str, above: frozenset[bytes]) -> tuple[list[Entry], frozenset[bytes]]:
    """Return the sorted entries of one directory, and the real paths of it and the directories above it."""
    with lend(pool, root.location(path)) as sftp:
        remote = root.remote(path)
        real = sftp.path(sftp.realpath(remote))
        if path:
            root.refuse_outside(sftp, path, real)
        try:
            handle = sftp.handle(sftp.opendir(remote))
        except Status as error:
            if error.code in (protocol.FAILURE, protocol.NO_SUCH_FILE):
                attributes = sftp.attributes(sftp.stat(remote))
                if not attributes.is_directory:
                    raise NotADirectory(root.location(path)) from error
            raise
        entries = []
        for name, attributes in _read(sftp, handle):
            child = paths.join(path, name.decode("utf-8", "surrogateescape"))
            if attributes.permissions is None or attributes.is_link:
                with suppress(Status, PermissionDenied, NotFound):
                    target, attributes = root.follow(sftp, child)
                    if attributes.is_directory and (target == real or target in above or holds(target, real)):
                        continue  # a link to a directory that holds it would never end
            if attributes.is_directory or (attributes.is_file and not attributes.is_link):
                entries.append(to_entry(child, attributes))
    entries.sort(key=lambda entry: entry.sort_key)
    return entries, above | {real}


def _read(sftp: Sftp, handle: bytes) -> list[tuple[bytes, Attributes]]:
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
            while len(pending) < _AHEAD:
                pending.append(sftp.readdir(handle))
    finally:
        for number in pending:
            sftp.forget(number)
        sftp.forget(sftp.close(handle))
    return result
