"""A large file goes through the service in memory that does not grow with it."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path

import pytest

from cloudmesh.cdir.service.state import current
from tests.cdir.service.conftest import Start

PIECE = bytes(1 << 20)
PIECES = 512
SIZE = PIECES * len(PIECE)
LIMIT = 200_000_000
"""Bytes that the process may have had at most. Less than the file, so that it cannot have held that."""


def pieces() -> Iterator[bytes]:
    for _ in range(PIECES):
        yield PIECE


def peak(pid: int) -> int:
    """The most memory that a process had so far, in bytes."""
    lines = Path(f"/proc/{pid}/status").read_text("utf-8").splitlines()
    return int(next(line.split()[1] for line in lines if line.startswith("VmHWM"))) * 1024


@pytest.mark.parametrize("service", ["one", "aws"])
def test_a_large_file_is_streamed(start: Start, service: str) -> None:
    client = start()
    pid = current().pid
    assert pid is not None
    headers = {"Content-Length": str(SIZE)} if service == "one" else {}  # else in chunks: nobody knows how long it is
    made = client.put(f"/files/{service}/big", content=pieces(), headers=headers, timeout=300)
    assert (made.status_code, made.json()["size"]) == (201, SIZE)
    seen = hashlib.sha256()
    with client.stream("GET", "/files/big", timeout=300) as answer:
        assert answer.headers["content-length"] == str(SIZE)
        for piece in answer.iter_raw():
            seen.update(piece)
    assert seen.hexdigest() == made.json()["sha256"]
    assert peak(pid) < LIMIT
