"""Claims: one process at a time works on a name, a dead one's claims end, and a late one writes nothing."""

from __future__ import annotations

import time

import pytest

from cloudmesh.storage.database import Database
from cloudmesh.vdir.catalogue import Catalogue
from cloudmesh.vdir.claims import Claims
from cloudmesh.vdir.nodes import NewFile


@pytest.fixture
def ids(catalogue: Catalogue) -> list[int]:
    catalogue.register([NewFile("a"), NewFile("b"), NewFile("c")])
    return [node.id for node in catalogue.children("")]


@pytest.fixture
def database(catalogue: Catalogue) -> Database:
    return catalogue.database


def _mine(claims: Claims, database: Database, ids: list[int]) -> set[int]:
    with database.write() as connection:
        return claims.still_mine(connection, ids)


def test_a_name_is_one_process_s_until_it_is_released(database: Database, ids: list[int]) -> None:
    a, b, c = ids
    with Claims(database, "vdir sync") as first, Claims(database, "vdir put") as second:
        with first.claimed([a, b]) as held:
            assert held == {}
            assert second.claim([b, c]).keys() == {b}
            assert "vdir sync, process" in second.claim([b])[b]
            assert _mine(first, database, ids) == {a, b}
            assert _mine(second, database, ids) == {c}
        assert second.claim([a, b]) == {}
        assert _mine(second, database, ids) == {a, b, c}


def test_claims_go_with_the_lease(database: Database, ids: list[int]) -> None:
    with Claims(database, "vdir sync") as first:
        first.claim(ids)
    with Claims(database, "vdir put") as second:
        assert second.claim(ids) == {}


def test_what_is_not_renewed_ends_and_its_holder_is_refused(database: Database, ids: list[int]) -> None:
    late = Claims(database, "vdir sync", seconds=0.2)
    late._ended.set()  # as a process that sleeps: it renews nothing
    late.claim(ids)
    with Claims(database, "vdir put") as second:
        deadline = time.monotonic() + 10
        while second.claim(ids):
            assert time.monotonic() < deadline
            time.sleep(0.02)
        assert _mine(late, database, ids) == set()
        assert _mine(second, database, ids) == set(ids)
        assert late.claim(ids).keys() == set(ids)
        assert _mine(second, database, ids) == set(ids)


def test_a_lease_is_renewed_while_its_process_lives(database: Database, ids: list[int]) -> None:
    with Claims(database, "vdir sync", seconds=0.4) as first, Claims(database, "vdir put") as second:
        first.claim(ids)
        end = time.monotonic() + 1.2
        while time.monotonic() < end:
            assert second.claim(ids).keys() == set(ids)
            time.sleep(0.05)


def test_a_removed_name_is_nobody_s(catalogue: Catalogue, ids: list[int]) -> None:
    with Claims(catalogue.database, "vdir sync") as claims:
        claims.claim(ids)
        catalogue.remove("a")
        assert _mine(claims, catalogue.database, ids) == set(ids[1:])
        assert claims.claim(ids) == {}
