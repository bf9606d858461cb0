"""Listing directories: sorted, several ahead of their turn over one session, links followed inside the root only."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field

from cloudmesh.storage import paths
from cloudmesh.storage.abc import Entry, OnError, leave_out
from cloudmesh.storage.errors import NotADirectory, NotFound, PermissionDenied, StorageError
from cloudmesh.storage.paths import HIDDEN
from cloudmesh.storage.providers.sftp import protocol
from cloudmesh.storage.providers.sftp.entries import to_entry
from cloudmesh.storage.providers.sftp.pool import Pool
from cloudmesh.storage.providers.sftp.protocol import Attributes, Sftp, Status
from cloudmesh.storage.providers.sftp.root import Root, holds
from cloudmesh.storage.providers.sftp.sessions import Session, lend

_HIDDEN = tuple(prefix.encode() for prefix in HIDDEN)
_REQUESTS = 8
"""Requests for names of one directory under way at once; fewer in the beginning, for most directories are small."""
_TOGETHER = 16
"""Directories of one parent that are listed at once: the one whose turn it is, and those that follow it."""
_AHEAD = 64
"""Directories in all that are held before their turn, in a deep tree."""
_NAMES_AHEAD = 1000
"""Names at most in a directory that is listed before its turn; a larger one waits for it."""


@dataclass(frozen=True, slots=True)
class _Listing:
    """A directory's sorted entries, and the real paths of it and of the directories that the scan came through."""

    entries: list[Entry]
    above: frozenset[bytes]


@dataclass(slots=True)
class _Open:
    """A directory that is being read.

    Attributes:
        path, real, handle: its path, its real path on the server, and the handle.
        names: what has come so far.
        answers: how many answers with names have come.
        under_way: requests that are not answered yet.
        is_over: whether no more is wanted of it.
        is_left_out: whether it is to wait for its turn, or for whoever asks what is wrong with it.
    """

    path: str
    real: bytes
    handle: bytes
    names: list[tuple[bytes, Attributes]] = field(default_factory=list)
    answers: int = 0
    under_way: int = 0
    is_over: bool = False
    is_left_out: bool = False


def scan(pool: Pool[Session], root: Root, path: str, *, recursive: bool, on_error: OnError | None) -> Iterator[Entry]:
    """Yield as `StorageABC.scan`; no session is held between two entries."""
    try:
        top = _list(pool, root, [path], frozenset())[path]
    except NotFound:
        if path:
            raise
        return  # the root is not made yet
    yield from _Tree(pool, root, on_error).below(top) if recursive else top.entries


class _Tree:
    """A tree, one directory after the other; with each, those that follow it are listed before their turn."""

    def __init__(self, pool: Pool[Session], root: Root, on_error: OnError | None) -> None:
        self._pool = pool
        self._root = root
        self._on_error = on_error
        self._ready: dict[str, _Listing] = {}

    def below(self, listing: _Listing) -> Iterator[Entry]:
        """Yield the entries of a directory, and after each directory what is in it."""
        unasked = deque(entry.path for entry in listing.entries if entry.is_directory)
        for entry in listing.entries:
            yield entry
            if not entry.is_directory:
                continue
            together = []
            if unasked and unasked[0] == entry.path:
                count = min(_TOGETHER, len(unasked), max(1, _AHEAD - len(self._ready)))
                together = [unasked.popleft() for _ in range(count)]
            elif entry.path not in self._ready:
                together = [entry.path]  # it was left out before its turn
            if together:
                try:
                    self._ready.update(_list(self._pool, self._root, together, listing.above))
                except (NotFound, NotADirectory):  # it went while we came to it
                    continue
                except StorageError as error:
                    leave_out(entry, error, self._on_error)
            found = self._ready.pop(entry.path, None)
            if found is not None:
                yield from self.below(found)


def _list(pool: Pool[Session], root: Root, together: list[str], above: frozenset[bytes]) -> dict[str, _Listing]:
    """Return the listings of directories, all read at once.

    Of those after the first, the ones that fail and the ones with more than `_NAMES_AHEAD` names are left out.

    Args:
        pool: lends the session.
        root: where paths lie.
        together: the directories.
        above: real paths of the directories that the scan came through.
    """
    with lend(pool, root.location(together[0])) as sftp:
        opened = _open(sftp, root, together)
        _read(sftp, root, opened)
        return {
            directory.path: _Listing(_entries(sftp, root, directory, above), above | {directory.real})
            for directory in opened
            if not directory.is_left_out
        }


def _open(sftp: Sftp, root: Root, together: list[str]) -> list[_Open]:
    """Open directories; the first one's failure is raised, of the others those that fail are left out."""
    asked = [(path, sftp.realpath(root.remote(path)), sftp.opendir(root.remote(path))) for path in together]
    opened: list[_Open] = []
    failure: Exception | None = None
    for path, real_asked, handle_asked in asked:
        try:
            opened.append(_opened(sftp, root, path, real_asked, handle_asked))
        except (Status, NotADirectory, PermissionDenied) as error:
            if path == together[0]:
                failure = error
    if failure is not None:
        for directory in opened:
            sftp.forget(sftp.close(directory.handle))
        raise failure
    return opened


def _opened(sftp: Sftp, root: Root, path: str, real_asked: int, handle_asked: int) -> _Open:
    """Return a directory that was asked for.

    Raises:
        NotADirectory: a file is there.
        PermissionDenied: a link leads out of the root.
        Status: it cannot be opened.
    """
    try:
        real = sftp.path(real_asked)
        if path:
            root.refuse_outside(sftp, path, real)
    except (Status, PermissionDenied):
        with suppress(Status):
            sftp.forget(sftp.close(sftp.handle(handle_asked)))
        raise
    try:
        return _Open(path, real, sftp.handle(handle_asked))
    except Status as error:
        if error.code in (protocol.FAILURE, protocol.NO_SUCH_FILE):
            attributes = sftp.attributes(sftp.stat(root.remote(path)))
            if not attributes.is_directory:
                raise NotADirectory(root.location(path)) from error
        raise


def _read(sftp: Sftp, root: Root, opened: list[_Open]) -> None:
    """Read the names that open directories hold, several requests ahead, and close them."""
    pending: deque[tuple[_Open, int]] = deque()

    def ask(directory: _Open) -> None:
        while directory.under_way < min(_REQUESTS, max(2, directory.answers)):
            pending.append((directory, sftp.readdir(directory.handle)))
            directory.under_way += 1

    try:
        for directory in opened:
            ask(directory)
        while pending:
            directory, number = pending.popleft()
            directory.under_way -= 1
            if directory.is_over:
                sftp.forget(number)
                continue
            try:
                names = sftp.names(number)
            except Status as error:
                if error.code != protocol.EOF:
                    if directory is opened[0]:
                        raise
                    directory.is_left_out = True
                directory.is_over = True
                continue
            directory.answers += 1
            directory.names += (
                found for found in names if found[0] not in (b".", b"..") and not found[0].startswith(_HIDDEN)
            )
            for name, attributes in names:
                if name.startswith(_HIDDEN):
                    seen = to_entry(paths.join(directory.path, name.decode("utf-8", "surrogateescape")), attributes)
                    root.leftovers.see(seen.path, seen.mtime_ns)
            if len(directory.names) > _NAMES_AHEAD and directory is not opened[0]:
                directory.names.clear()
                directory.is_over = directory.is_left_out = True
                continue
            ask(directory)
    finally:
        for _, number in pending:
            sftp.forget(number)
        for directory in opened:
            sftp.forget(sftp.close(directory.handle))


def _entries(sftp: Sftp, root: Root, directory: _Open, above: frozenset[bytes]) -> list[Entry]:
    """Return the sorted entries of a directory that was read, links followed."""
    entries = []
    real = directory.real
    for name, attributes in directory.names:
        child = paths.join(directory.path, name.decode("utf-8", "surrogateescape"))
        if attributes.permissions is None or attributes.is_link:
            with suppress(Status, PermissionDenied, NotFound):
                target, attributes = root.follow(sftp, child)
                if attributes.is_directory and (target == real or target in above or holds(target, real)):
                    continue  # a link to a directory that holds it would never end
        if attributes.is_directory or (attributes.is_file and not attributes.is_link):
            entries.append(to_entry(child, attributes))
    entries.sort(key=lambda entry: entry.sort_key)
    return entries
