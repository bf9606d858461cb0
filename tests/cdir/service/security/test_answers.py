"""What answers tell, and what nobody can make them tell, against the real server."""

from __future__ import annotations

import re
from urllib.parse import quote, unquote

import pytest

from tests.cdir.service.security.running import HOST, Running


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
