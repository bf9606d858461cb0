"""Files that cannot be read to their end, with no other replica to go on with: who asks learns it, and soon."""

from __future__ import annotations

import asyncio
import gc
import http.client
import os
from collections.abc import Callable
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import httpx
import pytest

from cloudmesh.cdir.service import answers
from cloudmesh.cdir.service.security import audit
from cloudmesh.storage.abc import Entry, Reader
from cloudmesh.storage.database import Database
from cloudmesh.vdir import Vdir
from deploy.servers import SeaweedFS
from tests.cdir.service.conftest import running
from tests.faults import FaultProxy
from tests.places import configure, local, write_tree

MIB = 1024 * 1024
DATA = os.urandom(MIB) * 32


def test_a_truncated_replica(home: Path, tmp_path: Path) -> None:
    configure(home, [local("one", tmp_path / "one")])

    def truncate(name: str, *, keeps_time: bool) -> None:
        file = tmp_path / "one" / name
        before = file.stat()
        os.truncate(file, 5 * MIB)
        if keeps_time:
            os.utime(file, ns=(before.st_atime_ns, before.st_mtime_ns))

    expected: set[tuple[str, str, str, int | None]] = set()
    with running() as client:  # which looks for tracebacks in the log
        for number in range(4):
            keeps_time, url = number < 2, f"/files/f{number}"
            asked, status = ({}, 200) if number % 2 else ({"Range": "bytes=10-"}, 206)
            client.put(f"/files/one/f{number}", content=DATA)
            with client.stream("GET", url, headers=asked) as answer:
                assert answer.status_code == status
                truncate(f"f{number}", keeps_time=keeps_time)
                with pytest.raises(httpx.RemoteProtocolError):
                    answer.read()
            answer = client.get(url, headers=asked)
            assert (answer.status_code, answer.json()["error"]) == (409, "PreconditionFailed")
            expected |= {("PUT", f"/files/one/f{number}", "done", 201), ("GET", url, "failed", status)}
    with closing(Database()) as database:
        told = {(one.what, one.path, one.outcome, one.status) for one in audit.entries(database) if one.status}
    assert told == expected


def test_who_has_all_of_a_file_and_goes_at_once_has_read_it(home: Path, tmp_path: Path) -> None:
    configure(home, [local("one", tmp_path / "one")])
    with running() as client:
        client.put("/files/one/f", content=DATA)
        for wanted in [*[len(DATA)] * 12, MIB]:
            with closing(http.client.HTTPConnection(client.base_url.host, client.base_url.port)) as connection:
                connection.request("GET", "/files/f", headers=dict(client.headers))
                assert len(connection.getresponse().read(wanted)) == wanted
    with closing(Database()) as database:
        told = [one.outcome for one in audit.entries(database) if one.what == "GET"]
    assert told == [*["done"] * 12, "failed"]


def test_a_service_that_gives_nothing(
    home: Path, tmp_path: Path, seaweedfs: SeaweedFS, fault_proxy: Callable[[int], FaultProxy], served: httpx.Client
) -> None:
    """Its own retries would go on for minutes."""
    fragile = fault_proxy(seaweedfs.port)
    service = seaweedfs.settings("aws", bucket=seaweedfs.make_bucket(), port=fragile.port)
    configure(home, [replace(service, options={**service.options, "read_timeout": 1})])
    with Vdir() as vdir:
        vdir.put(str(write_tree(tmp_path / "source", {"f": DATA}) / "f"), "/f", to=["aws"])
    fragile.drop()  # no connection that was used before
    fragile.stall(after=0, times=None)
    for url in ("/files/f", "/api/v1/services/aws/content/f"):
        answer = served.get(url)
        assert (answer.status_code, answer.json()["error"]) == (503, "Unavailable")
        assert "it has given nothing for 1 s" in answer.json()["detail"]


def test_a_stop_does_not_wait_for_an_answer_that_does_not_come(
    home: Path, seaweedfs: SeaweedFS, fault_proxy: Callable[[int], FaultProxy]
) -> None:
    fragile = fault_proxy(seaweedfs.port)
    configure(home, [seaweedfs.settings("aws", bucket=seaweedfs.make_bucket(), port=fragile.port)])
    with running(CDIR_SERVICE_PATIENCE="1") as client:
        client.put("/files/aws/f", content=DATA)
        fragile.drop()  # no connection that was used before
        fragile.stall(after=0, times=None)
        with pytest.raises(httpx.ReadTimeout):
            client.get("/files/f", timeout=1)


def test_a_reader_is_closed_although_who_asked_has_gone_before_the_first_piece() -> None:
    closed: list[str] = []

    async def gone() -> dict[str, str]:
        return {"type": "http.disconnect"}

    async def unheard(message: object) -> None:
        await asyncio.sleep(0)

    async def answer() -> None:
        reader = Reader(Entry("f"), iter([b"bytes"]), close=lambda: closed.append("f"))
        await answers.Streamed(answers.closing(reader))(
            {"type": "http", "asgi": {"spec_version": "2.3"}}, gone, unheard
        )

    asyncio.run(answer())
    gc.collect()  # the task that was ended is in a cycle
    assert closed == ["f"]
