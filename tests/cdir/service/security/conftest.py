"""The guarded application on the real server, with the settings that a test wants."""

from __future__ import annotations

import dataclasses
import shutil
import ssl
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest
import uvicorn

from cloudmesh.cdir.service import security
from cloudmesh.cdir.service.security.principal import SCOPES
from cloudmesh.cdir.service.security.sessions import Sessions
from cloudmesh.cdir.service.security.shares import Shares
from cloudmesh.cdir.service.security.tokens import Tokens
from cloudmesh.storage.database import Database
from deploy.servers import free_port
from tests.cdir.service.security.running import Running, application


@contextmanager
def running(folder: Path, context: ssl.SSLContext | None = None, **changed: Any) -> Iterator[Running]:
    """The service with files in the folder ``root``."""
    root = folder / "root"
    root.mkdir(exist_ok=True)
    with Database(f"sqlite:///{folder}/service.db") as database:
        port = free_port()
        url = f"{'https' if context else 'http'}://127.0.0.1:{port}"
        settings = dataclasses.replace(security.Settings(lambda: database, url), **changed)
        app = application(root)
        security.install(app, settings)
        options = security.listening("127.0.0.1", settings)
        server = uvicorn.Server(uvicorn.Config(app, port=port, log_level="critical", **options))
        thread = threading.Thread(target=server.run)
        thread.start()
        try:
            while not server.started:
                assert thread.is_alive()
                thread.join(0.01)
            stores = Tokens(lambda: database), Shares(lambda: database), Sessions(lambda: database)
            yield Running(port, root, settings, *stores, context)
        finally:
            server.should_exit = True
            thread.join()


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[..., Running]]:
    """Starts the service with these settings; ended with the test."""
    with ExitStack() as stack:
        yield lambda **changed: stack.enter_context(running(tmp_path, **changed))


@pytest.fixture(scope="module")
def kept(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    with running(tmp_path_factory.mktemp("service"), strangers_per_s=1000) as service:
        yield service


@pytest.fixture
def service(kept: Running) -> Iterator[Running]:
    """The service with its default settings, but that strangers may come often; shared by the tests of a module."""
    yield kept
    shutil.rmtree(kept.root)
    kept.root.mkdir()


@pytest.fixture
def token(service: Running) -> str:
    """A token that may do everything."""
    return service.tokens.create(scope=list(SCOPES)).token


@pytest.fixture
def sharing(start: Callable[..., Running]) -> Running:
    """A service with something to share, and something else."""
    service = start()
    (service.root / "a").mkdir()
    (service.root / "a" / "x").write_text("shared")
    (service.root / "b").write_text("private")
    return service
