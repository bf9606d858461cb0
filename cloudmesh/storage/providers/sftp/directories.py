"""Making and removing directories."""

from __future__ import annotations

import posixpath

from cloudmesh.storage.errors import DirectoryNotEmpty, NotADirectory
from cloudmesh.storage.providers.sftp import protocol
from cloudmesh.storage.providers.sftp.protocol import Sftp, Status
from cloudmesh.storage.providers.sftp.root import Root


def make_dirs(sftp: Sftp, root: Root, path: str, remote: bytes) -> None:
    """Make the directory ``remote``, which ``path`` needs, and its missing parents, also those of the root.

    Raises:
        NotADirectory: one of them is a file.
    """
    missing = []
    at = remote or b"."
    while True:
        try:
            sftp.done(sftp.mkdir(at))
            break
        except Status as error:
            above = posixpath.dirname(at) or b"."
            if error.code == protocol.NO_SUCH_FILE and above != at:
                missing.append(at)
                at = above
                continue
            there = sftp.attributes_or_none(sftp.stat(at))
            if there is None:
                raise
            if not there.is_directory:
                raise _not_a_directory(root, path, at) from error
            break
    for at in reversed(missing):
        try:
            sftp.done(sftp.mkdir(at))
        except Status as error:
            there = sftp.attributes_or_none(sftp.stat(at))
            if there is None:
                # A parent that is there, yet nothing can be in it, is a file.
                above_it = sftp.attributes_or_none(sftp.stat(posixpath.dirname(at) or b"."))
                if above_it is not None and not above_it.is_directory:
                    raise _not_a_directory(root, path, posixpath.dirname(at)) from error
                raise
            if not there.is_directory:
                raise _not_a_directory(root, path, at) from error


def remove_dir(sftp: Sftp, root: Root, path: str) -> None:
    """Remove an empty directory.

    Raises:
        NotADirectory: a file is there.
        DirectoryNotEmpty: something is in it.
    """
    root.guard(sftp, path)
    try:
        sftp.done(sftp.rmdir(root.remote(path)))
    except Status as error:
        if not sftp.attributes(sftp.lstat(root.remote(path))).is_directory:
            raise NotADirectory(root.location(path)) from error
        if error.code == protocol.FAILURE:
            raise DirectoryNotEmpty(root.location(path)) from error
        raise


def _not_a_directory(root: Root, path: str, remote: bytes) -> NotADirectory:
    if remote == root.remote(path):
        return NotADirectory(root.location(path))
    return NotADirectory(root.location(path), f"{posixpath.basename(remote).decode('utf-8', 'replace')} is a file")
