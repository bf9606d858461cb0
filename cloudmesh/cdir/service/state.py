"""The running service as other processes of this computer see it: a lock that it holds, and a file that names it."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from filelock import FileLock, Timeout

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
    """

    columns: ClassVar[tuple[str, ...]] = ("state", "url", "pid", "started_ns", "fingerprint")

    state: str
    url: str = ""
    pid: int | None = None
    started_ns: int | None = None
    fingerprint: str = ""
    listens: str = ""


def current() -> ServiceState:
    """Return whether a service runs, and where."""
    lock = _lock()
    try:
        with lock.acquire(timeout=0):
            return ServiceState("stopped")
    except Timeout:
        pass
    try:
        told = json.loads(_file().read_text("utf-8"))
    except (FileNotFoundError, ValueError):  # it has just begun
        return ServiceState("starting")
    return ServiceState("running", **told)


@contextmanager
def serving(url: str, fingerprint: str, listens: str) -> Iterator[None]:
    """Be the service of this configuration while the block runs; the arguments are fields of `ServiceState`.

    Raises:
        AlreadyExists: another process is.
    """
    lock = _lock()
    try:
        lock.acquire(timeout=0)
    except Timeout:
        running = current()
        where = f" as process {running.pid} at {running.url}" if running.pid else ""
        raise AlreadyExists("cdir service", f"it is running already{where}", "cdir service stop ends it") from None
    try:
        with translated(str(_file())), replacing(_file()) as temporary:
            told = {"url": url, "pid": os.getpid(), "started_ns": time.time_ns()}
            told |= {"fingerprint": fingerprint, "listens": listens}
            temporary.write_text(json.dumps(told), "utf-8")
        yield
    finally:
        _file().unlink(missing_ok=True)
        lock.release()


def _file() -> Path:
    return config_dir() / "service.json"


def _lock() -> FileLock:
    config_dir().mkdir(mode=0o700, parents=True, exist_ok=True)
    return FileLock(config_dir() / "service.lock", thread_local=False)
