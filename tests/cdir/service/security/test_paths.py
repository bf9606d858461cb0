"""Attacks by the path of a request, one by one, against the real server."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.cdir.service.security.running import HOST, Running

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
