"""Every step by which a command changes something, by name, and killing the process right after one of them.

A step is a system call that changes a file below a service's directory, a request that changes something on a service,
or a transaction of the catalogue. What is between two steps changes nothing outside of the process, so a process that
is killed after each of its steps has been killed everywhere. All of it is put around the program in a process of its
own, which is a copy of the test's.
"""

from __future__ import annotations

import json
import os
import signal
import sys
from collections.abc import Callable, Generator, Iterable, Mapping
from contextlib import contextmanager
from functools import wraps
from pathlib import Path
from typing import Any

from cloudmesh.storage.database import Database
from cloudmesh.storage.http_multi import HttpMulti, Transfer
from cloudmesh.storage.http_source import Source
from cloudmesh.storage.paths import TEMPORARY_PREFIX, VERSIONS
from cloudmesh.storage.providers import local
from cloudmesh.storage.providers.sftp.protocol import Sftp
from cloudmesh.storage.providers.webdav.http import Client
from cloudmesh.vdir import Vdir

TRANSACTIONS = {
    "Database._migrate": "tables made",
    "Catalogue.add_intents": "intents written",
    "Catalogue.add_versions": "kept contents written",
    "Catalogue.make_dir": "directory made",
    "Catalogue.move": "name moved",
    "Catalogue.register": "names made",
    "Catalogue.remove": "name removed",
    "Catalogue.remove_lost": "names without a file removed",
    "Catalogue.remove_replicas": "replicas forgotten",
    "Catalogue.set_content": "version acknowledged",
    "Catalogue.update_replicas": "replicas written",
    "Catalogue._empty_trash": "removed tree deleted",
    "Claims.claim": "names claimed",
    "Claims.close": "lease given back",
    "Claims.release": "names released",
    "bury": "tombstones written, name removed",
    "learn": "speeds written",
    "remember_offsets": "clocks written",
    "remove": "kept contents forgotten",
    "resume": "intent settled",
    "Run.__init__": "verification begun",
    "Run.ended": "verification ended",
    "record": "looks written",
    "_settle": "intent settled",
    "settle": "tombstones removed",
}
"""What a transaction of the catalogue is for, by the function that makes it."""

_SENDING = {
    "setstat": "time set",
    "fsetstat": "time set",
    "write": "written",
    "remove": "removed",
    "mkdir": "made",
    "rmdir": "removed",
    "rename": "renamed",
    "posix_rename": "renamed",
}
_ASKING = ("GET", "HEAD", "PROPFIND", "OPTIONS", "")


class Steps:
    """Counts the steps of this process, which is to die after one of them.

    Args:
        places: the services' directories, by the services' names; of a server whatever its addresses hold.
        die_after: number of the step, from 0; None lets the process live.
        report: a file into which the names of the steps are written.
    """

    def __init__(self, places: Mapping[str, str], die_after: int | None, report: Path) -> None:
        self._places = places
        self._die_after = die_after
        self._report = report
        self.names: list[str] = []

    def passed(self, name: str) -> None:
        """Note a step, and die if it is the one."""
        self.names.append(name)
        if self._die_after is not None and len(self.names) > self._die_after:
            self.write()
            os.kill(os.getpid(), signal.SIGKILL)

    def write(self) -> None:
        """Write the names down."""
        self._report.write_text(json.dumps(self.names))

    def what(self, place: str) -> str | None:
        """Tell what lies at a path or address, and on which service; None where that is none of theirs."""
        for name, root in self._places.items():
            if root in place:
                last = place.rstrip("/").rpartition("/")[2]
                if last.startswith(TEMPORARY_PREFIX):
                    return f"{name}: temporary file"
                if VERSIONS in place.rpartition(root)[2]:
                    return f"{name}: kept content"
                return f"{name}: file"
        return None

    def install(self) -> None:
        """Put the counting around everything that changes something."""
        self._around_system_calls()
        self._around_transactions()
        self._around_http()
        self._around_sftp()

    def _around_system_calls(self) -> None:
        def after(owner: Any, name: str, done: str, place: Callable[..., str], *, directory: bool = False) -> None:
            plain = getattr(owner, name)

            @wraps(plain)
            def call(*arguments: Any, **more: Any) -> Any:
                result = plain(*arguments, **more)
                what = self.what(place(result, *arguments))
                if what is not None:
                    self.passed(f"{what.partition(':')[0]}: directory {done}" if directory else f"{what} {done}")
                return result

            setattr(owner, name, call)

        def of(file: Any) -> str:
            return os.readlink(f"/proc/self/fd/{file}") if isinstance(file, int) else os.fspath(file)

        plain_open = os.open

        def opened(path: Any, flags: int, *arguments: Any, **more: Any) -> int:
            file = plain_open(path, flags, *arguments, **more)
            if flags & os.O_CREAT and (what := self.what(os.fspath(path))) is not None:
                self.passed(f"{what} made")
            return file

        os.open = opened
        after(os, "write", "written", lambda result, file, data: of(file))
        after(os, "copy_file_range", "written", lambda result, source, file, size: of(file) if result else "")
        after(os, "utime", "time set", lambda result, file, *rest: of(file))
        after(os, "unlink", "removed", lambda result, path: of(path))
        after(os, "replace", "renamed", lambda result, old, new: of(new))
        after(local, "_rename_new", "renamed", lambda result, old, new: of(new))
        after(os, "mkdir", "made", lambda result, path, *rest: of(path), directory=True)
        after(os, "rmdir", "removed", lambda result, path: of(path), directory=True)

    def _around_transactions(self) -> None:
        plain = Database.write

        def write(database: Database) -> Any:
            caller = sys._getframe(1).f_code.co_qualname
            return committed(database, f"catalogue: {TRANSACTIONS.get(caller, caller)}")

        @contextmanager
        def committed(database: Database, name: str) -> Generator[Any]:
            with plain(database) as connection:
                yield connection
            self.passed(name)

        Database.write = write  # type: ignore[method-assign, assignment]

    def _around_http(self) -> None:
        run, send, piece = HttpMulti.run, Client._send, Source._next

        def done(method: str, url: str) -> None:
            if method not in _ASKING and (what := self.what(url)) is not None:
                self.passed(f"{what} {method}")

        def running(multi: HttpMulti, transfers: Iterable[Transfer | None], *rest: Any) -> Generator[Any]:
            for transfer, answer in run(multi, transfers, *rest):
                done(transfer.method, transfer.url)
                yield transfer, answer

        def sent(client: Client, method: str, url: str, *rest: Any) -> Any:
            answer = send(client, method, url, *rest)
            done(method, url)
            return answer

        def next_piece(source: Source) -> Any:
            found = piece(source)
            if len(found) > 1000:  # not those of requests that only ask
                self.passed("request: a piece sent")
            return found

        HttpMulti.run = running  # type: ignore[method-assign, assignment]
        Client._send = sent  # type: ignore[method-assign, assignment]
        Source._next = next_piece  # type: ignore[method-assign, assignment]

    def _around_sftp(self) -> None:
        sent: dict[tuple[int, int], str] = {}
        handles: dict[bytes, str] = {}
        opening: dict[tuple[int, int], str] = {}

        def note(name: str, done: str) -> None:
            plain = getattr(Sftp, name)

            @wraps(plain)
            def request(sftp: Sftp, target: bytes, *rest: Any, **more: Any) -> int:
                number: int = plain(sftp, target, *rest, **more)
                place = rest[0] if "rename" in name else target
                what = handles.get(target) or self.what(bytes(place).decode("utf-8", "replace"))
                if what is not None:
                    sent[id(sftp), number] = f"{what} {done}"
                return number

            setattr(Sftp, name, request)

        plain_open, plain_handle, plain_answer = Sftp.open, Sftp.handle, Sftp._answer

        def opened(sftp: Sftp, path: bytes, flags: int) -> int:
            number = plain_open(sftp, path, flags)
            if flags & 0x02 and (what := self.what(path.decode("utf-8", "replace"))) is not None:
                opening[id(sftp), number] = what
            return number

        def handle(sftp: Sftp, number: int) -> bytes:
            found = plain_handle(sftp, number)
            if what := opening.pop((id(sftp), number), None):
                handles[found] = what
                self.passed(f"{what} made")
            return found

        def answer(sftp: Sftp, number: int) -> tuple[int, bytes]:
            found = plain_answer(sftp, number)
            if name := sent.pop((id(sftp), number), None):
                self.passed(name)
            return found

        for name, done in _SENDING.items():
            note(name, done)
        Sftp.open, Sftp.handle, Sftp._answer = opened, handle, answer  # type: ignore[method-assign, assignment]


def done_in_a_process(
    act: Callable[[Vdir], Any], places: Mapping[str, str], report: Path, die_after: int | None = None
) -> list[str]:
    """Do something in a process that dies after a step, or at its end; return the names of the steps that it did.

    The child is a copy of this process while no thread runs in it and nothing is open: it makes all of its own.
    """
    report.unlink(missing_ok=True)
    child = os.fork()
    if child == 0:
        code = 1
        try:
            steps = Steps(places, die_after, report)
            steps.install()
            with Vdir(parallel=1) as vdir:
                act(vdir)
            steps.write()
            code = 0
        finally:
            os._exit(code)
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    assert code in (0, -signal.SIGKILL), code
    names: list[str] = json.loads(report.read_text())
    assert (code == 0) == (die_after is None or len(names) <= die_after)
    return names
