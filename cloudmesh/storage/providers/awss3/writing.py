"""Bytes into the bucket: small files in one request, others in parts."""

from __future__ import annotations

import io
import itertools
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from cloudmesh.storage import local_files
from cloudmesh.storage.abc import Content, Entry
from cloudmesh.storage.errors import SourceChanged
from cloudmesh.storage.providers.awss3 import metadata, multipart
from cloudmesh.storage.providers.awss3.bucket import Bucket
from cloudmesh.storage.providers.awss3.multipart import MIB

if TYPE_CHECKING:
    from obstore import PutMode

SMALL = MIB
"""Up to here obstore sends a file, in a tenth of the time; its read timeout counts from the start of a request, so that
more bytes might not get through a slow line in time. boto3's counts from the end of what is sent."""


def write(bucket: Bucket, path: str, content: Content, condition: Mapping[str, str]) -> Entry:
    """Store ``content`` under a condition of `Conditions.of_write`; errors as `StorageABC.write`."""
    source = _Source(content, bucket.location(path))
    if content.size is not None and content.size <= SMALL:
        etag, version = _in_one(bucket, path, b"".join(source), content.mtime_ns, condition)
    else:
        etag, version = _in_parts(bucket, path, source, content, condition)
    etag = metadata.quoted(etag)
    return Entry(
        path,
        size=source.sent,
        mtime_ns=content.mtime_ns,
        etag=etag,
        hashes=bucket.hashes(etag),
        version=version,
    )


def _in_one(
    bucket: Bucket, path: str, data: bytes, mtime_ns: int | None, condition: Mapping[str, str]
) -> tuple[str | None, str | None]:
    import obstore

    mode: PutMode = "overwrite"
    if "IfNoneMatch" in condition:
        mode = "create"
    elif "IfMatch" in condition:
        mode = {"e_tag": condition["IfMatch"]}
    attributes = {"Content-Type": metadata.content_type(path)}
    if mtime_ns is not None:
        attributes["mtime"] = metadata.mtime_text(mtime_ns)
    with bucket.translated(path):
        answer = obstore.put(
            bucket.connection.store, bucket.key(path), data, attributes=attributes, mode=mode, use_multipart=False
        )
    return answer["e_tag"], answer["version"]


def _in_parts(
    bucket: Bucket, path: str, source: _Source, content: Content, condition: Mapping[str, str]
) -> tuple[str | None, str | None]:
    target = bucket.target(path)
    attributes: dict[str, Any] = {"ContentType": metadata.content_type(path)}
    if content.mtime_ns is not None:
        attributes["Metadata"] = {"mtime": metadata.mtime_text(content.mtime_ns)}
    sizes = multipart.part_sizes(content.size, equal=bucket.connection.equal_parts)
    parts = multipart.regroup(source, sizes, bucket.location(path))
    head = list(itertools.islice(parts, 2))
    with bucket.translated(path):
        if len(head) == 2:
            answer = multipart.send(
                bucket.connection.client,
                target,
                itertools.chain(head, parts),
                bucket.pool,
                attributes=attributes,
                condition=condition,
                unfinished=bucket.unfinished,
            )
        else:
            body = io.BytesIO(b"".join(head))
            answer = bucket.connection.client.put_object(**target, **attributes, **condition, Body=body)
    return answer.get("ETag"), answer.get("VersionId")


class _Source:
    """The pieces of a content, counted and compared with the promised size before the last one is handed out."""

    def __init__(self, content: Content, subject: str) -> None:
        self._content = content
        self._subject = subject
        self.sent = 0

    def __iter__(self) -> Iterator[bytes]:
        promised = self._content.size
        with local_files.translated(str(self._content.path or self._subject)):
            for piece in self._content.open():
                self.sent += len(piece)
                if promised is not None and self.sent > promised:
                    raise SourceChanged(self._subject, f"the source gave more than the {promised} bytes promised")
                yield piece
        if promised is not None and self.sent < promised:
            raise SourceChanged(self._subject, f"the source gave {self.sent} of the {promised} bytes promised")
