"""One line of progress every so many seconds, for logs and for programs.

For people::

    12:03:07  1,234/20,000 files  1.2/4.0 GiB  85.0 MiB/s  0:31 left  2 failed

``planned so far`` stands in place of the time left while more files may be found. For programs (``--output=json``) each
line is a JSON object:

===========  ==========================================================================================================
``event``    ``progress`` every so many seconds, ``failed`` for each failed file at once, ``end`` once, last
``time``     when, in local time with its offset from UTC, as ISO 8601 writes it
all else     of ``failed``: ``name`` and ``error``; of the others: the attributes of
             `cloudmesh.storage.transfer.totals.Snapshot`, sizes in bytes, ``under_way`` a list of objects
===========  ==========================================================================================================
"""

from __future__ import annotations

import datetime
import threading
from collections.abc import Callable
from typing import Any

from cloudmesh.storage.output import json_text
from cloudmesh.storage.progress import words
from cloudmesh.storage.transfer.events import Event, Observer
from cloudmesh.storage.transfer.totals import Snapshot, Totals


class Lines:
    """Writes a line every so many seconds, and a last one.

    Attributes:
        observe: takes the events.

    Args:
        every: seconds from one line to the next.
        say: writes one line; called on several threads, and does not raise.
        as_json: write JSON objects.
    """

    def __init__(self, every: float, say: Callable[[str], None], *, as_json: bool) -> None:
        self._every = every
        self._say = say
        self._as_json = as_json
        self._totals = Totals()
        self.observe: Observer = self._watch if as_json else self._totals
        self._closed = threading.Event()
        self._thread = threading.Thread(target=self._run, name="progress", daemon=True)
        self._thread.start()

    def close(self, *, final: bool) -> None:
        """Write no more; ``final``: but the last line."""
        self._closed.set()
        self._thread.join()
        if final:
            self._write("end")

    def _watch(self, event: Event) -> None:
        self._totals(event)
        if event.kind == "failed":
            self._tell("failed", {"name": event.name, "error": event.error})

    def _run(self) -> None:
        while not self._closed.wait(self._every):
            self._write("progress")

    def _write(self, event: str) -> None:
        now = self._totals.snapshot()
        if self._as_json:
            self._tell(event, now.to_dict())
        else:
            self._say(line(now, datetime.datetime.now()))

    def _tell(self, event: str, facts: dict[str, Any]) -> None:
        when = datetime.datetime.now().astimezone().isoformat(timespec="milliseconds")
        self._say(json_text({"event": event, "time": when, **facts}))


def line(now: Snapshot, when: datetime.datetime) -> str:
    """Return how far the work has come, in one line for people."""
    parts = [
        f"{when:%H:%M:%S}",
        f"{words.files(now)} files",
        words.share(now.bytes_done, words.bytes_to_move(now)),
        words.speed(now.bytes_per_s),
        f"{words.left(now.seconds_left)} left" if now.planned_all else "planned so far",
        *words.remarks(now),
    ]
    return "  ".join(parts)
