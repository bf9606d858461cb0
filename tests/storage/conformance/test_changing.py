"""Directories made, things removed, copied and moved."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pytest

from cloudmesh.storage.abc import Content, StorageABC
from cloudmesh.storage.errors import (
    AlreadyExists,
    DirectoryNotEmpty,
    InvalidName,
    IsADirectory,
    NotADirectory,
    NotFound,
    Refused,
    Unsupported,
)
from tests.storage.conformance.targets import Outside, child, listed, plant, put, settles

MTIME = 1_234_567_890_000_000_000


def bytes_of(storage: StorageABC, path: str) -> bytes:
    with storage.open_read(path) as reader:
        return reader.read()


# ---- directories


@pytest.mark.needs("empty_directories")
def test_make_dir(storage: StorageABC, outside: Outside, place: str) -> None:
    storage.make_dir(child(place, "a", "b"))
    storage.make_dir(child(place, "a", "b"))
    assert outside.names(child(place, "a")) == ["b"]
    assert storage.stat(child(place, "a", "b")).is_directory


def test_make_dir_where_files_are(storage: StorageABC, place: str) -> None:
    put(storage, child(place, "d", "f"))
    storage.make_dir(child(place, "d"))
    storage.make_dir(place)
    assert listed(storage, place, recursive=True) == ["d/", "d/f"]


def test_make_root(storage: StorageABC) -> None:
    storage.make_dir("")
    assert storage.stat("").is_directory


def test_make_dir_over_file(storage: StorageABC, place: str) -> None:
    put(storage, child(place, "f"), b"here")
    with pytest.raises(NotADirectory):
        storage.make_dir(child(place, "f"))
    with pytest.raises(NotADirectory):
        storage.make_dir(child(place, "f", "d"))
    assert bytes_of(storage, child(place, "f")) == b"here"


def test_make_dir_by_many_at_once(storage: StorageABC, place: str) -> None:
    with ThreadPoolExecutor(16) as pool:
        list(pool.map(lambda _: storage.make_dir(child(place, "a", "b", "c")), range(32)))
    put(storage, child(place, "a", "b", "c", "f"))


@pytest.mark.needs("empty_directories")
def test_remove_dir(storage: StorageABC, place: str) -> None:
    storage.make_dir(child(place, "a", "b"))
    with pytest.raises(DirectoryNotEmpty):
        storage.remove_dir(child(place, "a"))
    storage.remove_dir(child(place, "a", "b"))
    assert listed(storage, place) == ["a/"]
    storage.remove_dir(child(place, "a"))
    assert listed(storage, place) == []


def test_remove_dir_with_a_file(storage: StorageABC, place: str) -> None:
    put(storage, child(place, "d", "f"), b"here")
    with pytest.raises(DirectoryNotEmpty):
        storage.remove_dir(child(place, "d"))
    assert bytes_of(storage, child(place, "d", "f")) == b"here"


def test_remove_dir_of_nothing(storage: StorageABC, place: str) -> None:
    put(storage, child(place, "f"))
    for path in (child(place, "nothing"), child(place, "nothing", "below"), child(place, "f", "below")):
        with pytest.raises(NotFound):
            storage.remove_dir(path)


def test_remove_dir_of_file(storage: StorageABC, place: str) -> None:
    put(storage, child(place, "f"))
    with pytest.raises(NotADirectory):
        storage.remove_dir(child(place, "f"))
    assert listed(storage, place) == ["f"]


def test_remove_root(storage: StorageABC) -> None:
    with pytest.raises(Refused):
        storage.remove_dir("")
    with pytest.raises(IsADirectory):
        storage.remove("")


# ---- removing


def test_remove(storage: StorageABC, outside: Outside, place: str) -> None:
    put(storage, child(place, "f"))
    put(storage, child(place, "ff"))
    storage.remove(child(place, "f"))
    assert outside.names(place) == ["ff"]
    with pytest.raises(NotFound):
        storage.remove(child(place, "f"))


@pytest.mark.parametrize("where", ["nothing", "nothing/below", "f/below"])
def test_remove_of_nothing(storage: StorageABC, place: str, where: str) -> None:
    put(storage, child(place, "f"))
    with pytest.raises(NotFound):
        storage.remove(child(place, where))


def test_remove_of_directory(storage: StorageABC, place: str) -> None:
    put(storage, child(place, "d", "f"), b"here")
    with pytest.raises(IsADirectory):
        storage.remove(child(place, "d"))
    assert bytes_of(storage, child(place, "d", "f")) == b"here"


@pytest.mark.needs("empty_directories")
def test_remove_of_empty_directory(storage: StorageABC, place: str) -> None:
    storage.make_dir(child(place, "d"))
    with pytest.raises(IsADirectory):
        storage.remove(child(place, "d"))


@pytest.mark.needs("empty_directories")
@pytest.mark.lacks("flat")
def test_directory_stays_after_its_last_file(storage: StorageABC, place: str) -> None:
    put(storage, child(place, "d", "f"))
    storage.remove(child(place, "d", "f"))
    assert listed(storage, place) == ["d/"]


@pytest.mark.parametrize("count", [0, 1, 50])
def test_remove_many(storage: StorageABC, place: str, count: int) -> None:
    remove_many(storage, place, count)


@pytest.mark.needs("flat")
def test_remove_many_beyond_a_batch(storage: StorageABC, place: str) -> None:
    remove_many(storage, place, 1100)


def remove_many(storage: StorageABC, place: str, count: int) -> None:
    files = [f"f{number}" for number in range(count)]
    plant(storage, place, [*files, "kept"])
    assert list(storage.remove_many([child(place, file) for file in files])) == []
    settles(lambda: listed(storage, place), ["kept"])


def test_remove_many_with_some_not_there(storage: StorageABC, place: str) -> None:
    put(storage, child(place, "f"))
    put(storage, child(place, "g"))
    gone = [child(place, "f"), child(place, "nothing"), child(place, "no", "where"), child(place, "g")]
    assert list(storage.remove_many(gone)) == []
    with pytest.raises(NotFound):
        storage.stat(child(place, "f"))


# ---- copying on the service


@pytest.mark.needs("server_copy")
@pytest.mark.parametrize("size", [0, 10, 6 * 1024 * 1024])
def test_copy(storage: StorageABC, outside: Outside, place: str, size: int) -> None:
    data = bytes(range(256)) * (size // 256 + 1)
    storage.write(child(place, "f"), Content.of_bytes(data[:size], mtime_ns=MTIME))
    entry = storage.copy_within(child(place, "f"), child(place, "new", "g"))
    assert entry.path == child(place, "new", "g")
    assert outside.read(child(place, "new", "g")) == data[:size]
    assert outside.read(child(place, "f")) == data[:size]
    if storage.capabilities.mtime_precision_ns is not None:
        assert storage.stat(child(place, "new", "g")).mtime_ns == MTIME


@pytest.mark.needs("server_copy")
def test_copy_over(storage: StorageABC, place: str) -> None:
    put(storage, child(place, "f"), b"new")
    put(storage, child(place, "g"), b"old")
    storage.copy_within(child(place, "f"), child(place, "g"))
    assert bytes_of(storage, child(place, "g")) == b"new"


@pytest.mark.needs("server_copy")
def test_copy_create(storage: StorageABC, place: str) -> None:
    put(storage, child(place, "f"), b"new")
    put(storage, child(place, "g"), b"old")
    with pytest.raises(AlreadyExists):
        storage.copy_within(child(place, "f"), child(place, "g"), mode="create")
    assert bytes_of(storage, child(place, "g")) == b"old"
    storage.copy_within(child(place, "f"), child(place, "h"), mode="create")
    assert bytes_of(storage, child(place, "h")) == b"new"


@pytest.mark.needs("server_copy")
def test_copy_onto_itself(storage: StorageABC, place: str) -> None:
    put(storage, child(place, "f"), b"here")
    storage.copy_within(child(place, "f"), child(place, "f"))
    assert bytes_of(storage, child(place, "f")) == b"here"


@pytest.mark.needs("server_copy")
def test_copy_refusals(storage: StorageABC, place: str) -> None:
    put(storage, child(place, "f"), b"here")
    put(storage, child(place, "d", "x"))
    with pytest.raises(NotFound):
        storage.copy_within(child(place, "nothing"), child(place, "g"))
    with pytest.raises(IsADirectory):
        storage.copy_within(child(place, "d"), child(place, "g"))
    with pytest.raises(InvalidName):
        storage.copy_within(child(place, "f"), child(place, "x" * 5000))
    assert listed(storage, place, recursive=True) == ["d/", "d/x", "f"]


@pytest.mark.needs("server_copy")
@pytest.mark.lacks("flat")
def test_copy_over_directory_or_below_file(storage: StorageABC, place: str) -> None:
    put(storage, child(place, "f"), b"here")
    put(storage, child(place, "d", "x"))
    with pytest.raises(IsADirectory):
        storage.copy_within(child(place, "f"), child(place, "d"))
    with pytest.raises(NotADirectory):
        storage.copy_within(child(place, "f"), child(place, "f", "g"))
    assert listed(storage, place, recursive=True) == ["d/", "d/x", "f"]


# ---- moving on the service


@pytest.mark.needs("server_move")
def test_move(storage: StorageABC, outside: Outside, place: str) -> None:
    storage.write(child(place, "f"), Content.of_bytes(b"here", mtime_ns=MTIME))
    storage.move_within(child(place, "f"), child(place, "new", "g"))
    assert outside.read(child(place, "new", "g")) == b"here"
    assert "f" not in outside.names(place)
    if storage.capabilities.mtime_precision_ns is not None:
        assert storage.stat(child(place, "new", "g")).mtime_ns == MTIME


@pytest.mark.needs("server_move")
def test_move_over(storage: StorageABC, place: str) -> None:
    put(storage, child(place, "f"), b"new")
    put(storage, child(place, "g"), b"old")
    storage.move_within(child(place, "f"), child(place, "g"))
    assert bytes_of(storage, child(place, "g")) == b"new"
    assert listed(storage, place) == ["g"]


@pytest.mark.needs("server_move")
def test_move_create(storage: StorageABC, place: str) -> None:
    put(storage, child(place, "f"), b"new")
    put(storage, child(place, "g"), b"old")
    with pytest.raises(AlreadyExists):
        storage.move_within(child(place, "f"), child(place, "g"), mode="create")
    assert bytes_of(storage, child(place, "g")) == b"old"
    assert bytes_of(storage, child(place, "f")) == b"new"
    storage.move_within(child(place, "f"), child(place, "h"), mode="create")
    assert bytes_of(storage, child(place, "h")) == b"new"


@pytest.mark.needs("server_move")
def test_move_onto_itself(storage: StorageABC, place: str) -> None:
    put(storage, child(place, "f"), b"here")
    storage.move_within(child(place, "f"), child(place, "f"))
    assert bytes_of(storage, child(place, "f")) == b"here"


@pytest.mark.needs("server_move")
def test_move_refusals(storage: StorageABC, place: str) -> None:
    put(storage, child(place, "f"), b"here")
    put(storage, child(place, "d", "x"))
    with pytest.raises(NotFound):
        storage.move_within(child(place, "nothing"), child(place, "g"))
    assert listed(storage, place, recursive=True) == ["d/", "d/x", "f"]


@pytest.mark.needs("server_move")
@pytest.mark.lacks("flat")
def test_move_over_directory_or_below_file(storage: StorageABC, place: str) -> None:
    put(storage, child(place, "f"), b"here")
    put(storage, child(place, "d", "x"))
    with pytest.raises(IsADirectory):
        storage.move_within(child(place, "f"), child(place, "d"))
    with pytest.raises(NotADirectory):
        storage.move_within(child(place, "f"), child(place, "f", "g"))
    assert listed(storage, place, recursive=True) == ["d/", "d/x", "f"]


@pytest.mark.needs("server_move")
def test_move_of_directory(storage: StorageABC, place: str) -> None:
    put(storage, child(place, "d", "e", "f"), b"here")
    try:
        storage.move_within(child(place, "d"), child(place, "g"))
    except (Unsupported, IsADirectory):
        assert listed(storage, place, recursive=True) == ["d/", "d/e/", "d/e/f"]
        return
    assert listed(storage, place, recursive=True) == ["g/", "g/e/", "g/e/f"]


@pytest.mark.needs("server_move")
def test_move_of_directory_into_itself(storage: StorageABC, place: str) -> None:
    put(storage, child(place, "d", "f"), b"here")
    with pytest.raises((Refused, Unsupported, IsADirectory)):
        storage.move_within(child(place, "d"), child(place, "d", "e"))
    assert listed(storage, place, recursive=True) == ["d/", "d/f"]


@pytest.mark.needs("server_move")
def test_move_of_root(storage: StorageABC, place: str) -> None:
    with pytest.raises((Refused, Unsupported, IsADirectory)):
        storage.move_within("", place)
