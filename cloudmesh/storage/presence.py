"""Whether the process that left something behind, a lease or a temporary file, is still at work.

A process that leaves such things has a random id, and holds a lock on a small file of that name in the configuration
folder. The operating system gives the lock back when the process ends, however it ends. So a file whose lock is free
tells for certain that its process is gone; where there is no file (of another computer, or of a process that ended
well) nothing is certain.
"""

from __future__ import annotations

import atexit
import fcntl
import os
import threading
import time
from contextlib import suppress
from pathlib import Path

from cloudmesh.storage.home import config_dir
from cloudmesh.storage.paths import TEMPORARY_PREFIX

FOLDER = "processes"
KEPT_SECONDS = 30 * 24 * 3600
"""How long the file of a process that was killed is kept, so that what it left is known to be nobody's."""

_ID_BYTES = 8
_lock = threading.Lock()
_mine: str | None = None
_file: Path | None = None
_descriptor: int | None = None


def mine() -> str:
    """Return this process's id; others can tell from it that the process is gone once it is."""
    global _mine
    with _lock:
        if _mine is None:
            name = os.urandom(_ID_BYTES).hex()
            with suppress(OSError):  # then nobody will be certain
                _announce(name)
            _mine = name
        return _mine


def is_gone(process: str) -> bool:
    """Tell whether a process, by its id, is certainly not there any more."""
    with suppress(OSError):
        descriptor = os.open(config_dir() / FOLDER / process, os.O_RDWR | os.O_CLOEXEC)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
            return True
        finally:
            os.close(descriptor)
    return False


def temporary_name(prefix: str = TEMPORARY_PREFIX) -> str:
    """Return a new name for a temporary object; it tells which process made it.

    Args:
        prefix: begins the name; itself begins with `TEMPORARY_PREFIX`, and a dash is its end.
    """
    return f"{prefix}{mine()}{os.urandom(_ID_BYTES).hex()}"


def is_abandoned(name: str) -> bool:
    """Tell whether the process that made a temporary object, by its base name, is certainly gone."""
    return is_gone(name.rpartition("-")[2][: 2 * _ID_BYTES])


def _announce(name: str) -> None:
    global _file, _descriptor
    folder = config_dir() / FOLDER
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    _forget_old(folder)
    draft = folder / f".{name}"
    descriptor = os.open(draft, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    draft.rename(folder / name)  # only now others see it: with its lock taken
    _file, _descriptor = folder / name, descriptor
    atexit.register(_leave, os.getpid())


def _forget_old(folder: Path) -> None:
    oldest = time.time() - KEPT_SECONDS
    for file in folder.iterdir():
        if file.stat().st_mtime < oldest and is_gone(file.name):
            file.unlink(missing_ok=True)


def _leave(process: int) -> None:
    if _file is not None and os.getpid() == process:
        with suppress(OSError):
            _file.unlink(missing_ok=True)


def _forked() -> None:
    """Let a forked process be another one; closing its copy of the descriptor leaves the parent's lock alone."""
    global _lock, _mine, _file, _descriptor
    _lock = threading.Lock()
    if _descriptor is not None:
        os.close(_descriptor)
    _mine = _file = _descriptor = None


os.register_at_fork(after_in_child=_forked)
