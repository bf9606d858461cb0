"""Hashes of streams."""

from __future__ import annotations

import hashlib
from collections.abc import Container, Iterable

from cloudmesh.storage.abc import StorageABC

COMPUTABLE = ("sha256", "sha1", "md5")
"""The hashes that services report and that we can compute, the strongest first."""


def strongest(reported: Container[str]) -> str | None:
    """Return the strongest hash among those reported that we can compute; None where there is none."""
    return next((algorithm for algorithm in COMPUTABLE if algorithm in reported), None)


def digest_of(pieces: Iterable[bytes], algorithm: str = "sha256") -> str:
    """Return the hash of a stream, lower-case hex."""
    state = hashlib.new(algorithm, usedforsecurity=False)
    for piece in pieces:
        state.update(piece)
    return state.hexdigest()


def digest(service: StorageABC, path: str, algorithm: str = "sha256", *, if_match: str | None = None) -> str:
    """Read a file and return its hash, lower-case hex. Raises as `StorageABC.open_read`."""
    with service.open_read(path, if_match=if_match) as reader:
        return digest_of(reader, algorithm)
