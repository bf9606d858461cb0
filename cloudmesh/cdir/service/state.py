"""The running service as other processes of this computer see it: a lock that it holds, and a file that names it."""

from __future__ import annotations

import fcntl
import json
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, ClassVar

from cloudmesh.storage.errors import AlreadyExists
from cloudmesh.storage.home import config_dir
from cloudmesh.storage.local_files import replacing, translated


@dataclass(frozen=True, slots=True)
class ServiceState:
    """The service of this configuration.

    Attributes:
        state: whether it runs.
        url: where it is reached.
        pid: its process.
        started_ns: since when, in ns since the epoch.
        fingerprint: the SHA-256 of its certificate, to be compared; empty without TLS.
        listens: the address and port at which this computer reaches it.
        patience: seconds that requests and jobs under way have at a stop.
    """

    columns: ClassVar[tuple[str, ...]] = ("state", "url", "pid", "started_ns", "fingerprint")

    state: str
    url: str = ""
    pid: int | None = None
    started_ns: int | None = None
    fingerprint: str = ""
    listens: str = ""
    patience: float = 0.0


_LOOKS_S = 1.0
"""How long a new service waits for those who look whether there is one: each has the lock for a moment."""

_AGAIN_S = 0.01


def current() -> ServiceState:
    """Return whether a service runs, and where."""
    with _lock_file() as lock:
        if _locked(lock, fcntl.LOCK_SH):  # shared: others who look are no service
            return ServiceState("stopped")
    try:
        told = json.loads(_file().read_text("utf-8"))
    except (FileNotFoundError, ValueError):  # it has just begun
        return ServiceState("starting")
    return ServiceState("running", **told)


@contextmanager
def serving(url: str, fingerprint: str, listens: str, patience: float) -> Iterator[None]:
    """Be the service of this configuration while the block runs; the arguments are fields of `ServiceState`.

    Raises:
        AlreadyExists: another process is.
    """
    with _lock_file() as lock:
        deadline = time.monotonic() + _LOOKS_S
        while not _locked(lock, fcntl.LOCK_EX):
            if time.monotonic() > deadline:
                raise already(current())
            time.sleep(_AGAIN_S)
        _file().unlink(missing_ok=True)  # that of a service that was killed
        try:
            with translated(str(_file())), replacing(_file()) as temporary:
                told = {"url": url, "pid": os.getpid(), "started_ns": time.time_ns()}
                told |= {"fingerprint": fingerprint, "listens": listens, "patience": patience}
                temporary.write_text(json.dumps(told), "utf-8")
            yield
        finally:
            _file().unlink(missing_ok=True)


def already(now: ServiceState) -> AlreadyExists:
    """Return the error that there is one."""
    what = f"is running already as process {now.pid} at {now.url}" if now.pid else "is starting"
    return AlreadyExists("cdir service", f"it {what}", "cdir service stop ends it")


def _file() -> Path:
    return config_dir() / "service.json"


def _lock_file() -> IO[bytes]:
    config_dir().mkdir(mode=0o700, parents=True, exist_ok=True)
    return (config_dir() / "service.lock").open("ab")


def _locked(lock: IO[bytes], how: int) -> bool:
    try:
        fcntl.flock(lock, how | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
