"""The engine, with every failure caused: what is right arrives, what is wrong is told, the next run completes it."""

from __future__ import annotations

import os
import threading
import time
import uuid
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from cloudmesh.storage import Storage
from cloudmesh.storage.abc import Entry, StorageABC, WriteRequest
from cloudmesh.storage.errors import (
    ChecksumMismatch,
    PermissionDenied,
    QuotaExceeded,
    StorageError,
    Unavailable,
    UsageError,
)
from cloudmesh.storage.layers import RetryPolicy, layered
from cloudmesh.storage.providers.awss3 import S3Storage
from cloudmesh.storage.providers.local import LocalStorage
from cloudmesh.storage.transfer.copying import Target, copy_to_many
from cloudmesh.storage.transfer.options import TransferOptions
from cloudmesh.storage.transfer.small import SmallCopy, copy_small
from deploy.servers import SeaweedFS
from tests.faults import HttpFaults
from tests.places import configure, local, read_tree, write_tree
from tests.storage.transfer.places import LARGE, Heard, Odd, disk, leftovers, odd, run

TREE = {"a": b"alpha", "d/b": b"beta", "d/e/c": b"gamma", "big": b"x" * LARGE}


def tree_of(count: int, size: int = 10) -> dict[str, bytes]:
    return {f"d{number // 20:02}/f{number:04}": b"%09d\n" % number * (size // 10) for number in range(count)}


# ---- bytes that change on the way ------------------------------------------------------------------------------------


@pytest.mark.parametrize("from_service", [False, True], ids=["put", "copy"])
def test_what_arrives_damaged_is_sent_again(tmp_path: Path, from_service: bool) -> None:
    write_tree(tmp_path / "one", TREE)
    source: StorageABC = odd("one", tmp_path / "one") if from_service else disk(tmp_path / "one")
    target = odd("two", tmp_path / "two")
    target.flips = 3
    heard = Heard()
    report = run(source, target, observer=heard)
    assert (report.files, report.errors) == (4, 0)
    assert read_tree(tmp_path / "two") == TREE
    assert len(target.writes) == 7
    heard.check()
    assert run(source, target).skipped == 4


@pytest.mark.parametrize("from_service", [False, True], ids=["put", "copy"])
def test_what_arrives_damaged_every_time_is_told_and_not_left_there(tmp_path: Path, from_service: bool) -> None:
    write_tree(tmp_path / "one", TREE)
    source: StorageABC = odd("one", tmp_path / "one") if from_service else disk(tmp_path / "one")
    target = odd("two", tmp_path / "two")
    target.flips = 1000
    heard = Heard()
    report = run(source, target, observer=heard)
    assert (report.files, report.errors) == (0, 4)
    assert all("other bytes arrived than were sent" in failure.error for failure in report.failures)
    assert read_tree(tmp_path / "two") == {}
    assert not leftovers(tmp_path / "two")
    heard.check()
    target.flips = 0
    assert run(source, target).files == 4
    assert read_tree(tmp_path / "two") == TREE


def test_one_damaged_copy_of_several_is_told_and_the_others_are_right(tmp_path: Path) -> None:
    write_tree(tmp_path / "one", TREE)
    source = odd("one", tmp_path / "one")
    targets = [odd(name, tmp_path / name) for name in ("two", "three")]
    targets[1].flips = 1000
    results = copy_to_many(source, source.stat("big"), [Target(one, "big") for one in targets])
    assert isinstance(results[1], ChecksumMismatch)
    assert read_tree(tmp_path / "two") == {"big": TREE["big"]}
    assert read_tree(tmp_path / "three") == {}


# ---- a source that changes -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [1000, LARGE], ids=["small", "large"])
def test_a_file_that_changes_while_it_is_copied_arrives_whole(tmp_path: Path, size: int) -> None:
    write_tree(tmp_path / "one", {"a": b"old" * size, "b": b"stays"})
    target = odd("two", tmp_path / "two")

    source = odd("one", tmp_path / "one")

    def changing(primitive: str, path: str) -> None:
        if (primitive, path) == ("open_read", "a") and not source.reads.count("a"):
            (tmp_path / "one/a").write_bytes(b"new!" * size)
            source.reads.append("a")

    source.before = changing
    assert run(source, target).errors == 0
    assert read_tree(tmp_path / "two") == {"a": b"new!" * size, "b": b"stays"}
    assert run(source, target).files == 0


def test_a_file_that_vanishes_is_told_and_the_rest_goes_on(tmp_path: Path) -> None:
    write_tree(tmp_path / "one", TREE)
    source, heard = odd("one", tmp_path / "one"), Heard()

    def vanishing(primitive: str, path: str) -> None:
        if primitive == "open_read" and path in ("a", "big"):
            (tmp_path / "one" / path).unlink(missing_ok=True)

    source.before = vanishing
    report = run(source, odd("two", tmp_path / "two"), observer=heard)
    assert sorted(failure.name for failure in report.failures) == ["one:a", "one:big"]
    assert read_tree(tmp_path / "two") == {"d/b": b"beta", "d/e/c": b"gamma"}
    heard.check()
    assert heard.names("failed") == ["a", "big"] or heard.names("failed") == ["one:a", "one:big"]
    assert not leftovers(tmp_path)


# ---- a destination that fails ----------------------------------------------------------------------------------------


def test_a_service_that_goes_away_ends_the_run_soon_and_the_same_command_goes_on(
    tmp_path: Path, seaweedfs: SeaweedFS, http_faults: Callable[[int], HttpFaults]
) -> None:
    files = tree_of(400) | {f"large{number}": b"x" * LARGE for number in range(40)}
    write_tree(tmp_path / "one", files)
    proxy = http_faults(seaweedfs.port)
    settings = seaweedfs.settings("aws", bucket=seaweedfs.make_bucket(), port=proxy.port)
    service = layered(S3Storage(settings), retry=RetryPolicy(attempts=3, base_seconds=0.01))
    proxy.answer(503, times=None, method="PUT", after=100)
    report = run(disk(tmp_path / "one"), service)
    failed_once = proxy.fired
    assert report.failed
    assert "given up, other files were not tried" in report.failures[-1].error
    assert report.files < 150
    assert failed_once < 3 * 120, "not every file that was left was tried"
    proxy.heal()
    before = len(proxy.requests)
    again = run(disk(tmp_path / "one"), service)
    assert (again.errors, again.files + again.skipped) == (0, 440)
    puts = [request for request in proxy.requests[before:] if request.method == "PUT"]
    assert len(puts) >= again.files
    assert again.skipped >= report.files, "what was done is not done again"
    before = len(proxy.requests)
    assert run(disk(tmp_path / "one"), service).skipped == 440
    assert all(request.method == "GET" and "list-type" in request.target for request in proxy.requests[before:])
    service.close()


def test_a_full_destination_ends_the_run(tmp_path: Path) -> None:
    write_tree(tmp_path / "one", tree_of(100))
    target = odd("two", tmp_path / "two")

    def full(primitive: str, path: str) -> None:
        if primitive == "write" and len(target.writes) >= 30:
            raise QuotaExceeded(f"two:{path}")

    target.before = full
    report = run(disk(tmp_path / "one"), target)
    assert report.files == 30
    assert 21 <= report.errors < 40
    assert "no room left" in report.failures[-1].error
    target.before = lambda primitive, path: None
    assert run(disk(tmp_path / "one"), target).files == 70


def test_an_error_that_nobody_expected_ends_one_file(tmp_path: Path) -> None:
    write_tree(tmp_path / "one", {"big": b"x" * LARGE, "big2": b"y" * LARGE})
    target, heard = odd("two", tmp_path / "two"), Heard()

    def broken(primitive: str, path: str) -> None:
        if (primitive, path) == ("write", "big"):
            raise ZeroDivisionError

    target.before = broken
    report = run(disk(tmp_path / "one"), target, observer=heard)
    assert [failure.error.partition(": ")[2] for failure in report.failures] == ["internal error: ZeroDivisionError"]
    assert report.files == 1
    heard.check()


def test_a_directory_that_cannot_be_made_is_told(tmp_path: Path) -> None:
    (tmp_path / "one/empty").mkdir(parents=True)
    write_tree(tmp_path / "one", {"a": b""})
    target, heard = odd("two", tmp_path / "two"), Heard()

    def refusing(primitive: str, path: str) -> None:
        if primitive == "make_dir":
            raise PermissionDenied(path)

    target.before = refusing
    report = run(disk(tmp_path / "one"), target, observer=heard)
    assert (report.files, report.errors) == (1, 1)
    heard.check()
    assert heard.names("failed") == ["empty"]


# ---- several destinations --------------------------------------------------------------------------------------------


class _Broken(Odd):
    """Its batches end with an error of no kind that we know."""

    def write_many(
        self, requests: Iterable[WriteRequest | None]
    ) -> Iterator[tuple[WriteRequest, Entry | StorageError]]:
        for _ in requests:
            raise ZeroDivisionError
        yield from ()


@pytest.mark.parametrize("waits", [True, False])
def test_one_destination_that_breaks_leaves_the_others_alone_and_each_file_is_read_once(
    tmp_path: Path, waits: bool
) -> None:
    files = write_tree(tmp_path / "one", tree_of(100))
    source = odd("one", files)
    good, refusing = odd("good", tmp_path / "good"), odd("refusing", tmp_path / "refusing")
    broken = _Broken(refusing.settings)
    broken.immediate = not waits
    third = disk(tmp_path / "third")

    def denied(primitive: str, path: str) -> None:
        if primitive == "write":
            raise PermissionDenied(path)

    refusing.before = denied
    unread: list[StorageError] = []
    copies = [
        SmallCopy(entry, [(place, entry.path) for place in range(4)])
        for entry in source.scan(recursive=True)
        if not entry.is_directory
    ]
    results: dict[int, list[object]] = {place: [] for place in range(4)}
    for _, place, result in copy_small(
        copies, source, [broken, good, refusing, third], lambda file, error: unread.append(error)
    ):
        results[place].append(result)
    assert not unread
    assert [len(one) for one in results.values()] == [100] * 4
    assert all("internal error: ZeroDivisionError" in str(one) for one in results[0])
    assert all(isinstance(one, PermissionDenied) for one in results[2])
    assert read_tree(tmp_path / "good") == read_tree(tmp_path / "third") == read_tree(files)
    assert sorted(source.reads) == sorted(read_tree(files))


@pytest.mark.parametrize("error", [ZeroDivisionError(), Unavailable("broken")])
def test_one_large_file_to_several_of_which_one_breaks(tmp_path: Path, error: Exception) -> None:
    write_tree(tmp_path / "one", {"big": b"x" * 5 * LARGE})
    source = odd("one", tmp_path / "one")
    targets = [odd(name, tmp_path / name) for name in ("two", "three", "four")]

    def breaking(primitive: str, path: str) -> None:
        if primitive == "write":
            raise error

    targets[1].before = breaking
    results = copy_to_many(source, source.stat("big"), [Target(one, "big") for one in targets])
    assert isinstance(results[1], StorageError)
    assert source.reads == ["big"]
    for name in ("two", "four"):
        assert read_tree(tmp_path / name) == read_tree(tmp_path / "one")
    assert not leftovers(tmp_path)


@pytest.mark.parametrize("size", [100_000, 16 * LARGE], ids=["small", "large"])
def test_little_is_read_ahead_for_a_destination_that_stalls_and_nothing_is_lost(tmp_path: Path, size: int) -> None:
    files = {"big": os.urandom(size)} if size > LARGE else tree_of(400, size)
    write_tree(tmp_path / "one", files)
    source, good, stalling = (odd(name, tmp_path / name) for name in ("one", "two", "three"))
    goes_on = threading.Event()
    moved: list[int] = []

    def wait(primitive: str, path: str) -> None:
        if primitive == "write":
            goes_on.wait(60)

    stalling.before = wait
    entries = [entry for entry in source.scan(recursive=True) if not entry.is_directory]

    def copy() -> None:
        if size > LARGE:
            targets = [Target(one, "big") for one in (good, stalling)]
            copy_to_many(source, entries[0], targets, observer=lambda event: moved.append(event.size))
        else:
            copies = [SmallCopy(entry, [(place, entry.path) for place in range(2)]) for entry in entries]
            for _ in copy_small(copies, source, [good, stalling], lambda file, error: None):
                pass

    copying = threading.Thread(target=copy)
    copying.start()
    steady, seen = 0, (-1, -1)
    while steady < 20:  # until nothing more is read
        time.sleep(0.02)
        now = (len(source.reads), sum(moved))
        steady, seen = (steady + 1 if now == seen else 0), now
    assert seen[0] < 250
    assert seen[1] < size // 2
    goes_on.set()
    copying.join(60)
    assert read_tree(tmp_path / "two") == read_tree(tmp_path / "three") == files


# ---- ending early ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [100, LARGE], ids=["small", "large"])
def test_a_run_that_is_stopped_ends_after_what_is_under_way(tmp_path: Path, size: int) -> None:
    files = {f"f{number:02}": os.urandom(size) for number in range(60)}
    write_tree(tmp_path / "one", files)
    target, heard = odd("two", tmp_path / "two"), Heard()
    report = run(disk(tmp_path / "one"), target, observer=heard, parallel=2, stop=lambda: len(target.writes) >= 5)
    assert report.stopped
    assert 1 <= report.files < 50
    heard.check(early=True)
    again = run(disk(tmp_path / "one"), target)
    assert (again.skipped, again.files) == (report.files, 60 - report.files)
    assert read_tree(tmp_path / "two") == files


def test_the_limit_of_bytes_leaves_the_rest_and_the_next_run_takes_it(tmp_path: Path) -> None:
    files = tree_of(20, 100)
    write_tree(tmp_path / "one", files)
    source, target, heard = disk(tmp_path / "one"), odd("two", tmp_path / "two"), Heard()
    report = run(source, target, max_transfer=550, observer=heard)
    assert (report.files, report.errors, report.bytes) == (5, 1, 500)
    assert "the limit of 550 bytes is reached" in report.failures[0].error
    heard.check()
    assert run(source, target).files == 15


def test_the_limit_of_bytes_does_not_take_for_the_same_what_it_left(tmp_path: Path) -> None:
    files = write_tree(tmp_path / "one", {"a": b"1" * 100, "b": b"2" * 100, "c": b"3" * 100})
    write_tree(tmp_path / "two", {"a": b"x" * 100, "b": b"x" * 100, "c": b"x" * 100})
    source, target = disk(files), odd("two", tmp_path / "two")
    report = run(source, target, checksum=True, max_transfer=150)
    assert (report.files, report.skipped) == (1, 0)
    assert run(source, target, checksum=True).files == 2
    assert read_tree(tmp_path / "two") == read_tree(files)


# ---- rules -----------------------------------------------------------------------------------------------------------


def test_what_differs_is_kept_by_immutable_and_told(tmp_path: Path) -> None:
    write_tree(tmp_path / "one", TREE)
    write_tree(tmp_path / "two", {"a": b"other", "big": b"y" * LARGE})
    (tmp_path / "two/a").touch()
    (tmp_path / "two/big").touch()
    heard = Heard()
    report = run(disk(tmp_path / "one"), odd("two", tmp_path / "two"), immutable=True, observer=heard)
    assert (report.files, report.errors) == (2, 2)
    heard.check()
    there = read_tree(tmp_path / "two")
    assert (there["a"], there["big"][:1], there["d/b"]) == (b"other", b"y", b"beta")


def test_update_leaves_what_is_newer_and_size_only_what_is_as_long(tmp_path: Path) -> None:
    write_tree(tmp_path / "one", {"newer": b"mine", "older": b"mine", "longer": b"mine!"})
    write_tree(tmp_path / "two", {"newer": b"their", "older": b"their", "longer": b"then"})
    os.utime(tmp_path / "two/newer")
    os.utime(tmp_path / "two/older", (1, 1))
    source, target = disk(tmp_path / "one"), odd("two", tmp_path / "two")
    assert run(source, target, update=True).files == 2
    assert read_tree(tmp_path / "two") == {"newer": b"their", "older": b"mine", "longer": b"mine!"}
    write_tree(tmp_path / "two", {"newer": b"them", "older": b"them"})
    (tmp_path / "two/older").touch()
    assert run(source, target, size_only=True).files == 0
    assert run(source, target, checksum=True).files == 2
    assert read_tree(tmp_path / "two") == read_tree(tmp_path / "one")


def test_a_dry_run_changes_nothing_tells_nothing_and_counts_what_the_run_then_does(tmp_path: Path) -> None:
    write_tree(tmp_path / "one", TREE | {"same": b"same"})
    (tmp_path / "one/empty").mkdir()
    write_tree(tmp_path / "two", {"same": b"same", "a": b"other!", "gone": b"gone", "old/gone": b"gone"})
    source, target, heard = disk(tmp_path / "one"), odd("two", tmp_path / "two"), Heard()
    rules: dict[str, Any] = {"delete": True, "max_delete": "100%"}
    before = read_tree(tmp_path)
    dry = run(source, target, "", dryrun=True, observer=heard, **rules)
    assert read_tree(tmp_path) == before
    assert not heard.events
    real = run(source, target, "", **rules)
    for name in ("files", "bytes", "skipped", "removed", "errors", "directories"):
        assert getattr(dry, name) == getattr(real, name), name
    assert (real.files, real.skipped, real.removed) == (4, 1, 2)


def test_nothing_is_asked_again_for_what_is_done(tmp_path: Path) -> None:
    write_tree(tmp_path / "one", TREE)
    source, target = odd("one", tmp_path / "one"), odd("two", tmp_path / "two")
    run(source, target)
    begun = time.monotonic()
    asked: list[str] = []
    for side in (source, target):
        side.before = lambda primitive, path: None if primitive == "scan" else asked.append(path)
    assert run(source, target).skipped == 4
    assert not asked
    assert time.monotonic() - begun < 5


def test_a_small_file_that_arrived_damaged_does_not_stay_where_it_cannot_be_sent_again(tmp_path: Path) -> None:
    write_tree(tmp_path / "one", {"a": b"right", "b": b"also right"})
    target = odd("two", tmp_path / "two")
    target.flips = 1

    def away(primitive: str, path: str) -> None:
        if primitive == "write" and target.writes.count(path) == 1:
            raise PermissionDenied(f"two:{path}")

    target.before = away
    report = run(disk(tmp_path / "one"), target, parallel=1)
    assert (report.files, report.errors) == (1, 1)
    assert set(read_tree(tmp_path / "two").values()) <= {b"right", b"also right"}


def test_a_file_named_by_itself_is_filtered_too(home: Path, tmp_path: Path) -> None:
    write_tree(tmp_path / "one", {"a.txt": b"a"})
    configure(home, [local("disk", tmp_path / "disk")])
    with Storage("disk") as storage:
        for options in (TransferOptions(include=("*.csv",)), TransferOptions(max_size=0)):
            assert storage.put(str(tmp_path / "one/a.txt"), "a.txt", options=options).skipped == 1
        assert not (tmp_path / "disk").exists()
        assert storage.put(str(tmp_path / "one/a.txt"), "a.txt", options=TransferOptions(include=("*.txt",))).files == 1


def test_a_dry_run_names_what_would_be_done(tmp_path: Path) -> None:
    write_tree(tmp_path / "one", {"new": b"1", "other": b"22", "same": b"s"})
    write_tree(tmp_path / "two", {"other": b"2", "same": b"s", "gone": b"333"})
    report = run(disk(tmp_path / "one"), odd("two", tmp_path / "two"), delete=True, dryrun=True)
    assert sorted((one.action, one.name.rpartition("/")[2], one.size) for one in report.plan) == [
        ("copy", "new", 1),
        ("remove", "two:gone", 3),
        ("replace", "other", 2),
    ]


def test_an_empty_text_is_no_place_and_a_sync_names_a_service(home: Path, tmp_path: Path) -> None:
    configure(home, [local("disk", tmp_path / "disk")])
    with Storage() as storage:
        for act in (storage.put, storage.get, storage.copy, storage.sync):
            with pytest.raises(UsageError, match="SOURCE: is empty"):
                act("", "disk:x")
            with pytest.raises(UsageError, match="DESTINATION: is empty"):
                act("disk:x", "")
        with pytest.raises(UsageError, match="SOURCE: is empty"):
            storage.delete("", recursive=True)
        with pytest.raises(UsageError, match="neither one nor two names a service"):
            storage.sync("one", "two")


# ---- how far it is ---------------------------------------------------------------------------------------------------


def on_s3(seaweedfs: SeaweedFS, tree: Path) -> StorageABC:
    service = layered(S3Storage(seaweedfs.settings("s3", root=f"test-{uuid.uuid4().hex}")))
    assert run(disk(tree), service).errors == 0
    return service


@pytest.mark.parametrize("limited", [False, True])
@pytest.mark.parametrize("kind", ["awss3", "local"])
def test_a_large_file_tells_how_far_it_is_both_ways(
    seaweedfs: SeaweedFS, tmp_path: Path, kind: str, limited: bool
) -> None:
    tree = write_tree(tmp_path / "one", {"large": os.urandom(20 << 20)})
    root = f"test-{uuid.uuid4().hex}"
    with ExitStack() as closing:
        service: StorageABC
        if kind == "awss3":
            service = layered(S3Storage(seaweedfs.settings("s3", root=root)))
        else:
            service = layered(LocalStorage(local("kept", tmp_path / root)))
        closing.callback(service.close)
        for source, destination in ((disk(tree), service), (service, disk(tmp_path / "two"))):
            heard = Heard()
            assert run(source, destination, observer=heard, bwlimit="1G" if limited else None).files == 1
            heard.check()
            kinds = [event.kind for event in heard.events if event.kind != "planned_all"]
            assert kinds[:2] == ["planned", "started"]
            assert kinds[-1] == "done"
            moved = [event.size for event in heard.events if event.kind == "moved"]
            assert sum(moved) == 20 << 20
            assert len(moved) >= 3
            assert {event.name for event in heard.events if event.name} == {source.location("large")}
    assert read_tree(tmp_path / "two") == read_tree(tree)


@pytest.mark.parametrize("kind", ["awss3", "local"])
def test_a_large_download_ends_when_the_run_is_stopped(seaweedfs: SeaweedFS, tmp_path: Path, kind: str) -> None:
    tree = write_tree(tmp_path / "one", {"large": os.urandom(20 << 20)})
    source = on_s3(seaweedfs, tree) if kind == "awss3" else layered(LocalStorage(local("kept", tree)))
    heard = Heard()

    def stop() -> bool:
        return any(event.kind == "moved" for event in list(heard.events))

    report = run(source, disk(tmp_path / "two"), observer=heard, stop=stop)
    assert (report.stopped, report.files) == (True, 0)
    assert read_tree(tmp_path / "two") == {}
    assert not leftovers(tmp_path)
    source.close()
