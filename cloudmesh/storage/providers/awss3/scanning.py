"""A directory or a whole tree of a bucket as entries, in the order that `StorageABC.scan` promises."""

from __future__ import annotations

import itertools
from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future

from cloudmesh.storage.abc import Entry, OnError, leave_out
from cloudmesh.storage.errors import Refused, StorageError, Unavailable
from cloudmesh.storage.paths import HIDDEN
from cloudmesh.storage.providers.awss3 import listing, metadata
from cloudmesh.storage.providers.awss3.bucket import Bucket

AHEAD_IN_DIRECTORY = 8
"""Directories of one parent that are asked for ahead of their turn."""
AHEAD = 64
"""Directories in all that are, in a deep tree: at most 1,000 keys of each are in memory."""


def scan(bucket: Bucket, prefix: str, *, recursive: bool, on_error: OnError | None) -> Iterator[Entry | None]:
    """Yield what is below ``prefix`` in order; None for a key that shows that the directory is there, no more."""
    if not recursive:
        yield from _level(bucket, prefix, _pages(bucket, prefix, one_level=True))
        return
    if bucket.key_order:
        pages = _pages(bucket, prefix, one_level=False)
        first = next(pages)
        # The first answer may have told that this server has an order of its own.
        if bucket.key_order:
            yield from _tree(bucket, prefix, itertools.chain((first,), pages))
            return
    ahead = _Ahead(bucket)
    try:
        yield from _levels(bucket, prefix, _pages(bucket, prefix, one_level=True), ahead, on_error)
    finally:
        ahead.stop()


def _pages(bucket: Bucket, prefix: str, *, one_level: bool) -> Iterator[list[listing.Listed]]:
    subject = bucket.location(bucket.path(prefix.rstrip("/")))
    pages = listing.pages(bucket.connection.http, subject, prefix, one_level=one_level)
    last = ""
    for number, page in enumerate(pages):
        bucket.note_server(page.server)
        items = sorted(page.items, key=lambda item: item.key) if one_level else page.items
        for item in items if bucket.key_order else ():
            if item.key < last:
                bucket.note_own_order()
                why = "the service lists in an order of its own; the next try allows for it"
                if not number:
                    raise Unavailable(subject, why)
                # Entries were given already, in an order in which a repetition would miss others.
                raise Refused(subject, why, "run the same command again")
            last = item.key
        yield items


def _level(bucket: Bucket, prefix: str, pages: Iterator[list[listing.Listed]]) -> Iterator[Entry | None]:
    unsorted: list[Entry | None] = []
    for items in pages:
        entries = [_one(bucket, prefix, item) for item in items]
        if bucket.key_order:
            yield from entries
        else:
            unsorted += entries
    yield from sorted(unsorted, key=lambda entry: b"" if entry is None else entry.sort_key)


class _Ahead:
    """Asks for the first page of directories before their turn comes, so that one request need not wait for another."""

    def __init__(self, bucket: Bucket) -> None:
        self._bucket = bucket
        self._asked: set[Future[list[listing.Listed] | None]] = set()

    @property
    def full(self) -> bool:
        """Whether no more may be kept in memory."""
        return len(self._asked) >= AHEAD

    def pages(self, prefix: str) -> Iterator[list[listing.Listed]]:
        """Return the pages of a directory, the first of which is on its way."""
        pages = _pages(self._bucket, prefix, one_level=True)
        future = self._bucket.pool.submit(next, pages, None)
        self._asked.add(future)
        return self._resumed(future, pages)

    def _resumed(
        self, future: Future[list[listing.Listed] | None], pages: Iterator[list[listing.Listed]]
    ) -> Iterator[list[listing.Listed]]:
        try:
            first = future.result()
        finally:
            self._asked.remove(future)
        if first is not None:
            yield first
        yield from pages

    def stop(self) -> None:
        """Ask for no more."""
        for future in self._asked:
            future.cancel()


def _levels(
    bucket: Bucket,
    prefix: str,
    pages: Iterator[list[listing.Listed]],
    ahead: _Ahead,
    on_error: OnError | None,
    directory: Entry | None = None,
) -> Iterator[Entry | None]:
    """Yield a whole tree by one listing a directory: for servers that do not list a tree in the order of keys."""
    try:
        entries = list(_level(bucket, prefix, pages))
    except StorageError as error:
        if directory is None:
            raise
        leave_out(directory, error, on_error)
        return
    directories = (f"{bucket.key(entry.path)}/" for entry in entries if entry is not None and entry.is_directory)
    asked: deque[tuple[str, Iterator[list[listing.Listed]]]] = deque()
    for entry in entries:
        while len(asked) < AHEAD_IN_DIRECTORY and not ahead.full and (following := next(directories, None)):
            asked.append((following, ahead.pages(following)))
        yield entry
        if entry is not None and entry.is_directory:
            if not asked:
                following = next(directories)
                asked.append((following, _pages(bucket, following, one_level=True)))
            yield from _levels(bucket, *asked.popleft(), ahead, on_error, entry)


def _tree(bucket: Bucket, prefix: str, pages: Iterable[list[listing.Listed]]) -> Iterator[Entry | None]:
    """Yield a whole tree from one listing in the order of keys."""
    inside: list[str] = []
    for item in itertools.chain.from_iterable(pages):
        *directories, name = item.key[len(prefix) :].split("/")
        if not _visible(directories) or (name and not _visible([name])):
            _see(bucket, item)
            yield None
            continue
        pairs = zip(inside, directories, strict=False)
        same = sum(1 for _ in itertools.takewhile(lambda pair: pair[0] == pair[1], pairs))
        for depth in range(same, len(directories)):
            path = bucket.path(prefix + "/".join(directories[: depth + 1]))
            yield Entry(path, is_directory=True)
        inside = directories
        yield _file(bucket, item) if name else None


def _one(bucket: Bucket, prefix: str, item: listing.Listed) -> Entry | None:
    name = item.key[len(prefix) :].removesuffix("/")
    if not _visible([name]):
        _see(bucket, item)
        return None
    if item.size is None:
        return Entry(bucket.path(item.key[:-1]), is_directory=True)
    return _file(bucket, item)


def _see(bucket: Bucket, item: listing.Listed) -> None:
    if item.size is not None:
        bucket.leftovers.see(bucket.path(item.key), metadata.parse_time(item.modified))


def _file(bucket: Bucket, item: listing.Listed) -> Entry:
    etag = metadata.quoted(item.etag)
    return Entry(
        bucket.path(item.key),
        size=item.size,
        changed_ns=metadata.parse_time(item.modified),
        etag=etag,
        hashes=bucket.hashes(etag),
    )


def _visible(names: list[str]) -> bool:
    """Tell whether these parts of a key can stand in a path of ours, and are not temporary."""
    return not any(name in ("", ".", "..") or name.startswith(HIDDEN) for name in names)
