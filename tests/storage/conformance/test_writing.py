"""A whole file or nothing, over the right thing or not at all."""

from __future__ import annotations

import hashlib
import os
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from cloudmesh.storage.abc import CHUNK, Content, StorageABC
from cloudmesh.storage.disk import Disk
from cloudmesh.storage.errors import (
    AlreadyExists,
    IsADirectory,
    NotADirectory,
    NotFound,
    PreconditionFailed,
    SourceChanged,
)
from cloudmesh.storage.transfer.copying import copy_file
from tests.storage.conformance.targets import Outside, child, listed, patient, plant, put, settles

MIB = 1024 * 1024


class SourceBroke(Exception):
    """What a source raises on its own."""


def bytes_of(storage: StorageABC, path: str) -> bytes:
    with storage.open_read(path) as reader:
        return reader.read()


def made(size: int) -> bytes:
    return hashlib.shake_128(str(size).encode()).digest(size)


def pieces_of(data: bytes, piece: int) -> Iterator[bytes]:
    for begin in range(0, len(data), piece):
        yield data[begin : begin + piece]


def around_parts(storage: StorageABC, delta: int) -> int:
    return max(0, (storage.capabilities.part_bytes or CHUNK) + delta)


@pytest.mark.parametrize("size", [0, 1, 4095, 4096, 65535, 65536, 65537, MIB - 1, MIB, MIB + 1, 12 * MIB + 3])
def test_size(storage: StorageABC, outside: Outside, place: str, size: int) -> None:
    path, data = child(place, "f"), made(size)
    entry = storage.write(path, Content.of_bytes(data))
    assert entry.size in (None, size)
    assert storage.stat(path).size == size
    assert bytes_of(storage, path) == data
    assert outside.read(path) == data
    assert next(iter(storage.scan(place))).size == size


@pytest.mark.parametrize("delta", [-1, 0, 1])
@pytest.mark.parametrize("known", [True, False], ids=["known", "unknown"])
def test_size_around_the_part_limit(storage: StorageABC, place: str, delta: int, known: bool) -> None:
    path, data = child(place, "f"), made(around_parts(storage, delta))
    storage.write(path, Content.of_stream(pieces_of(data, 300_001), size=len(data) if known else None))
    assert storage.stat(path).size == len(data)
    assert bytes_of(storage, path) == data


@pytest.mark.parametrize("size", [0, 1, 100_000, 3 * MIB + 1])
@pytest.mark.parametrize("piece", [1000, MIB])
def test_unknown_size(storage: StorageABC, place: str, size: int, piece: int) -> None:
    path, data = child(place, "f"), made(size)
    storage.write(path, Content.of_stream(pieces_of(data, piece)))
    assert bytes_of(storage, path) == data


def test_many_small_and_empty_pieces(storage: StorageABC, place: str) -> None:
    data = made(3000)
    pieces = [piece for byte in pieces_of(data, 7) for piece in (byte, b"")]
    storage.write(child(place, "f"), Content.of_stream(iter(pieces), size=len(data)))
    assert bytes_of(storage, child(place, "f")) == data


@pytest.mark.parametrize("size", [0, 1, 5 * MIB + 1, 20 * MIB])
def test_local_file(storage: StorageABC, place: str, tmp_path: Path, size: int) -> None:
    source = tmp_path / "source"
    source.write_bytes(made(size))
    storage.write(child(place, "f"), Content.of_file(source))
    assert bytes_of(storage, child(place, "f")) == made(size)


@pytest.mark.parametrize(("old", "new"), [(0, 10), (10, 0), (10, 20), (20, 10), (MIB, 10), (10, MIB)])
def test_overwrite(storage: StorageABC, place: str, old: int, new: int) -> None:
    path = child(place, "f")
    put(storage, path, b"o" * old)
    put(storage, path, b"n" * new)
    assert bytes_of(storage, path) == b"n" * new
    assert listed(storage, place) == ["f"]


def test_overwrite_changes_the_etag(storage: StorageABC, place: str) -> None:
    path = child(place, "f")
    put(storage, path, b"one")
    first = storage.stat(path).etag
    put(storage, path, b"three")
    second = storage.stat(path).etag
    assert first is not None
    assert second is not None
    assert first != second
    assert storage.stat(path).etag == second


def test_write_tells_the_entry(storage: StorageABC, place: str) -> None:
    entry = storage.write(child(place, "f"), Content.of_bytes(b"12345"))
    found = storage.stat(child(place, "f"))
    assert entry.path == found.path
    assert not entry.is_directory
    assert entry.size in (None, found.size)
    assert entry.etag in (None, found.etag)


def test_parents_are_made(storage: StorageABC, place: str) -> None:
    put(storage, child(place, "a", "b", "c", "d", "f"))
    assert listed(storage, place, recursive=True) == ["a/", "a/b/", "a/b/c/", "a/b/c/d/", "a/b/c/d/f"]


def test_parents_made_by_many_at_once(storage: StorageABC, place: str) -> None:
    plant(storage, place, [f"a/b/c/{number}" for number in range(32)])
    assert len(listed(storage, child(place, "a/b/c"))) == 32


def test_create(storage: StorageABC, place: str) -> None:
    path = child(place, "f")
    storage.write(path, Content.of_bytes(b"first"), mode="create")
    with pytest.raises(AlreadyExists) as caught:
        storage.write(path, Content.of_bytes(b"second"), mode="create")
    assert caught.value.subject == storage.location(path)
    assert bytes_of(storage, path) == b"first"


def test_create_of_large_file(storage: StorageABC, place: str) -> None:
    path, data = child(place, "f"), made(around_parts(storage, 1))
    storage.write(path, Content.of_bytes(data), mode="create")
    with pytest.raises(AlreadyExists):
        storage.write(path, Content.of_bytes(data[:-1]), mode="create")
    assert storage.stat(path).size == len(data)


@pytest.mark.needs("conditional_create")
@pytest.mark.parametrize("size", [10, 100_000])
def test_create_by_many_at_once(storage: StorageABC, place: str, size: int) -> None:
    path = child(place, "f")
    begin = threading.Barrier(8)

    def create(number: int) -> bytes | None:
        data = bytes([number]) * size
        begin.wait()
        try:
            storage.write(path, Content.of_bytes(data), mode="create")
        except AlreadyExists:
            return None
        return data

    with ThreadPoolExecutor(8) as pool:
        winners = [data for data in pool.map(create, range(8)) if data is not None]
    assert len(winners) == 1
    assert bytes_of(storage, path) == winners[0]


def test_overwrite_by_many_at_once(storage: StorageABC, place: str) -> None:
    path = child(place, "f")
    versions = [bytes([number]) * 100_000 for number in range(8)]
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda data: put(patient(storage), path, data), versions))
    assert bytes_of(storage, path) in versions
    assert listed(storage, place) == ["f"]


def test_if_match(storage: StorageABC, place: str) -> None:
    path = child(place, "f")
    put(storage, path, b"one")
    etag = storage.stat(path).etag
    storage.write(path, Content.of_bytes(b"second"), if_match=etag)
    assert bytes_of(storage, path) == b"second"
    with pytest.raises(PreconditionFailed):
        storage.write(path, Content.of_bytes(b"third!!"), if_match=etag)
    assert bytes_of(storage, path) == b"second"


def test_if_match_of_nothing(storage: StorageABC, place: str) -> None:
    path = child(place, "f")
    put(storage, path, b"one")
    etag = storage.stat(path).etag
    storage.remove(path)
    with pytest.raises(PreconditionFailed):
        storage.write(path, Content.of_bytes(b"second"), if_match=etag)
    with pytest.raises(NotFound):
        storage.stat(path)


@pytest.mark.needs("conditional_match")
def test_if_match_by_many_at_once(storage: StorageABC, place: str) -> None:
    path = child(place, "f")
    put(storage, path, b"base")
    etag = storage.stat(path).etag
    begin = threading.Barrier(8)

    def replace(number: int) -> bool:
        begin.wait()
        try:
            storage.write(path, Content.of_bytes(b"n" * (number + 10)), if_match=etag)
        except PreconditionFailed:
            return False
        return True

    with ThreadPoolExecutor(8) as pool:
        assert sum(pool.map(replace, range(8))) == 1


def broken(data: bytes, after: int) -> Iterator[bytes]:
    yield from pieces_of(data[:after], 100_000)
    raise SourceBroke


@pytest.mark.parametrize("size", [200_000, 12 * MIB], ids=["small", "large"])
@pytest.mark.parametrize("known", [True, False], ids=["known", "unknown"])
@pytest.mark.parametrize("exists", [True, False], ids=["over", "new"])
def test_source_breaks(storage: StorageABC, outside: Outside, place: str, size: int, known: bool, exists: bool) -> None:
    path = child(place, "f")
    if exists:
        put(storage, path, b"old")
    content = Content.of_stream(broken(bytes(size), size // 2), size=size if known else None)
    with pytest.raises(SourceBroke):
        storage.write(path, content)
    if exists:
        assert bytes_of(storage, path) == b"old"
    else:
        with pytest.raises(NotFound):
            storage.stat(path)
    settles(lambda: outside.names(place), ["f"] if exists else [])


@pytest.mark.parametrize("size", [1000, 300_000, 12 * MIB])
@pytest.mark.parametrize("given", ["short", "long", "nothing"])
@pytest.mark.parametrize("exists", [True, False], ids=["over", "new"])
def test_source_is_not_as_long_as_promised(
    storage: StorageABC, outside: Outside, place: str, size: int, given: str, exists: bool
) -> None:
    path = child(place, "f")
    if exists:
        put(storage, path, b"old")
    length = {"short": size - 1, "long": size + 1, "nothing": 0}[given]
    with pytest.raises(SourceChanged):
        storage.write(path, Content.of_stream(pieces_of(bytes(length), 65536), size=size))
    settles(lambda: outside.names(place), ["f"] if exists else [])
    if exists:
        assert bytes_of(storage, path) == b"old"


@pytest.mark.parametrize("change", ["shorter", "longer"])
def test_local_file_changes_before_it_is_sent(storage: StorageABC, place: str, tmp_path: Path, change: str) -> None:
    source = tmp_path / "source"
    source.write_bytes(bytes(1000))
    content = Content.of_file(source)
    source.write_bytes(bytes(500 if change == "shorter" else 1500))
    with pytest.raises(SourceChanged):
        storage.write(child(place, "f"), content)
    with pytest.raises(NotFound):
        storage.stat(child(place, "f"))


@pytest.mark.parametrize("size", [1000, 3 * MIB, 20 * MIB])
@pytest.mark.parametrize("moment", ["before", "meanwhile"])
@pytest.mark.parametrize("exists", [True, False], ids=["over", "new"])
def test_local_file_that_changes_is_stored_in_no_part(
    storage: StorageABC, outside: Outside, place: str, tmp_path: Path, size: int, moment: str, exists: bool
) -> None:
    """Its size stays the same. It is refused before it is visible: over the last good copy that is what counts."""
    path, source = child(place, "f"), tmp_path / "source"
    if exists:
        put(storage, path, b"old")
    source.write_bytes(bytes(size))
    disk = Disk(str(tmp_path))
    entry = disk.stat("source")

    def change() -> None:
        source.write_bytes(bytes(size - 1) + b"x")
        os.utime(source, ns=(1, 1))

    def pieces() -> Iterator[bytes]:
        with disk.open_read("source", if_match=entry.etag) as reader:
            change()
            yield from reader

    if moment == "before":
        change()
        with pytest.raises((SourceChanged, PreconditionFailed)):
            copy_file(disk, entry, storage, path)
    else:
        with pytest.raises(SourceChanged):
            storage.write(path, Content(open=pieces, size=size))
    settles(lambda: outside.names(place), ["f"] if exists else [])
    if exists:
        assert bytes_of(storage, path) == b"old"


@pytest.mark.lacks("flat")
def test_write_over_directory(storage: StorageABC, place: str) -> None:
    put(storage, child(place, "d", "f"))
    with pytest.raises(IsADirectory):
        put(storage, child(place, "d"))
    assert listed(storage, place, recursive=True) == ["d/", "d/f"]


@pytest.mark.needs("empty_directories")
@pytest.mark.lacks("flat")
def test_write_over_empty_directory(storage: StorageABC, place: str) -> None:
    storage.make_dir(child(place, "d"))
    with pytest.raises(IsADirectory):
        put(storage, child(place, "d"))
    assert listed(storage, place) == ["d/"]


def test_write_to_root(storage: StorageABC) -> None:
    with pytest.raises(IsADirectory):
        put(storage, "")


@pytest.mark.lacks("flat")
@pytest.mark.parametrize("depth", [1, 2])
def test_write_below_file(storage: StorageABC, place: str, depth: int) -> None:
    put(storage, child(place, "f"), b"here")
    with pytest.raises(NotADirectory):
        put(storage, child(place, "f", *(["g"] * depth)))
    assert bytes_of(storage, child(place, "f")) == b"here"
    assert listed(storage, place) == ["f"]


def test_write_at_the_root(storage: StorageABC, place: str) -> None:
    put(storage, place)
    assert storage.stat(place).size == 7
    assert place in [entry.path for entry in storage.scan()]
    storage.remove(place)


def test_temporary_objects_are_never_listed(storage: StorageABC, place: str) -> None:
    put(storage, child(place, "e"))
    seen: list[list[str]] = []

    def pieces() -> Iterator[bytes]:
        for _ in range(4):
            yield bytes(MIB)
            seen.append(listed(storage, place))

    storage.write(child(place, "f"), Content.of_stream(pieces(), size=4 * MIB))
    assert seen == [["e"]] * 4
    assert listed(storage, place) == ["e", "f"]
