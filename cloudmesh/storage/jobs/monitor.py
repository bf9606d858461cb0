"""Watching jobs until they end: a table that is redrawn on a terminal, elsewhere a line for each change.

Where none is open at the first look, all are shown as they stand.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator

from cloudmesh.storage.output import human_size, visible
from cloudmesh.storage.progress.words import share
from cloudmesh.storage.records import Job

_HEADINGS = ("name", "state", "files", "bytes", "speed", "errors", "destination")
_OPEN = ("waiting", "running")
_NO_JOBS = "there are no jobs\n"


def lines(look: Callable[[], list[Job]], interval: float) -> Iterator[bytes]:
    """Yield a line for each job that is watched, and again when it has changed, until none is open any longer.

    Args:
        look: returns the jobs as they stand.
        interval: seconds from one look to the next.
    """
    told: dict[str, list[str]] = {}
    for jobs in _watched(look, interval):
        if not jobs:
            yield _NO_JOBS.encode()
        for job in jobs:
            cells = _cells(job)
            if told.get(job.name) != cells:
                told[job.name] = cells
                yield f"{time.strftime('%H:%M:%S')}  {'  '.join(cells)}\n".encode("utf-8", "backslashreplace")


def draw(look: Callable[[], list[Job]], interval: float) -> None:
    """Draw a table of the jobs on the terminal until none is open any longer; arguments as of `lines`."""
    from rich.console import Console
    from rich.live import Live
    from rich.table import Table
    from rich.text import Text

    def picture(jobs: list[Job]) -> Table:
        grid = Table(*_HEADINGS, box=None, header_style="")
        for job in jobs:
            grid.add_row(*map(Text, _cells(job)))
        return grid

    with Live(console=Console(file=sys.stdout), auto_refresh=False) as live:
        for jobs in _watched(look, interval):
            live.update(picture(jobs) if jobs else Text(_NO_JOBS.rstrip()), refresh=True)


def _watched(look: Callable[[], list[Job]], interval: float) -> Iterator[list[Job]]:
    """Yield at each look the jobs that were open at this or an earlier one; all where none was open at the first."""
    jobs = look()
    watched = {job.name for job in jobs if job.state in _OPEN} or {job.name for job in jobs}
    while True:
        watched |= {job.name for job in jobs if job.state in _OPEN}
        yield [job for job in jobs if job.name in watched]
        if not any(job.state in _OPEN for job in jobs):
            return
        time.sleep(interval)
        jobs = look()


def _cells(job: Job) -> list[str]:
    speed = f"{human_size(round(job.bytes_per_s))}/s" if job.state == "running" else ""
    state = f"{job.state} ({job.requested} requested)" if job.requested else job.state
    return [
        visible(job.name),
        state,
        f"{job.files_done + job.files_skipped:,}/{job.files_total:,}",
        share(job.bytes_done, job.bytes_total),
        speed,
        str(job.errors),
        visible(job.destination),
    ]
