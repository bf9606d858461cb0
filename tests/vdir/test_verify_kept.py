"""`vdir verify` looks at the old contents that are kept, too: each is in one file, which nothing else has."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from cloudmesh.cdir.main import CDIR
from cloudmesh.storage.layers import Meter, find_layer
from cloudmesh.storage.services import Services
from cloudmesh.storage.transfer.events import Event
from cloudmesh.vdir import Vdir
from cloudmesh.vdir.options import Sample
from cloudmesh.vdir.records import Verified
from deploy.servers import SeaweedFS, StorageServer
from tests.places import configure, local, write_tree

NAMES = [f"f{i}" for i in range(5)]


def keep(vdir: Vdir, tmp_path: Path, service: str) -> None:
    """Make ``/t`` with files that have an old content each."""
    for content in ("old", "newer"):
        source = write_tree(tmp_path / content, {name: f"{content} {name}".encode() for name in NAMES})
        vdir.put(str(source), "/t", to=[service], recursive=True, force=True)


def problems(report: Verified) -> list[tuple[str, str, str]]:
    return [(one.name, one.service, one.state) for one in report.problems]


@pytest.fixture
def root(home: Path, tmp_path: Path) -> Path:
    configure(home, [local("one", tmp_path / "one"), local("two", tmp_path / "two")])
    with Vdir() as vdir:
        keep(vdir, tmp_path, "one")
    return tmp_path / "one/.cdir-versions/t"


def file_of(root: Path, name: str) -> Path:
    return next(root.glob(f"{name}~v1-*"))


def test_lost_and_damaged_old_contents_are_told(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with Vdir() as vdir:
        for deep in (False, True):
            report = vdir.verify("/t", deep=deep)
            assert (report.failed, report.files, report.versions) == (False, 5, 5)
            assert report.bytes == (sum(len(f"old {name}newer {name}") for name in NAMES) if deep else 0)
        file_of(root, "f0").unlink()
        file_of(root, "f1").write_bytes(b"short")
        file_of(root, "f2").write_bytes(b"OLD f2")
        cheap, read = [("/t/f0", "one", "missing"), ("/t/f1", "one", "bad")], [("/t/f2", "one", "bad")]
        assert problems(vdir.verify("/t")) == cheap
        assert problems(vdir.verify("/t", deep=True, repair=True)) == cheap + read
        assert problems(vdir.verify("/t/f2", deep=True)) == read
        assert not vdir.verify("/t/f3", deep=True).failed
    capsys.readouterr()
    assert CDIR.run(["verify", "/t", "--output=csv"]) == 1
    assert CDIR.run(["verify", "/t/f0"]) == 1
    assert "version 1, kept as one:.cdir-versions/t/f0~v1-" in capsys.readouterr().out


def test_an_old_content_that_the_rule_has_removed_is_not_missed(root: Path) -> None:
    file_of(root, "f0").unlink()
    with Vdir() as vdir:
        assert vdir.verify("/t").failed
        vdir.rules.set("/t", versions=0)
        assert not vdir.sync("/t").failed
        report = vdir.verify("/t")
        assert (report.failed, report.versions) == (False, 0)


def test_a_service_that_is_away_has_lost_nothing(root: Path, home: Path, tmp_path: Path) -> None:
    with Vdir() as vdir:
        vdir.copy("/t", to=["two"], recursive=True)
    shutil.move(tmp_path / "one", tmp_path / "elsewhere")
    (tmp_path / "one").mkdir()
    with Vdir() as vdir:
        report = vdir.verify("/t")
        assert {state for _, service, state in problems(report) if service == "one"} == {"unavailable"}
        assert len(report.problems) == 10


def test_a_sample_takes_the_old_contents_of_its_files(root: Path) -> None:
    with Vdir() as vdir:
        report = vdir.verify("/t", deep=True, sample=Sample(count=2))
        assert (report.files, report.versions) == (2, 2)


def test_a_verification_goes_on_with_the_old_contents_that_were_not_read(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file_of(root, "f1").write_bytes(b"OLD f1")

    def interrupted(event: Event) -> None:
        if event.name.endswith("version 1") and event.kind == "failed":
            raise KeyboardInterrupt

    with Vdir(observer=interrupted) as vdir, pytest.raises(KeyboardInterrupt):
        vdir.verify("/t", deep=True)
    file_of(root, "f3").unlink()  # it was read, and is looked at again only the next time
    with Vdir() as vdir:
        report = vdir.verify("/t", deep=True)
        assert problems(report) == [("/t/f1", "one", "bad")]
        assert (report.earlier, report.versions) == (9, 5)
        assert problems(vdir.verify("/t", deep=True)) == [("/t/f1", "one", "bad"), ("/t/f3", "one", "missing")]


@pytest.mark.parametrize("kind", ["seaweedfs", "wsgidav", "openssh"])
def test_on_servers(kind: str, home: Path, tmp_path: Path, request: pytest.FixtureRequest) -> None:
    server: StorageServer = request.getfixturevalue(kind)
    configure(home, [server.settings("far", root=f"kept-{tmp_path.name}")])
    services = Services()
    with Vdir(services=services) as vdir:
        keep(vdir, tmp_path, "far")
        assert (vdir.verify("/t").failed, vdir.verify("/t", deep=True).failed) == (False, False)
        meter = find_layer(services.open("far"), Meter)
        assert meter is not None
        before = meter.snapshot().by_primitive
        assert vdir.verify("/t").versions == 5
        after = meter.snapshot().by_primitive
        assert {name for name in after if after[name] != before.get(name)} == {"scan"}, "listings are enough"
        services.open("far").remove(vdir.history("/t/f0")[1].where[0].partition(":")[2])
        assert problems(vdir.verify("/t", deep=True)) == [("/t/f0", "far", "missing")]
    services.close()


def test_what_a_service_keeps_by_itself_is_looked_for(home: Path, tmp_path: Path, seaweedfs: SeaweedFS) -> None:
    bucket = seaweedfs.make_bucket(versioned=True)
    configure(home, [seaweedfs.settings("aws", bucket=bucket)])
    with Vdir() as vdir:
        keep(vdir, tmp_path, "aws")
        report = vdir.verify("/t", deep=True)
        assert (report.failed, report.versions) == (False, 5)
        client = seaweedfs.client()
        found = client.list_object_versions(Bucket=bucket, Prefix="t/f0")["Versions"]
        old = next(one["VersionId"] for one in found if not one["IsLatest"])
        client.delete_object(Bucket=bucket, Key="t/f0", VersionId=old)
        assert problems(vdir.verify("/t")) == [("/t/f0", "aws", "missing")]
