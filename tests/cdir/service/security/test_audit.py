"""What the audit log tells, of the real server."""

from __future__ import annotations

from pathlib import Path

from cloudmesh.cdir.service.security.principal import SCOPES
from cloudmesh.cdir.service.security.secret import new_secret
from tests.cdir.service.security.running import Running, wait_for


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
