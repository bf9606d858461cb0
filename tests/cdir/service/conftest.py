"""The service as a process of its own, over services of three kinds."""

from __future__ import annotations

import os
import ssl
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from cloudmesh.cdir.service.security.principal import SCOPES, Scope
from cloudmesh.cdir.service.security.tokens import Tokens
from cloudmesh.storage.database import Database
from deploy.servers import SeaweedFS, Wsgidav, free_port
from tests.places import configure, local


@contextmanager
def running(*, stop: float = 20, tls: ssl.SSLContext | None = None, **environment: str) -> Iterator[httpx.Client]:
    """A client of a service that runs while the block does."""
    port = free_port()
    with tempfile.TemporaryFile() as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "cloudmesh.cdir.service.server"],
            env=os.environ | {"CDIR_SERVICE_PORT": str(port)} | environment,
            stderr=log,
        )
        try:
            headers = {"Authorization": f"Bearer {new_token()}"}
            url = f"http://127.0.0.1:{port}" if tls is None else f"https://localhost:{port}"
            with httpx.Client(base_url=url, timeout=30, headers=headers, verify=tls or True) as client:
                wait_until_ready(client, process)
                yield client
        finally:
            process.terminate()
            try:
                process.wait(stop)
            except subprocess.TimeoutExpired:
                process.kill()
                raise
            log.seek(0)
            told = log.read().decode()
            assert '"traceback"' not in told, told


def new_token(scope: Sequence[Scope] = SCOPES, **limits: Any) -> str:
    """A new token of the test's own database; for everything unless told otherwise."""
    with Database() as database:
        return Tokens(lambda: database).create(scope=list(scope), **limits).token


def wait_until_ready(client: httpx.Client, process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + 30
    while True:
        assert process.poll() is None, "the service ended"
        assert time.monotonic() < deadline, "the service does not answer"
        try:
            if client.get("/readyz").status_code == 200:
                return
        except httpx.TransportError:
            time.sleep(0.05)


def wait_for(is_so: Callable[[], bool], seconds: float = 30) -> None:
    """Return as soon as it is so; fail where it does not become so in time."""
    deadline = time.monotonic() + seconds
    while not is_so():
        assert time.monotonic() < deadline
        time.sleep(0.05)


Start = Callable[..., httpx.Client]


@pytest.fixture
def disks(home: Path, tmp_path: Path, seaweedfs: SeaweedFS, wsgidav: Wsgidav) -> dict[str, Path]:
    """Services ``one``, ``two`` (local), ``aws`` (S3) and ``dav`` (WebDAV); the roots of the local ones."""
    roots = {name: tmp_path / name for name in ("one", "two")}
    services = [local(name, root) for name, root in roots.items()]
    services.append(seaweedfs.settings("aws", bucket=seaweedfs.make_bucket()))
    services.append(wsgidav.settings("dav", root=f"run-{time.time_ns()}"))
    configure(home, services)
    return roots


@pytest.fixture
def client(disks: dict[str, Path]) -> Iterator[httpx.Client]:
    """A client of a running service."""
    with running() as found:
        yield found


@pytest.fixture
def start(disks: dict[str, Path]) -> Iterator[Start]:
    """Starts a service, which is ended with the test."""
    with ExitStack() as stack:
        yield lambda **settings: stack.enter_context(running(**settings))
