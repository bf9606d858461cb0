"""The journal: no changed file is skipped for it, and one that is gone, wrong or not writable does no harm."""

from __future__ import annotations

import os
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest

from cloudmesh.storage.abc import Entry, OnError
from cloudmesh.storage.errors import StorageError
from cloudmesh.storage.providers.awss3 import S3Storage
from cloudmesh.storage.transfer.journal import FOLDER, Journal
from deploy.servers import SeaweedFS
from tests.places import read_tree, write_tree
from tests.small_disk import own_mounts
from tests.storage.transfer.places import Odd, change, disk, odd, run

FILES = {f"d{number // 10}/{number:03}": b"%d" % number for number in range(60)}


@pytest.fixture
def sides(tmp_path: Path) -> tuple[Odd, Odd]:
    """Two services of which the first has files."""
    write_tree(tmp_path / "one", FILES)
    return odd("one", tmp_path / "one"), odd("two", tmp_path / "two")


def journal_of(home: Path) -> Path:
    (path,) = (home / FOLDER).glob("*.db")
    return path


def rows(path: Path) -> int:
    with closing(sqlite3.connect(path)) as connection:
        return int(connection.execute("SELECT count(*) FROM same").fetchone()[0])


# ---- what is skipped -------------------------------------------------------------------------------------------------


def test_a_file_that_was_changed_and_set_back_in_time_is_seen(tmp_path: Path, home: Path, seaweedfs: SeaweedFS) -> None:
    write_tree(tmp_path / "one", FILES)
    service = S3Storage(seaweedfs.settings("aws", bucket=seaweedfs.make_bucket()))
    source = disk(tmp_path / "one")
    assert run(source, service).files == 60
    assert run(source, service).skipped == 60
    assert rows(journal_of(home)) == 60
    change(tmp_path / "one/d0/003", b"X")
    assert run(source, service).files == 1
    assert run(source, service).skipped == 60
    down = disk(tmp_path / "down")
    assert run(service, down).files == 60
    change(tmp_path / "down/d0/003", b"Y")
    assert run(service, down).files == 1
    assert read_tree(tmp_path / "down") == FILES | {"d0/003": b"X"}
    service.close()


def test_a_service_that_means_another_place_now_is_compared_anew(tmp_path: Path, sides: tuple[Odd, Odd]) -> None:
    assert run(*sides).files == 60
    write_tree(tmp_path / "three", {name: b"?" * len(data) for name, data in FILES.items()})
    os.utime(tmp_path / "three/d0/000", (1, 1))
    again = run(sides[0], odd("two", tmp_path / "three"), checksum=False)
    assert again.files == 1, (
        "times that are the same count as ever, but nothing is skipped that the journal alone knows"
    )
    assert run(odd("one", tmp_path / "three"), sides[1], checksum=True).files == 59


class _Seconds(Odd):
    """A service that tells sizes and whole seconds, and no more, as SFTP does."""

    def scan(self, path: str = "", *, recursive: bool = False, on_error: OnError | None = None) -> Iterator[Entry]:
        for entry in super().scan(path, recursive=recursive, on_error=on_error):
            seconds = None if entry.mtime_ns is None else entry.mtime_ns // 10**9 * 10**9
            yield entry._replace(etag=None, changed_ns=None, mtime_ns=seconds)


def test_a_file_that_is_written_to_in_this_second_is_not_noted(tmp_path: Path, home: Path) -> None:
    write_tree(tmp_path / "one", FILES)
    (tmp_path / "one/d0/003").touch()
    source, target = _Seconds(odd("one", tmp_path / "one").settings), odd("two", tmp_path / "two")
    source.capabilities = source.capabilities.__class__(mtime_precision_ns=10**9, scan_mtime=True)
    assert run(source, target).files == 60
    assert rows(journal_of(home)) == 59


def test_what_is_on_neither_side_any_longer_is_forgotten(home: Path, sides: tuple[Odd, Odd], tmp_path: Path) -> None:
    run(*sides)
    shutil.rmtree(tmp_path / "one/d0")
    shutil.rmtree(tmp_path / "two/d0")
    run(*sides, dryrun=True)
    assert rows(journal_of(home)) == 60, "a dry run leaves it as it is"
    run(*sides)
    assert rows(journal_of(home)) == 50


def test_a_run_without_a_journal_does_the_same(home: Path, sides: tuple[Odd, Odd], tmp_path: Path) -> None:
    run(*sides)
    write_tree(tmp_path / "one", {"d0/000": b"other", "new": b"new"})
    (tmp_path / "one/d0/000").touch()
    with_journal = run(*sides, dryrun=True)
    shutil.rmtree(home / FOLDER)
    without = run(*sides, dryrun=True)
    assert (with_journal.files, with_journal.skipped) == (without.files, without.skipped) == (2, 59)


# ---- a journal that is wrong -----------------------------------------------------------------------------------------


def garbage(path: Path) -> None:
    path.write_bytes(os.urandom(5000))


def truncated(path: Path) -> None:
    os.truncate(path, path.stat().st_size // 2 + 100)


def emptied(path: Path) -> None:
    os.truncate(path, 0)


def damaged_inside(path: Path) -> None:
    with path.open("r+b") as file:
        for page in range(1, path.stat().st_size // 4096):
            file.seek(page * 4096)
            file.write(os.urandom(4096))


def of_another_version(path: Path) -> None:
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("PRAGMA user_version = 99")
        connection.execute("DROP TABLE same")


def without_its_table(path: Path) -> None:
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("ALTER TABLE same RENAME TO other")


@pytest.mark.parametrize("harm", [garbage, truncated, emptied, damaged_inside, of_another_version, without_its_table])
def test_a_journal_that_is_wrong_does_no_harm_and_is_begun_anew(
    home: Path, sides: tuple[Odd, Odd], tmp_path: Path, harm: Callable[[Path], None]
) -> None:
    run(*sides)
    path = journal_of(home)
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    for other in path.parent.glob(f"{path.name}-*"):
        other.unlink()
    harm(path)
    (tmp_path / "one/new").write_bytes(b"new")
    report = run(*sides)
    assert (report.files, report.skipped, report.errors) == (1, 60, 0)
    assert read_tree(tmp_path / "two") == FILES | {"new": b"new"}
    for _ in range(2):
        assert run(*sides).skipped == 61
    assert rows(journal_of(home)) >= 60


def test_a_folder_that_cannot_be_written_to(home: Path, sides: tuple[Odd, Odd]) -> None:
    (home / FOLDER).write_text("in the way")
    assert run(*sides, delete=True).files == 60
    assert run(*sides, delete=True).skipped == 60


_ON_A_FULL_DISK = """
import sys
from pathlib import Path
from tests.storage.transfer.places import odd, run
one, two = (odd(name, Path(sys.argv[1]) / name) for name in ("one", "two"))
report = run(one, two)
print(report.files, report.errors)
report = run(one, two)
print(report.files, report.skipped, report.errors)
"""


def test_a_full_configuration_disk_does_not_stop_the_run(tmp_path: Path) -> None:
    write_tree(tmp_path / "one", {f"{'long name ' * 8}{number:04}": b"%d" % number for number in range(2000)})
    (tmp_path / "full").mkdir()
    script = 'mount -t tmpfs -o size=256k none "$1" && CLOUDMESH_CONFIG_DIR="$1" exec "$2" -c "$3" "$4"'
    done = subprocess.run(
        [*own_mounts(), "sh", "-c", script, "sh", str(tmp_path / "full"), sys.executable, _ON_A_FULL_DISK, tmp_path],
        capture_output=True, text=True, check=False, env={**os.environ, "PYTHONPATH": os.getcwd()},
    )  # fmt: skip
    assert done.stdout.splitlines() == ["2000 0", "0 2000 0"], done.stderr


def test_two_runs_at_once(home: Path, sides: tuple[Odd, Odd], tmp_path: Path) -> None:
    script = _ON_A_FULL_DISK.replace("report = run(one, two)\nprint(report.files, report.errors)\n", "", 1)
    command = [sys.executable, "-c", script, str(tmp_path)]
    both = [
        subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env={**os.environ, "PYTHONPATH": os.getcwd()})
        for _ in range(3)
    ]
    for one in both:
        files, skipped, errors = map(int, one.communicate(timeout=60)[0].split())
        assert (files + skipped, errors) == (60, 0)
    assert read_tree(tmp_path / "two") == FILES
    assert run(*sides).skipped == 60
    assert rows(journal_of(home)) == 60


def test_a_journal_that_another_process_holds_for_long_is_done_without(
    home: Path, sides: tuple[Odd, Odd], monkeypatch: pytest.MonkeyPatch
) -> None:
    run(*sides)
    holder = sqlite3.connect(journal_of(home), isolation_level=None)
    holder.execute("BEGIN IMMEDIATE")
    journal = Journal(*(side.identity("") for side in sides))
    journal._connection.execute("PRAGMA busy_timeout = 50")
    journal.add(b"key", "a", "b")
    journal.write()
    assert len(list(journal.known())) == 60
    journal.close()
    holder.execute("ROLLBACK")
    holder.close()
    assert run(*sides).skipped == 60


def test_surplus_comes_back_from_below_with_its_size() -> None:
    with Journal("one:", "two:") as journal:
        journal.add_surplus([(b"d/", 0), (b"a", 3)])
        journal.add_surplus([(b"d/b", 5)])
        assert list(journal.surplus()) == [(b"d/b", 5), (b"d/", 0), (b"a", 3)]


def test_no_room_for_temporary_files_is_told() -> None:
    with Journal("one:", "two:") as journal:
        journal.add_surplus([(b"a", 1)])
        assert journal._surplus is not None
        journal._surplus.execute("PRAGMA max_page_count = 2")
        with pytest.raises(StorageError, match="full"):
            journal.add_surplus((b"%0100d" % number, 1) for number in range(1000))
