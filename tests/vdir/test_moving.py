"""Moving files between services: one read for all, events, options, and what happens when a service fails."""

from __future__ import annotations

import os
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from cloudmesh.storage import Storage
from cloudmesh.storage.abc import SMALL, ServiceSettings, StorageABC
from cloudmesh.storage.errors import SourceChanged, StorageError, UsageError
from cloudmesh.storage.layers import Meter, Retry, RetryPolicy, find_layer
from cloudmesh.storage.services import Services
from cloudmesh.storage.transfer.events import Event
from cloudmesh.storage.transfer.options import Selection
from cloudmesh.storage.transfer.totals import Totals
from cloudmesh.vdir import Vdir
from cloudmesh.vdir.options import PutOptions
from deploy.servers import SeaweedFS, Wsgidav
from tests.faults import FaultProxy
from tests.places import configure, local, read_tree, write_tree
from tests.unprivileged import closed

SMALL_FILES = {f"d{i % 3}/f{i}": b"%d" % i * 50 for i in range(40)}
LARGE = {"large": bytes(range(256)) * (3 * SMALL // 256), "large2": b"x" * (SMALL + 1)}
FAST = RetryPolicy(attempts=2, base_seconds=0.01, cap_seconds=0.01)


class Heard:
    """Takes all events; `totals` counts them, `check` demands that every file planned has ended, under its name."""

    def __init__(self) -> None:
        self.events: list[Event] = []
        self.totals = Totals()

    def __call__(self, event: Event) -> None:
        self.events.append(event)
        self.totals(event)

    def names(self, kind: str) -> Counter[str]:
        return Counter(one.name for one in self.events if one.kind == kind)

    def check(self) -> None:
        now = self.totals.snapshot()
        assert now.planned_all
        ended = self.names("done") + self.names("skipped") + self.names("failed")
        assert self.names("planned") == ended
        assert set(ended.values()) <= {1}
        assert now.bytes_planned == now.bytes_done + now.bytes_skipped + now.bytes_failed
        assert not now.under_way
        assert self.names("moved").keys() <= ended.keys()
        assert self.names("started").keys() <= ended.keys()
        assert now.seconds_left == 0


@pytest.fixture
def source(tmp_path: Path) -> Path:
    return write_tree(tmp_path / "source", SMALL_FILES | LARGE)


@pytest.fixture
def disks(home: Path, tmp_path: Path) -> dict[str, Path]:
    """Three services on the local disk, by name."""
    roots = {name: tmp_path / name for name in ("one", "two", "three")}
    configure(home, [local(name, root) for name, root in roots.items()])
    return roots


@pytest.fixture
def impatient() -> Iterator[Services]:
    """Services that try again at once, and only once."""
    services = Services()
    plain = services.open

    def opened(name: str) -> StorageABC:
        service = plain(name)
        retry = find_layer(service, Retry)
        assert retry is not None
        retry.policy = FAST
        return service

    services.open = opened  # type: ignore[method-assign]
    yield services
    services.close()


def reads(services: Services, name: str) -> dict[str, int]:
    meter = find_layer(services.open(name), Meter)
    assert meter is not None
    counts = meter.snapshot().by_primitive
    return {one: counts[one].requests for one in ("read_many", "open_read", "download") if one in counts}


# ---- one read for all ----------------------------------------------------------------------------------------------


def test_a_copy_from_service_to_services_reads_each_file_once(
    home: Path, tmp_path: Path, source: Path, seaweedfs: SeaweedFS, wsgidav: Wsgidav
) -> None:
    configure(
        home,
        [
            seaweedfs.settings("aws", bucket=seaweedfs.make_bucket()),
            wsgidav.settings("dav", root="fan"),
            local("one", tmp_path / "one"),
            local("two", tmp_path / "two"),
        ],
    )
    heard = Heard()
    with Vdir() as vdir:
        vdir.put(str(source), "/data", to=["aws"], recursive=True)
    services = Services()
    with Vdir(services=services, observer=heard) as vdir:
        report = vdir.copy("/data", to=["dav", "one", "two"], recursive=True)
        assert (report.files, report.errors) == (3 * (len(SMALL_FILES) + len(LARGE)), 0), report.failures
        assert reads(services, "aws") == {"read_many": len(SMALL_FILES), "open_read": len(LARGE)}
        heard.check()
        assert sum(e.size for e in heard.events if e.kind == "moved" and e.name == "/data/large on dav") == 3 * SMALL
        assert read_tree(tmp_path / "one/data") == read_tree(tmp_path / "two/data") == SMALL_FILES | LARGE
        assert not vdir.status("/data", check=True).problems
    services.close()


# ---- events --------------------------------------------------------------------------------------------------------


def test_every_file_that_is_planned_ends_under_its_name(disks: dict[str, Path], source: Path, tmp_path: Path) -> None:
    commands: list[tuple[Callable[[Vdir], object], str]] = [
        (lambda vdir: vdir.put(str(source), "/data", to=["one", "two"], recursive=True), "put"),
        (lambda vdir: vdir.put(str(source), "/data", to=["one", "two", "three"], recursive=True), "put"),
        (lambda vdir: vdir.put(str(source), "/data", to=["one"], recursive=True), "put again"),
        (lambda vdir: vdir.get("/data", str(tmp_path / "back"), recursive=True), "get"),
        (lambda vdir: vdir.get("/data", str(tmp_path / "back"), recursive=True), "get again"),
        (lambda vdir: vdir.heal("/data"), "heal"),
    ]
    for act, name in commands:
        heard = Heard()
        with Vdir(observer=heard) as vdir:
            act(vdir)
        heard.check()
        assert heard.names("planned"), name
        assert not heard.names("failed"), name
        if "again" in name:
            assert heard.names("planned") == heard.names("skipped")
    assert read_tree(tmp_path / "back") == SMALL_FILES | LARGE


def test_every_file_ends_also_where_much_goes_wrong(disks: dict[str, Path], source: Path, tmp_path: Path) -> None:
    write_tree(disks["two"], {"data/d0/f0": b"theirs", "data/d1": b"a file where a directory is needed"})
    heard = Heard()
    with Vdir(observer=heard) as vdir:
        report = vdir.put(str(source), "/data", to=["one", "two"], recursive=True)
        heard.check()
        assert heard.names("failed") == {f"/data/{name} on two": 1 for name in SMALL_FILES if "d1/" in name} | {
            "/data/d0/f0 on two": 1
        }
        assert report.errors == heard.totals.snapshot().files_failed
        write_tree(source, {"d0/f3": b"other", "d2/f2": b"else", "new": b"new"})
        (source / "d0/f6").chmod(0)
    for force in (False, True):
        heard = Heard()
        with Vdir(observer=heard) as vdir:
            vdir.put(str(source), "/data", to=["one", "three"], recursive=True, force=force)
            heard.check()
            assert bool(heard.names("failed")["/data/d2/f2 on one"]) is not force
    (disks["one"] / "data/large").unlink()
    (disks["two"] / "data/large").write_bytes(b"their work")
    (disks["three"] / "data/d0/f3").unlink()
    write_tree(tmp_path / "back", {"d0/f0": b"in the way", "d2": b"in the way"})
    acts: list[Callable[[Vdir], object]] = [
        lambda vdir: vdir.get("/data", str(tmp_path / "back"), recursive=True),
        lambda vdir: vdir.copy("/data", to=["three"], recursive=True),
        lambda vdir: vdir.heal("/data"),
    ]
    for act in acts:
        heard = Heard()
        with Vdir(observer=heard) as vdir:
            act(vdir)
        heard.check()


def test_what_is_to_be_done_is_planned_a_batch_ahead(disks: dict[str, Path], tmp_path: Path) -> None:
    many = write_tree(tmp_path / "many", {f"f{i:04}": b"" for i in range(1200)})
    heard = Heard()
    with Vdir(observer=heard) as vdir:
        vdir.put(str(many), "/data", to=["one"], recursive=True)
        kinds = [event.kind for event in heard.events]
        assert kinds[: kinds.index("done")].count("planned") == 1000
        assert kinds[kinds.index("planned_all") :].count("done") == 200
        heard.check()


def test_a_dry_run_tells_nothing(disks: dict[str, Path], source: Path) -> None:
    heard = Heard()
    with Vdir(observer=heard) as vdir:
        assert vdir.put(str(source), "/data", to=["one"], recursive=True, dryrun=True).files == 42
    assert heard.events == []


def test_a_directory_that_cannot_be_listed_is_told_and_the_rest_goes_on(disks: dict[str, Path], source: Path) -> None:
    heard = Heard()
    write_tree(disks["two"] / "there", {"a/f": b"f", "b/f": b"f"})
    with Vdir(observer=heard) as vdir:
        with closed(source / "d1"):
            report = vdir.put(str(source), "/data", to=["one"], recursive=True)
        assert (report.files, [one.name for one in report.failures]) == (29, [str(source / "d1")])
        heard.check()
        with closed(disks["two"] / "there/a"):
            report = vdir.add("two:there", "/there", recursive=True)
        assert (report.files, [one.name for one in report.failures]) == (1, ["two:there/a"])


# ---- failures ------------------------------------------------------------------------------------------------------


def test_a_dead_service_is_given_up_while_the_others_go_on_and_is_healed(
    home: Path,
    tmp_path: Path,
    impatient: Services,
    seaweedfs: SeaweedFS,
    wsgidav: Wsgidav,
    fault_proxy: Callable[[int], FaultProxy],
) -> None:
    files = {f"f{i}": b"%d" % i for i in range(300)}
    many = write_tree(tmp_path / "many", files)
    proxy = fault_proxy(wsgidav.port)
    configure(
        home,
        [
            seaweedfs.settings("aws", bucket=seaweedfs.make_bucket()),
            wsgidav.settings("dav", root="dead", port=proxy.port),
            local("one", tmp_path / "one"),
        ],
    )
    heard = Heard()
    with Vdir(services=impatient, observer=heard) as vdir:
        proxy.refuse()
        report = vdir.put(str(many), "/data", to=["dav", "one", "aws"], recursive=True)
        heard.check()
        assert (report.files, report.errors) == (600, 300)
        assert {failure.name.rpartition(" ")[2] for failure in report.failures} == {"dav"}
        assert sum("not tried" in failure.error for failure in report.failures) > 200
        assert read_tree(tmp_path / "one/data") == files
        assert {one.health for one in vdir.ls("/data")} == {"degraded"}
        proxy.heal()
        report = vdir.heal("/data")
        assert (report.files, report.errors) == (0, 300), "the service is out of use for a while"
        assert "cms storage measure dav tries it now" in report.failures[0].error
        assert not Storage(services=impatient).measure("dav")[0].problem
        assert vdir.heal("/data").files == 300
        assert not vdir.status("/data", check=True).problems
        proxy.refuse()
        vdir.prefer("/", ["dav"])
        report = vdir.get("/data", str(tmp_path / "back"), recursive=True)
        assert (report.files, report.errors) == (300, 0), report.failures[:1]
        assert read_tree(tmp_path / "back") == files
        report = vdir.copy("/data", to=["one", "aws"], recursive=True)
        assert report.skipped == 600


def test_a_service_that_dies_in_the_middle_fails_alone(
    home: Path,
    tmp_path: Path,
    source: Path,
    impatient: Services,
    wsgidav: Wsgidav,
    fault_proxy: Callable[[int], FaultProxy],
    seaweedfs: SeaweedFS,
) -> None:
    """From service to services: the connections of one break in large and in small files and never come back."""
    proxy = fault_proxy(wsgidav.port)
    configure(
        home,
        [
            seaweedfs.settings("aws", bucket=seaweedfs.make_bucket()),
            wsgidav.settings("dav", root="middle", port=proxy.port),
            local("one", tmp_path / "one"),
        ],
    )
    heard = Heard()
    with Vdir(services=impatient, observer=heard) as vdir:
        vdir.put(str(source), "/data", to=["aws"], recursive=True)
        proxy.cut(after=5_000, direction="up", times=None)
        report = vdir.copy("/data", to=["dav", "one"], recursive=True)
        assert proxy.fired
        heard.check()
        failed = {failure.name for failure in report.failures}
        assert failed >= {"/data/large on dav", "/data/large2 on dav"}
        assert all(name.endswith(" on dav") for name in failed)
        assert read_tree(tmp_path / "one/data") == SMALL_FILES | LARGE
        proxy.heal()
        assert vdir.heal("/data").errors == 0
        assert not vdir.status("/data", check=True).problems
        assert {one.health for one in vdir.ls("/data", recursive=True) if one.kind == "file"} == {"ok"}


def test_a_service_that_stalls_does_not_keep_the_others_from_their_files(
    home: Path,
    tmp_path: Path,
    source: Path,
    impatient: Services,
    wsgidav: Wsgidav,
    fault_proxy: Callable[[int], FaultProxy],
) -> None:
    proxy = fault_proxy(wsgidav.port)
    stalling = wsgidav.settings("dav", root="stall", port=proxy.port)
    slow = ServiceSettings(
        "dav", "webdav", root=stalling.root, credentials=stalling.credentials, options={"read_timeout": 0.5}
    )
    configure(home, [slow, local("one", tmp_path / "one")])
    with Vdir(services=impatient) as vdir:
        proxy.stall(after=0, direction="down", times=None)
        begin = time.monotonic()
        report = vdir.put(str(source), "/data", to=["dav", "one"], recursive=True)
        assert time.monotonic() - begin < 20
        assert read_tree(tmp_path / "one/data") == SMALL_FILES | LARGE
        assert (report.files, report.errors) == (42, 42)
    proxy.heal()
    configure(home, [stalling, local("one", tmp_path / "one")])  # half a second is not enough on a busy computer
    with Storage() as storage, Vdir() as vdir:
        assert not storage.measure("dav")[0].problem
        assert vdir.heal("/data").errors == 0
        assert not vdir.status("/data", check=True).problems


def test_small_and_large_files_come_from_the_next_source_where_the_first_has_lost_or_damaged_them(
    disks: dict[str, Path], source: Path, tmp_path: Path, impatient: Services
) -> None:
    with Vdir(services=impatient) as vdir:
        vdir.put(str(source), "/data", to=["one", "two"], recursive=True)
        vdir.prefer("/", ["one"])
        for name in ("d0/f0", "large"):
            (disks["one"] / "data" / name).unlink()
        for name in ("d1/f1", "large2"):
            file = disks["one"] / "data" / name
            seen = file.stat()
            with file.open("r+b") as opened:
                opened.write(b"!")
            os.utime(file, ns=(seen.st_atime_ns, seen.st_mtime_ns))
        os.utime(disks["one"] / "data/d2/f2")  # only touched
        heard = Heard()
        with Vdir(services=impatient, observer=heard) as other:
            report = other.copy("/data", to=["three"], recursive=True)
            assert (report.files, report.errors) == (42, 0), report.failures
        heard.check()
        assert read_tree(disks["three"] / "data") == SMALL_FILES | LARGE
        assert vdir.get("/data", str(tmp_path / "back"), recursive=True).errors == 0
        assert read_tree(tmp_path / "back") == SMALL_FILES | LARGE


@pytest.mark.parametrize("name", ["d0/f0", "large"])
def test_a_source_that_changes_after_it_was_hashed_is_not_stored(
    disks: dict[str, Path], source: Path, name: str
) -> None:
    changed = bytes((source / name).stat().st_size)

    def change(event: Event) -> None:
        if event.kind == "planned" and event.name == f"/data/{name} on one":
            (source / name).write_bytes(changed)

    with Vdir(observer=change) as vdir:
        report = vdir.put(str(source), "/data", to=["one", "two"], recursive=True)
        assert {failure.name for failure in report.failures} == {f"/data/{name} on {to}" for to in ("one", "two")}
        assert "changed" in report.failures[0].error
        for to in ("one", "two"):
            assert not (disks[to] / "data" / name).exists()
        assert f"data/{name}" not in {one.path.strip("/") for one in vdir.ls("/", recursive=True)}
    with Vdir() as vdir:
        assert vdir.put(str(source), "/data", to=["one", "two"], recursive=True).files == 2
        assert (disks["two"] / "data" / name).read_bytes() == changed


def test_a_source_that_changes_while_it_is_sent_leaves_the_only_replica_as_it_was(
    disks: dict[str, Path], source: Path
) -> None:
    """Also where the service takes the file natively: what was there is neither torn nor lost."""

    def change(event: Event) -> None:
        if event.kind == "started" and event.name == "/large on one":
            with (source / "large").open("r+b") as file:
                file.seek(SMALL)
                file.write(b"torn")

    with Vdir() as vdir:
        vdir.put(str(source / "large"), "/large", to=["one"])
    (source / "large").write_bytes(LARGE["large"][::-1])
    with Vdir(observer=change) as vdir:
        with pytest.raises(SourceChanged):
            vdir.put(str(source / "large"), "/large", to=["one"], force=True)
        assert (disks["one"] / "large").read_bytes() == LARGE["large"] == b"".join(vdir.cat("/large"))
        assert not vdir.status("/large", check=True).problems
    with Vdir() as vdir:
        assert vdir.put(str(source / "large"), "/large", to=["one"], force=True).files == 1
        assert (disks["one"] / "large").read_bytes() == (source / "large").read_bytes()


def test_foreign_files_small_and_large_are_adopted_only_with_the_right_content(
    disks: dict[str, Path], source: Path
) -> None:
    write_tree(disks["two"], {"data/d0/f0": SMALL_FILES["d0/f0"], "data/large": LARGE["large"]})
    write_tree(disks["two"], {"data/d1/f1": b"theirs", "data/large2": b"theirs"})
    with Vdir() as vdir:
        vdir.put(str(source), "/data", to=["one"], recursive=True)
        report = vdir.copy("/data", to=["two"], recursive=True)
        assert {failure.name for failure in report.failures} == {"/data/d1/f1 on two", "/data/large2 on two"}
        assert (disks["two"] / "data/d1/f1").read_bytes() == (disks["two"] / "data/large2").read_bytes() == b"theirs"
        assert {one.services == ["one", "two"] for one in vdir.ls("/data/d0")} == {True}
        assert next(vdir.ls("/data/large")).services == ["one", "two"]


# ---- options -------------------------------------------------------------------------------------------------------


def test_put_get_and_copy_take_only_the_files_that_are_chosen(
    disks: dict[str, Path], source: Path, tmp_path: Path
) -> None:
    only = {name: content for name, content in SMALL_FILES.items() if name.startswith("d1/")}
    with Vdir() as vdir:
        vdir.put(str(source), "/data", to=["one"], recursive=True, options=PutOptions(include=("/d1/**",)))
        assert read_tree(disks["one"] / "data") == only
        assert {one.path for one in vdir.ls("/data")} == {"/data/d1"}
        vdir.put(str(source), "/data", to=["one"], recursive=True, options=PutOptions(max_size=SMALL))
        assert read_tree(disks["one"] / "data") == SMALL_FILES
        vdir.put(str(source), "/data", to=["one"], recursive=True, options=PutOptions(newer="1h"))
        assert read_tree(disks["one"] / "data") == SMALL_FILES
        vdir.copy("/data", to=["two"], recursive=True, options=Selection(exclude=("d0/", "/d2/")))
        assert read_tree(disks["two"] / "data") == only
        vdir.get("/data", str(tmp_path / "back"), recursive=True, options=Selection(include=("/d1/**",)))
        assert read_tree(tmp_path / "back") == only
        assert not (tmp_path / "back/d0").exists()
        with pytest.raises(UsageError, match="--include"):
            vdir.copy("/data", to=["two"], recursive=True, options=Selection(include=("[",)))


def test_symbolic_links_are_followed_or_left_out(disks: dict[str, Path], source: Path, tmp_path: Path) -> None:
    write_tree(tmp_path / "elsewhere", {"far": b"far"})
    (source / "out").symlink_to(tmp_path / "elsewhere")
    with Vdir() as vdir:
        vdir.put(str(source), "/inside", to=["one"], recursive=True)
        vdir.put(str(source), "/all", to=["one"], recursive=True, options=PutOptions(links="follow"))
        assert read_tree(disks["one"] / "inside") == SMALL_FILES | LARGE
        assert read_tree(disks["one"] / "all") == SMALL_FILES | LARGE | {"out/far": b"far"}


def test_a_limit_on_the_bytes_ends_a_run_and_the_next_one_goes_on(disks: dict[str, Path], tmp_path: Path) -> None:
    files = {f"f{i}": b"x" * 100 for i in range(10)}
    source = write_tree(tmp_path / "source", files)
    with Vdir() as vdir:
        counts = []
        for _ in range(3):
            heard = Heard()
            with Vdir(observer=heard) as other:
                report = other.put(
                    str(source), "/d", to=["one", "two"], recursive=True, options=PutOptions(max_transfer=850)
                )
            heard.check()
            counts.append((report.files, [failure.error.split(":")[0] for failure in report.failures]))
        assert counts == [(8, ["--max-transfer"]), (8, ["--max-transfer"]), (4, [])]
        some = Selection(max_transfer=450)
        assert vdir.copy("/d", to=["three"], recursive=True, options=some, dryrun=True).files == 4
        assert vdir.copy("/d", to=["three"], recursive=True, options=some).files == 4
        assert vdir.copy("/d", to=["three"], recursive=True, options=some).files == 4
        report = vdir.get("/d", str(tmp_path / "back"), recursive=True, options=some)
        assert (report.files, report.failed) == (4, True)
        vdir.get("/d", str(tmp_path / "back"), recursive=True, options=some)
        assert not vdir.get("/d", str(tmp_path / "back"), recursive=True, options=some).failed
        assert read_tree(tmp_path / "back") == files


def test_speed_and_requests_are_limited(disks: dict[str, Path], tmp_path: Path) -> None:
    source = write_tree(tmp_path / "source", {f"f{i}": b"x" * 100_000 for i in range(8)})

    def seconds(act: Callable[[Vdir], object]) -> float:
        begin = time.monotonic()
        with Vdir() as vdir:
            act(vdir)
        return time.monotonic() - begin

    slow = "400000B"
    # a second's worth passes at once
    assert (
        seconds(lambda vdir: vdir.put(str(source), "/d", to=["one"], recursive=True, options=PutOptions(bwlimit=slow)))
        > 0.9
    )
    assert seconds(lambda vdir: vdir.copy("/d", to=["two"], recursive=True, options=Selection(bwlimit=slow))) > 0.9
    assert (
        seconds(lambda vdir: vdir.get("/d", str(tmp_path / "back"), recursive=True, options=Selection(bwlimit=slow)))
        > 0.9
    )
    assert (
        seconds(lambda vdir: vdir.copy("/d", to=["three"], recursive=True, options=Selection(transactions=4.0))) > 0.9
    )
    assert read_tree(disks["three"] / "d") == read_tree(source) == read_tree(tmp_path / "back")


def test_a_copy_that_fails_is_told_once(disks: dict[str, Path], source: Path) -> None:
    with Vdir() as vdir:
        vdir.put(str(source / "large"), "/large", to=["one"])
        (disks["one"] / "large").unlink()
        with pytest.raises(StorageError, match="one:large"):
            vdir.copy("/large", to=["two"])
        assert [one.service for one in vdir.why("/large") if one.rank is not None] == ["one"]
