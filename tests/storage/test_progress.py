"""What is told of the progress: on a terminal, in lines, as JSON; and that the figures add up."""

from __future__ import annotations

import fcntl
import json
import os
import pty
import re
import struct
import subprocess
import sys
import termios
import time
from contextlib import suppress
from pathlib import Path

import pyte
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cloudmesh.storage.abc import ServiceSettings
from cloudmesh.storage.transfer.events import Event
from cloudmesh.storage.transfer.totals import LARGE, Totals
from tests.places import configure, write_tree

CDIR = [str(Path(sys.executable).parent / "cdir"), "storage", "put", "--recursive"]

sizes = st.sampled_from([0, 1, 1000, LARGE, LARGE + 1, 10 * LARGE])
endings = st.sampled_from(["done", "skipped", "failed", ""])


@given(st.lists(st.tuples(sizes, endings, st.integers(0, 2 * LARGE)), max_size=20))
def test_totals_always_add_up(files: list[tuple[int, str, int]]) -> None:
    now = 0.0
    totals = Totals(lambda: now)
    for number, (size, ending, moved) in enumerate(files):
        totals(Event("planned", str(number), size))
        totals(Event("started", str(number), size))
        now += 0.3
        totals(Event("moved", str(number), moved))
        if ending in ("done", "skipped", "failed"):
            totals(Event(ending, str(number), size))  # type: ignore[arg-type]
        seen = totals.snapshot()
        assert seen.files_done + seen.files_skipped + seen.files_failed <= seen.files_planned == number + 1
        assert seen.bytes_done + seen.bytes_skipped + seen.bytes_failed <= seen.bytes_planned
        assert seen.seconds_left is None
        assert seen.bytes_per_s >= 0
    totals(Event("planned_all"))
    seen = totals.snapshot()
    open_files = [size for size, ending, _ in files if not ending]
    assert seen.files_planned - seen.files_done - seen.files_skipped - seen.files_failed == len(open_files)
    assert len(seen.under_way) == sum(size > LARGE for size in open_files)
    assert seen.bytes_planned == sum(size for size, _, _ in files)
    assert json.loads(json.dumps(seen.to_dict()))["bytes_done"] == seen.bytes_done


def test_speed_is_of_the_last_seconds() -> None:
    now = 0.0
    totals = Totals(lambda: now)
    totals(Event("planned", "big", 10**9))
    totals(Event("started", "big", 10**9))
    totals(Event("planned_all"))
    for step, amount in ((1.0, 1_000_000), (0.1, 100_000)):
        for _ in range(int(30 / step)):
            now += step
            totals(Event("moved", "big", amount))
        assert totals.snapshot().bytes_per_s == pytest.approx(1_000_000, rel=0.01)
    assert totals.snapshot().seconds_left == pytest.approx(940, rel=0.01)
    now += 20
    assert totals.snapshot().bytes_per_s == 0
    assert totals.snapshot().seconds_left is None


def test_an_event_costs_next_to_nothing() -> None:
    totals = Totals()
    totals(Event("started", "big", 10**9))
    begun = time.process_time()
    for _ in range(25_000):
        totals(Event("planned", "a", 5))
        totals(Event("done", "a", 5))
        totals(Event("moved", "a", 5))
        totals(Event("moved", "big", 5))
    assert time.process_time() - begun < 0.45, "0.06 s on an idle machine"


@pytest.fixture
def slow(home: Path, tmp_path: Path) -> Path:
    """A tree with a large file, and a service called ``slow`` that takes four seconds for it."""
    service = ServiceSettings("slow", "local", root=str(tmp_path / "slow"), options={"bytes_per_second": "3M"})
    configure(home, [service])
    files = {"wide-文件-\x1b[31m.bin": b"x" * (9 << 20)} | {f"small-{number}": b"y" for number in range(30)}
    return write_tree(tmp_path / "tree", files)


def watch(argv: list[str], columns: int) -> tuple[list[list[str]], pyte.Screen, int]:
    """Run a command on a terminal; return the screens that were seen, the last one, and the exit code."""
    leader, follower = pty.openpty()
    fcntl.ioctl(follower, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
    environment = {**os.environ, "TERM": "xterm-256color"}
    for variable in ("COLUMNS", "LINES"):
        environment.pop(variable, None)
    process = subprocess.Popen(argv, stdin=follower, stdout=follower, stderr=follower, env=environment)
    os.close(follower)
    screen = pyte.Screen(columns, 24)
    stream = pyte.ByteStream(screen)
    seen: list[list[str]] = []
    with suppress(OSError):  # the end of a terminal
        while piece := os.read(leader, 65536):
            stream.feed(piece)
            seen.append([line.rstrip() for line in screen.display if line.strip()])
    os.close(leader)
    return seen, screen, process.wait(60)


@pytest.mark.parametrize("columns", [40, 100])
def test_bars_on_a_terminal(slow: Path, columns: int) -> None:
    seen, screen, code = watch([*CDIR, str(slow), "slow:to"], columns)
    assert code == 0
    bars = [lines for lines in seen if len(lines) == 2 and lines[0].startswith("30/31 files")]
    assert bars, seen[-5:]
    percents = [int(found.group(1)) for lines in bars if (found := re.search(r"(\d+)%", lines[1]))]
    assert percents == sorted(percents)
    assert len(set(percents)) > 3
    assert any("/9.0 MiB" in lines[0] and "MiB/s" in lines[0] for lines in bars)
    assert all("\\x1b[31m" in lines[1] or columns == 40 for lines in bars)
    if columns == 100:
        assert any("left" in lines[0] for lines in bars)
    assert not any("%" in line or "━" in line for line in screen.display), "nothing is left of them"
    assert not screen.cursor.hidden


def test_a_pipe_is_told_nothing_unasked_and_quiet_wins(slow: Path) -> None:
    for options in ([], ["--quiet", "--progress=0.1"]):
        done = subprocess.run([*CDIR, *options, str(slow / "small-1"), "slow:to"], capture_output=True, check=True)
        assert done.stderr == b""


def test_lines_when_asked_for(slow: Path) -> None:
    done = subprocess.run([*CDIR, "--progress=0.5s", str(slow), "slow:to"], capture_output=True, check=True, text=True)
    lines = done.stderr.splitlines()
    assert len(lines) > 2
    assert all(re.match(r"\d\d:\d\d:\d\d  \d+/31 files  \d\.\d/9.0 MiB  ", line) for line in lines), lines
    assert "  31/31 files  9.0/9.0 MiB  " in lines[-1]
    assert "0:00 left" in lines[-1]


def test_lines_for_programs(slow: Path) -> None:
    (slow / "small-1").chmod(0)
    blocked = slow.parent / "slow/to/small-2"
    blocked.mkdir(parents=True)
    done = subprocess.run(
        [*CDIR, "--progress=0.5", "--output=json", str(slow), "slow:to"], capture_output=True, text=True
    )
    assert done.returncode == 1
    assert isinstance(json.loads(done.stdout), dict), "the result alone"
    events = [json.loads(line) for line in done.stderr.splitlines()]
    assert [one["event"] for one in events].count("end") == 1
    assert {one["event"] for one in events} == {"progress", "failed", "end"}
    assert any(one["event"] == "failed" and one["name"].endswith("small-2") and one["error"] for one in events)
    assert events[-1]["event"] == "end"
    assert events[-1]["files_planned"] == 31
    ends = ("files_done", "files_skipped", "files_failed")
    assert sum(events[-1][end] for end in ends) == 31


@pytest.mark.parametrize("typed", ["0", "-1", "often"])
def test_progress_needs_a_time(slow: Path, typed: str) -> None:
    done = subprocess.run([*CDIR, f"--progress={typed}", str(slow), "slow:to"], capture_output=True, text=True)
    assert done.returncode == 2
    assert "--progress" in done.stderr


def test_warnings_stand_above_the_bars_and_colours_can_be_left_out(slow: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (slow / "lost").symlink_to(slow / "nowhere")
    monkeypatch.setenv("NO_COLOR", "1")
    seen, screen, code = watch([*CDIR, str(slow), "slow:to"], 100)
    assert code == 0
    assert any("%" in lines[-1] and lines[0].startswith("warning: ") for lines in seen if lines), seen[-3:]
    assert screen.display[0].startswith("warning: ")
    colours = {cell.fg for row in screen.buffer.values() for cell in row.values()}
    assert colours <= {"default"}


def test_a_terminal_may_change_its_width_meanwhile() -> None:
    """A process draws while the terminal is made narrower and wider again."""
    code = """
import sys, threading, time
from cloudmesh.storage.progress.bars import Bars
from cloudmesh.storage.transfer.events import Event
bars = Bars()
for number in range(10):
    bars.observe(Event("planned", f"file-{number}", 5 << 20))
    bars.observe(Event("started", f"file-{number}", 5 << 20))
sys.stdin.readline()
print("warning: mind the gap", file=sys.stderr)
sys.stdin.readline()
bars.close(final=True)
"""
    leader, follower = pty.openpty()
    mode = termios.tcgetattr(follower)
    mode[3] &= ~termios.ECHO  # a line end that is echoed would move the bars
    termios.tcsetattr(follower, termios.TCSANOW, mode)
    environment = {key: value for key, value in os.environ.items() if key not in ("COLUMNS", "LINES")}
    process = subprocess.Popen(
        [sys.executable, "-c", code],
        stdin=follower,
        stdout=follower,
        stderr=follower,
        env=environment | {"TERM": "xterm-256color"},
    )
    screen = pyte.Screen(100, 24)
    stream = pyte.ByteStream(screen)
    for columns in (100, 40, 100):
        screen.resize(24, columns)
        fcntl.ioctl(follower, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
        wanted = "planned so far" if columns == 100 else "file-0"
        deadline = time.monotonic() + 30
        drawn = 0
        lines: list[str] = []
        while drawn < 3 and time.monotonic() < deadline:
            stream.feed(os.read(leader, 65536))
            lines = [line for line in screen.display if line.strip()]
            drawn += len(lines) == 7 and any(wanted in line for line in lines)  # a read may end within a picture
        assert drawn == 3, "the total and six of ten files"
        assert lines[0].startswith("0/10 files")
    os.close(follower)
    os.write(leader, b"\n")
    deadline = time.monotonic() + 30
    while not any("mind the gap" in line for line in screen.display) and time.monotonic() < deadline:
        stream.feed(os.read(leader, 65536))
    os.write(leader, b"\n")
    with suppress(OSError):
        while piece := os.read(leader, 65536):
            stream.feed(piece)
    os.close(leader)
    assert process.wait(60) == 0
    left = [line.rstrip() for line in screen.display if line.strip()]
    assert left == ["warning: mind the gap"], "written while bars were there, and alone in the end"
