"""What happens during long work, told to whoever listens: progress bars, jobs, any program.

A file of the work is ``planned`` once and ends once, as ``done``, ``skipped`` or ``failed``; one over a mebibyte is
also ``started`` before its first ``moved``, again where it begins anew. All events of a file carry the same name. When
nothing more will be planned ``planned_all`` comes. Files removed by a mirror are not planned; each is ``removed``, and
only one that cannot be is ``planned`` and ``failed``. What a run that ends early leaves does not end. A dry run tells
nothing.
`cloudmesh.storage.transfer.totals` counts events.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

EventKind = Literal["planned", "planned_all", "started", "moved", "done", "skipped", "failed", "removed"]


@dataclass(slots=True)
class Event:
    """One thing that happened; nobody changes it (a frozen class takes four times as long to make).

    Attributes:
        kind: ``planned`` (a file is part of the work), ``planned_all`` (the total is final), ``started``, ``moved``
            (bytes went through), ``done``, ``skipped`` (it was the same already), ``failed`` or ``removed``.
        name: the file, as the user would type it; empty for ``planned_all``.
        size: bytes: those just moved for ``moved``, the file's for the others.
        error: the sentence of a failure.
    """

    kind: EventKind
    name: str = ""
    size: int = 0
    error: str = ""


Observer = Callable[[Event], None]
"""Takes events, from several threads at once; must return quickly and not raise."""


def nobody(event: Event) -> None:
    """Listen to nothing: the observer where none was given."""
