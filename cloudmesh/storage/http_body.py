"""The body of a request over HTTP as a stream."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Body:
    """What is sent: ``open`` gives the pieces; ``size`` in bytes or None; ``replayable`` as in `Content`."""

    open: Callable[[], Iterable[bytes]]
    size: int | None
    replayable: bool = True

    @classmethod
    def of_bytes(cls, data: bytes) -> Body:
        """The body that ``data`` is."""
        return cls(open=lambda: (data,), size=len(data))
