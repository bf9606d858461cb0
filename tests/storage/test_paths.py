"""Paths and locations, for any text."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cloudmesh.storage import paths
from cloudmesh.storage.errors import InvalidName
from cloudmesh.storage.paths import Location

names = st.text(min_size=1).filter(lambda name: "/" not in name and "\0" not in name and name not in (".", ".."))
normal = st.lists(names, max_size=6).map("/".join)
raw = st.lists(st.one_of(names, st.sampled_from(["", ".", "..", "/"])), max_size=8).map("/".join)


@given(normal)
def test_normal_paths_stay(path: str) -> None:
    assert paths.normalize(path) == path


@given(raw)
def test_normalized_paths_are_normal_or_refused(path: str) -> None:
    try:
        normalized = paths.normalize(path)
    except InvalidName:
        assert ".." in path.split("/")
        return
    parts = normalized.split("/") if normalized else []
    assert all(part not in ("", ".", "..") for part in parts)
    assert parts == [part for part in path.split("/") if part not in ("", ".")]
    assert paths.normalize(normalized) == normalized


@pytest.mark.parametrize("path", ["a\0b", "\0", "a/\0"])
def test_nul_is_refused(path: str) -> None:
    with pytest.raises(InvalidName):
        paths.normalize(path)
    with pytest.raises(InvalidName):
        paths.resolve(path)


@pytest.mark.parametrize("path", ["..", "a/../b", "../a", "a/.."])
def test_dots_are_refused(path: str) -> None:
    with pytest.raises(InvalidName):
        paths.normalize(path)


@given(normal, normal)
def test_join_and_parent(directory: str, name: str) -> None:
    joined = paths.join(directory, name)
    assert paths.normalize(joined) == joined
    assert [part for part in joined.split("/") if part] == [
        part for part in [*directory.split("/"), *name.split("/")] if part
    ]
    if joined:
        assert paths.join(paths.parent(joined), paths.basename(joined)) == joined


def test_root_is_its_own_parent() -> None:
    assert paths.parent("") == ""
    assert paths.basename("") == ""


@given(normal, normal)
def test_resolve_below_the_current_directory(path: str, cwd: str) -> None:
    assert paths.resolve(path, cwd) == paths.join(cwd, path)
    assert paths.resolve("/" + path, cwd) == path


@given(st.lists(names, min_size=1, max_size=5))
def test_resolve_goes_up(parts: list[str]) -> None:
    cwd = "/".join(parts)
    assert paths.resolve("..", cwd) == "/".join(parts[:-1])
    assert paths.resolve("/".join([".."] * len(parts)), cwd) == ""
    with pytest.raises(InvalidName):
        paths.resolve("/".join([".."] * (len(parts) + 1)), cwd)


@given(st.lists(st.tuples(normal.filter(bool), st.booleans()), max_size=20))
def test_sort_key_orders_a_tree_as_it_is_walked(found: list[tuple[str, bool]]) -> None:
    keys = sorted(paths.sort_key(path, is_directory) for path, is_directory in found)
    for path, is_directory in found:
        if is_directory:  # what lies below a directory follows it without anything between
            below = [key for key in keys if key.startswith(paths.sort_key(path, True))]
            first = keys.index(below[0])
            assert keys[first : first + len(below)] == below


def test_sort_key_of_names_that_are_not_unicode() -> None:
    assert paths.sort_key("a\udcff", False) == b"a\xff"


@given(st.from_regex(r"[A-Za-z0-9][A-Za-z0-9_.-]+", fullmatch=True), normal)
def test_locations_are_read_back(service: str, path: str) -> None:
    assert paths.is_service_name(service)
    assert paths.split_location(str(Location(service, path))) == (service, path)


@pytest.mark.parametrize("text", ["C:\\dir", "a:b", "/x:y", "dir/x:y", "no colon", "", ":x", "-x:y", "a b:c", "é:x"])
def test_what_is_no_location(text: str) -> None:
    assert paths.split_location(text) == (None, text)


@given(normal, normal)
def test_child(path: str, name: str) -> None:
    assert Location("aws", path).child(name) == Location("aws", paths.join(path, name))


@pytest.mark.parametrize("name", ["a", "", "-ab", "a/b", "a b", "ab\n", ".ab"])
def test_what_is_no_service_name(name: str) -> None:
    assert not paths.is_service_name(name)
