"""Giving a file its name: over another, or only where none is there."""

from __future__ import annotations

import posixpath

from cloudmesh.storage import paths
from cloudmesh.storage.abc import WriteMode
from cloudmesh.storage.errors import AlreadyExists, IsADirectory, NotADirectory, PreconditionFailed, Refused
from cloudmesh.storage.presence import temporary_name
from cloudmesh.storage.providers.sftp import protocol
from cloudmesh.storage.providers.sftp.directories import make_dirs
from cloudmesh.storage.providers.sftp.entries import to_entry
from cloudmesh.storage.providers.sftp.faults import about
from cloudmesh.storage.providers.sftp.protocol import Attributes, Sftp, Status
from cloudmesh.storage.providers.sftp.root import Root


def temporary_beside(remote: bytes) -> bytes:
    """Return a new temporary name in the directory of ``remote``."""
    return posixpath.join(posixpath.dirname(remote), temporary_name().encode())


def check_target(root: Root, path: str, old: Attributes | None, mode: WriteMode, if_match: str | None = None) -> None:
    """Refuse early what `rename` would refuse, or could not refuse; ``old`` is what is at ``path``."""
    if old is not None and old.is_directory:
        raise IsADirectory(root.location(path))
    if old is not None and mode == "create":
        raise AlreadyExists(root.location(path))
    if if_match is not None and (old is None or to_entry(path, old).etag != if_match):
        raise PreconditionFailed(root.location(path))


def rename(sftp: Sftp, root: Root, source: bytes, path: str, mode: WriteMode) -> None:
    """Give ``source`` the name ``path``, replacing what is there unless ``mode`` is create."""
    target = root.remote(path)
    try:
        if mode == "create":
            sftp.done(sftp.rename(source, target))
        elif b"posix-rename@openssh.com" in sftp.extensions:
            sftp.done(sftp.posix_rename(source, target))
        else:
            _replace(sftp, source, target)
    except Status as error:
        if error.code in (protocol.FAILURE, protocol.NO_SUCH_FILE):
            there = sftp.attributes_or_none(sftp.lstat(target))
            if there is not None and there.is_directory:
                raise IsADirectory(root.location(path)) from error
            if there is not None and mode == "create":
                raise AlreadyExists(root.location(path)) from error
        raise


def move(sftp: Sftp, root: Root, source: str, destination: str, mode: WriteMode) -> None:
    """Rename a file or a directory, which is never replaced; as `StorageABC.move_within`."""
    root.guard(sftp, source)
    root.guard(sftp, destination)
    target = root.remote(destination)
    there = sftp.lstat(target)
    try:
        what = sftp.attributes(sftp.lstat(root.remote(source)))
    finally:
        old = sftp.attributes_or_none(there)
    if source == destination:
        return
    if destination.startswith(source + "/"):
        if what.is_directory:
            raise Refused(root.location(source), "a directory cannot be moved into itself")
        raise NotADirectory(root.location(destination), f"{paths.basename(source)} is a file")
    with about(root.location(destination)):
        if old is not None and what.is_directory:
            if old.is_directory or mode == "create":
                raise AlreadyExists(root.location(destination))
            raise NotADirectory(root.location(destination))
        check_target(root, destination, old, mode)
        try:
            rename(sftp, root, root.remote(source), destination, mode)
        except Status as error:
            if error.code != protocol.NO_SUCH_FILE:
                raise
            make_dirs(sftp, root, destination, posixpath.dirname(target))
            rename(sftp, root, root.remote(source), destination, mode)


def _replace(sftp: Sftp, source: bytes, target: bytes) -> None:
    """Rename over ``target`` where the server cannot replace: the old file is set aside, and comes back on failure."""
    aside = temporary_beside(target)
    try:
        sftp.done(sftp.rename(target, aside))
    except Status as error:
        if error.code != protocol.NO_SUCH_FILE:
            raise
        sftp.done(sftp.rename(source, target))
        return
    try:
        sftp.done(sftp.rename(source, target))
    except Status:
        sftp.done(sftp.rename(aside, target))
        raise
    sftp.done(sftp.remove(aside))
