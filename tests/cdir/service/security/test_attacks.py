"""Attacks on the service, one by one, against the real server."""

from __future__ import annotations

import gzip
import json
import re
import socket
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from urllib.parse import quote, unquote

import pytest

from cloudmesh.cdir.service.security.principal import SCOPES
from cloudmesh.cdir.service.security.secret import new_secret
from tests.cdir.service.security.running import Running, read_all

HOST = "Host: 127.0.0.1\r\n"


@pytest.fixture
def token(service: Running) -> str:
    """A token that may do everything."""
    return service.tokens.create(scope=list(SCOPES)).token


# ---- paths -----------------------------------------------------------------------------------------------------------

TRAVERSALS = [
    "/files/../outside",
    "/files/a/../../outside",
    "/files/..",
    "/files/%2e%2e/outside",
    "/files/%2E%2e/outside",
    "/files/.%2e/outside",
    "/files/..%2foutside",
    "/files/%2e%2e%2foutside",
    "/files/a%2f..%2f..%2foutside",
    "/files/%2f..%2foutside",
    "/files/%c0%ae%c0%ae/outside",
    "/files/%e0%80%ae%e0%80%ae/outside",
    "/files/%c0%afoutside",
    "/files/%ff",
    "/files/outside%00.txt",
    "/files/%",
    "/files/%2",
    "/files/%zz",
    "/files/%u002e%u002e/outside",
    "//files/../outside",
    "/files/x/%2e%2e",
]

LITERAL = [
    "/files/%252e%252e/outside",
    "/files/%252e%252e%252foutside",
    "/files/..%5coutside",
    "/files/..%255coutside",
    "/files/..;/outside",
    "/files/...//outside",
    "/files/....//outside",
    "/files/%ef%bc%8e%ef%bc%8e/outside",
    "/files/~root/outside",
    "/files//etc/passwd",
    "/files/%2fetc%2fpasswd",
    "/files/%2f%2fetc/passwd",
    "/files/file:%2f%2f%2fetc/passwd",
]
"""Names that look like a way out and are names like any other: nothing decodes or resolves them a second time."""


@pytest.mark.parametrize("path", TRAVERSALS)
def test_a_path_that_leads_out_is_refused(service: Running, token: str, path: str) -> None:
    (service.root.parent / "outside").write_text("secret")
    answer = service.ask("GET", path, token)
    assert answer.status == 400, answer.body
    assert b"secret" not in answer.body


@pytest.mark.parametrize("path", LITERAL)
def test_a_name_that_looks_like_a_way_out_is_a_name(service: Running, token: str, path: str) -> None:
    (service.root.parent / "outside").write_text("secret")
    answer = service.ask("GET", path, token)
    assert answer.status in (403, 404), answer.body
    assert b"secret" not in answer.body
    assert b"root:" not in answer.body


@pytest.mark.parametrize("target", ["*", "read", "http:/read", "//evil.example/read"])
def test_another_form_of_a_target_is_refused(service: Running, token: str, target: str) -> None:
    sent = f"GET {target} HTTP/1.1\r\n{HOST}Authorization: Bearer {token}\r\nConnection: close\r\n\r\n"
    assert service.raw(sent.encode()).startswith((b"HTTP/1.1 400", b"HTTP/1.1 404"))


@pytest.mark.parametrize("path", ["/../read", "/%2e%2e/read", "/files/../read"])
def test_a_whole_url_as_a_target_is_a_path_like_others(service: Running, token: str, path: str) -> None:
    bearer = f"Authorization: Bearer {token}\r\nConnection: close\r\n"
    sent = f"GET http://evil.example{path} HTTP/1.1\r\n{HOST}{bearer}\r\n"
    assert service.raw(sent.encode()).startswith(b"HTTP/1.1 400")
    other = sent.replace(HOST, "Host: evil.example\r\n").replace(path, "/read")
    assert service.raw(other.encode()).startswith((b"HTTP/1.1 400", b"HTTP/1.1 421"))


def test_an_endless_path_is_refused(service: Running, token: str) -> None:
    assert service.ask("GET", "/files/" + "a/" * 5000, token).status == 414
    assert service.ask("GET", "/read?" + "a" * 9000, token).status == 414


@pytest.mark.parametrize("target", ["/etc/passwd", "../outside", "../../../../../../etc/passwd"])
def test_a_symbolic_link_leads_out_of_no_local_service(service: Running, token: str, target: str) -> None:
    (service.root.parent / "outside").write_text("secret")
    (service.root / "link").symlink_to(target)
    (service.root / "folder").symlink_to(Path(target).parent)
    for path in ("/files/link", f"/files/folder/{Path(target).name}"):
        answer = service.ask("GET", path, token)
        assert answer.status in (400, 403, 404), answer.body
        assert b"secret" not in answer.body
        assert b"root:" not in answer.body


# ---- names of hosts and pages of others ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "host",
    ["evil.example", "evil.example:80", "127.0.0.1.evil.example", "localhost.evil.example", "169.254.169.254", "[::2]"],
)
def test_a_name_that_is_not_ours_is_refused(service: Running, token: str, host: str) -> None:
    assert service.ask("GET", "/read", token, {"Host": host}).status == 421
    assert service.ask("GET", "/healthz", headers={"Host": host}).status == 421


@pytest.mark.parametrize("host", ["127.0.0.1@evil.example", "127.0.0.1/evil", "", "a b", "127.0.0.1:99999x"])
def test_a_host_that_is_none_is_refused(service: Running, token: str, host: str) -> None:
    assert service.ask("GET", "/read", token, {"Host": host}).status == 400


@pytest.mark.parametrize("hosts", ["", f"{HOST}Host: evil.example\r\n"])
def test_no_host_and_two_hosts_are_refused(service: Running, token: str, hosts: str) -> None:
    sent = f"GET /read HTTP/1.1\r\n{hosts}Authorization: Bearer {token}\r\nConnection: close\r\n\r\n"
    assert service.raw(sent.encode()).startswith(b"HTTP/1.1 400")


@pytest.mark.parametrize("host", ["localhost", "LOCALHOST:1234", "127.0.0.1", "[::1]:80", "localhost."])
def test_our_own_names_are_known(service: Running, token: str, host: str) -> None:
    assert service.ask("GET", "/read", token, {"Host": host}).status == 200


def test_forwarded_headers_choose_neither_host_nor_address(service: Running, token: str) -> None:
    forged = {"X-Forwarded-Host": "evil.example", "X-Forwarded-For": "10.1.2.3", "Forwarded": "for=10.1.2.3"}
    assert service.ask("GET", "/read", token, forged).status == 200
    assert service.ask("GET", "/read", "cdir_" + new_secret(), forged).status == 401
    wait_for(lambda: ("127.0.0.1", "GET", "/read", "refused") in service.audit())


@pytest.mark.parametrize(
    "origin", ["https://evil.example", "null", "http://127.0.0.1", "http://127.0.0.1:1", "http://localhost:1", ""]
)
def test_a_page_of_others_cannot_use_a_session(service: Running, origin: str) -> None:
    cookie = service.sign_in()
    headers = {"Cookie": cookie, "Content-Type": "text/plain"} | ({"Origin": origin} if origin else {})
    assert service.ask("POST", "/write", headers=headers, body="{}").status == 403
    if origin:
        assert service.ask("GET", "/read", headers=headers).status == 403


@pytest.mark.parametrize("site", ["cross-site", "same-site"])
def test_what_the_browser_says_of_the_asking_page_is_heard(service: Running, site: str) -> None:
    headers = {"Cookie": service.sign_in(), "Sec-Fetch-Site": site}
    assert service.ask("GET", "/read", headers=headers | {"Sec-Fetch-Mode": "no-cors"}).status == 403
    assert service.ask("GET", "/read", headers=headers | {"Sec-Fetch-Mode": "navigate"}).status == 200
    assert service.ask("DELETE", "/delete", headers=headers | {"Sec-Fetch-Mode": "navigate"}).status == 403


def test_the_own_page_may_use_its_session(service: Running) -> None:
    headers = {"Cookie": service.sign_in(), "Origin": service.settings.url, "Sec-Fetch-Site": "same-origin"}
    assert service.ask("POST", "/write", headers=headers).status == 200
    assert service.ask("GET", "/admin", headers=headers).status == 200


def test_no_page_of_others_is_let_in(service: Running, token: str) -> None:
    asking = {"Origin": "https://evil.example", "Access-Control-Request-Method": "POST"}
    answer = service.ask("OPTIONS", "/write", headers=asking)
    assert answer.status == 401
    assert not [name for name in answer.headers if name.lower().startswith("access-control")]
    answer = service.ask("GET", "/read", token, {"Origin": "https://evil.example"})
    assert not [name for name in answer.headers if name.lower().startswith("access-control")]


# ---- tokens, sessions and share links --------------------------------------------------------------------------------


def test_nobody_comes_in_without_a_token(service: Running) -> None:
    for path in ("/read", "/unguarded", "/openapi.json", "/docs", "/files/a", "/nothing", "/signout", "/share/"):
        answer = service.ask("GET", path)
        assert answer.status in (401, 404), path
        told = json.loads(answer.body)
        assert told["status"] == answer.status
        assert told.keys() >= {"type", "title", "detail", "error", "subject", "why", "hint", "retryable"}
    assert service.ask("POST", "/healthz").status == 401
    assert service.ask("GET", "/healthz").status == 200


@pytest.mark.parametrize(
    "forged",
    [
        "cdir_" + "c2VjcmV0LXRoYXQtbm9ib2R5LWhhcy1ldmVyLWdpdmVuLW91dA"[:43],
        "cdir_" + "A" * 43,
        "cdir_",
        "",
        "x" * 5000,
        "' OR 1=1 --",
        "cdir_" + "é" * 43,
        "%00",
    ],
)
def test_a_forged_token_is_refused(service: Running, token: str, forged: str) -> None:
    answer = service.ask("GET", "/read", headers={"Authorization": f"Bearer {forged}".encode().decode("latin-1")})
    assert answer.status == 401
    assert answer.headers["www-authenticate"].startswith("Bearer")
    assert (forged.encode() not in answer.body) or not forged


def test_a_changed_token_is_refused(service: Running, token: str) -> None:
    assert service.ask("GET", "/read", token).status == 200
    for changed in (token[:-1], token + "A", token.lower(), token.removeprefix("cdir_"), token[:-1] + "!"):
        assert service.ask("GET", "/read", changed).status == 401, changed


def test_two_authorizations_are_refused(service: Running, token: str) -> None:
    bearer = f"Authorization: Bearer {token}\r\n"
    sent = f"GET /read HTTP/1.1\r\n{HOST}{bearer}{bearer}Connection: close\r\n\r\n"
    assert service.raw(sent.encode()).startswith(b"HTTP/1.1 401")


@pytest.mark.parametrize("kind", ["Basic", "Digest", "Token", "cdir"])
def test_another_kind_of_authorization_is_refused(service: Running, token: str, kind: str) -> None:
    assert service.ask("GET", "/read", headers={"Authorization": f"{kind} {token}"}).status == 401


def test_a_token_in_the_query_opens_nothing(service: Running, token: str) -> None:
    for name in ("token", "access_token", "code"):
        assert service.ask("GET", f"/read?{name}={token}").status == 401


def test_an_expired_token_is_refused(service: Running) -> None:
    token = service.tokens.create(expires=1.5).token
    assert service.ask("GET", "/read", token).status == 200
    wait_for(lambda: service.ask("GET", "/read", token).status == 401, 4)


def test_a_revoked_token_is_refused_within_a_second(service: Running) -> None:
    made = service.tokens.create()
    assert service.ask("GET", "/read", made.token).status == 200
    service.tokens.revoke(made.id)
    wait_for(lambda: service.ask("GET", "/read", made.token).status == 401, 1.5)


@pytest.mark.parametrize("scope", SCOPES)
@pytest.mark.parametrize(
    ("needed", "method", "path"),
    [
        ("read", "GET", "/read"),
        ("write", "POST", "/write"),
        ("delete", "DELETE", "/delete"),
        ("admin", "GET", "/admin"),
    ],
)
def test_a_scope_opens_what_needs_it_and_nothing_else(
    service: Running, scope: str, needed: str, method: str, path: str
) -> None:
    token = service.tokens.create(scope=[scope]).token  # type: ignore[list-item]
    assert service.ask(method, path, token).status == (200 if scope == needed else 403)


@pytest.mark.parametrize("path", ["/files/b/x", "/files/", "/files/ab/x", "/files/a%2f..%2fb/x", "/files/A/x"])
def test_a_token_with_a_prefix_stays_in_it(service: Running, path: str) -> None:
    for folder in ("a", "ab", "b"):
        (service.root / folder).mkdir()
        (service.root / folder / "x").write_text(folder)
    token = service.tokens.create(prefix="/a").token
    assert service.ask("GET", "/files/a/x", token).body == b"a"
    assert service.ask("GET", path, token).status in (400, 403)


def test_a_sign_in_link_works_once(service: Running) -> None:
    link = service.sessions.new_link(service.settings.url).removeprefix(service.settings.url)
    answer = service.ask("GET", link)
    assert answer.status == 200
    cookie = answer.headers["set-cookie"]
    assert "HttpOnly" in cookie
    assert "SameSite=Strict" in cookie
    assert service.ask("GET", link).status == 401
    assert service.ask("HEAD", link).status == 404
    assert service.ask("GET", "/signin?code=" + new_secret()).status == 401
    assert service.ask("GET", "/signin").status == 401


def test_looking_at_a_sign_in_link_does_not_use_it_up(service: Running) -> None:
    link = service.sessions.new_link(service.settings.url).removeprefix(service.settings.url)
    service.ask("HEAD", link)
    assert service.ask("GET", link).status == 200


def test_a_session_ends_with_signing_out(service: Running) -> None:
    headers = {"Cookie": service.sign_in(), "Origin": service.settings.url}
    assert service.ask("GET", "/read", headers=headers).status == 200
    assert service.ask("POST", "/signout", headers={"Cookie": headers["Cookie"]}).status == 403
    assert service.ask("POST", "/signout", headers=headers).status == 200
    assert service.ask("GET", "/read", headers=headers).status == 401


def test_a_forged_session_is_refused(service: Running) -> None:
    name = service.sign_in().partition("=")[0]
    for value in (new_secret(), "", '"', "a=b"):
        assert service.ask("GET", "/read", headers={"Cookie": f"{name}={value}"}).status == 401


def test_a_sign_in_link_is_no_session_and_a_session_no_token(service: Running) -> None:
    code = service.sessions.new_link("").partition("code=")[2]
    name, _, secret = service.sign_in().partition("=")
    assert service.ask("GET", "/read", headers={"Cookie": f"{name}={code}"}).status == 401
    assert service.ask("GET", "/read", secret).status == 401
    assert service.ask("GET", f"/signin?code={secret}").status == 401


@pytest.fixture
def sharing(start: Callable[..., Running]) -> Running:
    """A service with something to share, and something else."""
    service = start()
    (service.root / "a").mkdir()
    (service.root / "a" / "x").write_text("shared")
    (service.root / "b").write_text("private")
    return service


def test_a_share_link_reads_what_it_shares_and_nothing_else(sharing: Running) -> None:
    link = sharing.shares.create("/a").url
    assert sharing.ask("GET", f"{link}/x").body == b"shared"
    for path in (f"{link}/../b", f"{link}/%2e%2e/b", f"{link}/..%2fb", f"{link}%2f..%2f..%2fb"):
        assert sharing.ask("GET", path).status in (400, 404), path
    for method in ("PUT", "POST", "DELETE", "PATCH"):
        assert sharing.ask(method, f"{link}/x").status == 405
    assert sharing.ask("GET", "/files/a/x").status == 401
    (sharing.root / "ü 100%3f").write_text("odd")
    assert sharing.ask("GET", sharing.shares.create("/ü 100%3f").url).body == b"odd"


def test_a_changed_share_link_is_refused(sharing: Running) -> None:
    link = sharing.shares.create("/a/x").url
    other = sharing.shares.create("/b", expires=60).url
    assert sharing.ask("GET", link).body == b"shared"
    number, expires, signature = link.removeprefix("/share/").split(".")
    for changed in (
        f"{number}.{int(expires) + 1}.{signature}",
        f"{int(number) + 1}.{expires}.{signature}",
        f"{number}.{expires}.{'A' * 43}",
        f"{number}.{expires}.{other.rpartition('.')[2]}",
        f"{number}.{expires}.",
        f"{number}.{expires}",
        f"999.{expires}.{signature}",
        f"{'9' * 30}.{expires}.{signature}",
        f"-{number}.{expires}.{signature}",
    ):
        assert sharing.ask("GET", f"/share/{changed}").status == 404, changed


def test_an_expired_and_a_revoked_share_link_are_refused(sharing: Running) -> None:
    short, revoked = sharing.shares.create("/a/x", expires=1.5), sharing.shares.create("/a/x")
    assert sharing.ask("GET", short.url).status == sharing.ask("GET", revoked.url).status == 200
    sharing.shares.revoke(revoked.id)
    wait_for(lambda: sharing.ask("GET", revoked.url).status == 404, 1.5)
    wait_for(lambda: sharing.ask("GET", short.url).status == 404, 4)


# ---- sizes -----------------------------------------------------------------------------------------------------------


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


def test_a_head_without_end_is_refused(service: Running) -> None:
    began = time.monotonic()
    line = b"X-Filler: " + b"x" * 1000 + b"\r\n"
    with service.connect() as connection:
        connection.sendall(f"GET /healthz HTTP/1.1\r\n{HOST}".encode())
        with suppress(OSError):  # closed in the middle
            for _ in range(1000):
                connection.sendall(line)
        assert not read_all(connection).startswith(b"HTTP/1.1 200")
    assert time.monotonic() - began < service.settings.head_s / 2


# ---- slow clients ----------------------------------------------------------------------------------------------------


def seconds_until_closed(connection: socket.socket, trickle: bytes = b"") -> float:
    """How long the server keeps the connection while ``trickle`` is sent again and again."""
    began = time.monotonic()
    connection.settimeout(0.2)
    while time.monotonic() - began < 15:
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
    return start(head_s=1, stall_s=1)


@pytest.mark.parametrize("trickle", [b"", b"X-A: b\r\n"])
@pytest.mark.parametrize("sent", [b"", b"GET /healthz HTTP/1.1\r\nHost: 127.0.0.1\r\n"])
def test_a_head_that_does_not_come_ends_the_connection(impatient: Running, sent: bytes, trickle: bytes) -> None:
    with impatient.connect() as connection:
        connection.sendall(sent)
        assert seconds_until_closed(connection, trickle if sent else b"") < 5


def test_a_second_head_that_does_not_come_ends_the_connection(impatient: Running) -> None:
    with impatient.connect() as connection:
        connection.sendall(f"GET /healthz HTTP/1.1\r\n{HOST}\r\n".encode())
        assert connection.recv(65536).startswith(b"HTTP/1.1 200")
        connection.sendall(b"GET")
        assert seconds_until_closed(connection) < 5


@pytest.mark.parametrize("trickle", [b"", b"x"])
def test_a_body_that_does_not_come_ends_the_connection(impatient: Running, trickle: bytes) -> None:
    token = impatient.tokens.create(scope=["write"]).token
    head = f"PUT /files/x HTTP/1.1\r\n{HOST}Authorization: Bearer {token}\r\nContent-Length: 100000\r\n\r\n"
    with impatient.connect() as connection:
        connection.sendall(head.encode())
        assert seconds_until_closed(connection, trickle) < 6


def test_an_answer_that_is_not_read_ends_the_connection(impatient: Running) -> None:
    token = impatient.tokens.create().token
    with impatient.connect() as connection:
        connection.sendall(f"GET /much HTTP/1.1\r\n{HOST}Authorization: Bearer {token}\r\n\r\n".encode())
        time.sleep(4)  # what is tested is that nothing is read for so long
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
    service = start(requests_per_s=0.5, burst=3)
    busy, other = service.tokens.create().token, service.tokens.create().token
    answers = [service.ask("GET", "/read", busy) for _ in range(5)]
    assert [one.status for one in answers][:3] == [200, 200, 200]
    assert answers[-1].status == 429
    assert int(answers[-1].headers["retry-after"]) in (1, 2, 3)
    assert service.ask("GET", "/read", other).status == 200


def test_an_address_that_guesses_waits_and_its_tokens_do_not(start: Callable[..., Running]) -> None:
    service = start(strangers_per_s=0.1, strangers_burst=3)
    statuses = [service.ask("GET", "/read", "cdir_" + new_secret()).status for _ in range(5)]
    assert statuses == [401, 401, 401, 429, 429]
    assert service.ask("GET", "/share/1.1.x").status == 429
    assert service.ask("GET", "/read", service.tokens.create().token).status == 200


# ---- answers ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("text", ["a%0d%0aSet-Cookie:%20x=1", "a%0aX:%20y", "a%0d", "a%00"])
def test_nothing_sent_becomes_a_header(service: Running, token: str, text: str) -> None:
    answer = service.ask("GET", f"/splits?text={text}", token)
    assert answer.status == 500
    assert answer.headers["set-cookie"] is None
    assert answer.headers["x"] is None


@pytest.mark.parametrize(
    "name",
    ['a"; filename="b.exe', "a\r\nSet-Cookie: x=1", "a\nb", "Ünïcode ☃.txt", "a;b", "a\\b", "%41.txt", "a'b", "\x7f"],
)
def test_a_file_name_becomes_no_header(service: Running, token: str, name: str) -> None:
    (service.root / name).write_text("x")
    answer = service.ask("GET", f"/files/{quote(name)}", token)
    assert answer.headers["set-cookie"] is None
    if "\n" in name:  # no route takes such a name
        assert answer.status == 404
        return
    assert answer.status == 200
    disposition = answer.headers["content-disposition"]
    found = re.fullmatch(r"attachment; filename=\"([^\"\\]*)\"(?:; filename\*=UTF-8''(\S*))?", disposition)
    assert found is not None
    assert (unquote(found[2]) if found[2] else found[1]) == name


@pytest.mark.parametrize(
    ("path", "status"), [("/read", 200), ("/nothing", 404), ("/admin", 403), ("/breaks", 500), ("/files/page", 200)]
)
def test_every_answer_has_its_security_headers(service: Running, path: str, status: int) -> None:
    (service.root / "page").write_text("<script>alert(1)</script>")
    answer = service.ask("GET", path, service.tokens.create().token)
    assert answer.status == status
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert answer.headers["referrer-policy"] == "no-referrer"
    assert answer.headers["cache-control"] == "no-store"
    assert answer.headers["x-request-id"]
    assert "frame-ancestors 'none'" in answer.headers["content-security-policy"]
    expected = "sandbox; default-src 'none'" if path.startswith("/files") else "default-src 'self'"
    assert answer.headers["content-security-policy"].startswith(expected)
    assert answer.headers["server"] is None
    assert b"secret detail" not in answer.body


def test_a_websocket_is_refused(service: Running, token: str) -> None:
    upgrade = "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
    sent = f"GET /read HTTP/1.1\r\n{HOST}{upgrade}Sec-WebSocket-Version: 13\r\nConnection: close\r\n\r\n"
    assert b" 101 " not in service.raw(sent.encode()).partition(b"\r\n")[0]


# ---- the audit log ---------------------------------------------------------------------------------------------------


def wait_for(is_so: Callable[[], bool], seconds: float = 5) -> None:
    until = time.monotonic() + seconds
    while not is_so():
        assert time.monotonic() < until
        time.sleep(0.02)


def test_the_audit_log_tells_who_did_what_and_no_secret(sharing: Running, tmp_path: Path) -> None:
    token = sharing.tokens.create(scope=list(SCOPES)).token
    cookie, share = sharing.sign_in(), sharing.shares.create("/a").url
    forged = "cdir_" + new_secret()
    sharing.ask("POST", "/write", token)
    sharing.ask("GET", "/read", token)
    sharing.ask("GET", "/files/a/x?secret=yes", token)
    sharing.ask("GET", f"{share}/x")
    sharing.ask("GET", f"{share[:-1]}_/x")
    sharing.ask("GET", "/read", forged)
    sharing.ask("PUT", f"/{forged}", token)
    sharing.ask("DELETE", "/delete", headers={"Cookie": cookie, "Origin": sharing.settings.url})
    wait_for(lambda: ("session-2", "DELETE", "/delete", "done") in sharing.audit())
    found = sharing.audit()
    assert [one for one in found if not one[0].startswith("user-")] == [
        ("127.0.0.1", "GET", "/signin", "done"),
        ("token-1", "POST", "/write", "done"),
        ("token-1", "GET", "/files/a/x", "done"),
        ("share-1", "GET", "/files/a/x", "done"),
        ("127.0.0.1", "GET", "/read", "refused"),
        ("token-1", "PUT", "/cdir_…", "failed"),
        ("session-2", "DELETE", "/delete", "done"),
    ]
    assert [one[1] for one in found if one[0].startswith("user-")] == ["token create", "share create"]
    kept = b"".join(file.read_bytes() for file in tmp_path.glob("service.db*"))
    for secret in (token, forged, cookie.partition("=")[2], share.rpartition(".")[2]):
        assert secret.encode() not in kept


def test_the_last_use_of_a_token_is_known(service: Running, token: str) -> None:
    service.ask("GET", "/read", token)
    wait_for(lambda: next(service.tokens.list()).last_used_ns is not None)
