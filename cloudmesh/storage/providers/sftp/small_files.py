"""Reading and storing one small file as a flow (see `flows`), in the plain case.

Whatever is out of the ordinary (a link, something in the way, no room) ends the flow with `Alone` or the server's
Status, after it has cleaned up; then `reading` or `writing` does the file by itself and says what is wrong.
"""

from __future__ import annotations

import posixpath
from collections.abc import Callable, Generator
from contextlib import suppress

from cloudmesh.storage import paths
from cloudmesh.storage.abc import Entry, Loaded, ReadRequest, WriteRequest
from cloudmesh.storage.providers.sftp import protocol
from cloudmesh.storage.providers.sftp.directories import make_dirs
from cloudmesh.storage.providers.sftp.entries import to_entry, to_seconds
from cloudmesh.storage.providers.sftp.faults import about
from cloudmesh.storage.providers.sftp.flows import Alone, Asked, Line
from cloudmesh.storage.providers.sftp.protocol import BLOCK, OPEN_READ, ProtocolError, Status
from cloudmesh.storage.providers.sftp.renaming import check_target, temporary_beside
from cloudmesh.storage.providers.sftp.root import Root
from cloudmesh.storage.providers.sftp.ssh_session import ConnectionLost

_NEW = protocol.OPEN_WRITE | protocol.OPEN_CREATE | protocol.OPEN_EXCLUSIVE
_REPLACE = "posix-rename@openssh.com"


def load(line: Line, root: Root, request: ReadRequest) -> Generator[None, None, Loaded]:
    """Read a file whole, in two round trips where its etag is known, else three."""
    path, sftp = request.path, line.sftp
    asked = Asked(sftp)
    opened = handle = None
    try:
        remote = root.remote(path)
        real = None if root.is_believed(path) else asked.note(sftp.realpath(root.remote(paths.parent(path))))
        looked = asked.note(sftp.lstat(remote))
        # Opening a FIFO would never end, so one looks first. Whoever has an etag saw a file there, and need not wait.
        if request.if_match is not None:
            opened = sftp.open(remote, OPEN_READ)
        yield
        if real is not None:
            root.believe(sftp, path, sftp.path(asked.take(real)))
        attributes = sftp.attributes(asked.take(looked))
        if attributes.is_link or attributes.is_directory or not attributes.is_file or attributes.size is None:
            raise Alone
        entry = to_entry(path, attributes)
        if request.if_match is not None and entry.etag != request.if_match:
            raise Alone
        if opened is None:
            opened = sftp.open(remote, OPEN_READ)
            yield
        number, opened = opened, None
        handle = sftp.handle(number)
        blocks = [
            (asked.note(sftp.read(handle, at, min(BLOCK, attributes.size - at))), min(BLOCK, attributes.size - at))
            for at in range(0, attributes.size, BLOCK)
        ]
        status = asked.note(sftp.fstat(handle))
        yield
        pieces = []
        for number, length in blocks:
            pieces.append(sftp.data(asked.take(number)))
            if len(pieces[-1]) != length:
                raise Alone
        # Looked at last, so that a file that was changed while it was read is not taken for what it was before.
        if to_entry(path, sftp.attributes(asked.take(status))) != entry:
            raise Alone
        return Loaded(entry, b"".join(pieces))
    except (ConnectionLost, ProtocolError):
        line.is_lost = True
        raise
    finally:
        if not line.is_lost:
            with suppress(ConnectionLost, ProtocolError):
                asked.forget()
                if opened is not None:
                    with suppress(Status):
                        handle = sftp.handle(opened)
                if handle is not None:
                    sftp.forget(sftp.close(handle))


def store(
    line: Line, root: Root, request: WriteRequest, made: set[bytes], leave: Callable[[bytes], None]
) -> Generator[None, None, Entry]:
    """Store a file in three round trips: under a temporary name, checked, and renamed.

    Args:
        line: the session.
        root: where paths lie.
        request: what to store.
        made: directories that were made, so that each is made once.
        leave: takes the name of a temporary file that could not be removed, for the connection broke.
    """
    path, sftp, data = request.path, line.sftp, request.data
    asked = Asked(sftp)
    remote = root.remote(path)
    directory = posixpath.dirname(remote)
    temporary = temporary_beside(remote)
    opened = handle = None
    begun = False
    if not path or (request.mode == "overwrite" and _REPLACE.encode() not in sftp.extensions):
        raise Alone
    try:
        if not root.is_believed(path):
            real = asked.note(sftp.realpath(root.remote(paths.parent(path))))
            yield
            with suppress(Status):  # the directory is not made yet
                root.believe(sftp, path, sftp.path(asked.take(real)))
        if not root.is_believed(path):
            root.guard(sftp, path)
        looked = asked.note(sftp.stat(remote))
        opened = sftp.open(temporary, _NEW)
        begun = True
        yield
        old = sftp.attributes_or_none(asked.take(looked))
        number, opened = opened, None
        try:
            handle = sftp.handle(number)
        except Status as error:
            if error.code != protocol.NO_SUCH_FILE:
                raise
            begun = False
            if directory not in made:
                with about(root.location(path)):
                    make_dirs(sftp, root, path, directory)
                made.add(directory)
            opened = sftp.open(temporary, _NEW)
            begun = True
            yield
            number, opened = opened, None
            handle = sftp.handle(number)
        check_target(root, path, old, request.mode)
        view = memoryview(data)
        waiting = [asked.note(sftp.write(handle, at, view[at : at + BLOCK])) for at in range(0, len(data), BLOCK)]
        permissions = old.permissions & 0o777 if old is not None and old.permissions is not None else None
        seconds = None if request.mtime_ns is None else to_seconds(request.mtime_ns)
        if permissions is not None or seconds is not None:
            waiting.append(asked.note(sftp.fsetstat(handle, permissions=permissions, mtime=seconds)))
        waiting.append(asked.note(sftp.close(handle)))
        handle = None
        written = asked.note(sftp.lstat(temporary))
        yield
        for number in waiting:
            sftp.done(asked.take(number))
        attributes = sftp.attributes(asked.take(written))
        if attributes.size != len(data):
            raise Alone
        rename = sftp.rename if request.mode == "create" else sftp.posix_rename
        renamed = asked.note(rename(temporary, remote))
        yield
        sftp.done(asked.take(renamed))
        begun = False
        return to_entry(path, attributes)
    except (ConnectionLost, ProtocolError):
        line.is_lost = True
        raise
    finally:
        if begun and line.is_lost:
            leave(temporary)
        elif not line.is_lost:
            try:
                asked.forget()
                if opened is not None:
                    with suppress(Status):
                        handle = sftp.handle(opened)
                if handle is not None:
                    sftp.forget(sftp.close(handle))
                if begun:
                    with suppress(Status):
                        sftp.done(sftp.remove(temporary))
            except (ConnectionLost, ProtocolError):
                if begun:
                    leave(temporary)
