"""Bytes into the bucket: small files in one request, others in parts."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping
from contextlib import nullcontext
from typing import TYPE_CHECKING, Any

from cloudmesh.storage import local_files
from cloudmesh.storage.abc import Content, Entry
from cloudmesh.storage.errors import SourceChanged
from cloudmesh.storage.providers.awss3 import metadata, multipart
from cloudmesh.storage.providers.awss3.bucket import STREAMED, Bucket
from cloudmesh.storage.providers.awss3.local_parts import LocalParts
from cloudmesh.storage.providers.awss3.unfinished import LocalSource

if TYPE_CHECKING:
    from cloudmesh.storage.http_multi import Transfer


def write(bucket: Bucket, path: str, content: Content, condition: Mapping[str, str]) -> Entry:
    """Store ``content`` under a condition of `Conditions.of_write`; errors as `StorageABC.write`."""
    http = bucket.connection.http
    subject = bucket.location(path)
    target = multipart.Object(http, subject, bucket.key(path), metadata.headers(path, content.mtime_ns), condition)
    sizes = multipart.part_sizes(content.size, equal=bucket.connection.equal_parts)
    local = _local(content)
    if local is not None and local.size > multipart.part_bytes(local.size):
        with LocalParts(local, sizes, bucket.room) as local_parts:
            etag, version = multipart.send(target, local_parts, bucket.pool, bucket.unfinished, local, content.moved)
        return _entry(bucket, path, local.size, content.mtime_ns, etag, version)
    md5 = content.hashes.get("md5")
    if md5 is not None and content.size is not None and 0 < content.size <= STREAMED:
        return _streamed(bucket, path, content, content.size, md5, condition)
    source = _Source(content, subject)
    blocks = multipart.regroup(source, sizes, subject)
    head = list(itertools.islice(blocks, 2))
    if len(head) == 2:
        parts = ((len(block), nullcontext(block)) for block in itertools.chain(_emptied(head), blocks))
        etag, version = multipart.send(target, parts, bucket.pool, bucket.unfinished)
        return _entry(bucket, path, source.sent, content.mtime_ns, etag, version)
    with bucket.translated(path):
        transfer = put(bucket, path, b"".join(head), content.mtime_ns, condition)
    answer = http.send(subject, transfer)
    return stored(bucket, path, source.sent, content.mtime_ns, answer.headers)


def _streamed(bucket: Bucket, path: str, content: Content, size: int, md5: str, condition: Mapping[str, str]) -> Entry:
    """Store a content in one piece that is never in memory as a whole; the service compares it with its hash."""
    from cloudmesh.storage.http_body import Body
    from cloudmesh.storage.http_source import Source

    http = bucket.connection.http
    subject = bucket.location(path)
    headers = {
        **metadata.headers(path, content.mtime_ns),
        **condition,
        "Content-MD5": metadata.content_md5(bytes.fromhex(md5)),
    }
    source = Source(Body(content.open, size, replayable=False), subject, once=True)
    with bucket.translated(path):
        transfer = http.transfer("PUT", bucket.key(path), headers=headers, source=source)
    with local_files.translated(str(content.path or subject)):
        result = http.exchange(transfer)
    return stored(bucket, path, size, content.mtime_ns, http.checked(subject, result).headers)


def put(
    bucket: Bucket, path: str, data: bytes, mtime_ns: int | None, condition: Mapping[str, str], context: Any = None
) -> Transfer:
    """Return the request that stores a file in one piece; raises what botocore raises without credentials."""
    sent = {**metadata.headers(path, mtime_ns), **condition}
    return bucket.connection.http.transfer("PUT", bucket.key(path), headers=sent, body=data, context=context)


def stored(bucket: Bucket, path: str, size: int, mtime_ns: int | None, answer: Mapping[str, str]) -> Entry:
    """Return the file that the headers of the answer to `put` tell of."""
    return _entry(bucket, path, size, mtime_ns, answer.get("etag"), answer.get("x-amz-version-id"))


def _entry(bucket: Bucket, path: str, size: int, mtime_ns: int | None, etag: str | None, version: str | None) -> Entry:
    etag = metadata.quoted(etag)
    return Entry(path, size=size, mtime_ns=mtime_ns, etag=etag, hashes=bucket.hashes(etag), version=version)


def _emptied(blocks: list[bytes]) -> Iterator[bytes]:
    """Yield the blocks and keep none of them in memory."""
    while blocks:
        yield blocks.pop(0)


def _local(content: Content) -> LocalSource | None:
    if content.path is None or content.size is None or content.mtime_ns is None:
        return None
    return LocalSource(str(content.path.absolute()), content.size, content.mtime_ns)


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
