"""What happens during long work, told to whoever listens, such as the terminal's progress bars."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

EventKind = Literal["planned", "started", "moved", "done", "skipped", "failed"]


@dataclass(frozen=True, slots=True)
class Event:
    """One thing that happened.

    Attributes:
        kind: ``planned`` (a file is now part of the work), ``started``, ``moved`` (bytes went through), ``done``,
            ``skipped`` (it was the same already) or ``failed``.
        name: the file, as the user would type it.
        size: bytes: the file's for ``planned``, ``started``, ``done`` and ``skipped``; those just moved for ``moved``.
        error: the sentence of a failure.
    """

    kind: EventKind
    name: str
    size: int = 0
    error: str = ""


Observer = Callable[[Event], None]
"""Takes events, from several threads at once; must return quickly and not raise."""


def nobody(event: Event) -> None:
    """Listen to nothing: the observer where none was given."""
