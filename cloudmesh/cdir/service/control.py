"""`ServiceApi`: what ``cdir service`` does."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import ClassVar

from cloudmesh.cdir.service import state
from cloudmesh.cdir.service.settings import VARIABLE, Settings, load
from cloudmesh.cdir.service.state import ServiceState
from cloudmesh.storage.errors import AlreadyExists, MissingExtra, StorageError, Unavailable
from cloudmesh.storage.home import config_dir

_READY_S = 30.0
_POLL_S = 0.05


class ServiceApi:
    """The REST service on this computer."""

    usage_exempt: ClassVar[frozenset[str]] = frozenset()

    def run(self, *, port: int | None = None, workers: int | None = None) -> None:
        """Serve in the foreground, until Ctrl-C.

        Args:
            port: where to listen on 127.0.0.1.
            workers: processes; more than one needs PostgreSQL.

        Raises:
            AlreadyExists: it is running.
            MissingExtra: the packages of the service are not installed.
        """
        try:
            from cloudmesh.cdir.service.server import serve
        except ImportError as error:
            raise _missing(error) from None
        serve(_settings(port, workers))

    def start(self, *, port: int | None = None, workers: int | None = None) -> ServiceState:
        """Serve in a process of its own, and return when it answers.

        Args:
            port: as of `run`.
            workers: likewise.

        Raises:
            as `run`; Unavailable: it did not come up.
        """
        now = state.current()
        if now.state != "stopped":
            raise AlreadyExists("cdir service", f"it is running already at {now.url}", "cdir service stop ends it")
        settings = _settings(port, workers)
        values = {VARIABLE + name.upper(): str(getattr(settings, name)) for name in settings.__slots__}
        environment = os.environ | values
        if folder := environment.get("CLOUDMESH_CONFIG_DIR"):
            environment["CLOUDMESH_CONFIG_DIR"] = os.path.abspath(os.path.expanduser(folder))
        log = config_dir() / "service.log"
        config_dir().mkdir(mode=0o700, parents=True, exist_ok=True)
        with log.open("wb") as output:
            process = subprocess.Popen(
                [sys.executable, "-m", "cloudmesh.cdir.service.server"],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,
                cwd="/",
                env=environment,
            )
        return _when_ready(process, log)

    def stop(self) -> ServiceState:
        """End it: what is under way may end, jobs are interrupted and go on when it starts again.

        Raises:
            Unavailable: it does not end.
        """
        now = state.current()
        if now.pid is not None:
            with suppress(ProcessLookupError):
                os.kill(now.pid, signal.SIGTERM)
            deadline = time.monotonic() + load().patience + _READY_S
            while state.current().state != "stopped":
                if time.monotonic() > deadline:
                    raise Unavailable(f"process {now.pid}", "does not end", f"kill -KILL {now.pid} ends it")
                time.sleep(_POLL_S)
        return state.current()

    def status(self) -> ServiceState:
        """Return whether it runs, and where."""
        return state.current()


def _settings(port: int | None, workers: int | None) -> Settings:
    settings = load()
    return replace(settings, port=settings.port if port is None else port, workers=workers or settings.workers)


def _when_ready(process: subprocess.Popen[bytes], log: Path) -> ServiceState:
    deadline = time.monotonic() + _READY_S
    while time.monotonic() < deadline:
        if process.poll() is not None:
            lines = log.read_text("utf-8", "replace").splitlines()
            why = next(
                (line.removeprefix("error: ") for line in lines if line.startswith("error: ")), "it ended at once"
            )
            raise StorageError("cdir service", why, f"its log is {log}")
        now = state.current()
        if now.pid == process.pid and _answers(now.url):
            return now
        time.sleep(_POLL_S)
    process.terminate()
    raise Unavailable("cdir service", f"it does not answer after {_READY_S:.0f} s", f"its log is {log}")


def _answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(f"{url}/readyz", timeout=2) as answer:  # noqa: S310 - an address of ours
            return bool(answer.status == 200)
    except (urllib.error.URLError, OSError):
        return False


def _missing(error: ImportError) -> MissingExtra:
    return MissingExtra(
        "cdir service", f"the package {error.name} is not installed", "pip install 'cloudmesh-vdir[service]'"
    )
