"""The log of a job: a file below the configuration folder, bounded in size, readable by its user alone."""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Callable, Iterator
from io import TextIOWrapper
from logging.handlers import RotatingFileHandler
from pathlib import Path
from urllib.parse import quote

from cloudmesh.storage.errors import NotFound
from cloudmesh.storage.home import config_dir
from cloudmesh.storage.local_files import translated
from cloudmesh.storage.output import visible
from cloudmesh.storage.records import Job

FOLDER = "jobs"
MAX_BYTES = 1 << 20
"""Of one file; then it becomes ``….log.1``, in place of an older one, and a new one begins."""

_POLL_S = 0.3
_PIECE = 1 << 16


def path_of(name: str) -> Path:
    """Return the file of a job's log on this computer."""
    return Path(os.path.abspath(config_dir() / FOLDER / f"{quote(name, safe='')}.log"))


class Log:
    """A log being written; lines of the time with its offset, and a text in one line.

    Args:
        path: the file; it is gone on with, and made where it is missing.

    Raises:
        StorageError: it cannot be written.
    """

    def __init__(self, path: Path) -> None:
        with translated(str(path)):
            path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._handler = _Handler(
                path, maxBytes=MAX_BYTES, backupCount=1, encoding="utf-8", errors="backslashreplace"
            )
        self._handler.setFormatter(logging.Formatter("%(asctime)s %(message)s", "%Y-%m-%dT%H:%M:%S%z"))

    def write(self, text: str) -> None:
        """Add a line."""
        self._handler.handle(logging.LogRecord("job", logging.INFO, "", 0, visible(text), (), None))

    def close(self) -> None:
        """Close the file."""
        self._handler.close()


class _Handler(RotatingFileHandler):
    """Makes files that only their user may read; what cannot be written, as on a full disk, does not end the work."""

    def _open(self) -> TextIOWrapper:
        descriptor = os.open(self.baseFilename, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
        return TextIOWrapper(open(descriptor, "ab"), encoding=self.encoding, errors=self.errors)

    def handleError(self, record: logging.LogRecord) -> None:
        return


def lines(job: Job, here: str, ended: Callable[[], bool] | None) -> Iterator[bytes]:
    """Yield a job's log from the beginning, in pieces.

    Args:
        job: whose.
        here: this computer's name.
        ended: tells whether the job has ended: until then what is added is waited for; None waits for nothing.

    Raises:
        NotFound: the log is on another computer, or there is none.
    """
    path = Path(job.log)
    if not job.log or (job.host != here and not path.exists()):
        where = f"the log is on {job.host}: {job.log}" if job.log else "the job has no log yet"
        raise NotFound(job.name, where)
    with translated(str(path)):
        older = path.with_name(f"{path.name}.1")
        if older.exists():
            yield older.read_bytes()
        file = path.open("rb")
        try:
            while True:
                last = ended is None or ended()
                while piece := file.read(_PIECE):
                    yield piece
                if last:
                    return
                time.sleep(_POLL_S)
                if _is_another(path, file.fileno()):
                    yield file.read()
                    file.close()
                    file = path.open("rb")
        finally:
            file.close()


def _is_another(path: Path, descriptor: int) -> bool:
    """Tell whether a new file was begun under that name."""
    try:
        return not os.path.samestat(path.stat(), os.fstat(descriptor))
    except FileNotFoundError:  # in this moment
        return False


def remove(job: Job) -> None:
    """Remove a job's log, where it is on this computer."""
    path = path_of(job.name)
    if job.log == str(path):
        with translated(str(path)):
            path.unlink(missing_ok=True)
            path.with_name(f"{path.name}.1").unlink(missing_ok=True)
