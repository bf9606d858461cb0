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
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import httpx
import pytest

from cloudmesh.cdir.service.security.principal import SCOPES, Scope
from cloudmesh.cdir.service.security.tokens import Tokens
from cloudmesh.storage.database import Database
from deploy.servers import SeaweedFS, Wsgidav, free_port
from tests.places import configure, local


@dataclass
class Service:
    """A service that runs, and what it writes to its log."""

    url: str
    tls: ssl.SSLContext | None
    process: subprocess.Popen[bytes]
    log: IO[bytes]
    seen: int = 0

    def client(self) -> httpx.Client:
        """A client that may do everything."""
        headers = {"Authorization": f"Bearer {new_token()}"}
        return httpx.Client(base_url=self.url, timeout=60, headers=headers, verify=self.tls or True)

    def check_log(self) -> None:
        """Fail where something went wrong in it since it was looked at last."""
        size = os.fstat(self.log.fileno()).st_size
        told = os.pread(self.log.fileno(), size - self.seen, self.seen).decode()  # the place where it writes is its own
        self.seen = size
        assert '"traceback"' not in told, told


@contextmanager
def serving(*, stop: float = 60, tls: ssl.SSLContext | None = None, **environment: str) -> Iterator[Service]:
    """A service that runs while the block does."""
    port = free_port()
    url = f"http://127.0.0.1:{port}" if tls is None else f"https://localhost:{port}"
    with tempfile.TemporaryFile() as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "cloudmesh.cdir.service.server"],
            env=os.environ | {"CDIR_SERVICE_PORT": str(port)} | environment,
            stderr=log,
        )
        service = Service(url, tls, process, log)
        try:
            with httpx.Client(base_url=url, timeout=60, verify=tls or True) as client:
                wait_until_ready(client, process)
            yield service
        finally:
            process.terminate()
            try:
                process.wait(stop)
            except subprocess.TimeoutExpired:
                process.kill()
                raise
            service.check_log()


@contextmanager
def running(*, stop: float = 60, tls: ssl.SSLContext | None = None, **environment: str) -> Iterator[httpx.Client]:
    """A client of a service that runs while the block does."""
    with serving(stop=stop, tls=tls, **environment) as service, service.client() as client:
        yield client


def new_token(scope: Sequence[Scope] = SCOPES, **limits: Any) -> str:
    """A new token of the test's own database; for everything unless told otherwise."""
    with Database() as database:
        return Tokens(lambda: database).create(scope=list(scope), **limits).token


def wait_until_ready(client: httpx.Client, process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + 90
    while True:
        assert process.poll() is None, "the service ended"
        assert time.monotonic() < deadline, "the service does not answer"
        try:
            if client.get("/readyz").status_code == 200:
                return
        except httpx.TransportError:
            time.sleep(0.05)


def wait_for(is_so: Callable[[], bool], seconds: float = 60) -> None:
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
def client(disks: dict[str, Path], served: httpx.Client) -> httpx.Client:
    """A client of a service with these services."""
    return served


@pytest.fixture
def start(disks: dict[str, Path]) -> Iterator[Start]:
    """Starts a service, which is ended with the test."""
    with ExitStack() as stack:
        yield lambda **settings: stack.enter_context(running(**settings))
