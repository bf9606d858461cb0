"""A small real command with its API, as a newcomer would write one: it works on the files below the current folder."""

from __future__ import annotations

import logging
import os
import signal
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import ClassVar, Literal

from cloudmesh.storage.binding import Count, Duration, Names, Size, destructive
from cloudmesh.storage.dispatch import Command
from cloudmesh.storage.errors import NotFound, StorageError
from cloudmesh.storage.transfer.events import Event, Observer, nobody

LOGGER = logging.getLogger("cloudmesh.storage.probe")


@dataclass(frozen=True)
class File:
    """A file as a row."""

    columns: ClassVar[tuple[str, ...]] = ("name", "size", "mtime_ns")

    path: str
    size: int | None = None
    mtime_ns: int | None = None

    @property
    def name(self) -> str:
        """The last part."""
        return self.path.rpartition("/")[2]


@dataclass(frozen=True)
class Removal:
    """What a delete did, or would do."""

    files: list[str]
    failed: bool = False

    def __bool__(self) -> bool:
        return bool(self.files)


@dataclass(frozen=True)
class Settings:
    """Where and how the API was made, with what was read."""

    storage: str
    parallel: int
    size: int | None = None
    seconds: float | None = None
    services: Sequence[str] = ()
    choice: str = ""


class Config:
    """The group ``config``."""

    def list(self) -> Iterator[File]:
        """No rows."""
        return iter(())

    def import_(self, source: Path, from_: str = "here") -> str:
        """Names that Python keeps for itself."""
        return f"{source} from {from_}"


class Probe:
    """The API."""

    usage_exempt: ClassVar[frozenset[str]] = frozenset({"close"})
    usage_groups: ClassVar[Mapping[str, str]] = {"config": "tests.storage.probe:Config"}

    def __init__(self, storage: str = "local", parallel: Count = 4, observer: Observer = nobody) -> None:
        self.storage = storage
        self.parallel = parallel
        self.observer = observer

    @cached_property
    def config(self) -> Config:
        """The group."""
        return Config()

    def close(self) -> None:
        """No command."""

    def echo(self, text: Sequence[str], quote: Sequence[str] = ()) -> Iterator[File]:
        """The texts as typed."""
        return (File(one) for one in [*text, *quote])

    def work(self) -> File:
        """Something that takes long."""
        for kind in ("planned", "started", "moved", "done"):
            self.observer(Event(kind, "file", 1000))
        time.sleep(1.5)  # bars are drawn for what takes longer than a moment
        return File("file", 1000)

    def many(self, count: int) -> Iterator[File]:
        """Rows without end, nearly."""
        return (File(f"file-{number}", number) for number in range(count))

    def settings(
        self,
        size: Size | None = None,
        age: Duration | None = None,
        to: Names = [],  # noqa: B006
        sort: Literal["name", "size"] = "name",
    ) -> Settings:
        """What was read."""
        return Settings(self.storage, self.parallel, size, age, to, sort)

    def cat(self, source: Path) -> Iterator[bytes]:
        """A file's bytes."""
        if not source.exists():
            raise NotFound(str(source), hint="look with: probe list")
        with source.open("rb") as file:
            while piece := file.read(65536):
                yield piece

    @destructive
    def delete(self, source: str, recursive: bool = False, dryrun: bool = False) -> Removal:
        """Delete the files that match a pattern."""
        found = sorted(str(path) for path in Path().glob(source) if path.is_file())
        if not dryrun:
            for path in found:
                Path(path).unlink()
        return Removal(found)

    def result(self, kind: Literal["failed", "rows", "none", "text", "empty"]) -> object:
        """Results of each sort."""
        rows = [Removal(["a"]), Removal(["b"], failed=True)]
        return {"failed": rows[1], "rows": rows, "none": None, "text": "a\x1b[31mb", "empty": []}[kind]

    def fail(self, kind: Literal["ours", "bug", "interrupt", "exit", "warn"]) -> None:
        """Every way to fail."""
        secret = "p4ssw0rd"
        if kind == "ours":
            raise StorageError("aws:a\x1b]0;b", "went\nwrong")
        if kind == "bug":
            raise ValueError(len(secret))
        if kind == "interrupt":
            os.kill(os.getpid(), signal.SIGINT)
        if kind == "exit":
            raise SystemExit(5)
        LOGGER.warning("mind\x1b the %s", "gap")


PROBE = Command(
    "probe",
    """::

  Usage:
    probe [--storage=SERVICE] [--parallel=N] settings [--size=SIZE] [--age=TIME] [--to=SERVICES] [--sort=KEY]
    probe echo TEXT... [--quote=TEXT]...
    probe work
    probe many COUNT
    probe cat SOURCE
    probe delete SOURCE [--recursive] [--dryrun] [--yes]
    probe result KIND
    probe fail KIND
    probe config list
    probe config import SOURCE [--from=PLACE]

  Options:
    -r --recursive   in all directories
    --parallel=N     connections at once [default: 7]
""",
    "tests.storage.probe:Probe",
)
