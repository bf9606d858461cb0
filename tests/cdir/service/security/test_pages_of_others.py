"""Attacks by names of hosts and by pages of others, one by one, against the real server."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from cloudmesh.cdir.service.security.secret import new_secret
from tests.cdir.service.security.running import HOST, Running, wait_for


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


def test_this_computer_asks_by_its_own_names_wherever_the_service_is_reached(start: Callable[..., Running]) -> None:
    service = start(url="https://nas.example.org:8443")
    for host, status in (("localhost:1", 200), ("127.0.0.1", 200), ("nas.example.org", 200), ("evil.example", 421)):
        assert service.ask("GET", "/healthz", headers={"Host": host}).status == status


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
