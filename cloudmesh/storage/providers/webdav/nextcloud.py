"""Chunked upload, version 2, as Nextcloud documents it; ownCloud 10 takes it too (it ignores the extra header).

A directory below ``uploads/USER`` collects the parts; a MOVE of its ``.file`` puts them together. The target is
untouched until then, and what is left of an upload that died is removed by the service after a day.
"""

from __future__ import annotations

import hashlib
import re
import uuid
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING
from urllib.parse import quote

from cloudmesh.storage.abc import Content
from cloudmesh.storage.errors import SourceChanged, StorageError, Unsupported
from cloudmesh.storage.http_body import Body
from cloudmesh.storage.providers.webdav.address import encoded
from cloudmesh.storage.providers.webdav.answers import error_for
from cloudmesh.storage.providers.webdav.messages import Answer

if TYPE_CHECKING:
    from cloudmesh.storage.providers.webdav.http import Client

PART_BYTES = 16 * 1024 * 1024
_MAX_PARTS = 10_000
_FILES_URL = re.compile(r"(?P<dav>.*/remote\.php)/(?:dav/files/(?P<user>[^/]+)|webdav)(?P<below>/.*)?\Z")


@dataclass(frozen=True, slots=True)
class Uploads:
    """Where a service collects parts.

    Attributes:
        url: of the user's uploads directory, percent-encoded, without a slash at its end.
        files: the user's files by the same address that ``Destination`` wants.
    """

    url: str
    files: str

    @classmethod
    def of(cls, url: str, username: str | None) -> Uploads | None:
        """Derive it from the address of a user's files; None where that is no Nextcloud's or ownCloud's."""
        match = _FILES_URL.match(url)
        if match is None:
            return None
        user = match["user"] or (quote(username, safe="") if username else None)
        if user is None:
            return None
        dav = match["dav"] + "/dav"
        return cls(f"{dav}/uploads/{user}", f"{dav}/files/{user}{match['below'] or ''}")

    def address_of(self, path: str) -> str:
        """Return the address of ``path`` as ``Destination`` wants it."""
        return self.files + encoded(path)


class Upload:
    """The parts of one file, sent; ``url`` is what a MOVE turns into the file.

    Attributes:
        size: bytes sent.
        sha1: hex digest of them.
    """

    def __init__(self, client: Client, uploads: Uploads, destination: str, subject: str) -> None:
        self._client = client
        self._directory = f"{uploads.url}/cdir-{uuid.uuid4().hex}"
        self._destination = [("Destination", destination)]
        self._subject = subject
        self.size = 0
        self.sha1 = ""
        self.url = self._directory + "/.file"

    def begin(self) -> bool:
        """Make the directory; False where the service knows no chunked upload.

        Raises:
            StorageError: the service refuses.
        """
        answer = self._client.request("MKCOL", self._directory, self._subject, headers=self._destination)
        if answer.status in (404, 405, 409, 501):
            return False
        if answer.status != 201:
            raise _error(answer, self._subject)
        return True

    def send(self, content: Content) -> None:
        """Send all of the content in parts; nothing is kept in memory but the part of a content of unknown size.

        Raises:
            SourceChanged: the content was not as long as promised.
            StorageError: the service refuses, or what the content raises.
        """
        digest = hashlib.sha1(usedforsecurity=False)
        pieces = _Pieces(content.open(), digest.update)
        total = content.size
        part_bytes = PART_BYTES if total is None else max(PART_BYTES, -(-total // _MAX_PARTS))
        number = 0
        while True:
            if total is None:
                data = b"".join(pieces.take(part_bytes))
                if not data and number:
                    break
                body = Body.of_bytes(data)
            else:
                length = min(part_bytes, total - self.size)
                if not length and number:
                    break
                body = Body(open=lambda length=length: pieces.take(length), size=length, replayable=False)  # type: ignore[misc]
            number += 1
            if number > _MAX_PARTS:
                raise Unsupported(self._subject, "too large for an upload of unknown size", "give its size")
            self._put(number, body, total)
            self.size += body.size or 0
        if total is not None and pieces.more():
            raise SourceChanged(self._subject, f"the source gives more than {total} bytes")
        self.sha1 = digest.hexdigest()

    def _put(self, number: int, body: Body, total: int | None) -> None:
        headers = list(self._destination)
        if total is not None:
            headers.append(("OC-Total-Length", str(total)))
        url = f"{self._directory}/{number:05d}"
        answer = self._client.request("PUT", url, self._subject, headers=headers, body=body)
        if not 200 <= answer.status < 300:
            raise _error(answer, self._subject)

    def abandon(self) -> None:
        """Remove what was sent, as far as that can be done."""
        with suppress(StorageError):
            self._client.request("DELETE", self._directory, self._subject)


class _Pieces:
    """Cuts an iterable of pieces at exact lengths."""

    def __init__(self, pieces: Iterable[bytes], seen: Callable[[bytes], object]) -> None:
        self._pieces = iter(pieces)
        self._rest = memoryview(b"")
        self._seen = seen

    def take(self, length: int) -> Iterator[bytes]:
        """Yield the next ``length`` bytes, fewer at the end."""
        while length and self.more():
            piece, self._rest = bytes(self._rest[:length]), self._rest[length:]
            length -= len(piece)
            self._seen(piece)
            yield piece

    def more(self) -> bool:
        """Whether there are bytes left."""
        while not self._rest:
            piece = next(self._pieces, None)
            if piece is None:
                return False
            self._rest = memoryview(piece)
        return True


def _error(answer: Answer, subject: str) -> StorageError:
    return error_for(answer.status, answer.headers, answer.body, subject)
