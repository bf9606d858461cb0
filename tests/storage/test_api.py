"""The verbs of `Storage` over the local disk, S3 (SeaweedFS) and WebDAV (WsgiDAV)."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from pathlib import Path
from urllib.request import urlopen

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from cloudmesh.storage import Storage
from cloudmesh.storage.abc import ServiceSettings
from cloudmesh.storage.disk import Disk
from cloudmesh.storage.errors import (
    AlreadyExists,
    ConfigError,
    IsADirectory,
    NotADirectory,
    NotFound,
    Refused,
    Unsupported,
)
from cloudmesh.storage.providers.local import LocalStorage
from cloudmesh.storage.transfer.report import Report
from cloudmesh.storage.transfer.transfer import Side, Transfer
from deploy.servers import SeaweedFS, Wsgidav
from tests.places import configure, local, read_tree, write_tree

FILES = {"a.txt": b"alpha", "b/c.bin": bytes(range(256)) * 40, "b/d e/ü #%?.txt": b"names", "empty": b""}


@pytest.fixture
def disks(home: Path, tmp_path: Path, seaweedfs: SeaweedFS, wsgidav: Wsgidav) -> dict[str, Path]:
    roots = {name: tmp_path / name for name in ("one", "two")}
    services = [local(name, root) for name, root in roots.items()]
    services.append(seaweedfs.settings("aws", bucket=seaweedfs.make_bucket()))
    services.append(wsgidav.settings("dav", root=f"run-{time.time_ns()}"))
    configure(home, services)
    return roots


@pytest.fixture
def storage(disks: dict[str, Path]) -> Iterator[Storage]:
    with Storage("one") as opened:
        yield opened


@pytest.fixture
def source(tmp_path: Path) -> Path:
    return write_tree(tmp_path / "source", FILES)


def names(storage: Storage, place: str) -> list[str]:
    return [one.name for one in storage.list(place, recursive=True) if one.kind == "file"]


@pytest.mark.parametrize("service", ["one", "aws", "dav"])
def test_the_predecessors_verbs_on_every_kind(storage: Storage, source: Path, tmp_path: Path, service: str) -> None:
    storage.create_dir(f"{service}:made/deep")
    assert storage.stat(f"{service}:made/deep").kind == "directory"
    report = storage.put(str(source), f"{service}:tree", recursive=True)
    assert isinstance(report, Report)
    assert (report.files, report.bytes, report.errors) == (4, sum(map(len, FILES.values())), 0)
    assert storage.put(str(source), f"{service}:tree", recursive=True).skipped == 4
    assert sorted(names(storage, f"{service}:tree")) == sorted(FILES)
    assert [one.name for one in storage.list(f"{service}:tree", dir_only=True)] == ["b"]
    assert [one.path for one in storage.search(f"{service}:tree", "*.txt", recursive=True)] == [
        "tree/a.txt",
        "tree/b/d e/ü #%?.txt",
    ]
    assert [one.name for one in storage.search(f"{service}:tree", "*.txt")] == ["a.txt"]
    assert [line.tree for line in storage.tree(f"{service}:tree")] == [
        "a.txt",
        "b/",
        "  c.bin",
        "  d e/",
        "    ü #%?.txt",
        "empty",
    ]
    assert b"".join(storage.cat(f"{service}:tree/b/d e/ü #%?.txt")) == b"names"
    room = storage.usage(f"{service}:tree")
    assert (room.files, room.bytes) == (4, sum(map(len, FILES.values())))
    assert storage.get(f"{service}:tree", str(tmp_path / "back"), recursive=True).files == 4
    assert read_tree(tmp_path / "back") == FILES
    assert storage.delete(f"{service}:tree", recursive=True, dryrun=True).files == 4
    assert storage.delete(f"{service}:tree", recursive=True).files == 4
    with pytest.raises(NotFound):
        list(storage.list(f"{service}:tree"))


def test_records_carry_the_cm_block(storage: Storage, source: Path) -> None:
    storage.put(str(source / "a.txt"), "x/")
    info = next(storage.list("x"))
    assert (info.cm.name, info.cm.kind, info.cm.cloud) == ("a.txt", "file", "one")
    assert info.cm.modified is not None
    assert info.modified_ns == (source / "a.txt").stat().st_mtime_ns


def test_a_file_goes_into_a_directory_or_becomes_the_name(storage: Storage, source: Path, tmp_path: Path) -> None:
    storage.put(str(source / "a.txt"), "name")
    storage.put(str(source / "a.txt"), "dir/")
    storage.put(str(source / "a.txt"), "dir")
    storage.put(str(source / "a.txt"), ".")
    assert names(storage, "") == ["a.txt", "dir/a.txt", "name"]
    storage.get("name", str(tmp_path) + "/")
    storage.get("name", str(tmp_path / "other"))
    assert (tmp_path / "name").read_bytes() == (tmp_path / "other").read_bytes() == b"alpha"


def test_copies_go_between_services_and_within_one(storage: Storage, source: Path, disks: dict[str, Path]) -> None:
    storage.put(str(source), "tree", recursive=True)
    assert storage.copy("tree", "aws:tree", recursive=True).files == 4
    assert storage.copy("aws:tree", "dav:tree", recursive=True).files == 4
    assert storage.copy("aws:tree", "aws:again", recursive=True).files == 4
    assert storage.copy("dav:tree", "two:tree", recursive=True).files == 4
    assert read_tree(disks["two"] / "tree") == FILES
    assert list(storage.check("tree", "aws:again")) == []
    assert list(storage.check("tree", "dav:tree", deep=True)) == []
    with pytest.raises(Refused, match="into itself"):
        storage.copy("tree", "tree/inside", recursive=True)


def test_check_names_every_difference(storage: Storage, source: Path, disks: dict[str, Path]) -> None:
    storage.put(str(source), "tree", recursive=True)
    storage.copy("tree", "aws:tree", recursive=True)
    (disks["one"] / "tree/a.txt").write_bytes(b"other")
    (disks["one"] / "tree/b/c.bin").unlink()
    (disks["one"] / "tree/new").write_bytes(b"")
    found = [(one.name, one.difference) for one in storage.check("tree", "aws:tree")]
    assert found == [("a.txt", "differs"), ("b/c.bin", "only in destination"), ("new", "only in source")]
    assert all(one.failed for one in storage.check("tree", "aws:tree"))


def test_deep_check_sees_what_size_and_time_hide(storage: Storage, source: Path, disks: dict[str, Path]) -> None:
    storage.put(str(source), "tree", recursive=True)
    storage.put(str(source), "two:tree", recursive=True)
    changed = disks["two"] / "tree/a.txt"
    seen = changed.stat()
    changed.write_bytes(b"ALPHA")
    os.utime(changed, ns=(seen.st_atime_ns, seen.st_mtime_ns))
    assert list(storage.check("tree", "two:tree")) == []
    assert [one.name for one in storage.check("tree", "two:tree", deep=True)] == ["a.txt"]


@pytest.mark.parametrize("service", ["one", "aws", "dav"])
def test_move_within_and_between_services(storage: Storage, source: Path, service: str) -> None:
    storage.put(str(source), f"{service}:tree", recursive=True)
    storage.move(f"{service}:tree/a.txt", f"{service}:renamed")
    assert names(storage, f"{service}:") == ["renamed", *(f"tree/{name}" for name in sorted(FILES) if name != "a.txt")]
    storage.move(f"{service}:tree", "two:moved", recursive=True)
    assert names(storage, f"{service}:") == ["renamed"]
    assert len(names(storage, "two:moved")) == 3
    with pytest.raises(AlreadyExists, match="force"):
        storage.move(f"{service}:renamed", "two:moved/empty")
    assert names(storage, f"{service}:") == ["renamed"]
    storage.move(f"{service}:renamed", "two:moved/empty", force=True)
    assert b"".join(storage.cat("two:moved/empty")) == b"alpha"
    assert names(storage, f"{service}:") == []


def test_a_move_tells_what_it_could_not_take_away(storage: Storage, source: Path, disks: dict[str, Path]) -> None:
    storage.put(str(source), "tree", recursive=True)
    os.mkfifo(disks["one"] / "tree/b/pipe")
    report = storage.move("tree", "two:tree", recursive=True)
    assert (report.files, report.errors) == (4, 2)
    assert [failure.name for failure in report.failures] == ["one:tree/b", "one:tree"]
    assert read_tree(disks["two"] / "tree") == FILES
    assert names(storage, "tree") == []


def test_move_force_never_trusts_sizes_and_times(storage: Storage, disks: dict[str, Path]) -> None:
    write_tree(disks["one"], {"a": b"new!", "tree/x": b"new!"})
    write_tree(disks["two"], {"a": b"old!", "tree/x": b"old!"})
    storage.move("a", "two:a", force=True)
    storage.move("tree", "two:tree", recursive=True, force=True)
    assert read_tree(disks["two"]) == {"a": b"new!", "tree/x": b"new!"}
    assert read_tree(disks["one"]) == {}


def test_a_tree_goes_into_a_tree_and_what_is_in_the_way_stays_on_both_sides(
    storage: Storage, disks: dict[str, Path]
) -> None:
    write_tree(disks["one"], {"tree/same": b"same", "tree/other": b"mine", "tree/new": b"new"})
    write_tree(disks["two"], {"tree/same": b"same", "tree/other": b"theirs"})
    report = storage.move("tree", "two:tree", recursive=True)
    assert [Path(one.name).name for one in report.failures] == ["other"]
    assert read_tree(disks["one"]) == {"tree/other": b"mine"}
    assert read_tree(disks["two"] / "tree") == {"same": b"same", "other": b"theirs", "new": b"new"}
    assert storage.move("tree", "two:tree", recursive=True, force=True).files == 1
    assert not (disks["one"] / "tree").exists()


def test_a_move_leaves_what_changed_or_came_meanwhile(
    storage: Storage, disks: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    write_tree(disks["one"], {"tree/a": b"as copied", "tree/b": b"as copied"})
    flush = LocalStorage.flush

    def somebody_writes(service: LocalStorage) -> None:
        write_tree(disks["one"], {"tree/a": b"changed since", "tree/came": b"later"})
        flush(service)

    monkeypatch.setattr(LocalStorage, "flush", somebody_writes)
    report = storage.move("tree", "two:tree", recursive=True)
    assert [Path(one.name).name for one in report.failures] == ["a"]
    assert read_tree(disks["one"] / "tree") == {"a": b"changed since", "came": b"later"}
    assert read_tree(disks["two"] / "tree") == {"a": b"as copied", "b": b"as copied"}


def test_a_directory_is_renamed_in_one_step_where_the_service_can(storage: Storage, disks: dict[str, Path]) -> None:
    write_tree(disks["one"], {f"tree/{i}": b"" for i in range(3)})
    inode = (disks["one"] / "tree/0").stat().st_ino
    storage.move("tree", "renamed", recursive=True)
    assert (disks["one"] / "renamed/0").stat().st_ino == inode
    assert not (disks["one"] / "tree").exists()


def test_a_single_file_is_copied_whatever_its_time_says(storage: Storage, source: Path, disks: dict[str, Path]) -> None:
    storage.put(str(source / "a.txt"), "name")
    seen = (source / "a.txt").stat()
    (source / "a.txt").write_bytes(b"ALPHA")
    os.utime(source / "a.txt", ns=(seen.st_atime_ns, seen.st_mtime_ns))
    storage.put(str(source / "a.txt"), "name")
    assert (disks["one"] / "name").read_bytes() == b"ALPHA"


def test_versions_of_a_file(home: Path, seaweedfs: SeaweedFS, source: Path) -> None:
    configure(home, [seaweedfs.settings("aws", bucket=seaweedfs.make_bucket(versioned=True))])
    with Storage("aws") as storage:
        storage.put(str(source / "a.txt"), "x")
        storage.put(str(source / "empty"), "x")
        assert [one.size for one in storage.versions("x")] == [0, 5]
        assert len({one.version for one in storage.versions("x")}) == 2


def test_a_url_gives_the_file_to_anyone(storage: Storage, source: Path) -> None:
    storage.put(str(source / "a.txt"), "aws:dir/a b.txt")
    with urlopen(storage.url("aws:dir/a b.txt", expires=60)) as answer:
        assert answer.read() == b"alpha"
    with pytest.raises(IsADirectory):
        storage.url("aws:dir")
    with pytest.raises(NotFound):
        storage.url("aws:nothing")
    storage.put(str(source / "a.txt"), "a.txt")
    with pytest.raises(Unsupported):
        storage.url("a.txt")


def test_bad_input_names_the_thing_and_changes_nothing(storage: Storage, source: Path, disks: dict[str, Path]) -> None:
    with pytest.raises(NotFound, match=r"nothing\.txt"):
        storage.put(str(source / "nothing.txt"), "x")
    with pytest.raises(IsADirectory, match="recursive"):
        storage.put(str(source), "x")
    with pytest.raises(ConfigError, match="four: there is no such service"):
        storage.put(str(source / "a.txt"), "four:x")
    assert read_tree(disks["one"]) == {}
    storage.put(str(source / "a.txt"), "x")
    with pytest.raises(NotADirectory):
        storage.put(str(source), "x", recursive=True)
    with pytest.raises(NotADirectory):
        storage.put(str(source / "a.txt"), "x/y")
    storage.create_dir("d")
    with pytest.raises(IsADirectory, match="recursive"):
        storage.delete("d")
    with pytest.raises(NotFound):
        storage.delete("nothing")
    assert read_tree(disks["one"]) == {"x": b"alpha"}


def test_one_bad_file_does_not_stop_the_rest(storage: Storage, source: Path, disks: dict[str, Path]) -> None:
    storage.put(str(source / "a.txt"), "tree/b/c.bin/in the way")
    report = storage.put(str(source), "tree", recursive=True)
    assert report.failed
    assert [Path(one.name).name for one in report.failures] == ["c.bin"]
    assert sorted(read_tree(disks["one"] / "tree")) == ["a.txt", "b/c.bin/in the way", "b/d e/ü #%?.txt", "empty"]


def test_a_service_is_not_read_faster_than_its_limit(home: Path, tmp_path: Path) -> None:
    write_tree(tmp_path / "slow", {"file": bytes(300_000)})
    configure(
        home, [ServiceSettings("slow", "local", root=str(tmp_path / "slow"), options={"bytes_per_second": "100K"})]
    )
    with Storage("slow") as storage:
        begin = time.monotonic()
        assert len(b"".join(storage.cat("file"))) == 300_000
        assert time.monotonic() - begin > 1.5, "a second's worth at once, the rest at 100 KiB a second"
    configure(
        home, [ServiceSettings("slow", "local", root=str(tmp_path / "slow"), options={"bytes_per_second": "fast"})]
    )
    with Storage("slow") as storage, pytest.raises(ConfigError, match="bytes_per_second"):
        storage.stat("file")


# ---- sync and jobs -------------------------------------------------------------------------------------------------


def test_sync_brings_what_is_new_and_is_remembered_as_a_job(storage: Storage, source: Path) -> None:
    report = storage.sync(str(source), "aws:tree", name="nightly")
    assert isinstance(report, Report)
    assert report.files == 4
    (source / "new").write_bytes(b"new")
    report = storage.sync(str(source), "aws:tree", name="nightly")
    assert isinstance(report, Report)
    assert (report.files, report.skipped) == (1, 4)
    job = next(storage.sync_status(name="nightly"))
    assert (job.state, job.files_done, job.errors, job.destination) == ("done", 1, 0, "aws:tree")
    assert [one.name for one in storage.jobs.list()] == ["nightly"]
    storage.jobs.remove("nightly")
    with pytest.raises(NotFound):
        storage.jobs.show("nightly")


def test_sync_down_to_this_computer(storage: Storage, source: Path, tmp_path: Path) -> None:
    storage.put(str(source), "aws:tree", recursive=True)
    storage.sync("aws:tree", str(tmp_path / "down"))
    assert read_tree(tmp_path / "down") == FILES


# ---- plan ----------------------------------------------------------------------------------------------------------

part = st.text(st.characters(exclude_characters="/\0", exclude_categories=["Cs"]), min_size=1, max_size=4).filter(
    lambda name: name not in (".", "..") and len(name.encode()) <= 255
)
trees = st.dictionaries(st.lists(part, min_size=1, max_size=3).map("/".join), st.binary(max_size=3), max_size=8)


def without_conflicts(tree: dict[str, bytes]) -> dict[str, bytes]:
    """Leave out files that would have to be directories too."""
    return {name: data for name, data in tree.items() if not any(other.startswith(name + "/") for other in tree)}


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(one=trees.map(without_conflicts), other=trees.map(without_conflicts))
def test_after_a_plan_is_done_the_destination_has_all_of_the_source(
    tmp_path_factory: pytest.TempPathFactory, one: dict[str, bytes], other: dict[str, bytes]
) -> None:
    roots = tmp_path_factory.mktemp("plan")
    source = Disk(str(write_tree(roots / "source", one)))
    destination = Disk(str(write_tree(roots / "destination", other)))

    def run() -> Report:
        sides = Side(source, "", True), Side(destination, "", True)
        return Transfer("copy", *sides, source.stat(""), parallel=2).run()

    report = run()
    clashes = {
        name for name in one if any(o.startswith(name + "/") or name.startswith(o + "/") or o == name for o in other)
    }
    result = read_tree(roots / "destination")
    failed = {Path(failure.name).relative_to(roots / "source").as_posix() for failure in report.failures}
    assert failed <= clashes
    assert result == other | {name: data for name, data in one.items() if name not in failed}
    second = run()
    assert (second.files, second.skipped) == (0, len(one) - len(failed))
