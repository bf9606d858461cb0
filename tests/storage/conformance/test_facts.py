"""What a service declares is true: times, capabilities, presigned URLs, versions, room, many threads."""

from __future__ import annotations

import hashlib
import urllib.error
import urllib.request
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import fields
from typing import Any

import pytest

from cloudmesh.storage.abc import Capabilities, Content, StorageABC
from cloudmesh.storage.errors import NotFound, StorageError, Unsupported
from tests.storage.conformance.conftest import Service
from tests.storage.conformance.targets import Outside, Target, child, listed, make_provider, patient, put

_SECOND = 1_000_000_000
NOT_DECLARED = {"network", "http", "versioned_buckets"}
_TIMES = {
    "epoch": 0,
    "one": _SECOND,
    "usual": 1_700_000_000 * _SECOND,
    "digits": 1_700_000_000 * _SECOND + 123_456_789,
    "nearly-next-second": 1_700_000_000 * _SECOND + 999_999_999,
    "2038": 2_147_483_648 * _SECOND,
    "2100": 4_102_444_800 * _SECOND,
    "summer": 1_688_200_000 * _SECOND,
}


def bytes_of(storage: StorageABC, path: str) -> bytes:
    with storage.open_read(path) as reader:
        return reader.read()


def test_declares_what_is_expected(storage: StorageABC, target: Target) -> None:
    declared = {fact.name for fact in fields(Capabilities) if getattr(storage.capabilities, fact.name) is True}
    assert declared == target.features - NOT_DECLARED
    assert storage.capabilities.mtime_precision_ns == target.mtime_precision_ns


def test_knows_its_name(storage: StorageABC, service: Service) -> None:
    assert storage.name == service.settings().name
    assert storage.location("a/b") == f"{storage.name}:a/b"


def test_probe(storage: StorageABC) -> None:
    storage.probe()


def test_settings_hide_the_credentials(storage: StorageABC, service: Service) -> None:
    for secret in ("password", "secret_access_key"):
        value = service.settings().credentials.get(secret)
        if value:
            assert str(value) not in repr(storage.settings)
            assert str(value) not in repr(storage)


@pytest.mark.parametrize("moment", _TIMES)
@pytest.mark.parametrize("how", ["small", "stream", "large"])
def test_modification_time(storage: StorageABC, place: str, moment: str, how: str) -> None:
    precision = storage.capabilities.mtime_precision_ns
    mtime = _TIMES[moment]
    size = 12 * 1024 * 1024 if how == "large" else 10
    if how == "large" and moment != "digits":
        size = 100_000
    data = bytes(size)
    content = Content.of_bytes(data, mtime) if how != "stream" else Content.of_stream([data], mtime_ns=mtime)
    storage.write(child(place, "f"), content)
    kept = storage.stat(child(place, "f")).mtime_ns
    if precision is None:  # then not a wrong one either
        assert kept is None
        return
    assert kept is not None
    assert abs(kept - mtime) < precision


@pytest.mark.needs("set_mtime")
@pytest.mark.parametrize("moment", _TIMES)
def test_modification_time_changed(storage: StorageABC, place: str, moment: str) -> None:
    storage.write(child(place, "f"), Content.of_bytes(b"here", mtime_ns=_SECOND))
    storage.set_mtime(child(place, "f"), _TIMES[moment])
    kept = storage.stat(child(place, "f")).mtime_ns
    precision = storage.capabilities.mtime_precision_ns
    assert kept is not None
    assert precision is not None
    assert abs(kept - _TIMES[moment]) < precision
    assert bytes_of(storage, child(place, "f")) == b"here"


@pytest.mark.needs("set_mtime")
def test_modification_time_of_nothing(storage: StorageABC, place: str) -> None:
    with pytest.raises(NotFound):
        storage.set_mtime(child(place, "nothing"), 0)


def test_modification_time_of_a_new_version(storage: StorageABC, place: str) -> None:
    storage.write(child(place, "f"), Content.of_bytes(b"one", mtime_ns=5 * _SECOND))
    storage.write(child(place, "f"), Content.of_bytes(b"two", mtime_ns=3 * _SECOND))
    if storage.capabilities.mtime_precision_ns is None:
        with pytest.raises(Unsupported):
            storage.set_mtime(child(place, "f"), 0)
        return
    assert storage.stat(child(place, "f")).mtime_ns == 3 * _SECOND


def test_hashes_are_true(storage: StorageABC, place: str) -> None:
    data = b"content to hash" * 1000
    put(storage, child(place, "f"), data)
    found = storage.stat(child(place, "f")).hashes
    assert set(found) <= set(storage.capabilities.hashes)
    for algorithm, digest in found.items():
        if algorithm in hashlib.algorithms_available:
            assert digest == hashlib.new(algorithm, data).hexdigest()


def test_large_file_hashes_are_true(storage: StorageABC, place: str) -> None:
    data = bytes(12 * 1024 * 1024)
    put(storage, child(place, "f"), data)
    for algorithm, digest in storage.stat(child(place, "f")).hashes.items():
        if algorithm in hashlib.algorithms_available:
            assert digest == hashlib.new(algorithm, data).hexdigest()


def test_many_threads(storage: StorageABC, place: str) -> None:
    willing = patient(storage)

    def work(number: int) -> str:
        path = child(place, f"d{number % 4}", f"f{number}")
        data = f"content {number}".encode() * (number + 1)
        put(willing, path, data)
        assert bytes_of(storage, path) == data
        assert storage.stat(path).size == len(data)
        if number % 2:
            storage.remove(path)
        return path

    with ThreadPoolExecutor(16) as pool:
        list(pool.map(work, range(96)))
    files = [name for name in listed(storage, place, recursive=True) if not name.endswith("/")]
    assert len(files) == 48


def test_root_below_the_service(make: Callable[..., StorageABC], storage: StorageABC, place: str) -> None:
    below = make(root=child(place, "deep", "root dir"))
    assert listed(below, "", recursive=True) == []
    assert below.stat("").is_directory
    put(below, "a/f", b"here")
    assert listed(below, "", recursive=True) == ["a/", "a/f"]
    assert bytes_of(storage, child(place, "deep", "root dir", "a", "f")) == b"here"
    below.remove("a/f")


@pytest.mark.parametrize("path", ["../x", "a/../../x", "/etc/hostname", "..", "a//b", "./a"])
def test_no_way_out_of_the_root(make: Callable[..., StorageABC], storage: StorageABC, place: str, path: str) -> None:
    put(storage, child(place, "x"), b"outside")
    inside = make(root=child(place, "inside"))
    put(inside, "f")
    try:
        seen = bytes_of(inside, path)
    except StorageError:
        seen = b""
    assert seen == b""
    with suppress(StorageError):
        put(inside, path, b"overwritten")
    assert bytes_of(storage, child(place, "x")) == b"outside"


@pytest.mark.needs("quota")
def test_usage(storage: StorageABC) -> None:
    room = storage.usage()
    assert room.total is None or room.total > 0
    assert room.free is None or room.free >= 0
    assert (room.total, room.used, room.free) != (None, None, None)
    if room.total is not None and room.free is not None:
        assert room.free <= room.total


@pytest.mark.lacks("quota")
def test_usage_is_not_told(storage: StorageABC) -> None:
    with pytest.raises(Unsupported):
        storage.usage()


def fetch(url: str, data: bytes | None = None) -> bytes:
    request = urllib.request.Request(url, data=data, method="GET" if data is None else "PUT")
    with urllib.request.urlopen(request, timeout=20) as answer:
        body: bytes = answer.read()
        return body


@pytest.mark.needs("presign")
@pytest.mark.parametrize("name", ["f", "with space+plus?#%.txt", "日本"])
def test_presigned_get(storage: StorageABC, place: str, name: str) -> None:
    put(storage, child(place, name), b"here")
    assert fetch(storage.presign(child(place, name), expires=60)) == b"here"


@pytest.mark.needs("presign")
def test_presigned_put(storage: StorageABC, place: str) -> None:
    fetch(storage.presign(child(place, "f"), expires=60, method="PUT"), b"sent")
    assert bytes_of(storage, child(place, "f")) == b"sent"


@pytest.mark.needs("presign")
def test_presigned_url_is_for_one_file(storage: StorageABC, place: str) -> None:
    put(storage, child(place, "f"), b"here")
    put(storage, child(place, "g"), b"secret")
    url = storage.presign(child(place, "f"), expires=60)
    with pytest.raises(urllib.error.HTTPError):
        fetch(url.replace("/f?", "/g?"))


@pytest.mark.lacks("presign")
def test_presign_is_unsupported(storage: StorageABC, place: str) -> None:
    with pytest.raises(Unsupported):
        storage.presign(child(place, "f"), expires=60)


@pytest.mark.needs("versioned_buckets")
def test_versions(make: Callable[..., StorageABC], service: Service) -> None:
    bucket = service.server.make_bucket(versioned=True)
    storage = make(bucket=bucket)
    storage.probe()
    assert storage.capabilities.versions
    for data in (b"1", b"22", b"333"):
        put(storage, "f", data)
    put(storage, "f2", b"other")
    kept = storage.versions("f")
    assert [entry.size for entry in kept] == [3, 2, 1]
    assert len({entry.version for entry in kept}) == 3
    assert all(entry.path == "f" and entry.version for entry in kept)


def test_no_versions_are_kept(storage: StorageABC, place: str) -> None:
    put(storage, child(place, "f"), b"one")
    put(storage, child(place, "f"), b"two")
    assert not storage.capabilities.versions
    try:
        kept = storage.versions(child(place, "f"))
    except Unsupported:
        return
    assert [entry.etag for entry in kept] == [storage.stat(child(place, "f")).etag]


def test_flush(storage: StorageABC, place: str) -> None:
    put(storage, child(place, "f"))
    storage.flush()
    assert listed(storage, place) == ["f"]


def test_nothing_of_ours_is_left(storage: StorageABC, outside: Outside, place: str, tmp_path: Any) -> None:
    put(storage, child(place, "f"), bytes(6 * 1024 * 1024))
    put(storage, child(place, "f"), bytes(100))
    put(storage, child(place, "d", "g"))
    assert outside.names(place) == ["d", "f"]
    assert outside.names(child(place, "d")) == ["g"]


def test_identity_is_the_place_whatever_the_service_is_called(service: Service) -> None:
    first, second = make_provider(service.settings("first")), make_provider(service.settings("second", root="d"))
    try:
        assert first.identity("d/f g") == second.identity("f g")
        assert first.identity("f g") != second.identity("f g")
    finally:
        first.close()
        second.close()
