"""What could not be listed when two trees are compared."""

from __future__ import annotations

from cloudmesh.storage.errors import StorageError


class Unlisted:
    """Places that a side of two trees could not list, so that nothing is known of what is in them, on either side.

    Attributes:
        failures: by its path below the top, each such place and why.
    """

    def __init__(self) -> None:
        self.failures: list[tuple[str, StorageError]] = []
        self._places: set[bytes] = set()

    def add(self, name: str, error: StorageError) -> None:
        """Take a directory (or a single file), by its path below the top."""
        self.failures.append((name, error))
        self._places.add(name.encode("utf-8", "surrogateescape"))

    def covers(self, key: bytes) -> bool:
        """Tell whether what has this place in listings is such a place, or lies in one."""
        if not self._places:
            return False
        parts = key.rstrip(b"/").split(b"/")
        return any(b"/".join(parts[:depth]) in self._places for depth in range(1, len(parts) + 1))
