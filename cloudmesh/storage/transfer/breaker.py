"""Giving a run up when a service has stopped working, instead of trying it again for every file that is left."""

from __future__ import annotations

import threading

from cloudmesh.storage.errors import (
    AuthenticationFailed,
    QuotaExceeded,
    RateLimited,
    StorageError,
    Unavailable,
    VaultError,
)

_OF_THE_SERVICE = (AuthenticationFailed, QuotaExceeded, RateLimited, Unavailable, VaultError)
"""Errors that the next file will meet as well."""

_IN_A_ROW = 20


class Breaker:
    """Counts failures of the service itself that come without any success between them; thread-safe.

    Attributes:
        tripped: the error that will not end, once there are too many in a row; None before.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._failures = 0
        self.tripped: StorageError | None = None

    def succeeded(self) -> None:
        """Begin to count anew."""
        self._failures = 0

    def failed(self, error: StorageError, *, silent: bool = False) -> None:
        """Count a failure, if it is one of the service; one that was ``silent`` is enough, as each more takes as long.

        Args:
            error: the failure.
            silent: whether nothing came for so long that asking again is waiting again.
        """
        if isinstance(error, _OF_THE_SERVICE):
            with self._lock:
                self._failures += 1
                if silent or self._failures >= _IN_A_ROW:
                    self.tripped = self.tripped or error
