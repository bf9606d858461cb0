"""What the commands of one service return: plain records that print as table, json, yaml and csv."""

from __future__ import annotations

import datetime
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

from cloudmesh.storage.abc import Entry
from cloudmesh.storage.paths import basename
from cloudmesh.storage.transfer.report import Failure


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


@dataclass(frozen=True, slots=True)
class Measured:
    """What a service was measured to be; None where it could not be measured.

    Attributes:
        service, kind: the service.
        latency_s: seconds that a small request takes.
        read_per_s_bytes, write_per_s_bytes: content that one stream moves in a second.
        clock_ahead_s: seconds by which its clock is ahead of this computer's; None too where it tells no times.
        clock_error_s: seconds by which that may be wrong.
        problem: why it could not be measured; empty where it was.
    """

    columns: ClassVar[tuple[str, ...]] = (
        *("service", "kind", "latency_s", "read_per_s_bytes", "write_per_s_bytes"),
        *("clock_ahead_s", "clock_error_s", "problem"),
    )

    service: str
    kind: str
    latency_s: float | None = None
    read_per_s_bytes: int | None = None
    write_per_s_bytes: int | None = None
    clock_ahead_s: float | None = None
    clock_error_s: float | None = None
    problem: str = ""

    @property
    def failed(self) -> bool:
        """Whether it could not be measured; then the command ends with 1."""
        return bool(self.problem)


JobState = Literal["waiting", "running", "paused", "cancelled", "done", "failed", "interrupted"]


@dataclass(frozen=True, slots=True)
class Job:
    """A job as it is in the database; `cloudmesh.storage.jobs` draws how its states follow each other.

    Attributes:
        name: chosen by the user, or made from source and destination.
        kind: the command, such as ``sync``.
        source, destination: as typed, paths of a computer absolute.
        storage: the service that a path without one is on.
        computer: the one whose own files are concerned, where any are; only there it can go on.
        options: the transfer's options, as `TransferOptions.as_dict` gives them.
        parallel: files under way at once; None is the measured default.
        files_total, bytes_total: found so far, those skipped included.
        files_done, bytes_done: by the last run, so far.
        files_skipped, bytes_skipped: were the same already.
        files_removed, bytes_removed: removed at the destination.
        errors, bytes_failed: files that could not be done.
        bytes_per_s: speed of the last seconds.
        created_ns, started_ns, finished_ns: by the database's clock.
        pid, host: the process that does it, or did it last.
        requested: ``pause`` or ``cancel`` where the process is still to do so.
        log: the file of its log, on ``host``.
        message: the last error, or why it ended.
    """

    columns: ClassVar[tuple[str, ...]] = (
        "name",
        "kind",
        "state",
        "source",
        "destination",
        "files_done",
        "files_total",
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
    computer: str
    options: dict[str, Any]
    parallel: int | None
    files_total: int
    files_done: int
    files_skipped: int
    files_removed: int
    bytes_total: int
    bytes_done: int
    bytes_skipped: int
    bytes_removed: int
    bytes_failed: int
    errors: int
    bytes_per_s: float
    created_ns: int
    started_ns: int | None
    finished_ns: int | None
    pid: int | None
    host: str | None
    requested: str
    log: str
    message: str


@dataclass(frozen=True, slots=True)
class JobDetails(Job):
    """A job with all that is known of it, and the first files that it could not do."""

    columns: ClassVar[tuple[str, ...]] = (
        *("name", "kind", "state", "requested", "source", "destination", "storage", "computer", "options", "parallel"),
        *("files_total", "files_done", "files_skipped", "files_removed", "bytes_total", "bytes_done", "bytes_per_s"),
        *("errors", "created_ns", "started_ns", "finished_ns", "host", "pid", "log", "message", "failures"),
    )

    failures: list[Failure]


@dataclass(frozen=True, slots=True)
class JobAsked(Job):
    """A job that was asked to end."""

    columns: ClassVar[tuple[str, ...]] = ("name", "state", "note")

    @property
    def note(self) -> str:
        """What comes of it, and what to do next."""
        when = "it ends in a moment, between two files" if self.requested else "what was copied stays"
        if "pause" in (self.requested, self.state.removesuffix("d")):
            return f"{when}; cms storage jobs resume {self.name} goes on with it"
        return f"{when}; cms storage jobs remove {self.name} forgets it"


@dataclass(frozen=True, slots=True)
class JobEnd:
    """How a job ended that was done in the foreground."""

    columns: ClassVar[tuple[str, ...]] = ("name", "state", "files", "bytes", "errors", "message")

    name: str
    state: JobState
    files: int
    bytes: int
    errors: int
    message: str

    @property
    def failed(self) -> bool:
        """Whether the command's exit code is 1."""
        return self.state != "done"
