"""Copies that the service makes itself."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from cloudmesh.storage.abc import Entry
from cloudmesh.storage.providers.awss3 import metadata, multipart
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
    replace_with: Mapping[str, Any] | None = None,
) -> tuple[str | None, str | None]:
    """Copy the file ``entry``; ``replace_with`` is an answer to head_object whose metadata the copy shall have.

    Returns:
        the copy's ETag and version.

    Raises:
        errors about the source, but what ``condition`` and `Bucket.explain` mean is about the destination.
    """
    source = bucket.target(entry.path)
    target = bucket.target(destination)
    client = bucket.connection.client
    with bucket.translated(entry.path):
        if (entry.size or 0) <= COPY_LIMIT:
            replaced = {"MetadataDirective": "REPLACE", **metadata.attributes(replace_with)} if replace_with else {}
            answer = client.copy_object(**target, CopySource=source, **replaced, **condition)
            return answer["CopyObjectResult"].get("ETag"), answer.get("VersionId")
        known = replace_with or client.head_object(**source)
        answer = multipart.copy(
            client,
            source,
            target,
            known["ContentLength"],
            known["ETag"],
            bucket.pool,
            bucket.location(entry.path),
            attributes=metadata.attributes(known),
            condition=condition,
            unfinished=bucket.unfinished,
        )
        return answer.get("ETag"), answer.get("VersionId")


def set_mtime(bucket: Bucket, path: str, mtime_ns: int) -> None:
    """Copy the file ``path`` onto itself with another modification time, in ns since the epoch."""
    entry = bucket.file(path)
    with bucket.translated(path):
        known = bucket.connection.client.head_object(**bucket.target(path))
    kept = {name: text for name, text in known["Metadata"].items() if name.lower() != "mtime"}
    known["Metadata"] = kept | {"mtime": metadata.mtime_text(mtime_ns)}
    copy(bucket, entry, path, {}, replace_with=known)
