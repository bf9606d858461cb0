"""Scans: complete, sorted, each entry once."""

from __future__ import annotations

import os
import shutil
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from cloudmesh.storage.abc import Content, Entry, StorageABC
from cloudmesh.storage.errors import NotADirectory, NotFound, PermissionDenied, StorageError
from cloudmesh.storage.layers import Retry, RetryPolicy
from tests.faults import HttpFaults
from tests.storage.conformance.conftest import Service
from tests.storage.conformance.targets import Target, child, listed, make_provider, plant, put
from tests.unprivileged import closed

TREE = ["a", "a!", "a-b/x", "a/b/c", "a.b", "a0", "B", "b/x", "b/y/z", "é/ü", "日/本", "😀", "\uffee"]
"""Names between which a slash sorts, and of two, three and four bytes."""


def without_collisions(files: list[str]) -> list[str]:
    directories = {file.split("/")[0] for file in files if "/" in file}
    return [file for file in files if file not in directories]


def test_scan_is_sorted(storage: StorageABC, place: str) -> None:
    plant(storage, place, without_collisions(TREE))
    for recursive in (False, True):
        keys = [entry.sort_key for entry in storage.scan(place, recursive=recursive)]
        assert keys == sorted(keys)
        assert len(set(keys)) == len(keys)


def test_directory_sorts_as_though_it_ended_in_a_slash(storage: StorageABC, place: str) -> None:
    plant(storage, place, ["a/x", "a-", "a.txt", "a0", "a!"])
    assert listed(storage, place) == ["a!", "a-", "a.txt", "a/", "a0"]
    assert listed(storage, place, recursive=True) == ["a!", "a-", "a.txt", "a/", "a/x", "a0"]


def test_scan_recursive_is_the_union_of_the_levels(storage: StorageABC, place: str) -> None:
    plant(storage, place, without_collisions(TREE))

    def levels(directory: str) -> list[str]:
        found = []
        for entry in storage.scan(directory):
            found.append(entry.path + "/" * entry.is_directory)
            if entry.is_directory:
                found += levels(entry.path)
        return found

    assert [entry.path + "/" * entry.is_directory for entry in storage.scan(place, recursive=True)] == levels(place)


def test_scan_tells_what_stat_tells(storage: StorageABC, place: str) -> None:
    storage.write(child(place, "f"), Content.of_bytes(b"12345", mtime_ns=1_500_000_000_000_000_000))
    scanned = next(iter(storage.scan(place)))
    found = storage.stat(child(place, "f"))
    assert (scanned.path, scanned.size, scanned.is_directory) == (found.path, found.size, found.is_directory)
    assert scanned.etag in (None, found.etag)
    assert scanned.mtime_ns in (None, found.mtime_ns)


@pytest.mark.needs("scan_mtime")
def test_scan_tells_the_modification_time(storage: StorageABC, place: str) -> None:
    storage.write(child(place, "f"), Content.of_bytes(b"12345", mtime_ns=1_500_000_000_000_000_000))
    assert next(iter(storage.scan(place))).mtime_ns == 1_500_000_000_000_000_000


def test_siblings_with_the_same_beginning_are_not_below(storage: StorageABC, place: str) -> None:
    plant(storage, place, ["d/f", "d2/f", "d-/f", "d.f"])
    assert listed(storage, child(place, "d")) == ["f"]
    assert listed(storage, child(place, "d"), recursive=True) == ["f"]


def test_scan_of_nothing(storage: StorageABC, place: str) -> None:
    for recursive in (False, True):
        with pytest.raises(NotFound):
            list(storage.scan(child(place, "nothing"), recursive=recursive))


def test_scan_of_file(storage: StorageABC, place: str) -> None:
    put(storage, child(place, "f"))
    for recursive in (False, True):
        with pytest.raises(NotADirectory):
            list(storage.scan(child(place, "f"), recursive=recursive))


def test_scan_below_file(storage: StorageABC, place: str) -> None:
    put(storage, child(place, "f"))
    with pytest.raises((NotFound, NotADirectory)):
        list(storage.scan(child(place, "f", "g")))


@pytest.mark.needs("empty_directories")
def test_scan_of_empty_directory(storage: StorageABC, place: str) -> None:
    storage.make_dir(child(place, "d"))
    assert listed(storage, child(place, "d")) == []
    assert listed(storage, child(place, "d"), recursive=True) == []
    assert listed(storage, place, recursive=True) == ["d/"]


def test_scan_of_root(storage: StorageABC, place: str) -> None:
    put(storage, child(place, "f"))
    assert place in [entry.path for entry in storage.scan() if entry.is_directory]
    assert child(place, "f") in [entry.path for entry in storage.scan(recursive=True)]


@pytest.fixture
def partly_closed(
    request: pytest.FixtureRequest,
    storage: StorageABC,
    service: Service,
    target: Target,
    place: str,
    make: Callable[..., StorageABC],
    http_faults: Callable[[int], HttpFaults],
) -> Iterator[StorageABC]:
    """A service with files in five directories, two of which it refuses to list, one within another."""
    plant(storage, place, ["a/x", "b/x", "b/y/z", "c/d/x", "c/e", "d"])
    if "http" in target.features:
        proxy = http_faults(service.port)
        proxy.answer(403, times=None, path=f"{place}(/|%2F)(b|c(/|%2F)d)(/|%2F|&|$)", body=b"")
        yield Retry(make(port=proxy.port), RetryPolicy(attempts=2, base_seconds=0.01))
        return
    root, provider = Path(service.settings().root or service.settings().credentials.get("directory", "")), storage
    if target.provider == "sftp" and os.geteuid() == 0:  # to whom, at the server, nothing is closed
        settings = service.server.password_settings("stranger")
        provider = make_provider(settings)
        shutil.copytree(root / place, Path(settings.root) / place)
        root = Path(settings.root)
    with closed(root / place / "b", root / place / "c" / "d"):
        yield provider


def test_directories_that_cannot_be_listed_are_told_in_their_turn(partly_closed: StorageABC, place: str) -> None:
    seen: list[tuple[str, str]] = []

    def refused(entry: Entry, error: StorageError) -> None:
        assert isinstance(error, PermissionDenied)
        assert error.subject == partly_closed.location(entry.path)
        seen.append(("refused", entry.path + "/" * entry.is_directory))

    for entry in partly_closed.scan(place, recursive=True, on_error=refused):
        seen.append(("", entry.path + "/" * entry.is_directory))
    cut = len(place) + 1
    assert [word + name[cut:] for word, name in seen] == [
        "a/", "a/x", "b/", "refusedb/", "c/", "c/d/", "refusedc/d/", "c/e", "d",
    ]  # fmt: skip
    for path, on_error in ((place, None), (child(place, "b"), refused)):
        with pytest.raises(PermissionDenied) as caught:
            list(partly_closed.scan(path, recursive=True, on_error=on_error))
        assert caught.value.subject == partly_closed.location(child(place, "b"))


@pytest.mark.parametrize("depth", [10, 40])
def test_deep_tree(storage: StorageABC, place: str, depth: int) -> None:
    names = [f"d{number}" for number in range(depth)]
    put(storage, child(place, *names, "f"))
    assert len(listed(storage, place, recursive=True)) == depth + 1
    assert listed(storage, child(place, *names)) == ["f"]


def test_more_than_5000_entries(storage: StorageABC, place: str) -> None:
    names = [f"{number:05d}" for number in range(5100)]
    plant(storage, place, names, b"")
    assert listed(storage, place) == names
    assert len(listed(storage, place, recursive=True)) == 5100
    assert next(iter(storage.scan(place))).name == "00000"


def test_scan_given_up_early(storage: StorageABC, place: str) -> None:
    plant(storage, place, [f"{number}/f" for number in range(30)])
    for _ in range(20):
        assert next(iter(storage.scan(place, recursive=True))).is_directory


def test_listing_while_others_write(storage: StorageABC, place: str) -> None:
    stable = [f"s{number:03d}" for number in range(50)]
    plant(storage, place, stable)
    over = threading.Event()

    def disturb(number: int) -> None:
        while not over.is_set():
            put(storage, child(place, f"t{number}"))
            storage.remove(child(place, f"t{number}"))

    with ThreadPoolExecutor(4) as pool:
        workers = [pool.submit(disturb, number) for number in range(4)]
        try:
            for _ in range(10):
                seen = listed(storage, place)
                assert [name for name in seen if name.startswith("s")] == stable
                assert all(name.startswith(("s", "t")) for name in seen)
                assert len(set(seen)) == len(seen)
        finally:
            over.set()
        for worker in workers:
            worker.result()


def test_scans_from_many_threads(storage: StorageABC, place: str) -> None:
    plant(storage, place, [f"d{number % 5}/f{number:02d}" for number in range(40)])
    expected = listed(storage, place, recursive=True)
    with ThreadPoolExecutor(16) as pool:
        assert all(found == expected for found in pool.map(lambda _: listed(storage, place, recursive=True), range(32)))


def test_stat_of_root(storage: StorageABC) -> None:
    entry = storage.stat("")
    assert (entry.path, entry.is_directory) == ("", True)


def test_stat_of_directory(storage: StorageABC, target: Target, place: str) -> None:
    put(storage, child(place, "a", "b", "f"))
    for directory in (place, child(place, "a"), child(place, "a", "b")):
        entry = storage.stat(directory)
        assert (entry.path, entry.is_directory) == (directory, True)


@pytest.mark.parametrize("where", ["nothing", "nothing/below", "f/below", "F", "f ", "d"])
def test_stat_of_nothing(storage: StorageABC, place: str, where: str) -> None:
    put(storage, child(place, "f"))
    put(storage, child(place, "dd", "f"))
    path = child(place, where)
    with pytest.raises(NotFound) as caught:
        storage.stat(path)
    assert caught.value.subject == storage.location(path)
