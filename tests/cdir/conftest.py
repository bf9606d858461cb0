"""A service that is kept running for all tests that change none of its settings: each finds it empty."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest

from cloudmesh.storage.database import Database
from cloudmesh.storage.tables import metadata
from cloudmesh.vdir.schema import TRASH
from tests.cdir.service.conftest import Service, serving
from tests.places import configure

ITS_OWN = ("service.json", "service.lock", "share-key", "vdir.db", "vdir.db-shm", "vdir.db-wal")
"""Files of its folder that the service works with as long as it runs."""


@dataclass(frozen=True, slots=True)
class Kept:
    """The service, and the home whose configuration and database it has."""

    service: Service
    home: Path

    @property
    def folder(self) -> Path:
        """Its configuration's folder."""
        return self.home / ".cloudmesh"

    def clear(self) -> None:
        """Leave neither configuration nor rows of the test before; the environment already names its folder."""
        for file in self.folder.iterdir():
            if file.is_dir():
                shutil.rmtree(file)
            elif file.name not in ITS_OWN:
                file.unlink()
        configure(self.folder, [])
        with self.service.client() as client:  # which closes what was opened: that writes what it knows of services
            assert client.get("/api/v1/services").status_code == 200
        with Database() as database, database.write() as connection:
            for table in reversed(metadata.sorted_tables):
                rows = table.delete()
                connection.execute(rows.where(table.c.id > TRASH) if table.name == "entry" else rows)


@pytest.fixture(scope="session")
def kept_service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Kept]:
    """The service that is kept; strangers may come to it as often as they like, as all tests have one address."""
    home = tmp_path_factory.mktemp("kept")
    folder = str(home / ".cloudmesh")
    with serving(HOME=str(home), CLOUDMESH_CONFIG_DIR=folder, CDIR_SERVICE_STRANGERS_PER_S="10000") as service:
        yield Kept(service, home)


@pytest.fixture(autouse=True)
def home(home: Path, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The configuration's folder: that of the service that is kept where the test asks it, else one of its own."""
    if "kept_service" not in request.fixturenames:
        return home
    kept: Kept = request.getfixturevalue("kept_service")
    monkeypatch.setenv("HOME", str(kept.home))
    monkeypatch.setenv("CLOUDMESH_CONFIG_DIR", str(kept.folder))
    kept.clear()
    return kept.folder


@pytest.fixture
def served(kept_service: Kept, home: Path) -> Iterator[httpx.Client]:
    """A client of the service that is kept, which may do everything."""
    with kept_service.service.client() as client:
        yield client
    kept_service.service.check_log()
