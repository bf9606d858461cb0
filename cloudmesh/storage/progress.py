"""Progress bars on the terminal, from the events of a run."""

from __future__ import annotations

import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn, TransferSpeedColumn

from cloudmesh.storage.output import visible
from cloudmesh.storage.transfer.events import Event, Observer


@contextmanager
def terminal_observer() -> Iterator[Observer]:
    """Give an observer that draws one line on stderr: files, bytes, speed and time left; it vanishes at the end."""
    console = Console(file=sys.stderr)
    progress = Progress(
        TextColumn("{task.fields[files]}", markup=False),
        BarColumn(),
        DownloadColumn(binary_units=True),
        TransferSpeedColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.fields[name]}", markup=False),
        console=console,
        transient=True,
    )
    task = progress.add_task("", total=0, files="", name="", visible=False)
    lock = threading.Lock()
    counts = {"planned": 0, "bytes": 0, "done": 0, "failed": 0}

    def observe(event: Event) -> None:
        with lock:
            if event.kind == "planned":
                counts["planned"] += 1
                counts["bytes"] += event.size
                progress.update(task, total=counts["bytes"], visible=True)
            elif event.kind == "started":
                progress.update(task, name=visible(event.name)[-40:])
            elif event.kind == "moved":
                progress.advance(task, event.size)
            elif event.kind in ("done", "failed"):
                counts[event.kind] += 1
            failed = f", {counts['failed']} failed" if counts["failed"] else ""
            progress.update(task, files=f"{counts['done']}/{counts['planned']} files{failed}")

    with progress:
        yield observe
