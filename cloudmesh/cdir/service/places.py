"""The primitives of a service by URL, so that a client's transfers work on it as on one of its own.

What the client plans, compares, resumes and reports is thereby what `cdir storage` does on its own computer. Nobody who
is limited to virtual names has a way around them here.
"""

from __future__ import annotations

import json
import shlex
from collections.abc import Callable, Iterator
from typing import Annotated, Any

from fastapi import Depends, FastAPI, Header, Path, Query, Request, Response
from pydantic.json_schema import SkipJsonSchema

from cloudmesh.cdir import urls
from cloudmesh.cdir.service import file_urls
from cloudmesh.cdir.service.answers import BYTES, PATIENCE_S, Streamed, answer, closing
from cloudmesh.cdir.service.house import Visit
from cloudmesh.cdir.service.incoming import Incoming
from cloudmesh.cdir.service.models import MOST, Nanoseconds
from cloudmesh.cdir.service.place_documents import (
    DONE,
    FACTS,
    FOUND,
    MODE,
    NAMES,
    READ,
    SCANNED,
    UPLOAD,
    Responses,
    Within,
)
from cloudmesh.cdir.service.security import Principal, require
from cloudmesh.cdir.service.security.guard import write_as
from cloudmesh.storage import paths
from cloudmesh.storage.abc import Content, Entry, StorageABC, WriteMode
from cloudmesh.storage.errors import InvalidName, PermissionDenied, StorageError, in_words
from cloudmesh.storage.output import json_text
from cloudmesh.storage.transfer.prices import price_of
from cloudmesh.vdir.stalls import open_watched

Reading = Annotated[Principal, Depends(require("read"))]
Writing = Annotated[Principal, Depends(require("write"))]
Deleting = Annotated[Principal, Depends(require("delete"))]
Service = Annotated[str, Path(description="its name")]
Place = Annotated[str, Path(description="from the service's root")]
Asked = Annotated[str, Query(description="from the service's root")]


def install(app: FastAPI) -> None:
    """Add the routes."""

    def route(method: str, url: str, responses: Responses, **more: Any) -> Callable[..., Any]:
        words = url.removeprefix(urls.SERVICES).replace("{", "").replace("}", "").replace(":path", "").split("/")
        operation = "_".join(["services", method.lower(), *filter(None, words)])
        return app.api_route(
            url,
            methods=[method],
            tags=["services"],
            operation_id=operation,
            response_model=None,
            response_class=Response,  # of no type: each answer has its own
            responses=responses,
            **more,
        )

    @route("GET", urls.SERVICES, NAMES)
    def names(request: Request, principal: Reading) -> Response:
        """Tell the services that may be used, and the default one. Scope: read."""
        visit: Visit = request.state.visit
        services = visit.services
        allowed = [one for one in services.names() if principal.services is None or one in principal.services]
        default = services.default()
        return _json({"default": default if default in allowed else "", "services": allowed})

    @route("GET", urls.SERVICE, FACTS)
    def facts(request: Request, service: Service, principal: Reading) -> Response:
        """Tell the facts of a service by which transfers are planned and priced. Scope: read."""
        opened = _opened(request, principal, service)
        capabilities = {one: getattr(opened.capabilities, one) for one in opened.capabilities.__slots__}
        price = price_of(opened.settings)
        prices = {"in" if one == "into" else one: getattr(price, one) for one in price.__slots__}
        told = {one: str(value) for one, value in prices.items() if value is not None}
        return _json({"kind": opened.settings.kind, "capabilities": capabilities, "price": told})

    @route("GET", urls.ENTRY, FOUND)
    def stat(request: Request, service: Service, principal: Reading, path: Asked = "") -> Response:
        """Tell what is at a path. Scope: read."""
        return _json(_entry(_opened(request, principal, service).stat(_path(path))))

    @route("GET", urls.ENTRIES, SCANNED)
    def scan(
        request: Request,
        service: Service,
        principal: Reading,
        path: Asked = "",
        recursive: Annotated[bool, Query(description="also all that is below it")] = False,
    ) -> Response:
        """Tell what is in a directory, each entry with the error by which it could not be looked into. Scope: read."""
        opened = _opened(request, principal, service)
        return answer(_scanned(opened, _path(path), recursive), None, request)

    @route("GET", urls.CONTENT, READ)
    def get(
        request: Request,
        service: Service,
        path: Place,
        principal: Reading,
        start: Annotated[int, Query(ge=-MOST, le=MOST, description="first byte; below 0 from the end")] = 0,
        length: Annotated[
            int | None, Query(ge=0, le=MOST, description="bytes at most; all where it is left out")
        ] = None,
        if_match: Annotated[str, Header(description="the token that the file must have")] = "",
    ) -> Response:
        """Read a file. Scope: read."""
        write_as(request, lambda: ("storage cat", shlex.quote(f"{service}:{path}")), content=True)
        opened, place = _file(request, principal, service)
        reader = open_watched(opened, place, PATIENCE_S, start=start, length=length, if_match=if_match or None)
        headers = {urls.ENTRY_HEADER: _ascii(reader.entry), "X-Content-Type-Options": "nosniff"}
        return Streamed(closing(reader), media_type=BYTES, headers=headers)

    @route("PUT", urls.CONTENT, FOUND, openapi_extra=UPLOAD)
    def put(
        request: Request,
        service: Service,
        path: Place,
        principal: Writing,
        mode: Annotated[WriteMode, Query(description=MODE)] = "overwrite",
        modified_ns: Annotated[Nanoseconds | SkipJsonSchema[None], Query(description="the file's time")] = None,
        if_match: Annotated[str, Header(description="the token that the file to be replaced must have")] = "",
    ) -> Response:
        """Store a file whole. Scope: write."""
        opened, place = _file(request, principal, service)
        incoming = Incoming(request, opened.location(place))
        content = Content.of_stream(incoming, incoming.size, modified_ns)
        return _json(_entry(opened.write(place, content, mode=mode, if_match=if_match or None)))

    @route("DELETE", urls.CONTENT, DONE)
    def remove(request: Request, service: Service, path: Place, principal: Deleting) -> Response:
        """Remove a file. Scope: delete."""
        opened, place = _file(request, principal, service)
        opened.remove(place)
        return Response(status_code=204)

    @route("PUT", urls.DIRECTORIES, DONE)
    def make_dir(request: Request, service: Service, path: Place, principal: Writing) -> Response:
        """Make a directory and its missing parents. Scope: write."""
        opened, place = _file(request, principal, service, urls.DIRECTORIES)
        opened.make_dir(place)
        return Response(status_code=204)

    @route("DELETE", urls.DIRECTORIES, DONE)
    def remove_dir(request: Request, service: Service, path: Place, principal: Deleting) -> Response:
        """Remove an empty directory. Scope: delete."""
        opened, place = _file(request, principal, service, urls.DIRECTORIES)
        opened.remove_dir(place)
        return Response(status_code=204)

    @route("POST", urls.COPIES, FOUND)
    def copy(request: Request, service: Service, principal: Writing, values: Within) -> Response:
        """Copy a file on the service's own side. Scope: write."""
        _write_as(request, "storage copy", service, values)
        opened = _opened(request, principal, service)
        made = opened.copy_within(_path(values.source), _path(values.destination), mode=values.mode)
        return _json(_entry(made))

    @route("POST", urls.MOVES, DONE)
    def move(request: Request, service: Service, principal: Deleting, values: Within) -> Response:
        """Rename a file or directory on the service's own side. Scope: delete."""
        _write_as(request, "storage move", service, values)
        opened = _opened(request, principal, service)
        opened.move_within(_path(values.source), _path(values.destination), mode=values.mode)
        return Response(status_code=204)


def _opened(request: Request, principal: Principal, service: str) -> StorageABC:
    """Return a service.

    Raises:
        PermissionDenied: who asks may not use it, or is limited to virtual names.
    """
    principal.check_service(service)
    if principal.prefix:
        raise PermissionDenied("services", f"{principal.name} is limited to /{principal.prefix}")
    visit: Visit = request.state.visit
    return visit.services.open(service)


def _file(request: Request, principal: Principal, service: str, url: str = urls.CONTENT) -> tuple[StorageABC, str]:
    """Return the service and the path on it that a URL names."""
    before = urls.filled(url, service=service, path="").encode()
    encoded = request.scope["raw_path"].partition(b"?")[0]
    if not encoded.startswith(before):
        raise InvalidName(service, "the URL does not name it plainly")
    names = file_urls.names_in(encoded.removeprefix(before))
    return _opened(request, principal, service), "/".join(names)


def _write_as(request: Request, command: str, service: str, values: Within) -> None:
    places = [f"{service}:{path}" for path in (values.source, values.destination)]
    write_as(request, lambda: (command, shlex.join(places)))


def _path(text: str) -> str:
    """Return a path of a query.

    Raises:
        InvalidName: it is not normalised.
    """
    if paths.normalize(text) != text:
        raise InvalidName(text, "the path is not normalised")
    return text


def _scanned(service: StorageABC, path: str, recursive: bool) -> Iterator[dict[str, Any]]:
    unlisted: list[dict[str, Any]] = []

    def leave_out(entry: Entry, error: StorageError) -> None:
        unlisted.append({"entry": _entry(entry), "error": in_words(error)})

    for entry in service.scan(path, recursive=recursive, on_error=leave_out):
        yield from unlisted
        unlisted.clear()
        yield {"entry": _entry(entry)}
    yield from unlisted


def _entry(entry: Entry) -> dict[str, Any]:
    told = {name: value for name, value in entry._asdict().items() if value is not None}
    return told | {"hashes": dict(entry.hashes)}


def _ascii(entry: Entry) -> str:
    return json.dumps(_entry(entry))


def _json(value: Any) -> Response:
    return Response(json_text(value), media_type="application/json")
