"""The WebDAV properties that we ask for, and the entries that they and a GET's headers describe."""

from __future__ import annotations

from collections.abc import Mapping

from cloudmesh.storage.abc import NO_HASHES, Entry
from cloudmesh.storage.providers.webdav.answers import bare_etag, epoch_of, hashes_of

DAV = "DAV: "
OC = "http://owncloud.org/ns "
OURS = "https://cloudmesh.github.io/vdir/ns"
SECOND = 1_000_000_000
XML = '<?xml version="1.0" encoding="utf-8"?>\n'
XML_TYPE = ("Content-Type", "application/xml; charset=utf-8")

_PROPFIND = (
    f'{XML}<d:propfind xmlns:d="DAV:" xmlns:oc="http://owncloud.org/ns" xmlns:v="{OURS}"><d:prop>'
    "<d:resourcetype/><d:getcontentlength/><d:getlastmodified/><d:getetag/>%s</d:prop></d:propfind>"
)
ENTRY_PROPS = (_PROPFIND % "<oc:checksums/><v:mtime/>").encode()
SERVICE_PROPS = (_PROPFIND % "<d:quota-available-bytes/><d:quota-used-bytes/><oc:id/><oc:permissions/>").encode()
PROBE_PROPS = (_PROPFIND % "<v:probe/>").encode()

_COLLECTION = f"{DAV}resourcetype/{DAV}collection"
_CHECKSUM = f"{OC}checksums/{OC}checksum"
_MTIME = f"{OURS} mtime"


def entry_of_properties(path: str, props: Mapping[str, str], *, own_mtime: bool) -> Entry:
    """Return the entry that a resource's properties describe.

    Args:
        path: of the resource.
        props: by name, as `multistatus.Response` holds them.
        own_mtime: whether getlastmodified is the modification time that the file's writer gave.
    """
    if _COLLECTION in props:
        return Entry(path, is_directory=True)
    size = count(props.get(DAV + "getcontentlength"))
    changed = epoch_of(props.get(DAV + "getlastmodified"))
    changed_ns = None if changed is None else changed * SECOND
    hashes = hashes_of(props[_CHECKSUM]) if props.get(_CHECKSUM) else NO_HASHES
    etag = bare_etag(props.get(DAV + "getetag"))
    if own_mtime:
        return Entry(path, size=size, mtime_ns=changed_ns, etag=etag, hashes=hashes)
    mtime_ns = _kept_mtime(props.get(_MTIME), size, changed)
    return Entry(path, size=size, mtime_ns=mtime_ns, changed_ns=changed_ns, etag=etag, hashes=hashes)


def entry_of_headers(path: str, headers: Mapping[str, str], size: int | None, *, own_mtime: bool) -> Entry:
    """Return the entry that the headers of a GET's answer describe; arguments as above."""
    changed = epoch_of(headers.get("last-modified"))
    changed_ns = None if changed is None else changed * SECOND
    etag = bare_etag(headers.get("etag") or headers.get("oc-etag"))
    hashes = hashes_of(headers.get("oc-checksum", "")) or NO_HASHES
    if own_mtime:
        return Entry(path, size=size, mtime_ns=changed_ns, etag=etag, hashes=hashes)
    return Entry(path, size=size, changed_ns=changed_ns, etag=etag, hashes=hashes)


def count(text: str | None) -> int | None:
    """Return a number of bytes; None where the service gives none (or a negative one: not known, no limit)."""
    text = (text or "").strip()
    return int(text) if text.isascii() and text.isdigit() else None


def mtime_property(mtime_ns: int, size: int, window: tuple[int, int]) -> str:
    """Return our property, as XML, for a content of ``size`` bytes.

    It outlives the content when another client overwrites the file, so it says which content it is of: by the size and
    by ``window``, the first and last second (the server's clock) at which the service may have stored it.
    """
    return f"<v:mtime>{mtime_ns} {size} {window[0]} {window[1]}</v:mtime>"


def _kept_mtime(value: str | None, size: int | None, changed: int | None) -> int | None:
    """Return the modification time that our property holds, if it is of the content that is there now."""
    fields = value.split() if value else []
    try:
        mtime_ns, kept_size, first, last = (int(field) for field in fields)
    except ValueError:
        return None
    return mtime_ns if kept_size == size and changed is not None and first <= changed <= last else None
