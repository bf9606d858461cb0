"""Attacks by what is too large, compressed or smuggled, one by one, against the real server."""

from __future__ import annotations

import gzip
import time
from collections.abc import Callable
from contextlib import suppress

import pytest

from tests.cdir.service.security.running import HOST, Running, read_all


def test_a_body_that_says_it_is_too_large_is_refused_unread(service: Running, token: str) -> None:
    head = f"POST /write HTTP/1.1\r\n{HOST}Authorization: Bearer {token}\r\nContent-Length: 99999999999\r\n\r\n"
    assert service.raw(head.encode()).startswith(b"HTTP/1.1 413")


def test_a_body_that_turns_out_too_large_is_refused(start: Callable[..., Running]) -> None:
    service = start(max_body_bytes=1000, max_upload_bytes=5000)
    token = service.tokens.create(scope=["write"]).token
    piece = b"x" * 600
    for method, path, good, bad in (("POST", "/write", 1, 2), ("PUT", "/files/x", 8, 9)):
        for pieces, status in ((good, 422 if method == "POST" else 200), (bad, 413)):
            answer = service.ask(
                method,
                path,
                token,
                body=iter([piece] * pieces),
                encode_chunked=True,
                headers={"Transfer-Encoding": "chunked"},
            )
            assert answer.status == status, (method, pieces, answer.body)


@pytest.mark.parametrize("encoding", ["gzip", "br", "deflate", "zstd", "identity, gzip", "GZIP"])
def test_a_compressed_body_is_refused(service: Running, token: str, encoding: str) -> None:
    headers = {"Content-Encoding": encoding}
    bomb = gzip.compress(bytes(10 << 20))
    assert service.ask("POST", "/write", token, headers, bomb).status == 415
    assert service.ask("PUT", "/files/x", token, headers, bomb).status == 415


@pytest.mark.parametrize("length", ["-1", "1e9", "0x10", "1, 2", "१"])
def test_a_length_that_is_none_is_refused(service: Running, token: str, length: str) -> None:
    head = f"POST /write HTTP/1.1\r\n{HOST}Authorization: Bearer {token}\r\nContent-Length: {length}\r\n\r\n"
    assert service.raw(head.encode()).startswith((b"HTTP/1.1 400", b"HTTP/1.1 413"))


def test_a_smuggled_request_is_refused(service: Running, token: str) -> None:
    head = f"POST /write HTTP/1.1\r\n{HOST}Authorization: Bearer {token}\r\n"
    both = "Content-Length: 5\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n\r\n0\r\n\r\n"
    smuggled = "GET /read HTTP/1.1\r\nHost: evil.example\r\n\r\n"
    assert service.raw(f"{head}{both}{smuggled}".encode()).count(b"HTTP/1.1 200") <= 1


def test_a_head_that_is_too_large_is_refused(service: Running, token: str) -> None:
    for size, status in ((60_000, 200), (70_000, 431)):
        assert service.ask("GET", "/read", token, {"X-Filler": "x" * size}).status == status


def test_a_head_without_end_is_refused(start: Callable[..., Running]) -> None:
    service = start(head_s=60)
    began = time.monotonic()
    line = b"X-Filler: " + b"x" * 1000 + b"\r\n"
    with service.connect() as connection:
        connection.sendall(f"GET /healthz HTTP/1.1\r\n{HOST}".encode())
        with suppress(OSError):  # closed in the middle
            for _ in range(1000):
                connection.sendall(line)
        assert not read_all(connection).startswith(b"HTTP/1.1 200")
    assert time.monotonic() - began < service.settings.head_s / 2
