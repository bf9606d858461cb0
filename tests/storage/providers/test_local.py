"""What only the local disk has: links, special files, names that are not Unicode, permissions."""

from __future__ import annotations

import os
import socket
import threading
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

import pytest

from cloudmesh.storage.abc import Content, ServiceSettings
from cloudmesh.storage.errors import (
    AlreadyExists,
    ConfigError,
    DirectoryNotEmpty,
    InvalidName,
    NotADirectory,
    NotFound,
    PermissionDenied,
    SourceChanged,
)
from cloudmesh.storage.paths import TEMPORARY_PREFIX
from cloudmesh.storage.providers.local import LocalStorage


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "root"


@pytest.fixture
def disk(root: Path) -> LocalStorage:
    return LocalStorage(ServiceSettings("disk", "local", credentials={"directory": str(root)}))


def put(disk: LocalStorage, path: str, data: bytes = b"content") -> None:
    disk.write(path, Content.of_bytes(data))


def names(disk: LocalStorage, path: str = "") -> list[str]:
    return [entry.path for entry in disk.scan(path, recursive=True)]


@pytest.mark.parametrize(
    ("credentials", "directory", "place"),
    [
        ({"directory": "{}/a"}, "", "a"),
        ({"directory": "{}/a"}, "b", "a/b"),
        ({"directory": "{}/a"}, ".", "a"),
        ({"directory": "{}/a"}, "/", "a"),
        ({"directory": "{}/a"}, "~/elsewhere", "a"),
        ({}, "{}/c", "c"),
    ],
)
def test_root(tmp_path: Path, credentials: Mapping[str, str], directory: str, place: str) -> None:
    given = {key: value.format(tmp_path) for key, value in credentials.items()}
    disk = LocalStorage(ServiceSettings("disk", "local", root=directory.format(tmp_path), credentials=given))
    put(disk, "f")
    assert (tmp_path / place / "f").read_bytes() == b"content"


def test_root_below_home(home: Path) -> None:
    disk = LocalStorage(ServiceSettings("disk", "local", credentials={"directory": "~/files"}))
    put(disk, "f")
    assert (home.parent / "files" / "f").exists()


@pytest.mark.parametrize("directory", ["", "relative"])
def test_root_that_makes_no_sense(directory: str) -> None:
    with pytest.raises(ConfigError, match="disk"):
        LocalStorage(ServiceSettings("disk", "local", root=directory))


def test_missing_root_is_empty_and_made_by_the_first_write(disk: LocalStorage, root: Path) -> None:
    assert names(disk) == []
    assert disk.stat("").is_directory
    disk.probe()
    disk.flush()
    assert (disk.usage().total or 0) > 0
    assert not root.exists()
    put(disk, "f")
    assert root.is_dir()


def test_root_that_is_a_file(disk: LocalStorage, root: Path) -> None:
    root.write_bytes(b"here")
    with pytest.raises(NotADirectory):
        names(disk)
    with pytest.raises(NotADirectory):
        put(disk, "f")


# ---- links


def test_links_inside_are_followed(disk: LocalStorage, root: Path) -> None:
    put(disk, "d/f", b"here")
    (root / "to-file").symlink_to("d/f")
    (root / "to-directory").symlink_to("d")
    assert names(disk) == ["d", "d/f", "to-directory", "to-directory/f", "to-file"]
    assert disk.open_read("to-file").read() == b"here"
    assert disk.open_read("to-directory/f").read() == b"here"
    put(disk, "to-file", b"through")
    assert (root / "d" / "f").read_bytes() == b"through"
    assert (root / "to-file").is_symlink()


@pytest.mark.parametrize("kind", ["absolute", "relative", "chained"])
def test_links_that_lead_out(disk: LocalStorage, root: Path, tmp_path: Path, kind: str) -> None:
    (tmp_path / "secret").mkdir()
    (tmp_path / "secret" / "f").write_bytes(b"secret")
    put(disk, "f")
    if kind == "chained":
        (root / "first").symlink_to("../root/second")
        (root / "second").symlink_to(tmp_path / "secret")
    else:
        (root / "first").symlink_to(tmp_path / "secret" if kind == "absolute" else "../secret")
    assert names(disk) == ["f"]
    for path in ("first", "first/f"):
        with pytest.raises(PermissionDenied):
            disk.stat(path)
        with pytest.raises(PermissionDenied):
            disk.open_read(path)
        with pytest.raises(PermissionDenied):
            put(disk, path)
        with pytest.raises(PermissionDenied):
            disk.remove(path)
        with pytest.raises(PermissionDenied):
            disk.move_within(path, "taken")
        with pytest.raises(PermissionDenied):
            disk.move_within("f", path)
    with pytest.raises(PermissionDenied):
        disk.make_dir("first/new")
    with pytest.raises(PermissionDenied):
        names(disk, "first")
    assert [item.name for item in (tmp_path / "secret").iterdir()] == ["f"]
    assert (tmp_path / "secret" / "f").read_bytes() == b"secret"


def test_links_in_a_circle(disk: LocalStorage, root: Path) -> None:
    put(disk, "a/b/f")
    (root / "a" / "b" / "up").symlink_to("..")
    (root / "self").symlink_to("self")
    assert names(disk) == ["a", "a/b", "a/b/f", "a/b/up"]
    with pytest.raises(NotFound):
        disk.stat("self")


def test_links_to_nothing(disk: LocalStorage, root: Path) -> None:
    put(disk, "f")
    (root / "broken").symlink_to("nothing")
    assert names(disk) == ["f"]
    with pytest.raises(NotFound):
        disk.stat("broken")
    with pytest.raises(NotFound):
        disk.remove("broken")


def test_removing_a_link_leaves_what_it_leads_to(disk: LocalStorage, root: Path) -> None:
    put(disk, "d/f")
    (root / "link").symlink_to("d/f")
    (root / "dir").symlink_to("d")
    disk.remove("link")
    with pytest.raises(DirectoryNotEmpty):
        disk.remove_dir("dir")
    assert names(disk, "d") == ["d/f"]
    disk.remove("d/f")
    disk.remove_dir("dir")
    assert names(disk) == ["d"]


# ---- special files, foreign names, permissions


def test_special_files_are_left_out(disk: LocalStorage, root: Path) -> None:
    put(disk, "f")
    os.mkfifo(root / "pipe")
    listener = socket.socket(socket.AF_UNIX)
    here = os.getcwd()
    os.chdir(root)  # a socket's path can have 107 bytes only
    try:
        listener.bind("socket")
    finally:
        os.chdir(here)
        listener.close()
    assert names(disk) == ["f"]
    for name in ("pipe", "socket"):
        with pytest.raises(NotFound):
            disk.stat(name)
        with pytest.raises(NotFound):
            disk.remove(name)
        with pytest.raises(AlreadyExists):
            put(disk, name)
    with pytest.raises(NotFound):
        disk.open_read("pipe")


def test_names_that_are_not_unicode(disk: LocalStorage, root: Path) -> None:
    put(disk, "d/f")
    (root / os.fsdecode(b"d/\xff\xfe")).write_bytes(b"here")
    strange = [entry.path for entry in disk.scan("d")][1]
    assert os.fsencode(strange) == b"d/\xff\xfe"
    assert disk.open_read(strange).read() == b"here"
    with pytest.raises(InvalidName):
        put(disk, strange)
    with pytest.raises(InvalidName):
        disk.copy_within("d/f", strange)
    disk.move_within(strange, "d/healed")
    assert names(disk) == ["d", "d/f", "d/healed"]


@pytest.mark.parametrize("path", ["/etc/passwd", "../x", "a/../../x", "a//b", "a/", "./a"])
def test_paths_that_are_not_normalised(disk: LocalStorage, path: str) -> None:
    for call in (disk.stat, disk.open_read, disk.remove, disk.make_dir, disk.remove_dir):
        with pytest.raises(InvalidName):
            call(path)
    with pytest.raises(InvalidName):
        list(disk.scan(path))
    with pytest.raises(InvalidName):
        put(disk, path)


def test_a_replaced_file_keeps_its_permissions(disk: LocalStorage, root: Path) -> None:
    put(disk, "f")
    (root / "f").chmod(0o640)
    put(disk, "f", b"new")
    assert (root / "f").stat().st_mode & 0o777 == 0o640


def test_a_private_file_stays_private(disk: LocalStorage, root: Path, tmp_path: Path) -> None:
    source = tmp_path / "key"
    source.write_bytes(b"secret")
    source.chmod(0o600)
    disk.write("f", Content.of_file(source))
    assert (root / "f").stat().st_mode & 0o777 == 0o600
    disk.copy_within("f", "g")
    assert (root / "g").stat().st_mode & 0o777 == 0o600
    disk.download("g", tmp_path / "back")
    assert (tmp_path / "back").stat().st_mode & 0o777 == 0o600


# ---- temporary files


def test_temporary_files_are_not_listed(disk: LocalStorage, root: Path) -> None:
    put(disk, "f")
    (root / f"{TEMPORARY_PREFIX}0").write_bytes(b"half")
    assert names(disk) == ["f"]


def test_fresh_temporary_files_keep_a_directory(disk: LocalStorage, root: Path) -> None:
    disk.make_dir("d")
    (root / "d" / f"{TEMPORARY_PREFIX}0").write_bytes(b"half")
    with pytest.raises(DirectoryNotEmpty):
        disk.remove_dir("d")
    assert (root / "d" / f"{TEMPORARY_PREFIX}0").exists()


def test_old_temporary_files_do_not(disk: LocalStorage, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    disk.make_dir("d")
    (root / "d" / f"{TEMPORARY_PREFIX}0").write_bytes(b"half")
    import time

    now = time.time()
    monkeypatch.setattr(time, "time", lambda: now + 4000)
    disk.remove_dir("d")
    assert names(disk) == []


# ---- files that others write in place


def test_file_changed_in_place_while_read(disk: LocalStorage, root: Path) -> None:
    put(disk, "f", bytes(3 * 1024 * 1024))
    with disk.open_read("f") as reader:
        pieces = iter(reader)
        next(pieces)
        with (root / "f").open("r+b") as file:
            file.write(b"x")
            os.utime(file.fileno(), ns=(1, 1))
        with pytest.raises(SourceChanged):
            list(pieces)


def test_file_cut_short_while_read(disk: LocalStorage, root: Path) -> None:
    put(disk, "f", bytes(3 * 1024 * 1024))
    with disk.open_read("f") as reader:
        pieces = iter(reader)
        next(pieces)
        os.truncate(root / "f", 10)
        with pytest.raises(SourceChanged):
            list(pieces)


def test_native_copy_of_a_file_whose_size_the_kernel_does_not_tell(disk: LocalStorage) -> None:
    source = Path("/proc/self/cmdline")
    if not source.exists():
        pytest.fail("needs /proc")
    content = Content.of_file(source)
    disk.write("f", Content(open=content.open, path=source))
    assert disk.open_read("f").read() == source.read_bytes()


def test_directories_made_and_removed_while_writing(disk: LocalStorage) -> None:
    over = threading.Event()

    def remove() -> None:
        while not over.is_set():
            with suppress(NotFound, DirectoryNotEmpty):
                disk.remove_dir("d")

    thread = threading.Thread(target=remove)
    thread.start()
    try:
        for _ in range(200):
            put(disk, "d/f")
            disk.remove("d/f")
    finally:
        over.set()
        thread.join()


def test_move_of_directory_over_directory(disk: LocalStorage) -> None:
    put(disk, "a/f")
    put(disk, "b/g")
    from cloudmesh.storage.errors import IsADirectory

    with pytest.raises(IsADirectory):
        disk.move_within("a", "b")
    with pytest.raises(NotADirectory):
        disk.move_within("a", "b/g/h")
    assert names(disk) == ["a", "a/f", "b", "b/g"]
