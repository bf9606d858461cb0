"""Sending a file in parts: bounded memory, nothing visible before the end, nothing left behind after an error."""

from __future__ import annotations

import hashlib
import html
import re
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import FIRST_COMPLETED, Executor, Future, wait
from contextlib import AbstractContextManager, ExitStack, contextmanager, suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from cloudmesh.storage.abc import Moved, nobody_counts
from cloudmesh.storage.errors import ChecksumMismatch, NotFound, QuotaExceeded, Unsupported
from cloudmesh.storage.providers.awss3 import faults, metadata
from cloudmesh.storage.providers.awss3.unfinished import LocalSource, UnfinishedUploads

if TYPE_CHECKING:
    from cloudmesh.storage.http_multi import Answer
    from cloudmesh.storage.providers.awss3.http import Http

MIB = 1024 * 1024
PART = 8 * MIB
STREAM_PART = 16 * MIB
"""Bytes of the first parts where the size is not known beforehand."""
STREAM_PART_MAX = 640 * MIB
DOUBLED_AFTER = 400
"""Parts after which those of a stream double. With the two numbers above 10,000 parts hold 5 TiB, S3's largest file."""
MAX_PARTS = 10_000
IN_FLIGHT = 4
BYTES_IN_FLIGHT = 32 * MIB
"""Of one file; what is read from local files shares `ROOM` besides."""
ROOM = 64 * MIB
"""Memory for parts of local files."""
SPACE = "http://s3.amazonaws.com/doc/2006-03-01/"
"""Of the XML that S3 takes."""


def part_bytes(size: int) -> int:
    """Return the size of a part by which ``size`` bytes fit into the 10,000 parts that a file may have."""
    return max(PART, -(-size // (MAX_PARTS * MIB)) * MIB)


def part_sizes(size: int | None, *, equal: bool = False) -> Iterator[int]:
    """Yield the bytes of each part of a file: at most 10,000 of them.

    Args:
        size: of the file; None for a stream that may go on up to 5 TiB, whose parts grow with their number.
        equal: keep all parts as long as the first, as some services want it: a stream then ends at 156 GiB.
    """
    for number in range(MAX_PARTS):
        if size is not None:
            yield part_bytes(size)
        elif equal:
            yield STREAM_PART
        else:
            yield min(STREAM_PART << number // DOUBLED_AFTER, STREAM_PART_MAX)


def regroup(pieces: Iterable[bytes], sizes: Iterable[int], subject: str) -> Iterator[bytes]:
    """Yield the same bytes in blocks of these ``sizes``, the last one shorter; nothing where there are none.

    Raises:
        QuotaExceeded: there are more bytes than ``sizes`` hold.
    """
    remaining = iter(sizes)
    missing = next(remaining, 0)
    block: list[memoryview] = []
    for piece in pieces:
        view = memoryview(piece)
        while view:
            if not missing:
                raise QuotaExceeded(
                    subject,
                    "the stream is longer than the service takes without knowing its size",
                    "store it in a file first",
                )
            taken, view = view[:missing], view[missing:]
            block.append(taken)
            missing -= len(taken)
            if not missing:
                whole = b"".join(block)
                block.clear()
                yield whole
                missing = next(remaining, 0)
    if block:
        yield b"".join(block)


@dataclass(frozen=True, slots=True)
class Object:
    """What is to be stored.

    Attributes:
        http: sends the requests.
        subject: the file as the user would type it.
        key: of the object.
        headers: with which it is created.
        condition: headers of the last request, by which the service decides when the object would become visible.
    """

    http: Http
    subject: str
    key: str
    headers: Mapping[str, str]
    condition: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class _Upload:
    """An upload under way.

    Attributes:
        target: what it makes.
        id: given by the service.
        done: the parts that an ended process has sent: number to size and ETag.
        moved: hears of each part before it is sent.
    """

    target: Object
    id: str
    done: Mapping[int, tuple[int, str]]
    moved: Moved

    def request(self, method: str, query: Mapping[str, str | int] | None = None, **options: Any) -> Answer:
        target = self.target
        query = {"uploadId": self.id, **(query or {})}
        return target.http.request(target.subject, method, target.key, query=query, **options)

    def send(self, number: int, loaded: AbstractContextManager[bytes]) -> str:
        """Store a part, unless it is there, and return its ETag."""
        size, etag = self.done.get(number, (-1, ""))
        digest = metadata.md5_like(etag)
        with loaded as part:
            if size == len(part) and digest and digest == hashlib.md5(part, usedforsecurity=False).hexdigest():
                return etag
            self.moved(len(part))
            return self.request("PUT", {"partNumber": number}, body=part).headers.get("etag", "")

    def complete(self, etags: list[str]) -> tuple[str | None, str | None]:
        """Make the object visible; return its ETag and version."""
        parts = "".join(
            f"<Part><PartNumber>{number}</PartNumber><ETag>{html.escape(etag, quote=False)}</ETag></Part>"
            for number, etag in enumerate(etags, 1)
        )
        target = self.target
        answer = self.request(
            "POST",
            headers=target.condition,
            body=f'<CompleteMultipartUpload xmlns="{SPACE}">{parts}</CompleteMultipartUpload>'.encode(),
        )
        if b"<Error>" in answer.body:  # Amazon may begin the answer, with status 200, before it knows
            raise faults.from_code(faults.code_in(answer.body), target.subject)
        etag = metadata.quoted(field(answer.body, "ETag"))
        expected = _etag_of_parts(etags)
        if etag and expected and re.fullmatch(r'"[0-9a-f]{32}-[0-9]+"', etag) and etag != expected:
            raise ChecksumMismatch(target.subject, "the service put the parts together to something else")
        return etag, answer.headers.get("x-amz-version-id")


def field(body: bytes, name: str) -> str:
    """Return the text of the first element ``name`` of an answer; ``""`` for none."""
    found = re.search(f"<{name}>([^<]*)</{name}>".encode(), body)
    return html.unescape(found[1].decode()) if found else ""


def _etag_of_parts(etags: list[str]) -> str | None:
    """Return the ETag that an object of these parts has at Amazon; None where theirs are not MD5s."""
    digests = [metadata.md5_like(etag) for etag in etags]
    if None in digests:
        return None
    whole = hashlib.md5(bytes.fromhex("".join(digest or "" for digest in digests)), usedforsecurity=False)
    return f'"{whole.hexdigest()}-{len(etags)}"'


def _parts_there(target: Object, upload_id: str) -> dict[int, tuple[int, str]]:
    """Return size and ETag of the parts of an upload by number; NotFound where it is no more."""
    found: dict[int, tuple[int, str]] = {}
    query: dict[str, str | int] = {"uploadId": upload_id, "max-parts": 1000}
    while True:
        body = target.http.request(target.subject, "GET", target.key, query=query).body
        for part in re.findall(rb"<Part>(.*?)</Part>", body, re.DOTALL):
            found[int(field(part, "PartNumber"))] = int(field(part, "Size")), field(part, "ETag")
        marker = field(body, "NextPartNumberMarker")
        if field(body, "IsTruncated") != "true" or not marker:
            return found
        query["part-number-marker"] = marker


@contextmanager
def _upload(
    target: Object,
    unfinished: UnfinishedUploads,
    source: LocalSource | None = None,
    moved: Moved = nobody_counts,
) -> Iterator[_Upload]:
    """Begin an upload, or go on with one of an ended process; after an error inside abort it."""
    http = target.http
    with ExitStack() as held:
        note = None if source is None else unfinished.find(target.key, source, held)
        done: Mapping[int, tuple[int, str]] = {}
        if note is not None:
            try:
                done = _parts_there(target, note.upload_id)
            except NotFound:
                note.forget()
                note = None
        unfinished.abort(http)
        if note is None:
            begun = http.request(
                target.subject, "POST", target.key, query={"uploads": ""}, headers=target.headers, body=b""
            )
            note = unfinished.note(target.key, field(begun.body, "UploadId"), source, held)
        upload = _Upload(target, note.upload_id, done, moved)
        try:
            yield upload
        except BaseException:
            with suppress(Exception):
                upload.request("DELETE")
                note.forget()
            raise
        note.forget()


def send(
    target: Object,
    parts: Iterable[tuple[int, AbstractContextManager[bytes]]],
    executor: Executor,
    unfinished: UnfinishedUploads,
    source: LocalSource | None = None,
    moved: Moved = nobody_counts,
) -> tuple[str | None, str | None]:
    """Store ``parts`` as one object.

    Args:
        target: the object.
        parts: the size of each and what gives its bytes, which is entered when it is sent. As many are under way as
            `BYTES_IN_FLIGHT` holds, at least one and at most `IN_FLIGHT`; one more is asked for meanwhile.
        executor: sends them.
        unfinished: notes the upload while it runs.
        source: the local file that the parts come from, where an upload of it that a killed process left may be
            finished: parts that are there are not sent again.
        moved: hears of each part before it is sent.

    Returns:
        the object's ETag and version.

    Raises:
        StorageError, or what ``parts`` raise, after the upload was aborted.
    """
    with _upload(target, unfinished, source, moved) as upload:
        pending: dict[Future[str], int] = {}
        etags: dict[int, str] = {}

        def take_any() -> None:
            # Not the oldest: some services let a part wait for a second now and then, and all others would with it.
            for future in wait(pending, return_when=FIRST_COMPLETED).done:
                number = pending.pop(future)
                try:
                    etags[number] = future.result()
                except NotFound as gone:
                    raise _cause(gone, pending) from None

        with all_ended(pending):
            for number, (size, part) in enumerate(parts, 1):
                while len(pending) >= in_flight(size):
                    take_any()
                pending[executor.submit(upload.send, number, part)] = number
            while pending:
                take_any()
        return upload.complete([etags[number] for number in sorted(etags)])


def _cause(gone: NotFound, others: Iterable[Future[Any]]) -> BaseException:
    """Return why an upload is gone: some services give it up, with all of its parts, when they refuse one of them."""
    with all_ended(others):
        pass
    errors = (future.exception() for future in others if not future.cancelled())
    return next((one for one in errors if one is not None and not isinstance(one, NotFound)), gone)


def in_flight(part: int) -> int:
    """Return how many parts of ``part`` bytes are sent at once."""
    return min(IN_FLIGHT, max(1, BYTES_IN_FLIGHT // part))


@contextmanager
def all_ended(futures: Iterable[Future[Any]]) -> Iterator[None]:
    """Leave only when no request runs any more: a part that arrives after the abort would stay, and be paid for."""
    try:
        yield
    finally:
        for future in futures:
            future.cancel()
        wait(futures)


def copy(
    target: Object,
    source: str,
    size: int,
    etag: str,
    executor: Executor,
    subject: str,
    unfinished: UnfinishedUploads,
    *,
    range_bytes: int = 512 * MIB,
) -> tuple[str | None, str | None]:
    """Copy an object too large for one CopyObject (5 GiB) on the server, in ranges; like `send`.

    Args:
        target: the new object; a copy in ranges takes no metadata over by itself.
        source: bucket and key, percent-encoded.
        size: bytes of the source.
        etag: that the source must have in every range.
        executor: runs the requests.
        subject: the source as the user would type it.
        unfinished: as `send`.
        range_bytes: of one request.
    """
    step = max(range_bytes, part_bytes(size))

    with _upload(target, unfinished) as upload:

        def copy_part(start: int) -> str:
            answer = upload.request(
                "PUT",
                {"partNumber": start // step + 1},
                headers={
                    "x-amz-copy-source": source,
                    "x-amz-copy-source-if-match": etag,
                    "x-amz-copy-source-range": f"bytes={start}-{min(start + step, size) - 1}",
                },
            )
            part_etag = field(answer.body, "ETag")
            if not part_etag:
                raise Unsupported(subject, "this service does not copy such large files")
            return part_etag

        futures = [executor.submit(copy_part, start) for start in range(0, size, step)]
        with all_ended(futures):
            parts = [future.result() for future in futures]
        return upload.complete(parts)
