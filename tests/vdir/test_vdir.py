"""The virtual directory through its API, over the local disk, S3 (SeaweedFS), WebDAV (WsgiDAV) and SFTP (OpenSSH)."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.request import urlopen

import pytest

from cloudmesh.storage import Storage
from cloudmesh.storage.abc import ServiceSettings
from cloudmesh.storage.errors import (
    AlreadyExists,
    ChecksumMismatch,
    ConfigError,
    InvalidName,
    IsADirectory,
    NotADirectory,
    NotFound,
    Refused,
    StorageError,
    Unsupported,
    UsageError,
    VaultError,
)
from cloudmesh.storage.paths import TEMPORARY_PREFIX
from cloudmesh.storage.transfer.report import Report
from cloudmesh.vdir import Vdir
from deploy.servers import OpenSsh, SeaweedFS, Wsgidav
from tests.faults import FaultProxy
from tests.places import configure, local, read_tree, write_tree

FILES = {"a.txt": b"alpha", "b/c.bin": bytes(range(256)) * 40, "b/d e/ü #%?.txt": b"names", "empty": b""}


@pytest.fixture
def disks(home: Path, tmp_path: Path) -> dict[str, Path]:
    """Three services on the local disk, by name."""
    roots = {name: tmp_path / name for name in ("one", "two", "three")}
    configure(home, [local(name, root) for name, root in roots.items()])
    return roots


@pytest.fixture
def vdir(disks: dict[str, Path]) -> Iterator[Vdir]:
    with Vdir() as opened:
        yield opened


@pytest.fixture
def source(tmp_path: Path) -> Path:
    return write_tree(tmp_path / "source", FILES)


def names(vdir: Vdir, directory: str = "/") -> list[str]:
    return [one.name for one in vdir.ls(directory, recursive=True) if one.kind == "file"]


# ---- names ---------------------------------------------------------------------------------------------------------


def test_names_are_made_listed_moved_and_removed(vdir: Vdir, source: Path, disks: dict[str, Path]) -> None:
    vdir.mkdir("/data")
    vdir.mkdir("/data/deep/er", parents=True)
    with pytest.raises(AlreadyExists):
        vdir.mkdir("/data")
    with pytest.raises(NotFound):
        vdir.mkdir("/nowhere/x")
    vdir.put(str(source / "a.txt"), "/data/", to=["one"])
    assert [one.name for one in vdir.ls("/data")] == ["a.txt", "deep"]
    vdir.move("/data/a.txt", "/data/deep")
    assert vdir.move("/data/deep", "/moved").path == "/moved"
    assert names(vdir) == ["moved/a.txt"]
    assert (disks["one"] / "data/a.txt").read_bytes() == b"alpha", "a move of names moves no file"
    assert b"".join(vdir.cat("/moved/a.txt")) == b"alpha"
    assert [line.tree for line in vdir.tree("/")] == ["data/", "moved/", "  a.txt", "  er/"]
    with pytest.raises(IsADirectory, match="recursive"):
        vdir.delete("/moved")
    vdir.delete("/moved", recursive=True)
    assert names(vdir) == []
    assert (disks["one"] / "data/a.txt").exists(), "without purge files stay"


def test_the_current_directory_is_shared_and_can_be_overridden(
    vdir: Vdir, source: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    vdir.mkdir("/data/deep", parents=True)
    assert vdir.cd("/data") == "/data"
    with Vdir() as other:
        assert other.pwd() == "/data"
        assert other.cd("deep") == "/data/deep"
        assert other.cd("..") == "/data"
    vdir.put(str(source / "a.txt"), to=["one"])
    assert names(vdir, "/data") == ["a.txt"]
    with pytest.raises(NotADirectory):
        vdir.cd("a.txt")
    with pytest.raises(NotFound):
        vdir.cd("/nowhere")
    monkeypatch.setenv("CDIR_CWD", "/data/deep")
    assert vdir.pwd() == "/data/deep"
    with pytest.raises(ConfigError, match="CDIR_CWD"):
        vdir.cd("/")
    monkeypatch.delenv("CDIR_CWD")
    assert vdir.cd() == "/"


def test_search_finds_names_by_pattern(vdir: Vdir, source: Path) -> None:
    vdir.put(str(source), "/data", to=["one"], recursive=True)
    assert [one.name for one in vdir.search("*.txt")] == ["data/a.txt", "data/b/d e/ü #%?.txt"]
    assert [one.name for one in vdir.search("*.bin", "/data")] == ["b/c.bin"]


def test_a_directory_is_not_called_as_a_service_nor_the_other_way_round(vdir: Vdir, source: Path) -> None:
    with pytest.raises(InvalidName, match="service"):
        vdir.mkdir("/one")
    with pytest.raises(InvalidName, match="service"):
        vdir.put(str(source / "a.txt"), "/one/x", to=["two"])
    vdir.mkdir("/data")
    with pytest.raises(InvalidName, match="service"):
        vdir.move("/data", "/two")
    with Storage() as storage, pytest.raises(AlreadyExists, match="top-level"):
        storage.config.add("data", kind="local", set=["directory=/tmp"], no_test=True)


# ---- put -----------------------------------------------------------------------------------------------------------


def test_put_stores_a_tree_at_its_virtual_path_on_every_service(
    vdir: Vdir, source: Path, disks: dict[str, Path]
) -> None:
    (source / "hollow").mkdir()
    report = vdir.put(str(source), "/data", to=["one", "two"], recursive=True)
    assert (report.files, report.bytes, report.errors) == (8, 2 * sum(map(len, FILES.values())), 0)
    for name in ("one", "two"):
        assert read_tree(disks[name] / "data") == FILES
    assert sorted(names(vdir, "/data")) == sorted(FILES)
    assert {one.name for one in vdir.ls("/data") if one.kind == "directory"} == {"b", "hollow"}
    info = next(one for one in vdir.ls("/data/a.txt"))
    assert (info.services, info.health, info.size) == (["one", "two"], "ok", 5)
    assert info.modified_ns == (source / "a.txt").stat().st_mtime_ns
    again = vdir.put(str(source), "/data", to=["one", "two"], recursive=True)
    assert (again.files, again.skipped) == (0, 4)


def test_put_counts_without_doing_anything(vdir: Vdir, source: Path, disks: dict[str, Path]) -> None:
    report = vdir.put(str(source), "/data", to=["one", "two"], recursive=True, dryrun=True)
    assert (report.files, report.dryrun) == (8, True)
    assert names(vdir) == []
    assert not disks["one"].exists()


def test_put_refuses_what_is_wrong_and_changes_nothing(vdir: Vdir, source: Path, disks: dict[str, Path]) -> None:
    with pytest.raises(NotFound, match=r"nothing\.txt"):
        vdir.put(str(source / "nothing.txt"), "/x", to=["one"])
    with pytest.raises(IsADirectory, match="recursive"):
        vdir.put(str(source), "/x", to=["one"])
    with pytest.raises(ConfigError, match="four"):
        vdir.put(str(source / "a.txt"), "/x", to=["four"])
    with pytest.raises(InvalidName):
        vdir.put(str(source / "a.txt"), "/../x", to=["one"])
    vdir.put(str(source / "a.txt"), "/file", to=["one"])
    with pytest.raises(NotADirectory, match="file"):
        vdir.put(str(source / "a.txt"), "/file/below", to=["one"])
    assert names(vdir) == ["file"]
    assert read_tree(disks["one"]) == {"file": b"alpha"}


def test_names_that_cannot_be_are_counted_and_the_others_go_on(
    vdir: Vdir, source: Path, disks: dict[str, Path]
) -> None:
    vdir.put(str(source / "a.txt"), "/data/b", to=["two"])
    (source / "not utf-8 \udcff").write_bytes(b"")
    report = vdir.put(str(source), "/data", to=["one"], recursive=True)
    assert sorted(Path(failure.name).name for failure in report.failures) == [
        "b",
        "c.bin",
        "d e",
        "not utf-8 \udcff",
        "ü #%?.txt",
    ]
    assert read_tree(disks["one"]) == {"data/a.txt": b"alpha", "data/empty": b""}


def test_a_foreign_file_in_the_way_is_never_overwritten_without_force(
    vdir: Vdir, source: Path, disks: dict[str, Path]
) -> None:
    write_tree(disks["one"], {"data/a.txt": b"somebody else's"})
    with pytest.raises(AlreadyExists, match=r"one:data/a\.txt.*force"):
        vdir.put(str(source / "a.txt"), "/data/a.txt", to=["one"])
    assert names(vdir) == [], "what has no good replica gets no name"
    report = vdir.put(str(source), "/data", to=["one", "two"], recursive=True)
    assert report.failed
    assert [failure.name for failure in report.failures] == ["/data/a.txt on one"]
    assert (disks["one"] / "data/a.txt").read_bytes() == b"somebody else's"
    assert read_tree(disks["two"] / "data") == FILES, "one failing does not stop the others"
    assert next(vdir.ls("/data/a.txt")).services == ["two"]
    vdir.put(str(source), "/data", to=["one", "two"], recursive=True, force=True)
    assert read_tree(disks["one"] / "data") == FILES


def test_other_content_under_a_name_is_refused_or_becomes_its_new_version_everywhere(
    vdir: Vdir, source: Path, disks: dict[str, Path]
) -> None:
    vdir.put(str(source / "a.txt"), "/a.txt", to=["one", "two"])
    (source / "a.txt").write_bytes(b"newer")
    with pytest.raises(AlreadyExists, match="other content"):
        vdir.put(str(source / "a.txt"), "/a.txt", to=["one"])
    assert (disks["one"] / "a.txt").read_bytes() == b"alpha"
    vdir.put(str(source / "a.txt"), "/a.txt", to=["three"], force=True)
    assert [(disks[name] / "a.txt").read_bytes() for name in disks] == [b"newer"] * 3
    info = next(vdir.ls("/a.txt"))
    assert (info.version, info.services, info.health) == (2, ["one", "three", "two"], "ok")
    assert b"".join(vdir.cat("/a.txt")) == b"newer"


def test_what_a_killed_put_left_is_completed_by_the_same_command(
    vdir: Vdir, source: Path, disks: dict[str, Path], home: Path
) -> None:
    """The process dies before every single thing that it does to the file system or the database, one run each."""
    script = """
import os, sys
from cloudmesh.vdir import Vdir
from cloudmesh.vdir.catalogue import Catalogue
left = int(sys.argv[3])
def deadly(owner, name):
    plain = getattr(owner, name)
    def dying(*arguments, **more):
        global left
        left -= 1
        if left < 0:
            os._exit(77)
        result = plain(*arguments, **more)
        left -= 1
        if left < 0:
            os._exit(77)
        return result
    setattr(owner, name, dying)
for name in ("mkdir", "utime", "replace", "unlink"):
    deadly(os, name)
for name in ("register", "update_replicas"):
    deadly(Catalogue, name)
Vdir(parallel=1).put(sys.argv[1], sys.argv[2], to=["one", "two"], recursive=True)
"""
    step = 0
    while True:
        target = f"/run{step}"
        died = subprocess.run([sys.executable, "-c", script, str(source), target, str(step)], check=False).returncode
        assert died in (0, 77)
        vdir.put(str(source), target, to=["one", "two"], recursive=True)
        assert [one.health for one in vdir.ls(target, recursive=True) if one.kind == "file"] == ["ok"] * 4
        for name in ("one", "two"):
            there = read_tree(disks[name] / target[1:])  # a file that was being written may be left, under our own name
            assert {path: data for path, data in there.items() if TEMPORARY_PREFIX not in path} == FILES
        assert not vdir.status(target, check=True).problems
        if died == 0:
            break
        step += 1
    assert step > 10, "the steps were really died at"


def test_a_put_to_a_service_that_is_away_completes_on_the_others_and_later_there(
    home: Path, tmp_path: Path, source: Path, wsgidav: Wsgidav, fault_proxy: Callable[[int], FaultProxy]
) -> None:
    proxy = fault_proxy(wsgidav.port)
    configure(home, [local("one", tmp_path / "one"), wsgidav.settings("dav", root="away", port=proxy.port)])
    proxy.refuse()
    with Vdir() as vdir:
        report = vdir.put(str(source / "a.txt"), "/a.txt", to=["one", "dav"])
        assert report.failed
        assert report.failures[0].name == "/a.txt on dav"
        assert next(vdir.ls("/a.txt")).health == "degraded"
        proxy.heal()
        assert vdir.sync("/a.txt").files == 1
        assert next(vdir.ls("/a.txt")).services == ["dav", "one"]
    with Storage() as storage:
        assert b"".join(storage.cat("dav:a.txt")) == b"alpha"


# ---- add -----------------------------------------------------------------------------------------------------------


def test_add_registers_one_a_list_a_pattern_and_a_tree_in_place(vdir: Vdir, disks: dict[str, Path]) -> None:
    write_tree(disks["one"], {f"raw/f{i}.csv": b"%d" % i for i in range(1, 5)} | {"raw/deep/x.txt": b"x"})
    assert vdir.add("one:raw/f1.csv", "/first.csv").files == 1
    assert vdir.add("one:raw/f[2-3].csv", "/list/").files == 2
    assert vdir.add("one:raw/*.csv", "/pattern").files == 4
    assert vdir.add("one:raw", "/tree", recursive=True).files == 5
    assert names(vdir) == [
        "first.csv",
        "list/f2.csv",
        "list/f3.csv",
        *(f"pattern/f{i}.csv" for i in range(1, 5)),
        "tree/deep/x.txt",
        *(f"tree/f{i}.csv" for i in range(1, 5)),
    ]
    assert b"".join(vdir.cat("/tree/deep/x.txt")) == b"x"
    assert vdir.add("one:raw", "/tree", recursive=True).skipped == 5


def test_add_takes_further_replicas_of_the_same_content_only(vdir: Vdir, disks: dict[str, Path]) -> None:
    write_tree(disks["one"], {"x": b"same"})
    write_tree(disks["two"], {"copy": b"same"})
    write_tree(disks["three"], {"other": b"else"})
    vdir.add("one:x", "/x")
    vdir.add("two:copy", "/x")
    assert next(vdir.ls("/x")).services == ["one", "two"]
    with pytest.raises(AlreadyExists, match="other content"):
        vdir.add("three:other", "/x")
    assert next(vdir.ls("/x")).services == ["one", "two"]


def test_add_refuses_what_is_wrong(vdir: Vdir, disks: dict[str, Path]) -> None:
    write_tree(disks["one"], {"dir/x": b""})
    with pytest.raises(UsageError, match="FILEENDPOINT"):
        vdir.add()
    with pytest.raises(NotFound):
        vdir.add("one:nothing", "/x")
    with pytest.raises(NotFound, match="pattern"):
        vdir.add("one:dir/*.csv", "/x")
    with pytest.raises(IsADirectory, match="recursive"):
        vdir.add("one:dir", "/x")
    with pytest.raises(ConfigError, match="four"):
        vdir.add("four:x", "/x")
    assert vdir.add("one:dir", "/x", recursive=True, dryrun=True).files == 1
    assert names(vdir) == []


def test_add_counts_the_names_that_cannot_be_and_the_others_go_on(
    vdir: Vdir, source: Path, disks: dict[str, Path]
) -> None:
    vdir.put(str(source / "a.txt"), "/data/b", to=["two"])
    write_tree(disks["one"], {"raw/a": b"1", "raw/b/c": b"2", "raw/not utf-8 \udcff": b"", "raw/z": b"3"})
    report = vdir.add("one:raw", "/data", recursive=True)
    assert [failure.name for failure in report.failures] == ["one:raw/b", "one:raw/not utf-8 \udcff", "/data/b/c"]
    assert (report.files, report.bytes, report.errors) == (2, 2, 3)
    assert names(vdir) == ["data/a", "data/b", "data/z"]


# ---- get, cat, url -------------------------------------------------------------------------------------------------


def test_get_brings_a_file_and_a_tree_back(vdir: Vdir, source: Path, tmp_path: Path) -> None:
    (source / "hollow").mkdir()
    vdir.put(str(source), "/data", to=["one"], recursive=True)
    back = tmp_path / "back"
    assert vdir.get("/data", str(back), recursive=True).files == 4
    assert read_tree(back) == FILES
    assert (back / "hollow").is_dir()
    assert (back / "a.txt").stat().st_mtime_ns == (source / "a.txt").stat().st_mtime_ns
    assert vdir.get("/data", str(back), recursive=True).skipped == 4
    vdir.get("/data/a.txt", str(back / "b"))
    assert (back / "b/a.txt").read_bytes() == b"alpha"
    vdir.get("/data/a.txt", str(back / "new name"))
    assert (back / "new name").read_bytes() == b"alpha"
    with pytest.raises(IsADirectory, match="recursive"):
        vdir.get("/data", str(back))
    with pytest.raises(NotFound):
        vdir.get("/nothing", str(back))


def test_get_replaces_a_file_with_other_content_only_with_force(vdir: Vdir, source: Path, tmp_path: Path) -> None:
    vdir.put(str(source), "/data", to=["one"], recursive=True)
    back = write_tree(tmp_path / "back", {"a.txt": b"ALPHA", "empty": b"not"})
    seen = (source / "a.txt").stat()
    os.utime(back / "a.txt", ns=(seen.st_atime_ns, seen.st_mtime_ns))
    report = vdir.get("/data", str(back), recursive=True)
    assert sorted(Path(one.name).name for one in report.failures) == ["a.txt", "empty"]
    assert all("force" in one.error for one in report.failures)
    assert read_tree(back) == FILES | {"a.txt": b"ALPHA", "empty": b"not"}
    with pytest.raises(AlreadyExists, match="force"):
        vdir.get("/data/a.txt", str(back / "a.txt"))
    assert vdir.get("/data", str(back), recursive=True, force=True).files == 2
    assert read_tree(back) == FILES


def test_a_single_put_compares_bytes_and_not_times(vdir: Vdir, source: Path) -> None:
    vdir.put(str(source / "a.txt"), "/a.txt", to=["one"])
    seen = (source / "a.txt").stat()
    (source / "a.txt").write_bytes(b"ALPHA")
    os.utime(source / "a.txt", ns=(seen.st_atime_ns, seen.st_mtime_ns))
    with pytest.raises(AlreadyExists, match="other content"):
        vdir.put(str(source / "a.txt"), "/a.txt", to=["one"])


def test_what_cannot_be_taken_along_is_said(
    vdir: Vdir, source: Path, disks: dict[str, Path], caplog: pytest.LogCaptureFixture
) -> None:
    (source / "outside").symlink_to("/etc/hostname")
    (source / "nowhere").symlink_to("gone")
    (source / "inside").symlink_to("a.txt")
    os.mkfifo(source / "pipe")
    vdir.put(str(source), "/data", to=["one"], recursive=True)
    assert read_tree(disks["one"] / "data") == FILES | {"inside": b"alpha"}
    for name in ("outside", "nowhere", "pipe"):
        assert f"{name}: left out" in caplog.text


def test_get_goes_on_to_the_next_replica_when_one_fails_or_is_wrong(
    vdir: Vdir, source: Path, disks: dict[str, Path], tmp_path: Path
) -> None:
    vdir.put(str(source / "a.txt"), "/a.txt", to=["one", "two", "three"])
    (disks["one"] / "a.txt").unlink()
    (disks["two"] / "a.txt").write_bytes(b"wrong")
    assert vdir.get("/a.txt", str(tmp_path / "got")).files == 1
    assert (tmp_path / "got").read_bytes() == b"alpha"
    assert b"".join(vdir.cat("/a.txt")) == b"alpha"


def test_wrong_bytes_never_arrive(vdir: Vdir, source: Path, disks: dict[str, Path], tmp_path: Path) -> None:
    """Bytes flipped on the disk, behind the back of everything that the file system tells."""
    vdir.put(str(source / "a.txt"), "/a.txt", to=["one"])
    there = disks["one"] / "a.txt"
    seen = there.stat()
    with there.open("r+b") as file:
        file.write(b"ALPHA")
    os.utime(there, ns=(seen.st_atime_ns, seen.st_mtime_ns))
    (tmp_path / "got").write_bytes(b"as before")
    with pytest.raises(ChecksumMismatch):
        vdir.get("/a.txt", str(tmp_path / "got"), force=True)
    assert (tmp_path / "got").read_bytes() == b"as before"
    with pytest.raises(StorageError):
        vdir.copy("/a.txt", to=["two"])
    assert not (disks["two"] / "a.txt").exists()


def test_a_name_with_a_service_before_it_is_the_replica_there(vdir: Vdir, source: Path, disks: dict[str, Path]) -> None:
    vdir.put(str(source / "a.txt"), "/a.txt", to=["one", "two"])
    assert b"".join(vdir.cat("two:/a.txt")) == b"alpha"
    for read in (vdir.cat, vdir.why):
        with pytest.raises(NotFound, match="no such replica"):
            list(read("three:/a.txt"))


def test_get_counts_a_directory_that_a_file_is_in_the_way_of_and_the_others_go_on(
    vdir: Vdir, source: Path, tmp_path: Path
) -> None:
    vdir.put(str(source), "/data", to=["one"], recursive=True)
    write_tree(tmp_path / "back", {"b": b"mine"})
    report = vdir.get("/data", str(tmp_path / "back"), recursive=True)
    assert [failure.name for failure in report.failures] == [
        str(tmp_path / "back/b"),
        str(tmp_path / "back/b/d e"),
        "/data/b/c.bin",
        "/data/b/d e/ü #%?.txt",
    ]
    assert read_tree(tmp_path / "back") == {"a.txt": b"alpha", "b": b"mine", "empty": b""}


def test_a_service_that_cannot_be_opened_does_not_stop_the_others(
    vdir: Vdir, source: Path, home: Path, disks: dict[str, Path], tmp_path: Path
) -> None:
    vdir.put(str(source / "a.txt"), "/data/a", to=["one"])
    vdir.put(str(source / "a.txt"), "/data/b", to=["one", "two"])
    vdir.put(str(source / "a.txt"), "/data/c", to=["two"])
    (disks["two"] / "data/b").unlink()
    left = [local(name, disks[name]) for name in ("two", "three")]
    configure(home, [ServiceSettings("one", "of no kind"), *left])
    with Vdir() as other:
        for report in (
            other.get("/data", str(tmp_path / "back"), recursive=True),
            other.copy("/data", to=["three"], recursive=True),
        ):
            assert "of no kind" in {failure.name: failure.error for failure in report.failures}["/data/a"]
            assert (report.files, report.errors) == (1, 2)
        healed = other.sync("/data")
        assert {failure.name for failure in healed.failures} == {"one", "/data/b on two", "/data/b on three"}
        assert healed.skipped == 2, "both replicas of c"
    configure(home, [ServiceSettings("one", "sftp", credentials={"host": "127.0.0.1"}), *left])
    (home / "vault.age").write_bytes(b"damaged")
    with Vdir() as other, pytest.raises(VaultError):  # not once for every name: each might ask for a passphrase
        other.get("/data", str(tmp_path / "again"), recursive=True)


def test_what_is_wrong_with_a_target_is_told_once_before_anything_is_changed(
    vdir: Vdir, source: Path, home: Path, disks: dict[str, Path]
) -> None:
    vdir.put(str(source), "/data", to=["two"], recursive=True)
    configure(home, [ServiceSettings("one", "sftp", credentials={"host": "127.0.0.1"}), local("two", disks["two"])])
    (home / "vault.age").write_bytes(b"damaged")
    with Vdir() as other:
        with pytest.raises(VaultError):
            other.put(str(source), "/new", to=["two", "one"], recursive=True)
        with pytest.raises(VaultError):
            other.copy("/data", to=["one"], recursive=True)
        assert [one.services for one in other.ls("/", recursive=True) if one.kind == "file"] == [["two"]] * len(FILES)
    assert not (disks["two"] / "new").exists()


# ---- copy, drop, delete --purge ------------------------------------------------------------------------------------


def test_copy_duplicates_and_drop_takes_away_but_never_the_last(
    vdir: Vdir, source: Path, disks: dict[str, Path]
) -> None:
    vdir.put(str(source), "/data", to=["one"], recursive=True)
    assert vdir.copy("/data", to=["two"], recursive=True, dryrun=True).files == 4
    assert vdir.copy("/data", to=["two"], recursive=True).files == 4
    assert vdir.copy("/data", to=["two"], recursive=True).skipped == 4
    assert read_tree(disks["two"] / "data") == FILES
    assert vdir.drop("/data", from_=["one"], recursive=True, dryrun=True).files == 4
    assert read_tree(disks["one"] / "data") == FILES
    assert vdir.drop("/data", from_=["one"], recursive=True).files == 4
    assert not (disks["one"] / "data").exists(), "directories left empty go too"
    report = vdir.drop("/data", from_=["two"], recursive=True)
    assert (report.files, report.errors) == (0, 4)
    assert read_tree(disks["two"] / "data") == FILES
    with pytest.raises(Refused, match="last good replica"):
        vdir.drop("/data/a.txt", from_=["two"])
    with pytest.raises(NotFound, match="no such replica"):
        vdir.drop("/data/a.txt", from_=["one"])


def test_drop_asks_the_other_service_right_then(vdir: Vdir, source: Path, disks: dict[str, Path]) -> None:
    vdir.put(str(source / "a.txt"), "/a.txt", to=["one", "two"])
    (disks["two"] / "a.txt").unlink()
    with pytest.raises(Refused, match="last good replica"):
        vdir.drop("/a.txt", from_=["one"])
    assert (disks["one"] / "a.txt").read_bytes() == b"alpha"


def test_drop_leaves_a_file_that_somebody_changed(vdir: Vdir, source: Path, disks: dict[str, Path]) -> None:
    vdir.put(str(source / "a.txt"), "/a.txt", to=["one", "two"])
    (disks["one"] / "a.txt").write_bytes(b"their work")
    with pytest.raises(Refused, match="changed"):
        vdir.drop("/a.txt", from_=["one"])
    assert (disks["one"] / "a.txt").read_bytes() == b"their work"


def test_a_name_that_is_there_is_put_where_it_is(vdir: Vdir, source: Path, disks: dict[str, Path]) -> None:
    vdir.put(str(source / "a.txt"), "/a.txt", to=["two", "three"])
    assert vdir.put(str(source / "a.txt"), "/a.txt").skipped == 1
    vdir.put(str(source / "b/c.bin"), "/a.txt", force=True)
    assert next(vdir.ls("/a.txt")).services == ["three", "two"]
    vdir.put(str(source / "a.txt"), "/new.txt")
    assert next(vdir.ls("/new.txt")).services == ["local"]


def test_copy_leaves_a_foreign_file_alone(vdir: Vdir, source: Path, disks: dict[str, Path]) -> None:
    vdir.put(str(source / "a.txt"), "/a.txt", to=["one"])
    write_tree(disks["two"], {"a.txt": b"theirs"})
    with pytest.raises(AlreadyExists, match="not ours"):
        vdir.copy("/a.txt", to=["two"])
    assert (disks["two"] / "a.txt").read_bytes() == b"theirs"
    assert next(vdir.ls("/a.txt")).health == "ok"


def test_purge_removes_the_files_too_but_not_those_that_another_name_uses(
    vdir: Vdir, source: Path, disks: dict[str, Path]
) -> None:
    vdir.put(str(source), "/data", to=["one", "two"], recursive=True)
    vdir.add("one:data/a.txt", "/other name")
    assert vdir.delete("/data", recursive=True, purge=True, accept_loss=True, dryrun=True).files == 4
    assert read_tree(disks["two"] / "data") == FILES
    vdir.delete("/data", recursive=True, purge=True, accept_loss=True)
    assert names(vdir) == ["other name"]
    assert read_tree(disks["one"]) == {"data/a.txt": b"alpha"}
    assert read_tree(disks["two"]) == {}
    assert b"".join(vdir.cat("/other name")) == b"alpha"


def test_purge_leaves_a_file_that_somebody_changed_and_all_of_its_replicas(
    vdir: Vdir, source: Path, disks: dict[str, Path]
) -> None:
    vdir.put(str(source), "/data", to=["one", "two"], recursive=True)
    (disks["two"] / "data/a.txt").write_bytes(b"their work")
    report = vdir.delete("/data", recursive=True, purge=True, accept_loss=True)
    assert (report.files, [one.name for one in report.failures]) == (3, ["/data/a.txt on two"])
    assert names(vdir) == ["data/a.txt"]
    assert b"".join(vdir.cat("/data/a.txt")) == b"alpha"
    assert (disks["two"] / "data/a.txt").read_bytes() == b"their work"


def test_a_purge_of_the_root_is_refused_before_anything_is_removed(
    vdir: Vdir, source: Path, disks: dict[str, Path]
) -> None:
    vdir.put(str(source), "/", to=["one"], recursive=True)
    with pytest.raises(Refused, match="root"):
        vdir.delete("/", recursive=True, purge=True, accept_loss=True)
    assert read_tree(disks["one"]) == FILES


def test_purge_of_two_names_of_one_file_removes_it(vdir: Vdir, source: Path, disks: dict[str, Path]) -> None:
    vdir.put(str(source / "a.txt"), "/data/a.txt", to=["one"])
    vdir.add("one:data/a.txt", "/data/again.txt")
    vdir.delete("/data", recursive=True, purge=True, accept_loss=True)
    assert read_tree(disks["one"]) == {}


def test_the_file_of_another_name_is_never_overwritten_nor_dropped(
    vdir: Vdir, source: Path, disks: dict[str, Path]
) -> None:
    vdir.put(str(source / "a.txt"), "/a.txt", to=["one", "two"])
    vdir.move("/a.txt", "/moved")
    with pytest.raises(AlreadyExists, match="another name"):
        vdir.put(str(source / "b/c.bin"), "/a.txt", to=["one"], force=True)
    assert b"".join(vdir.cat("one:/moved")) == b"alpha"
    vdir.add("one:a.txt", "/second")
    vdir.drop("/moved", from_=["one"])
    assert b"".join(vdir.cat("/second")) == b"alpha"


def test_add_refuses_a_file_that_was_changed_since(vdir: Vdir, disks: dict[str, Path]) -> None:
    write_tree(disks["one"], {"x": b"first"})
    vdir.add("one:x", "/x")
    (disks["one"] / "x").write_bytes(b"later")
    with pytest.raises(AlreadyExists, match="other content"):
        vdir.add("one:x", "/x")


def test_a_touched_replica_is_read_and_wrong_bytes_are_told(vdir: Vdir, source: Path, disks: dict[str, Path]) -> None:
    vdir.put(str(source / "a.txt"), "/a.txt", to=["one"])
    (disks["one"] / "a.txt").touch()
    assert b"".join(vdir.cat("/a.txt")) == b"alpha"
    (disks["one"] / "a.txt").write_bytes(b"ALPHA")
    with pytest.raises(StorageError):
        list(vdir.cat("/a.txt"))


# ---- status, sync, why, prefer -------------------------------------------------------------------------------------


def test_status_finds_what_is_missing_and_changed_and_sync_mends_it(
    vdir: Vdir, source: Path, disks: dict[str, Path]
) -> None:
    vdir.put(str(source), "/data", to=["one", "two", "three"], recursive=True)
    assert not vdir.status("/data", check=True).failed
    (disks["one"] / "data/a.txt").unlink()
    (disks["two"] / "data/b/c.bin").write_bytes(b"their work")
    assert not vdir.status("/data").failed, "without a check only what is known is told"
    status = vdir.status("/data", check=True)
    assert {(one.name, one.service, one.state) for one in status.problems} == {
        ("/data/a.txt", "one", "missing"),
        ("/data/b/c.bin", "two", "stale"),
    }
    assert vdir.sync("/data", dryrun=True).files == 3
    report = vdir.sync("/data")
    assert (report.files, report.versions, report.errors) == (3, 1, 0)
    assert (disks["one"] / "data/a.txt").read_bytes() == b"alpha"
    for root in disks.values():
        assert (root / "data/b/c.bin").read_bytes() == b"their work", "what others wrote is the newest version"
    assert not vdir.status("/data", check=True).failed


def test_a_service_that_has_lost_everything_is_not_believed_unasked(
    vdir: Vdir, tmp_path: Path, disks: dict[str, Path]
) -> None:
    many = write_tree(tmp_path / "many", {f"f{i}": b"%d" % i for i in range(12)})
    vdir.put(str(many), "/data", to=["one", "two"], recursive=True)
    disks["two"].rename(tmp_path / "unmounted")
    report = vdir.sync("/data")
    assert (report.files, report.errors) == (0, 1)
    assert "mounted" in report.failures[0].error
    assert not disks["two"].exists()
    assert vdir.sync("/data", dryrun=True, accept_loss=True).files == 12
    assert vdir.sync("/data", accept_loss=True).files == 12
    assert not vdir.status("/data", check=True).failed


def test_a_touched_file_with_the_same_content_is_no_change(vdir: Vdir, source: Path, disks: dict[str, Path]) -> None:
    vdir.put(str(source / "a.txt"), "/a.txt", to=["one", "two"])
    (disks["one"] / "a.txt").write_bytes(b"alpha")
    assert not vdir.status("/a.txt", check=True).failed
    assert next(vdir.ls("/a.txt")).health == "ok"


def test_a_service_that_is_away_makes_no_replica_bad(
    home: Path, tmp_path: Path, source: Path, wsgidav: Wsgidav, fault_proxy: Callable[[int], FaultProxy]
) -> None:
    proxy = fault_proxy(wsgidav.port)
    configure(home, [local("one", tmp_path / "one"), wsgidav.settings("dav", root="gone", port=proxy.port)])
    with Vdir() as vdir:
        vdir.put(str(source / "a.txt"), "/a.txt", to=["one", "dav"])
        vdir.prefer("/", ["dav"])
        proxy.refuse()
        status = vdir.status("/a.txt", check=True)
        assert [(one.service, one.state, bool(one.detail)) for one in status.problems] == [("dav", "available", True)]
        assert b"".join(vdir.cat("/a.txt")) == b"alpha", "read from the other one"
        proxy.heal()
        assert not vdir.status("/a.txt", check=True).failed


def test_the_preferred_replica_is_chosen_and_explained(vdir: Vdir, source: Path, disks: dict[str, Path]) -> None:
    vdir.put(str(source / "a.txt"), "/d/a.txt", to=["one", "two", "three"])
    assert [one.service for one in vdir.why("/d/a.txt")] == ["one", "three", "two"]
    vdir.prefer("/d", ["two", "three"])
    ranked = vdir.why("/d/a.txt")
    assert [(one.rank, one.service) for one in ranked] == [(1, "two"), (2, "three"), (3, "one")]
    assert ranked[0].reason == "set: 1 against 2 of three"
    assert [(one.set, one.speed, one.location, one.cost) for one in ranked] == [
        ("1", "0 s", "-", "$0"),
        ("2", "0 s", "-", "$0"),
        ("-", "0 s", "-", "$0"),
    ]
    vdir.prefer("/d/a.txt", ["three"])
    assert vdir.why("/d/a.txt")[0].service == "three"
    vdir.prefer("/d/a.txt")
    assert vdir.why("/d/a.txt")[0].service == "two"
    (disks["two"] / "d/a.txt").unlink()
    (disks["two"] / "other").write_bytes(b"a service without any file is not believed")
    vdir.status("/d", check=True)
    last = vdir.why("/d/a.txt")[-1]
    assert (last.service, last.rank, last.reason) == ("two", None, "its state is missing")
    with pytest.raises(ConfigError, match="four"):
        vdir.prefer("/d", ["four"])


# ---- real services together ----------------------------------------------------------------------------------------


def test_one_tree_over_local_s3_webdav_and_sftp(
    home: Path, tmp_path: Path, source: Path, seaweedfs: SeaweedFS, wsgidav: Wsgidav, openssh: OpenSsh
) -> None:
    bucket = seaweedfs.make_bucket()
    services = [
        local("disk", tmp_path / "disk"),
        seaweedfs.settings("aws", bucket=bucket),
        wsgidav.settings("dav", root="vdir"),
        openssh.settings("lab", root="vdir"),
    ]
    configure(home, services)
    everywhere = [one.name for one in services]
    with Vdir() as vdir:
        report = vdir.put(str(source), "/data", to=everywhere, recursive=True)
        assert (report.files, report.errors) == (16, 0), report.failures
        assert not vdir.status("/data", check=True).failed
        for name in everywhere:
            vdir.prefer("/", [name])
            back = tmp_path / f"back-{name}"
            assert vdir.get("/data", str(back), recursive=True).files == 4
            assert read_tree(back) == FILES
        with urlopen(vdir.url("/data/b/d e/ü #%?.txt")) as answer:
            assert answer.read() == b"names"
        with Storage() as storage:
            for name in everywhere:
                storage.delete(f"{name}:data/a.txt") if name != "lab" else None
        assert vdir.sync("/data").files == 3
        assert not vdir.status("/data", check=True).failed
        assert vdir.drop("/data", from_=["aws", "dav", "disk"], recursive=True).files == 12
        with pytest.raises(Unsupported, match="lab"):
            vdir.url("/data/a.txt")
        assert vdir.copy("/data", to=["aws"], recursive=True).files == 4
        assert not vdir.status("/data", check=True).failed


def test_the_catalogue_may_be_in_postgresql(
    disks: dict[str, Path], source: Path, tmp_path: Path, database_url: str, monkeypatch: pytest.MonkeyPatch, home: Path
) -> None:
    monkeypatch.setenv("CDIR_DATABASE", database_url)
    with Vdir() as vdir:
        vdir.put(str(source), "/data", to=["one", "two"], recursive=True)
        (disks["one"] / "data/a.txt").unlink()
        assert vdir.sync("/data").files == 1
        vdir.move("/data", "/moved")
        vdir.prefer("/moved", ["two"])
    with Vdir() as vdir:
        assert vdir.get("/moved", str(tmp_path / "back"), recursive=True).files == 4
        assert vdir.why("/moved/a.txt")[0].service == "two"
        assert vdir.delete("/moved", recursive=True, purge=True, accept_loss=True).files == 4
    assert read_tree(tmp_path / "back") == FILES
    assert read_tree(disks["one"]) == {}
    assert not (home / "vdir.db").exists()


def test_export_and_import_bring_the_catalogue_back(vdir: Vdir, source: Path, tmp_path: Path) -> None:
    vdir.put(str(source), "/data", to=["one", "two"], recursive=True)
    vdir.prefer("/data", ["two"])
    file = tmp_path / "catalogue.jsonl"
    report = vdir.export(str(file))
    assert isinstance(report, Report)
    assert (report.files, report.bytes) == (len(list(vdir.ls("/", recursive=True))), file.stat().st_size)
    before = [(one.path, one.services, one.sha256) for one in vdir.ls("/", recursive=True)]
    vdir.delete("/data", recursive=True)
    vdir.import_(str(file))
    assert [(one.path, one.services, one.sha256) for one in vdir.ls("/", recursive=True)] == before
    assert vdir.why("/data/a.txt")[0].service == "two"
    vdir.delete("/data", recursive=True)
    assert vdir.import_(str(file), dryrun=True).new == len(before)
    assert names(vdir) == []
    file.write_text(file.read_text() + "not a line\n")
    with pytest.raises(StorageError, match="line"):
        vdir.import_(str(file))
    with pytest.raises(NotFound):
        vdir.import_(str(tmp_path / "nothing"))
