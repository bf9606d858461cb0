"""The real servers, each started when the first test asks for it, and a fresh home for every test.

Every worker of pytest-xdist has its own servers. One that does not come up makes its tests fail, never be skipped.
"""

from __future__ import annotations

import shutil
import signal
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from deploy.servers import (
    ApacheDav,
    OpenSsh,
    Postgres,
    RcloneS3,
    RcloneWebdav,
    SeaweedFS,
    Wsgidav,
    free_port,
)
from tests.faults import FaultProxy, HttpFaults

if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:
    # as of a run that was started in the background: every command that is tested would inherit it, and not be stopped
    signal.signal(signal.SIGINT, signal.default_int_handler)

pytest_plugins = ["tests.storage.conformance.table", "tests.vdir.crash_table"]


@pytest.fixture(autouse=True)
def home(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty configuration folder; nothing of the real user's is seen or touched."""
    folder = tmp_path_factory.mktemp("home")
    monkeypatch.setenv("HOME", str(folder))
    for variable in (
        "CDIR_CWD",
        "CDIR_DATABASE",
        "SSH_AUTH_SOCK",
        "AWS_PROFILE",
        "AWS_ACCESS_KEY_ID",
        "AWS_SECRET_ACCESS_KEY",
    ):
        monkeypatch.delenv(variable, raising=False)
    configuration = folder / ".cloudmesh"
    configuration.mkdir(mode=0o700)
    monkeypatch.setenv("CLOUDMESH_CONFIG_DIR", str(configuration))
    return configuration


@pytest.fixture(scope="session")
def server_directory() -> Iterator[Path]:
    """Where the servers keep their things: unlike pytest's own folders one that other users may pass through."""
    folder = Path(tempfile.mkdtemp(prefix="cdir-servers-"))
    folder.chmod(0o711)
    yield folder
    shutil.rmtree(folder)


@pytest.fixture(scope="session")
def seaweedfs(server_directory: Path) -> Iterator[SeaweedFS]:
    with SeaweedFS(server_directory / "seaweedfs") as server:
        yield server


@pytest.fixture(scope="session")
def rclone_s3(server_directory: Path) -> Iterator[RcloneS3]:
    with RcloneS3(server_directory / "rclone-s3") as server:
        yield server


@pytest.fixture(scope="session")
def wsgidav(server_directory: Path) -> Iterator[Wsgidav]:
    with Wsgidav(server_directory / "wsgidav") as server:
        yield server


@pytest.fixture(scope="session")
def wsgidav_digest(server_directory: Path) -> Iterator[Wsgidav]:
    with Wsgidav(server_directory / "wsgidav-digest", digest=True) as server:
        yield server


@pytest.fixture(scope="session")
def apache_dav(server_directory: Path) -> Iterator[ApacheDav]:
    with ApacheDav(server_directory / "apache") as server:
        yield server


@pytest.fixture(scope="session")
def apache_dav_digest(server_directory: Path) -> Iterator[ApacheDav]:
    with ApacheDav(server_directory / "apache-digest", digest=True) as server:
        yield server


@pytest.fixture(scope="session")
def rclone_webdav(server_directory: Path) -> Iterator[RcloneWebdav]:
    with RcloneWebdav(server_directory / "rclone-webdav") as server:
        yield server


@pytest.fixture(scope="session")
def openssh(server_directory: Path) -> Iterator[OpenSsh]:
    with OpenSsh(server_directory / "openssh") as server:
        yield server


@pytest.fixture(scope="session")
def postgres(server_directory: Path) -> Iterator[Postgres]:
    with Postgres(server_directory / "postgres") as server:
        yield server


@pytest.fixture
def database_url(postgres: Postgres) -> Iterator[str]:
    """An empty PostgreSQL database for one test."""
    url = postgres.make_database()
    yield url
    postgres.drop_database(url)


@pytest.fixture
def fault_proxy() -> Iterator[Callable[[int], FaultProxy]]:
    """Makes a running `FaultProxy` before a port; ended with the test."""
    with ExitStack() as stack:
        yield lambda port: stack.enter_context(FaultProxy(port))


@pytest.fixture
def http_faults() -> Iterator[Callable[[int], HttpFaults]]:
    """Makes a running `HttpFaults` before a port; ended with the test."""
    with ExitStack() as stack:
        yield lambda port: stack.enter_context(HttpFaults(port))


@pytest.fixture(scope="session")
def dead_port() -> int:
    """A port of 127.0.0.1 at which nothing listens."""
    return free_port()
