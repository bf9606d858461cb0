"""Following a job of a service: its events, as events of work that is done here."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Mapping
from typing import Any

from cloudmesh.cdir.exchange import Exchange, lines
from cloudmesh.cdir.offers import PREFIX
from cloudmesh.storage.errors import Unavailable
from cloudmesh.storage.transfer.events import Event, EventKind, Observer

JOBS = f"{PREFIX}/jobs"

_PATIENCE_S = 60.0
_AGAIN_S = 1.0


def follow(exchange: Exchange, name: str, observer: Observer) -> dict[str, Any]:
    """Tell an observer of a job's progress until it ends, and return its last event: ``job`` and ``result``.

    Where the connection is lost it is made again, and goes on where it was.

    Raises:
        StorageError: what the service tells; Unavailable: it is gone for longer than we wait.
    """
    counts: dict[str, int] = {}
    last, heard = "", time.monotonic()
    while True:
        try:
            for identity, kind, data in _events(exchange, name, last):
                last, heard = identity, time.monotonic()
                if kind == "end":
                    found: dict[str, Any] = data
                    return found
                if kind == "progress":
                    _tell(counts, data, observer)
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


def _tell(counts: dict[str, int], job: Mapping[str, Any], observer: Observer) -> None:
    """Tell what is new since the counts of the last time, and keep the counts.

    The service counts files; which they are it does not tell. Bytes come with the first of them.
    """
    kinds: tuple[tuple[EventKind, str, str], ...] = (
        ("planned", "files_total", "bytes_total"),
        ("done", "files_done", "bytes_done"),
        ("skipped", "files_skipped", ""),
        ("failed", "errors", ""),
        ("removed", "files_removed", ""),
    )
    for kind, files, size in kinds:
        more = max(0, job[files] - counts.get(files, 0))
        moved = max(0, job[size] - counts.get(size, 0)) if size else 0
        for number in range(more):
            observer(Event(kind, str(job["name"]), moved if number == 0 else 0))
        if more:
            counts[files] = job[files]
            if size:
                counts[size] = job[size]
