"""Opens files for reading, whole or in part, on servers with and without ranges."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from itertools import islice

from cloudmesh.storage.abc import Entry, Reader
from cloudmesh.storage.errors import IsADirectory, PreconditionFailed, StorageError, Unavailable, Unsupported
from cloudmesh.storage.providers.webdav.answers import CLIENT_REFUSALS, REDIRECTS, bare_etag
from cloudmesh.storage.providers.webdav.messages import Answer
from cloudmesh.storage.providers.webdav.properties import count, entry_of_headers
from cloudmesh.storage.providers.webdav.service import Service


def open_file(service: Service, path: str, start: int, length: int | None, if_match: str | None) -> Reader:
    """Open a file for reading; arguments and errors as of `StorageABC.open_read`."""
    subject = service.location(path)
    service.server  # noqa: B018 - a wrong url or password is told by the first request that this makes
    if length == 0:
        return _nothing_of(service, path, if_match)
    url = service.addresses.of(path)
    exchange, end = service.client.open("GET", url, subject, headers=_range(start, length))
    try:
        status, headers = exchange.status, exchange.headers
        if status == 416:
            end()
            return _nothing_of(service, path, if_match)
        if status not in (200, 206):
            answer = Answer(status, headers, b"".join(islice(exchange, 4)))
            end()
            raise refusal_of(service, path, answer)
        size, first = _extent(status, headers, start, subject)
        entry = entry_of_answer(service, path, headers, size, if_match)
        skip = 0
        if first is None:  # all of the file comes
            if start < 0 and size is None:
                raise Unsupported(subject, "the service neither reads from the end nor tells the size")
            skip = start if start >= 0 else max(0, (size or 0) + start)
        return Reader(entry, _cut(exchange, skip, length, end), end)
    except BaseException:
        end()
        raise


def needs_look(headers: Mapping[str, str], if_match: str | None) -> bool:
    """Tell whether `entry_of_answer` has to ask the service again."""
    return bare_etag(headers.get("etag")) is None and (if_match is not None or "last-modified" not in headers)


def entry_of_answer(
    service: Service, path: str, headers: Mapping[str, str], size: int | None, if_match: str | None
) -> Entry:
    """Return the entry of the file that a GET is answered with.

    Raises:
        IsADirectory, PreconditionFailed: it is not what was wanted.
    """
    etag = bare_etag(headers.get("etag"))
    # Some servers answer with a page that lists a directory.
    if etag is None and "last-modified" not in headers and service.stat(path).is_directory:
        raise IsADirectory(service.location(path))
    if if_match is not None and (etag or service.stat(path).etag) != bare_etag(if_match):
        raise PreconditionFailed(service.location(path))
    return entry_of_headers(path, headers, size, own_mtime=service.server.own_mtime)


def _nothing_of(service: Service, path: str, if_match: str | None) -> Reader:
    entry = service.stat(path)
    if entry.is_directory:
        raise IsADirectory(service.location(path))
    if if_match is not None and entry.etag != bare_etag(if_match):
        raise PreconditionFailed(service.location(path))
    return Reader(entry, iter(()))


def refusal_of(service: Service, path: str, answer: Answer) -> StorageError:
    """Return what a refused GET means; a directory is refused in many ways."""
    if answer.status in CLIENT_REFUSALS or answer.status in REDIRECTS or answer.status == 501:
        if service.stat(path).is_directory:
            return IsADirectory(service.location(path))
        if answer.status == 404:
            # Servers that replace a file by removing it first show a gap for a moment.
            return Unavailable(service.location(path), "it was being replaced just now")
    return service.error(answer, path)


def _range(start: int, length: int | None) -> list[tuple[str, str]]:
    if start < 0:
        return [("Range", f"bytes={start}")]
    if start == 0 and length is None:
        return []
    return [("Range", f"bytes={start}-{'' if length is None else start + length - 1}")]


def _extent(status: int, headers: Mapping[str, str], start: int, subject: str) -> tuple[int | None, int | None]:
    """Return the whole file's size and, where the answer is a part, its first byte."""
    if status == 200:
        return count(headers.get("content-length")), None
    match = re.match(r"bytes (\d+)-(-?\d+)/(\d+|\*)\Z", headers.get("content-range", ""))
    if match is None:
        raise Unavailable(subject, "the service does not tell which part of the file it sends")
    first, size = int(match[1]), count(match[3])
    expected = start if start >= 0 else first if size is None else max(0, size + start)
    if first != expected:
        raise Unavailable(subject, "the service sends another part of the file than was asked for")
    return size, first


def _cut(pieces: Iterable[bytes], skip: int, length: int | None, end: Callable[[], None]) -> Iterator[bytes]:
    """Yield ``length`` bytes after the first ``skip``, then let go of the connection."""
    try:
        for piece in pieces:
            if skip:
                if skip >= len(piece):
                    skip -= len(piece)
                    continue
                piece, skip = piece[skip:], 0
            if length is not None:
                if len(piece) >= length:
                    yield piece[:length]
                    return
                length -= len(piece)
            yield piece
    finally:
        end()
