"""`vdir prefer` and `vdir why` with prices, places and measured speeds, as commands and through the API."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from cloudmesh.cdir.main import CDIR
from cloudmesh.storage.abc import ServiceSettings
from cloudmesh.storage.database import Database
from cloudmesh.storage.errors import UsageError
from cloudmesh.storage.speed import Sample, learn
from cloudmesh.vdir import Vdir
from deploy.servers import Wsgidav
from tests.places import configure, local, write_tree


@pytest.fixture
def three(home: Path, tmp_path: Path, wsgidav: Wsgidav, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A file on three services that differ in place, price and speed, seen from Indiana; returns the file's disk."""
    options: dict[str, dict[str, object]] = {
        "near": {"place": "us-east-2", "price": {"out": 0.09, "read": 0.4}},
        "cheap": {"place": "eu-central-1", "price": {"out": 0, "read": 0}},
        "nowhere": {"price": {"out": 0.05}},
    }
    services = [
        ServiceSettings(
            name, "webdav", root=f"choosing-{name}", credentials=wsgidav.settings(name).credentials, options=given
        )
        for name, given in options.items()
    ]
    configure(home, [*services, local("disk", tmp_path / "disk")])
    monkeypatch.setenv("CDIR_PLACE", "39.17,-86.52")
    write_tree(tmp_path / "source", {"f": b"x" * 1000})
    with Vdir() as vdir:
        vdir.put(str(tmp_path / "source/f"), "/d/f", to=[*options])
    return tmp_path / "disk"


def best(name: str = "/d/f") -> str:
    with Vdir() as vdir:
        return vdir.why(name)[0].service


def test_the_order_is_the_users_and_inherited_and_taken_back(three: Path) -> None:
    with Database() as database:
        learn(database, {(name, "read"): Sample(1.0, 1e6) for name in ("near", "cheap")})
        learn(database, {("nowhere", "read"): Sample(0.001, 1e9)})
    assert best() == "nowhere", "the fastest"
    with Vdir() as vdir:
        vdir.prefer("/d", rank=["location", "cost"])
        ranked = vdir.why("/d/f")
        assert [one.service for one in ranked] == ["near", "cheap", "nowhere"]
        assert ranked[0].rankers == ["location", "cost"]
        assert ranked[0].kilometres == pytest.approx(314, abs=10)
        assert ranked[0].dollars == pytest.approx(0.4 / 1000 + 0.09 * 1000 / 1e9)
        assert (ranked[2].kilometres, ranked[2].location) == (None, "-")
        assert ranked[0].reason.startswith("location: 31")
        vdir.prefer("/d/f", rank=["cost"])
        assert best() == "cheap"
        vdir.prefer("/d", ["nowhere"])
        assert best() == "cheap", "the file's own rankers do not ask for it"
        vdir.prefer("/d/f")
        assert best() == "near", "as the directory says"
        vdir.prefer("/d", rank=["set", "location"])
        assert best() == "nowhere"
        vdir.prefer("/d")
        assert best() == "nowhere"
        assert vdir.why("/d/f")[0].rankers == ["set", "speed", "location", "cost"]
        with pytest.raises(UsageError, match="no ranker 'colour'"):
            vdir.prefer("/d", rank=["colour"])


def test_the_command_shows_the_table_and_its_reasons(three: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert CDIR.run(["prefer", "/d", "--rank=location,cost"]) == 0
    capfd.readouterr()
    assert CDIR.run(["why", "/d/f"]) == 0
    out = capfd.readouterr().out
    heading, first, *_, last = out.splitlines()
    assert heading.split() == ["rank", "service", "state", "set", "speed", "location", "cost", "reason"]
    assert first.split()[:2] == ["1", "near"]
    assert " km " in first
    assert "$0.00040009" in first
    assert last.split()[:2] == ["3", "nowhere"]
    assert CDIR.run(["why", "/d/f", "--output=json"]) == 0
    rows = json.loads(capfd.readouterr().out)
    assert rows[1]["service"] == "cheap"
    assert rows[1]["dollars"] == 0
    assert (rows[0]["place_in_set"], rows[0]["rankers"]) == (None, ["location", "cost"])
    assert CDIR.run(["prefer", "/d", "--rank=colour"]) == 2


def test_a_wrong_place_or_price_is_warned_of_and_files_are_read_all_the_same(
    three: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("CDIR_PLACE", "somewhere")
    with Vdir() as vdir:
        assert b"".join(vdir.cat("/d/f")) == b"x" * 1000
        assert {one.kilometres for one in vdir.why("/d/f")} == {None}
    assert "'somewhere' is no place" in caplog.text
