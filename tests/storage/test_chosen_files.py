"""Transfers as the user asks for them: filters, policies and links, through the verbs and the command."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from cloudmesh.storage import Storage
from cloudmesh.storage.errors import UsageError
from cloudmesh.storage.layers.base import find_layer
from cloudmesh.storage.layers.meter import Meter
from cloudmesh.storage.manual import STORAGE
from cloudmesh.storage.transfer.options import TransferOptions
from cloudmesh.storage.transfer.report import Report
from deploy.servers import SeaweedFS
from tests.places import configure, local, read_tree, write_tree

FILES = {"a.jpg": b"a", "b.txt": b"bb", "dir/c.jpg": b"ccc", "dir/d.txt": b"dddd", "cache/e.jpg": b"eeeee"}


@pytest.fixture
def source(tmp_path: Path) -> Path:
    root = write_tree(tmp_path / "source", FILES)
    (root / "empty").mkdir()
    return root


@pytest.fixture
def there(tmp_path: Path) -> Path:
    return tmp_path / "service"


@pytest.fixture
def storage(home: Path, there: Path) -> Iterator[Storage]:
    configure(home, [local("one", there)])
    with Storage("one") as opened:
        yield opened


def put(storage: Storage, source: Path, **options: object) -> Report:
    return storage.put(str(source), ".", recursive=True, options=TransferOptions(**options))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"include": ("*.jpg",)}, {"a.jpg", "dir/c.jpg", "cache/e.jpg"}),
        ({"exclude": ("cache/", "*.txt")}, {"a.jpg", "dir/c.jpg"}),
        ({"include": ("/dir/**",)}, {"dir/c.jpg", "dir/d.txt"}),
        ({"min_size": 2, "max_size": 4}, {"b.txt", "dir/c.jpg", "dir/d.txt"}),
        ({"newer": "1d"}, set()),
        ({"newer": "2000-01-01"}, set(FILES)),
    ],
)
def test_only_concerned_files_go(
    storage: Storage, source: Path, there: Path, options: dict[str, object], expected: set[str]
) -> None:
    report = put(storage, source, **options)
    assert report.files == len(expected)
    assert set(read_tree(there)) == expected
    assert not (there / "empty").exists()


def test_without_a_filter_empty_directories_are_made(storage: Storage, source: Path, there: Path) -> None:
    put(storage, source)
    assert (there / "empty").is_dir()


def test_what_a_filter_leaves_out_is_not_removed_either(storage: Storage, source: Path, there: Path) -> None:
    put(storage, source)
    write_tree(there, {"mine.txt": b"mine", "old.jpg": b"old", "cache/old.jpg": b"old"})
    (source / "b.txt").unlink()
    put(storage, source, delete=True, exclude=("cache/", "*.txt"))
    left = read_tree(there)
    assert "old.jpg" not in left
    assert left["cache/old.jpg"] == b"old"
    assert left["mine.txt"] == b"mine"
    assert left["b.txt"] == b"bb"


def test_policies(storage: Storage, source: Path, there: Path) -> None:
    put(storage, source)
    status = (there / "a.jpg").stat()
    (there / "a.jpg").write_bytes(b"A")
    os.utime(there / "a.jpg", ns=(status.st_mtime_ns, status.st_mtime_ns + 10**9))
    assert put(storage, source, update=True).files == 0
    assert put(storage, source, size_only=True).files == 0
    os.utime(there / "a.jpg", ns=(status.st_mtime_ns, status.st_mtime_ns))
    assert put(storage, source, checksum=True).files == 1
    assert (there / "a.jpg").read_bytes() == b"a"


@pytest.mark.parametrize(
    ("links", "expected"),
    [
        ("inside", {*FILES, "near", "linked/c.jpg", "linked/d.txt"}),
        ("follow", {*FILES, "near", "far", "linked/c.jpg", "linked/d.txt"}),
        ("skip", set(FILES)),
    ],
)
@pytest.mark.parametrize("typed", ["path", "."])
def test_links(
    storage: Storage,
    source: Path,
    there: Path,
    links: str,
    expected: set[str],
    typed: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    write_tree(source.parent, {"outside": b"outside"})
    (source / "near").symlink_to("a.jpg")
    (source / "far").symlink_to("../outside")
    (source / "linked").symlink_to("dir")
    (source / "dir/up").symlink_to("..")
    monkeypatch.chdir(source)
    put(storage, source if typed == "path" else Path("."), links=links)
    assert set(read_tree(there)) == expected
    assert not any(path.is_symlink() for path in there.rglob("*"))


def test_command_takes_the_options(
    storage: Storage, source: Path, there: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "rules").write_text("- cache/\n+ *.jpg\n- *\n")
    typed = ["put", str(source), "one:", "--recursive", f"--filter-from={tmp_path}/rules", "--max-size=1K", "--quiet"]
    assert STORAGE.run(typed) == 0
    assert set(read_tree(there)) == {"a.jpg", "dir/c.jpg"}
    capsys.readouterr()
    for wrong, message in (
        ("--include=[a", "error: --include=[a: '[' without ']'"),
        ("--newer=soon", "error: --newer: 'soon' is not allowed"),
        ("--links=all", "error: --links: 'all' is not allowed (allowed is one of inside, follow, skip)"),
        ("--filter-from=/nowhere", "error: --filter-from=/nowhere: No such file or directory"),
        ("--max-delete=1", "error: --max-delete: limits --delete, which is not given"),
    ):
        assert STORAGE.run(["put", str(source), "one:", "--recursive", wrong]) == 2
        assert message in capsys.readouterr().err


def test_wrong_pattern_changes_nothing(storage: Storage, source: Path, there: Path) -> None:
    with pytest.raises(UsageError, match=r"--exclude=\*\*\*: more than two stars in a row"):
        put(storage, source, exclude=("***",))
    assert not there.exists() or read_tree(there) == {}


def test_newer_goes_by_when_a_file_was_modified_not_by_when_it_was_stored(
    home: Path, tmp_path: Path, source: Path, there: Path, seaweedfs: SeaweedFS
) -> None:
    configure(home, [local("one", there), seaweedfs.settings("aws", bucket=seaweedfs.make_bucket())])
    (source / "dir" / "new").write_bytes(b"new")
    with Storage("aws") as aws:
        aws.put(str(source), "tree", recursive=True)
        aws.put(str(source / "dir" / "c.jpg"), "tree/only there, but old")
        newer = TransferOptions(newer="1d")
        assert aws.get("tree", str(tmp_path / "got"), recursive=True, options=newer).files == 1
        assert read_tree(tmp_path / "got") == {"dir/new": b"new"}
        # at the destination of a mirror, too, an older file is not concerned
        mirror = TransferOptions(newer="1d", delete=True, max_delete="100%")
        report = aws.put(str(source), "tree", recursive=True, options=mirror)
        assert (report.skipped, report.removed, report.errors) == (1, 0, 0)
        # what was stored before was modified before: nothing is asked about it
        meter = find_layer(aws._services.open("aws"), Meter)
        assert meter is not None
        before = meter.snapshot().by_primitive["stat"].requests
        future = TransferOptions(newer="2100-01-01")
        assert aws.get("tree", str(tmp_path / "none"), recursive=True, options=future).files == 0
        assert meter.snapshot().by_primitive["stat"].requests - before == 1, "of the directory itself"
