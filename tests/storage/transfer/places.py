"""Services with faults, and runs between them, for the tests of transfers."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from cloudmesh.storage.abc import Content, Entry, OnError, ServiceSettings, StorageABC, WriteMode, WriteRequest
from cloudmesh.storage.digest import digest_of
from cloudmesh.storage.disk import Disk
from cloudmesh.storage.errors import StorageError
from cloudmesh.storage.paths import TEMPORARY_PREFIX
from cloudmesh.storage.pool import run_parallel
from cloudmesh.storage.providers.local import LocalStorage
from cloudmesh.storage.transfer.events import Event
from cloudmesh.storage.transfer.options import TransferOptions
from cloudmesh.storage.transfer.report import Report
from cloudmesh.storage.transfer.transfer import Side, Transfer
from tests.places import local

LARGE = 2 * 1024 * 1024


class Odd(LocalStorage):
    """A service that is waited for, reports MD5 hashes, and does what a test wants of it.

    Attributes:
        before: called with the name of a primitive and its path, before it is done; what it raises is raised.
        flips: so many further writes arrive with other bytes than were sent.
        writes: paths written, one for each attempt.
        reads: likewise.
    """

    immediate = False

    def __init__(self, settings: ServiceSettings) -> None:
        super().__init__(settings)
        self.capabilities = replace(self.capabilities, hashes=frozenset({"md5"}))
        self.before: Callable[[str, str], None] = lambda primitive, path: None
        self.flips = 0
        self.writes: list[str] = []
        self.reads: list[str] = []

    def scan(self, path: str = "", *, recursive: bool = False, on_error: OnError | None = None) -> Iterator[Entry]:
        for entry in super().scan(path, recursive=recursive, on_error=on_error):
            self.before("scan", entry.path)
            yield entry

    def open_read(self, path: str, **more: Any) -> Any:
        self.before("open_read", path)
        self.reads.append(path)
        return super().open_read(path, **more)

    def write(
        self, path: str, content: Content, *, mode: WriteMode = "overwrite", if_match: str | None = None
    ) -> Entry:
        self.before("write", path)
        self.writes.append(path)
        # as over a network: what is sent is what is opened, in pieces
        made = super().write(path, replace(content, path=None), mode=mode, if_match=if_match)
        place = Path(self._inside(path))
        if self.flips:
            self.flips -= 1
            data = bytearray(place.read_bytes())
            data[0] ^= 1
            place.write_bytes(data)
        return made._replace(hashes={"md5": digest_of((place.read_bytes(),), "md5")})

    def read_many(self, requests: Any) -> Any:
        return StorageABC.read_many(self, requests)

    def write_many(
        self, requests: Iterable[WriteRequest | None]
    ) -> Iterator[tuple[WriteRequest, Entry | StorageError]]:
        def write(request: WriteRequest) -> Entry:
            return self.write(request.path, Content.of_bytes(request.data, request.mtime_ns), mode=request.mode)

        return run_parallel(write, requests, 2)

    def remove(self, path: str) -> None:
        self.before("remove", path)
        super().remove(path)

    def make_dir(self, path: str) -> None:
        self.before("make_dir", path)
        super().make_dir(path)


def odd(name: str, root: Path) -> Odd:
    return Odd(local(name, root))


@dataclass
class Heard:
    """An observer that remembers, and knows the contract of events."""

    events: list[Event] = field(default_factory=list)

    def __call__(self, event: Event) -> None:
        self.events.append(event)

    def names(self, kind: str) -> list[str]:
        return sorted(event.name.rpartition("/")[2] for event in self.events if event.kind == kind)

    def check(self, *, early: bool = False) -> None:
        """Every file is planned once and ends once, with one size; with ``early`` some may not end."""
        planned = [event.name for event in self.events if event.kind == "planned"]
        ended = [event.name for event in self.events if event.kind in ("done", "skipped", "failed")]
        assert len(set(planned)) == len(planned)
        assert len(set(ended)) == len(ended)
        assert set(ended) <= set(planned) if early else set(ended) == set(planned)
        assert [event.kind for event in self.events].count("planned_all") == 1
        sizes: dict[str, set[int]] = {}
        for event in self.events:
            if event.kind in ("planned", "done", "skipped", "failed"):
                sizes.setdefault(event.name, set()).add(event.size)
        assert all(len(one) == 1 for one in sizes.values())


def run(source: StorageABC, destination: StorageABC, top: str = "", action: str = "sync", **more: Any) -> Report:
    """Bring a tree to the directory ``top`` of another service; ``more`` are options or attributes of a Transfer."""
    known = {name: more.pop(name) for name in ("parallel", "dryrun", "observer", "stop") if name in more}
    sides = Side(source, "", True), Side(destination, top, True)
    return Transfer(action, *sides, source.stat(""), TransferOptions(**more), **known).run()


def disk(root: Path) -> Disk:
    return Disk(str(root))


def leftovers(*roots: Path) -> list[Path]:
    """Return the temporary files that lie about."""
    return [path for root in roots for path in root.rglob(f"{TEMPORARY_PREFIX}*")]


def change(path: Path, data: bytes) -> None:
    """Write other bytes into a file, in place, and set its modification time back."""
    before = path.stat()
    path.write_bytes(data)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
