"""What a mirror removes: nothing by mistake, nothing that a filter keeps, and with a backup nothing at all."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from cloudmesh.storage import Storage
from cloudmesh.storage.abc import StorageABC
from cloudmesh.storage.errors import PermissionDenied, Refused, StorageError, Unavailable, UsageError
from cloudmesh.storage.transfer.options import TransferOptions
from tests.places import configure, local, read_tree, write_tree
from tests.storage.transfer.places import Heard, disk, leftovers, odd, run

KEPT = {"a": b"a", "d/b": b"b", "d/c": b"c"}
GONE = {"e": b"eeee", "old/deep/f": b"ff"}


def test_a_mirror_removes_files_and_the_directories_that_are_empty_then(tmp_path: Path) -> None:
    write_tree(tmp_path / "one", KEPT)
    write_tree(tmp_path / "two", KEPT | GONE)
    (tmp_path / "two/empty/deep").mkdir(parents=True)
    heard = Heard()
    report = run(disk(tmp_path / "one"), odd("two", tmp_path / "two"), delete=True, observer=heard)
    assert (report.skipped, report.removed, report.errors) == (3, 2, 0)
    assert read_tree(tmp_path / "two") == KEPT
    assert sorted(path.name for path in (tmp_path / "two").rglob("*") if path.is_dir()) == ["d"]
    heard.check()
    assert {event.name: event.size for event in heard.events if event.kind == "removed"} == {
        "two:e": 4,
        "two:old/deep/f": 2,
    }


@pytest.mark.parametrize(
    ("limit", "allowed"), [("50%", False), ("39%", False), ("66.7%", True), ("3", False), ("4", True), ("0", False)]
)
def test_more_than_the_limit_is_refused_after_all_else_is_done(tmp_path: Path, limit: str, allowed: bool) -> None:
    write_tree(tmp_path / "one", {"a": b"a", "b": b"b", "new": b"new"})
    there = {"a": b"a", "b": b"b", **{f"x{number}": b"x" for number in range(4)}}
    write_tree(tmp_path / "two", there)
    source, target = disk(tmp_path / "one"), odd("two", tmp_path / "two")
    for dryrun in (True, False):
        if allowed:
            assert run(source, target, delete=True, max_delete=limit, dryrun=dryrun).removed == 4
        else:
            report = run(source, target, delete=True, max_delete=limit, dryrun=dryrun)
            assert (report.files, report.removed, report.errors) == (1, 0, 1) if dryrun else report.failed
            assert "4 of 6 files would be removed, which is more than" in report.failures[0].error
            assert "--max-delete=4 allows it" in report.failures[0].error
    expected = {"a": b"a", "b": b"b", "new": b"new"}
    assert read_tree(tmp_path / "two") == (expected if allowed else there | expected)


def test_an_empty_source_is_refused_whatever_the_limit(tmp_path: Path) -> None:
    write_tree(tmp_path / "two", KEPT)
    (tmp_path / "one/empty").mkdir(parents=True)
    for source in (tmp_path / "one", tmp_path / "not there"):
        with pytest.raises(Refused, match="the source has no files"):
            run(odd("one", source), odd("two", tmp_path / "two"), delete=True, max_delete="100%")
    assert read_tree(tmp_path / "two") == KEPT


@pytest.mark.parametrize("side", ["source", "destination"])
@pytest.mark.parametrize("error", [PermissionDenied("one:d"), Unavailable("one:d")])
def test_a_listing_that_fails_removes_nothing(tmp_path: Path, side: str, error: StorageError) -> None:
    write_tree(tmp_path / "one", KEPT)
    write_tree(tmp_path / "two", {"a": b"a", "e": b"e", "0": b"0"})
    sides = {"source": odd("one", tmp_path / "one"), "destination": odd("two", tmp_path / "two")}

    def failing(primitive: str, path: str) -> None:
        if primitive == "scan" and path in ("d/b", "e"):
            raise error

    sides[side].before = failing
    try:
        told = [
            one.error for one in run(sides["source"], sides["destination"], delete=True, max_delete="100%").failures
        ]
    except StorageError as raised:  # where nothing else was done
        told = [str(raised)]
    assert told == [str(error)]
    assert read_tree(tmp_path / "two").keys() >= {"a", "e", "0"}
    sides[side].before = lambda primitive, path: None
    assert run(sides["source"], sides["destination"], delete=True, max_delete="100%").removed == 2
    assert read_tree(tmp_path / "two") == KEPT


def test_a_file_that_failed_keeps_everything(tmp_path: Path) -> None:
    write_tree(tmp_path / "one", KEPT)
    write_tree(tmp_path / "two", {"e": b"e"})
    target = odd("two", tmp_path / "two")

    def failing(primitive: str, path: str) -> None:
        if (primitive, path) == ("write", "a"):
            raise PermissionDenied(path)

    target.before = failing
    report = run(disk(tmp_path / "one"), target, delete=True, max_delete="100%")
    assert (report.errors, report.removed) == (1, 0)
    assert read_tree(tmp_path / "two") == {"d/b": b"b", "d/c": b"c", "e": b"e"}


def test_a_removal_that_fails_is_told_with_its_size(tmp_path: Path) -> None:
    write_tree(tmp_path / "one", KEPT)
    write_tree(tmp_path / "two", KEPT | GONE)
    target, heard = odd("two", tmp_path / "two"), Heard()

    def failing(primitive: str, path: str) -> None:
        if (primitive, path) == ("remove", "e"):
            raise PermissionDenied(path)

    target.before = failing
    report = run(disk(tmp_path / "one"), target, delete=True, observer=heard)
    assert (report.removed, report.errors) == (1, 1)
    assert read_tree(tmp_path / "two") == KEPT | {"e": b"eeee"}
    assert [(event.name, event.size) for event in heard.events if event.kind == "failed"] == [("two:e", 4)]
    assert [event.name for event in heard.events if event.kind == "removed"] == ["two:old/deep/f"]


def test_what_a_filter_leaves_out_stays_on_both_sides(tmp_path: Path) -> None:
    write_tree(tmp_path / "one", {"a.txt": b"a", "b.log": b"b"})
    write_tree(
        tmp_path / "two", {"old.txt": b"o", "a.txt": b"a", "old.log": b"o", "dir/old.log": b"o", "big.txt": b"o" * 50}
    )
    rules: dict[str, Any] = {"delete": True, "exclude": ("*.log",), "max_size": 40}
    assert run(disk(tmp_path / "one"), odd("two", tmp_path / "two"), **rules).removed == 1
    assert read_tree(tmp_path / "two").keys() == {"a.txt", "old.log", "dir/old.log", "big.txt"}
    # what the source has is never surplus, though its own size leaves it out
    write_tree(tmp_path / "one", {"big.txt": b"o" * 50})
    write_tree(tmp_path / "two", {"big.txt": b"small"})
    assert run(disk(tmp_path / "one"), odd("two", tmp_path / "two"), **rules).removed == 0


@pytest.mark.parametrize("moves", [True, False], ids=["server-side move", "without"])
def test_what_is_replaced_or_removed_goes_to_the_backup(tmp_path: Path, moves: bool) -> None:
    write_tree(tmp_path / "one", {"a": b"new", "d/b": b"b"})
    write_tree(tmp_path / "two/top", {"a": b"older", "d/b": b"b", "d/gone": b"gone", "x/gone": b"gone"})
    target = odd("two", tmp_path / "two")
    if not moves:
        target.move_within = lambda *args, **more: StorageABC.move_within(target, *args, **more)  # type: ignore[method-assign]
    rules: dict[str, Any] = {"delete": True, "backup_dir": "old/today", "max_delete": "100%"}
    report = run(disk(tmp_path / "one"), target, "top", **rules)
    assert (report.files, report.removed, report.errors) == (1, 2, 0)
    kept = {"old/today/a": b"older", "old/today/d/gone": b"gone", "old/today/x/gone": b"gone"}
    assert read_tree(tmp_path / "two") == {"top/a": b"new", "top/d/b": b"b"} | kept
    assert run(disk(tmp_path / "one"), target, "top", **rules).skipped == 2
    assert read_tree(tmp_path / "two") == {"top/a": b"new", "top/d/b": b"b"} | kept
    assert not leftovers(tmp_path)


def test_a_backup_that_cannot_be_made_keeps_the_old_file(tmp_path: Path) -> None:
    write_tree(tmp_path / "one", {"a": b"new", "b": b"new"})
    write_tree(tmp_path / "two", {"top/a": b"older", "backup/a/in the way": b"", "top/b": b"older"})
    report = run(disk(tmp_path / "one"), odd("two", tmp_path / "two"), "top", backup_dir="backup")
    assert (report.files, report.errors) == (1, 1)
    assert read_tree(tmp_path / "two") == {
        "top/a": b"older", "backup/a/in the way": b"", "top/b": b"new", "backup/b": b"older"
    }  # fmt: skip


def test_a_mirror_of_a_directory_above_its_source_is_refused(home: Path, tmp_path: Path) -> None:
    write_tree(tmp_path / "one", {"top/in/a": b"a", "top/b": b"b"})
    configure(home, [local("one", tmp_path / "one")])
    with Storage("one") as storage:
        with pytest.raises(Refused, match="would be removed with it"):
            storage.sync("one:top/in", "one:top", options=TransferOptions(delete=True, max_delete="100%"))
        assert read_tree(tmp_path / "one") == {"top/in/a": b"a", "top/b": b"b"}
        storage.sync("one:top/in", "one:top")
    assert read_tree(tmp_path / "one")["top/a"] == b"a"


def test_a_file_takes_the_place_of_a_directory_in_a_mirror_and_the_other_way_round(tmp_path: Path) -> None:
    write_tree(tmp_path / "one", {"now a file": b"f", "now a directory/x": b"x", "c": b"c"})
    there = {"now a file/old": b"o", "now a directory": b"o", "c": b"c"}
    target = odd("two", write_tree(tmp_path / "two", there))
    report = run(disk(tmp_path / "one"), target)
    assert (report.errors, read_tree(tmp_path / "two")) == (2, there)
    heard = Heard()
    report = run(disk(tmp_path / "one"), target, delete=True, max_delete="100%", observer=heard)
    assert (report.files, report.removed, report.errors) == (2, 2, 0)
    assert read_tree(tmp_path / "two") == read_tree(tmp_path / "one")
    heard.check()
    assert run(disk(tmp_path / "one"), target, delete=True).skipped == 3


def test_a_directory_does_not_go_into_itself_by_another_name(home: Path, tmp_path: Path) -> None:
    write_tree(tmp_path / "one", {"a": b"a"})
    configure(home, [local("inside", tmp_path / "one/inside")])
    with Storage("inside") as storage:
        with pytest.raises(Refused, match="into itself"):
            storage.put(str(tmp_path / "one"), "inside:", recursive=True)
        storage.put(str(tmp_path / "one/a"), "inside:")
    assert read_tree(tmp_path / "one") == {"a": b"a", "inside/a": b"a"}


def test_a_run_that_ends_early_removes_nothing_and_says_why_it_ended(tmp_path: Path) -> None:
    write_tree(tmp_path / "one", {f"{number}": b"12345678" for number in range(5)})
    surplus = {f"0{number}": b"x" for number in range(9)}
    write_tree(tmp_path / "two", surplus)
    report = run(disk(tmp_path / "one"), odd("two", tmp_path / "two"), delete=True, max_transfer=10)
    assert [failure.name for failure in report.failures] == [""]
    assert "--max-transfer" in report.failures[0].error
    assert surplus.items() <= read_tree(tmp_path / "two").items()


@pytest.mark.parametrize("directory", ["one", "one/deeper", "on", "one/"])
@pytest.mark.parametrize("where", ["on the service", "on this computer"])
def test_a_backup_never_goes_where_the_source_is(home: Path, tmp_path: Path, directory: str, where: str) -> None:
    write_tree(tmp_path / "all/one", {"f": b"newer"})
    write_tree(tmp_path / "all/on/x", {"f": b"other"})
    write_tree(tmp_path / "all/two", {"f": b"old"})
    configure(home, [local("disk", tmp_path / "all")])
    source = "disk:one" if where == "on the service" else str(tmp_path / "all/one")
    with Storage() as storage:
        if directory == "on":
            storage.sync(source, "disk:two", options=TransferOptions(backup_dir=directory))
        else:
            with pytest.raises(UsageError, match=r"--backup-dir.*overlaps the source"):
                storage.sync(source, "disk:two", options=TransferOptions(backup_dir=directory))
    assert (tmp_path / "all/one/f").read_bytes() == b"newer"
    assert (tmp_path / "all/two/f").read_bytes() == (b"newer" if directory == "on" else b"old")
    with pytest.raises(UsageError, match="names a service"):
        TransferOptions(backup_dir="disk:x")
