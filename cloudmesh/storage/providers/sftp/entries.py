"""What SFTP tells about a file, and the contract's words for it."""

from __future__ import annotations

from cloudmesh.storage.abc import Entry
from cloudmesh.storage.providers.sftp.protocol import Attributes

SECOND = 1_000_000_000
"""Nanoseconds."""
_LAST_SECOND = 0xFFFFFFFF


def to_entry(path: str, attributes: Attributes) -> Entry:
    """Return the entry of ``path``; its ``etag`` is made of modification time and size, for SFTP tells no more."""
    mtime_ns = None if attributes.mtime is None else attributes.mtime * SECOND
    if attributes.is_directory:
        return Entry(path, is_directory=True, mtime_ns=mtime_ns)
    return Entry(path, size=attributes.size, mtime_ns=mtime_ns, etag=f"{attributes.mtime}-{attributes.size}")


def to_seconds(mtime_ns: int) -> int:
    """Return the time that SFTP can keep: at or before ``mtime_ns``, from 1970 to 2106."""
    return min(max(mtime_ns // SECOND, 0), _LAST_SECOND)
