"""What the OpenAPI document tells of the URLs of files: headers of requests, and answers."""

from __future__ import annotations

from typing import Any

from cloudmesh.cdir.service.models import record_model
from cloudmesh.cdir.service.problems import RESPONSES
from cloudmesh.storage.transfer.report import Report
from cloudmesh.vdir.records import NameInfo

BYTES = {"schema": {"type": "string", "format": "binary"}}

_ASKED = {
    "Range": "which bytes are asked for, such as bytes=0-99,-5; at most 16 ranges that do not overlap",
    "If-Range": "only if this is still the ETag, or the time of the last change; else all bytes are sent",
    "If-Match": "only if one of these is the ETag, or with * if it is there",
    "If-None-Match": "only if none of these is the ETag, or with * if it is not there",
    "If-Modified-Since": "only if it was changed after this time",
    "If-Unmodified-Since": "only if it was not changed after this time",
    "Repr-Digest": "the SHA-256 that the bytes must have (RFC 9530): sha-256=:BASE64:",
    "Content-Digest": "likewise",
    "Digest": "likewise, in its older form (RFC 3230): sha-256=BASE64",
}

_TOLD = {
    "ETag": "tells this content from others: its SHA-256, where that is known",
    "Last-Modified": "when the content was changed last",
    "Repr-Digest": "the SHA-256 of all bytes (RFC 9530), where it is known",
    "Content-Disposition": "the file's name",
    "X-Cdir-Replica": "the service whose replica is sent",
    "X-Cdir-Replica-Reason": "why that one",
}


def asked(*names: str) -> dict[str, Any]:
    """Return the headers of a request, for the document."""
    parameters = [
        {"name": name, "in": "header", "required": False, "description": _ASKED[name], "schema": {"type": "string"}}
        for name in names
    ]
    return {"parameters": parameters}


def _told(*names: str) -> dict[str, Any]:
    return {"headers": {name: {"description": _TOLD[name], "schema": {"type": "string"}} for name in names}}


_content = {"content": {"*/*": BYTES}}
_model: Any = record_model(NameInfo) | record_model(Report)
_file = {
    "description": "the file, as it is now; with ``report`` the copies, and those that failed",
    "model": _model,
} | _told("ETag", "Last-Modified")

_CONDITIONS = ("If-Match", "If-None-Match", "If-Unmodified-Since")

READING: dict[str, Any] = asked("Range", "If-Range", "If-Modified-Since", *_CONDITIONS)

READ: dict[int | str, dict[str, Any]] = {
    200: {"description": "the file's bytes, or the names in a directory"} | _content | _told(*_TOLD),
    206: {"description": "the bytes that were asked for"} | _content | _told(*_TOLD),
    304: {"description": "it has not changed"} | _told("ETag", "Last-Modified"),
    307: {"description": "where the service gives it out by itself"},
    308: {"description": "it is a directory: its URL ends in a slash"},
    416: {"description": "it has no such bytes", "content": RESPONSES[400]["content"]},
    **RESPONSES,
}

WRITING: dict[str, Any] = {
    "requestBody": {"content": {"application/octet-stream": BYTES}},  # none at all is an empty file
    **asked(*_CONDITIONS, "Repr-Digest", "Content-Digest", "Digest"),
}

WRITTEN: dict[int | str, dict[str, Any]] = {200: _file, 201: _file | {"description": "a new file"}, **RESPONSES}

DELETING: dict[str, Any] = asked(*_CONDITIONS)

DELETED: dict[int | str, dict[str, Any]] = {204: {"description": "it is gone"}, **RESPONSES}
