"""The process that serves: ``python -m cloudmesh.cdir.service.server``, with its settings in file and environment."""

from __future__ import annotations

import os
import shutil
import socket
import sys
import tempfile

import uvicorn
from uvicorn.supervisors import Multiprocess

from cloudmesh.cdir.service.settings import VARIABLE, Settings, load
from cloudmesh.cdir.service.state import serving
from cloudmesh.cdir.service.telemetry import SHARED_COUNTS, log_as_json
from cloudmesh.storage.database import Database
from cloudmesh.storage.dispatch import guarded
from cloudmesh.storage.errors import ConfigError, Unavailable
from cloudmesh.vdir.cwd import VARIABLE as CURRENT_DIRECTORY


def serve(settings: Settings) -> int:
    """Serve until SIGTERM or SIGINT, then end what is under way; return the exit code.

    Raises:
        AlreadyExists: a service with this configuration is running.
        Unavailable: the port is taken.
        ConfigError: several processes are wanted on SQLite.
    """
    with Database() as database:  # brought to its present shape once, and not by each worker
        if settings.workers > 1 and database.is_sqlite:
            raise ConfigError("workers", "several processes need PostgreSQL", "set CDIR_DATABASE, or one worker")
    try:
        listening = socket.create_server((settings.host, settings.port), backlog=2048)
    except OSError as error:
        raise Unavailable(f"{settings.host}:{settings.port}", error.strerror or "cannot listen there") from None
    address = f"http://{settings.host}:{listening.getsockname()[1]}"
    _become_a_service(settings)
    with serving(address):
        log_as_json()
        config = uvicorn.Config(
            "cloudmesh.cdir.service.app:from_environment",
            factory=True,
            workers=settings.workers,
            log_config=None,
            access_log=False,
            server_header=False,
            timeout_graceful_shutdown=round(settings.patience),
        )
        server = uvicorn.Server(config)
        if settings.workers == 1:
            server.run([listening])
            return 0
        folder = tempfile.mkdtemp(prefix="cdir-counts-")
        os.environ[SHARED_COUNTS] = folder
        try:
            Multiprocess(config, [listening]).run()
        finally:
            shutil.rmtree(folder)
        return 0


def _become_a_service(settings: Settings) -> None:
    """Nobody sits here: nothing is read from standard input, and paths of requests are those from the root."""
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.close(nothing)
    sys.stdin = open(0, encoding="utf-8", closefd=False)  # noqa: SIM115 - as long as the process lives
    os.environ[CURRENT_DIRECTORY] = "/"
    for name in settings.__slots__:
        os.environ[VARIABLE + name.upper()] = str(getattr(settings, name))


if __name__ == "__main__":
    sys.exit(guarded(lambda: serve(load())))
