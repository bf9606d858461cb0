"""`storage measure`: speed and clock of real services, remembered; one that cannot be measured is told of."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from cloudmesh.cdir.main import CDIR
from cloudmesh.storage import Storage
from cloudmesh.storage.clock import Offset, known_offsets, measure_offset, remember_offsets
from cloudmesh.storage.database import Database
from cloudmesh.storage.layers import Count, Snapshot
from cloudmesh.storage.paths import TEMPORARY_PREFIX
from cloudmesh.storage.services import Services
from cloudmesh.storage.speed import UNKNOWN, Sample, learn, measured, seen
from deploy.servers import OpenSsh, SeaweedFS, Wsgidav
from tests.places import configure, local


@pytest.fixture
def four(home: Path, tmp_path: Path, seaweedfs: SeaweedFS, wsgidav: Wsgidav, openssh: OpenSsh) -> list[str]:
    """The names of one service of each kind."""
    configure(
        home,
        [
            seaweedfs.settings("aws", bucket=seaweedfs.make_bucket()),
            wsgidav.settings("dav", root="measure"),
            openssh.settings("lab", root="measure"),
            local("disk", tmp_path / "disk"),
        ],
    )
    return ["aws", "dav", "disk", "lab"]


@pytest.fixture
def database() -> Iterator[Database]:
    with Database() as opened:
        yield opened


@pytest.mark.parametrize("size", [0, 1, 1000])
def test_a_few_bytes_tell_no_throughput(four: list[str], database: Database, tmp_path: Path, size: int) -> None:
    with Storage() as storage:
        found = storage.measure("dav", size=size)
    assert [(one.problem, one.read_per_s_bytes, one.write_per_s_bytes) for one in found] == [("", None, None)]
    speeds = measured(database, "read"), measured(database, "write")
    assert [one["dav"].bytes_per_s for one in speeds] == [UNKNOWN.bytes_per_s] * 2
    (tmp_path / "f").write_bytes(b"x")
    assert CDIR.run(["put", str(tmp_path / "f"), "/f", "--to=dav,disk"]) == 0
    assert CDIR.run(["why", "/f"]) == 0
    assert CDIR.run(["delete", "/f", "--purge", "--accept-loss"]) == 0


def test_every_kind_is_measured_and_nothing_is_left_behind(four: list[str], database: Database, tmp_path: Path) -> None:
    with Storage() as storage:
        found = storage.measure(size=256 * 1024)
        assert [one.service for one in found] == [*four, "local"]
        assert [one.problem for one in found] == [""] * 5
        for name in four:
            assert list(storage.list(f"{name}:", recursive=True)) == []
    assert not any(tmp_path.rglob(f"{TEMPORARY_PREFIX}*"))
    for direction in ("read", "write"):
        speeds = measured(database, direction)
        assert speeds.keys() == {*four, "local"}
        assert all(one.latency_s > 0 and one.bytes_per_s > 0 for one in speeds.values())
    for name, offset in known_offsets(database).items():
        assert abs(offset.offset_ns) <= offset.error_ns, f"{name} has this computer's clock"
        assert offset.error_ns < 2_000_000_000
    assert known_offsets(database).keys() == {*four, "local"}


def test_one_that_fails_is_told_and_the_others_are_measured(
    home: Path, tmp_path: Path, wsgidav: Wsgidav, dead_port: int, capfd: pytest.CaptureFixture[str]
) -> None:
    configure(home, [wsgidav.settings("dav", port=dead_port), local("disk", tmp_path / "disk")])
    assert CDIR.run(["storage", "measure", "--size=4K", "--output=json"]) == 1
    out = capfd.readouterr().out
    assert '"service": "disk"' in out
    assert "dav:" in out
    assert CDIR.run(["storage", "measure", "disk", "--size=4K"]) == 0
    assert "latency_s" in capfd.readouterr().out
    assert CDIR.run(["storage", "measure", "nobody"]) == 1
    assert "there is no such service" in capfd.readouterr().err


def test_a_clock_that_is_wrong_is_seen(four: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """The services cannot be set wrong, so this computer's clock is: an hour ahead of them."""
    hour = 3600 * 10**9
    true_time = time.time_ns
    monkeypatch.setattr("cloudmesh.storage.clock.time.time_ns", lambda: true_time() + hour)
    services = Services()
    for name in four:
        offset = measure_offset(services.open(name))
        assert offset is not None
        assert abs(offset.offset_ns + hour) <= offset.error_ns, name
    services.close()


def test_offsets_are_replaced(database: Database) -> None:
    remember_offsets(database, {"aws": Offset(5, 1), "box": Offset(7, 2)})
    remember_offsets(database, {"aws": Offset(-3, 4), "box": None})
    assert known_offsets(database) == {"aws": Offset(-3, 4)}


def test_a_measurement_counts_for_a_part_beside_the_earlier_ones(database: Database) -> None:
    learn(database, {("aws", "read"): Sample(1.0, 1e6)})
    learn(database, {("aws", "read"): Sample(2.0, None)})
    found = measured(database, "read")["aws"]
    assert found.latency_s == pytest.approx(1.3)
    assert found.bytes_per_s == 1e6
    assert measured(database, "write") == {}


def test_batches_tell_of_small_files_what_a_request_takes_and_of_larger_ones_how_fast_bytes_move() -> None:
    small = Snapshot({"read_many": Count(requests=1000, seconds=2.0, bytes_in=1000 * 100)})
    assert dict(seen(small, 10)) == {"read": Sample(0.02, None)}
    larger = Snapshot({"write_many": Count(requests=100, seconds=2.0, bytes_out=100 * 200_000)})
    assert dict(seen(larger, 10)) == {"write": Sample(0.2, 10e6)}
    stream = Count(requests=1, seconds=1.0, bytes_in=50_000_000)
    both = Snapshot({"open_read": stream, "stat": Count(requests=2, seconds=0.1), **small.by_primitive})
    assert dict(seen(both, 10)) == {"read": Sample(0.05, 50e6)}
    assert dict(seen(Snapshot({"stat": Count(requests=2, seconds=0.1)}), 10)) == {}
