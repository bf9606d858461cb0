"""The versions of a file that a bucket keeps."""

from __future__ import annotations

from urllib.parse import unquote_plus
from xml.etree import ElementTree

from cloudmesh.storage.abc import Entry
from cloudmesh.storage.errors import NotFound, Unavailable
from cloudmesh.storage.providers.awss3 import metadata
from cloudmesh.storage.providers.awss3.bucket import Bucket
from cloudmesh.storage.providers.awss3.multipart import field


def versions(bucket: Bucket, path: str) -> list[Entry]:
    """Return them, newest first; NotFound where there are none."""
    key = bucket.key(path)
    found: list[Entry] = []
    query = {"versions": "", "prefix": key, "encoding-type": "url"}
    while True:
        body = bucket.connection.http.request(bucket.location(path), "GET", query=query).body
        try:
            answer = _Answer(body)
            found += [_version(bucket, path, item) for item in answer.versions if item["Key"] == key]
        except (ElementTree.ParseError, KeyError, ValueError):
            raise Unavailable(bucket.location(path), "the service's list of versions cannot be read") from None
        # The key itself comes before all longer ones.
        if not answer.more or any(item["Key"] != key for item in answer.versions):
            break
        query |= answer.more
    if not found:
        raise NotFound(bucket.location(path))
    return sorted(found, key=lambda entry: entry.changed_ns or 0, reverse=True)


class _Answer:
    """What an answer to ListObjectVersions tells: the versions, and the parameters that ask for more."""

    def __init__(self, body: bytes) -> None:
        root = ElementTree.fromstring(body)  # noqa: S314 - expat bounds the growth of entities
        space = root.tag[: root.tag.index("}") + 1] if root.tag.startswith("{") else ""
        text = unquote_plus if root.findtext(f"{space}EncodingType") == "url" else str
        self.versions: list[dict[str, str]] = []
        for element in root.iter(f"{space}Version"):
            item = {child.tag.removeprefix(space): child.text or "" for child in element}
            self.versions.append({**item, "Key": text(item["Key"])})
        self.more: dict[str, str] = {}
        if root.findtext(f"{space}IsTruncated") == "true":
            self.more = {
                "key-marker": text(root.findtext(f"{space}NextKeyMarker") or ""),
                "version-id-marker": root.findtext(f"{space}NextVersionIdMarker") or "",
            }


def _version(bucket: Bucket, path: str, item: dict[str, str]) -> Entry:
    etag = metadata.quoted(item.get("ETag"))
    return Entry(
        path,
        size=int(item["Size"]),
        changed_ns=metadata.parse_time(item["LastModified"]),
        etag=etag,
        hashes=bucket.hashes(etag),
        version=item["VersionId"],
    )


def keeps_versions(bucket: Bucket) -> bool:
    """Tell whether versioning is on."""
    answer = bucket.connection.http.request(bucket.location(""), "GET", query={"versioning": ""})
    return field(answer.body, "Status") == "Enabled"
