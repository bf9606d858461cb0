"""What the bars look like: one line for all, and below it one for each large file that is under way."""

from __future__ import annotations

import sys
import threading

from rich.cells import cell_len, set_cell_size
from rich.console import Console, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from cloudmesh.storage.output import visible
from cloudmesh.storage.progress import words
from cloudmesh.storage.transfer.totals import FileUnderWay, Snapshot, Totals

FILES = 6
"""Large files shown at most."""

_BAR = range(10, 41)
"""Columns that a bar may have; where fewer are left there is none."""

_GAP = 2


class _Screen(Console):
    """A terminal whose cursor stays to be seen: a process that is killed could not bring it back."""

    def show_cursor(self, show: bool = True) -> bool:
        return False


def draw(totals: Totals, closed: threading.Event, every: float) -> None:
    """Draw bars on stderr until ``closed`` is set, again after ``every`` seconds; then nothing is left of them.

    What is written to `sys.stderr` meanwhile appears above them.
    """
    console = _Screen(file=sys.stderr)
    live = Live(
        get_renderable=lambda: picture(totals.snapshot(), console),
        console=console,
        auto_refresh=False,
        transient=True,
        redirect_stdout=False,
    )
    with live:
        while not closed.wait(every):
            live.refresh()


def picture(now: Snapshot, console: Console) -> RenderableType:
    """Return the lines, each within the terminal's width and all within its height."""
    width = console.width - 1  # a full line would wrap on some terminals
    grid = Table.grid()
    grid.add_row(_total(now, width))
    for file in now.under_way[: max(min(FILES, console.height - 2), 0)]:
        grid.add_row(_file(file, console.encoding, width))
    return grid


def _total(now: Snapshot, width: int) -> RenderableType:
    """All of the work. Where the line is too short for all that there is to say, what matters least is left out."""
    to_move = words.bytes_to_move(now)
    ending = f"{words.left(now.seconds_left)} left" if now.planned_all else "planned so far"
    parts = [
        f"{words.files(now)} files",
        words.share(now.bytes_done, to_move),
        words.speed(now.bytes_per_s),
        ending,
        *words.remarks(now),
    ]
    most_important = [parts[0], *(part for part in parts if part.endswith("failed")), *parts[1:]]
    room, kept = width + _GAP, set()
    for part in most_important:
        if part not in kept and len(part) + _GAP <= room:
            kept.add(part)
            room -= len(part) + _GAP
    cells: list[RenderableType] = [
        Text(part, "bold red" if part.endswith("failed") else "") for part in parts if part in kept
    ]
    if room - _GAP in _BAR or room - _GAP > _BAR[-1]:
        cells.insert(1, _bar(now.bytes_done, to_move, room - _GAP))
    return _row(cells)


def _file(file: FileUnderWay, encoding: str, width: int) -> RenderableType:
    """One file; its columns stand below each other."""
    percent = 100 * file.bytes_done // file.size
    facts = [f"{percent:3}%", f"{words.speed(file.bytes_per_s):>12}", f"{words.left(file.seconds_left):>7}"]
    while sum(len(fact) + _GAP for fact in facts) > width * 2 // 3:
        facts.pop()
    room = width - sum(len(fact) + _GAP for fact in facts)
    bar = room // 2 - _GAP
    name = visible(file.name).encode(encoding, "backslashreplace").decode(encoding)
    cells: list[RenderableType] = [_bar(file.bytes_done, file.size, bar)] if bar >= _BAR[0] else []
    if cells:
        room -= min(bar, _BAR[-1]) + _GAP
    return _row([Text("  " + set_cell_size(_end(name, room - 2), room - 2)), *cells, *(Text(fact) for fact in facts)])


def _row(cells: list[RenderableType]) -> Table:
    row = Table.grid(padding=(0, _GAP, 0, 0))
    for _ in cells:
        row.add_column(no_wrap=True, overflow="crop")
    row.add_row(*cells)
    return row


def _bar(done: int, total: int, width: int) -> ProgressBar:
    return ProgressBar(total=max(total, 1), completed=done, width=min(width, _BAR[-1]))


def _end(text: str, width: int) -> str:
    """As much of the end of a text as there is room for: that tells files of one directory apart."""
    if cell_len(text) <= width:
        return text
    used = 3
    for index in range(len(text) - 1, -1, -1):
        used += cell_len(text[index])
        if used > width:
            return "..." + text[index + 1 :]
    return text
