"""What who has files elsewhere needs of the virtual directory beyond the usages: `cdir --url` puts and gets with it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated

from fastapi import Depends, FastAPI, Query, Request, Response
from pydantic import Field

from cloudmesh.cdir import urls
from cloudmesh.cdir.service import rights
from cloudmesh.cdir.service.answers import NDJSON
from cloudmesh.cdir.service.house import Visit
from cloudmesh.cdir.service.incoming import Incoming
from cloudmesh.cdir.service.models import MOST, WHOLE, Body, Nanoseconds, record_model
from cloudmesh.cdir.service.problems import RESPONSES
from cloudmesh.cdir.service.security import Principal, require
from cloudmesh.storage import paths
from cloudmesh.storage.errors import PermissionDenied, UsageError
from cloudmesh.storage.output import json_text
from cloudmesh.vdir.announcing import Announced, Expected
from cloudmesh.vdir.records import Imported, NameInfo

_TOGETHER = 1000
_LONGEST_LINE = 16 << 20
_LINES = {NDJSON: {"schema": {"type": "string", "description": "the lines of an export"}}}


class File(Body):
    """A file that somebody has."""

    path: str = Field(description="virtual path that it shall have")
    size: Annotated[int, Field(ge=0, le=MOST, description="bytes"), WHOLE]
    modified_ns: Nanoseconds | None = Field(default=None, description="ns since the epoch")
    sha256: str | None = Field(default=None, pattern="^[0-9a-f]{64}$", description="of its bytes, where it is known")


class Announcement(Body):
    """Files that somebody has, and where they are to go."""

    files: list[File] = Field(max_length=_TOGETHER, description="those that somebody has")
    to: list[str] = Field(default=[], description="services; without any the rules or the default one decide")
    force: bool = Field(default=False, description="replace other content")
    dryrun: bool = Field(default=False, description="nothing will be sent: tell what it would cost")


def install(app: FastAPI) -> None:
    """Add the routes."""

    @app.get(
        urls.NAMES,
        tags=["names"],
        operation_id="names_info",
        response_model=None,
        responses={200: {"description": "it", "model": record_model(NameInfo)}, **RESPONSES},
    )
    def info(
        request: Request,
        principal: Annotated[Principal, Depends(require("read"))],
        name: Annotated[str, Query(description="virtual path")],
    ) -> Response:
        """Return one file or directory. Scope: read."""
        visit: Visit = request.state.visit
        principal.check_path(paths.resolve(name))
        return Response(json_text(visit.vdir(principal).info(name)), media_type="application/json")

    @app.post(
        urls.ANNOUNCEMENTS,
        tags=["names"],
        operation_id="names_announce",
        response_model=None,
        responses={200: {"description": "what is wanted", "model": record_model(Expected)}, **RESPONSES},
    )
    def announce(
        request: Request, principal: Annotated[Principal, Depends(require("write"))], values: Announcement
    ) -> Response:
        """Tell which of some files are wanted, as `vdir put` decides it; those are then PUT to `/files/…`.

        Scope: write. Nothing is changed.
        """
        visit: Visit = request.state.visit
        for one in values.files:
            principal.check_path(paths.resolve(one.path))
        for service in values.to:
            principal.check_service(service)
        files = [Announced(**one.model_dump()) for one in values.files]
        vdir = visit.vdir(principal)
        found = vdir.announce(files, to=values.to or None, force=values.force, dryrun=values.dryrun)
        return Response(json_text(found), media_type="application/json")

    @app.put(
        urls.CATALOGUE,
        tags=["names"],
        operation_id="names_import",
        response_model=None,
        responses={200: {"description": "what was read", "model": record_model(Imported)}, **RESPONSES},
        openapi_extra={"requestBody": {"content": _LINES}},
    )
    def put(
        request: Request,
        principal: Annotated[Principal, Depends(require("write"))],
        dryrun: Annotated[bool, Query(description="only check and count")] = False,
        source: Annotated[str, Query(description="the name of the file, for errors")] = "the export",
    ) -> Response:
        """Read the lines of an exported catalogue back, as `vdir import` does; not for who is limited. Scope: write."""
        if rights.is_limited(principal):
            raise PermissionDenied("vdir import", f"{principal.name} is limited to some names or services")
        visit: Visit = request.state.visit
        found = visit.vdir(principal).import_lines(_lines(Incoming(request, source), source), source, dryrun=dryrun)
        return Response(json_text(found), media_type="application/json")


def _lines(body: Incoming, source: str) -> Iterator[str]:
    """Yield the lines of a body.

    Raises:
        UsageError: one is longer than any of an export.
    """
    rest = b""
    for piece in body:
        *whole, rest = (rest + piece).split(b"\n")
        for line in whole:
            yield line.decode("utf-8", "replace")
        if len(rest) > _LONGEST_LINE:
            raise UsageError(source, f"it has a line of more than {_LONGEST_LINE} bytes")
    if rest:
        yield rest.decode("utf-8", "replace")
