"""Many small files on the local disk: permissions, links and what is in the way."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from pathlib import Path

from cloudmesh.storage.abc import Entry, Loaded, ReadRequest, ServiceSettings, WriteRequest
from cloudmesh.storage.errors import AlreadyExists, NotFound, PermissionDenied, StorageError
from cloudmesh.storage.providers.local import LocalStorage


def at(directory: Path) -> LocalStorage:
    return LocalStorage(ServiceSettings(name="disk", kind="local", credentials={"directory": str(directory)}))


def copied(source: LocalStorage, destination: LocalStorage, *names: str) -> list[Entry | StorageError]:
    """Copy through memory, as the engine does."""

    def requests() -> Iterator[WriteRequest]:
        for request, found in source.read_many(ReadRequest(name) for name in names):
            assert isinstance(found, Loaded)
            yield WriteRequest(request.path, found.data, found.entry.mtime_ns, permissions=found.permissions)

    return [result for _, result in destination.write_many(requests())]


def test_permissions_are_kept(tmp_path: Path) -> None:
    tool = tmp_path / "a" / "bin" / "tool"
    tool.parent.mkdir(parents=True)
    tool.write_bytes(b"run")
    tool.chmod(0o4755)
    (tmp_path / "a" / "bin" / "fixed").write_bytes(b"read only")
    (tmp_path / "a" / "bin" / "fixed").chmod(0o444)
    results = copied(at(tmp_path / "a"), at(tmp_path / "b"), "bin/tool", "bin/fixed")
    assert all(isinstance(result, Entry) for result in results)
    new = tmp_path / "b" / "bin" / "tool"
    assert new.stat().st_mode & 0o7777 == 0o755
    assert new.stat().st_mtime_ns == tool.stat().st_mtime_ns
    assert (tmp_path / "b" / "bin" / "fixed").stat().st_mode & 0o777 == 0o444
    new.chmod(0o700)
    copied(at(tmp_path / "a"), at(tmp_path / "b"), "bin/tool")
    assert new.stat().st_mode & 0o777 == 0o700
    assert sorted(os.listdir(new.parent)) == ["fixed", "tool"]


def test_links_and_special_files(tmp_path: Path) -> None:
    root = tmp_path / "root"
    (root / "d").mkdir(parents=True)
    (tmp_path / "outside").write_bytes(b"secret")
    (root / "d" / "f").write_bytes(b"here")
    (root / "d" / "in").symlink_to(root / "d" / "f")
    (root / "d" / "out").symlink_to(tmp_path / "outside")
    (root / "away").symlink_to(tmp_path)
    os.mkfifo(root / "d" / "pipe")
    storage = at(root)
    names = ["d/f", "d/in", "d/out", "d/pipe", "away/outside"]
    found = {request.path: result for request, result in storage.read_many(map(ReadRequest, names))}
    for name in ("d/f", "d/in"):
        loaded = found.pop(name)
        assert isinstance(loaded, Loaded)
        assert loaded.data == b"here"
    assert {name: type(error) for name, error in found.items()} == {
        "d/out": PermissionDenied,
        "d/pipe": NotFound,
        "away/outside": PermissionDenied,
    }
    writes = [WriteRequest("d/in", b"new"), WriteRequest("d/pipe", b"new"), WriteRequest("away/new", b"new")]
    written = {request.path: result for request, result in storage.write_many(writes)}
    assert isinstance(written["d/in"], Entry)
    assert (root / "d" / "f").read_bytes() == b"new"
    assert (root / "d" / "in").is_symlink()
    assert isinstance(written["d/pipe"], AlreadyExists)
    assert isinstance(written["away/new"], PermissionDenied)
    assert sorted(os.listdir(tmp_path)) == ["outside", "root"]


def test_directory_that_goes_and_becomes_a_link_at_a_pause(tmp_path: Path) -> None:
    root, elsewhere = tmp_path / "root", tmp_path / "elsewhere"
    elsewhere.mkdir()

    def requests() -> Iterator[WriteRequest | None]:
        yield WriteRequest("d/one", b"1")
        (root / "d" / "one").unlink()
        (root / "d").rmdir()
        yield WriteRequest("d/two", b"2")
        (root / "d" / "two").unlink()
        (root / "d").rmdir()
        (root / "d").symlink_to(elsewhere)
        yield None
        yield WriteRequest("d/three", b"3")

    results = [result for _, result in at(root).write_many(requests())]
    assert [type(result) for result in results] == [Entry, Entry, PermissionDenied]
    assert os.listdir(elsewhere) == []


def test_create_has_one_winner(tmp_path: Path) -> None:
    names = [f"f{number}" for number in range(100)]
    start = threading.Barrier(4)
    results: list[tuple[str, Entry | StorageError]] = []

    def create() -> None:
        start.wait()
        requests = (WriteRequest(name, b"mine", mode="create") for name in names)
        results.extend((request.path, result) for request, result in at(tmp_path).write_many(requests))

    threads = [threading.Thread(target=create) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(name for name, result in results if isinstance(result, Entry)) == sorted(names)
    assert sum(isinstance(result, AlreadyExists) for _, result in results) == 300
    assert sorted(os.listdir(tmp_path)) == sorted(names)
