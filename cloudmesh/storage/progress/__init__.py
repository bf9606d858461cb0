"""How far a command has come, told on stderr: bars on a terminal, or a line every few seconds.

`bars.Bars` and `lines.Lines` only count the events that they take, and write in a thread of their own. Rich is imported
in that thread, and only when the work takes so long that there is something to see.
"""

from __future__ import annotations

from typing import Protocol

from cloudmesh.storage.transfer.events import Observer


class Display(Protocol):
    """Tells of the progress, from its making on.

    Attributes:
        observe: takes the events.
    """

    observe: Observer

    def close(self, *, final: bool) -> None:
        """Leave the screen to others; ``final``: the work is over."""
