"""Copies that the service makes itself."""

from __future__ import annotations

from collections.abc import Mapping
from urllib.parse import quote

from cloudmesh.storage.abc import Entry
from cloudmesh.storage.providers.awss3 import faults, metadata, multipart
from cloudmesh.storage.providers.awss3.bucket import Bucket
from cloudmesh.storage.providers.awss3.multipart import MIB

COPY_LIMIT = 5 * 1024 * MIB
"""Bytes that S3 copies in one request."""


def copy(
    bucket: Bucket,
    entry: Entry,
    destination: str,
    condition: Mapping[str, str],
    *,
    replace_with: Mapping[str, str] | None = None,
    version: str | None = None,
) -> tuple[str | None, str | None]:
    """Copy the file ``entry``; ``replace_with`` are the headers that the copy is created with instead of its own,
    ``version`` a kept version that is copied instead of the newest.

    Returns:
        the copy's ETag and version.

    Raises:
        errors about the source, but what ``condition`` and `Bucket.explain` mean is about the destination.
    """
    http = bucket.connection.http
    subject = bucket.location(entry.path)
    source = quote(f"{bucket.name}/{bucket.key(entry.path)}", safe="/-_.~")
    query = {} if version is None else {"versionId": version}
    if version is not None:
        source += f"?versionId={quote(version, safe='')}"
    key = bucket.key(destination)
    if (entry.size or 0) <= COPY_LIMIT:
        replaced = {"x-amz-metadata-directive": "REPLACE", **replace_with} if replace_with is not None else {}
        sent = {"x-amz-copy-source": source, **replaced, **condition}
        answer = http.request(subject, "PUT", key, headers=sent)
        if b"<Error>" in answer.body:  # Amazon may begin the answer, with status 200, before it knows
            raise faults.from_code(faults.code_in(answer.body), subject)
        return multipart.field(answer.body, "ETag"), answer.headers.get("x-amz-version-id")
    known = http.request(subject, "HEAD", bucket.key(entry.path), query=query).headers
    created_with = metadata.copied(known) if replace_with is None else replace_with
    target = multipart.Object(http, subject, key, created_with, condition)
    return multipart.copy(
        target, source, int(known["content-length"]), known["etag"], bucket.pool, subject, bucket.unfinished
    )


def set_mtime(bucket: Bucket, path: str, mtime_ns: int) -> None:
    """Copy the file ``path`` onto itself with another modification time, in ns since the epoch."""
    entry = bucket.file(path)
    known = bucket.connection.http.request(bucket.location(path), "HEAD", bucket.key(path)).headers
    copy(bucket, entry, path, {}, replace_with=metadata.with_mtime(metadata.copied(known), mtime_ns))
