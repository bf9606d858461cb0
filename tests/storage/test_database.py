from __future__ import annotations

import multiprocessing
import re
import sqlite3
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy.sql.expression import text

from cloudmesh.cdir.service import tables
from cloudmesh.storage import migrations
from cloudmesh.storage.database import REVISIONS, Database, rows
from cloudmesh.storage.errors import (
    AuthenticationFailed,
    ConfigError,
    StorageError,
    Unavailable,
)
from cloudmesh.vdir import schema
from tests.small_disk import own_mounts


@pytest.fixture(params=["sqlite", "postgresql"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path / 'vdir.db'}"
    found: str = request.getfixturevalue("database_url")
    return found


def test_revisions_are_those_of_the_scripts() -> None:
    script = ScriptDirectory.from_config(migrations.config())
    assert tuple(step.revision for step in script.walk_revisions())[::-1] == REVISIONS


@pytest.mark.filterwarnings("ignore:.*expression-based index")
def test_migrations_make_what_the_tables_say(url: str) -> None:
    with Database(url) as database, database.read() as connection:
        context = MigrationContext.configure(connection, opts={"compare_type": True})
        expected = schema.entry.metadata
        assert tables.token.metadata is expected  # every floor's tables are in it
        differences = compare_metadata(context, expected)
    assert differences == []


def test_default_is_a_private_file_in_our_folder(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CDIR_DATABASE", raising=False)
    with Database() as database:
        assert database.is_sqlite
        assert database.subject == str(home / "vdir.db")
    assert (home / "vdir.db").stat().st_mode & 0o077 == 0


def test_environment_names_the_database(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CDIR_DATABASE", f"sqlite:///{tmp_path}/deep/other.db")
    Database().close()
    assert (tmp_path / "deep" / "other.db").exists()


def test_sqlite_is_in_wal_mode_with_foreign_keys(tmp_path: Path) -> None:
    with Database(f"sqlite:///{tmp_path}/a.db") as database, database.read() as connection:
        facts = [
            connection.exec_driver_sql(f"PRAGMA {name}").scalar()
            for name in ("journal_mode", "foreign_keys", "synchronous")
        ]
    assert facts == ["wal", 1, 1]


def test_current_schema_needs_neither_alembic_nor_the_orm(url: str) -> None:
    Database(url).close()
    program = (
        "import sys; from cloudmesh.storage.database import Database; Database(sys.argv[1]).close();"
        "print([name for name in ('alembic', 'sqlalchemy.orm') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", program, url], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


def _delete_and_fail(database: Database) -> None:
    with database.write() as connection:
        connection.exec_driver_sql("DELETE FROM entry")
        _ = 1 / 0


def test_write_is_undone_by_an_exception(url: str) -> None:
    with Database(url) as database:
        with pytest.raises(ZeroDivisionError):
            _delete_and_fail(database)
        with database.read() as connection:
            assert connection.exec_driver_sql("SELECT count(*) FROM entry").scalar() == 2


def _open_when_told(url: str, start: multiprocessing.synchronize.Event, failures: multiprocessing.Queue[str]) -> None:
    start.wait()
    try:
        Database(url).close()
    except BaseException as error:
        failures.put(repr(error))


def test_processes_that_start_at_once_on_an_empty_database_all_succeed(url: str) -> None:
    context = multiprocessing.get_context("spawn")
    start, failures = context.Event(), context.Queue()
    processes = [context.Process(target=_open_when_told, args=(url, start, failures)) for _ in range(4)]
    for process in processes:
        process.start()
    start.set()
    for process in processes:
        process.join(60)
    assert [process.exitcode for process in processes] == [0] * 4
    assert failures.empty()
    with Database(url) as database, database.read() as connection:
        assert connection.exec_driver_sql("SELECT count(*) FROM entry").scalar() == 2


def _add(url: str, count: int) -> None:
    with Database(url) as database:
        for _ in range(count):
            with database.write() as connection:
                value = connection.exec_driver_sql("SELECT samples FROM speed").scalar_one()
                connection.exec_driver_sql(f"UPDATE speed SET samples = {value + 1}")


def test_writers_of_many_processes_take_turns(url: str) -> None:
    with Database(url) as database, database.write() as connection:
        connection.exec_driver_sql("INSERT INTO speed VALUES ('aws', 'read', 0, 0, 0, 0)")
    context = multiprocessing.get_context("spawn")
    processes = [context.Process(target=_add, args=(url, 200)) for _ in range(3)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(120)
    assert [process.exitcode for process in processes] == [0] * 3
    with Database(url) as database, database.read() as connection:
        assert connection.exec_driver_sql("SELECT samples FROM speed").scalar() == 600


def test_newer_database_is_left_alone(url: str) -> None:
    with Database(url) as database, database.write() as connection:
        connection.exec_driver_sql("UPDATE alembic_version SET version_num = '9999'")
    with pytest.raises(ConfigError, match="newer program"):
        Database(url)


def test_no_database_file(tmp_path: Path) -> None:
    file = tmp_path / "vdir.db"
    file.write_bytes(b"this is no database at all" * 100)
    with pytest.raises(ConfigError, match="is not a database") as caught:
        Database(f"sqlite:///{file}")
    assert caught.value.subject == str(file)
    assert "\n" not in str(caught.value)
    assert file.read_bytes() == b"this is no database at all" * 100


def test_damaged_database_file(tmp_path: Path) -> None:
    file = tmp_path / "vdir.db"
    with Database(f"sqlite:///{file}") as database, database.write() as connection:
        rows = [(i, 1, f"{i:0200}") for i in range(3, 3000)]
        connection.exec_driver_sql(
            "INSERT INTO entry (id, parent_id, name, is_directory, created_ns) VALUES (?, ?, ?, 0, 0)", rows
        )
    with sqlite3.connect(file) as plain:
        plain.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    plain.close()
    data = bytearray(file.read_bytes())
    for page in range(4096 * 10, len(data), 4096):
        data[page : page + 100] = b"\xff" * 100
    file.write_bytes(data)
    with (
        pytest.raises(ConfigError, match="damaged"),
        Database(f"sqlite:///{file}") as database,
        database.read() as connection,
    ):
        connection.exec_driver_sql("SELECT sum(length(name)) FROM entry").all()


def test_folder_in_the_way(tmp_path: Path) -> None:
    with pytest.raises(StorageError) as caught:
        Database(f"sqlite:///{tmp_path}")
    assert "\n" not in str(caught.value)


_FILL = """
import sys
from cloudmesh.storage.database import Database
from cloudmesh.storage.errors import QuotaExceeded
with Database(sys.argv[1]) as database:
    if len(sys.argv) > 2:
        import resource
        resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[2]), resource.RLIM_INFINITY))
    rows = [("n" * 900 + str(i),) for i in range(5000)]
    try:
        with database.write() as connection:
            connection.exec_driver_sql(
                "INSERT INTO entry (parent_id, name, is_directory, created_ns) VALUES (1, ?, 0, 0)", rows
            )
    except QuotaExceeded as error:
        print("QuotaExceeded", error)
"""


def test_file_size_limit_is_no_room_left_and_no_damage(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/vdir.db"
    done = subprocess.run([sys.executable, "-c", _FILL, url, "1000000"], capture_output=True, text=True, check=True)
    assert done.stdout.startswith("QuotaExceeded")
    with Database(url) as database, database.read() as connection:
        assert connection.exec_driver_sql("PRAGMA integrity_check").scalar() == "ok"
        assert connection.exec_driver_sql("SELECT count(*) FROM entry").scalar() == 2


def test_full_disk_is_no_room_left_and_no_damage(tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    check = "from cloudmesh.storage.database import Database\nimport sys\nwith Database(sys.argv[1]) as d:\n"
    check += " with d.read() as c: print(*c.exec_driver_sql('PRAGMA integrity_check').all()[0])"
    script = 'mount -t tmpfs -o size=2m none "$1" && "$2" -c "$3" "$4" && rm -f "$1/ballast" && "$2" -c "$5" "$4"'
    arguments = [str(disk), sys.executable, _FILL, f"sqlite:///{disk}/vdir.db", check]
    done = subprocess.run(
        [*own_mounts(), "sh", "-c", script, "sh", *arguments], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("QuotaExceeded")
    assert done.stdout.endswith("\nok\n")


@pytest.mark.parametrize("bad", ["nonsense", "mysql://root:geheim@host/db", "sqlite://", "http://u:geheim@x"])
def test_bad_url_is_refused_without_its_secret(bad: str) -> None:
    with pytest.raises(ConfigError) as caught:
        Database(bad)
    assert "geheim" not in str(caught.value)


def test_unreachable_server(dead_port: int) -> None:
    with pytest.raises(Unavailable) as caught:
        Database(f"postgresql://me:geheim@127.0.0.1:{dead_port}/x")
    assert "Connection refused" in str(caught.value)
    assert "geheim" not in str(caught.value)
    assert "\n" not in str(caught.value)


def test_wrong_password(database_url: str) -> None:
    wrong = re.sub(r":[^:@/]+@", ":geheim@", database_url)
    with pytest.raises(AuthenticationFailed) as caught:
        Database(wrong)
    assert "geheim" not in str(caught.value)


def test_missing_database(database_url: str) -> None:
    with pytest.raises(ConfigError, match="does not exist"):
        Database(f"{database_url}_not")


def test_missing_driver_names_the_extra(database_url: str) -> None:
    program = (
        "import sys; sys.modules['psycopg'] = None\n"
        "from cloudmesh.storage.database import Database\n"
        "from cloudmesh.storage.errors import MissingExtra\n"
        "try: Database(sys.argv[1])\n"
        "except MissingExtra as error: print(error)"
    )
    done = subprocess.run([sys.executable, "-c", program, database_url], capture_output=True, text=True, check=True)
    assert "cloudmesh-vdir[postgresql]" in done.stdout
    assert database_url.split(":")[2].partition("@")[0] not in done.stdout


def test_threads_share_a_database(url: str) -> None:
    with Database(url) as database:
        with database.write() as connection:
            connection.exec_driver_sql("INSERT INTO speed VALUES ('aws', 'read', 0, 0, 0, 0)")

        def add(_: int) -> None:
            with database.write() as connection:
                value = connection.exec_driver_sql("SELECT samples FROM speed").scalar_one()
                connection.exec_driver_sql(f"UPDATE speed SET samples = {value + 1}")
            with database.read() as connection:
                connection.exec_driver_sql("SELECT samples FROM speed").scalar_one()

        with ThreadPoolExecutor(20) as threads:
            list(threads.map(add, range(200)))
        with database.read() as connection:
            assert connection.exec_driver_sql("SELECT samples FROM speed").scalar() == 200


def test_a_server_that_ended_all_connections_costs_one_question(database_url: str) -> None:
    question = text("SELECT CAST(:value AS text)")
    with Database(database_url) as database:
        with ExitStack() as stack:  # several are kept
            for _ in range(3):
                stack.enter_context(database.read())
        with Database(database_url) as other, other.read() as connection:
            others = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = current_database()"
            ended = connection.exec_driver_sql(f"{others} AND pid <> pg_backend_pid()").all()
        assert len(ended) == 3
        with pytest.raises(Unavailable), database.read() as connection:
            rows(connection, question, {"value": "a"})
        for _ in range(3):
            with database.read() as connection:
                assert list(rows(connection, question, {"value": "a"})) == [("a",)]
