"""What layers have in common: every primitive is passed on to the storage inside."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Literal, TypeVar

from cloudmesh.storage.abc import (
    Capabilities,
    Content,
    Entry,
    Loaded,
    Reader,
    ReadRequest,
    StorageABC,
    Usage,
    WriteMode,
    WriteRequest,
)
from cloudmesh.storage.errors import StorageError

T = TypeVar("T")
L = TypeVar("L", bound="Layer")


class Layer(StorageABC):
    """A storage around another one.

    A layer overrides `around`, through which every call goes that gives its answer at once, and those of ``scan``,
    ``open_read``, ``write``, ``download``, ``read_many``, ``write_many`` and ``remove_many`` whose streams it has to do
    with.
    """

    kind = ""

    def __init__(self, inner: StorageABC) -> None:
        super().__init__(inner.settings)
        self.inner = inner
        self.immediate = inner.immediate

    @property
    def capabilities(self) -> Capabilities:
        """What the provider declares now: some learn it from their first answer."""
        return self.inner.capabilities

    @capabilities.setter
    def capabilities(self, value: Capabilities) -> None:
        self.inner.capabilities = value

    @property
    def name_limits(self) -> Capabilities:
        return self.inner.name_limits

    def around(self, primitive: str, path: str, call: Callable[[], T]) -> T:
        """Make one call and return its answer."""
        return call()

    def stat(self, path: str) -> Entry:
        return self.around("stat", path, lambda: self.inner.stat(path))

    def scan(self, path: str = "", *, recursive: bool = False) -> Iterator[Entry]:
        return self.inner.scan(path, recursive=recursive)

    def open_read(self, path: str, *, start: int = 0, length: int | None = None, if_match: str | None = None) -> Reader:
        return self.around(
            "open_read", path, lambda: self.inner.open_read(path, start=start, length=length, if_match=if_match)
        )

    def write(
        self, path: str, content: Content, *, mode: WriteMode = "overwrite", if_match: str | None = None
    ) -> Entry:
        return self.around("write", path, lambda: self.inner.write(path, content, mode=mode, if_match=if_match))

    def read_many(self, requests: Iterable[ReadRequest | None]) -> Iterator[tuple[ReadRequest, Loaded | StorageError]]:
        return self.inner.read_many(requests)

    def write_many(
        self, requests: Iterable[WriteRequest | None]
    ) -> Iterator[tuple[WriteRequest, Entry | StorageError]]:
        return self.inner.write_many(requests)

    def remove(self, path: str) -> None:
        self.around("remove", path, lambda: self.inner.remove(path))

    def make_dir(self, path: str) -> None:
        self.around("make_dir", path, lambda: self.inner.make_dir(path))

    def remove_dir(self, path: str) -> None:
        self.around("remove_dir", path, lambda: self.inner.remove_dir(path))

    def remove_many(self, files: Iterable[str]) -> Iterator[tuple[str, StorageError]]:
        return self.inner.remove_many(files)

    def download(self, path: str, destination: Path, *, if_match: str | None = None) -> Entry:
        return self.around("download", path, lambda: self.inner.download(path, destination, if_match=if_match))

    def copy_within(self, source: str, destination: str, *, mode: WriteMode = "overwrite") -> Entry:
        return self.around("copy_within", source, lambda: self.inner.copy_within(source, destination, mode=mode))

    def move_within(self, source: str, destination: str, *, mode: WriteMode = "overwrite") -> None:
        self.around("move_within", source, lambda: self.inner.move_within(source, destination, mode=mode))

    def set_mtime(self, path: str, mtime_ns: int) -> None:
        self.around("set_mtime", path, lambda: self.inner.set_mtime(path, mtime_ns))

    def presign(self, path: str, *, expires: int, method: Literal["GET", "PUT"] = "GET") -> str:
        return self.around("presign", path, lambda: self.inner.presign(path, expires=expires, method=method))

    def versions(self, path: str) -> list[Entry]:
        return self.around("versions", path, lambda: self.inner.versions(path))

    def sweep(self) -> None:
        self.around("sweep", "", self.inner.sweep)

    def recall(self, path: str, version: str, destination: str) -> Entry:
        return self.around("recall", path, lambda: self.inner.recall(path, version, destination))

    def flush(self) -> None:
        self.around("flush", "", self.inner.flush)

    def usage(self) -> Usage:
        return self.around("usage", "", self.inner.usage)

    def probe(self) -> None:
        self.around("probe", "", self.inner.probe)

    def close(self) -> None:
        self.inner.close()

    def location(self, path: str) -> str:
        return self.inner.location(path)

    def identity(self, path: str) -> str:
        return self.inner.identity(path)

    def check_path(self, path: str) -> None:
        self.inner.check_path(path)


def find_layer(storage: StorageABC, kind: type[L]) -> L | None:
    """Return the outermost layer of class ``kind`` around a provider; None where there is none."""
    while isinstance(storage, Layer):
        if isinstance(storage, kind):
            return storage
        storage = storage.inner
    return None


def end(steps: Iterator[object]) -> None:
    """Give an iterator up before its end, so that what it has under way is ended now."""
    close = getattr(steps, "close", None)
    if close is not None:
        close()
