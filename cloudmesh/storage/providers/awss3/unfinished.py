"""Uploads in parts that a killed process left unfinished: their parts cost money, and no listing shows them.

While an upload runs, a small file in the configuration folder names it, and the process holds a lock on that file. The
operating system gives the lock back when the process ends, however it ends. So a file whose lock is free tells for
certain that nobody works on that upload any more. The next upload of the same local file to the same key goes on with
it; any other upload to the same bucket aborts it, unless its local file is still as it was and may well be sent again.
Uploads of other programs are never touched.
"""

from __future__ import annotations

import fcntl
import json
import os
import time
import uuid
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cloudmesh.storage.errors import NotFound, StorageError
from cloudmesh.storage.home import config_dir

if TYPE_CHECKING:
    from cloudmesh.storage.providers.awss3.http import Http

FOLDER = "uploads"
KEPT_SECONDS = 7 * 24 * 3600
"""How long an upload is kept for the next try after its process ended."""


@dataclass(frozen=True, slots=True)
class LocalSource:
    """A local file as it was when its upload began: absolute path, bytes, and modification time in ns."""

    path: str
    size: int
    mtime_ns: int

    @property
    def unchanged(self) -> bool:
        """Whether the file is still the same."""
        try:
            status = os.stat(self.path)
        except OSError:
            return False
        return (status.st_size, status.st_mtime_ns) == (self.size, self.mtime_ns)


@dataclass(frozen=True, slots=True)
class Note:
    """An upload that is noted as being worked on; the note stays unless `forget` is called."""

    upload_id: str
    _file: Path | None

    def forget(self) -> None:
        """Remove the note."""
        if self._file is not None:
            with suppress(OSError):
                self._file.unlink(missing_ok=True)


class UnfinishedUploads:
    """The notes about uploads to one bucket of one service. What the local disk refuses does not stop an upload."""

    def __init__(self, endpoint: str, bucket: str) -> None:
        self._place = {"endpoint": endpoint, "Bucket": bucket}

    def note(self, key: str, upload_id: str, source: LocalSource | None, held: ExitStack) -> Note:
        """Note an upload as being worked on until ``held`` is closed."""
        file = None
        upload = {"Key": key, "UploadId": upload_id, "source": None if source is None else asdict(source)}
        with suppress(OSError):
            file = self._write(upload, held)
        return Note(upload_id, file)

    def find(self, key: str, source: LocalSource, held: ExitStack) -> Note | None:
        """Return an upload of ``source`` that an ended process left, as noted by us now; see `note`."""
        wanted = {"Key": key, "source": asdict(source)}
        for note, upload, lock in self._ended():
            if {name: upload.get(name) for name in wanted} == wanted:
                held.enter_context(lock.pop_all())
                return Note(str(upload["UploadId"]), note)
        return None

    def abort(self, http: Http) -> None:
        """Abort what ended processes left in this bucket; what cannot be aborted now stays noted."""
        for note, upload, _ in self._ended():
            if self._worth_keeping(note, upload):
                continue
            with suppress(StorageError):
                with suppress(NotFound):
                    http.request("", "DELETE", str(upload["Key"]), query={"uploadId": str(upload["UploadId"])})
                with suppress(OSError):
                    note.unlink(missing_ok=True)

    def _write(self, upload: Mapping[str, Any], held: ExitStack) -> Path:
        folder = config_dir() / FOLDER
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        name = uuid.uuid4().hex
        draft, note = folder / f"{name}.new", folder / f"{name}.json"
        descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        held.callback(os.close, descriptor)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            os.write(descriptor, json.dumps({**self._place, **upload}).encode())
            # Only now others see it: with its lock taken.
            draft.rename(note)
        except OSError:
            draft.unlink(missing_ok=True)
            raise
        return note

    def _ended(self) -> Iterator[tuple[Path, dict[str, Any], ExitStack]]:
        """Yield the notes whose processes ended, each locked until the next or as long as its stack lives."""
        with suppress(OSError):
            for note in list((config_dir() / FOLDER).glob("*.json")):
                with ExitStack() as lock, suppress(FileNotFoundError, BlockingIOError):
                    file = lock.enter_context(note.open("rb"))
                    fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    try:
                        upload = json.loads(file.read())
                        place = {name: upload.pop(name) for name in self._place}
                        complete = bool(upload["Key"]) and bool(upload["UploadId"])
                    except (ValueError, KeyError, TypeError, AttributeError):
                        complete, place = False, {}
                    if not complete:
                        note.unlink(missing_ok=True)  # a power failure left no whole note
                    elif place == self._place and note.exists():
                        yield note, upload, lock

    @staticmethod
    def _worth_keeping(note: Path, upload: Mapping[str, Any]) -> bool:
        try:
            source = LocalSource(**upload["source"])
            age = time.time() - note.stat().st_mtime
        except (KeyError, TypeError, OSError):
            return False
        return age < KEPT_SECONDS and source.unchanged
