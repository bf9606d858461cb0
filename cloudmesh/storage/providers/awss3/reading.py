"""Bytes out of the bucket, as a stream."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from cloudmesh.storage.abc import CHUNK, Entry, Reader
from cloudmesh.storage.errors import Unavailable
from cloudmesh.storage.providers.awss3 import metadata
from cloudmesh.storage.providers.awss3.bucket import Bucket
from cloudmesh.storage.providers.awss3.faults import NOT_PARTIAL, status_and_code, translate

if TYPE_CHECKING:
    from obstore import GetOptions, GetResult


def read(bucket: Bucket, path: str, start: int, end: int | None, if_match: str | None) -> Reader:
    """Open the bytes from ``start`` up to before ``end`` (None = the end of the file); errors as `open_read`."""
    import obstore

    store = bucket.connection.store
    options: GetOptions = {}
    if if_match is not None:
        options["if_match"] = if_match
    if end is not None:
        options["range"] = (start, end)
    elif start:
        options["range"] = {"offset": start}
    try:
        result = obstore.get(store, bucket.key(path), options=options)
    except Exception as error:
        if status_and_code(error)[0] == 416:
            entry = bucket.file(path)
            bucket.match(entry, if_match)
            return Reader(entry, iter(()))
        if NOT_PARTIAL in str(error):
            with bucket.translated(path):
                result = obstore.get(store, bucket.key(path))
        else:
            with bucket.translated(path):
                try:
                    raise
                except FileNotFoundError:
                    cause = translate(error, bucket.location(path), bucket.name)
                    raise bucket.missing(path, cause) from None
    entry = _entry(bucket, path, result)
    bucket.match(entry, if_match)
    size = entry.size or 0
    end = size if end is None else min(end, size)
    return Reader(entry, _stream(bucket, path, result, start - result.range[0], end - start))


def _entry(bucket: Bucket, path: str, result: GetResult) -> Entry:
    meta = result.meta
    etag = metadata.quoted(meta["e_tag"])
    mtime = next((text for name, text in result.attributes.items() if name.lower() == "mtime"), None)
    return Entry(
        path,
        size=meta["size"],
        mtime_ns=metadata.parse_mtime(mtime),
        changed_ns=metadata.nanoseconds(meta["last_modified"]),
        etag=etag,
        hashes=bucket.hashes(etag),
        version=meta["version"],
    )


def _stream(bucket: Bucket, path: str, result: GetResult, skip: int, left: int) -> Iterator[bytes]:
    """Yield ``left`` bytes of an answer after the first ``skip``."""
    stream = iter(result.stream(min_chunk_size=CHUNK))
    while left > 0:
        with bucket.translated(path):
            piece = next(stream, None)
        if piece is None:
            raise Unavailable(bucket.location(path), f"the connection ended {left} bytes too early")
        if skip:
            skipped = min(skip, len(piece))
            skip -= skipped
            piece = piece[skipped:]
        piece = bytes(piece[:left])
        left -= len(piece)
        if piece:
            yield piece
