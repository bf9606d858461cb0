"""What the commands of one service return: plain records that print as table, json, yaml and csv."""

from __future__ import annotations

import datetime
from dataclasses import dataclass
from typing import ClassVar, Literal

from cloudmesh.storage.abc import Entry
from cloudmesh.storage.paths import basename


@dataclass(frozen=True, slots=True)
class Cm:
    """The block that every cloudmesh record carries: what it is, where, and since when (ISO 8601, UTC)."""

    name: str
    kind: str
    cloud: str
    created: str | None
    modified: str | None


@dataclass(frozen=True, slots=True)
class FileInfo:
    """A file or directory on a service.

    Attributes:
        cm: cloudmesh's block.
        name: as the command shows it: below the directory that was listed.
        path: from the service's root.
        kind: what it is.
        size: bytes; None for a directory or where the service does not tell.
        modified_ns: modification time, ns since the epoch: the content's own where the service keeps and tells it, else
            when the service stored it.
        etag: the service's token for this content.
        hashes: as the service reports them.
        version: the service's version id, where it keeps versions.
    """

    columns: ClassVar[tuple[str, ...]] = ("kind", "size", "modified_ns", "name")

    cm: Cm
    name: str
    path: str
    kind: Literal["file", "directory"]
    size: int | None
    modified_ns: int | None
    etag: str | None
    hashes: dict[str, str]
    version: str | None


def file_info(service: str, entry: Entry, below: str = "") -> FileInfo:
    """Return the record of an entry, named as seen from the directory ``below``."""
    kind: Literal["file", "directory"] = "directory" if entry.is_directory else "file"
    modified = entry.mtime_ns if entry.mtime_ns is not None else entry.changed_ns
    return FileInfo(
        cm=Cm(basename(entry.path), kind, service, iso(entry.changed_ns), iso(modified)),
        name=entry.path[len(below) + 1 :] if below else entry.path,
        path=entry.path,
        kind=kind,
        size=entry.size,
        modified_ns=modified,
        etag=entry.etag,
        hashes=dict(entry.hashes),
        version=entry.version,
    )


def iso(nanoseconds: int | None) -> str | None:
    """Return a time as ISO 8601 in UTC, to the microsecond; None where there is none or the calendar ends before it."""
    if nanoseconds is None:
        return None
    epoch = datetime.datetime(1970, 1, 1, tzinfo=datetime.UTC)
    try:
        return (epoch + datetime.timedelta(microseconds=nanoseconds // 1000)).isoformat()
    except OverflowError:
        return None


@dataclass(frozen=True, slots=True)
class VersionInfo:
    """One version of a file that a service keeps; ``changed_ns`` is when it was stored, in ns since the epoch."""

    version: str | None
    size: int | None
    changed_ns: int | None
    etag: str | None


@dataclass(frozen=True, slots=True)
class TreeLine:
    """One line of a tree: the name, indented by its depth."""

    columns: ClassVar[tuple[str, ...]] = ("size", "tree")

    tree: str
    path: str
    kind: Literal["file", "directory"]
    size: int | None


def tree_line(path: str, below: str, is_directory: bool, size: int | None) -> TreeLine:
    """Return the line of ``path`` in a tree whose top is ``below``."""
    depth = path[len(below) :].strip("/").count("/")
    drawn = "  " * depth + basename(path) + ("/" if is_directory else "")
    return TreeLine(drawn, path, "directory" if is_directory else "file", size)


@dataclass(frozen=True, slots=True)
class Difference:
    """One file that two places do not have alike; a comparison that finds any has failed."""

    columns: ClassVar[tuple[str, ...]] = ("difference", "name")

    name: str
    difference: Literal["differs", "only in source", "only in destination", "unreadable"]
    detail: str = ""

    @property
    def failed(self) -> bool:
        """Always true: the two places are not the same."""
        return True


@dataclass(frozen=True, slots=True)
class Room:
    """Room on a service, and what the files of a directory take of it, in bytes; None where it is not told."""

    service: str
    directory: str
    files: int
    bytes: int
    total_bytes: int | None
    used_bytes: int | None
    free_bytes: int | None


JobState = Literal["waiting", "running", "done", "failed", "interrupted"]


@dataclass(frozen=True, slots=True)
class Job:
    """A job as it is in the database.

    Attributes:
        name: chosen by the user, or made from the time.
        kind: the command, such as ``sync``.
        state: ``waiting`` (its process has not begun), ``running``, ``done``, ``failed``, or ``interrupted`` (the
            process is gone without having ended it; running the same command again completes it).
        source, destination: as typed.
        files_done, bytes_done: so far.
        errors: files that could not be done.
        message: the last error.
    """

    columns: ClassVar[tuple[str, ...]] = (
        "name",
        "kind",
        "state",
        "source",
        "destination",
        "files_done",
        "bytes_done",
        "errors",
        "created_ns",
        "message",
    )

    name: str
    kind: str
    state: JobState
    source: str
    destination: str
    storage: str
    files_total: int
    files_done: int
    bytes_total: int
    bytes_done: int
    errors: int
    created_ns: int
    started_ns: int | None
    finished_ns: int | None
    pid: int | None
    host: str | None
    message: str
