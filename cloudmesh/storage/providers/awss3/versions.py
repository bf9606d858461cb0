"""The versions of a file that a bucket keeps."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from cloudmesh.storage.abc import Entry
from cloudmesh.storage.errors import NotFound
from cloudmesh.storage.providers.awss3 import metadata
from cloudmesh.storage.providers.awss3.bucket import Bucket


def versions(bucket: Bucket, path: str) -> list[Entry]:
    """Return them, newest first; NotFound where there are none."""
    key = bucket.key(path)
    found: list[Entry] = []
    options: dict[str, Any] = {"Bucket": bucket.name, "Prefix": key}
    while True:
        with bucket.translated(path):
            answer = bucket.connection.client.list_object_versions(**options)
        items = answer.get("Versions", [])
        found += [_version(bucket, path, item) for item in items if item["Key"] == key]
        # The key itself comes before all longer ones.
        if not answer.get("IsTruncated") or any(item["Key"] != key for item in items):
            break
        options |= {"KeyMarker": answer["NextKeyMarker"], "VersionIdMarker": answer["NextVersionIdMarker"]}
    if not found:
        raise NotFound(bucket.location(path))
    return sorted(found, key=lambda entry: entry.changed_ns or 0, reverse=True)


def _version(bucket: Bucket, path: str, item: Mapping[str, Any]) -> Entry:
    etag = metadata.quoted(item.get("ETag"))
    return Entry(
        path,
        size=item["Size"],
        changed_ns=metadata.nanoseconds(item["LastModified"]),
        etag=etag,
        hashes=bucket.hashes(etag),
        version=item["VersionId"],
    )


def keeps_versions(bucket: Bucket) -> bool:
    """Tell whether versioning is on."""
    with bucket.translated(""):
        answer = bucket.connection.client.get_bucket_versioning(Bucket=bucket.name)
    return bool(answer.get("Status") == "Enabled")
