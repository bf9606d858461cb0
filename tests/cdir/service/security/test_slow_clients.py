"""Attacks by being slow, or by coming often, one by one, against the real server."""

from __future__ import annotations

import socket
import time
from collections.abc import Callable

import pytest

from cloudmesh.cdir.service.security.secret import new_secret
from tests.cdir.service.security.running import HOST, Running, read_all, wait_for


def seconds_until_closed(connection: socket.socket, trickle: bytes = b"") -> float:
    """How long the server keeps the connection while ``trickle`` is sent again and again."""
    began = time.monotonic()
    connection.settimeout(0.2)
    while time.monotonic() - began < 60:
        try:
            if trickle:
                connection.sendall(trickle)
            if not connection.recv(65536):
                break
        except TimeoutError:
            continue
        except OSError:
            break
    return time.monotonic() - began


@pytest.fixture
def impatient(start: Callable[..., Running]) -> Running:
    """A service that waits for a second where others wait for 10 or 60."""
    return start(head_s=1, stall_s=1)


SOON_S = 8
"""A second, and what a busy machine needs."""


@pytest.mark.parametrize("trickle", [b"", b"X-A: b\r\n"])
@pytest.mark.parametrize("sent", [b"", b"GET /healthz HTTP/1.1\r\nHost: 127.0.0.1\r\n"])
def test_a_head_that_does_not_come_ends_the_connection(impatient: Running, sent: bytes, trickle: bytes) -> None:
    with impatient.connect() as connection:
        connection.sendall(sent)
        assert seconds_until_closed(connection, trickle if sent else b"") < SOON_S


def test_a_second_head_that_does_not_come_ends_the_connection(impatient: Running) -> None:
    with impatient.connect() as connection:
        connection.sendall(f"GET /healthz HTTP/1.1\r\n{HOST}\r\n".encode())
        assert connection.recv(65536).startswith(b"HTTP/1.1 200")
        connection.sendall(b"GET")
        assert seconds_until_closed(connection) < SOON_S


@pytest.mark.parametrize("trickle", [b"", b"x"])
def test_a_body_that_does_not_come_ends_the_connection(impatient: Running, trickle: bytes) -> None:
    token = impatient.tokens.create(scope=["write"]).token
    head = f"PUT /files/x HTTP/1.1\r\n{HOST}Authorization: Bearer {token}\r\nContent-Length: 100000\r\n\r\n"
    with impatient.connect() as connection:
        connection.sendall(head.encode())
        assert seconds_until_closed(connection, trickle) < SOON_S


def test_an_answer_that_is_not_read_ends_the_connection(impatient: Running) -> None:
    token = impatient.tokens.create().token
    with impatient.connect() as connection:
        connection.sendall(f"GET /much HTTP/1.1\r\n{HOST}Authorization: Bearer {token}\r\n\r\n".encode())
        wait_for(lambda: impatient.connections() == 1)
        wait_for(lambda: impatient.connections() == 0)  # what is tested is that nothing is read until then
        assert len(read_all(connection)) < 64 << 20


def test_slow_clients_keep_nobody_out(impatient: Running) -> None:
    slow = [impatient.connect() for _ in range(50)]
    try:
        for one in slow:
            one.sendall(b"GET /hea")
        assert impatient.ask("GET", "/healthz").status == 200
    finally:
        for one in slow:
            one.close()


def test_one_address_has_so_many_connections(start: Callable[..., Running]) -> None:
    service = start(connections_each=5)
    held = [service.connect() for _ in range(5)]
    try:
        wait_for(lambda: service.raw(f"GET /healthz HTTP/1.1\r\n{HOST}\r\n".encode()) == b"")
    finally:
        for one in held:
            one.close()
    wait_for(lambda: b"200 OK" in service.raw(f"GET /healthz HTTP/1.1\r\n{HOST}Connection: close\r\n\r\n".encode()))


# ---- how often -------------------------------------------------------------------------------------------------------


def test_a_token_that_asks_too_often_waits(start: Callable[..., Running]) -> None:
    service = start(requests_per_s=0.01, burst=3)
    busy, other = service.tokens.create().token, service.tokens.create().token
    answers = [service.ask("GET", "/read", busy) for _ in range(5)]
    assert [one.status for one in answers][:3] == [200, 200, 200]
    assert answers[-1].status == 429
    assert 0 < int(answers[-1].headers["retry-after"]) <= 100
    assert service.ask("GET", "/read", other).status == 200


def test_an_address_that_guesses_waits_and_its_tokens_do_not(start: Callable[..., Running]) -> None:
    service = start(strangers_per_s=0.001, strangers_burst=3)
    statuses = [service.ask("GET", "/read", "cdir_" + new_secret()).status for _ in range(5)]
    assert statuses == [401, 401, 401, 429, 429]
    assert service.ask("GET", "/share/1.1.x").status == 429
    assert service.ask("GET", "/read", service.tokens.create().token).status == 200
