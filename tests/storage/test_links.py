"""What becomes of this computer's symbolic links in a transfer."""

from __future__ import annotations

import logging
import os
from pathlib import Path

import pytest

from cloudmesh.storage.disk import Disk
from cloudmesh.storage.errors import NotFound, PermissionDenied
from cloudmesh.storage.local_files import Links
from tests.places import write_tree


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A tree with links of every kind: to files and directories, inside and outside, in circles and to nothing."""
    write_tree(tmp_path / "outside", {"f": b"outside", "d/g": b"deeper"})
    top = write_tree(tmp_path / "root", {"a": b"a", "dir/b": b"b"})
    (top / "in-file").symlink_to("a")
    (top / "in-dir").symlink_to("dir")
    (top / "out-file").symlink_to("../outside/f")
    (top / "out-dir").symlink_to(tmp_path / "outside")
    (top / "nowhere").symlink_to("../outside/nothing")
    (top / "self").symlink_to("self")
    (top / "dir/up").symlink_to("..")
    (tmp_path / "outside/back").symlink_to(top)
    (tmp_path / "outside/around").symlink_to(".")
    return top


REAL = ["a", "dir", "dir/b"]
INSIDE = ["a", "dir/b", "dir/up", "dir", "in-dir", "in-dir/b", "in-dir/up", "in-file"]
FOLLOWED = [
    *INSIDE, "out-dir", "out-dir/around", "out-dir/back", "out-dir/d", "out-dir/d/g", "out-dir/f", "out-file",
]  # fmt: skip


@pytest.mark.parametrize(
    ("links", "expected", "warned"),
    [
        ("inside", INSIDE, {"nowhere", "self", "out-file", "out-dir"}),
        ("follow", FOLLOWED, {"nowhere", "self"}),
        ("skip", REAL, set()),
    ],
)
def test_scan_follows_the_links_asked_for(
    root: Path, links: Links, expected: list[str], warned: set[str], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING)
    disk = Disk(str(root), links)
    found = list(disk.scan(recursive=True))
    assert [entry.sort_key for entry in found] == sorted(entry.sort_key for entry in found)
    assert sorted(entry.path for entry in found) == sorted(expected)
    for name in warned:
        assert f"{root}/{name}: left out, as it is a link that leads" in caplog.text
    assert len(caplog.records) == len(warned)
    for entry in found:
        if not entry.is_directory:
            with disk.open_read(entry.path) as reader:
                assert reader.read() == (root / entry.path).read_bytes()
            assert disk.stat(entry.path).size == entry.size == os.stat(root / entry.path).st_size


def test_what_leads_out_can_be_named_only_where_it_is_followed(root: Path) -> None:
    assert Disk(str(root), "follow").stat("out-dir/d/g").size == len(b"deeper")
    for links in ("inside", "skip"):
        for path in ("out-dir/d/g", "out-file", "out-dir"):
            with pytest.raises(PermissionDenied, match="a link leads out of the root directory"):
                Disk(str(root), links).stat(path)
    with pytest.raises(NotFound):
        Disk(str(root), "follow").stat("nowhere")


def test_links_are_followed_only_once_where_they_lead_back(root: Path) -> None:
    """Two directories that lead to each other end: no directory is entered inside itself."""
    write_tree(root.parent / "one", {"f": b"1"})
    write_tree(root.parent / "two", {"f": b"2"})
    (root.parent / "one/other").symlink_to("../two")
    (root.parent / "two/other").symlink_to("../one")
    found = [entry.path for entry in Disk(str(root.parent / "one"), "follow").scan(recursive=True)]
    assert found == ["f", "other", "other/f", "other/other"]
