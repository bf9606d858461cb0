"""The fault proxies do exactly what they say, seen from a plain socket and from behind."""

from __future__ import annotations

import base64
import http.client
import socket
import threading
from collections.abc import Callable, Iterator

import pytest

from deploy.servers import HOST, Wsgidav
from tests.faults import FaultProxy, HttpFaults

MakeProxy = Callable[[int], FaultProxy]
MakeFront = Callable[[int], HttpFaults]


class Echo:
    """Sends back what it gets, and remembers it."""

    def __init__(self) -> None:
        self.listener = socket.create_server((HOST, 0))
        self.port: int = self.listener.getsockname()[1]
        self.received = bytearray()
        self.ended = threading.Semaphore(0)
        threading.Thread(target=self.accept, daemon=True).start()

    def accept(self) -> None:
        while True:
            try:
                connection, _ = self.listener.accept()
            except OSError:
                return
            threading.Thread(target=self.serve, args=(connection,), daemon=True).start()

    def serve(self, connection: socket.socket) -> None:
        with connection:
            try:
                while piece := connection.recv(65536):
                    self.received += piece
                    connection.sendall(piece)
            except OSError:
                pass
        self.ended.release()


@pytest.fixture
def echo() -> Iterator[Echo]:
    server = Echo()
    yield server
    server.listener.shutdown(socket.SHUT_RDWR)
    server.listener.close()


def connect(port: int) -> socket.socket:
    return socket.create_connection((HOST, port), timeout=20)


def read_all(connection: socket.socket) -> bytes:
    data = bytearray()
    while piece := connection.recv(65536):
        data += piece
    return bytes(data)


def test_without_faults_everything_passes(echo: Echo, fault_proxy: MakeProxy) -> None:
    proxy = fault_proxy(echo.port)
    data = bytes(range(256)) * 4000
    with connect(proxy.port) as connection:

        def send() -> None:
            connection.sendall(data)
            connection.shutdown(socket.SHUT_WR)

        sender = threading.Thread(target=send)
        sender.start()
        assert read_all(connection) == data
        sender.join()
    assert proxy.passed == {"up": len(data), "down": len(data)}
    assert (proxy.accepted, proxy.fired) == (1, 0)


def test_cut_down_gives_exactly_the_bytes_then_the_end(echo: Echo, fault_proxy: MakeProxy) -> None:
    proxy = fault_proxy(echo.port)
    proxy.cut(after=7)
    with connect(proxy.port) as connection:
        connection.sendall(b"0123456789")
        assert read_all(connection) == b"0123456"
    with connect(proxy.port) as connection:  # the second is left alone
        connection.sendall(b"0123456789")
        connection.shutdown(socket.SHUT_WR)
        assert read_all(connection) == b"0123456789"
    assert proxy.fired == 1


def test_cut_up_lets_exactly_the_bytes_reach_the_server(echo: Echo, fault_proxy: MakeProxy) -> None:
    proxy = fault_proxy(echo.port)
    proxy.cut(after=5, direction="up", times=2)
    for _ in range(2):
        with connect(proxy.port) as connection:
            connection.sendall(b"0123456789")
            assert echo.ended.acquire(timeout=20)
    assert bytes(echo.received) == b"0123401234"
    assert proxy.fired == 2


def test_a_fault_counts_from_when_it_was_set(echo: Echo, fault_proxy: MakeProxy) -> None:
    proxy = fault_proxy(echo.port)
    with connect(proxy.port) as connection:
        connection.sendall(b"before")
        assert connection.recv(100) == b"before"
        proxy.cut(after=2)
        connection.sendall(b"after")
        assert read_all(connection) == b"af"


def test_reset_is_seen_as_a_reset(echo: Echo, fault_proxy: MakeProxy) -> None:
    proxy = fault_proxy(echo.port)
    proxy.reset(after=0)
    with connect(proxy.port) as connection:
        connection.sendall(b"x")
        with pytest.raises(ConnectionResetError):
            connection.recv(1)


def test_stall_holds_the_rest_until_healed(echo: Echo, fault_proxy: MakeProxy) -> None:
    proxy = fault_proxy(echo.port)
    proxy.stall(after=3)
    with connect(proxy.port) as connection:
        connection.sendall(b"0123456789")
        assert connection.recv(3, socket.MSG_WAITALL) == b"012"
        connection.settimeout(0.2)
        with pytest.raises(TimeoutError):
            connection.recv(1)
        connection.settimeout(20)
        proxy.heal()
        assert connection.recv(7, socket.MSG_WAITALL) == b"3456789"
    assert proxy.fired == 1


def test_slow_passes_everything(echo: Echo, fault_proxy: MakeProxy) -> None:
    proxy = fault_proxy(echo.port)
    proxy.slow(bytes_per_second=20_000)
    with connect(proxy.port) as connection:
        connection.sendall(bytes(5000))
        connection.shutdown(socket.SHUT_WR)
        assert read_all(connection) == bytes(5000)
    assert proxy.fired == 1


def test_refuse_then_heal(echo: Echo, fault_proxy: MakeProxy) -> None:
    proxy = fault_proxy(echo.port)
    with connect(proxy.port) as connection:
        connection.sendall(b"x")
        assert connection.recv(1) == b"x"
        proxy.refuse()
        assert connection.recv(1) == b""
    with pytest.raises(ConnectionRefusedError):
        connect(proxy.port)
    proxy.heal()
    with connect(proxy.port) as connection:
        connection.sendall(b"y")
        assert connection.recv(1) == b"y"


def test_a_dead_server_behind_ends_the_connection(dead_port: int, fault_proxy: MakeProxy) -> None:
    with connect(fault_proxy(dead_port).port) as connection:
        assert connection.recv(1) == b""


def test_http_front_answers_then_passes_on_one_connection(wsgidav: Wsgidav, http_faults: MakeFront) -> None:
    front = http_faults(wsgidav.port)
    front.answer(429, times=2, method="PUT", retry_after=3, body=b"slow down")
    connection = http.client.HTTPConnection(HOST, front.port, timeout=20)
    login = base64.b64encode(f"{wsgidav.username}:{wsgidav.password}".encode()).decode()
    headers = {"Authorization": f"Basic {login}"}
    body = bytes(range(256)) * 3000
    statuses = []
    for _ in range(3):
        connection.request("PUT", "/front.bin", body=body, headers=headers)
        with connection.getresponse() as response:
            statuses.append((response.status, response.getheader("Retry-After"), response.read()[:9]))
    assert statuses[:2] == [(429, "3", b"slow down")] * 2
    assert statuses[2][0] == 201
    assert (wsgidav.data / "front.bin").read_bytes() == body

    connection.request(
        "PUT", "/front.bin", body=(body[n : n + 1000] for n in range(0, len(body), 1000)), headers=headers
    )
    with connection.getresponse() as response:
        assert response.status in (200, 204)
        response.read()
    connection.request("GET", "/front.bin", headers=headers)
    with connection.getresponse() as response:
        assert response.read() == body
    assert [request.method for request in front.requests] == ["PUT"] * 4 + ["GET"]
    assert (front.fired, front.accepted) == (2, 1)
    connection.close()


def test_http_front_chooses_by_path_and_order(wsgidav: Wsgidav, http_faults: MakeFront) -> None:
    front = http_faults(wsgidav.port)
    front.answer(503, path="^/only", after=1, times=None)

    def status(target: str) -> int:
        connection = http.client.HTTPConnection(HOST, front.port, timeout=20)
        connection.request("GET", target)
        with connection.getresponse() as response:
            got = response.status
        connection.close()
        return got

    assert [status("/only"), status("/only"), status("/other"), status("/only")] == [401, 503, 401, 503]
    front.heal()
    assert status("/only") == 401


def test_http_front_answers_at_once_who_waits_for_a_go_ahead(wsgidav: Wsgidav, http_faults: MakeFront) -> None:
    front = http_faults(wsgidav.port)
    front.answer(500, method="PUT")
    with connect(front.port) as connection:
        connection.sendall(b"PUT /x HTTP/1.1\r\nHost: x\r\nContent-Length: 9999\r\nExpect: 100-continue\r\n\r\n")
        assert read_all(connection).startswith(b"HTTP/1.1 500 ")
