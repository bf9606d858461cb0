"""Attacks on share links, one by one, against the real server."""

from __future__ import annotations

import time

from cloudmesh.cdir.service.security.identity import FRESH_S
from tests.cdir.service.security.running import Running, expiring, wait_for


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
    revoked = sharing.shares.create("/a/x")
    assert sharing.ask("GET", revoked.url).status == 200
    sharing.shares.revoke(revoked.id)
    time.sleep(FRESH_S)
    assert sharing.ask("GET", revoked.url).status == 404
    short = expiring(
        lambda seconds: sharing.shares.create("/a/x", expires=seconds).url, lambda url: sharing.ask("GET", url).status
    )
    wait_for(lambda: sharing.ask("GET", short).status == 404)
