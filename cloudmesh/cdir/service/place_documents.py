"""What the OpenAPI document tells of the primitives of a service."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, Field

from cloudmesh.cdir.service.answers import BYTES, JSON, NDJSON
from cloudmesh.cdir.service.models import Body
from cloudmesh.cdir.service.problems import RESPONSES
from cloudmesh.storage.abc import WriteMode

Responses = dict[int | str, dict[str, Any]]

MODE = "create: only if nothing is there"

_BYTES = {BYTES: {"schema": {"type": "string", "format": "binary"}}}


class ServiceNames(BaseModel):
    """The services that may be used."""

    default: str = Field(description="the one that a path without a service means")
    services: list[str] = Field(description="all of them")


class ServiceFacts(BaseModel):
    """What transfers are planned and priced by."""

    kind: str = Field(description="of the service, such as awss3")
    capabilities: dict[str, Any] = Field(description="what it can do, and its limits")
    price: dict[str, str] = Field(description="what it charges, in US dollars; without what is not known")


class Found(BaseModel):
    """A file or directory on a service; what is not known is left out."""

    path: str = Field(description="from the service's root")
    is_directory: bool = Field(description="a directory has but a path")
    hashes: dict[str, str] = Field(description="algorithm to lower-case hex digest of the whole content")
    size: int | None = Field(default=None, description="bytes")
    mtime_ns: int | None = Field(default=None, description="the content's own time, in ns since the epoch")
    changed_ns: int | None = Field(default=None, description="when it was stored, in ns since the epoch")
    etag: str | None = Field(default=None, description="differs when the content differs")
    version: str | None = Field(default=None, description="the service's own name of this version")


class Scanned(BaseModel):
    """What is in a directory."""

    entry: Found = Field(description="a file or directory")
    error: dict[str, str] | None = Field(default=None, description="why it could not be looked into")


class Within(Body):
    """A copy or a move on a service's own side."""

    source: str = Field(description="from the service's root")
    destination: str = Field(description="from the service's root")
    mode: WriteMode = Field(default="overwrite", description=MODE)


def _answers(description: str, **more: Any) -> Responses:
    return {200: {"description": description, **more}, **RESPONSES}


NAMES = _answers("their names", model=ServiceNames)
FACTS = _answers("the facts", model=ServiceFacts)
FOUND = _answers("the file or directory", model=Found)
SCANNED = _answers(
    "what is there",
    model=list[Scanned],
    content={JSON: {}, NDJSON: {"schema": {"type": "string", "description": "one row a line"}}},
)
READ = _answers("the bytes", content=_BYTES)
DONE: Responses = {204: {"description": "done"}, **RESPONSES}

UPLOAD = {"requestBody": {"content": _BYTES}}
"""None at all is an empty file."""
