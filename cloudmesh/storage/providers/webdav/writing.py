"""Writes whole files, atomically: in one of three ways, according to what the server promises.

* straight to its name, where the service is known to replace a file atomically (Nextcloud, ownCloud, Apache's mod_dav);
* everywhere else to a temporary name beside it, followed by a MOVE, because most servers write in place;
* in parts, which a MOVE puts together, where it is large and the service has Nextcloud's chunked upload.

See docs/decisions/0046-webdav-writes.md.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Iterator, Sequence

from cloudmesh.storage import local_files
from cloudmesh.storage.abc import Content, Entry, WriteMode
from cloudmesh.storage.digest import digest_of
from cloudmesh.storage.errors import Unsupported
from cloudmesh.storage.http_body import Body
from cloudmesh.storage.providers.webdav.answers import bare_etag
from cloudmesh.storage.providers.webdav.directories import Directories
from cloudmesh.storage.providers.webdav.messages import Answer
from cloudmesh.storage.providers.webdav.moving import Mover, discard
from cloudmesh.storage.providers.webdav.mtimes import ModificationTimes, Window, put_header, stored_within
from cloudmesh.storage.providers.webdav.nextcloud import PART_BYTES, Upload, Uploads
from cloudmesh.storage.providers.webdav.properties import SECOND
from cloudmesh.storage.providers.webdav.refusals import (
    check_condition,
    explain_refusal,
    refuse_condition,
)
from cloudmesh.storage.providers.webdav.service import Service

_HASHED_BEFORE = 1024 * 1024
_ASSEMBLY_PATIENCE = 3600.0


class Writer:
    """Writes files to one service; thread-safe."""

    def __init__(self, service: Service, directories: Directories, mover: Mover, mtimes: ModificationTimes) -> None:
        self._service = service
        self._directories = directories
        self._mover = mover
        self._mtimes = mtimes

    def write(self, path: str, content: Content, mode: WriteMode, if_match: str | None) -> Entry:
        """Store a file; arguments and errors as of `StorageABC.write`."""
        server = self._service.server
        self._directories.make_parents(path)
        uploads = self._service.uploads
        if uploads is not None and (content.size is None or content.size > PART_BYTES):
            entry = self._write_parts(uploads, path, content, mode, if_match)
            if entry is not None:
                return entry
        if not self._mover.is_faithful(path):
            return self._write_in_place(path, content, mode, if_match)
        if server.atomic_put:
            return self._write_straight(path, content, mode, if_match)
        return self._write_beside(path, content, mode, if_match)

    def _write_straight(self, path: str, content: Content, mode: WriteMode, if_match: str | None) -> Entry:
        nextcloud = self._service.server.family == "nextcloud"
        url = self._service.addresses.of(path)
        headers: list[tuple[str, str]] = []
        if mode == "create":
            headers.append(("If-None-Match", "*"))
        if if_match is not None:
            etag = f'"{bare_etag(if_match)}"'
            # mod_dav shows a new file's tag as weak, which If-Match never matches; its If compares weakly.
            headers.append(("If-Match", etag) if nextcloud else ("If", f"([{etag}])"))
        if nextcloud and (checksum := _checksum_before(content)):
            headers.append(("OC-Checksum", checksum))
        answer, size, window = self._put(path, url, content, headers)
        if answer.status == 412:
            refuse_condition(self._service, path, mode)
        entry = Entry(path, size=size, etag=etag_of(answer))
        return self._mtimes.after_put(entry, url, content.mtime_ns, window)

    def _write_beside(self, path: str, content: Content, mode: WriteMode, if_match: str | None) -> Entry:
        if mode == "create" or if_match is not None:
            check_condition(self._service, path, mode, if_match)
        temporary = self._service.addresses.temporary(path)
        try:
            _, size, window = self._put(path, temporary, content, [])
            entry = self._mtimes.after_put(Entry(path, size=size), temporary, content.mtime_ns, window)
            self._mover.into_place(temporary, path, mode, if_match)
        except BaseException:
            discard(self._service, temporary)
            raise
        return entry

    def _write_in_place(self, path: str, content: Content, mode: WriteMode, if_match: str | None) -> Entry:
        """Write a new file straight to its name on a server that can neither do this atomically nor rename to it."""
        if check_condition(self._service, path, mode, if_match):
            why = "this server cannot replace a file with such a name safely"
            raise Unsupported(self._service.location(path), why, "remove it first")
        url = self._service.addresses.of(path)
        try:
            _, size, window = self._put(path, url, content, [])
            return self._mtimes.after_put(Entry(path, size=size), url, content.mtime_ns, window)
        except BaseException:
            discard(self._service, url)
            raise

    def _write_parts(
        self, uploads: Uploads, path: str, content: Content, mode: WriteMode, if_match: str | None
    ) -> Entry | None:
        """Write in parts; None where the service turns out to know no chunked upload, and nothing was read yet."""
        if mode == "create" or if_match is not None:
            check_condition(self._service, path, mode, if_match)
        destination = uploads.address_of(path)
        upload = Upload(self._service.client, uploads, destination, self._service.location(path))
        if not upload.begin():
            return None
        try:
            upload.send(content)
            headers = [
                ("OC-Total-Length", str(upload.size)),
                ("OC-Checksum", f"SHA1:{upload.sha1}"),
                *put_header(content.mtime_ns),
            ]
            answer = self._mover.into_place(
                upload.url, path, mode, if_match, destination=destination, headers=headers, patience=_ASSEMBLY_PATIENCE
            )
        except BaseException:
            upload.abandon()
            raise
        mtime_ns = None if content.mtime_ns is None else content.mtime_ns // SECOND * SECOND
        hashes = {"sha1": upload.sha1}
        return Entry(path, size=upload.size, mtime_ns=mtime_ns, etag=etag_of(answer), hashes=hashes)

    def _put(
        self, path: str, url: str, content: Content, headers: Sequence[tuple[str, str]]
    ) -> tuple[Answer, int, Window]:
        """PUT the content; return the answer (2xx, or 412 to ``headers``), the bytes sent, and when it was stored.

        A parent that has vanished since it was made is made again.
        """
        sent = 0

        def pieces() -> Iterator[bytes]:
            nonlocal sent
            sent = 0
            for piece in content.open():
                sent += len(piece)
                yield piece

        body = Body(open=pieces, size=content.size, replayable=content.replayable)
        sending = [*headers, ("Content-Type", "application/octet-stream")]
        if self._service.server.own_mtime:
            sending += put_header(content.mtime_ns)
        for attempt in (1, 2):
            begun = time.monotonic()
            answer = self._service.client.request("PUT", url, self._service.location(path), headers=sending, body=body)
            if 200 <= answer.status < 300 or (answer.status == 412 and headers):
                break
            explain_refusal(self._service, path, answer)
            if attempt == 1 and answer.status in (404, 409) and content.replayable:
                self._directories.make_parents(path, again=True)
                continue
            raise self._service.error(answer, path)
        return answer, sent, stored_within(begun, answer)


def etag_of(answer: Answer) -> str | None:
    """Return the entity tag of the file that an answer says it has made."""
    return bare_etag(answer.headers.get("oc-etag") or answer.headers.get("etag"))


def _checksum_before(content: Content) -> str | None:
    """Return the OC-Checksum of a content that can be read twice cheaply."""
    if content.size is None or not content.replayable or (content.path is None and content.size > _HASHED_BEFORE):
        return None
    if content.path is not None:  # not by its pieces, which would count as moved
        with local_files.translated(str(content.path)), content.path.open("rb") as file:
            return f"SHA1:{hashlib.file_digest(file, 'sha1').hexdigest()}"
    return f"SHA1:{digest_of(content.open(), 'sha1')}"
