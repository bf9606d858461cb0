"""Uploads in parts that a killed process left unfinished: their parts cost money, and no listing shows them.

While an upload runs, a small file in the configuration folder names it, and the process holds a lock on that file. The
operating system gives the lock back when the process ends, however it ends. So a file whose lock is free tells for
certain that nobody works on that upload any more, and the next upload to the same bucket aborts it, without
waiting a day and without touching uploads of other programs.
"""

from __future__ import annotations

import fcntl
import json
import os
import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

from cloudmesh.storage.home import config_dir
from cloudmesh.storage.providers.awss3.faults import status_and_code

FOLDER = "uploads"


class UnfinishedUploads:
    """The notes about uploads to one bucket of one service. What the local disk refuses does not stop an upload."""

    def __init__(self, endpoint: str, bucket: str) -> None:
        self._place = {"endpoint": endpoint, "Bucket": bucket}

    @contextmanager
    def noted(self, upload: Mapping[str, str]) -> Iterator[Callable[[], None]]:
        """Note ``upload`` (Bucket, Key, UploadId) as being worked on; the note stays unless the given call is made."""
        with ExitStack() as held:
            note: Path | None = None
            with suppress(OSError):
                note = self._write(upload, held)

            def forget() -> None:
                if note is not None:
                    with suppress(OSError):
                        note.unlink(missing_ok=True)

            yield forget

    def _write(self, upload: Mapping[str, str], held: ExitStack) -> Path:
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

    def abort(self, client: Any) -> None:
        """Abort what ended processes left in this bucket; what cannot be aborted now stays noted."""
        with suppress(OSError):
            for note in (config_dir() / FOLDER).glob("*.json"):
                with suppress(FileNotFoundError), note.open("rb") as file, suppress(BlockingIOError):
                    fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    self._abort(client, note, file.read())

    def _abort(self, client: Any, note: Path, text: bytes) -> None:
        try:
            upload = json.loads(text)
            if {name: upload.pop(name) for name in self._place} != self._place:
                return
            options = {"Bucket": self._place["Bucket"], "Key": str(upload["Key"]), "UploadId": str(upload["UploadId"])}
        except (ValueError, KeyError, TypeError, AttributeError):
            note.unlink(missing_ok=True)  # a power failure left no whole note
            return
        try:
            client.abort_multipart_upload(**options)
        except Exception as error:
            if status_and_code(error)[0] != 404:
                return
        note.unlink(missing_ok=True)
