"""What has to be done to make one tree like another: sorted listings, and what is known of earlier, in one pass.

The memory needed is that of the listings' own streams: neither side is ever held whole.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from typing import Generic, Literal, TypeVar

from cloudmesh.storage import paths
from cloudmesh.storage.abc import Entry, OnError, StorageABC
from cloudmesh.storage.errors import NotFound, StorageError
from cloudmesh.storage.transfer.ages import with_ages
from cloudmesh.storage.transfer.filters import Filter
from cloudmesh.storage.transfer.journal import Journal, Known, mark
from cloudmesh.storage.transfer.same import Comparison
from cloudmesh.storage.transfer.unlisted import Unlisted

Action = Literal["copy", "compare", "make_dir", "skip", "remove"]
_ACTIONS: dict[bool | None, Action] = {True: "skip", False: "copy", None: "compare"}


@dataclass(slots=True, eq=False)
class Step:
    """One thing to do.

    Attributes:
        action: ``copy`` a file; ``compare`` it first, which costs a request or a read, and copy it if it differs;
                ``make_dir`` an empty directory; ``skip`` a file that is as it should be; ``remove`` what only the
            destination has.
        key: its place in the order of listings, below the top of both trees.
        source: the file or directory on the source's service; for ``remove`` that on the destination's.
        destination: path on the destination's service.
        replaces: the destination's file that a copy overwrites, or that a ``skip`` found there.
        is_known: whether the journal has a ``skip`` as it is.
    """

    action: Action
    key: bytes
    source: Entry
    destination: str
    replaces: Entry | None = None
    is_known: bool = False


class Tree:
    """A directory, or one file, of a service: one side of a plan."""

    def __init__(self, service: StorageABC, path: str) -> None:
        self.service = service
        self.path = path

    def relative(self, entry: Entry) -> str:
        """Return the entry's path below this tree's top."""
        return entry.path[len(self.path) + 1 :] if self.path else entry.path

    def key(self, entry: Entry) -> bytes:
        """Return the entry's place in the order of listings, below this tree's top."""
        return paths.sort_key(self.relative(entry), entry.is_directory)

    def entries(self, on_error: OnError | None = None) -> Iterator[Entry]:
        """Yield what is in the tree, sorted, and tell of what cannot be listed, as `StorageABC.scan` does."""
        return self.service.scan(self.path, recursive=True, on_error=on_error)


class Plan:
    """The steps that bring what is in one tree to another; iterate it once.

    Every file, and every empty directory where the destination knows them, of ``source`` comes to ``destination``.
    With ``mirror`` what only the destination has is to be removed. Files that ``chosen`` does not choose are left
    alone on both sides.

    What one side could not list is left alone on the other, as nothing is known of it: it is neither copied nor
    removed, and told in ``unlisted``.

    Args:
        source: where from; it must exist.
        destination: where to; it need not exist.
        comparison: what counts as the same.
        chosen: which files are concerned; None = all.
        journal: what is known of earlier runs.
        mirror: whether to name what only the destination has.

    Attributes:
        top: the directory on the destination's service.
        files: files of the source that are concerned, so far.
        there: files of the destination that are concerned, so far.
    """

    def __init__(
        self,
        source: Tree,
        destination: Tree,
        comparison: Comparison,
        *,
        chosen: Filter | None = None,
        journal: Journal | None = None,
        mirror: bool = False,
    ) -> None:
        self._source = source
        self._destination = destination
        self._comparison = comparison
        self._chosen = chosen
        self._journal = journal
        self._mirror = mirror
        self.top = destination.path
        self.files = 0
        self.there = 0
        self._unlisted = Unlisted()

    def __iter__(self) -> Iterator[Step]:
        """Yield the steps.

        Raises:
            NotFound, NotADirectory: about the source, at the first step.
            StorageError: what the listings raise.
        """
        known = _Sought(self._journal.known() if self._journal else iter(()), _known_key)
        others = _Sought(self._others(), self._destination.key)
        empty: Step | None = None
        for entry in self._entries(self._source):
            key = self._source.key(entry)
            if empty is not None:
                if not (key.startswith(empty.key) or self._unlisted.covers(empty.key)):
                    yield empty
                empty = None
            for other_key, other in others.before(key):
                yield from self._surplus(other_key, other)
            self._forget(known, key)
            existing = others.at(key)
            if entry.is_directory:
                if existing is None:
                    empty = self._directory(key, entry)
            elif self._concerns(key, entry) and not self._unlisted.covers(key):
                self.files += 1
                self.there += existing is not None
                yield self._file(key, entry, existing, known.at(key))
        if empty is not None and not self._unlisted.covers(empty.key):
            yield empty
        for other_key, other in others.before(None):
            yield from self._surplus(other_key, other)
        self._forget(known, None)

    @property
    def unlisted(self) -> list[StorageError]:
        """Why directories (or single files) of either side could not be listed, so far."""
        return [error for _, error in self._unlisted.failures]

    def _others(self) -> Iterator[Entry]:
        with suppress(NotFound):
            yield from self._entries(self._destination)

    def _entries(self, tree: Tree) -> Iterator[Entry]:
        entries = tree.entries(self._hears(tree))
        chosen = self._chosen
        if chosen is None or chosen.since_ns is None:
            return entries
        return with_ages(
            tree.service, entries, chosen.since_ns, lambda entry: chosen.includes(tree.relative(entry), entry)
        )

    def _hears(self, tree: Tree) -> OnError:
        def hear(entry: Entry, error: StorageError) -> None:
            name = tree.relative(entry)
            is_concerned = self._chosen is None or (
                self._chosen.enters(name) if entry.is_directory else self._chosen.includes(name, entry)
            )
            if is_concerned:
                self._unlisted.add(name, error)

        return hear

    def _concerns(self, key: bytes, entry: Entry) -> bool:
        return self._chosen is None or self._chosen.includes(key.decode("utf-8", "surrogateescape"), entry)

    def _directory(self, key: bytes, entry: Entry) -> Step | None:
        if self._chosen is not None or not self._destination.service.capabilities.empty_directories:
            return None
        return Step("make_dir", key, entry, self._target(entry))

    def _file(self, key: bytes, entry: Entry, existing: Entry | None, known: Known | None) -> Step:
        target = self._target(entry)
        if existing is None:
            return Step("copy", key, entry, target)
        if (
            known is not None
            and self._comparison.trusts_journal
            and known.destination == mark(self._destination.service, existing)
            and known.source == mark(self._source.service, entry)
        ):
            return Step("skip", key, entry, target, existing, is_known=True)
        skips = self._comparison.decide(self._source.service, entry, self._destination.service, existing)
        return Step(_ACTIONS[skips], key, entry, target, existing)

    def _surplus(self, key: bytes, entry: Entry) -> Iterator[Step]:
        if self._unlisted.covers(key):
            return
        if entry.is_directory:
            if self._mirror and self._chosen is None:
                yield Step("remove", key, entry, entry.path)
        elif self._concerns(key, entry):
            self.there += 1
            if self._mirror:
                yield Step("remove", key, entry, entry.path)

    def _forget(self, known: _Sought[Known], key: bytes | None) -> None:
        """Forget files that the source does not have any longer."""
        if self._journal is not None and self._chosen is None:
            for gone, _ in known.before(key):
                self._journal.forget(gone)

    def _target(self, entry: Entry) -> str:
        return paths.join(self._destination.path, self._source.relative(entry))


T = TypeVar("T")


class _Sought(Generic[T]):
    """A sorted stream in which keys are looked up that only grow."""

    def __init__(self, items: Iterator[T], key: Callable[[T], bytes]) -> None:
        self._items = items
        self._key = key
        self._next = next(items, None)
        self._next_key = b"" if self._next is None else key(self._next)

    def before(self, key: bytes | None) -> Iterator[tuple[bytes, T]]:
        """Take and yield what comes before ``key``, with its own; all that is left where it is None."""
        while self._next is not None and (key is None or self._next_key < key):
            found = self._next_key, self._next
            self._advance()
            yield found

    def at(self, key: bytes) -> T | None:
        """Take and return what has this key, once all before it was taken; None where nothing has."""
        for _ in self.before(key):
            pass
        if self._next is None or self._next_key != key:
            return None
        found = self._next
        self._advance()
        return found

    def _advance(self) -> None:
        self._next = next(self._items, None)
        if self._next is not None:
            self._next_key = self._key(self._next)


def _known_key(known: Known) -> bytes:
    return known.key
