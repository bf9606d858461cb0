"""What is told of every request: its id, a line of the log as JSON, and counts for Prometheus."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import re
import secrets
import sys
import time
from contextvars import ContextVar
from functools import cache

from fastapi import Depends, FastAPI, Response
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.multiprocess import MultiProcessCollector
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from cloudmesh.cdir.service.security import require
from cloudmesh.cdir.service.security.secret import redacted

SHARED_COUNTS = "PROMETHEUS_MULTIPROC_DIR"
"""The environment variable that names the folder in which several processes keep their counts."""

REQUEST_ID = b"x-request-id"
request_id: ContextVar[str] = ContextVar("request_id", default="")
"""Of the request that is being answered."""

_GIVEN = re.compile(rb"[A-Za-z0-9._-]{1,64}")
_log = logging.getLogger("cloudmesh.cdir.access")

_requests = Counter("cdir_requests", "Requests answered.", ["route", "method", "status"])
_seconds = Histogram("cdir_request_seconds", "From a request's head to the end of its answer.", ["route"])
_under_way = Gauge("cdir_requests_under_way", "Requests being answered.", multiprocess_mode="livesum")
_received = Counter("cdir_received_bytes", "Bytes of requests' bodies.")
_sent = Counter("cdir_sent_bytes", "Bytes of answers' bodies.")


@cache  # by what the routes, HTTP and the answers allow: no client can fill it
def _counts(route: str, method: str, status: int) -> tuple[Counter, Histogram]:
    return _requests.labels(route, method, status), _seconds.labels(route)


class Telemetry:
    """Gives each request an id, counts it and writes it down. No query and no header is told: they may hold secrets.

    The answer gets the id with the other headers of every answer (`security`).
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        given = next((value for name, value in scope["headers"] if name == REQUEST_ID), b"")
        identity = given.decode() if _GIVEN.fullmatch(given) else secrets.token_hex(8)
        scope.setdefault("state", {})["request_id"] = identity
        token = request_id.set(identity)
        began = time.monotonic()
        status, sent = 500, 0

        async def receiving() -> Message:
            message = await receive()
            if body := message.get("body"):
                _received.inc(len(body))
            return message

        async def sending(message: Message) -> None:
            nonlocal status, sent
            if message["type"] == "http.response.start":
                status = message["status"]
            elif message["type"] == "http.response.body":
                sent += len(message.get("body", b""))
            await send(message)

        _under_way.inc()
        try:
            await self._app(scope, receiving, sending)
        except asyncio.CancelledError:  # nobody waits for it: the server closes the connection
            _log.warning("the service ends before its answer")
        finally:
            _under_way.dec()
            seconds = time.monotonic() - began
            route = getattr(scope.get("route"), "path", "")
            requests, took = _counts(route, scope["method"], status)
            requests.inc()
            took.observe(seconds)
            _sent.inc(sent)
            told = {"method": scope["method"], "path": redacted(scope["path"]), "status": status, "bytes": sent}
            _log.info("request", extra={"told": told | {"seconds": round(seconds, 4)}})
            request_id.reset(token)


class JsonLines(logging.Formatter):
    """Writes each record as one JSON object."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the line."""
        line = {
            "time": time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created)) + f".{record.msecs:03.0f}Z",
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
            **getattr(record, "told", {}),
        }
        if identity := request_id.get():
            line["request_id"] = identity
        if record.exc_info:
            line["traceback"] = self.formatException(record.exc_info)
        return json.dumps(line)


def log_as_json() -> None:
    """Write what this process logs to standard error, one JSON object a line."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonLines())
    root = logging.getLogger()
    root.handlers = [handler]
    # not told, so not found out for each request (Python's logging HOWTO, "Optimization")
    logging._srcfile = None
    logging.logThreads = logging.logProcesses = logging.logMultiprocessing = False
    root.setLevel(logging.WARNING)
    for name in ("cloudmesh", "uvicorn"):
        logging.getLogger(name).setLevel(logging.INFO)


def install(app: FastAPI) -> None:
    """Add ``/metrics``, and tell of every request."""
    app.add_middleware(Telemetry)

    @app.get("/metrics", include_in_schema=False, dependencies=[Depends(require("read"))])
    def metrics() -> Response:
        if SHARED_COUNTS not in os.environ:
            return Response(generate_latest(), media_type=CONTENT_TYPE_LATEST)
        registry = CollectorRegistry()
        MultiProcessCollector(registry)  # type: ignore[no-untyped-call]
        return Response(generate_latest(registry), media_type=CONTENT_TYPE_LATEST)
