"""`vdir verify`: what is wrong with replicas is found, told and made good; what only seems wrong is not."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from cloudmesh.storage.abc import SMALL, Entry, StorageABC
from cloudmesh.storage.layers import Layer
from cloudmesh.storage.services import Services
from cloudmesh.storage.transfer.events import Event
from cloudmesh.storage.transfer.totals import Totals
from cloudmesh.vdir import Vdir
from cloudmesh.vdir.options import Sample
from cloudmesh.vdir.records import ServiceVerified, Verified
from deploy.servers import OpenSsh, SeaweedFS, Wsgidav
from tests.faults import HttpFaults
from tests.places import configure, local, wait_for_tick, write_tree

LARGE = bytes(range(256)) * (SMALL // 256 + 40)
FILES = {"a": b"alpha", "d/b": b"beta", "d/empty": b"", "large": LARGE}


@pytest.fixture
def disks(home: Path, tmp_path: Path) -> dict[str, Path]:
    roots = {name: tmp_path / name for name in ("one", "two", "three")}
    configure(home, [local(name, root) for name, root in roots.items()])
    return roots


@pytest.fixture
def vdir(disks: dict[str, Path], tmp_path: Path) -> Iterator[Vdir]:
    """A tree with replicas on two services."""
    with Vdir() as opened:
        opened.put(str(write_tree(tmp_path / "source", FILES)), "/t", to=["one", "two"], recursive=True)
        yield opened


def rot(path: Path) -> None:
    """Flip a bit in the middle of a file; nothing tells it but the time of the last change, which a disk keeps."""
    before = path.stat()
    wait_for_tick()
    with path.open("r+b") as file:
        file.seek(before.st_size // 2)
        byte = file.read(1)[0]
        file.seek(before.st_size // 2)
        file.write(bytes([byte ^ 1]))
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


def problems(report: Verified) -> list[tuple[str, str, str]]:
    return [(one.name, one.service, one.state) for one in report.problems]


def counts(report: Verified, service: str) -> dict[str, int]:
    """What is not zero of a service's counts."""
    found = next((one for one in report.services if one.service == service), ServiceVerified(service))
    return {name: count for name in ServiceVerified.__slots__ if name != "service" and (count := getattr(found, name))}


def test_all_good(vdir: Vdir) -> None:
    for deep in (False, True):
        report = vdir.verify("/t", deep=deep)
        assert (report.failed, report.files, problems(report)) == (False, 4, [])
        assert counts(report, "one") == counts(report, "two") == {"checked": 4, "good": 4}
        assert report.bytes == (2 * sum(map(len, FILES.values())) if deep else 0)


@pytest.mark.parametrize("name", ["a", "large"])
@pytest.mark.parametrize("deep", [False, True])
def test_rotten_bytes_are_found_and_made_good(vdir: Vdir, disks: dict[str, Path], name: str, deep: bool) -> None:
    rot(disks["one"] / "t" / name)
    assert problems(vdir.verify("/t", deep=deep)) == [(f"/t/{name}", "one", "bad")]
    assert next(vdir.ls(f"/t/{name}")).services == ["two"], "it is not read from any more"
    assert problems(vdir.verify("/t")) == [(f"/t/{name}", "one", "bad")], "nothing but bytes make it good again"
    assert vdir.status("/t", check=True).failed
    repaired = vdir.verify("/t", repair=True)
    assert (repaired.failed, counts(repaired, "one")) == (False, {"checked": 4, "good": 3, "repaired": 1})
    assert (disks["one"] / "t" / name).read_bytes() == FILES[name]
    assert not vdir.verify("/t", deep=True).failed
    assert next(vdir.ls(f"/t/{name}")).services == ["one", "two"]


def test_a_bad_replica_that_is_right_again_is_good(vdir: Vdir, disks: dict[str, Path]) -> None:
    rot(disks["one"] / "t/a")
    assert vdir.verify("/t/a", deep=True).failed
    rot(disks["one"] / "t/a")  # the same bit again
    assert not vdir.verify("/t/a", deep=True).failed
    assert next(vdir.ls("/t/a")).services == ["one", "two"]


def test_a_bad_replica_that_was_changed_meanwhile_is_not_overwritten(vdir: Vdir, disks: dict[str, Path]) -> None:
    rot(disks["one"] / "t/a")
    assert vdir.verify("/t/a", deep=True).failed
    (disks["one"] / "t/a").write_bytes(b"edited")
    assert problems(vdir.verify("/t/a", repair=True)) == [("/t/a", "one", "stale")]
    assert (disks["one"] / "t/a").read_bytes() == b"edited"


def test_on_postgresql(
    database_url: str, monkeypatch: pytest.MonkeyPatch, disks: dict[str, Path], tmp_path: Path
) -> None:
    monkeypatch.setenv("CDIR_DATABASE", database_url)
    write_tree(disks["one"], FILES)
    with Vdir() as vdir:
        vdir.add("one:", "/t", recursive=True)
        assert not vdir.verify("/t", deep=True).failed
        assert all(one.sha256 for one in vdir.ls("/t") if one.kind == "file")
        vdir.copy("/t", to=["two"], recursive=True)
        rot(disks["one"] / "a")
        assert problems(vdir.verify("/t", deep=True, sample=Sample(count=9))) == [("/t/a", "one", "bad")]
        assert not vdir.verify("/t", repair=True).failed
        vdir.put(str(write_tree(tmp_path / "source", {"a": b"newer"})), "/t", to=["two"], recursive=True, force=True)
        report = vdir.verify("/t", deep=True)
        assert (report.failed, report.versions) == (False, 1)


def test_where_no_replica_is_good_nothing_is_made_of_it(vdir: Vdir, disks: dict[str, Path]) -> None:
    rot(disks["one"] / "t/a")
    (disks["two"] / "t/a").unlink()
    report = vdir.verify("/t", deep=True, repair=True)
    assert problems(report) == [("/t/a", "one", "bad"), ("/t/a", "two", "missing")]
    assert all("no good replica is left" in one.detail for one in report.problems)
    assert not (disks["two"] / "t/a").exists()


def test_missing_ones_are_made_again_and_changed_ones_are_left(vdir: Vdir, disks: dict[str, Path]) -> None:
    (disks["one"] / "t/a").unlink()
    (disks["two"] / "t/d/b").write_bytes(b"edited by another")
    assert problems(vdir.verify("/t")) == [("/t/a", "one", "missing"), ("/t/d/b", "two", "stale")]
    report = vdir.verify("/t", repair=True)
    assert problems(report) == [("/t/d/b", "two", "stale")]
    assert report.failed
    assert (counts(report, "one"), counts(report, "two")) == (
        {"checked": 4, "good": 3, "repaired": 1},
        {"checked": 4, "good": 3, "stale": 1},
    )
    assert (disks["one"] / "t/a").read_bytes() == b"alpha"
    assert (disks["two"] / "t/d/b").read_bytes() == b"edited by another"


def test_a_service_on_which_nothing_is_left_loses_no_replica(
    vdir: Vdir, disks: dict[str, Path], tmp_path: Path
) -> None:
    files = {f"f{number}": b"x" for number in range(12)}
    vdir.put(str(write_tree(tmp_path / "many", files)), "/m", to=["one", "three"], recursive=True)
    (disks["three"]).rename(tmp_path / "unmounted")
    disks["three"].mkdir()
    report = vdir.verify("/m", deep=True, repair=True)
    assert counts(report, "three") == {"unavailable": 12}
    assert report.failed
    assert next(vdir.ls("/m")).services == ["one", "three"]
    assert not any(disks["three"].iterdir())


def test_contents_of_added_files_are_learnt(vdir: Vdir, disks: dict[str, Path]) -> None:
    write_tree(disks["one"], {"old/x": b"added", "old/y": LARGE})
    vdir.add("one:old", "/old", recursive=True)
    assert [one.sha256 for one in vdir.ls("/old")] == [None, None]
    assert not vdir.verify("/old", deep=True).failed
    assert all(one.sha256 for one in vdir.ls("/old"))
    rot(disks["one"] / "old/x")
    assert problems(vdir.verify("/old", deep=True)) == [("/old/x", "one", "bad")]


def test_of_differing_replicas_with_unknown_content_none_is_declared_bad(vdir: Vdir, disks: dict[str, Path]) -> None:
    write_tree(disks["one"], {"old/x": b"added"})
    vdir.add("one:old/x", "/old/x")
    write_tree(disks["two"], {"old/x": b"added"})
    vdir.add("two:old/x", "/old/x")
    rot(disks["two"] / "old/x")
    report = vdir.verify("/old", deep=True, repair=True)
    assert problems(report) == [("/old/x", "one", "suspicious"), ("/old/x", "two", "suspicious")]
    assert next(vdir.ls("/old")).sha256 is None
    rot(disks["two"] / "old/x")
    assert not vdir.verify("/old", deep=True).failed


def test_over_real_services_rot_is_found_and_made_good(
    home: Path, tmp_path: Path, seaweedfs: SeaweedFS, wsgidav: Wsgidav, openssh: OpenSsh
) -> None:
    configure(
        home,
        [
            seaweedfs.settings("s3", root="verify"),
            wsgidav.settings("dav", root="verify"),
            openssh.settings("lab", root="verify"),
        ],
    )
    with Vdir() as vdir:
        vdir.put(str(write_tree(tmp_path / "source", FILES)), "/t", to=["s3", "dav", "lab"], recursive=True)
        os.utime(wsgidav.data / "verify/t/a", (0, 1_600_000_000))  # what was written just now may be an edit
        assert not vdir.verify("/t", deep=True).failed
        assert not vdir.sync("/t").failed
        rot(wsgidav.data / "verify/t/a")
        rot(openssh.data / "verify/t/large")
        assert problems(vdir.verify("/t", deep=True)) == [("/t/a", "dav", "bad"), ("/t/large", "lab", "bad")]
        assert not vdir.verify("/t", deep=True, repair=True).failed
        assert (wsgidav.data / "verify/t/a").read_bytes() == FILES["a"]
        assert (openssh.data / "verify/t/large").read_bytes() == LARGE


@pytest.mark.parametrize("repair", [False, True])
def test_an_edit_in_the_second_of_our_own_writing_is_no_rot(
    home: Path, tmp_path: Path, wsgidav: Wsgidav, openssh: OpenSsh, repair: bool
) -> None:
    """Services that tell times in whole seconds show it as little as they show rot: `sync` decides, and keeps both."""
    root = f"second-{repair}"
    places = {"dav": wsgidav.data / root, "lab": openssh.data / root}
    configure(
        home, [local("one", tmp_path / "one"), wsgidav.settings("dav", root=root), openssh.settings("lab", root=root)]
    )
    source = write_tree(tmp_path / "source", {"dav": b"written by us", "lab": b"written by us"})
    for file in source.iterdir():
        os.utime(file)
    with Vdir() as vdir:
        vdir.put(str(source), "/t", to=["one", "dav", "lab"], recursive=True)
        for service, place in places.items():
            before = (place / "t" / service).stat()
            (place / "t" / service).write_bytes(b"not by us, no")
            os.utime(place / "t" / service, ns=(before.st_atime_ns, before.st_mtime_ns))
        report = vdir.verify("/t", deep=True, repair=repair)
        assert problems(report) == [("/t/dav", "dav", "stale"), ("/t/lab", "lab", "stale")]
        assert not vdir.sync("/t").failed
        for name in places:
            assert b"".join(vdir.cat(f"/t/{name}")) == b"not by us, no"
            assert [one.state for one in vdir.history(f"/t/{name}")] == ["current", "kept"]


@pytest.fixture
def faulty(
    home: Path, tmp_path: Path, wsgidav: Wsgidav, http_faults: Callable[[int], HttpFaults]
) -> Iterator[tuple[Vdir, HttpFaults]]:
    """Twelve files on the local disk and on WebDAV behind a proxy."""
    proxy = http_faults(wsgidav.port)
    root = f"faulty-{tmp_path.name}"
    configure(home, [local("one", tmp_path / "one"), wsgidav.settings("dav", root=root, port=proxy.port)])
    source = write_tree(tmp_path / "source", {f"f{number:02}": b"content" for number in range(12)})
    with Vdir() as vdir:
        vdir.put(str(source), "/t", to=["one", "dav"], recursive=True)
        assert not vdir.verify("/t").failed, "WebDAV tells the token of what was written only when it is asked"
        yield vdir, proxy


def test_a_replica_that_cannot_be_read_is_suspicious_and_at_the_third_time_bad(
    faulty: tuple[Vdir, HttpFaults],
) -> None:
    vdir, proxy = faulty
    proxy.answer(403, times=None, method="GET", path="f03")
    assert problems(vdir.verify("/t", deep=True)) == [("/t/f03", "dav", "suspicious")]
    assert next(vdir.ls("/t/f03")).health == "ok", "one failure says little"
    assert problems(vdir.verify("/t")) == [("/t/f03", "dav", "suspicious")], "what is suspicious is read in any case"
    assert problems(vdir.verify("/t")) == [("/t/f03", "dav", "bad")]
    assert next(vdir.ls("/t/f03")).services == ["one"]
    proxy.heal()
    assert not vdir.verify("/t", deep=True).failed


def test_what_could_be_read_only_the_second_time_counts_for_unknown_content(
    faulty: tuple[Vdir, HttpFaults], wsgidav: Wsgidav, tmp_path: Path
) -> None:
    vdir, proxy = faulty
    write_tree(tmp_path / "one", {"old/x": b"added"})
    vdir.add("one:old/x", "/old/x")
    write_tree(wsgidav.data / f"faulty-{tmp_path.name}", {"old/x": b"added"})
    vdir.add("dav:old/x", "/old/x")
    rot(wsgidav.data / f"faulty-{tmp_path.name}/old/x")
    proxy.answer(403, times=1, method="GET", path="old/x")
    assert problems(vdir.verify("/old", deep=True)) == [
        ("/old/x", "dav", "suspicious"),
        ("/old/x", "one", "suspicious"),
    ]
    assert proxy.fired == 1
    assert next(vdir.ls("/old")).sha256 is None


def test_a_reading_that_works_ends_the_suspicion(faulty: tuple[Vdir, HttpFaults]) -> None:
    vdir, proxy = faulty
    for _ in range(3):
        proxy.answer(403, times=2, method="GET", path="f03")
        assert problems(vdir.verify("/t", deep=True)) == [("/t/f03", "dav", "suspicious")]
        assert not vdir.verify("/t").failed


def test_many_files_that_cannot_be_read_are_the_fault_of_the_service(faulty: tuple[Vdir, HttpFaults]) -> None:
    vdir, proxy = faulty
    proxy.answer(403, times=None, method="GET")
    for _ in range(4):
        report = vdir.verify("/t", deep=True, repair=True)
        assert (counts(report, "dav"), counts(report, "one")) == ({"unavailable": 12}, {"checked": 12, "good": 12})
        assert report.failed
    proxy.heal()
    assert not vdir.verify("/t", deep=True).failed


def test_wrong_bytes_on_the_way_are_read_again_before_they_are_believed(faulty: tuple[Vdir, HttpFaults]) -> None:
    vdir, proxy = faulty
    proxy.answer(200, times=1, method="GET", path="f03", body=b"c0ntent")
    assert not vdir.verify("/t", deep=True).failed
    assert proxy.fired == 1


def killed(act: Callable[[Vdir], Any], after: int) -> None:
    """Do something in a process that is killed at a ``done`` event."""
    child = os.fork()
    if child == 0:
        left = after

        def deadly(event: Event) -> None:
            nonlocal left
            left -= event.kind == "done"
            if left <= 0:
                os._exit(77)

        try:
            with Vdir(observer=deadly) as vdir:
                act(vdir)
        finally:
            os._exit(1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 77


@pytest.mark.parametrize(("deep", "sample"), [(False, None), (True, None), (True, Sample(count=1100))])
def test_a_killed_verification_goes_on(
    disks: dict[str, Path], tmp_path: Path, deep: bool, sample: Sample | None
) -> None:
    files = {f"d{number % 7}/f{number}": b"x%d" % number for number in range(1200)}
    with Vdir() as vdir:
        vdir.put(str(write_tree(tmp_path / "source", files)), "/t", to=["one"], recursive=True)
    killed(lambda vdir: vdir.verify("/t", deep=deep, sample=sample), 700)
    wanted = 1200 if sample is None else 1100
    with Vdir() as vdir:
        other = vdir.verify("/t/d0", deep=deep)
        assert other.earlier == 0, "it is another verification"
        report = vdir.verify("/t", deep=deep, sample=sample)
        assert report.earlier >= 1000
        assert (report.earlier + counts(report, "one")["good"], report.files) == (wanted, wanted)
        again = vdir.verify("/t", deep=deep, sample=sample)
        assert (again.earlier, counts(again, "one")["good"]) == (0, wanted), "what has ended begins anew"


class Meeting(Layer):
    """A service that is listed only while another one is."""

    def __init__(self, inner: StorageABC, barrier: threading.Barrier) -> None:
        super().__init__(inner)
        self._barrier = barrier

    def scan(self, path: str = "", **how: Any) -> Iterator[Entry]:
        self._barrier.wait(timeout=30)
        yield from super().scan(path, **how)


def test_services_are_listed_at_the_same_time(home: Path, tmp_path: Path, wsgidav: Wsgidav) -> None:
    names = ["left", "right"]
    configure(home, [wsgidav.settings(name, root=f"{tmp_path.name}-{name}") for name in names])
    source = write_tree(tmp_path / "source", {str(number): b"small" for number in range(6)})
    with Vdir() as vdir:
        vdir.put(str(source), "/t/", to=names, recursive=True)
    services = Services()
    barrier = threading.Barrier(2)
    met = {name: Meeting(services.open(name), barrier) for name in names}
    services.open = met.__getitem__  # type: ignore[assignment,method-assign]
    with closing(services), Vdir(services=services) as vdir:
        report = vdir.verify("/t")
        assert counts(report, "left") == counts(report, "right") == {"checked": 6, "good": 6}
        assert not vdir.status("/t", check=True).problems


def test_a_sample_is_the_same_on_one_day(disks: dict[str, Path], tmp_path: Path) -> None:
    files = {f"f{number:03}": b"x" for number in range(300)}
    with Vdir() as vdir:
        vdir.put(str(write_tree(tmp_path / "source", files)), "/t", to=["one"], recursive=True)
        for path in disks["one"].joinpath("t").iterdir():
            rot(path)
        first = problems(vdir.verify("/t", deep=True, sample=Sample.parse("20%")))
        assert 30 < len(first) < 90
        assert problems(vdir.verify("/t", deep=True, sample=Sample.parse("0.2"))) == first
        assert len(problems(vdir.verify("/t", deep=True, sample=Sample.parse("25")))) == 25
        assert len(problems(vdir.verify("/t", deep=True, sample=Sample.parse("100%")))) == 300


@pytest.mark.parametrize("text", ["", "0", "-1", "0%", "101%", "1.5", "nan", "x", "1e400%"])
def test_what_is_no_sample(text: str) -> None:
    with pytest.raises(ValueError, match=r"^"):
        Sample.parse(text)


def test_progress_is_told(vdir: Vdir, disks: dict[str, Path]) -> None:
    (disks["one"] / "t/a").unlink()
    totals = Totals()
    with Vdir(observer=totals) as watched:
        watched.verify("/t", deep=True, repair=True)
    seen = totals.snapshot()
    assert (seen.planned_all, seen.files_planned, seen.files_done, seen.files_failed) == (True, 9, 9, 0)
    assert seen.seconds_left == 0


def test_reading_keeps_the_limit(vdir: Vdir) -> None:
    report = vdir.verify("/t/large", deep=True, bwlimit="1500K")
    assert report.seconds > 0.2, "a second's worth goes at once, and no more"


def test_the_command_tells_by_its_exit_code(vdir: Vdir, disks: dict[str, Path]) -> None:
    def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "cloudmesh.cdir.main", "verify", "/t", *arguments]
        return subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)

    assert run("--deep", "--sample=50%").returncode == 0
    (disks["two"] / "t/a").unlink()
    found = run("--output=json")
    assert (found.returncode, '"missing"' in found.stdout) == (1, True)
    assert run("--repair").returncode == 0
    assert run("--sample=nothing").returncode == 2
