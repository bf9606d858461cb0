"""Following a job of a service: its events, as events of work that is done here."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Mapping
from typing import Any

from cloudmesh.cdir import urls
from cloudmesh.cdir.exchange import Exchange, lines
from cloudmesh.storage.errors import Unavailable
from cloudmesh.storage.transfer.events import Event, Observer

_PATIENCE_S = 60.0
_AGAIN_S = 1.0


def follow(exchange: Exchange, name: str, observer: Observer) -> dict[str, Any]:
    """Tell an observer of a job's progress until it ends, and return its last event: ``job`` and ``result``.

    Where the connection is lost it is made again, and goes on where it was.

    Raises:
        StorageError: what the service tells; Unavailable: it is gone for longer than we wait.
    """
    retelling = _Retelling(observer)
    last, heard = "", time.monotonic()
    while True:
        try:
            for identity, kind, data in _events(exchange, name, last):
                last, heard = identity, time.monotonic()
                if kind == "end":
                    retelling.progress(data["job"])
                    found: dict[str, Any] = data
                    return found
                if (tell := retelling.kinds.get(kind)) is not None:
                    tell(data)
        except Unavailable:
            if time.monotonic() - heard > _PATIENCE_S:
                raise
        time.sleep(_AGAIN_S)


def _events(exchange: Exchange, name: str, last: str) -> Iterator[tuple[str, str, Any]]:
    headers = {"Accept": "text/event-stream"} | ({"Last-Event-ID": last} if last else {})
    told: dict[str, str] = {}
    with exchange.answer("GET", urls.filled(urls.JOB_EVENTS, name=name), headers=headers) as answer:
        for line in lines(answer):
            if line:
                key, _, value = line.partition(": ")
                told[key] = value
            elif "data" in told:
                yield told.get("id", ""), told.get("event", ""), json.loads(told["data"])
                told = {}


class _Retelling:
    """Makes events of what the service tells: of snapshots, so that it may be asked again at any time.

    Large files are told by their names while they are under way, and so are failures; all else is counted.

    Args:
        observer: hears of them.

    Attributes:
        kinds: what is told, each with who takes it.
    """

    def __init__(self, observer: Observer) -> None:
        self.kinds = {"progress": self.progress, "under_way": self.under_way, "failure": self.failure}
        self._observer = observer
        self._counts: dict[str, int] = {}
        self._bytes_done = 0
        self._moving: dict[str, tuple[int, int]] = {}
        self._moved: list[tuple[str, int]] = []
        self._failed: list[tuple[str, str]] = []
        self._planned_all = False

    def failure(self, told: Mapping[str, Any]) -> None:
        """Take a file that could not be done; it is told with the counts, which come next."""
        name = str(told["name"])
        self._moving.pop(name, None)
        self._moved = [one for one in self._moved if one[0] != name]
        self._failed.append((name, str(told["error"])))

    def under_way(self, told: Mapping[str, Any]) -> None:
        """Take the large files that are being moved now; one that is not any more was moved."""
        now = {str(one["name"]): (int(one["size"]), int(one["bytes_done"])) for one in told["files"]}
        self._moved += [(name, size) for name, (size, _) in self._moving.items() if name not in now]
        for name, (size, done) in now.items():
            if name not in self._moving:
                self._observer(Event("started", name, size))
            if (more := done - self._moving.get(name, (0, 0))[1]) > 0:
                self._observer(Event("moved", name, more))
        self._moving = now
        self._planned_all = bool(told["planned_all"])
        if self._planned_all:
            self._observer(Event("planned_all"))

    def progress(self, job: Mapping[str, Any]) -> None:
        """Take the counts of the job."""
        if job["state"] not in ("waiting", "running"):
            self.under_way({"planned_all": job["files_total"] > 0, "files": []})  # some work tells of no files
        name = str(job["name"])
        if self._tell("planned", name, job, "files_total", "bytes_total") and self._planned_all:
            self._observer(Event("planned_all"))
        left = job["bytes_done"] - self._bytes_done - sum(done for _, done in self._moving.values())
        for _ in range(self._more("files_done", job["files_done"])):
            # a job that is asked for late may have moved more than it is heard of
            one, size = self._moved.pop(0) if self._moved else (name, max(0, left))
            self._observer(Event("done", one, size))
            self._bytes_done += size
            left -= size
        self._tell("skipped", name, job, "files_skipped", "bytes_skipped")
        self._tell("removed", name, job, "files_removed", "bytes_removed")
        size = self._more("bytes_failed", job["bytes_failed"])
        for _ in range(self._more("errors", job["errors"])):
            # of very many failures only the first are told by name
            one, error = self._failed.pop(0) if self._failed else (name, f"cdir storage jobs log {name} tells why")
            self._observer(Event("failed", one, size, error))
            size = 0

    def _tell(self, kind: Any, name: str, job: Mapping[str, Any], files: str, size: str) -> int:
        """Tell by how many files and bytes two counts have grown, and return how many files."""
        more = self._more(files, job[files])
        for number in range(more):
            self._observer(Event(kind, name, 0 if number else self._more(size, job[size])))
        return more

    def _more(self, count: str, now: int) -> int:
        """Return how much a count has grown since it was last asked for."""
        more = max(0, now - self._counts.get(count, 0))
        self._counts[count] = max(now, self._counts.get(count, 0))
        return more
