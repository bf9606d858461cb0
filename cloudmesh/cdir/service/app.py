"""The application: all routes, what guards them, and what they share."""

from __future__ import annotations

import ctypes
import gc
import signal
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from importlib.metadata import version
from types import FrameType
from typing import Any

from anyio import to_thread
from fastapi import FastAPI

from cloudmesh.cdir import urls
from cloudmesh.cdir.service import (
    documentation,
    files,
    health,
    house,
    jobs,
    names,
    places,
    problems,
    routes,
    security,
    shortcut,
    telemetry,
    workers,
)
from cloudmesh.cdir.service.house import House
from cloudmesh.cdir.service.settings import Settings, load
from cloudmesh.cdir.service.work import Crew

_THREADS = 100
_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3
"""As in glibc's malloc.h."""

_LARGE = 4 << 20


def create(settings: Settings) -> FastAPI:
    """Return the application."""

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        kept = app.state.house = House()
        crew = app.state.crew = Crew(kept)
        _also_when_ended(crew.interrupt)
        to_thread.current_default_thread_limiter().total_tokens = _THREADS
        gc.freeze()  # what is there now stays: it need not be looked through for garbage again and again
        yield
        crew.close(settings.patience)
        kept.close()

    app = FastAPI(
        title="cdir",
        summary="A virtual directory over many storage services",
        version=version("cloudmesh-vdir"),
        openapi_url=f"{urls.PREFIX}/openapi.json",
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,  # its URLs say http, also to who has come by a proxy that speaks TLS
        lifespan=lifespan,
        separate_input_output_schemas=False,
        telemetry={"tracing": False, "metrics": False, "logs": False},  # ours tells of the requests
    )
    app.state.settings = settings
    problems.install(app)
    shortcut.install(app)  # behind the guards
    house.install(app)
    security.install(app, settings.guarded(lambda: app.state.house.database))
    files.install(app)  # first, as routes are looked through in this order
    routes.install(app)
    jobs.install(app)
    names.install(app)
    places.install(app)
    documentation.install(app)
    health.install(app)
    telemetry.install(app)  # outermost: it tells also of what the guards refuse
    return app


def _also_when_ended(do: Callable[[], None]) -> None:
    """Do something at once when this process is told to end, and not only when all answers are given."""

    def handler(before: Any) -> Callable[[int, FrameType | None], None]:
        def ended(number: int, frame: FrameType | None) -> None:
            do()
            if callable(before):
                before(number, frame)

        return ended

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, handler(signal.getsignal(number)))


def from_environment() -> FastAPI:
    """Return the application with the settings of file and environment: what a worker process starts with."""
    telemetry.log_as_json()
    _give_large_blocks_back()
    workers.begin()
    return create(load())


def _give_large_blocks_back() -> None:
    """Let blocks as large as parts of uploads go back to the system at once.

    glibc learns from the first one that is freed to keep such blocks, in a heap for each thread: 50 MB more. What is
    smaller, as the pieces of a stream, is kept: given back and taken again page by page, it costs more than it holds.
    """
    if hasattr(library := ctypes.CDLL(None), "mallopt"):
        library.mallopt(_MMAP_THRESHOLD, _LARGE)
        library.mallopt(_TRIM_THRESHOLD, _LARGE)
