"""Many HTTP requests in one thread, against a server of our own that answers as the test says."""

from __future__ import annotations

import ssl
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pycurl
import pytest
import trustme

from cloudmesh.storage.abc import Timeouts
from cloudmesh.storage.errors import SourceChanged
from cloudmesh.storage.http_body import Body
from cloudmesh.storage.http_multi import Answer, Failure, HttpMulti, Transfer
from cloudmesh.storage.http_source import Source


class _Server(ThreadingHTTPServer):
    """Echoes the body, or the path; ``/wait`` answers when `go` is set, ``/half`` and ``/half-head`` break off.

    ``/end`` closes unasked.

    Attributes:
        url: of the server.
        seen: method, path, body and the client's port of each request.
        under_way: how many requests are waiting, and how many were at most.
    """

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.url = f"http://127.0.0.1:{self.server_port}"
        self.seen: list[tuple[str, str, bytes, int]] = []
        self.go = threading.Event()
        self.lock = threading.Lock()
        self.under_way = self.at_most = 0

    def handle_error(self, request: object, client_address: object) -> None:
        """Clients that leave are what is tested here."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: _Server

    def do_any(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", "0")))
        with self.server.lock:
            self.server.seen.append((self.command, self.path, body, self.client_address[1]))
            self.server.under_way += 1
            self.server.at_most = max(self.server.at_most, self.server.under_way)
        if self.path.startswith("/wait"):
            self.server.go.wait(20)
        with self.server.lock:
            self.server.under_way -= 1
        if self.path == "/end":
            self.close_connection = True
            return
        data = body or self.path.encode()
        self.send_response(307 if self.path == "/moved" else 200)
        if self.path == "/half-head":
            self.flush_headers()
            self.close_connection = True
            return
        self.send_header("Content-Length", str(len(data) + (self.path == "/half")))
        self.send_header("Location", "/elsewhere")
        self.send_header("X-Text", "\u00e0\u0085b")
        self.send_header("X-Twice", "1")
        self.send_header("X-Twice", "2")
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(data)
        self.close_connection = self.path == "/half"

    do_GET = do_PUT = do_HEAD = do_POST = do_MKCOL = do_any

    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.fixture
def server() -> Iterator[_Server]:
    with _Server() as made:
        thread = threading.Thread(target=made.serve_forever, args=(0.05,))
        thread.start()
        yield made
        made.go.set()
        made.shutdown()
        thread.join()


@pytest.fixture
def multi() -> Iterator[HttpMulti]:
    made = HttpMulti(Timeouts(5, 20), 4)
    yield made
    made.close()


def answer(result: Answer | Failure) -> Answer:
    assert isinstance(result, Answer)
    return result


def test_every_kind_of_request(server: _Server, multi: HttpMulti) -> None:
    sent = [
        Transfer("GET", f"{server.url}/a%20b/../c", context=1),
        Transfer("PUT", f"{server.url}/put", body=b"x" * 3_000_000),
        Transfer("PUT", f"{server.url}/put", body=b"y" * 3_000_000, once=True),
        Transfer("PUT", f"{server.url}/empty", body=b""),
        Transfer("POST", f"{server.url}/post", body=b"p", headers=[("Content-Type", "text/plain")]),
        Transfer("HEAD", f"{server.url}/head"),
        Transfer("MKCOL", f"{server.url}/made"),
        Transfer("GET", f"{server.url}/moved"),
    ]
    results = dict(multi.run([None, *sent[:4], None, *sent[4:]]))
    assert [answer(results[one]).body for one in sent] == [
        b"/a%20b/../c",
        b"x" * 3_000_000,
        b"y" * 3_000_000,
        b"/empty",
        b"p",
        b"",
        b"/made",
        b"/moved",
    ]
    assert {answer(results[one]).status for one in sent[:-1]} == {200}
    assert answer(results[sent[-1]]).status == 307  # not followed
    headers = answer(results[sent[0]]).headers
    assert headers["x-twice"] == "1, 2"
    assert headers["x-text"] == "\u00e0\u0085b"
    assert sent[0].context == 1


def test_as_many_at_once_as_was_said_and_connections_are_kept(server: _Server, multi: HttpMulti) -> None:
    asked = 0

    def transfers() -> Iterator[Transfer]:
        nonlocal asked
        for number in range(40):
            asked += 1
            yield Transfer("GET", f"{server.url}/wait{number}")

    run = multi.run(transfers())
    assert asked == 0  # nothing happens before it is advanced
    threading.Timer(0.2, server.go.set).start()
    next(run)
    assert 4 <= asked <= 8
    assert server.at_most == 4
    assert sum(1 for _ in run) == 39
    answer(multi.request(Transfer("GET", f"{server.url}/one")))
    assert len({port for *_, port in server.seen}) == 4


def test_what_is_not_known_yet_does_not_hold_up_what_is(server: _Server, multi: HttpMulti) -> None:
    server.go.set()
    done: list[str] = []

    def transfers() -> Iterator[Transfer | None]:
        yield Transfer("GET", f"{server.url}/first")
        while not done:
            yield None
        yield Transfer("GET", f"{server.url}/second")

    for transfer, _ in multi.run(transfers()):
        done.append(transfer.url[-6:])
    assert done == ["/first", "second"]


def test_what_is_not_sent_comes_back_in_its_turn(server: _Server, multi: HttpMulti) -> None:
    sent = [Transfer("", "", context="refused"), Transfer("GET", f"{server.url}/a")]
    (refused, failure), (_, result) = multi.run(sent)
    assert refused.context == "refused"
    assert failure == Failure(0, "not sent")
    assert answer(result).body == b"/a"
    assert len(server.seen) == 1


def test_giving_up_closes_what_is_under_way(server: _Server, multi: HttpMulti) -> None:
    run = multi.run(Transfer("GET", f"{server.url}/{name}") for name in ("a", "wait1", "wait2", "wait3"))
    next(run)
    run.close()
    server.go.set()
    assert answer(multi.request(Transfer("GET", f"{server.url}/b"))).body == b"/b"
    waited = {port for _, path, _, port in server.seen if path.startswith("/wait")}
    asked = next(port for _, path, _, port in server.seen if path == "/b")
    assert asked not in waited


def test_an_error_of_the_requests_ends_the_run(server: _Server, multi: HttpMulti) -> None:
    def transfers() -> Iterator[Transfer]:
        yield Transfer("GET", f"{server.url}/a")
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        list(multi.run(transfers(), parallel=1))
    assert answer(multi.request(Transfer("GET", f"{server.url}/b"))).body == b"/b"


@pytest.mark.parametrize(
    ("path", "code"),
    [
        ("half", pycurl.E_PARTIAL_FILE),
        ("half-head", pycurl.E_GOT_NOTHING),
        ("end", pycurl.E_GOT_NOTHING),
        (None, pycurl.E_COULDNT_CONNECT),
    ],
)
def test_failures(server: _Server, multi: HttpMulti, dead_port: int, path: str | None, code: int) -> None:
    url = f"http://127.0.0.1:{dead_port}/" if path is None else f"{server.url}/{path}"
    result = multi.request(Transfer("GET", url))
    assert isinstance(result, Failure)
    assert (result.code, result.stalled) == (code, False)


def test_a_body_goes_where_the_sink_says(server: _Server, multi: HttpMulti) -> None:
    pieces: list[bytes] = []
    heads: list[Answer] = []

    def sink(head: Answer) -> Callable[[bytes], object] | None:
        heads.append(head)
        return pieces.append if head.status == 200 else None

    data = b"x" * 3_000_000
    good = answer(multi.request(Transfer("PUT", f"{server.url}/put", body=data, sink=sink)))
    assert (good.body, b"".join(pieces)) == (b"", data)
    pieces.clear()
    moved = answer(multi.request(Transfer("GET", f"{server.url}/moved", sink=sink)))
    assert (moved.body, pieces) == (b"/moved", [])
    assert [(head.status, head.body, head.headers["x-twice"]) for head in heads] == [
        (200, b"", "1, 2"),
        (307, b"", "1, 2"),
    ]
    assert answer(multi.request(Transfer("GET", f"{server.url}/a"))).body == b"/a"


@pytest.mark.parametrize("at_once", [False, True])
def test_an_error_of_a_sink_ends_the_run(server: _Server, multi: HttpMulti, at_once: bool) -> None:
    def refuse(_: object) -> None:
        raise ZeroDivisionError

    def sink(head: Answer) -> Callable[[bytes], object]:
        if at_once:
            refuse(head)
        return refuse

    with pytest.raises(ZeroDivisionError):
        list(multi.run(Transfer("GET", f"{server.url}/{name}", sink=sink) for name in "ab"))
    assert answer(multi.request(Transfer("GET", f"{server.url}/c"))).body == b"/c"


def test_a_body_comes_from_its_source(server: _Server, multi: HttpMulti) -> None:
    def put(pieces: Iterable[bytes], size: int) -> Transfer:
        return Transfer("PUT", f"{server.url}/put", source=Source(Body(lambda: pieces, size), "it", once=True))

    pieces = [b"x" * 1_000_000, b"", b"y" * 2_000_000]
    assert answer(multi.request(put(pieces, 3_000_000))).body == b"".join(pieces)
    for bad in (pieces[:1], [*pieces, b"1"]):
        with pytest.raises(SourceChanged):
            multi.request(put(bad, 3_000_000))
    assert answer(multi.request(Transfer("GET", f"{server.url}/a"))).body == b"/a"


def test_stall_ends_only_what_stalls(server: _Server) -> None:
    impatient = HttpMulti(Timeouts(5, 0.4), 4)
    urls = [f"{server.url}/{name}" for name in ("wait", "a", "b", "c", "d")]
    results = {transfer.url: result for transfer, result in impatient.run(Transfer("GET", url) for url in urls)}
    stalled = results.pop(urls[0])
    assert isinstance(stalled, Failure)
    assert (stalled.code, stalled.stalled) == (pycurl.E_OPERATION_TIMEDOUT, True)
    assert all(isinstance(result, Answer) for result in results.values())
    impatient.close()


def test_time_that_the_caller_takes_is_no_stall(server: _Server) -> None:
    impatient = HttpMulti(Timeouts(5, 0.4), 4)
    run = impatient.run(Transfer("GET", f"{server.url}/{name}") for name in ("a", "wait1", "wait2"))
    next(run)
    time.sleep(0.6)
    server.go.set()
    assert [answer(result).status for _, result in run] == [200, 200]
    impatient.close()


@pytest.mark.parametrize(("once", "times"), [(True, 1), (False, 2)])
def test_a_request_for_once_is_not_repeated_on_a_connection_that_broke(
    server: _Server, multi: HttpMulti, once: bool, times: int
) -> None:
    answer(multi.request(Transfer("GET", f"{server.url}/a")))
    result = multi.request(Transfer("PUT", f"{server.url}/end", body=b"x", once=once))
    assert isinstance(result, Failure)
    assert [path for _, path, _, _ in server.seen].count("/end") == times


def test_closed_while_in_use(server: _Server, multi: HttpMulti) -> None:
    run = multi.run(Transfer("GET", f"{server.url}/{number}") for number in range(3))
    next(run)
    multi.close()
    assert [answer(result).status for _, result in run] == [200, 200]


def test_certificates_are_checked_against_those_of_the_environment(
    server: _Server, multi: HttpMulti, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    authority = trustme.CA()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(context)
    server.socket = context.wrap_socket(server.socket, server_side=True)
    get = Transfer("GET", f"{server.url.replace('http', 'https')}/a")
    refused = multi.request(get)
    assert isinstance(refused, Failure)
    assert refused.code == pycurl.E_PEER_FAILED_VERIFICATION
    assert refused.verified != 0
    authority.cert_pem.write_to_path(tmp_path / "authority.pem")
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "authority.pem"))
    trusting = HttpMulti(Timeouts(5, 20), 4)
    assert answer(trusting.request(get)).body == b"/a"
    trusting.close()


def test_threads_do_not_wait_for_each_other(server: _Server, multi: HttpMulti) -> None:
    waiting = Transfer("GET", f"{server.url}/wait")
    thread = threading.Thread(target=multi.request, args=(waiting,))
    thread.start()
    answer(multi.request(Transfer("GET", f"{server.url}/a")))
    server.go.set()
    thread.join(20)
    assert not thread.is_alive()
