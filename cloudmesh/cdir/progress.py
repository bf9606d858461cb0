"""Following a job of a service: its events, as events of work that is done here."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Mapping
from typing import Any

from cloudmesh.cdir.exchange import Exchange, lines
from cloudmesh.cdir.offers import PREFIX
from cloudmesh.storage.errors import Unavailable
from cloudmesh.storage.transfer.events import Event, Observer

JOBS = f"{PREFIX}/jobs"

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
    with exchange.answer("GET", f"{JOBS}/{name}/events", headers=headers) as answer:
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

    def failure(self, told: Mapping[str, Any]) -> None:
        """Take a file that could not be done."""
        self._more("errors", self._counts.get("errors", 0) + 1)
        name = str(told["name"])
        self._moving.pop(name, None)
        self._moved = [one for one in self._moved if one[0] != name]
        self._observer(Event("failed", name, 0, str(told["error"])))

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
        if told["planned_all"]:
            self._observer(Event("planned_all"))

    def progress(self, job: Mapping[str, Any]) -> None:
        """Take the counts of the job."""
        if job["state"] not in ("waiting", "running"):
            self.under_way({"planned_all": True, "files": []})
        name = str(job["name"])
        self._tell("planned", name, "files_total", job, self._more("bytes_total", job["bytes_total"]))
        left = job["bytes_done"] - self._bytes_done - sum(done for _, done in self._moving.values())
        for _ in range(self._more("files_done", job["files_done"])):
            # a job that is asked for late may have moved more than it is heard of
            one, size = self._moved.pop(0) if self._moved else (name, max(0, left))
            self._observer(Event("done", one, size))
            self._bytes_done += size
            left -= size
        for kind, count in (("skipped", "files_skipped"), ("failed", "errors"), ("removed", "files_removed")):
            self._tell(kind, name, count, job)

    def _tell(self, kind: Any, name: str, count: str, job: Mapping[str, Any], size: int = 0) -> None:
        for number in range(self._more(count, job[count])):
            self._observer(Event(kind, name, 0 if number else size))

    def _more(self, count: str, now: int) -> int:
        """Return how much a count has grown since it was last asked for."""
        more = max(0, now - self._counts.get(count, 0))
        self._counts[count] = max(now, self._counts.get(count, 0))
        return more
