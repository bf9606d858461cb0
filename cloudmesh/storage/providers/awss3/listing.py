"""Listings by ListObjectsV2: every name as it is.

obstore's listings lose the slash that tells a directory's marker from an empty file, alter names that XML cannot hold,
and fail as a whole where one foreign key holds ``//``; botocore's cost 66 µs a key. So the answer is read here.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple
from urllib.parse import unquote_plus
from xml.etree import ElementTree

from cloudmesh.storage.errors import Unavailable

if TYPE_CHECKING:
    from cloudmesh.storage.providers.awss3.http import Http


class Listed(NamedTuple):
    """One key of a listing, or with ``size`` None a common prefix (which ends in a slash)."""

    key: str
    size: int | None = None
    modified: str = ""
    etag: str = ""


@dataclass(frozen=True, slots=True)
class Page:
    """One answer: its keys and prefixes as they came, the server's name for itself, and where the next begins."""

    items: list[Listed]
    server: str
    token: str | None


def pages(http: Http, subject: str, prefix: str, *, one_level: bool, limit: int = 1000) -> Iterator[Page]:
    """Yield the pages of everything below ``prefix``; ``limit`` keys a page.

    Raises:
        StorageError: about ``subject``.
    """
    query: dict[str, str | int] = {"list-type": 2, "prefix": prefix, "max-keys": limit, "encoding-type": "url"}
    if one_level:
        query["delimiter"] = "/"
    while True:
        answer = http.request(subject, "GET", query=query)
        try:
            items, token = _read(answer.body)
        except (ElementTree.ParseError, KeyError, ValueError):
            raise Unavailable(subject, "the service's listing cannot be read") from None
        yield Page(items, answer.headers.get("server", ""), token)
        if not token:
            return
        query["continuation-token"] = token


def _read(body: bytes) -> tuple[list[Listed], str | None]:
    root = ElementTree.fromstring(body)  # noqa: S314 - expat bounds the growth of entities
    space = root.tag[: root.tag.index("}") + 1] if root.tag.startswith("{") else ""
    text = unquote_plus if root.findtext(f"{space}EncodingType") == "url" else str
    tag_key, tag_size, tag_modified, tag_etag = (space + n for n in ("Key", "Size", "LastModified", "ETag"))
    tag_contents, tag_prefixes, tag_prefix = (space + n for n in ("Contents", "CommonPrefixes", "Prefix"))
    items = []
    for element in root:
        if element.tag == tag_contents:
            fields = {child.tag: child.text or "" for child in element}
            items.append(
                Listed(
                    text(fields[tag_key]), int(fields[tag_size]), fields.get(tag_modified, ""), fields.get(tag_etag, "")
                )
            )
        elif element.tag == tag_prefixes:
            items.append(Listed(text(element.findtext(tag_prefix) or "")))
    more = root.findtext(f"{space}IsTruncated") == "true"
    return items, root.findtext(f"{space}NextContinuationToken") if more else None
