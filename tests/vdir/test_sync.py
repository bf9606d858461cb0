"""`sync`, `history` and `restore` through the API, over the local disk, S3, WebDAV and SFTP."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy.sql.expression import text

from cloudmesh.storage import Storage
from cloudmesh.storage.abc import Entry, ServiceSettings
from cloudmesh.storage.clock import Offset, known_offsets, remember_offsets
from cloudmesh.storage.database import Database
from cloudmesh.storage.errors import AlreadyExists, PermissionDenied, Refused, UsageError
from cloudmesh.storage.prompt import TerminalPrompt
from cloudmesh.storage.providers.local import LocalStorage
from cloudmesh.vdir import Vdir, intents
from cloudmesh.vdir.catalogue import Catalogue
from cloudmesh.vdir.intents import Intent
from cloudmesh.vdir.rules import Deletes
from deploy.servers import OpenSsh, SeaweedFS, Wsgidav
from tests.faults import HttpFaults
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


def rule(vdir: Vdir, directory: str, **rules: Any) -> None:
    """Set the rules of a directory."""
    with Database() as database:
        node = Catalogue(database).lookup(directory.strip("/"))
        with database.write() as connection:
            statement = text("UPDATE entry SET rules = :rules WHERE id = :id")
            connection.execute(statement, {"rules": json.dumps(rules), "id": node.id})


class Answers(TerminalPrompt):
    """Somebody who always answers the same."""

    def __init__(self, answer: str) -> None:
        self.answer = answer

    def can_ask(self) -> bool:
        return True

    def ask(self, text: str, *, instead: str, default: str = "") -> str:
        return self.answer


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
        (4, "current", "two", 6),
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


def test_history_tells_where_contents_came_from(vdir: Vdir, disks: dict[str, Path], home: Path, tmp_path: Path) -> None:
    edit(disks["two"], "a.txt", b"of two")
    vdir.sync("/data")
    edit(disks["three"], "a.txt", b"of three, newer")
    vdir.sync("/data")
    vdir.put(str(write_tree(tmp_path / "mine", {"a.txt": b"mine"}) / "a.txt"), "/data/a.txt", force=True)
    vdir.restore("/data/a.txt", 2)
    wanted = [(5, ""), (4, ""), (3, "three"), (2, "two"), (1, "")]
    assert [(one.version, one.origin) for one in vdir.history("/data/a.txt")] == wanted
    vdir.add("one:data/a.txt", "/added.txt")
    assert vdir.history("/added.txt")[0].origin == "one"
    vdir.delete("/added.txt")  # two names with one file keep each other from changing it

    saved = str(tmp_path / "saved.jsonl")
    vdir.export(saved)
    vdir.close()
    for file in home.glob("vdir.db*"):
        file.unlink()
    with Vdir() as anew:
        anew.import_(saved)
        assert [(one.version, one.origin) for one in anew.history("/data/a.txt")] == wanted
        report = anew.restore("/data/a.txt", 3)
        assert not report.errors, report.failures
        all_hold(disks, FILES | {"a.txt": b"of three, newer"})
        converged(anew)


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


def test_a_deletion_goes_everywhere_where_the_rule_says_so(vdir: Vdir, disks: dict[str, Path]) -> None:
    rule(vdir, "/data", deletes="propagate")
    (disks["two"] / "data/a.txt").unlink()
    assert vdir.sync("/data", dryrun=True).removed == 1
    assert (disks["one"] / "data/a.txt").exists()
    report = vdir.sync("/data")
    assert (report.removed, report.files, report.errors) == (1, 0, 0)
    all_hold(disks, {name: content for name, content in FILES.items() if name != "a.txt"})
    assert [one.name for one in vdir.ls("/data")] == ["b", "empty"]
    edit(disks["one"], "b/c.bin", b"changed")
    (disks["two"] / "data/b/c.bin").unlink()
    assert vdir.sync("/data").versions == 1, "a change beats a deletion"
    all_hold(disks, {name: content for name, content in FILES.items() if name != "a.txt"} | {"b/c.bin": b"changed"})
    converged(vdir)


def test_a_file_that_was_renamed_stays_when_others_delete_its_name(vdir: Vdir, disks: dict[str, Path]) -> None:
    rule(vdir, "/data", deletes="propagate")
    (disks["two"] / "data/a.txt").unlink()
    (disks["three"] / "data/a.txt").rename(disks["three"] / "data/mine")
    report = vdir.sync("/data")
    assert (report.removed, report.errors) == (1, 0)
    without = {name: content for name, content in FILES.items() if name != "a.txt"}
    assert (disks["three"] / "data/mine").read_bytes() == FILES["a.txt"]
    (disks["three"] / "data/mine").unlink()
    all_hold(disks, without)
    converged(vdir)


def test_a_service_that_was_away_does_not_bring_a_deleted_file_back(
    vdir: Vdir, disks: dict[str, Path], home: Path, tmp_path: Path
) -> None:
    rule(vdir, "/data", deletes="propagate")
    everything = [local(name, root) for name, root in disks.items()]
    configure(home, [ServiceSettings("three", "of no kind"), *everything[:2]])
    (disks["one"] / "data/a.txt").unlink()
    (disks["one"] / "data/empty").unlink()
    with Vdir() as other:
        report = other.sync("/data")
        assert (report.removed, report.errors) == (2, 1), report.failures
        assert not (disks["two"] / "data/a.txt").exists()
    edit(disks["three"], "empty", b"changed while it was away")
    configure(home, everything)
    with Vdir() as other:
        assert not other.sync("/").errors
        assert not (disks["three"] / "data/a.txt").exists()
        assert (disks["three"] / "data/empty").exists(), "it was changed, so it is not ours to remove"
        assert [one.name for one in other.ls("/data", recursive=True) if one.kind == "file"] == [
            "b/c.bin",
            "b/d e/ü #%?.txt",
        ]


def test_an_old_content_on_a_service_that_was_away_is_kept_when_it_is_back(
    vdir: Vdir, disks: dict[str, Path], home: Path
) -> None:
    everything = [local(name, root) for name, root in disks.items()]
    configure(home, [ServiceSettings("three", "of no kind"), *everything[:2]])
    edit(disks["one"], "a.txt", b"of one", age_s=100)
    edit(disks["two"], "a.txt", b"of two, and newer")
    with Vdir() as other:
        report = other.sync("/data")
        assert (report.conflicts, report.errors) == (1, 1), "what is away keeps nobody from going on"
    configure(home, everything)
    with Vdir() as other:
        assert not other.sync("/data").errors
        all_hold(disks, FILES | {"a.txt": b"of two, and newer"})
        assert [(one.version, one.size) for one in other.history("/data/a.txt")] == [(3, 17), (2, 6), (1, 5)]
        converged(other)


@pytest.mark.parametrize("deletes", ["heal", "propagate"])
@pytest.mark.parametrize("look", ["nobody", "status", "verify"])
def test_a_rename_on_a_service_is_recognised(vdir: Vdir, disks: dict[str, Path], look: str, deletes: Deletes) -> None:
    """Whoever looked before, and told that files are missing, makes no deletion of it."""
    vdir.rules.set("/data", deletes=deletes)
    (disks["two"] / "data/b").rename(disks["two"] / "data/other")
    (disks["three"] / "data/a.txt").rename(disks["three"] / "data/b/z.txt")
    os.utime(disks["three"] / "data/b/z.txt", ns=(0, (disks["one"] / "data/a.txt").stat().st_mtime_ns))
    if look == "status":
        assert vdir.status("/data", check=True).problems
    elif look == "verify":
        assert vdir.verify("/data").failed
    plan = vdir.sync("/data", dryrun=True)
    assert (plan.renamed, plan.files) == (3, 0)
    report = vdir.sync("/data")
    assert (report.renamed, report.files, report.learned, report.errors) == (3, 0, 0, 0)
    assert (disks["two"] / "data/other/c.bin").exists()
    assert not (disks["two"] / "data/b").exists()
    assert {one.service: one.path for one in vdir.status("/data/a.txt").replicas}["three"] == "data/b/z.txt"
    converged(vdir)
    edit(disks["one"], "a.txt", b"newer")
    assert not vdir.sync("/data").errors
    assert (disks["three"] / "data/b/z.txt").read_bytes() == b"newer"
    converged(vdir)


def test_a_rename_by_copying_is_recognised_too(vdir: Vdir, disks: dict[str, Path]) -> None:
    """Not all clients can rename, or keep times when they copy; it is no deletion."""
    vdir.rules.set("/data", deletes="propagate")
    (disks["two"] / "data/z.txt").write_bytes((disks["two"] / "data/a.txt").read_bytes())
    (disks["two"] / "data/a.txt").unlink()
    report = vdir.sync("/data")
    assert (report.renamed, report.removed, report.errors) == (1, 0, 0)
    assert {one.service: one.path for one in vdir.status("/data/a.txt").replicas}["two"] == "data/z.txt"
    converged(vdir)


def test_a_listing_that_is_older_than_a_replica_tells_of_no_rename(
    vdir: Vdir, disks: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """As where somebody puts files while a sync lists: it may have come by before they were there."""
    shutil.copy2(disks["two"] / "data/a.txt", disks["two"] / "data/mine.txt")
    plain = LocalStorage.scan

    def late(self: LocalStorage, path: str = "", **more: Any) -> Iterator[Entry]:
        return (one for one in plain(self, path, **more) if (self.name, one.name) != ("two", "a.txt"))

    monkeypatch.setattr(LocalStorage, "scan", late)
    report = vdir.sync("/data")
    assert (report.renamed, report.files, report.errors) == (0, 0, 0)
    assert {one.path for one in vdir.status("/data/a.txt").replicas} == {"data/a.txt"}
    monkeypatch.undo()
    converged(vdir)


def test_a_service_that_has_lost_much_is_left_alone_until_that_is_accepted(
    vdir: Vdir, disks: dict[str, Path], tmp_path: Path
) -> None:
    rule(vdir, "/", deletes="propagate")
    many = write_tree(tmp_path / "many", {f"f{i:02}": b"%d" % i for i in range(40)})
    vdir.put(str(many), "/many", to=["one", "two"], recursive=True)
    for i in range(11):
        (disks["two"] / f"many/f{i:02}").unlink()
    edit(disks["one"], "a.txt", b"newer")
    report = vdir.sync("/many")
    assert (report.files, report.removed, report.errors) == (0, 0, 1)
    assert "11 of 40" in report.failures[0].error
    assert len(read_tree(disks["one"] / "many")) == 40
    report = vdir.sync("/many", max_loss="30%")
    assert (report.removed, report.errors) == (11, 0)
    assert len(read_tree(disks["one"] / "many")) == 29
    disks["two"].rename(tmp_path / "unmounted")
    report = vdir.sync("/")
    assert report.failures[0].name == "two"
    assert not disks["two"].exists()
    assert (disks["three"] / "data/a.txt").read_bytes() == b"newer", "the other services went on"
    assert len(read_tree(disks["one"] / "many")) == 29
    shutil.rmtree(disks["two"], ignore_errors=True)
    (tmp_path / "unmounted").rename(disks["two"])
    assert not vdir.sync("/").errors
    converged(vdir)


@pytest.mark.parametrize("look", ["nobody", "status", "verify"])
def test_another_disk_in_the_place_of_a_service_deletes_nothing(
    vdir: Vdir, disks: dict[str, Path], tmp_path: Path, look: str
) -> None:
    """A fresh disk has a directory of its own, but no file; and whoever looks first believes it no more than `sync`."""
    vdir.rules.set("/data", deletes="propagate")
    disks["two"].rename(tmp_path / "unmounted")
    (disks["two"] / "lost+found").mkdir(parents=True)
    if look == "status":
        assert vdir.status("/data", check=True).problems
    elif look == "verify":
        assert vdir.verify("/data").failed
    report = vdir.sync("/data")
    assert (report.removed, report.files, [one.name for one in report.failures]) == (0, 0, ["two"])
    assert read_tree(disks["one"] / "data") == FILES
    shutil.rmtree(disks["two"])
    (tmp_path / "unmounted").rename(disks["two"])
    assert not vdir.sync("/data").errors
    converged(vdir)


@pytest.mark.parametrize("deletes", ["heal", "propagate"])
def test_a_look_at_what_was_lost_does_not_make_it_believed(
    vdir: Vdir, disks: dict[str, Path], tmp_path: Path, deletes: Deletes
) -> None:
    vdir.rules.set("/data", deletes=deletes)
    many = {f"f{i:02}": b"%d" % i for i in range(40)}
    vdir.put(str(write_tree(tmp_path / "many", many)), "/data/many", to=["one", "two"], recursive=True)
    for i in range(15):
        (disks["two"] / f"data/many/f{i:02}").unlink()
    assert len(vdir.status("/data/many", check=True).problems) == 15
    report = vdir.sync("/data/many")
    assert (report.removed, report.files, report.errors) == (0, 0, 1)
    assert "15 of 40" in report.failures[0].error
    assert len(read_tree(disks["one"] / "data/many")) == 40
    report = vdir.sync("/data/many", accept_loss=True)
    assert (report.removed, report.files) == ((15, 0) if deletes == "propagate" else (0, 15))


def test_a_conflict_may_be_settled_in_other_ways(vdir: Vdir, disks: dict[str, Path]) -> None:
    def quarrel(round: int) -> None:
        edit(disks["one"], "a.txt", b"of one, %d" % round, age_s=100)
        edit(disks["two"], "a.txt", b"of two, %d" % round, age_s=1)

    with pytest.raises(UsageError, match="four"):
        vdir.sync("/data", conflict="four")
    quarrel(1)
    assert vdir.sync("/data", conflict="one").conflicts == 1
    all_hold(disks, FILES | {"a.txt": b"of one, 1"})
    quarrel(7)
    assert vdir.sync("/data", conflict="three").conflicts == 1, "what it has had nobody changed"
    all_hold(disks, FILES | {"a.txt": b"of one, 1"})
    assert {one.origin for one in vdir.history("/data/a.txt")[1:3]} == {"one", "two"}
    vdir.drop("/data/a.txt", from_=["three"])
    quarrel(7)
    for dryrun in (True, False):
        report = vdir.sync("/data", conflict="three", dryrun=dryrun)
        assert "three has none of the contents" in report.failures[0].error, report
    assert (disks["one"] / "data/a.txt").read_bytes() == b"of one, 7"
    assert not vdir.sync("/data", conflict="one").errors
    vdir.copy("/data/a.txt", to=["three"])
    quarrel(2)
    report = vdir.sync("/data", conflict="ask")
    assert "--conflict" in report.failures[0].error, "nobody is there to ask"
    assert (disks["one"] / "data/a.txt").read_bytes() == b"of one, 2"
    assert (disks["two"] / "data/a.txt").read_bytes() == b"of two, 2"
    with Vdir(prompt=Answers("one")) as other:
        report = other.sync("/data", conflict="ask")
        assert (report.conflicts, report.errors) == (1, 0), report.failures
    all_hold(disks, FILES | {"a.txt": b"of one, 2"})
    quarrel(3)
    report = vdir.sync("/data", conflict="keep-both")
    assert (report.conflicts, report.errors) == (1, 0), report.failures
    mine = f"a (conflict on one {time.strftime('%Y-%m-%d')}).txt"
    all_hold(disks, FILES | {"a.txt": b"of two, 3", mine: b"of one, 3"})
    assert next(vdir.ls(f"/data/{mine}")).services == ["one", "three", "two"]
    converged(vdir)


def test_bytes_that_changed_while_their_time_did_not_are_mended(vdir: Vdir, disks: dict[str, Path]) -> None:
    file = disks["two"] / "data/b/c.bin"
    before = file.stat()
    file.write_bytes(file.read_bytes()[:100])
    os.utime(file, ns=(before.st_atime_ns, before.st_mtime_ns))
    report = vdir.sync("/data")
    assert report.errors == 0, report.failures
    all_hold(disks, FILES)
    kept = [one for one in vdir.history("/data/b/c.bin") if one.state == "kept"]
    assert [(one.size, one.origin) for one in kept] == [(100, "two")], "what was there is not lost either"
    converged(vdir)


def test_old_contents_are_kept_by_rule(vdir: Vdir, disks: dict[str, Path], tmp_path: Path) -> None:
    rule(vdir, "/data", versions=2)
    for number in range(4):
        edit(disks["one"], "a.txt", b"content %d" % number)
        assert not vdir.sync("/data").errors
    assert [one.version for one in vdir.history("/data/a.txt")] == [5, 4, 3]
    kept = [root / path for root in disks.values() for path in read_tree(root) if ".cdir-versions" in path]
    assert sorted(path.read_bytes() for path in kept) == [b"content 1", b"content 2"]
    rule(vdir, "/data", versions=2, versions_age=0)
    vdir.sync("/data")
    assert [one.version for one in vdir.history("/data/a.txt")] == [5]
    assert not any((root / ".cdir-versions").exists() for root in disks.values())
    rule(vdir, "/data", versions=0)
    edit(disks["one"], "a.txt", b"unkept")
    assert not vdir.sync("/data").errors
    assert [one.version for one in vdir.history("/data/a.txt")] == [6]
    rule(vdir, "/data")
    new = write_tree(tmp_path / "new", {"a.txt": b"put over it"})
    vdir.put(str(new / "a.txt"), "/data/a.txt", to=["one"], force=True)
    assert [(one.version, one.size) for one in vdir.history("/data/a.txt")] == [(7, 11), (6, 6)]
    converged(vdir)


@pytest.mark.parametrize("looked", [False, True])
def test_an_edit_that_no_sync_has_seen_is_kept_when_it_is_overwritten(
    vdir: Vdir, disks: dict[str, Path], tmp_path: Path, looked: bool
) -> None:
    edit(disks["two"], "a.txt", b"theirs", age_s=50)
    edit(disks["three"], "a.txt", b"theirs, newer")
    mine = write_tree(tmp_path / "mine", {"a.txt": b"mine"}) / "a.txt"
    if looked:
        vdir.status("/data", check=True)
    vdir.put(str(mine), "/data/a.txt", to=["one"], force=True)
    assert [(root / "data/a.txt").read_bytes() for root in disks.values()] == [b"mine"] * 3
    history = vdir.history("/data/a.txt")
    assert [(one.version, one.size, one.origin) for one in history[1:]] == [(3, 13, "three"), (2, 6, "two"), (1, 5, "")]
    converged(vdir)
    assert not vdir.restore("/data/a.txt", 2).errors
    all_hold(disks, FILES | {"a.txt": b"theirs"})
    converged(vdir)


def test_an_edit_that_left_its_time_behind_is_kept_when_it_is_overwritten(
    vdir: Vdir, disks: dict[str, Path], tmp_path: Path
) -> None:
    file = disks["two"] / "data/a.txt"
    before = file.stat()
    file.write_bytes(b"ALPHA")
    os.utime(file, ns=(before.st_atime_ns, before.st_mtime_ns))
    mine = write_tree(tmp_path / "mine", {"a.txt": b"mine"}) / "a.txt"
    assert not vdir.put(str(mine), "/data/a.txt", to=["one"], force=True).errors
    kept = [(one.version, one.origin) for one in vdir.history("/data/a.txt") if one.state == "kept"]
    assert kept == [(2, "two"), (1, "")], "as a sync would have kept it"
    assert not vdir.restore("/data/a.txt", 2).errors
    all_hold(disks, FILES | {"a.txt": b"ALPHA"})


def test_an_old_content_that_was_touched_and_looked_at_is_kept_when_it_is_overwritten(
    vdir: Vdir, disks: dict[str, Path], tmp_path: Path
) -> None:
    vdir.drop("/data/a.txt", from_=["two", "three"])
    away = disks["one"].rename(tmp_path / "away")
    disks["one"].write_bytes(b"no directory")
    mine = write_tree(tmp_path / "mine", {"a.txt": b"mine"}) / "a.txt"
    vdir.put(str(mine), "/data/a.txt", to=["two"], force=True)
    disks["one"].unlink()
    away.rename(disks["one"])
    os.utime(disks["one"] / "data/a.txt")
    vdir.status("/data", check=True)
    mine.write_bytes(b"mine again")
    assert not vdir.put(str(mine), "/data/a.txt", to=["two"], force=True).errors
    assert {one.size for one in vdir.history("/data/a.txt")} == {10, 4, 5}, "nothing else had it"
    converged(vdir)


def test_an_edit_is_kept_before_a_copy_overwrites_it(vdir: Vdir, disks: dict[str, Path]) -> None:
    edit(disks["two"], "a.txt", b"theirs")
    edit(disks["three"], "a.txt", b"theirs")
    vdir.status("/data", check=True)
    with pytest.raises(AlreadyExists, match="--force"):
        vdir.copy("/data/a.txt", to=["two"])
    assert vdir.copy("/data/a.txt", to=["two"], force=True).files == 1
    assert (disks["two"] / "data/a.txt").read_bytes() == FILES["a.txt"]
    assert [(one.version, one.size) for one in vdir.history("/data/a.txt")] == [(1, 5), (2, 6)]
    assert vdir.copy("/data/a.txt", to=["three"], force=True).files == 1
    assert len(vdir.history("/data/a.txt")) == 2, "it is kept already"
    converged(vdir)
    assert not vdir.restore("/data/a.txt", 2).errors
    all_hold(disks, FILES | {"a.txt": b"theirs"})


def test_an_edit_that_cannot_be_kept_is_not_overwritten(vdir: Vdir, disks: dict[str, Path], tmp_path: Path) -> None:
    edit(disks["two"], "a.txt", b"theirs")
    (disks["two"] / ".cdir-versions").write_bytes(b"in the way")
    mine = write_tree(tmp_path / "mine", {"a.txt": b"mine"}) / "a.txt"
    report = vdir.put(str(mine), "/data/a.txt", to=["one"], force=True)
    assert (report.files, report.errors) == (2, 1)
    assert (disks["two"] / "data/a.txt").read_bytes() == b"theirs"
    (disks["two"] / ".cdir-versions").unlink()
    assert not vdir.sync("/data").errors
    assert {one.size for one in vdir.history("/data/a.txt")} == {4, 5, 6}
    converged(vdir)


@pytest.mark.parametrize("act", ["put", "copy"])
def test_what_cannot_be_looked_at_is_not_overwritten(
    home: Path, tmp_path: Path, seaweedfs: SeaweedFS, http_faults: Callable[[int], HttpFaults], act: str
) -> None:
    front = http_faults(seaweedfs.port)
    bucket = seaweedfs.make_bucket()
    configure(home, [local("one", tmp_path / "one"), seaweedfs.settings("aws", port=front.port, bucket=bucket)])
    source = write_tree(tmp_path / "source", {"a.txt": b"alpha"}) / "a.txt"
    with Vdir() as vdir:
        vdir.put(str(source), "/a.txt", to=["one", "aws"])
        seaweedfs.client().put_object(Bucket=bucket, Key="a.txt", Body=b"theirs")
        if act == "copy":
            vdir.status("/", check=True)
        for method in ("GET", "HEAD"):
            front.answer(403, times=None, method=method)
        source.write_bytes(b"mine")
        if act == "put":
            report = vdir.put(str(source), "/a.txt", to=["one"], force=True)
            assert (report.files, report.errors) == (1, 1)
        else:
            with pytest.raises(PermissionDenied):
                vdir.copy("/a.txt", to=["aws"], force=True)
        front.heal()
        assert seaweedfs.client().get_object(Bucket=bucket, Key="a.txt")["Body"].read() == b"theirs"
        assert not vdir.sync().errors


def test_what_was_kept_goes_with_its_name(vdir: Vdir, disks: dict[str, Path]) -> None:
    for name in ("a.txt", "b/c.bin", "empty"):
        edit(disks["one"], name, b"changed")
    assert not vdir.sync("/data").errors
    kept = [path for root in disks.values() for path in read_tree(root) if ".cdir-versions" in path]
    assert len(kept) == 3
    vdir.delete("/data/a.txt", purge=True, accept_loss=True)
    vdir.delete("/data/b", recursive=True)
    vdir.delete("/data/empty")
    assert not vdir.sync("/").errors
    assert not any((root / ".cdir-versions").exists() for root in disks.values()), kept
    assert (disks["one"] / "data/empty").read_bytes() == b"changed", "without purge files stay"


def test_an_overwrite_that_died_halfway_is_finished_or_undone(
    vdir: Vdir, disks: dict[str, Path], tmp_path: Path
) -> None:
    """What `put --force` leaves that dies before it is acknowledged: an intent, and maybe the file."""
    new = b"put over it"
    with Database() as database:
        catalogue = Catalogue(database)
        for name, written in {"a.txt": True, "empty": False}.items():
            node = catalogue.lookup(f"data/{name}")
            sha256 = hashlib.sha256(new).hexdigest()
            catalogue.add_intents([Intent(node.id, "one", "write", node.path, 2, len(new), 7, sha256)])
            if written:
                edit(disks["one"], name, new, age_s=1e6)
        report = vdir.sync("/data")
        assert (report.files, report.errors) == (2, 0), report.failures
        all_hold(disks, FILES | {"a.txt": new})
        assert next(vdir.ls("/data/a.txt")).version == 2
        assert next(vdir.ls("/data/empty")).version == 1
        assert not intents.concerned(database)
    converged(vdir)


def test_a_file_that_was_added_without_a_hash_is_compared_by_its_bytes(vdir: Vdir, disks: dict[str, Path]) -> None:
    for name in ("one", "two"):
        write_tree(disks[name], {"found/x": b"same"})
        vdir.add(f"{name}:found/x", "/found/x")
    (disks["one"] / "found/x").touch()
    report = vdir.sync("/found")
    assert (report.learned, report.versions, report.errors) == (1, 0, 0), report.failures
    edit(disks["one"], "../found/x", b"changed")
    assert vdir.sync("/found").versions == 1
    assert (disks["two"] / "found/x").read_bytes() == b"changed"
    converged(vdir)


def test_a_service_that_keeps_versions_by_itself_is_made_use_of(
    home: Path, tmp_path: Path, seaweedfs: SeaweedFS
) -> None:
    bucket = seaweedfs.make_bucket(versioned=True)
    configure(home, [seaweedfs.settings("aws", bucket=bucket), local("one", tmp_path / "one")])
    source = write_tree(tmp_path / "source", FILES)
    with Vdir() as vdir, Storage() as storage:
        vdir.put(str(source), "/data", to=["aws"], recursive=True)
        vdir.copy("/data/b", to=["one"], recursive=True)
        (tmp_path / "new").write_bytes(b"changed on S3")
        for name in ("a.txt", "b/c.bin"):
            storage.put(str(tmp_path / "new"), f"aws:data/{name}")
        report = vdir.sync("/data")
        assert (report.versions, report.errors) == (2, 0), report.failures
        history = vdir.history("/data/a.txt")
        assert [(one.version, one.where) for one in history] == [(2, ["aws:data/a.txt"]), (1, ["aws:data/a.txt"])]
        vdir.restore("/data/a.txt", 1)
        assert b"".join(vdir.cat("/data/a.txt")) == b"alpha"
        assert [one.version for one in vdir.history("/data/a.txt")] == [3, 2, 1]
        vdir.restore("/data/b/c.bin", 1)
        assert (tmp_path / "one/data/b/c.bin").read_bytes() == FILES["b/c.bin"]
        converged(vdir)


def test_services_of_all_kinds_stay_the_same(
    home: Path, tmp_path: Path, seaweedfs: SeaweedFS, wsgidav: Wsgidav, openssh: OpenSsh
) -> None:
    configure(
        home,
        [
            seaweedfs.settings("aws", bucket=seaweedfs.make_bucket()),
            wsgidav.settings("dav", root="same"),
            openssh.settings("lab", root=str(tmp_path / "lab")),
            local("disk", tmp_path / "disk"),
        ],
    )
    everywhere = ["aws", "dav", "disk", "lab"]
    source = write_tree(tmp_path / "source", FILES)
    with Vdir() as vdir, Storage() as storage:
        vdir.put(str(source), "/data", to=everywhere, recursive=True)
        assert vdir.sync("/data").skipped == 16  # of what WsgiDAV has just stored it tells no token: it is read once
        assert not vdir.sync("/data")

        def write(service: str, name: str, content: bytes) -> None:
            (tmp_path / "new").write_bytes(content)
            storage.put(str(tmp_path / "new"), f"{service}:data/{name}")

        for number, service in enumerate(everywhere):
            write(service, "a.txt", b"from %d" % number * 3)
            report = vdir.sync("/data")
            assert (report.versions, report.files, report.errors) == (1, 3, 0), report.failures
            assert [b"".join(vdir.cat(f"{one}:/data/a.txt")) for one in everywhere] == [b"from %d" % number * 3] * 4
        assert [one.version for one in vdir.history("/data/a.txt")] == [5, 4, 3, 2, 1]
        assert not vdir.restore("/data/a.txt", 1).errors
        assert [b"".join(vdir.cat(f"{one}:/data/a.txt")) for one in everywhere] == [b"alpha"] * 4
        for service, name in zip(everywhere, ("b/c.bin", "empty", "a.txt", "b/d e/ü #%?.txt"), strict=True):
            storage.delete(f"{service}:data/{name}")
        assert vdir.sync("/data").files == 4
        for number, service in enumerate(everywhere):
            write(service, "b/c.bin", b"contended %d" % number)
        report = vdir.sync("/data")
        assert (report.conflicts, report.errors) == (1, 0), report.failures
        assert len({b"".join(vdir.cat(f"{one}:/data/b/c.bin")) for one in everywhere}) == 1
        assert len(vdir.history("/data/b/c.bin")) == 4
        for service in everywhere:
            storage.move(f"{service}:data/b/c.bin", f"{service}:data/moved {service}")
        report = vdir.sync("/data")
        assert (report.renamed, report.files, report.errors) == (4, 0, 0), report.failures
        converged(vdir)
        for service in everywhere:
            assert not [one.name for one in storage.list(f"{service}:", recursive=True) if ".cdir-" in one.name]


def test_times_are_compared_as_the_clocks_are_off(home: Path, tmp_path: Path, seaweedfs: SeaweedFS) -> None:
    configure(home, [seaweedfs.settings("aws", bucket=seaweedfs.make_bucket()), local("one", tmp_path / "one")])
    source = write_tree(tmp_path / "source", FILES)
    with Database() as database, Vdir() as vdir, Storage() as storage:
        vdir.put(str(source), "/data", to=["aws", "one"], recursive=True)
        edit(tmp_path, "x", b"changed long ago", age_s=10**8)
        storage.put(str(tmp_path / "data/x"), "aws:data/a.txt")
        edit(tmp_path / "one", "a.txt", b"changed an hour ago", age_s=3600)
        for offset_s, stale in ((0, "aws"), (-2 * 10**8, "one"), (2 * 10**8, "aws")):
            remember_offsets(database, {"aws": Offset(offset_s * 10**9, 10**9)})
            plan = vdir.sync("/data", dryrun=True)
            assert [one.name for one in plan.plan] == [f"/data/a.txt on {stale}"]
        report = vdir.sync("/data")
        assert (report.conflicts, report.errors) == (1, 0)
        assert known_offsets(database)["aws"].offset_ns < 60 * 10**9, "measured where contents differ"
        assert b"".join(vdir.cat("aws:/data/a.txt")) == b"changed an hour ago"


def test_sync_with_the_catalogue_in_postgresql(
    home: Path, tmp_path: Path, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CDIR_DATABASE", database_url)
    disks = {name: tmp_path / name for name in SERVICES}
    configure(home, [local(name, root) for name, root in disks.items()])
    source = write_tree(tmp_path / "source", FILES)
    with Vdir() as vdir:
        vdir.put(str(source), "/data", to=list(SERVICES), recursive=True)
        rule(vdir, "/data", deletes="propagate", versions=2)
        edit(disks["one"], "a.txt", b"newer", age_s=50)
        edit(disks["two"], "a.txt", b"newest")
        (disks["two"] / "data/empty").unlink()
        (disks["three"] / "data/b/c.bin").rename(disks["three"] / "data/c.bin")
        report = vdir.sync("/data")
        assert (report.conflicts, report.removed, report.renamed, report.errors) == (1, 1, 1, 0), report.failures
        assert (disks["three"] / "data/a.txt").read_bytes() == b"newest"
        assert [one.version for one in vdir.history("/data/a.txt")] == [3, 2, 1]
        assert not vdir.restore("/data/a.txt", 2).errors
        assert (disks["three"] / "data/a.txt").read_bytes() == b"newer"
        vdir.sync("/data")
        assert [one.version for one in vdir.history("/data/a.txt")] == [4, 3, 2]
        converged(vdir)
        vdir.delete("/data", recursive=True, purge=True, accept_loss=True)
        assert [name for root in disks.values() for name in read_tree(root)] == []


def test_a_service_that_can_only_move_keeps_by_moving(
    vdir: Vdir, disks: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    plain = LocalStorage.__init__

    def init(self: LocalStorage, *arguments: Any, **more: Any) -> None:
        plain(self, *arguments, **more)
        self.capabilities = replace(self.capabilities, server_copy=False)

    monkeypatch.setattr(LocalStorage, "__init__", init)
    with Vdir() as other:
        edit(disks["one"], "a.txt", b"older", age_s=100)
        edit(disks["two"], "a.txt", b"newer")
        report = other.sync("/data")
        assert (report.conflicts, report.errors) == (1, 0), report.failures
        all_hold(disks, FILES | {"a.txt": b"newer"})
        assert [one.size for one in other.history("/data/a.txt")] == [5, 5, 5]
        assert not other.restore("/data/a.txt", 1).errors
        all_hold(disks, FILES)
        converged(other)


def test_one_name_alone(vdir: Vdir, disks: dict[str, Path]) -> None:
    edit(disks["one"], "a.txt", b"changed")
    (disks["one"] / "data/empty").unlink()
    assert vdir.sync("/data/a.txt").files == 2
    assert not (disks["one"] / "data/empty").exists()
    assert vdir.sync("/data/empty").files == 1
    vdir.move("/data/b", "/elsewhere")
    edit(disks["two"], "b/c.bin", b"changed where it lies")
    report = vdir.sync("/elsewhere")
    assert (report.versions, report.files, report.skipped, report.errors) == (1, 2, 4, 0)
    assert (disks["three"] / "data/b/c.bin").read_bytes() == b"changed where it lies"
    converged(vdir)


def test_what_is_in_the_way_is_told_and_left_alone(vdir: Vdir, disks: dict[str, Path]) -> None:
    (disks["one"] / "data/a.txt").unlink()
    (disks["one"] / "data/a.txt").mkdir()
    report = vdir.sync("/data")
    assert (report.files, report.errors, report.skipped) == (0, 1, 11)
    assert "/data/a.txt on one" in report.failures[0].name
    assert (disks["one"] / "data/a.txt").is_dir()
    (disks["one"] / "data/a.txt").rmdir()
    assert vdir.sync("/data").files == 1
    converged(vdir)
