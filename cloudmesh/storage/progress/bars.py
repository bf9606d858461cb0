"""Bars on the terminal while work goes on."""

from __future__ import annotations

import threading

from cloudmesh.storage.transfer.events import Observer
from cloudmesh.storage.transfer.totals import Totals

_DELAY_S = 0.3
"""Work that is done sooner shows none: rich alone takes a tenth of a second to import."""

_EVERY_S = 0.1


class Bars:
    """Bars on stderr, until closed; then nothing is left of them.

    Attributes:
        observe: takes the events.
    """

    def __init__(self) -> None:
        self.observe: Observer = Totals()
        self._closed = threading.Event()
        self._thread = threading.Thread(target=self._run, args=(self.observe,), name="progress", daemon=True)
        self._thread.start()

    def close(self, *, final: bool) -> None:
        """Take them off the terminal."""
        self._closed.set()
        self._thread.join()

    def _run(self, totals: Totals) -> None:
        if not self._closed.wait(_DELAY_S):
            from cloudmesh.storage.progress.screen import draw

            draw(totals, self._closed, _EVERY_S)
