"""Comparing two trees without changing either."""

from __future__ import annotations

from collections.abc import Iterator

from cloudmesh.storage import paths
from cloudmesh.storage.abc import Entry
from cloudmesh.storage.digest import digest
from cloudmesh.storage.errors import NotADirectory, StorageError
from cloudmesh.storage.records import Difference
from cloudmesh.storage.transfer.plan import Tree
from cloudmesh.storage.transfer.same import same
from cloudmesh.storage.transfer.unlisted import Unlisted


def differences(source: Tree, destination: Tree, *, deep: bool) -> Iterator[Difference]:
    """Yield each file that the two trees (or two files) do not have alike, in order.

    Args:
        source: one side.
        destination: the other.
        deep: compare the content's SHA-256; else the cheapest facts that decide.

    Raises:
        NotFound: a side is not there.
    """
    unlisted = Unlisted()
    for name, one, other in _merged(source, destination, unlisted):
        if unlisted.covers(paths.sort_key(name, False)):
            continue
        if other is None:
            yield Difference(name, "only in source")
        elif one is None:
            yield Difference(name, "only in destination")
        else:
            try:
                if not _alike(source, one, destination, other, deep):
                    yield Difference(name, "differs")
            except StorageError as error:
                yield Difference(name, "unreadable", str(error))
    for name, refusal in unlisted.failures:
        yield Difference(name, "unreadable", str(refusal))


def _alike(source: Tree, one: Entry, destination: Tree, other: Entry, deep: bool) -> bool:
    if not deep or one.size != other.size:
        return same(source.service, one, destination.service, other)
    return digest(source.service, one.path) == digest(destination.service, other.path)


def _files(tree: Tree, unlisted: Unlisted) -> Iterator[tuple[bytes, str, Entry]]:
    try:
        for entry in tree.entries(lambda entry, error: unlisted.add(tree.relative(entry), error)):
            if not entry.is_directory:
                name = tree.relative(entry)
                yield paths.sort_key(name, False), name, entry
    except NotADirectory:
        yield b"", paths.basename(tree.path), tree.service.stat(tree.path)


def _merged(source: Tree, destination: Tree, unlisted: Unlisted) -> Iterator[tuple[str, Entry | None, Entry | None]]:
    left, right = _files(source, unlisted), _files(destination, unlisted)
    one, other = next(left, None), next(right, None)
    while one is not None or other is not None:
        if other is None or (one is not None and one[0] < other[0]):
            assert one is not None  # noqa: S101 - the loop's condition
            yield one[1], one[2], None
            one = next(left, None)
        elif one is None or other[0] < one[0]:
            yield other[1], None, other[2]
            other = next(right, None)
        else:
            yield one[1], one[2], other[2]
            one, other = next(left, None), next(right, None)
