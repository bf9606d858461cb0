"""`vdir rules`: set, inherited, followed by put, copy and heal, and checked."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from cloudmesh.storage.abc import ServiceSettings
from cloudmesh.storage.errors import ConfigError, NotFound, Refused, UsageError
from cloudmesh.vdir import Vdir
from deploy.servers import SeaweedFS, Wsgidav
from tests.places import configure, read_tree, write_tree

FILES = {"a": b"alpha", "d/b": b"beta" * 250}

OFFERS: dict[str, dict[str, Any]] = {
    "one": {"place": "eu-west-3", "price": {"store": 0.02}},
    "two": {"place": "eu-west-3", "price": {"store": 0.01}},
    "far": {"place": "ap-northeast-1", "price": {"store": 1000000}},
    "odd": {"price": {"store": 2000000}},
}


@pytest.fixture
def disks(home: Path, tmp_path: Path) -> dict[str, Path]:
    """Four services, in two known places, of different prices a GB and month."""
    roots = {name: tmp_path / name for name in OFFERS}
    configure(
        home,
        [ServiceSettings(name, "local", root=str(root), options=OFFERS[name]) for name, root in roots.items()],
    )
    return roots


@pytest.fixture
def vdir(disks: dict[str, Path]) -> Iterator[Vdir]:
    with Vdir() as opened:
        opened.mkdir("/t/d", parents=True)
        yield opened


@pytest.fixture
def source(tmp_path: Path) -> str:
    return str(write_tree(tmp_path / "source", FILES))


def services(vdir: Vdir, name: str = "/t") -> dict[str, list[str]]:
    return {one.name: one.services for one in vdir.ls(name, recursive=True) if one.kind == "file"}


def shown(vdir: Vdir, name: str) -> dict[str, tuple[str, str]]:
    return {one.rule: (one.value, one.set_on) for one in vdir.rules.show(name) if one.set_on}


def found(vdir: Vdir, name: str = "/t") -> list[tuple[str, str, str]]:
    return [(one.name, one.service, one.rule) for one in vdir.rules.check(name)]


# ---- set, shown, taken back ------------------------------------------------------------------------------------------


def test_rules_are_inherited_and_shown_with_their_origin(vdir: Vdir) -> None:
    vdir.rules.set("/", deletes="propagate", versions=0)
    vdir.rules.set("/t", copies=2, not_on=["odd"], max_monthly_cost=Decimal("9.5"))
    vdir.rules.set("/t/d", copies=1, on=["far"], versions_age=2 * 86400.0)
    assert shown(vdir, "/t/d") == {
        "copies": ("1", "/t/d"),
        "on": ("far", "/t/d"),
        "not-on": ("odd", "/t"),
        "max-monthly-cost": ("9.5", "/t"),
        "deletes": ("propagate", "/"),
        "versions": ("0", "/"),
        "versions-age": ("2d", "/t/d"),
    }
    assert {one.rule: one.value for one in vdir.rules.show("/t/d") if not one.set_on} == {"locations": "1"}
    vdir.rules.remove("/t/d", ["copies"])
    assert shown(vdir, "/t/d")["copies"] == ("2", "/t")
    vdir.rules.remove("/t/d")
    assert shown(vdir, "/t/d") == shown(vdir, "/t")
    vdir.rules.set("/t", copies=3)
    assert shown(vdir, "/t")["not-on"] == ("odd", "/t"), "others stay"


def test_nonsense_is_refused_and_changes_nothing(vdir: Vdir) -> None:
    vdir.rules.set("/t", not_on=["far"])
    before = vdir.rules.show("/t/d")
    for wrong, error, text in (
        ({}, UsageError, "no rule is given"),
        ({"on": ["nowhere"]}, ConfigError, "no such service"),
        ({"on": ["far"]}, Refused, "may not be"),
        ({"copies": 5}, Refused, "5 copies on 4 services"),
        ({"locations": 4}, Refused, "not in 4 places"),
        ({"deletes": "never"}, UsageError, "heal or propagate"),
    ):
        with pytest.raises(error, match=text):
            vdir.rules.set("/t/d", **wrong)
    with pytest.raises(NotFound):
        vdir.rules.set("/nowhere", copies=2)
    with pytest.raises(NotFound, match="not set here"):
        vdir.rules.remove("/t/d", ["copies"])
    with pytest.raises(UsageError, match="no such rule"):
        vdir.rules.remove("/t/d", ["speed"])
    assert vdir.rules.show("/t/d") == before


# ---- put and copy ------------------------------------------------------------------------------------------------


def test_put_goes_where_the_rules_want(vdir: Vdir, source: str, disks: dict[str, Path]) -> None:
    vdir.rules.set("/t", on=["one"], copies=2)
    vdir.rules.set("/t/d", locations=2, not_on=["odd"])
    vdir.put(source, "/t", recursive=True)
    cheapest = "local"  # which is always there, and free
    assert services(vdir) == {"a": sorted(["one", cheapest]), "d/b": sorted(["one", cheapest])}
    vdir.rules.set("/t", not_on=["odd", "local"])
    vdir.rules.set("/t/d", not_on=["odd", "local"])
    vdir.delete("/t/a")
    vdir.delete("/t/d/b")
    vdir.put(source, "/t", recursive=True, force=True)
    assert services(vdir) == {"a": ["one", "two"], "d/b": ["far", "one"]}
    assert found(vdir) == []
    assert vdir.put(source, "/t", recursive=True).skipped > 0


def test_put_without_rules_goes_to_the_default_service(vdir: Vdir, source: str) -> None:
    vdir.put(source, "/t", recursive=True)
    assert set(map(tuple, services(vdir).values())) == {("local",)}


def test_what_a_rule_forbids_is_refused_with_its_name(vdir: Vdir, source: str, disks: dict[str, Path]) -> None:
    vdir.rules.set("/t", not_on=["far"])
    with pytest.raises(Refused, match=r"may be on far: rule not-on of /t"):
        vdir.put(f"{source}/a", "/t/a", to=["one", "far"])
    assert services(vdir) == {}
    assert not disks["one"].exists()
    vdir.put(source, "/t", to=["one"], recursive=True)
    report = vdir.copy("/t", to=["far"], recursive=True)
    assert (report.errors, report.files) == (2, 0)
    assert "rule not-on of /t" in report.failures[0].error
    assert not disks["far"].exists()
    vdir.rules.set("/", not_on=["local"])
    vdir.mkdir("/u")
    with pytest.raises(Refused, match="default service: rule not-on of /"):
        vdir.put(f"{source}/a", "/u/a")


def test_the_cost_is_kept(vdir: Vdir, source: str) -> None:
    vdir.rules.set("/t", max_monthly_cost=Decimal(1))
    vdir.put(source, "/t", to=["one"], recursive=True)
    report = vdir.copy("/t", to=["far"], recursive=True)  # 5 bytes and 1,000, at 0.001 a byte
    assert (report.files, report.errors) == (1, 1)
    assert "rule max-monthly-cost of /t" in report.failures[0].error
    assert found(vdir) == []
    vdir.rules.set("/t", max_monthly_cost=Decimal("0.004"))
    assert found(vdir) == [("/t", "", "max-monthly-cost")]
    assert found(vdir, "/t/d") == [("/t", "", "max-monthly-cost")]
    assert [one.detail for one in vdir.rules.check()] == ["all replicas cost $0.00500002 a month, more than $0.004"]


def test_a_dry_run_tells_the_price(vdir: Vdir, source: str) -> None:
    plan = vdir.put(source, "/t", to=["one", "far"], recursive=True, dryrun=True)
    assert (plan.files, plan.cost_usd) == (4, Decimal(0))
    assert plan.monthly_usd == Decimal(1005) * (Decimal("0.02") + 1000000) / 10**9
    vdir.put(source, "/t", to=["one"], recursive=True)
    plan = vdir.copy("/t", to=["two"], recursive=True, dryrun=True)
    assert (plan.files, plan.cost_usd, plan.monthly_usd) == (2, Decimal(0), Decimal(1005) * Decimal("0.01") / 10**9)
    assert services(vdir) == {"a": ["one"], "d/b": ["one"]}


def test_a_dry_run_of_sync_tells_the_price(home: Path, tmp_path: Path, source: str) -> None:
    prices = {
        "one": {"out": 1000, "store": 0},
        "two": {"out": 5000, "write": 1, "copy": 4, "in": 10, "store": 100},
        "three": {"write": 3, "store": 7},
    }
    places = {
        name: ServiceSettings(name, "local", str(tmp_path / name), options={"price": prices[name]}) for name in prices
    }
    configure(home, places.values())
    gb, nothing = Decimal(10) ** 9, (0, 0, Decimal(0), Decimal(0))

    def plan(vdir: Vdir, **how: Any) -> tuple[int, int, Decimal | None, Decimal | None]:
        found = vdir.sync("/t", dryrun=True, **how)
        assert not found.errors, found.failures
        return found.files, len(found.plan), found.cost_usd, found.monthly_usd

    with Vdir() as vdir:
        vdir.put(source, "/t/", to=["one", "two"], recursive=True)
        assert plan(vdir) == nothing
        (tmp_path / "two/t/a").unlink()
        healed = Decimal("0.001") + 5 * 1010 / gb  # from one to two
        assert plan(vdir) == (1, 1, healed, 500 / gb)
        vdir.rules.set("/t/d", on=["three"])
        wanted = Decimal("0.003") + 1000 * 1000 / gb  # from one as well
        assert plan(vdir) == (2, 2, healed + wanted, 7500 / gb)
        assert not vdir.sync("/t").errors
        assert plan(vdir) == nothing
        (tmp_path / "one/t/a").write_bytes(b"theirs, and newer")
        kept = Decimal("0.004")  # the old content, by two itself
        renewed = Decimal("0.001") + 17 * 1010 / gb
        assert plan(vdir) == (1, 1, kept + renewed, 2200 / gb)
        (tmp_path / "two/t/a").write_bytes(b"theirs, the newest")
        os.utime(tmp_path / "one/t/a", ns=(1, 1))
        # what has lost is kept by one itself; what one had before lies nowhere any more
        assert plan(vdir) == (1, 1, 18 * 5000 / gb, Decimal(0))
        both = Decimal("0.001") + 17 * 1010 / gb + 17 * 1000 / gb  # it becomes a name with two replicas
        assert plan(vdir, conflict="keep-both") == (3, 3, 18 * 5000 / gb + both, 1700 / gb)
        report = vdir.sync("/t", conflict="keep-both")
        assert (report.files, report.errors) == (3, 0)
        assert plan(vdir) == nothing


# ---- check and mend ----------------------------------------------------------------------------------------------


def test_violations_are_found_and_mended(vdir: Vdir, source: str, disks: dict[str, Path]) -> None:
    vdir.put(source, "/t", to=["one", "odd"], recursive=True)
    vdir.rules.set("/t", not_on=["odd", "local"], copies=2, locations=2)
    vdir.rules.set("/t/d", on=["two"])
    assert sorted(found(vdir)) == [
        ("/t/a", "", "copies"),
        ("/t/a", "", "locations"),
        ("/t/a", "odd", "not-on"),
        ("/t/d/b", "", "copies"),
        ("/t/d/b", "", "locations"),
        ("/t/d/b", "odd", "not-on"),
        ("/t/d/b", "two", "on"),
    ]
    assert found(vdir, "/t/a") == [("/t/a", "odd", "not-on"), ("/t/a", "", "copies"), ("/t/a", "", "locations")]
    plan = vdir.sync("/t", dryrun=True)
    assert (plan.files, plan.dropped, plan.removed, plan.errors) == (3, 2, 0, 0)
    assert sorted((one.action, one.name) for one in plan.plan) == [
        ("copy", "/t/a on far"),
        ("copy", "/t/d/b on far"),
        ("copy", "/t/d/b on two"),
        ("remove", "/t/a on odd"),
        ("remove", "/t/d/b on odd"),
    ]
    report = vdir.sync("/t")
    assert report.errors == 0, report.failures
    assert (report.files, report.dropped) == (3, 2)
    assert services(vdir) == {"a": ["far", "one"], "d/b": ["far", "one", "two"]}
    assert read_tree(disks["odd"]) == {}
    assert read_tree(disks["far"] / "t") == FILES
    assert found(vdir) == []
    again = vdir.sync("/t")
    assert (again.files, again.errors) == (0, 0)


def test_a_replica_is_taken_away_only_where_enough_are_elsewhere(
    vdir: Vdir, source: str, disks: dict[str, Path]
) -> None:
    vdir.put(source, "/t", to=["one", "odd"], recursive=True)
    vdir.rules.set("/t", not_on=["odd", "local"])
    (disks["one"] / "t/a").unlink()
    (disks["one"] / "t/a").mkdir()  # so that it cannot be healed
    report = vdir.sync("/t")
    assert report.errors > 0
    assert services(vdir)["a"] == ["odd"]
    assert (disks["odd"] / "t/a").read_bytes() == b"alpha"
    assert services(vdir)["d/b"] == ["one"]


def test_over_real_services(home: Path, tmp_path: Path, source: str, seaweedfs: SeaweedFS, wsgidav: Wsgidav) -> None:
    root = f"rules-{tmp_path.name}"
    configure(home, [seaweedfs.settings("s3", root=root), wsgidav.settings("dav", root=root)])
    with Vdir() as vdir:
        vdir.mkdir("/t")
        vdir.rules.set("/t", on=["s3"], not_on=["local"])
        vdir.put(source, "/t", recursive=True)
        assert set(map(tuple, services(vdir).values())) == {("s3",)}
        vdir.rules.set("/t", copies=2)
        vdir.sync("/t")
        assert set(map(tuple, services(vdir).values())) == {("dav", "s3")}
        vdir.rules.remove("/t", ["on"])
        vdir.rules.set("/t", copies=1, not_on=["local", "s3"])
        vdir.sync("/t")
        assert set(map(tuple, services(vdir).values())) == {("dav",)}
        assert found(vdir) == []
        assert vdir.put(source, "/t", recursive=True, dryrun=True).monthly_usd in (None, 0)


def test_the_commands(vdir: Vdir, source: str) -> None:
    def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "cloudmesh.cdir.main", "rules", *arguments]
        return subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)

    vdir.put(source, "/t", to=["one"], recursive=True)
    done = run("set", "/t", "--copies=2", "--not-on=odd,local", "--max-monthly-cost=0.5", "--versions-age=7d")
    assert done.returncode == 0, done.stderr
    assert [line.split() for line in run("show", "/t/d").stdout.splitlines() if "not-on" in line] == [
        ["not-on", "odd,local", "/t"]
    ]
    checked = run("check", "/t", "--output=json")
    assert (checked.returncode, checked.stdout.count('"copies"')) == (1, 2)
    assert run("remove", "/t", "copies").returncode == 0
    assert run("check", "/t").returncode == 0
    assert run("set", "/t", "--max-monthly-cost=much").returncode == 2
