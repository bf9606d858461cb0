"""Files by URL: ``/files/DIR/NAME`` is the preferred replica, ``/files/SERVICE/DIR/NAME`` the one on that service."""

from __future__ import annotations

import secrets
from collections.abc import Iterator, Mapping
from typing import Annotated, Any

from fastapi import Depends, FastAPI, Path, Query, Request, Response
from pydantic import BaseModel, ConfigDict, Field
from pydantic.json_schema import SkipJsonSchema
from starlette.convertors import PathConvertor, register_url_convertor
from starlette.responses import RedirectResponse

from cloudmesh.cdir import urls
from cloudmesh.cdir.service import conditions, file_urls
from cloudmesh.cdir.service.answers import PATIENCE_S, Streamed, answer, closing, sent
from cloudmesh.cdir.service.conditions import Validators
from cloudmesh.cdir.service.file_documents import DELETED, DELETING, READ, READING, WRITING, WRITTEN
from cloudmesh.cdir.service.file_urls import FileUrl
from cloudmesh.cdir.service.house import House, Visit
from cloudmesh.cdir.service.incoming import Incoming
from cloudmesh.cdir.service.models import Nanoseconds
from cloudmesh.cdir.service.problems import problem
from cloudmesh.cdir.service.security import Principal, require
from cloudmesh.cdir.service.security.ranges import NotSatisfiable, parse_ranges
from cloudmesh.storage import paths
from cloudmesh.storage.errors import (
    ChecksumMismatch,
    IsADirectory,
    NotADirectory,
    NotFound,
    PreconditionFailed,
    StorageError,
    Unsupported,
    UsageError,
)
from cloudmesh.storage.output import json_text
from cloudmesh.storage.transfer.report import Report
from cloudmesh.vdir import Vdir
from cloudmesh.vdir.found import FoundFile
from cloudmesh.vdir.records import Choice, NameInfo

ROUTE = urls.FILES + "{path:any}"
_REDIRECT_S = 300.0

_Place = Annotated[
    str, Path(description="a virtual path, or a service's name and a virtual path; with a slash at its end a directory")
]


class _AnyPath(PathConvertor):
    """All that stands in a URL, also the end of a line, which is a character of names like others."""

    regex = "(?s:.*)"


class Upload(BaseModel):
    """How a file is written."""

    model_config = ConfigDict(extra="forbid")

    to: list[str] = Field(default=[], description="services; without any the rules or the default one decide")
    modified_ns: Nanoseconds | SkipJsonSchema[None] = Field(
        default=None, description="modification time of the bytes, in ns since the epoch; else now"
    )
    force: bool = Field(default=True, description="replace foreign files that are in the way, and other content")
    report: bool = Field(default=False, description="answer what `vdir put` answers: the copies, and those that failed")


def install(app: FastAPI) -> None:
    """Add the routes."""
    register_url_convertor("any", _AnyPath())
    named: dict[str, Any] = {"tags": ["files"], "response_model": None, "response_class": Response}

    @app.get(ROUTE, responses=READ, operation_id="files_get", openapi_extra=READING, **named)
    def get(
        request: Request,
        path: _Place,
        principal: Annotated[Principal, Depends(require("read"))],
        redirect: Annotated[bool, Query(description="send to the service itself, where it gives URLs")] = False,
    ) -> Response:
        """Read a file, or the ranges of it that are asked for; list a directory.

        Scope: read. A read that fails halfway goes on from the next replica.
        """
        return read(request, principal, redirect=redirect)

    @app.get(urls.FILES.rstrip("/"), include_in_schema=False, dependencies=[Depends(require("read"))])
    def root() -> Response:
        return RedirectResponse(f".{urls.FILES}", 308)

    @app.head(ROUTE, responses=READ, operation_id="files_head", openapi_extra=READING, **named)
    async def head(
        request: Request, path: _Place, principal: Annotated[Principal, Depends(require("read"))]
    ) -> Response:
        """Tell what there is to know of a file. Scope: read."""
        house: House = request.app.state.house
        return await house.look(read, request, principal)

    @app.put(ROUTE, responses=WRITTEN, operation_id="files_put", openapi_extra=WRITING, **named)
    def put(
        request: Request,
        path: _Place,
        principal: Annotated[Principal, Depends(require("write"))],
        how: Annotated[Upload, Query()],
    ) -> Response:
        """Give a file the bytes of the body, as its new version where it is there.

        Scope: write. ``If-Match`` and ``If-None-Match: *`` decide against others who write it; ``Repr-Digest`` is
        compared before anything is seen.
        """
        return _put(request, principal, how)

    @app.delete(ROUTE, status_code=204, responses=DELETED, operation_id="files_delete", openapi_extra=DELETING, **named)
    def delete(
        request: Request,
        path: _Place,
        principal: Annotated[Principal, Depends(require("delete"))],
        recursive: Annotated[bool, Query(description="a directory with all that is in it")] = False,
        purge: Annotated[bool, Query(description="remove the files on the services, too")] = False,
        accept_loss: Annotated[bool, Query(description="with purge: the last copy of a content, too")] = False,
    ) -> Response:
        """Remove a name; with a service's name before it, the replica there, never the last good one.

        Scope: delete. ``If-Match`` decides against others who change it.
        """
        vdir, url = _opened(request, principal)

        def check(info: NameInfo) -> None:
            conditions.check(request.headers, url.path, Validators.of(info))

        holds = check if conditions.is_conditional(request.headers) else None
        if url.service is not None:
            vdir.drop(url.path, from_=[url.service], recursive=recursive, check=holds)
        else:
            vdir.delete(url.path, recursive=recursive, purge=purge, accept_loss=accept_loss, check=holds)
        return Response(status_code=204)


def _opened(request: Request, principal: Principal) -> tuple[Vdir, FileUrl]:
    """Return the virtual directory as somebody may use it, and what the request's URL names.

    Raises:
        InvalidName, PermissionDenied, NotFound: it names nothing, or nothing that is for who asks.
    """
    visit: Visit = request.state.visit
    url = file_urls.parse(request.scope["raw_path"], visit.services.names())
    principal.check_path(paths.resolve(url.path))
    if url.service is not None and principal.services is not None and url.service not in principal.services:
        raise NotFound(f"/{paths.join(url.service, url.path.lstrip('/'))}")  # as a directory that is not there
    return visit.vdir(principal), url


# ---- reading ---------------------------------------------------------------------------------------------------------


def read(request: Request, principal: Principal, *, redirect: bool = False) -> Response:
    """Answer a request to read a file or to list a directory.

    Args:
        request: that is answered.
        principal: who asks, with the scope to read.
        redirect: send to the service itself, where it gives URLs.

    Raises:
        StorageError: it cannot be read.
    """
    vdir, url = _opened(request, principal)
    if url.is_directory:
        return _listing(request, vdir, url)
    try:
        file = vdir.find(url.name)
    except IsADirectory:
        # relative: a share link's URL is another one
        asked = request.scope["state"].get("asked_path", request.scope["raw_path"]).decode("ascii")
        return RedirectResponse(f"./{paths.basename(asked)}/", 308)
    info = file.info
    there = Validators.of(info)
    headers = there.headers() | file_urls.headers_of(info)
    match conditions.verdict(request.headers, there):
        case "failed":
            raise PreconditionFailed(url.path, hint="read it again")
        case "not modified":
            kept = {name: headers[name] for name in (*there.headers(), "Cache-Control")}
            return Response(status_code=304, headers=kept)
    choices = _choices(file, principal)
    if redirect:
        try:
            return RedirectResponse(file.url(_REDIRECT_S), 307, {"Cache-Control": "no-store"})
        except Unsupported:
            pass  # no service that has it can do this: the bytes come from here
    wanted = None
    if info.size is not None and conditions.is_range_valid(request.headers, there):
        try:
            wanted = parse_ranges(request.headers.get("range", ""), info.size)
        except NotSatisfiable:
            refusal = problem(UsageError(url.path, "it has no such bytes", f"it has {info.size}"), 416)
            refusal.headers["Content-Range"] = f"bytes */{info.size}"
            return refusal
    if request.method == "HEAD":
        size = {} if info.size is None else {"Content-Length": str(info.size)}
        return Response(headers=headers | size | file_urls.replica_headers(choices, choices[0].service))
    return _bytes(file, headers, wanted, choices)


def _bytes(file: FoundFile, headers: dict[str, str], wanted: list[range] | None, choices: list[Choice]) -> Response:
    """Return the answer that holds a file, or ranges of it."""
    info = file.info
    first = wanted[0] if wanted else range(0)
    try:
        reader = file.open(first.start, len(first) if wanted else None, patience=PATIENCE_S)
    except PreconditionFailed as error:  # a replica is not what it was: no condition of the request's
        return problem(error, 409)
    used = reader.used[0].service.name if reader.used else choices[0].service
    headers |= file_urls.replica_headers(choices, used)
    if not wanted or len(wanted) == 1:
        if wanted and info.size is not None:
            headers["Content-Range"] = _content_range(first, info.size)
        length = len(first) if wanted else reader.entry.size
        if length is not None:
            headers["Content-Length"] = str(length)
        return sent(closing(reader), length, 206 if wanted else 200, headers)
    boundary = secrets.token_hex(12)
    kind, size = headers["Content-Type"], info.size or 0
    heads = [
        f"--{boundary}\r\nContent-Type: {kind}\r\nContent-Range: {_content_range(one, size)}\r\n\r\n".encode()
        for one in wanted
    ]
    end = f"--{boundary}--\r\n".encode()
    length = sum(len(head) + len(one) + 2 for head, one in zip(heads, wanted, strict=True)) + len(end)
    headers |= {"Content-Type": f"multipart/byteranges; boundary={boundary}", "Content-Length": str(length)}

    begun = closing(reader)

    def parts() -> Iterator[bytes]:
        for index, (head, one) in enumerate(zip(heads, wanted, strict=True)):
            yield head
            yield from closing(file.open(one.start, len(one), patience=PATIENCE_S)) if index else begun
            yield b"\r\n"
        yield end

    return Streamed(parts(), 206, headers)


def _content_range(bytes_: range, size: int) -> str:
    return f"bytes {bytes_.start}-{bytes_.stop - 1}/{size}"


def _listing(request: Request, vdir: Vdir, url: FileUrl) -> Response:
    found = vdir.ls(url.path)
    if url.path != "/" and vdir.info(url.path).kind == "file":
        raise NotADirectory(url.path)
    service = url.service
    rows = found if service is None else (one for one in found if one.kind == "directory" or service in one.services)
    return answer(iter(rows), None, request)


def _choices(file: FoundFile, principal: Principal) -> list[Choice]:
    """Return the replicas that somebody may read, the best first; those that cannot be read are among them."""
    allowed = [one for one in file.choices if principal.services is None or one.service in principal.services]
    return allowed or [Choice(None, "", "missing", None, None, None, None, [], "there is no replica")]


# ---- writing ---------------------------------------------------------------------------------------------------------


def _put(request: Request, principal: Principal, how: Upload) -> Response:
    vdir, url = _opened(request, principal)
    headers = request.headers
    if url.is_directory:
        raise IsADirectory(url.path, "a file's URL does not end in a slash")
    if "content-range" in headers:
        raise UsageError("Content-Range", "is not taken", "send all of the file")
    to = how.to or ([url.service] if url.service is not None else None)
    for one in to or ():
        principal.check_service(one)
    now = _now(vdir, url)
    if principal.services is not None:  # all that hold the name get the new content
        for service in now.services if now is not None else ():
            principal.check_service(service)
    made = now is None

    def check(info: NameInfo | None) -> None:
        nonlocal made
        made = info is None
        conditions.check(headers, url.path, None if info is None else Validators.of(info))

    body = Incoming(request, url.path)
    report = Report("put")
    try:
        info = vdir.write(
            url.path,
            body,
            size=body.size,
            modified_ns=how.modified_ns,
            to=to,
            force=how.force,
            report=report,
            sha256=_promised(headers, url.path),
            check=None if how.report and not conditions.is_conditional(headers) else check,  # `put` waits for nobody
        )
    except ChecksumMismatch as error:
        return problem(error, 400)
    answered = {"Location": urls.file_url(url.path)} | Validators.of(info).headers()
    told = json_text(report if how.report else info)
    return Response(told, 201 if made else 200, answered, "application/json")


def _promised(headers: Mapping[str, str], subject: str) -> str | None:
    """Return the SHA-256 that a request says its bytes have: where all of a file is sent as it is, all are one.

    Raises:
        ChecksumMismatch: they are two.
    """
    told = {file_urls.digest_in(headers.get(name)) for name in ("repr-digest", "content-digest", "digest")} - {None}
    if len(told) > 1:
        raise ChecksumMismatch(subject, "the digests of the request contradict each other")
    return told.pop() if told else None


def _now(vdir: Vdir, url: FileUrl) -> NameInfo | None:
    try:
        return vdir.info(url.path)
    except StorageError:  # what is wrong with the name is told when it is written
        return None
