"""The OpenAPI document, completed, and ``/docs``: a page that lists the operations and loads nothing at all."""

from __future__ import annotations

import html
import json
from typing import Any

from fastapi import FastAPI, Response
from fastapi.openapi.utils import get_openapi
from pydantic.json_schema import models_json_schema
from starlette.responses import HTMLResponse

from cloudmesh.cdir.service.problems import Problem

_PAGE = """<!DOCTYPE html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width">
<title>cdir: operations</title></head>
<body><h1>Operations</h1>
<p>The whole description is <a href="{url}">an OpenAPI document</a>. A program sends a token, which <code>cdir token
create</code> makes, in the header <code>Authorization: Bearer …</code>, and values of a body as JSON
(<code>Content-Type: application/json</code>). Long work is answered with 202 and the URL of a job.</p>
{operations}
</body></html>
"""


def install(app: FastAPI) -> None:
    """Add ``/docs``, and what FastAPI leaves out of the OpenAPI document."""

    def document() -> dict[str, Any]:
        if app.openapi_schema is None:
            found = get_openapi(
                title=app.title,
                version=app.version,
                summary=app.summary,
                routes=app.routes,
                separate_input_output_schemas=app.separate_input_output_schemas,
            )
            schemas = found.setdefault("components", {}).setdefault("schemas", {})
            _, definitions = models_json_schema([(Problem, "serialization")])
            schemas |= definitions["$defs"]
            found["components"]["securitySchemes"] = {"token": {"type": "http", "scheme": "bearer"}}
            found["security"] = [{"token": []}]
            for unused in ("HTTPValidationError", "ValidationError"):
                schemas.pop(unused, None)
            app.openapi_schema = _with_whole_numbers(found)
        return app.openapi_schema

    app.openapi = document  # type: ignore[method-assign]

    @app.get("/docs", include_in_schema=False)
    def page() -> Response:
        return HTMLResponse(_PAGE.format(url=app.openapi_url, operations="\n".join(_operations(document()))))


def _with_whole_numbers(found: Any) -> Any:
    """Return a document in which limits are written as they are: FastAPI makes 2^63 the float 9.223372036854776e+18."""
    if isinstance(found, dict):
        return {name: _with_whole_numbers(one) for name, one in found.items()}
    if isinstance(found, list):
        return [_with_whole_numbers(one) for one in found]
    return int(found) if isinstance(found, float) and found.is_integer() else found


def _operations(document: dict[str, Any]) -> list[str]:
    found = []
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            values = operation.get("parameters", [])
            body = operation.get("requestBody", {}).get("content", {}).get("application/json", {}).get("schema", {})
            if reference := body.get("$ref", "").rpartition("/")[2]:
                model = document["components"]["schemas"][reference]
                needed = model.get("required", [])
                values = [
                    {"name": name, "required": name in needed, "in": "body", **one}
                    for name, one in model.get("properties", {}).items()
                ]
            rows = "".join(
                f"<li><code>{_text(one['name'])}</code>{' (required)' if one.get('required') else ''}, "
                f"{_text(one['in'])}: {_text(one.get('description', ''))}</li>"
                for one in values
            )
            summary, told = (str(operation.get(name, "")) for name in ("summary", "description"))
            found.append(
                f"<details><summary><code>{method.upper()} {_text(path)}</code> {_text(summary)}"
                f"</summary><pre>{_text(told.removeprefix(summary).strip())}</pre><ul>{rows}</ul></details>"
            )
    return found


def _text(text: Any) -> str:
    return html.escape(text if isinstance(text, str) else json.dumps(text))
