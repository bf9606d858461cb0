"""A catalogue on each of the two databases."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from cloudmesh.storage.database import Database
from cloudmesh.vdir.catalogue import Catalogue


@pytest.fixture(params=["sqlite", "postgresql"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """An empty database's URL: a file's, and one on a real server."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path / 'vdir.db'}"
    found: str = request.getfixturevalue("database_url")
    return found


@pytest.fixture
def catalogue(url: str) -> Iterator[Catalogue]:
    """An empty catalogue."""
    with Database(url) as database:
        yield Catalogue(database)
