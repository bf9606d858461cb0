"""Temporary objects that scans come across: removed once it is certain that nobody works on them any more."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import suppress

from cloudmesh.storage import paths, presence
from cloudmesh.storage.errors import StorageError

OLD_SECONDS = 24 * 3600
"""So old is nothing that a process works on, if it cannot be told whether the process, on another computer, is there.

Who is slower than that fails to give the file its name, is told so, and has lost nothing.
"""


class Leftovers:
    """Temporary objects of one service. Threads may share it."""

    def __init__(self) -> None:
        self._seen: dict[str, int | None] = {}

    def see(self, path: str, changed_ns: int | None) -> bool:
        """Remember what a scan came across, if it is one; tell whether it is.

        Args:
            path: of anything.
            changed_ns: when it was written last, by the service's clock; None = not known.
        """
        if not paths.basename(path).startswith(paths.TEMPORARY_PREFIX):
            return False
        self._seen[path] = changed_ns
        return True

    def clear(self, remove: Callable[[str], None]) -> None:
        """Remove, by the service's own way, those that nobody works on; what cannot be removed is left."""
        oldest_ns = time.time_ns() - int(OLD_SECONDS * 1e9)
        while self._seen:
            path, changed_ns = self._seen.popitem()
            is_old = changed_ns is not None and changed_ns < oldest_ns
            if is_old or presence.is_abandoned(paths.basename(path)):
                with suppress(StorageError):
                    remove(path)
