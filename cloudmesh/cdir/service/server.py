"""The process that serves: ``python -m cloudmesh.cdir.service.server``, with its settings in file and environment."""

from __future__ import annotations

import errno
import os
import signal
import socket
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from urllib.parse import urlsplit

import uvicorn

from cloudmesh.cdir.service import security, workers
from cloudmesh.cdir.service.security import tls
from cloudmesh.cdir.service.settings import Settings, load
from cloudmesh.cdir.service.state import ServiceState, current, serving
from cloudmesh.cdir.service.telemetry import log_as_json
from cloudmesh.storage.database import Database
from cloudmesh.storage.dispatch import guarded
from cloudmesh.storage.errors import ConfigError, Unavailable
from cloudmesh.storage.home import config_dir
from cloudmesh.vdir.cwd import VARIABLE as CURRENT_DIRECTORY


def serve(settings: Settings, announce: Callable[[ServiceState], None] = lambda now: None) -> int:
    """Serve until SIGTERM or SIGINT, then end what is under way; return the exit code.

    Args:
        settings: of the service.
        announce: is told what runs, once it listens.

    Raises:
        AlreadyExists: a service with this configuration is running.
        Unavailable: the port is taken.
    """
    Database().close()  # brought to its present shape once, and not by each worker
    certificate = _certificate(settings)
    if certificate is not None:
        settings = replace(settings, certificate=str(certificate.file), key=str(certificate.key))
    guards = security.listening(settings.host, settings.guarded(Database))
    try:
        family = socket.AF_INET6 if ":" in settings.host else socket.AF_INET
        listening = socket.create_server((settings.host, settings.port), family=family, backlog=2048)
    except OSError as error:
        is_host = isinstance(error, socket.gaierror) or error.errno == errno.EADDRNOTAVAIL
        hint = "the setting 'host' names an address of this computer" if is_host else "--port=N listens at another"
        why = (error.strerror or "cannot listen there").partition(" (while")[0]  # Python adds what is told here already
        raise Unavailable(f"{settings.host}:{settings.port}", why, hint) from None
    settings = replace(settings, port=listening.getsockname()[1])
    _become_a_service(settings)
    fingerprint = certificate.fingerprint if certificate else ""
    with serving(settings.address, fingerprint, settings.listens, settings.patience), _ended_by_signal():
        announce(current())
        log_as_json()
        config = uvicorn.Config(
            "cloudmesh.cdir.service.app:from_environment",
            factory=True,
            workers=settings.workers,
            log_config=None,
            access_log=False,
            timeout_graceful_shutdown=round(settings.patience),
            timeout_worker_healthcheck=60,  # on a busy computer, 5 s would end workers that are well
            **guards,
        )
        if settings.workers == 1:
            uvicorn.Server(config).run([listening])
        else:
            workers.serve(config, listening)
    return 0


@contextmanager
def _ended_by_signal() -> Iterator[None]:
    """Let a signal end the block in good order: uvicorn raises the one that ended it again when it is done."""
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        yield
    except KeyboardInterrupt:
        pass
    finally:
        signal.signal(signal.SIGTERM, before)


def _certificate(settings: Settings) -> tls.Certificate | None:
    """Return the certificate to listen with, one's own or else one made where TLS is needed; None for no TLS.

    Raises:
        ConfigError: the user's own is none.
    """
    if settings.certificate or settings.key:
        if not (settings.certificate and settings.key):
            given, missing = ("certificate", "key") if settings.certificate else ("key", "certificate")
            raise ConfigError(given, f"has no {missing}", f"the setting {missing!r} names its PEM file")
        return tls.own_certificate(Path(settings.certificate).expanduser(), Path(settings.key).expanduser())
    if tls.is_loopback(settings.host):
        return None
    name = urlsplit(settings.address).hostname or ""
    return tls.made_certificate(config_dir(), [name, *settings.hosts])


def _become_a_service(settings: Settings) -> None:
    """Nobody sits here: nothing is read from standard input, and paths of requests are those from the root."""
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.close(nothing)
    sys.stdin = open(0, encoding="utf-8", closefd=False)  # noqa: SIM115 - as long as the process lives
    os.environ[CURRENT_DIRECTORY] = "/"
    os.environ.update(settings.as_environment())


if __name__ == "__main__":
    sys.exit(guarded(lambda: serve(load())))
