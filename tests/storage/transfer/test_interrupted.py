"""Commands interrupted and killed while they work: they end at once, and done again they complete it all."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from cloudmesh.storage.paths import TEMPORARY_PREFIX
from deploy.servers import RcloneWebdav, SeaweedFS
from tests.faults import Direction, FaultProxy
from tests.places import configure, local, read_tree, write_tree
from tests.storage.transfer.places import leftovers

PROGRAM = [sys.executable, "-m", "cloudmesh.cdir.main", "storage"]
PROMPT_S = 6.0


def start(*arguments: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [*PROGRAM, *arguments], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, stdin=subprocess.DEVNULL
    )


def done(*arguments: str) -> None:
    process = start(*arguments)
    errors = process.communicate(timeout=60)[1]
    assert process.returncode == 0, errors


def wait_for(condition: Callable[[], bool]) -> None:
    end = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.02)


def interrupted(process: subprocess.Popen[str]) -> float:
    """Send Ctrl-C; return the seconds until the process has ended."""
    begun = time.monotonic()
    process.send_signal(signal.SIGINT)
    errors = process.communicate(timeout=60)[1]
    assert process.returncode == 130, errors
    assert errors.strip().endswith("interrupted")
    assert "Traceback" not in errors
    return time.monotonic() - begun


@pytest.mark.parametrize("kind", ["awss3", "webdav"])
@pytest.mark.parametrize("way", ["put", "get"])
def test_an_interruption_ends_large_files_at_once_and_the_same_command_goes_on(
    home: Path, tmp_path: Path, seaweedfs: SeaweedFS, rclone_webdav: RcloneWebdav,
    fault_proxy: Callable[[int], FaultProxy], kind: str, way: str,
) -> None:  # fmt: skip
    files = {"big1": os.urandom(1 << 25), "big2": os.urandom(1 << 24), "small": b"s"}
    write_tree(tmp_path / "one", files)
    if kind == "awss3":
        proxy = fault_proxy(seaweedfs.port)
        service = seaweedfs.settings("there", bucket=seaweedfs.make_bucket(), port=proxy.port)
    else:
        proxy = fault_proxy(rclone_webdav.port)
        service = rclone_webdav.settings("there", root=f"interrupted-{way}", port=proxy.port)
    configure(home, [service])
    command = ["put", str(tmp_path / "one"), "there:t", "--recursive"]
    if way == "get":
        done(*command)
        command = ["get", "there:t", str(tmp_path / "two"), "--recursive"]
    direction: Direction = "up" if way == "put" else "down"
    before = proxy.passed[direction]
    proxy.slow(bytes_per_second=300_000, after=200_000, direction=direction)
    process = start(*command)
    wait_for(lambda: proxy.passed[direction] > before + 500_000)
    assert interrupted(process) < PROMPT_S
    assert not leftovers(tmp_path)
    proxy.heal()
    done(*command)
    if way == "put":
        done("get", "there:t", str(tmp_path / "two"), "--recursive")
    assert read_tree(tmp_path / "two") == files


def test_an_interruption_does_not_wait_for_a_service_that_does_not_answer(
    home: Path, tmp_path: Path, seaweedfs: SeaweedFS, fault_proxy: Callable[[int], FaultProxy]
) -> None:
    write_tree(tmp_path / "one", {f"f{number}": b"x" * 4000 for number in range(200)})
    proxy = fault_proxy(seaweedfs.port)
    configure(home, [seaweedfs.settings("there", bucket=seaweedfs.make_bucket(), port=proxy.port)])
    proxy.stall(after=20_000, direction="up", times=None)
    process = start("put", str(tmp_path / "one"), "there:t", "--recursive")
    wait_for(lambda: proxy.fired >= 4)
    assert interrupted(process) < PROMPT_S
    proxy.refuse()
    process = start("put", str(tmp_path / "one"), "there:t", "--recursive")
    time.sleep(1.5)  # it waits for its next try now
    assert interrupted(process) < PROMPT_S


def files_below(directory: Path) -> int:
    """Count files."""
    return sum(len(files) for _, _, files in os.walk(directory))


@pytest.mark.parametrize("way", ["put", "get", "copy", "sync"])
def test_a_command_killed_at_any_moment_is_completed_by_doing_it_again(
    home: Path, tmp_path: Path, seaweedfs: SeaweedFS, way: str
) -> None:
    files = {f"d{number % 7}/{number:03}": b"%d" % number * 100 for number in range(800)}
    files |= {f"big{number}": os.urandom(5_000_000) for number in range(3)}
    one = write_tree(tmp_path / "one", files)
    aws = seaweedfs.settings("aws", bucket=seaweedfs.make_bucket())
    configure(home, [aws, replace(aws, name="other", root="below"), local("disk", tmp_path / "disk")])
    if way in ("get", "copy"):
        done("put", str(one), "aws:t", "--recursive")
    command = {
        "put": ["put", str(one), "aws:t", "--recursive"],
        "get": ["get", "aws:t", str(tmp_path / "two"), "--recursive"],
        "copy": ["copy", "aws:t", "other:t", "--recursive"],
        "sync": ["sync", str(one), "disk:t", "--delete"],
    }[way]
    moments = random.Random(way)
    killed = 0
    for _ in range(6):
        process = start(*command)
        if way == "sync":  # from disk to disk it takes a moment, so that its moments are those of its files
            enough = files_below(tmp_path / "disk") + moments.randrange(1, 100)
            wait_for(
                lambda enough=enough, process=process: (  # type: ignore[misc]
                    files_below(tmp_path / "disk") >= enough or process.poll() is not None
                )
            )
        else:
            time.sleep(moments.uniform(0.15, 0.6))
        process.kill()
        killed += process.wait() != 0
        process.communicate()
    assert killed
    done(*command)
    place = {"put": "aws:t", "copy": "other:t"}.get(way)
    if place is not None:
        done("get", place, str(tmp_path / "two"), "--recursive")
    there = read_tree(tmp_path / ("disk/t" if way == "sync" else "two"))
    # a killed process cannot remove its temporary files; on a disk they stay, hidden from listings
    assert {name: data for name, data in there.items() if TEMPORARY_PREFIX not in name} == files
    process = start(*command, "--output=json")
    assert '"files": 0' in process.communicate(timeout=60)[0]
    listed = seaweedfs.client().list_objects_v2(Bucket=aws.credentials["bucket"]).get("Contents", [])
    assert not [one["Key"] for one in listed if TEMPORARY_PREFIX in one["Key"]]
