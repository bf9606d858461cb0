"""The circuit breaker of each service, as it is remembered."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy.sql.expression import text

from cloudmesh.storage.database import Database, clock_ns
from cloudmesh.storage.errors import AuthenticationFailed, NotFound, QuotaExceeded, StorageError, Unavailable
from cloudmesh.storage.health import LIMIT, Health

DOWN = Unavailable("box:", "nobody answers")


@pytest.fixture(params=["sqlite", "postgresql"])
def database(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Database]:
    url = (
        f"sqlite:///{tmp_path / 'vdir.db'}"
        if request.param == "sqlite"
        else str(request.getfixturevalue("database_url"))
    )
    with Database(url) as opened:
        yield opened


def run(database: Database, failures: int, error: StorageError = DOWN, *, success: bool = False) -> None:
    """What a command does that meets these failures, and before or without them a success."""
    health = Health(database)
    if success:
        health.succeeded("box")
    for _ in range(failures):
        health.failed("box", error)
    health.remember()


def row(database: Database) -> tuple[int, int | None, str]:
    with database.read() as connection:
        found = connection.execute(text("SELECT failures, resume_ns, why FROM service WHERE name = 'box'")).one()
    return found.failures, found.resume_ns, found.why


def let_time_pass(database: Database) -> None:
    """The outage is over."""
    with database.write() as connection:
        connection.execute(text("UPDATE service SET resume_ns = 1"))


def seconds(database: Database) -> float:
    """How long the outage still lasts."""
    with database.read() as connection:
        return (Health(database).outages()["box"].resume_ns - clock_ns(connection)) / 1e9


def test_failures_of_several_commands_add_up_and_one_success_forgets_them(database: Database) -> None:
    for done in range(1, LIMIT):
        run(database, 1)
        assert row(database) == (done, None, "nobody answers")
    run(database, 3, success=True)
    assert row(database)[0] == 3
    run(database, 0, success=True)
    assert row(database) == (0, None, "")
    run(database, LIMIT - 1)
    assert Health(database).outages() == {}
    run(database, 1)
    assert 55 < seconds(database) <= 60


def test_one_command_writes_its_limit_down_at_once(database: Database) -> None:
    health = Health(database)
    for _ in range(LIMIT):
        health.failed("box", AuthenticationFailed("box:"))
    outage = Health(database).outages()["box"]
    assert "out of use until" in str(outage)
    assert "did not accept the credentials" in str(outage)
    refusal = outage.refusal("box:a")
    assert isinstance(refusal, Unavailable)
    assert (refusal.subject, refusal.hint) == ("box:a", "cms storage measure box tries it now")
    for _ in range(3 * LIMIT):
        health.failed("box", DOWN)
    health.remember()
    assert row(database)[:2] == (LIMIT, outage.resume_ns), "tried as the last resort: it is no longer out of use"


def test_each_further_failure_doubles_the_time_up_to_an_hour(database: Database) -> None:
    run(database, 5 * LIMIT)
    for minutes in (1, 2, 4, 8, 16, 32, 60, 60):
        assert minutes * 60 - 5 < seconds(database) <= minutes * 60
        let_time_pass(database)
        assert Health(database).outages() == {}
        run(database, 1)
    let_time_pass(database)
    run(database, 0, success=True)
    run(database, LIMIT)
    assert 55 < seconds(database) <= 60, "after a success it begins anew"


def test_what_is_no_failure_of_the_service_does_not_count(database: Database) -> None:
    run(database, 2 * LIMIT, NotFound("box:a"))
    run(database, 2 * LIMIT, QuotaExceeded("box:a"))
    with database.read() as connection:
        assert connection.execute(text("SELECT count(*) FROM service")).scalar_one() == 0


def test_a_reset_puts_it_back_in_use(database: Database) -> None:
    run(database, LIMIT)
    Health(database).reset(["other", "box"])
    assert Health(database).outages() == {}
    assert row(database) == (0, None, "")
