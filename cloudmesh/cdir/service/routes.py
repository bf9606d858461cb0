"""One route for each operation, made from its usage line and its typed method."""

from __future__ import annotations

import inspect
from typing import Annotated, Any

from fastapi import Body, Depends, FastAPI, Query, Request, Response

from cloudmesh.cdir.offers import Offer, offers
from cloudmesh.cdir.service import rights
from cloudmesh.cdir.service.answers import BYTES, JSON, NDJSON, answer
from cloudmesh.cdir.service.house import House
from cloudmesh.cdir.service.models import answer_model, request_model, rows_model
from cloudmesh.cdir.service.problems import RESPONSES
from cloudmesh.cdir.service.security import require


def install(app: FastAPI) -> None:
    """Add a route for each operation that the service offers."""
    for offer in offers():
        add(app, offer, offer.path, offer.http_method)


def add(app: FastAPI, offer: Offer, path: str, method: str) -> None:
    """Add one route."""
    doc = inspect.getdoc(offer.target.method) or ""
    app.add_api_route(
        path,
        _endpoint(offer, method),
        methods=[method],
        name=" ".join((offer.command, *offer.operation.words)),
        operation_id="_".join((offer.command, *offer.operation.words)),
        summary=doc.partition("\n")[0],
        description=f"{_described(doc)}\n\nCommand: `{offer.operation.line}`. Scope: {offer.scope}.",
        tags=[offer.command],
        responses={200: _documented(offer), **RESPONSES},
        response_model=None,
    )


def _endpoint(offer: Offer, method: str) -> Any:
    model = request_model(offer)

    def endpoint(request: Request, values: Any, principal: Any) -> Response:
        house: House = request.app.state.house
        given = values.model_dump(by_alias=True, exclude_unset=True)
        rights.check(principal, offer, given, house.services)
        call = offer.call(given)
        return answer(house.method(offer, call)(**call.method_values), offer.target.returns, request)

    source = Body() if method == "POST" else Query()
    kinds = {
        "request": Request,
        "values": Annotated[model, source],
        "principal": Annotated[Any, Depends(require(offer.scope))],
    }
    keyword = inspect.Parameter.KEYWORD_ONLY
    parameters = [inspect.Parameter(name, keyword, annotation=kind) for name, kind in kinds.items()]
    endpoint.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    return endpoint


def _documented(offer: Offer) -> dict[str, Any]:
    model = answer_model(offer)
    if model is None:
        return {"description": "the bytes", "content": {BYTES: {"schema": {"type": "string", "format": "binary"}}}}
    documented: dict[str, Any] = {"description": "what the command prints with --output=json", "model": model}
    if rows_model(offer) is not None:
        text = "one row a line"
        documented["content"] = {JSON: {}, NDJSON: {"schema": {"type": "string", "description": text}}}
    return documented


def _described(doc: str) -> str:
    """The docstring without what the models say."""
    return doc.partition("\nArgs:\n")[0].partition("\nRaises:\n")[0].partition("\nReturns:\n")[0].strip()
