"""The commands ``cdir token``, ``cdir share`` and ``cdir audit``, as they are typed."""

from __future__ import annotations

import json
import stat
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from cloudmesh.cdir.service.security import audit
from cloudmesh.cdir.service.security.sessions import Sessions
from cloudmesh.cdir.service.security.shares import KEY, Shares, key_of
from cloudmesh.cdir.service.security.tokens import Tokens
from cloudmesh.storage.database import Database
from cloudmesh.storage.errors import ConfigError, InvalidName, NotFound, UsageError, VaultError


def cdir(*arguments: str, code: int = 0) -> str:
    done = subprocess.run([sys.executable, "-m", "cloudmesh.cdir.main", *arguments], capture_output=True, text=True)
    assert done.returncode == code, done.stderr
    return done.stdout if code == 0 else done.stderr


def from_json(*arguments: str) -> Any:
    return json.loads(cdir(*arguments, "--output=json"))


def test_a_token_from_its_making_to_its_end(home: Path) -> None:
    made = from_json("token", "create", "backup", "--scope=read,write", "--prefix=/a/../b", "--service=aws,box")
    (listed,) = from_json("token", "list")
    assert {name: listed[name] for name in ("id", "name", "scopes", "prefix", "services", "expires_ns")} == {
        "id": made["id"],
        "name": "backup",
        "scopes": ["read", "write"],
        "prefix": "/b",
        "services": ["aws", "box"],
        "expires_ns": None,
    }
    secret = made["token"].removeprefix("cdir_")
    assert len(secret) == 43
    for file in home.glob("vdir.db*"):
        assert secret.encode() not in file.read_bytes()
    assert from_json("token", "revoke", str(made["id"]))["revoked_ns"] is not None
    with Database() as database:
        assert Tokens(lambda: database).verify(made["token"]) is None
    actions = [(one["what"], one["path"], one["outcome"]) for one in from_json("audit")]
    assert actions == [("token create", "token-1", "done"), ("token revoke", "token-1", "done")]
    assert secret not in cdir("audit")


def test_a_token_reads_alone_where_nothing_is_said() -> None:
    cdir("token", "create")
    assert from_json("token", "list")[0]["scopes"] == ["read"]


@pytest.mark.parametrize(
    "wrong",
    [
        ["token", "create", "--scope=root"],
        ["token", "create", "--scope="],
        ["token", "create", "--expires=never"],
        ["token", "create", "--expires=0s"],
        ["token", "create", "--service=aws,,box"],
        ["token", "revoke", "x"],
        ["share", "create", "/"],
        ["share", "create", "/a", "--expires=0"],
        ["share", "create", "/a", "--expires=99999999d"],
        ["share", "create", ""],
        ["token", "create", "--expires=99999999d"],
        ["token", "create", "--prefix="],
        ["audit", "--since=yesterday"],
    ],
)
def test_what_makes_no_sense_is_refused(wrong: list[str]) -> None:
    assert cdir(*wrong, code=2).startswith("error: ")


def test_a_path_out_of_the_root_is_refused() -> None:
    assert "above the root" in cdir("token", "create", "--prefix=../x", code=1)
    assert "above the root" in cdir("share", "create", "/../x", code=1)
    assert cdir("token", "revoke", "99", code=1).startswith("error: token 99: there is no such token")
    assert cdir("token", "revoke", str(1 << 63), code=1).endswith("there is no such token\n")
    assert cdir("share", "revoke", "99", code=1).startswith("error: share 99: there is no such share")


def test_a_path_is_one_from_the_current_directory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CDIR_CWD", "/a/b")
    assert from_json("share", "create", "../c")["path"] == "/a/c"
    cdir("token", "create", "--prefix=d")
    cdir("token", "create")
    assert [one["prefix"] for one in from_json("token", "list")] == ["/", "/a/b/d"]


def test_a_share_link_from_its_making_to_its_end(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CDIR_SERVICE_URL", "https://nas.example.org:8443/")
    made = from_json("share", "create", "/a/b", "--expires=1h")
    assert made["url"].startswith("https://nas.example.org:8443/share/1.")
    assert stat.S_IMODE((home / KEY).stat().st_mode) == 0o600
    (listed,) = from_json("share", "list")
    assert listed["path"] == "/a/b"
    assert made["url"].rpartition(".")[2] not in json.dumps(listed)
    cdir("share", "revoke", "1")
    with Database() as database:
        assert Shares(lambda: database).verify(made["url"].rpartition("/")[2]) is None


def test_the_audit_log_can_be_asked(home: Path) -> None:
    def at(seconds_ago: int, who: str) -> audit.Entry:
        return audit.Entry(time.time_ns() - seconds_ago * 10**9, who, "GET", "/files/a\nb\0", "done", 200, "id")

    with Database() as database, database.write() as connection:
        audit.add(connection, [at(500 * 86400, "old"), at(7200, "token-1"), at(60, "token-1"), at(30, "token-2")])
    assert [one["who"] for one in from_json("audit", "--since=1h")] == ["token-1", "token-2"]
    assert len(from_json("audit", "--who=token-1")) == 2
    with Database() as database, database.write() as connection:
        audit.forget_old(connection)
    assert "old" not in [one["who"] for one in from_json("audit")]
    assert len(cdir("audit").splitlines()) == 4


def test_more_than_a_page_of_the_audit_log_is_told_once_each(tmp_path: Path) -> None:
    with Database(f"sqlite:///{tmp_path}/a.db") as database:
        with database.write() as connection:
            made = [audit.Entry(number, "me", "GET", str(number), "done", 200, "") for number in range(2500)]
            audit.add(connection, made)
        assert [one.time_ns for one in audit.entries(database)] == list(range(2500))


def test_the_first_of_many_makes_the_key(tmp_path: Path) -> None:
    with ThreadPoolExecutor(8) as threads:
        keys = set(threads.map(lambda _: key_of(tmp_path), range(50)))
    assert len(keys) == 1
    assert [one.name for one in tmp_path.iterdir()] == [KEY]


def test_a_key_that_is_damaged_or_public_is_refused(tmp_path: Path) -> None:
    key_of(tmp_path)
    (tmp_path / KEY).chmod(0o644)
    with pytest.raises(VaultError, match="read by others"):
        key_of(tmp_path)
    (tmp_path / KEY).chmod(0o600)
    (tmp_path / KEY).write_bytes(b"short")
    with pytest.raises(ConfigError, match="no key"):
        key_of(tmp_path)


@pytest.fixture(params=["sqlite", "postgresql"])
def database(request: pytest.FixtureRequest, tmp_path: Path) -> Any:
    url = f"sqlite:///{tmp_path}/a.db"
    if request.param == "postgresql":
        url = request.getfixturevalue("database_url")
    with Database(url) as found:
        yield found


def test_both_databases_know_tokens_shares_sessions_and_the_audit_log(database: Database, tmp_path: Path) -> None:
    tokens, shares = Tokens(lambda: database), Shares(lambda: database, tmp_path)
    sessions = Sessions(lambda: database)
    made = tokens.create("ü", ["read", "delete"], "/a", ["aws"], 3600)
    found = tokens.verify(made.token)
    assert found is not None
    assert (found.name, found.prefix, found.services) == ("token-1", "a", frozenset({"aws"}))
    assert found.scopes == {"read", "delete"}
    tokens.used([made.id])
    assert next(tokens.list()).last_used_ns is not None
    shared = shares.verify(shares.create("/x y").url.rpartition("/")[2])
    assert shared is not None
    assert shared.prefix == "x y"
    secret = sessions.sign_in(sessions.new_link("http://a").rpartition("=")[2])
    assert secret is not None
    assert sessions.verify(secret) is not None
    sessions.sign_out(secret)
    assert sessions.verify(secret) is None
    assert len(list(audit.entries(database, since=0))) == 2


def test_a_link_signs_in_one_of_many_at_once(database: Database) -> None:
    sessions = Sessions(lambda: database)
    code = sessions.new_link("").rpartition("=")[2]
    with ThreadPoolExecutor(8) as threads:
        found = list(threads.map(lambda _: sessions.sign_in(code), range(8)))
    assert len([one for one in found if one]) == 1


def test_programs_are_told_what_makes_no_sense(tmp_path: Path) -> None:
    with Database(f"sqlite:///{tmp_path}/a.db") as database:
        tokens = Tokens(lambda: database)
        with pytest.raises(InvalidName):
            tokens.create("a\nb")
        with pytest.raises(UsageError):
            tokens.create(expires=-1)
        with pytest.raises(NotFound):
            tokens.revoke(7)
        assert repr(tokens.create()) == "NewToken(id=1)"
