"""`ServiceApi`: what ``cdir service`` does."""

from __future__ import annotations

import http.client
import os
import signal
import ssl
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar
from urllib.parse import urlsplit

from cloudmesh.cdir.service import state
from cloudmesh.cdir.service.settings import Port, Settings, load
from cloudmesh.cdir.service.state import ServiceState
from cloudmesh.storage.binding import Count
from cloudmesh.storage.errors import MissingExtra, StorageError, Unavailable
from cloudmesh.storage.home import config_dir

if TYPE_CHECKING:
    from cloudmesh.storage.database import Database

_READY_S = 30.0
_POLL_S = 0.05


@dataclass(frozen=True, slots=True)
class SignIn:
    """How to sign in with a browser.

    Attributes:
        link: works once, for a quarter of an hour; whoever has it may do everything.
        fingerprint: of the certificate, to be compared with what the browser shows; empty without TLS.
    """

    columns: ClassVar[tuple[str, ...]] = ("link", "fingerprint")

    link: str
    fingerprint: str = ""

    def __repr__(self) -> str:
        return "SignIn()"


@dataclass(frozen=True, slots=True)
class Started:
    """A service that was started.

    Attributes:
        url: where it is reached.
        pid: its process.
        link: as of `SignIn`.
        fingerprint: likewise.
    """

    columns: ClassVar[tuple[str, ...]] = ("url", "pid", "link", "fingerprint")

    url: str
    pid: int | None
    link: str
    fingerprint: str = ""

    def __repr__(self) -> str:
        return f"Started(url={self.url!r}, pid={self.pid})"


class ServiceApi:
    """The REST service on this computer.

    Args:
        database: gives the one in which sign-in links are kept.
    """

    usage_exempt: ClassVar[frozenset[str]] = frozenset()

    def __init__(self, database: Callable[[], Database]) -> None:
        self._database = database

    def run(self, *, port: Port | None = None, workers: Count | None = None) -> None:
        """Serve in the foreground, until Ctrl-C.

        Args:
            port: where to listen on 127.0.0.1.
            workers: processes that serve together.

        Raises:
            AlreadyExists: it is running.
            MissingExtra: the packages of the service are not installed.
        """
        try:
            from cloudmesh.cdir.service.server import serve
        except ImportError as error:
            raise _missing(error) from None
        serve(_settings(port, workers), self._announce)

    def start(self, *, port: Port | None = None, workers: Count | None = None) -> Started:
        """Serve in a process of its own, and return when it answers.

        Args:
            port: as of `run`.
            workers: likewise.

        Raises:
            as `run`; Unavailable: it did not come up.
        """
        now = state.current()
        if now.state != "stopped":
            raise state.already(now)
        settings = _settings(port, workers)
        environment = os.environ | settings.as_environment()
        if folder := environment.get("CLOUDMESH_CONFIG_DIR"):
            environment["CLOUDMESH_CONFIG_DIR"] = os.path.abspath(os.path.expanduser(folder))
        log = config_dir() / "service.log"
        config_dir().mkdir(mode=0o700, parents=True, exist_ok=True)
        descriptor = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)  # another one may be writing there
        with os.fdopen(descriptor, "wb") as output:
            begin = os.fstat(descriptor).st_size
            process = subprocess.Popen(
                [sys.executable, "-m", "cloudmesh.cdir.service.server"],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,
                cwd="/",
                env=environment,
            )
        now = _when_ready(process, log, begin)
        return Started(now.url, now.pid, self._link(now), now.fingerprint)

    def open(self) -> SignIn:
        """Make a link that signs a browser in to the running service, once.

        Raises:
            Unavailable: none runs.
        """
        now = state.current()
        if now.state != "running":
            raise Unavailable("cdir service", "it is not running", "cdir service start")
        return SignIn(self._link(now), now.fingerprint)

    def _announce(self, now: ServiceState) -> None:
        print(f"the service is at {now.url}; this link signs a browser in, once:\n  {self._link(now)}")
        if now.fingerprint:
            print(f"the SHA-256 of its certificate is {now.fingerprint}")
        sys.stdout.flush()

    def _link(self, now: ServiceState) -> str:
        from cloudmesh.cdir.service.security.sessions import Sessions

        return Sessions(self._database).new_link(now.url)

    def stop(self) -> ServiceState:
        """End it: what is under way may end, jobs are interrupted and go on when it starts again.

        Raises:
            Unavailable: it does not end.
        """
        told: int | None = None
        deadline = time.monotonic() + _READY_S
        # without a process it is still ending, or another one has begun that is not known yet
        while (now := state.current()).state != "stopped" and (told is None or now.pid in (told, None)):
            if told is None and now.pid is not None:
                told = now.pid
                deadline += now.patience
                with suppress(ProcessLookupError):
                    os.kill(told, signal.SIGTERM)
            elif time.monotonic() > deadline:
                what = "cdir service" if told is None else f"process {told}"
                raise Unavailable(what, "does not end", "kill -KILL ends it")
            time.sleep(_POLL_S)
        return now

    def status(self) -> ServiceState:
        """Return whether it runs, and where."""
        return state.current()


def _settings(port: int | None, workers: int | None) -> Settings:
    settings = load()
    return replace(settings, port=settings.port if port is None else port, workers=workers or settings.workers)


def _when_ready(process: subprocess.Popen[bytes], log: Path, begin: int) -> ServiceState:
    deadline = time.monotonic() + _READY_S
    while time.monotonic() < deadline:
        if process.poll() is not None:
            lines = log.read_bytes()[begin:].decode("utf-8", "replace").splitlines()
            if told := [line.removeprefix("error: ") for line in lines if line.startswith("error: ")]:
                raise StorageError("", told[0])
            raise StorageError("cdir service", "it ended at once", f"its log is {log}")
        now = state.current()
        if now.pid == process.pid and _answers(now):
            return now
        time.sleep(_POLL_S)
    process.terminate()
    raise Unavailable("cdir service", f"it does not answer after {_READY_S:.0f} s", f"its log is {log}")


def _answers(now: ServiceState) -> bool:
    url = urlsplit(now.url)
    connection = http.client.HTTPConnection(now.listens, timeout=2)
    if now.fingerprint:  # whose certificate it is does not matter: nothing secret is told
        connection = http.client.HTTPSConnection(now.listens, timeout=2, context=ssl._create_unverified_context())  # noqa: S323
    try:
        connection.request("GET", "/readyz", headers={"Host": url.netloc})
        return connection.getresponse().status == 200
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()


def _missing(error: ImportError) -> MissingExtra:
    return MissingExtra(
        "cdir service", f"the package {error.name} is not installed", "pip install 'cloudmesh-vdir[service]'"
    )
