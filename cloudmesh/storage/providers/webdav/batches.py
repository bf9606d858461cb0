"""Reads and writes many small files at once in the caller's thread, with the promises of `reading` and `writing`.

What nearly every file takes goes through one loop of connections, for each file a request after the other. What is rare
(making a directory, explaining a refusal, a name that the server cuts) is done aside by the modules that do it for one
file. See docs/decisions/0073-webdav-batches.md.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Iterable, Iterator
from contextlib import suppress

from cloudmesh.storage import paths
from cloudmesh.storage.abc import Content, Entry, Loaded, ReadRequest, StorageABC, WriteRequest
from cloudmesh.storage.errors import AlreadyExists, IsADirectory, NotFound, StorageError, Unavailable
from cloudmesh.storage.http_multi import Answer as Received
from cloudmesh.storage.providers.webdav.directories import Directories
from cloudmesh.storage.providers.webdav.flows import Aside, Flow, FlowLoop, NoAnswer
from cloudmesh.storage.providers.webdav.messages import Answer
from cloudmesh.storage.providers.webdav.moving import Mover
from cloudmesh.storage.providers.webdav.mtimes import (
    ModificationTimes,
    Window,
    not_kept,
    put_header,
    stored_within,
)
from cloudmesh.storage.providers.webdav.multistatus import read_multistatus
from cloudmesh.storage.providers.webdav.nextcloud import PART_BYTES
from cloudmesh.storage.providers.webdav.properties import ENTRY_PROPS, XML_TYPE, count, entry_of_properties
from cloudmesh.storage.providers.webdav.reading import entry_of_answer, needs_look, refusal_of
from cloudmesh.storage.providers.webdav.refusals import explain_refusal
from cloudmesh.storage.providers.webdav.service import Service, is_patched, proppatch_body
from cloudmesh.storage.providers.webdav.writing import Writer, etag_of

_DISCARD_WAITS = (0.0, 0.05, 0.1, 0.2, 0.4)


class _Batch:
    """What the batches in both directions have in common."""

    def __init__(self, storage: StorageABC, service: Service) -> None:
        self._storage = storage
        self._service = service

    def _subject(self, request: ReadRequest | WriteRequest) -> str:
        return self._service.location(request.path)

    def _ask(
        self, method: str, url: str, headers: Iterable[tuple[str, str]] = (), body: bytes | None = None
    ) -> Flow[Answer]:
        received: Received = yield self._service.client.transfer(method, url, list(headers), body)
        return Answer(received.status, received.headers, received.body)

    def _meet(self) -> Flow[None]:
        """Find out what kind of server it is, where that is not known yet."""
        if not self._service.is_known:
            yield Aside(lambda: self._service.server, key="the server")


class BatchReader(_Batch):
    """Reads files whole. One GET each."""

    def run(self, requests: Iterable[ReadRequest | None]) -> Iterator[tuple[ReadRequest, Loaded | StorageError]]:
        """Do as `StorageABC.read_many` says."""
        parallel = self._storage.settings.parallel
        yield from FlowLoop(self._service.client, self._load, self._subject, parallel).run(requests)

    def _load(self, request: ReadRequest) -> Flow[Loaded]:
        service, path, if_match = self._service, request.path, request.if_match
        self._storage.check_path(path)
        yield from self._meet()
        answer = yield from self._ask("GET", service.addresses.of(path))
        if answer.status != 200:
            raise (yield Aside(lambda: refusal_of(service, path, answer)))
        size = count(answer.headers.get("content-length"))
        if needs_look(answer.headers, if_match):
            entry = yield Aside(lambda: entry_of_answer(service, path, answer.headers, size, if_match))
        else:
            entry = entry_of_answer(service, path, answer.headers, size, if_match)
        return Loaded(entry, answer.body)


class BatchWriter(_Batch):
    """Writes files whole; used for one batch. See `writing` for the ways of writing and why they are needed."""

    def __init__(
        self,
        storage: StorageABC,
        service: Service,
        directories: Directories,
        mover: Mover,
        mtimes: ModificationTimes,
        writer: Writer,
    ) -> None:
        super().__init__(storage, service)
        self._directories = directories
        self._mover = mover
        self._mtimes = mtimes
        self._writer = writer
        self._replacing = False
        """Whether the last file that was moved into place replaced one: then the next one will."""
        self._left: set[str] = set()
        """Addresses of temporary files that may be there."""

    def run(self, requests: Iterable[WriteRequest | None]) -> Iterator[tuple[WriteRequest, Entry | StorageError]]:
        """Do as `StorageABC.write_many` says."""
        parallel = self._storage.settings.parallel
        try:
            yield from FlowLoop(self._service.client, self._store, self._subject, parallel).run(requests)
        finally:
            self._discard()

    def _store(self, request: WriteRequest) -> Flow[Entry]:
        path = request.path
        self._storage.check_path(path)
        if not path:
            raise IsADirectory(self._service.location(path))
        yield from self._meet()
        server = self._service.server
        parent = paths.parent(path)
        if not self._directories.knows(parent):
            yield Aside(lambda: self._directories.make_parents(path), key=parent)
        if request.mtime_ns is not None and not self._mtimes.is_known:
            yield Aside(lambda: self._mtimes.in_property, key="modification times")
        in_parts = self._service.uploads is not None and len(request.data) > PART_BYTES
        faithful = self._mover.knows_faithful(path)
        if faithful is None:
            faithful = yield Aside(lambda: self._mover.is_faithful(path))
        if in_parts or not faithful:
            content = Content.of_bytes(request.data, request.mtime_ns)
            entry: Entry = yield Aside(lambda: self._writer.write(path, content, request.mode, None))
            return entry
        store = self._store_straight if server.atomic_put else self._store_beside
        try:
            return (yield from store(request))
        except NoAnswer as broken:
            # It may have been stored: straight to its name it could then not be created once more.
            if not broken.stale or (server.atomic_put and request.mode == "create"):
                raise
        return (yield from store(request))

    def _store_straight(self, request: WriteRequest) -> Flow[Entry]:
        url = self._service.addresses.of(request.path)
        headers = [("If-None-Match", "*")] if request.mode == "create" else []
        if self._service.server.family == "nextcloud":
            headers.append(("OC-Checksum", "SHA1:" + hashlib.sha1(request.data, usedforsecurity=False).hexdigest()))
        answer, window = yield from self._put(request, url, headers)
        entry = Entry(request.path, size=len(request.data), etag=etag_of(answer))
        return (yield from self._keep_mtime(entry, request, url, window))

    def _store_beside(self, request: WriteRequest) -> Flow[Entry]:
        temporary = self._service.addresses.temporary(request.path)
        self._left.add(temporary)
        try:
            _, window = yield from self._put(request, temporary, [])
            entry = Entry(request.path, size=len(request.data))
            entry = yield from self._keep_mtime(entry, request, temporary, window)
            yield from self._move(request, temporary)
        except StorageError:
            # The service has answered, so no upload is under way that could make the file once more.
            with suppress(NoAnswer):
                yield from self._ask("DELETE", temporary)
                self._left.discard(temporary)
            raise
        self._left.discard(temporary)
        return entry

    def _put(self, request: WriteRequest, url: str, headers: list[tuple[str, str]]) -> Flow[tuple[Answer, Window]]:
        """PUT the file; return the answer (2xx) and when it was stored.

        A parent that has vanished since it was made is made again.
        """
        path = request.path
        sending = [*headers, ("Content-Type", "application/octet-stream")]
        if self._service.server.own_mtime:
            sending += put_header(request.mtime_ns)
        for attempt in (1, 2):
            begun = time.monotonic()
            answer = yield from self._ask("PUT", url, sending, request.data)
            if 200 <= answer.status < 300:
                break
            if answer.status == 412 and request.mode == "create":
                yield from self._look(request)
            yield Aside(lambda: explain_refusal(self._service, path, answer))  # noqa: B023 - awaited at once
            if attempt == 1 and answer.status in (404, 409):
                yield Aside(lambda: self._directories.make_parents(path, again=True), key=paths.parent(path))
                continue
            raise self._service.error(answer, path)
        return answer, stored_within(begun, answer)

    def _keep_mtime(self, entry: Entry, request: WriteRequest, url: str, window: Window) -> Flow[Entry]:
        entry, missing = self._mtimes.kept_by_put(entry, request.mtime_ns, window)
        if missing is not None:
            answer = yield from self._ask("PROPPATCH", url, [XML_TYPE], proppatch_body(missing))
            subject = self._service.location(request.path)
            if not is_patched(answer, subject):
                raise not_kept(subject)
        return entry

    def _move(self, request: WriteRequest, temporary: str) -> Flow[None]:
        """MOVE the file to its name, never onto a directory (see `moving`)."""
        service, path = self._service, request.path
        target = ("Destination", service.addresses.of(path))
        forbid, allow = ("Overwrite", "F"), ("Overwrite", "T")
        look_first = self._replacing and request.mode == "overwrite"
        if not look_first:
            answer = yield from self._ask("MOVE", temporary, [target, forbid])
        if look_first or answer.status == 412:
            self._replacing = yield from self._look(request)
            answer = yield from self._ask("MOVE", temporary, [target, allow if self._replacing else forbid])
        if answer.status in (200, 201, 204):
            return
        if answer.status == 412:
            raise Unavailable(service.location(path), "another client writes it at the same time")
        yield Aside(lambda: explain_refusal(service, path, answer))
        if answer.status == 404:
            # An answer was lost and libcurl asked again by itself: it may be in its place already, or not.
            raise Unavailable(service.location(path), "the service lost the file that it had just been sent")
        raise service.error(answer, path)

    def _look(self, request: WriteRequest) -> Flow[bool]:
        """Tell whether a file is there, to be replaced.

        Raises:
            IsADirectory, AlreadyExists: it must not be.
        """
        service, path = self._service, request.path
        subject = service.location(path)
        answer = yield from self._ask("PROPFIND", service.addresses.of(path), [("Depth", "0"), XML_TYPE], ENTRY_PROPS)
        found = read_multistatus(answer.body, subject) if answer.status == 207 else []
        if found and found[0].status in (None, 200):
            entry = entry_of_properties(path, found[0].props, own_mtime=service.server.own_mtime)
        else:
            try:
                entry = yield Aside(lambda: service.stat(path))
            except NotFound:
                return False
        if entry.is_directory:
            raise IsADirectory(subject)
        if request.mode == "create":
            raise AlreadyExists(subject)
        return True

    def _discard(self) -> None:
        """Remove what was left where no answer came, all at once; as `moving.discard` does it for one file."""
        client = self._service.client
        left, seen = self._left, set[str]()
        for wait in _DISCARD_WAITS:
            if not left:
                return
            time.sleep(wait)
            again = set()
            for transfer, answer in client.multi.run(client.transfer("DELETE", url) for url in left):
                if not isinstance(answer, Received) or (answer.status == 404 and transfer.url in seen):
                    continue
                again.add(transfer.url)
                if 200 <= answer.status < 300:
                    seen.add(transfer.url)
            left = again
