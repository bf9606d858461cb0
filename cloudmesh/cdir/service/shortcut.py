"""The short way to what only reads: FastAPI's own, with all that it can do, takes as long as a look into the catalogue.

It is the same request to the same operation, and gives the same answer. Only a request that is as it should be goes
this way: all others go on to FastAPI, which alone knows how to say what is wrong with them.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple
from urllib.parse import parse_qsl

from fastapi import FastAPI, Request, Response
from pydantic import BaseModel, ValidationError
from starlette.concurrency import run_in_threadpool
from starlette.types import ASGIApp, Receive, Scope, Send

from cloudmesh.cdir import urls
from cloudmesh.cdir.offers import offers
from cloudmesh.cdir.service import files
from cloudmesh.cdir.service.house import House
from cloudmesh.cdir.service.models import request_model
from cloudmesh.cdir.service.problems import problem
from cloudmesh.cdir.service.routes import answer_to
from cloudmesh.cdir.service.security import Principal
from cloudmesh.storage.errors import StorageError


class _Way(NamedTuple):
    """How a request is answered.

    Attributes:
        path: of its route.
        is_quick: whether the database alone is asked.
        answer: gives the answer, or raises StorageError.
    """

    path: str
    is_quick: bool
    answer: Callable[[Request], Response]


class Shortcut:
    """Answers what is asked of an operation that reads, and for files.

    Args:
        app: answers everything else.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app
        self._known = {one.path: (one, request_model(one)) for one in offers() if one.http_method == "GET"}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        way = self._way(scope)
        if way is None:
            await self._app(scope, receive, send)
            return
        scope["route"] = way
        house: House = scope["app"].state.house
        run = house.look if way.is_quick else run_in_threadpool
        response = await run(_answer, way, Request(scope, receive))
        await response(scope, receive, send)

    def _way(self, scope: Scope) -> _Way | None:
        principal: Principal | None = scope["state"].get("principal") if scope["type"] == "http" else None
        if principal is None or scope["method"] not in ("GET", "HEAD"):
            return None
        is_head, query = scope["method"] == "HEAD", scope["query_string"]
        if scope["path"].startswith(urls.FILES) and not query and "read" in principal.scopes:
            return _Way(files.ROUTE, is_head, partial(files.read, principal=principal))
        offer, model = (None, None) if is_head else self._known.get(scope["path"], (None, None))
        if offer is None or model is None or offer.scope not in principal.scopes:
            return None
        given = _given(model, query)
        if given is None:
            return None
        return _Way(offer.path, offer.is_quick, partial(answer_to, offer=offer, given=given, principal=principal))


def install(app: FastAPI) -> None:
    """Let requests to ``app`` go the short way; what is added before this is not seen by them."""
    app.add_middleware(Shortcut)


def _given(model: type[BaseModel], query: bytes) -> dict[str, Any] | None:
    """Return the values that a query holds; None where it is not as it should be, or not so simple."""
    pairs = parse_qsl(query.decode("latin-1"), keep_blank_values=True)
    values = dict(pairs)
    if len(values) != len(pairs):
        return None
    try:
        return model.model_validate(values).model_dump(by_alias=True, exclude_unset=True)
    except ValidationError:
        return None


def _answer(way: _Way, request: Request) -> Response:
    try:
        return way.answer(request)
    except StorageError as error:
        return problem(error)
