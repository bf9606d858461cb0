"""The last good replica of a name is not taken away: not by a drop, not by forgetting its service."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from cloudmesh.storage.config_api import ConfigApi
from cloudmesh.storage.errors import ChecksumMismatch, Refused, StorageError
from cloudmesh.storage.providers.local import LocalStorage
from cloudmesh.vdir import Vdir
from deploy.servers import Wsgidav
from tests.faults import FaultProxy
from tests.places import configure, local, read_tree, write_tree

FILES = {f"d{i % 2}/f{i}": b"%d" % i for i in range(8)}


@pytest.fixture
def disks(home: Path, tmp_path: Path) -> dict[str, Path]:
    roots = {name: tmp_path / name for name in ("one", "two", "three")}
    configure(home, [local(name, root) for name, root in roots.items()])
    return roots


def put(tmp_path: Path, *to: str) -> None:
    with Vdir() as vdir:
        vdir.put(str(write_tree(tmp_path / "source", FILES)), "/data", to=list(to), recursive=True)


def services() -> set[str]:
    return {row.name for row in ConfigApi().list()}


def test_a_service_with_last_copies_is_not_forgotten(disks: dict[str, Path], tmp_path: Path) -> None:
    put(tmp_path, "one")
    for dryrun in (True, False):
        with pytest.raises(Refused, match=r"/data/d0/f0, .* and 3 more .*vdir copy"):
            ConfigApi().remove("one", dryrun=dryrun)
    assert "one" in services()
    with Vdir() as vdir:
        vdir.copy("/data", to=["two"], recursive=True)
    ConfigApi().remove("one")
    assert "one" not in services()
    assert read_tree(disks["one"] / "data") == FILES, "its files stay"
    with Vdir() as vdir:
        assert b"".join(vdir.cat("/data/d0/f0")) == b"0"


def test_the_other_services_are_asked_right_then(disks: dict[str, Path], tmp_path: Path) -> None:
    put(tmp_path, "one", "two", "three")
    (disks["two"] / "data/d0/f2").unlink()
    (disks["two"] / "data/d1/f1").write_bytes(b"!")
    (disks["two"] / "data/d0/f4").unlink()
    (disks["three"] / "data/d0/f2").unlink()
    (disks["three"] / "data/d1/f1").unlink()
    with pytest.raises(Refused, match="/data/d0/f2, /data/d1/f1 ") as refusal:
        ConfigApi().remove("one")
    assert "f4" not in str(refusal.value)
    (disks["three"] / "data/d0/f2").write_bytes(b"2")  # the same bytes, at another time
    (disks["three"] / "data/d1/f1").write_bytes(b"1")
    ConfigApi().remove("one")


def test_what_cannot_be_asked_is_no_copy(
    home: Path, tmp_path: Path, wsgidav: Wsgidav, fault_proxy: Callable[[int], FaultProxy]
) -> None:
    proxy = fault_proxy(wsgidav.port)
    configure(home, [local("one", tmp_path / "one"), wsgidav.settings("dav", root="last", port=proxy.port)])
    (tmp_path / "f").write_bytes(b"f")
    with Vdir() as vdir:
        vdir.put(str(tmp_path / "f"), "/f", to=["one", "dav"])
    wrong = wsgidav.settings("dav", root="last", port=proxy.port, password="wrong")
    configure(home, [local("one", tmp_path / "one"), wrong])
    with pytest.raises(Refused, match="/f"):
        ConfigApi().remove("one")
    configure(home, [local("one", tmp_path / "one"), wsgidav.settings("dav", root="last", port=proxy.port)])
    ConfigApi().remove("one")


def test_a_service_of_which_the_catalogue_knows_nothing_is_forgotten(disks: dict[str, Path], tmp_path: Path) -> None:
    put(tmp_path, "one")
    ConfigApi().remove("three")
    assert services() >= {"one", "two"}


def test_two_services_that_are_one_place_are_one_copy(home: Path, tmp_path: Path) -> None:
    root = write_tree(tmp_path / "one", FILES)
    configure(home, [local("one", root), local("below", root / "d0"), local("two", tmp_path / "two")])
    with Vdir() as vdir:
        vdir.add("one:d0/f0", "/f")
        vdir.add("below:f0", "/f")
        with pytest.raises(Refused, match="last good replica"):
            vdir.drop("/f", from_=["one"])
        assert (root / "d0/f0").read_bytes() == b"0"
        vdir.copy("/f", to=["two"])
        vdir.drop("/f", from_=["one"])
        assert b"".join(vdir.cat("/f")) == b"0"


def test_a_purge_leaves_the_last_copy(disks: dict[str, Path], tmp_path: Path) -> None:
    put(tmp_path, "one", "two")
    with Vdir() as vdir:
        for dryrun in (True, False):
            with pytest.raises(Refused, match=r"/data/d0/f0: what is on one, two is nowhere else.*--accept-loss"):
                vdir.delete("/data/d0/f0", purge=True, dryrun=dryrun)
            report = vdir.delete("/data", recursive=True, purge=True, dryrun=dryrun)
            assert (report.files, report.errors) == (0, len(FILES))
        assert read_tree(disks["one"] / "data") == read_tree(disks["two"] / "data") == FILES
        assert not vdir.status("/data", check=True).problems
        assert vdir.delete("/data", recursive=True, purge=True, accept_loss=True).files == len(FILES)
    assert read_tree(disks["one"]) == read_tree(disks["two"]) == {}


def test_a_purge_removes_what_another_name_has_a_good_copy_of(disks: dict[str, Path], tmp_path: Path) -> None:
    put(tmp_path, "one", "two")
    write_tree(tmp_path / "elsewhere", {"f0": b"0", "f2": b"2", "f4": b"4", "f6": b"6"})
    with Vdir() as vdir:
        vdir.put(str(tmp_path / "elsewhere"), "/other", to=["one", "three"], recursive=True)
        for name in ("f2", "f4"):
            (disks["three"] / "other" / name).unlink()
        (disks["one"] / "other/f2").unlink()
        (disks["one"] / "other/f4").write_bytes(b"!")
        (disks["one"] / "other/f6").unlink()
        report = vdir.delete("/data/d0", recursive=True, purge=True)
        assert (report.files, report.errors) == (2, 2)
        assert {one.name for one in report.failures} == {"/data/d0/f2", "/data/d0/f4"}
        assert read_tree(disks["two"] / "data/d0") == {"f2": b"2", "f4": b"4"}
        assert b"".join(vdir.cat("/other/f6")) == b"6"


def test_a_disk_that_is_not_mounted_has_lost_nothing(disks: dict[str, Path], tmp_path: Path) -> None:
    put(tmp_path, "two")
    away = disks["two"].rename(tmp_path / "away")
    disks["two"].mkdir()
    with Vdir() as vdir:
        for dryrun in (True, False):
            with pytest.raises(Refused, match="mounted"):
                vdir.drop("/data/d0/f0", from_=["two"], dryrun=dryrun)
            with pytest.raises(StorageError, match="mounted"):
                vdir.delete("/data/d0/f0", purge=True, dryrun=dryrun)
            assert vdir.delete("/data", recursive=True, purge=True, dryrun=dryrun).errors == len(FILES)
        disks["two"].rmdir()
        away.rename(disks["two"])
        vdir.copy("/data/d0/f2", to=["one"])
        assert not vdir.sync("/data").errors
        disks["two"].rename(away)
        disks["two"].mkdir()
        assert vdir.drop("/data/d0/f2", from_=["two"]).files == 1, "another has it"
        assert vdir.delete("/data/d0/f0", purge=True, accept_loss=True).files == 1


def test_a_copy_that_goes_as_well_is_none(disks: dict[str, Path], tmp_path: Path) -> None:
    write_tree(tmp_path / "source", {"a": b"same", "b/c": b"same"})
    with Vdir() as vdir:
        vdir.put(str(tmp_path / "source"), "/data", to=["one"], recursive=True)
        assert vdir.delete("/data", recursive=True, purge=True).errors == 2
        assert vdir.delete("/data/b", recursive=True, purge=True).files == 1
        with pytest.raises(Refused, match="nowhere else"):
            vdir.delete("/data/a", purge=True)
    assert read_tree(disks["one"]) == {"data/a": b"same"}


def test_a_copy_at_the_same_place_is_none_and_a_file_that_another_name_uses_stays(home: Path, tmp_path: Path) -> None:
    root = write_tree(tmp_path / "one", {"d/f": b"f"})
    configure(home, [local("one", root), local("below", root / "d")])
    with Vdir() as vdir:
        vdir.add("one:d/f", "/f")
        with pytest.raises(Refused, match="nowhere else"):  # what it holds nobody has ever read
            vdir.delete("/f", purge=True)
        vdir.add("one:d/f", "/again")
        assert vdir.delete("/again", purge=True).files == 1
        vdir.add("below:f", "/aliased")
        vdir.verify("/", deep=True)
        with pytest.raises(Refused, match="nowhere else"):
            vdir.delete("/f", purge=True)
    assert read_tree(root)["d/f"] == b"f"


def test_a_file_that_another_name_is_to_overwrite_is_no_copy(disks: dict[str, Path], tmp_path: Path) -> None:
    write_tree(tmp_path / "source", {"old": b"first", "new": b"second"})
    with Vdir() as vdir:
        vdir.put(str(tmp_path / "source/old"), "/f", to=["one"])
        vdir.add("one:f", "/other")
        vdir.put(str(tmp_path / "source/new"), "/other", to=["two"], force=True)
        with pytest.raises(Refused, match="nowhere else"):
            vdir.delete("/f", purge=True)
        assert b"".join(vdir.cat("/f")) == b"first"


def test_a_purge_asks_for_older_contents_too(home: Path, tmp_path: Path, wsgidav: Wsgidav) -> None:
    dav = wsgidav.settings("dav", root=tmp_path.name)
    configure(home, [local("one", tmp_path / "one"), dav])
    write_tree(tmp_path / "source", {"old": b"first", "new": b"second"})
    with Vdir() as vdir:
        vdir.put(str(tmp_path / "source/old"), "/f", to=["one", "dav"])
        assert not vdir.status("/f", check=True).problems
    configure(home, [local("one", tmp_path / "one"), wsgidav.settings("dav", root=tmp_path.name, password="wrong")])
    with Vdir() as vdir:
        vdir.rules.set("/", versions=0)
        vdir.put(str(tmp_path / "source/new"), "/f", to=["one"], force=True)
        vdir.put(str(tmp_path / "source/new"), "/copy", to=["one"])
    configure(home, [local("one", tmp_path / "one"), dav])
    with Vdir() as vdir:
        with pytest.raises(Refused, match="what is on dav is nowhere else"):
            vdir.delete("/f", purge=True)
        vdir.put(str(tmp_path / "source/old"), "/old", to=["one"])
        assert vdir.delete("/f", purge=True).files == 1
        assert read_tree(tmp_path / "one") == {"copy": b"second", "old": b"first"}


def test_where_the_only_other_copy_cannot_be_asked_nothing_is_purged(
    home: Path, tmp_path: Path, wsgidav: Wsgidav
) -> None:
    configure(home, [local("one", tmp_path / "one"), wsgidav.settings("dav", root=tmp_path.name)])
    (tmp_path / "f").write_bytes(b"f")
    with Vdir() as vdir:
        vdir.put(str(tmp_path / "f"), "/f", to=["one"])
        vdir.put(str(tmp_path / "f"), "/g", to=["dav"])
    configure(home, [local("one", tmp_path / "one"), wsgidav.settings("dav", root=tmp_path.name, password="wrong")])
    with Vdir() as vdir, pytest.raises(Refused, match="nowhere else"):
        vdir.delete("/f", purge=True)
    configure(home, [local("one", tmp_path / "one"), wsgidav.settings("dav", root=tmp_path.name)])
    with Vdir() as vdir:
        assert vdir.delete("/f", purge=True).files == 1
        assert b"".join(vdir.cat("/g")) == b"f"


@pytest.mark.parametrize("rotten", ["one", "dav"])
@pytest.mark.parametrize("by", ["restore", "put", "sync"])
def test_what_is_kept_is_not_taken_from_a_rotten_replica(
    home: Path, tmp_path: Path, wsgidav: Wsgidav, rotten: str, by: str
) -> None:
    """Rot leaves size and time as they were: what is kept is read before the last good replica is overwritten."""
    configure(home, [local("one", tmp_path / "one"), wsgidav.settings("dav", root=tmp_path.name)])
    with Vdir() as vdir:
        for content in (b"first", b"second"):
            source = write_tree(tmp_path / "source", {"f": content}) / "f"
            vdir.put(str(source), "/data/f", to=["one", "dav"], force=True)
        vdir.copy("/data/f", to=["local"])
        assert not vdir.sync("/data").failed
        good = wsgidav.data / tmp_path.name if rotten == "one" else tmp_path / "one"
        bad = tmp_path / "one" if rotten == "one" else wsgidav.data / tmp_path.name
        before = (bad / "data/f").stat()
        (bad / "data/f").write_bytes(b"sEcond")
        os.utime(bad / "data/f", ns=(before.st_atime_ns, before.st_mtime_ns))
        if by == "restore":
            vdir.restore("/data/f", 1)
        elif by == "put":
            source = write_tree(tmp_path / "source", {"f": b"third"}) / "f"
            assert not vdir.put(str(source), "/data/f", force=True).failed
        else:
            (home / "local/data/f").write_bytes(b"edited by another")
            assert not vdir.sync("/data").failed
        assert (good / "data/f").read_bytes() != b"second"
        assert not vdir.sync("/data").failed
        (kept,) = [one for one in vdir.history("/data/f") if one.version == 2]
        assert not vdir.restore("/data/f", kept.version).failed
        assert b"".join(vdir.cat("/data/f")) == b"second"


@pytest.mark.parametrize("by", ["verify", "copy", "put", "put --force", "restore", "drop"])
def test_an_older_content_that_nothing_else_has_is_kept(home: Path, tmp_path: Path, wsgidav: Wsgidav, by: str) -> None:
    """Its service was away when others gave the name another content, everywhere at once."""
    disks = [local("one", tmp_path / "one"), local("two", tmp_path / "two")]
    dav = wsgidav.settings("dav", root=tmp_path.name)
    configure(home, [*disks, dav])
    source = write_tree(tmp_path / "source", {"f": b"first"}) / "f"
    with Vdir() as vdir:
        vdir.put(str(source), "/data/f", to=["one", "two", "dav"])
        assert not vdir.sync("/data").failed
    for service in ("one", "two"):
        (tmp_path / service / "data/f").write_bytes(b"second, by others")
    configure(home, [*disks, replace(dav, credentials={**dav.credentials, "password": "wrong"})])
    with Vdir() as vdir:
        assert vdir.sync("/data").failed
    configure(home, [*disks, dav])
    with Vdir() as vdir:
        match by:
            case "verify":
                assert not vdir.verify("/data", repair=True).failed
            case "copy":
                assert not vdir.copy("/data/f", to=["dav"]).failed
            case "put":
                assert not vdir.put(str(tmp_path / "one/data/f"), "/data/f", to=["dav"]).failed
            case "put --force":
                source.write_bytes(b"third")
                assert not vdir.put(str(source), "/data/f", to=["dav"], force=True).failed
            case "restore":
                source.write_bytes(b"third")
                assert not vdir.put(str(source), "/data/f", to=["one"], force=True).failed
                assert not vdir.restore("/data/f", 2).failed
            case "drop":
                assert not vdir.drop("/data/f", from_=["dav"]).failed
        assert not vdir.restore("/data/f", 1).failed
        assert b"".join(vdir.cat("/data/f")) == b"first"


def test_a_service_that_is_gone_for_good(home: Path, tmp_path: Path) -> None:
    """Its replicas are taken out of the catalogue where others have the content; nothing of it stays in the way."""
    disks = [local(name, tmp_path / name) for name in ("one", "two")]
    configure(home, disks)
    put(tmp_path, "one", "two")
    with Vdir() as vdir:
        vdir.put(str(write_tree(tmp_path / "source", {"g": b"g"}) / "g"), "/data/only", to=["one"])
        for name in ("d0/f0", "d1/f1"):
            (tmp_path / "two/data" / name).write_bytes(b"edited")
        assert not vdir.sync("/").failed
        kept = [vdir.history(f"/data/{name}")[1].where for name in ("d0/f0", "d1/f1")]
        assert all(place.startswith("one:") for (place,) in kept)
        vdir.rules.set("/data", versions=0)
        vdir.delete("/data/d1/f1")
    configure(home, disks[1:])
    with Vdir() as vdir:
        assert {one.name for one in vdir.sync("/").failures} == {"one"}
        report = vdir.drop("/data", from_=["one"], recursive=True)
        assert [one.name for one in report.failures] == ["/data/only on one"]
        assert "last good replica" in report.failures[0].error
        vdir.delete("/data/only")
        assert not vdir.sync("/").failed
        assert not vdir.status("/", check=True).problems


@pytest.mark.parametrize("again", ["drop", "sync"])
def test_a_drop_of_an_older_content_that_died_halfway_is_finished(
    disks: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, again: str
) -> None:
    def die(service: LocalStorage, path: str) -> None:
        raise KeyboardInterrupt

    put(tmp_path, "one", "two", "three")
    (disks["one"] / "data/d0/f0").write_bytes(b"edited")
    (disks["two"] / "data/d0/f0").write_bytes(b"edited")
    disks["three"].rename(tmp_path / "away")
    with Vdir() as vdir:
        assert vdir.sync("/").failed
        shutil.rmtree(disks["three"], ignore_errors=True)
        (tmp_path / "away").rename(disks["three"])
        with monkeypatch.context() as patched:
            patched.setattr(LocalStorage, "remove", die)
            with pytest.raises(KeyboardInterrupt):
                vdir.drop("/data/d0/f0", from_=["three"])
    with Vdir() as vdir:
        if again == "drop":
            assert not vdir.drop("/data/d0/f0", from_=["three"]).failed
        else:
            assert not vdir.sync("/").failed
        assert {one.service for one in vdir.status("/data/d0/f0").replicas} == {"one", "two"}
        assert not (disks["three"] / "data/d0/f0").exists()
        assert not vdir.restore("/data/d0/f0", 1).failed
        assert b"".join(vdir.cat("/data/d0/f0")) == b"0"


@pytest.fixture
def rotten(home: Path, tmp_path: Path, wsgidav: Wsgidav) -> Iterator[Vdir]:
    """``/f`` on ``dav``, where a reading has found wrong bytes, and on ``one``; ``/g`` is the same there."""
    root = f"wrong-{tmp_path.name}"
    configure(home, [local("one", tmp_path / "one"), wsgidav.settings("dav", root=root)])
    file = write_tree(wsgidav.data / root, {"f": b"right"}) / "f"
    with Vdir() as vdir:
        vdir.add("dav:f", "/f")
        vdir.copy("/f", to=["one"])
        vdir.put(str(write_tree(tmp_path / "source", {"g": b"right"}) / "g"), "/g", to=["one"])
        assert not vdir.verify(deep=True).failed
        seen = file.stat()
        file.write_bytes(b"wrong")
        os.utime(file, ns=(seen.st_atime_ns, seen.st_mtime_ns))
        with pytest.raises(ChecksumMismatch):
            list(vdir.cat("dav:/f"))
        yield vdir


def test_a_file_of_two_names_that_a_reading_has_found_wrong_is_no_copy(
    home: Path, tmp_path: Path, wsgidav: Wsgidav
) -> None:
    root = f"shared-{tmp_path.name}"
    configure(home, [wsgidav.settings("dav", root=root)])
    file = write_tree(wsgidav.data / root, {"f": b"right"}) / "f"
    with Vdir() as vdir:
        for name in ("/f", "/g"):
            vdir.add("dav:f", name)
        assert not vdir.verify(deep=True).failed
        seen = file.stat()
        file.write_bytes(b"wrong")
        os.utime(file, ns=(seen.st_atime_ns, seen.st_mtime_ns))
        with pytest.raises(ChecksumMismatch):
            list(vdir.cat("/f"))
        for name in ("/f", "/g"):
            with pytest.raises(Refused, match="nowhere else"):
                vdir.delete(name, purge=True)


def test_a_copy_that_a_reading_has_found_wrong_is_none(rotten: Vdir) -> None:
    with pytest.raises(Refused, match="last good replica"):
        rotten.drop("/f", from_=["one"])
    with pytest.raises(Refused, match="/f"):
        ConfigApi().remove("one")
    assert not rotten.verify("/f", repair=True).failed
    rotten.drop("/f", from_=["one"])
    assert b"".join(rotten.cat("/f")) == b"right"


def test_a_purge_does_not_rely_on_a_copy_that_a_reading_has_found_wrong(rotten: Vdir, tmp_path: Path) -> None:
    (tmp_path / "one/f").unlink()
    with pytest.raises(Refused, match="nowhere else"):
        rotten.delete("/g", purge=True)


@pytest.mark.parametrize("what", ["/f", "/"])
def test_a_sync_makes_good_what_a_reading_has_found_wrong(rotten: Vdir, what: str) -> None:
    report = rotten.sync(what)
    assert (report.files, report.versions, report.failures) == (1, 0, [])
    assert b"".join(rotten.cat("dav:/f")) == b"right"
    assert not rotten.verify("/f", deep=True).failed
