"""The names behind a REST service, as far as files of this computer are concerned: the content goes by ``/files/…``.

What is decided about this computer's files (which are meant, what is there already, how they are replaced) is decided
by the code of `cloudmesh.vdir` here; what is decided about names and replicas is decided there.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

from cloudmesh.cdir import urls
from cloudmesh.cdir.exchange import Exchange
from cloudmesh.cdir.remote_services import body_headers, exactly, whole_pieces
from cloudmesh.storage.abc import (
    Capabilities,
    Content,
    Entry,
    OnError,
    Reader,
    ServiceSettings,
    StorageABC,
    WriteMode,
)
from cloudmesh.storage.errors import Unsupported
from cloudmesh.storage.json_values import from_json
from cloudmesh.storage.layers import TokenBucket, layered, limited
from cloudmesh.storage.pool import DEFAULT_PARALLEL
from cloudmesh.storage.rate import Schedule
from cloudmesh.storage.transfer.events import Observer
from cloudmesh.storage.transfer.options import Selection
from cloudmesh.vdir.announcing import Announced, Expected
from cloudmesh.vdir.nodes import Node, Replica
from cloudmesh.vdir.records import Imported, NameInfo
from cloudmesh.vdir.sources import Source

if TYPE_CHECKING:
    from cloudmesh.vdir import Vdir


class RemoteNames:
    """The names of a REST service.

    Args:
        exchange: with it.
        vdir: its virtual directory.
    """

    def __init__(self, exchange: Exchange, vdir: Vdir) -> None:
        self.exchange = exchange
        self._vdir = vdir

    def info(self, name: str) -> NameInfo:
        """Return one file or directory. Raises as `Vdir.info`."""
        found: NameInfo = from_json("name", NameInfo, self.exchange.ask("GET", urls.NAMES, {"name": name}))
        return found

    def make_dir(self, path: str, *, parents: bool, exist_ok: bool) -> None:
        """Make a directory. Raises as `Vdir.mkdir`."""
        self._vdir.mkdir(f"/{path}", parents=parents)

    def record_reading(self, replica: Replica, *, right: bool) -> None:
        """Which replicas are right the service sees by itself."""

    def announce(self, files: Sequence[Announced], to: Sequence[str] | None, *, force: bool, dryrun: bool) -> Expected:
        """Tell of files, and return what is wanted of them. Raises as `Vdir.announce`."""
        values = {"files": [asdict(one) for one in files], "to": list(to or ()), "force": force, "dryrun": dryrun}
        found: Expected = from_json("announcement", Expected, self.exchange.ask("POST", urls.ANNOUNCEMENTS, values))
        return found

    def write(
        self,
        name: str,
        content: Content,
        *,
        to: Sequence[str] = (),
        force: bool = True,
        report: bool = False,
        sha256: str | None = None,
        conditions: dict[str, str] | None = None,
    ) -> Any:
        """Give a name a content, and return what the service answers: the name, or with ``report`` the counts.

        Raises:
            as `Vdir.write`; PreconditionFailed: the name is not as the conditions (headers) ask for.
        """
        values: dict[str, Any] = {"to": list(to), "force": force, "report": report}
        if content.mtime_ns is not None:
            values["modified_ns"] = content.mtime_ns
        headers = body_headers(content.size) | (conditions or {})
        if sha256 is not None:
            headers["Repr-Digest"] = f"sha-256=:{base64.b64encode(bytes.fromhex(sha256)).decode()}:"
        body = exactly(content, name)
        with self.exchange.answer("PUT", urls.file_url(name), values, headers, body) as answer:
            return json.loads(answer.read())

    def import_lines(self, lines: Iterable[str], source: str, *, dryrun: bool) -> Imported:
        """Read an export into the catalogue there. Raises as `Vdir.import_lines`."""
        body = (line.rstrip("\n").encode("utf-8", "surrogateescape") + b"\n" for line in lines)
        values = {"dryrun": dryrun, "source": source}
        with self.exchange.answer(
            "PUT", urls.CATALOGUE, values, {"Content-Type": "application/x-ndjson"}, body
        ) as answer:
            found: Imported = from_json("import", Imported, json.loads(answer.read()))
            return found


class RemoteFiles(StorageABC):
    """The files that names stand for, to be read: the best replica of each, or those on one service.

    Args:
        names: to ask for what a name is.
        service: whose replicas are meant; None = the best.
        parallel: requests under way at once.
    """

    kind = "remote"
    capabilities = Capabilities(mtime_precision_ns=1, scan_mtime=True, hashes=frozenset({"sha256"}))

    def __init__(self, names: RemoteNames, service: str | None, parallel: int | None) -> None:
        super().__init__(ServiceSettings(service or "", self.kind, parallel=parallel or DEFAULT_PARALLEL))
        self._names = names
        self._service = service

    def stat(self, path: str) -> Entry:
        """See `StorageABC.stat`."""
        return entry_of(self._names.info(f"/{path}"))

    def scan(self, path: str = "", *, recursive: bool = False, on_error: OnError | None = None) -> Iterator[Entry]:
        """See `StorageABC.scan`."""
        raise Unsupported(self.location(path), "names are listed by the virtual directory")

    def open_read(self, path: str, *, start: int = 0, length: int | None = None, if_match: str | None = None) -> Reader:
        """See `StorageABC.open_read`."""
        headers = {"Accept": "*/*"}
        if if_match is not None:
            headers["If-Match"] = f'"{if_match}"'
        if start or length is not None:
            last = "" if length is None else str(start + length - 1)
            headers["Range"] = f"bytes={start}-{last}" if start >= 0 else f"bytes={start}"
        with ExitStack() as stack:
            answer = stack.enter_context(self._names.exchange.answer("GET", self._url(path), None, headers))
            held = stack.pop_all()
        entry = Entry(path, size=_size(answer.getheader("Content-Range"), answer.length), etag=if_match)
        return Reader(entry, whole_pieces(answer, self.location(path)), held.close)

    def location(self, path: str) -> str:
        """Return the name as a person types it."""
        return f"/{path}" if self._service is None else f"{self._service}:/{path}"

    def write(
        self, path: str, content: Content, *, mode: WriteMode = "overwrite", if_match: str | None = None
    ) -> Entry:
        """See `StorageABC.write`."""
        raise self._only_read(path)

    def remove(self, path: str) -> None:
        """See `StorageABC.remove`."""
        raise self._only_read(path)

    def make_dir(self, path: str) -> None:
        """See `StorageABC.make_dir`."""
        raise self._only_read(path)

    def remove_dir(self, path: str) -> None:
        """See `StorageABC.remove_dir`."""
        raise self._only_read(path)

    def _url(self, path: str) -> str:
        return urls.file_url(path if self._service is None else f"{self._service}/{path}")

    def _only_read(self, path: str) -> Unsupported:
        return Unsupported(self.location(path), "is only read here")


def entry_of(info: NameInfo) -> Entry:
    """Return a name as an entry; its token is the SHA-256, where that is known."""
    hashes = {} if info.sha256 is None else {"sha256": info.sha256}
    path = info.path.lstrip("/")
    return Entry(path, info.kind == "directory", info.size, info.modified_ns, etag=info.sha256, hashes=hashes)


def node_of(info: NameInfo) -> Node:
    """Return a name as the catalogue there has it, as far as it is told."""
    path = info.path.lstrip("/")
    return Node(0, path, info.kind == "directory", info.size, info.modified_ns, info.sha256, info.version)


def _size(content_range: str | None, length: int | None) -> int | None:
    if content_range is None:
        return length
    total = content_range.rpartition("/")[2]
    return int(total) if total.isdigit() else None


@dataclass
class RemoteWork:
    """What bringing files here and from here needs, where a REST service does the rest: a `DiskWork`.

    Attributes:
        catalogue: the names.
        services: the services.
        parallel: files under way at once; the default where None.
        observer: hears of the progress.
        options: which files, how fast, how much.
        stop: asked before each file.
    """

    catalogue: RemoteNames
    services: Any
    parallel: int | None
    observer: Observer
    options: Selection
    stop: Callable[[], bool] = field(default=bool)

    def __post_init__(self) -> None:
        limit = self.options.bwlimit
        self._speed = None if limit is None else TokenBucket(Schedule.parse(limit))

    def threads(self, services: Iterable[str], mean_bytes: float = 0) -> int:
        """Return how many files to have under way at once."""
        return self.parallel or DEFAULT_PARALLEL

    def files(self, service: str | None) -> StorageABC:
        """Return the files that names stand for, read no faster than asked for."""
        remote = RemoteFiles(self.catalogue, service, self.parallel)
        return limited(layered(remote), self._speed, self.options.transactions)

    def slowed(self, pieces: Iterable[bytes]) -> Iterator[bytes]:
        """Yield what is sent, no faster than asked for."""
        for piece in pieces:
            if self._speed is not None:
                self._speed.take(len(piece))
            yield piece

    def source(self, info: NameInfo, files: StorageABC) -> Source:
        """Return from where a name is read."""
        return Source(files, entry_of(info))
