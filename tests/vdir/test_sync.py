"""`sync`, `history` and `restore` through the API, over the local disk, S3, WebDAV and SFTP."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from cloudmesh.storage.errors import Refused
from cloudmesh.vdir import Vdir
from tests.places import configure, local, read_tree, write_tree

FILES = {"a.txt": b"alpha", "b/c.bin": bytes(range(256)) * 40, "b/d e/ü #%?.txt": b"names", "empty": b""}
SERVICES = ("one", "two", "three")


@pytest.fixture
def disks(home: Path, tmp_path: Path) -> dict[str, Path]:
    """Three services on the local disk, by name, with the same files on each."""
    roots = {name: tmp_path / name for name in SERVICES}
    configure(home, [local(name, root) for name, root in roots.items()])
    source = write_tree(tmp_path / "source", FILES)
    with Vdir() as vdir:
        vdir.put(str(source), "/data", to=list(SERVICES), recursive=True)
    return roots


@pytest.fixture
def vdir(disks: dict[str, Path]) -> Iterator[Vdir]:
    with Vdir() as opened:
        yield opened


def edit(root: Path, name: str, content: bytes, *, age_s: float = 0.0) -> None:
    """Change a file as somebody else would, so long ago."""
    path = root / "data" / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    when = time.time_ns() - int(age_s * 1e9)
    os.utime(path, ns=(when, when))


def all_hold(disks: dict[str, Path], files: dict[str, bytes]) -> None:
    for root in disks.values():
        assert read_tree(root / "data") == files


def converged(vdir: Vdir) -> None:
    """Everything is good, and a second sync does nothing."""
    again = vdir.sync("/")
    assert not again, again
    assert not again.errors
    assert not vdir.status("/", check=True).problems


def test_nothing_changed(vdir: Vdir, disks: dict[str, Path]) -> None:
    report = vdir.sync("/data")
    assert (report.checked, report.skipped, report.files, report.errors) == (4, 12, 0, 0)
    assert not report


def test_a_changed_replica_becomes_the_new_version_everywhere(vdir: Vdir, disks: dict[str, Path]) -> None:
    edit(disks["two"], "a.txt", b"their newer work")
    plan = vdir.sync("/data", dryrun=True)
    assert (plan.versions, plan.files) == (1, 2)
    assert {(one.action, one.name) for one in plan.plan} == {
        ("replace", "/data/a.txt on one"),
        ("replace", "/data/a.txt on three"),
    }
    assert (disks["one"] / "data/a.txt").read_bytes() == b"alpha"
    report = vdir.sync("/data")
    assert (report.versions, report.conflicts, report.files, report.errors) == (1, 0, 2, 0), report.failures
    all_hold(disks, FILES | {"a.txt": b"their newer work"})
    assert next(vdir.ls("/data/a.txt")).version == 2
    converged(vdir)


def test_the_same_change_on_several_services_is_one_version(vdir: Vdir, disks: dict[str, Path]) -> None:
    edit(disks["one"], "a.txt", b"same")
    edit(disks["two"], "a.txt", b"same", age_s=100)
    report = vdir.sync("/data")
    assert (report.versions, report.conflicts, report.files) == (1, 0, 1)
    all_hold(disks, FILES | {"a.txt": b"same"})
    converged(vdir)


def test_of_several_changes_the_newest_wins_and_the_others_are_versions(vdir: Vdir, disks: dict[str, Path]) -> None:
    edit(disks["one"], "a.txt", b"oldest", age_s=200)
    edit(disks["two"], "a.txt", b"newest", age_s=1)
    edit(disks["three"], "a.txt", b"between", age_s=100)
    report = vdir.sync("/data")
    assert (report.versions, report.conflicts, report.errors) == (1, 1, 0), report.failures
    all_hold(disks, FILES | {"a.txt": b"newest"})
    history = vdir.history("/data/a.txt")
    assert [(one.version, one.state, one.origin, one.size) for one in history] == [
        (4, "current", "", 6),
        (3, "kept", "three", 7),
        (2, "kept", "one", 6),
    ]
    converged(vdir)
    vdir.restore("/data/a.txt", 3)
    all_hold(disks, FILES | {"a.txt": b"between"})
    assert [one.version for one in vdir.history("/data/a.txt")] == [5, 4, 3, 2]
    vdir.restore("/data/a.txt", 4)
    all_hold(disks, FILES | {"a.txt": b"newest"})
    with pytest.raises(Refused, match="already"):
        vdir.restore("/data/a.txt", 4)
    converged(vdir)


def test_a_touched_file_is_no_change(vdir: Vdir, disks: dict[str, Path]) -> None:
    (disks["one"] / "data/a.txt").touch()
    report = vdir.sync("/data")
    assert (report.learned, report.versions, report.files, report.errors) == (1, 0, 0, 0)
    assert next(vdir.ls("/data/a.txt")).version == 1
    converged(vdir)


def test_what_is_missing_is_healed_or_the_deletion_goes_everywhere(vdir: Vdir, disks: dict[str, Path]) -> None:
    (disks["one"] / "data/a.txt").unlink()
    report = vdir.sync("/data")
    assert (report.files, report.removed, report.errors) == (1, 0, 0)
    all_hold(disks, FILES)
    converged(vdir)
