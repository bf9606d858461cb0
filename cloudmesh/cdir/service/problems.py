"""Failures as problem details (RFC 9457): the closed set of errors, with the sentence that the command line tells."""

from __future__ import annotations

from typing import Any

from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel, Field
from starlette.exceptions import HTTPException
from starlette.routing import Match, Route

from cloudmesh.storage import errors
from cloudmesh.storage.output import json_text

MEDIA_TYPE = "application/problem+json"

STATUS: dict[type[errors.StorageError], int] = {
    errors.NotFound: 404,
    errors.AlreadyExists: 409,
    errors.IsADirectory: 409,
    errors.NotADirectory: 409,
    errors.DirectoryNotEmpty: 409,
    errors.PermissionDenied: 403,
    errors.AuthenticationFailed: 502,
    errors.InvalidName: 400,
    errors.PreconditionFailed: 412,
    errors.ChecksumMismatch: 502,
    errors.SourceChanged: 409,
    errors.QuotaExceeded: 507,
    errors.RateLimited: 503,
    errors.Unavailable: 503,
    errors.Unsupported: 409,
    errors.Refused: 409,
    errors.ConfigError: 409,
    errors.UsageError: 400,
    errors.StorageError: 500,
}
"""The status of each error; of one that is not named here, that of the class above it.

What a service behind this one did is a 5xx. What is set up in another way than the request takes it to be is a 409.
"""

_TITLES = {400: "the request cannot be understood", 404: "not found", 405: "the URL does not take this method"}


class Problem(BaseModel):
    """What went wrong (RFC 9457)."""

    type: str = Field(description="which of the errors it is")
    title: str = Field(description="the error in general")
    status: int = Field(description="of the answer")
    detail: str = Field(description="the sentence that the command line tells")
    error: str = Field(description="the error's name in the Python API")
    subject: str = Field(description="what it is about")
    why: str = Field(description="the cause in words")
    hint: str = Field(description="what to do next")
    retryable: bool = Field(description="whether the same request may be made again as it was")


RESPONSES: dict[int | str, dict[str, Any]] = {
    status: {
        "description": "; ".join(sorted({one.__name__ for one, code in STATUS.items() if code == status})) or words,
        "content": {MEDIA_TYPE: {"schema": {"$ref": "#/components/schemas/Problem"}}},
    }
    for status, words in {
        400: "",
        401: "who asks is not known",
        403: "",
        404: "",
        405: _TITLES[405],
        409: "",
        412: "",
        413: "the body is too large",
        414: "the path or the query is too long",
        415: "the body is compressed",
        421: "the service is not asked for by this name",
        422: "the request is not as this document says",
        429: "too many requests",
        431: "the headers are too large",
        500: "",
        502: "",
        503: "",
        507: "",
    }.items()
}
"""The documented failures of every route."""


def status_of(error: errors.StorageError) -> int:
    """Return the status of an answer that tells of an error."""
    return next(STATUS[one] for one in type(error).__mro__ if one in STATUS)


def problem(error: errors.StorageError, status: int | None = None) -> Response:
    """Return the answer that tells of an error; with another status than its own where given."""
    code = status or status_of(error)
    name = type(error).__name__
    body = {
        "type": f"urn:cdir:error:{name}",
        "title": type(error).sentence,
        "status": code,
        "detail": str(error),
        "error": name,
        "subject": error.subject,
        "why": error.why,
        "hint": error.hint,
        "retryable": error.retryable,
    }
    headers = {} if error.retry_after is None else {"Retry-After": str(round(error.retry_after))}
    return Response(json_text(body), code, headers, MEDIA_TYPE)


def install(app: FastAPI) -> None:
    """Let every failure of the application be answered with a problem."""

    @app.exception_handler(errors.StorageError)
    def known(request: Request, error: errors.StorageError) -> Response:
        return problem(error)

    @app.exception_handler(RequestValidationError)
    def invalid(request: Request, error: RequestValidationError) -> Response:
        first = error.errors()[0]
        place = ".".join(str(one) for one in first["loc"][1:]) or str(first["loc"][0])
        why, hint = str(first["msg"]), ""
        if first["type"] == "json_invalid":
            place, why = "body", f"is no JSON: {first['ctx']['error']}, at character {first['loc'][-1]}"
        elif isinstance(error.body, bytes):
            why, hint = "is not taken for JSON", "send the header Content-Type: application/json"
        return problem(errors.UsageError(place, why, hint), 422)

    @app.exception_handler(HTTPException)
    def other(request: Request, error: HTTPException) -> Response:
        kinds = {401: errors.AuthenticationFailed, 403: errors.PermissionDenied, 404: errors.NotFound}
        kind = kinds.get(error.status_code, errors.UsageError)
        answer = problem(kind(request.url.path, _TITLES.get(error.status_code, str(error.detail))), error.status_code)
        answer.headers.update(error.headers or {})
        if error.status_code == 405:
            answer.headers["Allow"] = ", ".join(sorted(_allowed(app, request)))
        return answer

    @app.exception_handler(Exception)
    def unexpected(request: Request, error: Exception) -> Response:
        return problem(errors.internal_error(request.url.path, error))


def _allowed(app: FastAPI, request: Request) -> set[str]:
    """Return the methods of all routes with a request's path: a router tells those of the first one alone."""
    return {
        method
        for route in app.routes
        if isinstance(route, Route) and route.matches(request.scope)[0] is not Match.NONE
        for method in route.methods or ()
    }
