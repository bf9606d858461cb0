"""Attacks on tokens and sessions, one by one, against the real server."""

from __future__ import annotations

import json
import time

import pytest

from cloudmesh.cdir.service.security.identity import FRESH_S
from cloudmesh.cdir.service.security.principal import SCOPES
from cloudmesh.cdir.service.security.secret import new_secret
from tests.cdir.service.security.running import HOST, Running, expiring, wait_for


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
    token = expiring(
        lambda seconds: service.tokens.create(expires=seconds).token,
        lambda token: service.ask("GET", "/read", token).status,
    )
    wait_for(lambda: service.ask("GET", "/read", token).status == 401)


def test_a_revoked_token_is_refused_within_a_second(service: Running) -> None:
    made = service.tokens.create()
    assert service.ask("GET", "/read", made.token).status == 200
    service.tokens.revoke(made.id)
    time.sleep(FRESH_S)
    assert service.ask("GET", "/read", made.token).status == 401


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
    answer = service.ask("POST", "/signout", headers=headers)
    assert (answer.status, b"refresh" in answer.body) == (200, False)
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
