"""Long work as jobs of the service: begun, watched, paused, and taken up after the service has ended."""

from __future__ import annotations

import json
import os
import signal
import time
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from cloudmesh.cdir.service.state import current
from cloudmesh.storage import Storage
from cloudmesh.storage.abc import ServiceSettings
from cloudmesh.storage.home import config_dir
from cloudmesh.vdir import Vdir
from tests.cdir.service.conftest import running
from tests.places import configure, local, read_tree, write_tree

FILES = {f"d{i % 3}/f{i:02}": bytes([i]) * 50_000 for i in range(30)}
LARGE = {f"f{i:02}": bytes([i]) * 1_500_000 for i in range(12)}
"""Large enough to be moved one by one."""


@pytest.fixture
def slow(home: Path, tmp_path: Path) -> dict[str, Path]:
    """Services ``one``, which has files, and ``slow``, which takes one of them in more than a second."""
    roots = {name: tmp_path / name for name in ("one", "slow")}
    write_tree(roots["one"], LARGE)
    settings = ServiceSettings("slow", "local", root=str(roots["slow"]), options={"bytes_per_second": "1M"})
    configure(home, [local("one", roots["one"]), settings])
    return roots


def hurry(roots: dict[str, Path]) -> None:
    """Let ``slow`` be as fast as others, for jobs that begin or go on after this."""
    configure(config_dir(), [local(name, root) for name, root in roots.items()])


def events(client: httpx.Client, name: str, last: str = "") -> Generator[tuple[str, str, Any], None, None]:
    """The id, kind and data of each event."""
    headers = {"Last-Event-ID": last} if last else {}
    with client.stream("GET", f"/api/v1/jobs/{name}/events", headers=headers, timeout=60) as answer:
        assert answer.status_code == 200
        told: dict[str, str] = {}
        for line in answer.iter_lines():
            if not line and told:
                yield told["id"], told["event"], json.loads(told["data"])
                told = {}
            elif not line.startswith(":") and line:
                key, _, value = line.partition(": ")
                told[key] = value


def state(client: httpx.Client, name: str) -> str:
    return str(client.get(f"/api/v1/jobs/{name}").json()["state"])


def until(client: httpx.Client, name: str, *states: str, seconds: float = 60) -> None:
    deadline = time.monotonic() + seconds
    while (now := state(client, name)) not in states:
        assert time.monotonic() < deadline, now
        time.sleep(0.1)


def begun(client: httpx.Client, **more: Any) -> str:
    answer = client.post(
        "/api/v1/storage/copy",
        json={"source": "one:", "destination": "slow:", "recursive": True, "parallel": 1, **more},
    )
    assert answer.status_code == 202, answer.text
    name = answer.json()["name"]
    assert answer.headers["location"] == f"/api/v1/jobs/{name}"
    return str(name)


def test_long_work_is_a_job_with_progress_and_a_result(client: httpx.Client, disks: dict[str, Path]) -> None:
    write_tree(disks["one"], FILES)
    answer = client.post("/api/v1/vdir/add", json={"fileendpoint": "one:", "dir_and_name": "/data/", "recursive": True})
    name = answer.json()["name"]
    kinds = [(kind, data) for _, kind, data in events(client, name)]
    assert kinds[-1][0] == "end"
    assert kinds[-1][1]["job"]["state"] == "done"
    assert kinds[-1][1]["result"]["returned"]["files"] == 30
    name = client.post("/api/v1/vdir/copy", json={"dir_or_name": "/data", "to": ["aws"], "recursive": True}).json()[
        "name"
    ]
    last = list(events(client, name))[-1][2]
    assert (last["job"]["files_done"], last["job"]["bytes_done"], last["job"]["kind"]) == (30, 1_500_000, "vdir copy")
    result = client.get(f"/api/v1/jobs/{name}/result").json()
    assert (result["action"], result["files"], result["bytes"]) == ("copy", 30, 1_500_000)
    with Vdir() as vdir:
        assert {tuple(one.services) for one in vdir.ls("/data", recursive=True) if one.kind == "file"} == {
            ("aws", "one")
        }
    assert {one["name"] for one in client.get("/api/v1/jobs").json()} >= {name}


def test_who_waits_gets_the_result_at_once(client: httpx.Client, disks: dict[str, Path]) -> None:
    write_tree(disks["one"], {"a": b"x"})
    values = {"source": "one:a", "destination": "two:"}
    dry = client.post("/api/v1/storage/copy", json=values | {"dryrun": True})
    assert (dry.status_code, dry.json()["files"]) == (200, 1)
    answer = client.post("/api/v1/storage/copy", json=values, headers={"Prefer": "wait=30"})
    assert (answer.status_code, answer.json()["files"]) == (200, 1)
    assert read_tree(disks["two"]) == {"a": b"x"}
    gone = client.request("DELETE", "/api/v1/storage/delete", params={"source": "two:a"}, headers={"Prefer": "wait=30"})
    assert (gone.status_code, gone.json()["files"]) == (200, 1)
    failed = client.post("/api/v1/storage/copy", json=values | {"source": "one:none"}, headers={"Prefer": "wait=30"})
    assert (failed.status_code, failed.json()["detail"]) == (404, "one:none: not found")


def test_a_job_that_fails_tells_why(client: httpx.Client) -> None:
    name = client.post("/api/v1/storage/copy", json={"source": "one:none", "destination": "two:"}).json()["name"]
    _, kind, data = list(events(client, name))[-1]
    assert (kind, data["job"]["state"]) == ("end", "failed")
    result = client.get(f"/api/v1/jobs/{name}/result")
    assert (result.status_code, result.json()["error"]) == (404, "NotFound")
    assert client.get("/api/v1/jobs/none").status_code == 404
    assert client.get("/api/v1/jobs/none/events").status_code == 404


def test_a_job_is_paused_resumed_and_cancelled(slow: dict[str, Path], home: Path, served: httpx.Client) -> None:
    name = begun(served)
    until(served, name, "running")
    assert served.get(f"/api/v1/jobs/{name}/result").status_code == 409
    assert served.post(f"/api/v1/jobs/{name}/pause").status_code == 200
    until(served, name, "paused")
    assert len(read_tree(slow["slow"])) < 12
    hurry(slow)
    assert served.post(f"/api/v1/jobs/{name}/resume").status_code == 200
    until(served, name, "done")
    assert read_tree(slow["slow"]) == LARGE
    name = begun(served, checksum=True, parallel=2)
    served.post(f"/api/v1/jobs/{name}/cancel")
    until(served, name, "cancelled", "done")
    assert served.delete(f"/api/v1/jobs/{name}").status_code == 200
    assert served.get(f"/api/v1/jobs/{name}").status_code == 404


def test_progress_is_joined_again(slow: dict[str, Path], served: httpx.Client) -> None:
    for name in sorted(LARGE)[5:]:
        (slow["one"] / name).unlink()
    name = begun(served)
    stream = events(served, name)
    first = next(stream)
    second = next(one for one in stream if one[1] == "progress" and one[2]["files_done"] > 0)
    stream.close()
    assert first[0] != second[0]
    again = [one for one in events(served, name, last=second[0]) if one[1] != "under_way"]
    assert again[0][0] != second[0], "what was told is not told again"
    done = [data["files_done"] for _, kind, data in again if kind == "progress"]
    assert done == sorted(done)
    assert done[0] >= second[2]["files_done"]
    assert again[-1][1] == "end"


def test_files_under_way_and_counts_are_of_one_moment(slow: dict[str, Path]) -> None:
    moved = 0
    with running() as client:
        for _, kind, data in events(client, begun(client)):
            if kind == "under_way":
                moved = sum(one["bytes_done"] for one in data["files"])
            elif kind == "progress":
                assert data["bytes_done"] >= moved
                assert data["bytes_total"] >= data["bytes_done"]
                moved = 0


@pytest.mark.parametrize("end", [signal.SIGTERM, signal.SIGKILL])
def test_a_job_goes_on_after_a_restart(slow: dict[str, Path], end: signal.Signals) -> None:
    with ended_by(end) as client:
        name = begun(client)
        until(client, name, "running")
        while not client.get(f"/api/v1/jobs/{name}").json()["files_done"]:
            time.sleep(0.1)
    with Storage() as storage:
        before = storage.jobs.show(name)
        assert before.state == ("interrupted" if end is signal.SIGTERM else "running")
    hurry(slow)
    with running() as client:
        until(client, name, "done", seconds=90)
        result = client.get(f"/api/v1/jobs/{name}/result").json()
        assert result["skipped"] > 0, "what was done is not done again"
    there = read_tree(slow["slow"])  # a process that is killed leaves a temporary file
    assert {name: data for name, data in there.items() if not name.startswith(".cdir-tmp-")} == LARGE


def test_a_second_signal_in_the_middle_of_the_first_ends_it_too(home: Path) -> None:
    with running():
        pid = current().pid
        assert pid is not None
        for _ in range(2000):
            os.kill(pid, signal.SIGTERM)


@contextmanager
def ended_by(number: signal.Signals) -> Iterator[httpx.Client]:
    """A service that is ended by a signal."""
    with running() as client:
        yield client
        pid = current().pid
        assert pid is not None
        os.kill(pid, number)


def test_a_move_stops_too_and_goes_on(slow: dict[str, Path], served: httpx.Client) -> None:
    values = {"source": "one:", "destination": "slow:", "recursive": True, "parallel": 1}
    name = str(served.post("/api/v1/storage/move", json=values).json()["name"])
    served.post(f"/api/v1/jobs/{name}/pause")
    until(served, name, "paused")
    assert {**read_tree(slow["one"]), **read_tree(slow["slow"])} == LARGE
    assert read_tree(slow["one"])
    hurry(slow)
    served.post(f"/api/v1/jobs/{name}/resume")
    until(served, name, "done")
    assert read_tree(slow["slow"]) == LARGE
    assert not read_tree(slow["one"])
