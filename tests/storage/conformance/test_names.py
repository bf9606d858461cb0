"""Names are stored faithfully or refused before anything is sent."""

from __future__ import annotations

import pytest

from cloudmesh.storage.abc import Content, StorageABC
from cloudmesh.storage.errors import InvalidName, NotFound, Unsupported
from cloudmesh.storage.paths import TEMPORARY_PREFIX
from tests.storage.conformance.names import NAMES
from tests.storage.conformance.targets import Outside, Target, child, listed, put

every_name = pytest.mark.parametrize("key", NAMES)


def refused(target: Target, key: str) -> bool:
    return any(key.startswith(beginning) for beginning in target.refuses)


@every_name
def test_file_name(storage: StorageABC, target: Target, outside: Outside, place: str, key: str) -> None:
    name, data = NAMES[key], key.encode()
    path = child(place, name)
    try:
        entry = storage.write(path, Content.of_bytes(data))
    except InvalidName:
        assert refused(target, key)
        assert outside.names(place) == []
        return
    assert not refused(target, key)
    assert entry.path == path
    assert outside.names(place) == [name]
    assert listed(storage, place) == [name]
    found = storage.stat(path)
    assert (found.path, found.is_directory, found.size) == (path, False, len(data))
    with storage.open_read(path) as reader:
        assert reader.read() == data
    storage.remove(path)
    with pytest.raises(NotFound):
        storage.stat(path)


@every_name
def test_directory_name(storage: StorageABC, target: Target, outside: Outside, place: str, key: str) -> None:
    name = NAMES[key]
    path = child(place, name)
    try:
        put(storage, child(path, "f"))
    except InvalidName:
        assert refused(target, key)
        assert outside.names(place) == []
        return
    assert outside.names(place) == [name]
    assert listed(storage, place) == [f"{name}/"]
    assert listed(storage, path) == ["f"]
    assert listed(storage, place, recursive=True) == [f"{name}/", f"{name}/f"]
    assert storage.stat(path).is_directory
    storage.remove(child(path, "f"))
    with pytest.raises(NotFound):
        storage.stat(child(path, "f"))


@pytest.mark.needs("server_copy")
@every_name
def test_copied_name(storage: StorageABC, target: Target, outside: Outside, place: str, key: str) -> None:
    name = NAMES[key]
    put(storage, child(place, "a"), key.encode())
    try:
        storage.copy_within(child(place, "a"), child(place, "copied", name))
        storage.copy_within(child(place, "copied", name), child(place, "b"))
    except InvalidName:
        assert refused(target, key)
        assert outside.names(place) == ["a"]
        return
    except Unsupported:
        assert any(key.startswith(beginning) for beginning in target.not_renamed)
        assert outside.names(child(place, name)) == []
        return
    assert outside.names(child(place, "copied")) == [name]
    assert outside.read(child(place, "b")) == key.encode()


@pytest.mark.needs("server_move")
@every_name
def test_moved_name(storage: StorageABC, target: Target, outside: Outside, place: str, key: str) -> None:
    name = NAMES[key]
    put(storage, child(place, "a"), key.encode())
    try:
        storage.move_within(child(place, "a"), child(place, name))
    except InvalidName:
        assert refused(target, key)
        assert outside.names(place) == ["a"]
        return
    except Unsupported:
        assert any(key.startswith(beginning) for beginning in target.not_renamed)
        assert outside.names(child(place, name)) == []
        return
    assert outside.names(place) == [name]
    storage.move_within(child(place, name), child(place, "b"))
    assert outside.names(place) == ["b"]


def test_all_names_in_one_directory(storage: StorageABC, target: Target, place: str) -> None:
    kept = {key: name for key, name in NAMES.items() if not refused(target, key)}
    for key, name in kept.items():
        put(storage, child(place, name), key.encode())
    expected = sorted(kept.values(), key=lambda name: name.encode())
    assert listed(storage, place) == expected
    for key, name in kept.items():
        with storage.open_read(child(place, name)) as reader:
            assert reader.read() == key.encode()
    assert list(storage.remove_many([child(place, name) for name in expected])) == []
    assert [name for name in expected if _exists(storage, child(place, name))] == []


def _exists(storage: StorageABC, path: str) -> bool:
    try:
        storage.stat(path)
    except NotFound:
        return False
    return True


def test_composed_and_decomposed_are_two_names(storage: StorageABC, outside: Outside, place: str) -> None:
    put(storage, child(place, "\u00e9"), b"composed")
    put(storage, child(place, "e\u0301"), b"decomposed")
    assert listed(storage, place) == ["e\u0301", "\u00e9"]
    with storage.open_read(child(place, "\u00e9")) as reader:
        assert reader.read() == b"composed"
    assert outside.names(place) == ["e\u0301", "\u00e9"]


@pytest.mark.needs("case_sensitive")
def test_case_pairs_are_two_names(storage: StorageABC, place: str) -> None:
    put(storage, child(place, "README"), b"large")
    put(storage, child(place, "readme"), b"small")
    assert listed(storage, place) == ["README", "readme"]
    with storage.open_read(child(place, "README")) as reader:
        assert reader.read() == b"large"


def test_name_too_long(storage: StorageABC, outside: Outside, place: str) -> None:
    limit = storage.capabilities.name_max_bytes or storage.capabilities.path_max_bytes
    assert limit is not None
    with pytest.raises(InvalidName):
        put(storage, child(place, "x" * (limit + 1)))
    with pytest.raises(InvalidName):
        put(storage, child(place, "y" * (limit + 1), "f"))
    assert outside.names(place) == []


def test_multibyte_name_too_long(storage: StorageABC, place: str) -> None:
    limit = storage.capabilities.name_max_bytes or storage.capabilities.path_max_bytes
    assert limit is not None
    with pytest.raises(InvalidName):
        put(storage, child(place, "日" * (limit // 3 + 1)))


def test_path_too_long(storage: StorageABC, place: str) -> None:
    limit = storage.capabilities.path_max_bytes
    if limit is None:  # then a long path works
        path = child(place, *(["d" * 50] * 20), "f")
        put(storage, path)
        assert storage.stat(path).size == 7
        return
    with pytest.raises(InvalidName):
        put(storage, child(place, *(["d" * 100] * (limit // 101 + 1)), "f"))


def test_long_path(storage: StorageABC, outside: Outside, place: str) -> None:
    directory = child(place, *(["日本語" * 8] * 10))
    put(storage, child(directory, "f"))
    assert outside.names(directory) == ["f"]
    assert listed(storage, place, recursive=True)[-1].endswith("/f")


@pytest.mark.parametrize("name", ["a\udcff", "\ud800"])
def test_not_unicode(storage: StorageABC, outside: Outside, place: str, name: str) -> None:
    with pytest.raises(InvalidName):
        put(storage, child(place, name))
    assert outside.names(place) == []


@pytest.mark.parametrize("part", ["directory", "file"])
def test_our_own_prefix_is_refused(storage: StorageABC, outside: Outside, place: str, part: str) -> None:
    name = TEMPORARY_PREFIX + "x"
    with pytest.raises(InvalidName):
        put(storage, child(place, name, "f") if part == "directory" else child(place, name))
    assert outside.names(place) == []


def test_forbidden_characters_are_refused(storage: StorageABC, outside: Outside, place: str) -> None:
    for character in sorted(storage.capabilities.forbidden):
        with pytest.raises(InvalidName):
            put(storage, child(place, f"a{character}b"))
        with pytest.raises(InvalidName):
            storage.make_dir(child(place, f"a{character}b"))
    assert outside.names(place) == []
