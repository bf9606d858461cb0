"""What the URL of a file means, and the headers that describe one."""

from __future__ import annotations

import base64
import mimetypes
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from urllib.parse import unquote_to_bytes

from cloudmesh.cdir import urls
from cloudmesh.cdir.service.security.headers import content_disposition
from cloudmesh.storage import paths
from cloudmesh.storage.errors import InvalidName
from cloudmesh.storage.output import visible
from cloudmesh.vdir.records import Choice, NameInfo


@dataclass(frozen=True, slots=True)
class FileUrl:
    """What a URL below ``/files/`` names.

    Attributes:
        path: the virtual path, with a slash before it.
        service: whose replica is meant; None for the preferred one.
        is_directory: whether it ends in a slash.
    """

    path: str
    service: str | None
    is_directory: bool

    @property
    def name(self) -> str:
        """The name as the verbs of `Vdir` take it."""
        return self.path if self.service is None else f"{self.service}:{self.path}"


def parse(raw_path: bytes, services: Collection[str]) -> FileUrl:
    """Return what a URL names.

    Each part is decoded on its own, once, so that nothing in it can become a slash or a way up.

    Args:
        raw_path: of the URL, encoded as it came.
        services: names of the configured ones: none is a top-level directory's.

    Raises:
        InvalidName: a part is empty, ``.`` or ``..``, or holds a slash, a NUL or bytes that are no UTF-8.
    """
    encoded = raw_path.partition(b"?")[0].removeprefix(urls.FILES.encode())
    names = names_in(encoded)
    service = names.pop(0) if names and names[0] in services else None
    return FileUrl("/" + "/".join(names), service, not encoded or encoded.endswith(b"/") or not names)


def names_in(encoded: bytes) -> list[str]:
    """Return the names of which a path in a URL consists, each decoded by itself, once.

    Raises:
        InvalidName: as `parse`.
    """
    parts = [] if not encoded else encoded.removesuffix(b"/").split(b"/")
    names: list[str] = []
    for part in parts:
        try:
            name = unquote_to_bytes(part).decode("utf-8")
        except UnicodeDecodeError:
            raise InvalidName(part.decode("ascii", "replace"), "the name is not UTF-8") from None
        if name in ("", ".", "..") or "/" in name or "\0" in name:
            raise InvalidName(repr(name), "this is no name of a file")
        names.append(name)
    return names


def headers_of(info: NameInfo) -> dict[str, str]:
    """Return the headers that describe a file; those of every answer come from the guards."""
    name = paths.basename(info.path)
    told = {
        "Accept-Ranges": "bytes",
        "Content-Type": content_type(name),
        "Content-Disposition": content_disposition(name),
        "Cache-Control": "private, no-cache",
    }
    if info.sha256 is not None:
        digest = base64.b64encode(bytes.fromhex(info.sha256)).decode()
        told |= {"Repr-Digest": f"sha-256=:{digest}:", "Digest": f"sha-256={digest}"}
    return told


def replica_headers(choices: Sequence[Choice], service: str) -> dict[str, str]:
    """Return the headers that tell which replica was read, and why that one.

    Args:
        choices: the best first.
        service: whose replica it is; with another than the first, those before could not be read.
    """
    place = next((place for place, one in enumerate(choices) if one.service == service), 0)
    before = ", ".join(one.service for one in choices[:place])
    reason = f"{before} could not be read" if before else choices[place].reason
    told = visible(reason).encode("ascii", "backslashreplace").decode()
    return {"X-Cdir-Replica": choices[place].service, "X-Cdir-Replica-Reason": told}


def content_type(name: str) -> str:
    """Return the media type that a file's name tells."""
    kind, encoding = mimetypes.guess_type(name)
    return "application/octet-stream" if kind is None or encoding is not None else kind


def digest_in(headers: str | None) -> str | None:
    """Return the SHA-256 that a header such as ``Repr-Digest`` tells, lower-case hex; None where it tells none."""
    for part in (headers or "").split(","):
        algorithm, _, value = part.strip().partition("=")
        if algorithm.lower() == "sha-256":
            try:
                return base64.b64decode(value.strip(":"), validate=True).hex()
            except ValueError:
                return None
    return None
