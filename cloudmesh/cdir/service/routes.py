"""One route for each operation, made from its usage line and its typed method."""

from __future__ import annotations

import inspect
from functools import partial
from typing import Annotated, Any

from fastapi import Body, Depends, FastAPI, Path, Query, Request, Response

from cloudmesh.cdir.offers import Offer, offers
from cloudmesh.cdir.service import audited, rights
from cloudmesh.cdir.service.answers import BYTES, JSON, NDJSON, answer
from cloudmesh.cdir.service.house import Visit
from cloudmesh.cdir.service.job_answers import accepted, answer_of
from cloudmesh.cdir.service.models import answer_model, description, record_model, request_model, rows_model
from cloudmesh.cdir.service.problems import RESPONSES
from cloudmesh.cdir.service.security import Principal, require
from cloudmesh.cdir.service.security.guard import write_as
from cloudmesh.cdir.service.work import Crew
from cloudmesh.storage.output import gives_bytes
from cloudmesh.storage.records import JobDetails

_LONGEST_WAIT_S = 60
_PREFER = {
    "name": "Prefer",
    "in": "header",
    "required": False,
    "description": f"wait=SECONDS: for the end, at most {_LONGEST_WAIT_S}; what takes longer is answered as a job",
    "schema": {"type": "string"},
}


def install(app: FastAPI) -> None:
    """Add a route for each operation that the service offers."""
    for offer in offers():
        add(app, offer, offer.path, offer.http_method)


def add(app: FastAPI, offer: Offer, path: str, method: str, tag: str = "") -> None:
    """Add one route; what the path has in braces is taken from there."""
    doc = inspect.getdoc(offer.target.method) or ""
    app.add_api_route(
        path,
        _endpoint(offer, path, method),
        methods=[method],
        name=" ".join((offer.command, *offer.operation.words)),
        operation_id="_".join(([tag] if tag else [offer.command]) + [*offer.operation.words]),
        summary=doc.partition("\n")[0],
        description=f"{_described(doc)}\n\nCommand: `{offer.operation.line}`. Scope: {offer.scope}.",
        tags=[tag or offer.command],
        responses=_answers(offer) | RESPONSES,
        response_model=None,
        response_class=Response,  # of no type: each answer has its own
        openapi_extra={"parameters": [_PREFER]} if offer.is_long else None,
    )


def _endpoint(offer: Offer, path: str, method: str) -> Any:
    of_path = [field for field in offer.fields if f"{{{field.name}}}" in path]
    model = request_model(offer, [field.name for field in of_path])

    def endpoint(request: Request, values: Any, principal: Any, **given_by_path: str) -> Response:
        given = values.model_dump(by_alias=True, exclude_unset=True) | given_by_path
        return answer_to(request, offer, given, principal)

    source = Body() if method == "POST" else Query()
    kinds: dict[str, Any] = {"request": Request}
    if method != "POST" or model.model_fields:
        kinds["values"] = Annotated[model, source]
    else:
        endpoint = _without_values(endpoint, model)
    kinds["principal"] = Annotated[Any, Depends(require(offer.scope))]
    kinds |= {field.name: Annotated[str, Path(description=description(field))] for field in of_path}
    keyword = inspect.Parameter.KEYWORD_ONLY
    parameters = [inspect.Parameter(name, keyword, annotation=kind) for name, kind in kinds.items()]
    endpoint.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    return endpoint


def _without_values(endpoint: Any, model: Any) -> Any:
    def bare(**given: Any) -> Response:
        answered: Response = endpoint(values=model(), **given)
        return answered

    return bare


def answer_to(request: Request, offer: Offer, given: dict[str, Any], principal: Principal) -> Response:
    """Do what is asked for, or begin it as a job, and return the answer.

    Raises:
        StorageError: it cannot be done, or who asks may not.
    """
    visit: Visit = request.state.visit
    crew: Crew = request.app.state.crew
    write_as(request, partial(audited.told, offer, given), content=gives_bytes(offer.target.returns))
    rights.check(principal, offer, given, visit.services, crew.jobs)
    call = offer.call(given)
    if not offer.is_long or call.method_values.get("dryrun"):
        return answer(visit.method(offer, call, principal)(**call.method_values), offer.target.returns, request)
    job = crew.begin(offer, call, given, principal)
    if (seconds := _patience(request)) > 0:
        crew.wait(job.name, seconds)
        job = crew.jobs.show(job.name)
        if job.state not in ("waiting", "running"):
            return answer_of(crew.jobs.result(job.name), job.name)
    return accepted(job)


def _patience(request: Request) -> float:
    """How many seconds who asks wants to wait for the end of long work: ``Prefer: wait=10`` (RFC 7240)."""
    for preference in request.headers.get("prefer", "").split(","):
        name, _, value = preference.strip().partition("=")
        if name.lower() == "wait" and value.isdigit():
            return min(int(value), _LONGEST_WAIT_S)
    return 0


def _answers(offer: Offer) -> dict[int | str, dict[str, Any]]:
    answers: dict[int | str, dict[str, Any]] = {200: _documented(offer)}
    if offer.is_long:
        answers[202] = {"description": "it is a job now, at the URL of Location", "model": record_model(JobDetails)}
    return answers


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
