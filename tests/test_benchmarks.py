"""The benchmarks run, and find out what failed. How fast anything is, is nobody's business here."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks import _process
from benchmarks._places import Places, Tree
from benchmarks._process import RunError, run
from benchmarks._table import ratios
from benchmarks._works import Contender, Work
from benchmarks.transfers import Course

TOP = Path(__file__).parent.parent


def test_a_work_is_done_by_every_program_and_reported(tmp_path: Path) -> None:
    options = ["--only=put-small", "--rounds=1", "--scale=0.004", f"--output={tmp_path}"]
    command = [sys.executable, "-m", "benchmarks.transfers", *options]
    done = subprocess.run(command, cwd=TOP, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    work = json.loads((tmp_path / "transfers.json").read_text("utf-8"))["works"]["put-small"]
    assert (work["files"], work["bytes"]) == (12, 12 * 4096)
    assert [(one["program"], one["round"]) for one in work["runs"]] == [("cdir", 1), ("rclone", 1), ("s5cmd", 1)]
    assert [one.get("error") for one in work["runs"]] == [None] * 3
    assert all(one["wall_s"] > 0 and one["cpu_s"] > 0 for one in work["runs"])
    report = (tmp_path / "transfers.md").read_text("utf-8")
    assert report.startswith(done.stdout.rstrip())
    assert "\ncdir storage put --recursive $HERE/source aws:cdir-1\n" in report
    assert (tmp_path / "transfers.png").read_bytes().startswith(b"\x89PNG")


def test_replicas_are_kept_the_same_by_every_program(tmp_path: Path) -> None:
    options = ["--only=changed,lost", "--rounds=1", "--scale=0.01", f"--output={tmp_path}"]
    command = [sys.executable, "-m", "benchmarks.replicas", *options]
    done = subprocess.run(command, cwd=TOP, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    works = json.loads((tmp_path / "replicas.json").read_text("utf-8"))["works"]
    assert list(works) == ["changed", "lost"]
    for work in works.values():
        assert [one["program"] for one in work["runs"]] == ["cdir", "rclone three times"]
        assert [one.get("error") for one in work["runs"]] == [None] * 2
        assert all(one["memory_mb"] > 0 for one in work["runs"])
    report = (tmp_path / "replicas.md").read_text("utf-8")
    assert report.startswith(done.stdout.rstrip())
    assert "\ncdir vdir sync /cdir --accept-loss\n" in report


def test_the_service_is_asked_beside_other_servers(tmp_path: Path) -> None:
    options = ["--rounds=1", "--seconds=1", "--scale=0.02", f"--output={tmp_path}"]
    command = [sys.executable, "-m", "benchmarks.service", *options]
    done = subprocess.run(command, cwd=TOP, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    works = json.loads((tmp_path / "service.json").read_text("utf-8"))["works"]
    assert list(works) == ["stat", "lookup", "file"]
    for work in works.values():
        assert sorted(one["program"] for one in work["runs"]) == sorted(work["programs"])
        assert [one.get("error") for one in work["runs"]] == [None] * 3
        assert all(one["per_s"] > 0 for one in work["runs"])
    assert (tmp_path / "service.md").read_text("utf-8").startswith(done.stdout.rstrip())
    assert (tmp_path / "service.png").read_bytes().startswith(b"\x89PNG")


def test_a_program_that_brings_nothing_has_failed(tmp_path: Path) -> None:
    idle = Contender("idle", lambda source, destinations: [["true"]])
    work = Work("idle", "nothing", (Tree(3, 10),), "disk", ("disk",), (idle,), ())
    with Places(tmp_path / "places", {"disk"}) as places:
        record = Course(work, places, 1).measure(idle, 1)
    assert record["error"] == "disk has 0 files with 0 bytes instead of 3 files with 30 bytes"


def test_a_program_that_fails_is_reported_with_what_it_said() -> None:
    with pytest.raises(RunError, match="sh ended with status 3: it broke"):
        run([["true"], ["sh", "-c", "echo it broke >&2; exit 3"]], {})


def test_a_program_that_does_not_end_is_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_process, "TIMEOUT", 0.3)
    with pytest.raises(RunError, match="sleep did not end"):
        run([["sleep", "60"]], {})


def test_costs_are_those_of_the_program_alone() -> None:
    ballast = bytearray(200_000_000)  # of this process, which must not be counted
    ballast[::4096] = b"1" * len(ballast[::4096])
    cost = run([[sys.executable, "-S", "-c", "b'1' * 60_000_000; sum(range(10**6))"]], {})
    assert 60_000_000 < cost.memory < 150_000_000
    assert 0 < cost.cpu_s < 30
    assert cost.wall_s > 0


def test_ratios_are_taken_within_rounds_and_beside_the_slowest() -> None:
    walls = {"ours": [1.0, 2.0, 6.0], "quick": [1.0, 1.0, 1.0], "slow": [2.0, 8.0, 8.0]}
    runs = [
        {"program": name, "round": turn, "wall_s": wall}
        for name, seconds in walls.items()
        for turn, wall in enumerate(seconds, 1)
    ]
    failed = {"program": "slow", "round": 4, "error": "it broke"}
    prepared = {"program": "ours", "round": 0, "wall_s": 100.0}
    work = {"programs": list(walls), "runs": [prepared, *runs, failed]}
    assert ratios(work, ["slow"]) == (0.25, 0.5)
    assert ratios(work, ["quick", "slow"]) == (0.25, 0.5)
    assert ratios(work, ["quick"]) == (2.0, 2.0)
    assert ratios(work, ["nobody"]) is None
