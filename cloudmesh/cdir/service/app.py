"""The application: all routes, what guards them, and what they share."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from importlib.metadata import version

from fastapi import FastAPI

from cloudmesh.cdir.offers import PREFIX
from cloudmesh.cdir.service import documentation, files, health, problems, routes, security, telemetry
from cloudmesh.cdir.service.house import House
from cloudmesh.cdir.service.settings import Settings, load


def create(settings: Settings) -> FastAPI:
    """Return the application."""

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        house = app.state.house = House()
        yield
        house.close()

    app = FastAPI(
        title="cdir",
        summary="A virtual directory over many storage services",
        version=version("cloudmesh-vdir"),
        openapi_url=f"{PREFIX}/openapi.json",
        docs_url=None,
        redoc_url=None,
        lifespan=lifespan,
        separate_input_output_schemas=False,
    )
    app.state.settings = settings
    problems.install(app)
    security.install(app, settings)
    routes.install(app)
    files.install(app)
    documentation.install(app)
    health.install(app)
    telemetry.install(app)  # outermost: it tells also of what the guards refuse
    return app


def from_environment() -> FastAPI:
    """Return the application with the settings of file and environment: what a worker process starts with."""
    telemetry.log_as_json()
    return create(load())
