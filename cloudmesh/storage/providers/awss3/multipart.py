"""Sending a file in parts: bounded memory, nothing visible before the end, nothing left behind after an error."""

from __future__ import annotations

import io
from collections import deque
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import Executor, Future, wait
from contextlib import suppress
from typing import Any

from cloudmesh.storage.errors import Unsupported

MIB = 1024 * 1024
PART = 8 * MIB
STREAM_PART = 16 * MIB
"""Bytes of a part where the size is not known beforehand: 160 GB can be sent so. Some services want equal parts."""
MAX_PARTS = 10_000
IN_FLIGHT = 4


def part_bytes(size: int | None) -> int:
    """Return the size of a part by which ``size`` bytes fit into the 10,000 parts that a file may have."""
    if size is None:
        return STREAM_PART
    return max(PART, -(-size // (MAX_PARTS * MIB)) * MIB)


def regroup(pieces: Iterable[bytes], size: int) -> Iterator[bytes]:
    """Yield the same bytes in blocks of ``size`` bytes, the last one shorter; nothing where there are none."""
    block = bytearray()
    for piece in pieces:
        view = memoryview(piece)
        while view:
            taken = view[: size - len(block)]
            block += taken
            view = view[len(taken) :]
            if len(block) == size:
                yield bytes(block)
                block.clear()
    if block:
        yield bytes(block)


def send(
    client: Any,
    target: Mapping[str, str],
    parts: Iterable[bytes],
    executor: Executor,
    *,
    attributes: Mapping[str, Any],
    condition: Mapping[str, str],
) -> dict[str, Any]:
    """Store ``parts`` as one object.

    Args:
        client: botocore's.
        target: ``Bucket`` and ``Key``.
        parts: of equal length but for the last; read one by one, at most `IN_FLIGHT` + 1 in memory.
        executor: sends them.
        attributes: what the object is created with.
        condition: ``IfNoneMatch`` or ``IfMatch``, decided by the service when the object would become visible.

    Returns:
        botocore's answer, with ``ETag`` and perhaps ``VersionId``.

    Raises:
        what botocore or ``parts`` raise, after the upload was aborted.
    """
    upload = {**target, "UploadId": client.create_multipart_upload(**target, **attributes)["UploadId"]}
    pending: deque[Future[dict[str, Any]]] = deque()
    done: list[dict[str, Any]] = []

    def send_part(number: int, part: bytes) -> dict[str, Any]:
        # As a file: http.client sends bytes in one call, which has to end within the connection's timeout.
        answer = client.upload_part(**upload, PartNumber=number, Body=io.BytesIO(part))
        return {"PartNumber": number, "ETag": answer["ETag"]}

    try:
        for number, part in enumerate(parts, 1):
            if len(pending) == IN_FLIGHT:
                done.append(pending.popleft().result())
            pending.append(executor.submit(send_part, number, part))
        while pending:
            done.append(pending.popleft().result())
        answer: dict[str, Any] = client.complete_multipart_upload(
            **upload, MultipartUpload={"Parts": done}, **condition
        )
        return answer
    except BaseException:
        for future in pending:
            future.cancel()
        wait(pending)  # a part that arrives after the abort would stay, and be paid for
        with suppress(Exception):
            client.abort_multipart_upload(**upload)
        raise


def copy(
    client: Any,
    source: Mapping[str, str],
    target: Mapping[str, str],
    size: int,
    etag: str,
    executor: Executor,
    *,
    attributes: Mapping[str, Any],
    condition: Mapping[str, str],
    range_bytes: int = 512 * MIB,
) -> dict[str, Any]:
    """Copy an object too large for one CopyObject (5 GiB) on the server, in ranges; like `send`.

    Args:
        client: botocore's.
        source: ``Bucket`` and ``Key``.
        target: likewise.
        size: bytes of the source.
        etag: that the source must have in every range.
        executor: runs the requests.
        attributes: what the object is created with; a copy in ranges takes none over by itself.
        condition: as `send`.
        range_bytes: of one request.
    """
    upload = {**target, "UploadId": client.create_multipart_upload(**target, **attributes)["UploadId"]}
    step = max(range_bytes, part_bytes(size))

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
            raise Unsupported(target["Key"], "this service does not copy such large files")
        return {"PartNumber": start // step + 1, "ETag": part_etag}

    futures = [executor.submit(copy_part, start) for start in range(0, size, step)]
    try:
        parts = [future.result() for future in futures]
        answer: dict[str, Any] = client.complete_multipart_upload(
            **upload, MultipartUpload={"Parts": parts}, **condition
        )
        return answer
    except BaseException:
        for future in futures:
            future.cancel()
        wait(futures)
        with suppress(Exception):
            client.abort_multipart_upload(**upload)
        raise
