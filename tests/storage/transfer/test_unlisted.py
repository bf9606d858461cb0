"""Directories that one side refuses to list: the rest goes on, they are told, and nothing is concluded from them."""

from __future__ import annotations

from pathlib import Path

import pytest

from cloudmesh.storage import Storage
from cloudmesh.storage.errors import PermissionDenied, StorageError
from tests.places import configure, local, read_tree, write_tree
from tests.storage.transfer.places import Heard, disk, odd, run
from tests.unprivileged import closed

TREE = {"a": b"a", "d/b": b"b", "d/deep/c": b"c", "e": b"e"}
OTHER = {"a": b"a", "d/b": b"b", "d/deep/c": b"c", "d/gone": b"gone", "gone": b"gone"}


@pytest.fixture
def storage(home: Path, tmp_path: Path) -> Storage:
    configure(home, [local("one", tmp_path / "one"), local("two", tmp_path / "two")])
    return Storage("one")


@pytest.mark.parametrize("delete", [False, True])
def test_the_rest_is_copied_and_nothing_is_removed(tmp_path: Path, delete: bool) -> None:
    write_tree(tmp_path / "one", TREE | {"f/x": b"x"})
    write_tree(tmp_path / "two", OTHER)
    heard = Heard()
    with closed(tmp_path / "one/d", tmp_path / "one/f"):
        report = run(disk(tmp_path / "one"), odd("two", tmp_path / "two"), delete=delete, observer=heard)
    assert (report.files, report.skipped, report.removed, report.errors) == (1, 1, 0, 2)
    assert [failure.error for failure in report.failures] == [
        f"{tmp_path / 'one' / name}: permission denied" for name in ("d", "f")
    ]
    assert report.failed
    heard.check()
    assert read_tree(tmp_path / "two") == OTHER | {"e": b"e"}
    assert not (tmp_path / "two/f").exists(), "what it holds is not known, so it is no empty directory"


def test_a_dry_run_names_no_removal_below_it(tmp_path: Path) -> None:
    write_tree(tmp_path / "one", TREE)
    write_tree(tmp_path / "two", OTHER)
    with closed(tmp_path / "one/d"):
        report = run(disk(tmp_path / "one"), odd("two", tmp_path / "two"), delete=True, dryrun=True)
    assert [step.name for step in report.plan if step.action == "remove"] == ["two:gone"]
    assert (report.removed, report.errors) == (0, 1)


def test_a_directory_whose_files_cannot_be_looked_at(tmp_path: Path) -> None:
    write_tree(tmp_path / "one", TREE)
    write_tree(tmp_path / "two", OTHER)
    with closed(tmp_path / "one/d", mode=0o444):
        report = run(disk(tmp_path / "one"), odd("two", tmp_path / "two"), delete=True)
    assert sorted(failure.name for failure in report.failures) == [str(tmp_path / "one/d" / x) for x in ("b", "deep")]
    assert read_tree(tmp_path / "two") == OTHER | {"e": b"e"}


def test_below_a_directory_that_the_destination_does_not_list_nothing_is_replaced(tmp_path: Path) -> None:
    write_tree(tmp_path / "one", TREE | {"d/b": b"newer", "d/new": b"new"})
    write_tree(tmp_path / "two", OTHER)
    with closed(tmp_path / "two/d", mode=0o333):  # it could be written into
        report = run(disk(tmp_path / "one"), odd("two", tmp_path / "two"), delete=True)
    assert [failure.name for failure in report.failures] == ["two:d"]
    assert read_tree(tmp_path / "two") == OTHER | {"e": b"e"}


def test_a_directory_that_is_left_out_is_not_told(tmp_path: Path) -> None:
    write_tree(tmp_path / "one", TREE)
    with closed(tmp_path / "one/d"):
        report = run(disk(tmp_path / "one"), odd("two", tmp_path / "two"), exclude=("d/",), delete=True)
    assert (report.files, report.errors) == (2, 0)


def test_listings_go_on_and_tell_at_the_end(tmp_path: Path, storage: Storage) -> None:
    write_tree(tmp_path / "one", TREE | {"f/x": b"x"})
    names: list[str] = []
    with closed(tmp_path / "one/d/deep"), pytest.raises(PermissionDenied, match="one:d/deep: permission denied"):
        list(storage.list("", recursive=True))
    with closed(tmp_path / "one/d", tmp_path / "one/f"):
        listing = storage.list("", recursive=True)
        with pytest.raises(StorageError, match="2 directories in it could not be listed: one:d: permission denied; o"):
            names.extend(info.name for info in listing)
        with pytest.raises(StorageError, match="2 directories"):
            storage.usage()
    assert names == ["a", "d", "e", "f"]


def test_a_removal_goes_on_and_leaves_it(tmp_path: Path, storage: Storage) -> None:
    write_tree(tmp_path / "one", TREE)
    with closed(tmp_path / "one/d/deep"):
        report = storage.delete("d", recursive=True)
    assert [failure.error for failure in report.failures] == ["one:d/deep: permission denied"]
    assert read_tree(tmp_path / "one") == {"a": b"a", "d/deep/c": b"c", "e": b"e"}


def test_a_move_goes_on_and_leaves_it(tmp_path: Path, storage: Storage) -> None:
    write_tree(tmp_path / "one", TREE)
    with closed(tmp_path / "one/d/deep"):
        report = storage.move("d", "two:d", recursive=True)
    assert [failure.error for failure in report.failures] == ["one:d/deep: permission denied"]
    assert read_tree(tmp_path / "one") == {"a": b"a", "d/deep/c": b"c", "e": b"e"}
    assert read_tree(tmp_path / "two") == {"d/b": b"b"}


def test_a_comparison_goes_on_and_tells_it_once(tmp_path: Path, storage: Storage) -> None:
    write_tree(tmp_path / "one", TREE)
    write_tree(tmp_path / "two", OTHER)
    for side in ("one", "two"):
        with closed(tmp_path / side / "d"):
            found = [(one.name, one.difference) for one in storage.check("one:", "two:")]
        assert found == [("e", "only in source"), ("gone", "only in destination"), ("d", "unreadable")]
