"""Several processes are one service, on both databases: whichever of them answers, and whichever of them is killed."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import psutil
import pytest
from prometheus_client.parser import text_string_to_metric_families

from cloudmesh.cdir.service.security import audit
from cloudmesh.cdir.service.security.identity import FRESH_S
from cloudmesh.cdir.service.security.sessions import Sessions
from cloudmesh.cdir.service.security.tokens import Tokens
from cloudmesh.cdir.service.state import current
from cloudmesh.storage import Storage
from cloudmesh.storage.database import Database
from tests.cdir.service.conftest import running, wait_for
from tests.cdir.service.test_jobs import LARGE, begun, events, hurry, slow, until
from tests.places import read_tree

__all__ = ["slow"]  # a fixture

BELIEVED_S = FRESH_S + 0.1
"""After so long each process asks the database again."""

ENOUGH = 20
"""Requests, each on a connection of its own, that both of two processes have a part in: but once in 2¹⁹ times.

Twice as many are no more than one process answers with 401 at once.
"""


@pytest.fixture(params=["sqlite", "postgresql"])
def service(
    slow: dict[str, Path], request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> Iterator[httpx.Client]:
    """A client of a service of two processes, each of whose requests any of them may answer."""
    if request.param == "postgresql":
        monkeypatch.setenv("CDIR_DATABASE", request.getfixturevalue("database_url"))
    with running(CDIR_SERVICE_WORKERS="2") as client:
        wait_for(lambda: len(workers()) == 2)
        client.headers["Connection"] = "close"
        yield client


def workers() -> set[int]:
    """The processes that answer."""
    parent = psutil.Process(current().pid)
    return {one.pid for one in parent.children() if "spawn_main" in command(one)}


def command(process: psutil.Process) -> str:
    """What a process runs; nothing once it has ended."""
    try:
        return " ".join(process.cmdline())
    except (psutil.NoSuchProcess, psutil.ZombieProcess):
        return ""


def metrics(client: httpx.Client) -> dict[tuple[str, str], float]:
    """The samples by name and route."""
    found: dict[tuple[str, str], float] = {}
    for family in text_string_to_metric_families(client.get("/metrics").text):
        for sample in family.samples:
            key = sample.name, sample.labels.get("route", "")
            found[key] = found.get(key, 0) + sample.value
    return found


def test_all_of_them_know_who_may_do_what_and_count_and_write_down_together(
    service: httpx.Client, slow: dict[str, Path]
) -> None:
    url = str(service.base_url)
    with Database() as database:
        made = Tokens(lambda: database).create(scope=["read"])
        headers = {"Authorization": f"Bearer {made.token}"}
        assert {service.get("/api/v1/vdir/ls", headers=headers).status_code for _ in range(ENOUGH)} == {200}
        Tokens(lambda: database).revoke(made.id)
        time.sleep(BELIEVED_S)
        assert {service.get("/api/v1/vdir/ls", headers=headers).status_code for _ in range(ENOUGH)} == {401}
        link = Sessions(lambda: database).new_link(url)
        browser = {"Cookie": httpx.get(link).headers["set-cookie"].partition(";")[0]}
    with httpx.Client(base_url=url, headers=browser | {"Connection": "close"}) as page:
        assert {page.get("/api/v1/vdir/ls").status_code for _ in range(ENOUGH)} == {200}
        assert page.post("/signout", headers={"Origin": url}).status_code == 200
        time.sleep(BELIEVED_S)
        assert {page.get("/api/v1/vdir/ls").status_code for _ in range(ENOUGH)} == {401}
    assert metrics(service)["cdir_requests_total", "/api/v1/vdir/ls"] == 2 * ENOUGH  # others came to no route
    for number in range(ENOUGH):
        assert service.put(f"/files/one/f{number}", content=b"x").status_code in (201, 200)

    def written() -> set[str]:
        with Database() as database:
            return {one.path for one in audit.entries(database) if one.what == "PUT" and one.outcome == "done"}

    wait_for(lambda: written() == {f"/files/one/f{number}" for number in range(ENOUGH)})


def test_what_one_of_them_did_when_it_was_killed_another_goes_on_with(
    service: httpx.Client, slow: dict[str, Path]
) -> None:
    name = begun(service)
    stream = events(service, name)
    seen = next(one for one in stream if one[1] == "progress" and one[2]["files_done"] > 0)
    stream.close()
    with Storage() as storage:
        killed = storage.jobs.show(name).pid
    assert killed in workers()
    os.kill(killed, signal.SIGKILL)
    hurry(slow)
    until(service, name, "done", seconds=90)
    with Storage() as storage:
        assert storage.jobs.show(name).pid != killed
    assert service.get(f"/api/v1/jobs/{name}/result").json()["skipped"] > 0, "what was done is not done again"
    again = list(events(service, name, last=seen[0]))  # of whichever process
    assert again[-1][1] == "end"
    there = read_tree(slow["slow"])  # a process that is killed leaves a temporary file
    assert {name: data for name, data in there.items() if not name.startswith(".cdir-tmp-")} == LARGE
    wait_for(lambda: len(workers()) == 2 and killed not in workers())
    wait_for(lambda: metrics(service)["cdir_requests_under_way", ""] == 1)


def test_one_that_dies_instead_of_saying_that_it_is_well_is_replaced_at_once(service: httpx.Client) -> None:
    dead = min(workers())
    os.kill(dead, signal.SIGSTOP)
    time.sleep(2)  # the first process asks each of them twice a second, and now waits for this one
    os.kill(dead, signal.SIGKILL)
    wait_for(lambda: len(workers()) == 2 and dead not in workers())


def test_all_of_them_end_together(service: httpx.Client, slow: dict[str, Path]) -> None:
    name = begun(service)
    wait_for(lambda: bool(service.get(f"/api/v1/jobs/{name}").json()["files_done"]))
    before, parent = workers(), current().pid
    assert parent is not None
    os.kill(parent, signal.SIGTERM)
    wait_for(lambda: not any(map(is_alive, before)))
    with Storage() as storage:
        assert storage.jobs.show(name).state == "interrupted"


def test_none_of_them_stays_when_the_first_process_is_killed(service: httpx.Client) -> None:
    before, parent = workers(), current().pid
    assert parent is not None
    os.kill(parent, signal.SIGKILL)
    wait_for(lambda: not any(map(is_alive, before)))
    assert current().state == "stopped"


def is_alive(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False
