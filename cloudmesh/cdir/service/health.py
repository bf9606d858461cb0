"""``/healthz``: the process answers. ``/readyz``: it can do its work."""

from __future__ import annotations

from fastapi import FastAPI, Request, Response
from sqlalchemy import text

from cloudmesh.cdir.service.house import House

_LOOKS = ["GET", "HEAD"]
"""Who watches many services asks for heads alone."""


def install(app: FastAPI) -> None:
    """Add both."""

    @app.api_route("/healthz", methods=_LOOKS, include_in_schema=False)
    async def healthy() -> Response:
        return Response("ok\n", media_type="text/plain")

    @app.api_route("/readyz", methods=_LOOKS, include_in_schema=False)
    def ready(request: Request) -> Response:
        house: House = request.app.state.house
        with house.database.read() as connection:
            connection.execute(text("SELECT 1"))
        return Response("ready\n", media_type="text/plain")
