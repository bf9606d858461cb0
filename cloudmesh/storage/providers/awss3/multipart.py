"""Sending a file in parts: bounded memory, nothing visible before the end, nothing left behind after an error."""

from __future__ import annotations

import io
from collections import deque
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import Executor, Future, wait
from contextlib import contextmanager, suppress
from typing import Any

from cloudmesh.storage.errors import QuotaExceeded, Unsupported
from cloudmesh.storage.providers.awss3.unfinished import UnfinishedUploads

MIB = 1024 * 1024
PART = 8 * MIB
STREAM_PART = 16 * MIB
"""Bytes of the first parts where the size is not known beforehand."""
STREAM_PART_MAX = 640 * MIB
DOUBLED_AFTER = 400
"""Parts after which those of a stream double. With the two numbers above 10,000 parts hold 5 TiB, S3's largest file."""
MAX_PARTS = 10_000
IN_FLIGHT = 4
BYTES_IN_FLIGHT = 256 * MIB


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
    size = next(remaining, 0)
    block = bytearray()
    for piece in pieces:
        view = memoryview(piece)
        while view:
            if not size:
                raise QuotaExceeded(
                    subject,
                    "the stream is longer than the service takes without knowing its size",
                    "store it in a file first",
                )
            taken = view[: size - len(block)]
            block += taken
            view = view[len(taken) :]
            if len(block) == size:
                yield bytes(block)
                block.clear()
                size = next(remaining, 0)
    if block:
        yield bytes(block)


@contextmanager
def _upload(
    client: Any, target: Mapping[str, str], attributes: Mapping[str, Any], unfinished: UnfinishedUploads
) -> Iterator[dict[str, str]]:
    """Begin an upload; after an error inside abort it."""
    unfinished.abort(client)
    upload = {**target, "UploadId": client.create_multipart_upload(**target, **attributes)["UploadId"]}
    with unfinished.noted(upload) as forget:
        try:
            yield upload
        except BaseException:
            with suppress(Exception):
                client.abort_multipart_upload(**upload)
                forget()
            raise
        forget()


def send(
    client: Any,
    target: Mapping[str, str],
    parts: Iterable[bytes],
    executor: Executor,
    *,
    attributes: Mapping[str, Any],
    condition: Mapping[str, str],
    unfinished: UnfinishedUploads,
) -> dict[str, Any]:
    """Store ``parts`` as one object.

    Args:
        client: boto3's.
        target: ``Bucket`` and ``Key``.
        parts: read one by one; besides the one being read as many are in memory as `BYTES_IN_FLIGHT` holds, at least
            one and at most `IN_FLIGHT`.
        executor: sends them.
        attributes: what the object is created with.
        condition: ``IfNoneMatch`` or ``IfMatch``, decided by the service when the object would become visible.
        unfinished: notes the upload while it runs.

    Returns:
        boto3's answer, with ``ETag`` and perhaps ``VersionId``.

    Raises:
        what boto3 or ``parts`` raise, after the upload was aborted.
    """
    with _upload(client, target, attributes, unfinished) as upload:

        def send_part(number: int, part: bytes) -> dict[str, Any]:
            # As a file: http.client sends bytes in one call, which has to end within the connection's timeout.
            answer = client.upload_part(**upload, PartNumber=number, Body=io.BytesIO(part))
            return {"PartNumber": number, "ETag": answer["ETag"]}

        pending: deque[Future[dict[str, Any]]] = deque()
        done: list[dict[str, Any]] = []
        with _all_ended(pending):
            for number, part in enumerate(parts, 1):
                while len(pending) >= in_flight(len(part)):
                    done.append(pending.popleft().result())
                pending.append(executor.submit(send_part, number, part))
            while pending:
                done.append(pending.popleft().result())
        return _complete(client, upload, done, condition)


def in_flight(part: int) -> int:
    """Return how many parts of ``part`` bytes are sent at once."""
    return min(IN_FLIGHT, max(1, BYTES_IN_FLIGHT // part))


@contextmanager
def _all_ended(futures: Iterable[Future[Any]]) -> Iterator[None]:
    """Leave only when no request runs any more: a part that arrives after the abort would stay, and be paid for."""
    try:
        yield
    finally:
        for future in futures:
            future.cancel()
        wait(futures)


def _complete(
    client: Any, upload: Mapping[str, str], parts: list[dict[str, Any]], condition: Mapping[str, str]
) -> dict[str, Any]:
    answer: dict[str, Any] = client.complete_multipart_upload(**upload, MultipartUpload={"Parts": parts}, **condition)
    return answer


def copy(
    client: Any,
    source: Mapping[str, str],
    target: Mapping[str, str],
    size: int,
    etag: str,
    executor: Executor,
    subject: str,
    *,
    attributes: Mapping[str, Any],
    condition: Mapping[str, str],
    unfinished: UnfinishedUploads,
    range_bytes: int = 512 * MIB,
) -> dict[str, Any]:
    """Copy an object too large for one CopyObject (5 GiB) on the server, in ranges; like `send`.

    Args:
        client: boto3's.
        source: ``Bucket`` and ``Key``.
        target: likewise.
        size: bytes of the source.
        etag: that the source must have in every range.
        executor: runs the requests.
        subject: the source as the user would type it.
        attributes: what the object is created with; a copy in ranges takes none over by itself.
        condition: as `send`.
        unfinished: as `send`.
        range_bytes: of one request.
    """
    step = max(range_bytes, part_bytes(size))

    with _upload(client, target, attributes, unfinished) as upload:

        def copy_part(start: int) -> dict[str, Any]:
            answer = client.upload_part_copy(
                **upload,
                PartNumber=start // step + 1,
                CopySource=dict(source),
                CopySourceIfMatch=etag,
                CopySourceRange=f"bytes={start}-{min(start + step, size) - 1}",
            )
            part_etag = answer["CopyPartResult"].get("ETag")
            if not part_etag:
                raise Unsupported(subject, "this service does not copy such large files")
            return {"PartNumber": start // step + 1, "ETag": part_etag}

        futures = [executor.submit(copy_part, start) for start in range(0, size, step)]
        with _all_ended(futures):
            parts = [future.result() for future in futures]
        return _complete(client, upload, parts, condition)
