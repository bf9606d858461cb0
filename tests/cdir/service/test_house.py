"""The services of a running service follow their configuration, and what an earlier one opened is closed."""

from __future__ import annotations

import os
from pathlib import Path

import httpx
import psutil

from cloudmesh.cdir.service.state import current
from deploy.servers import SeaweedFS, Wsgidav
from tests.cdir.service.conftest import running, wait_for
from tests.places import configure, local

DATA = os.urandom(1 << 20) * 32
ENOUGH = 8


def test_what_earlier_configurations_opened_is_closed_when_nobody_uses_it_any_more(
    home: Path, tmp_path: Path, seaweedfs: SeaweedFS, wsgidav: Wsgidav
) -> None:
    services = [
        seaweedfs.settings("aws", bucket=seaweedfs.make_bucket()),
        wsgidav.settings("dav", root=tmp_path.name),
    ]

    def change(client: httpx.Client, number: int) -> None:
        """Add a service, and use them all."""
        configure(home, [*services, local(f"new{number}", tmp_path / f"new{number}")])
        for service in ("aws", "dav", f"new{number}"):
            assert client.put(f"/files/{service}/f{number}", content=b"x").status_code < 300
            assert client.get(f"/files/{service}/f{number}").content == b"x"

    with running() as client:
        process = psutil.Process(current().pid)

        def used() -> tuple[int, int]:
            return process.num_fds(), process.num_threads()

        change(client, 0)
        client.put("/files/aws/big", content=DATA)
        with client.stream("GET", "/files/big") as answer:
            pieces = answer.iter_bytes()
            got = [next(pieces)]
            for number in range(1, 4):
                change(client, number)
            got += pieces
        assert b"".join(got) == DATA, "who began with one configuration ends with it"
        before = used()
        for number in range(4, 4 + ENOUGH):
            change(client, number)
        wait_for(lambda: all(now < one + ENOUGH for now, one in zip(used(), before, strict=True)))
