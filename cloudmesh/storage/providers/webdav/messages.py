"""What comes back from a service."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Answer:
    """A whole answer; header names are lower-case, the values of repeated ones joined by a comma."""

    status: int
    headers: Mapping[str, str]
    body: bytes = b""
