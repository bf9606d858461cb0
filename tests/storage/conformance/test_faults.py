"""Connections that break, stall or are refused; credentials that are wrong."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from cloudmesh.storage.abc import Content, StorageABC
from cloudmesh.storage.errors import AuthenticationFailed, NotFound, PermissionDenied, RateLimited, Unavailable
from cloudmesh.storage.layers import Retry, RetryPolicy
from tests.faults import FaultProxy, HttpFaults
from tests.storage.conformance.conftest import Service
from tests.storage.conformance.targets import Outside, Target, child, listed, put, settles

pytestmark = pytest.mark.needs("network")

MIB = 1024 * 1024
WRONG = "not-the-right-secret"
DATA = bytes(range(256)) * (6 * MIB // 256)


@pytest.fixture
def proxy(fault_proxy: Callable[[int], FaultProxy], service: Service) -> FaultProxy:
    return fault_proxy(service.port)


@pytest.fixture
def proxied(make: Callable[..., StorageABC], proxy: FaultProxy) -> Iterator[StorageABC]:
    """A provider that reaches the server through the proxy, with short timeouts."""
    yield make(port=proxy.port, timeout=1.5)
    proxy.heal()


def bytes_of(storage: StorageABC, path: str) -> bytes:
    with storage.open_read(path) as reader:
        return reader.read()


def wrong_credentials(target: Target) -> dict[str, object]:
    if target.provider == "awss3":
        return {"secret_access_key": WRONG}
    return {"password": WRONG}


@pytest.mark.parametrize("call", ["probe", "stat", "scan", "read", "write", "remove"])
def test_wrong_credentials(
    make: Callable[..., StorageABC], storage: StorageABC, target: Target, tmp_path: Path, place: str, call: str
) -> None:
    put(storage, child(place, "f"), b"here")
    changes = wrong_credentials(target)
    if target.provider == "sftp":
        key = tmp_path / "other"
        _make_key(key)
        changes = {"key_file": str(key)}
    stranger = make(**changes)
    with pytest.raises(AuthenticationFailed) as caught:
        _call(stranger, call, child(place, "f"))
    assert WRONG not in str(caught.value)
    assert bytes_of(storage, child(place, "f")) == b"here"


def _make_key(path: Path) -> None:
    import subprocess

    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(path)], check=True)


def _call(storage: StorageABC, call: str, path: str) -> None:
    match call:
        case "probe":
            storage.probe()
        case "stat":
            storage.stat(path)
        case "scan":
            list(storage.scan(""))
        case "read":
            storage.open_read(path).read()
        case "write":
            put(storage, path, b"overwritten")
        case _:
            storage.remove(path)


@pytest.mark.parametrize("call", ["probe", "stat", "scan", "read", "write", "remove"])
def test_unreachable(make: Callable[..., StorageABC], dead_port: int, call: str) -> None:
    nowhere = make(port=dead_port, timeout=1.0)
    with pytest.raises(Unavailable) as caught:
        _call(nowhere, call, "f")
    assert caught.value.retryable
    assert caught.value.subject.startswith(nowhere.name)


@pytest.mark.parametrize("after", [0, 1, 100_000, 4 * MIB])
def test_cut_while_reading(proxied: StorageABC, proxy: FaultProxy, storage: StorageABC, place: str, after: int) -> None:
    path = child(place, "f")
    put(storage, path, DATA)
    proxied.stat(path)
    proxy.cut(after=after, times=None)
    with pytest.raises(Unavailable):
        bytes_of(proxied, path)
    assert proxy.fired
    proxy.heal()
    assert bytes_of(proxied, path) == DATA


@pytest.mark.parametrize("after", [0, 1000, 100_000, 4 * MIB])
def test_cut_while_downloading(
    proxied: StorageABC, proxy: FaultProxy, storage: StorageABC, place: str, after: int, tmp_path: Path
) -> None:
    path = child(place, "f")
    put(storage, path, DATA)
    proxied.stat(path)
    proxy.cut(after=after, times=None)
    with pytest.raises(Unavailable):
        proxied.download(path, tmp_path / "f")
    proxy.heal()
    proxied.download(path, tmp_path / "f")
    assert (tmp_path / "f").read_bytes() == DATA


@pytest.mark.parametrize("after", [0, 1000, 100_000, 4 * MIB])
@pytest.mark.parametrize("exists", [True, False], ids=["over", "new"])
def test_cut_while_writing(
    proxied: StorageABC,
    proxy: FaultProxy,
    storage: StorageABC,
    place: str,
    after: int,
    exists: bool,
) -> None:
    path = child(place, "f")
    put(storage, child(place, "other"))
    if exists:
        put(storage, path, b"old")
    proxied.stat(child(place, "other"))
    proxy.cut(after=after, direction="up", times=None)
    with pytest.raises(Unavailable):
        proxied.write(path, Content.of_bytes(DATA))
    assert proxy.fired
    proxy.heal()
    if exists:
        assert bytes_of(storage, path) == b"old"
    else:
        with pytest.raises(NotFound):
            storage.stat(path)
    # Without a connection nobody can tidy up: a temporary object, ours or the server's, may stay, but is not listed.
    settles(lambda: listed(storage, place), ["f", "other"] if exists else ["other"])
    proxied.write(path, Content.of_bytes(DATA))
    assert bytes_of(storage, path) == DATA


def test_reset_while_reading(proxied: StorageABC, proxy: FaultProxy, storage: StorageABC, place: str) -> None:
    path = child(place, "f")
    put(storage, path, DATA)
    proxied.stat(path)
    proxy.reset(after=MIB, times=None)
    with pytest.raises(Unavailable):
        bytes_of(proxied, path)


def test_stalled_while_reading(proxied: StorageABC, proxy: FaultProxy, storage: StorageABC, place: str) -> None:
    path = child(place, "f")
    put(storage, path, DATA)
    proxied.stat(path)
    proxy.stall(after=MIB, times=None)
    with pytest.raises(Unavailable):
        bytes_of(proxied, path)
    proxy.heal()
    assert bytes_of(proxied, path) == DATA


def test_stalled_before_the_answer(proxied: StorageABC, proxy: FaultProxy, storage: StorageABC, place: str) -> None:
    put(storage, child(place, "f"))
    proxied.stat(child(place, "f"))
    proxy.stall(after=0, times=None)
    with pytest.raises(Unavailable):
        proxied.stat(child(place, "f"))


def test_stalled_before_the_greeting(
    make: Callable[..., StorageABC], proxy: FaultProxy, storage: StorageABC, place: str
) -> None:
    put(storage, child(place, "f"))
    proxy.stall(after=0, times=None)
    late = make(port=proxy.port, timeout=1.0)
    with pytest.raises(Unavailable):
        late.stat(child(place, "f"))
    proxy.heal()


def test_stalled_while_writing(proxied: StorageABC, proxy: FaultProxy, storage: StorageABC, place: str) -> None:
    put(storage, child(place, "f"), b"old")
    proxied.stat(child(place, "f"))
    proxy.stall(after=100_000, direction="up", times=None)
    with pytest.raises(Unavailable):
        proxied.write(child(place, "f"), Content.of_bytes(DATA))
    assert bytes_of(storage, child(place, "f")) == b"old"


def test_works_again_after_all_connections_were_lost(
    proxied: StorageABC, proxy: FaultProxy, storage: StorageABC, place: str
) -> None:
    put(storage, child(place, "f"), b"here")
    patient = Retry(proxied, RetryPolicy(base_seconds=0.01))
    assert bytes_of(patient, child(place, "f")) == b"here"
    proxy.drop()
    assert bytes_of(patient, child(place, "f")) == b"here"
    proxy.drop()
    patient.write(child(place, "f"), Content.of_bytes(b"again"))
    assert bytes_of(storage, child(place, "f")) == b"again"


@pytest.mark.parametrize("after", [100_000, 3 * MIB])
def test_retried_read_goes_on_where_it_broke(
    proxied: StorageABC, proxy: FaultProxy, storage: StorageABC, place: str, after: int
) -> None:
    path = child(place, "f")
    put(storage, path, DATA)
    proxied.stat(path)
    patient = Retry(proxied, RetryPolicy(base_seconds=0.01))
    proxy.cut(after=after)
    assert bytes_of(patient, path) == DATA
    assert proxy.fired


@pytest.mark.parametrize("after", [0, 100_000, 3 * MIB])
def test_retried_write(
    proxied: StorageABC, proxy: FaultProxy, storage: StorageABC, outside: Outside, place: str, after: int
) -> None:
    path = child(place, "f")
    put(storage, child(place, "other"))
    proxied.stat(child(place, "other"))
    patient = Retry(proxied, RetryPolicy(base_seconds=0.01))
    proxy.cut(after=after, direction="up")
    patient.write(path, Content.of_bytes(DATA))
    assert proxy.fired
    assert outside.read(path) == DATA
    assert listed(storage, place) == ["f", "other"]


@pytest.mark.needs("http")
@pytest.mark.parametrize("call", ["stat", "scan", "read", "write", "remove"])
@pytest.mark.parametrize("status", [500, 502, 503])
def test_server_errors_are_retryable(
    make: Callable[..., StorageABC],
    storage: StorageABC,
    http_faults: Callable[[int], HttpFaults],
    service: Service,
    place: str,
    status: int,
    call: str,
) -> None:
    put(storage, child(place, "f"))
    front = http_faults(service.port)
    front.answer(status, times=None)
    with pytest.raises((Unavailable, RateLimited)) as caught:
        _call(make(port=front.port, timeout=2.0), call, child(place, "f"))
    assert caught.value.retryable
    assert storage.stat(child(place, "f")).size == 7


@pytest.mark.needs("http")
@pytest.mark.parametrize("status", [429, 503])
def test_retry_after_is_read(
    make: Callable[..., StorageABC],
    http_faults: Callable[[int], HttpFaults],
    service: Service,
    status: int,
) -> None:
    front = http_faults(service.port)
    front.answer(status, times=None, retry_after=7)
    with pytest.raises((RateLimited, Unavailable)) as caught:
        make(port=front.port, timeout=2.0).stat("f")
    assert caught.value.retry_after == 7


@pytest.mark.needs("http")
def test_forbidden(
    make: Callable[..., StorageABC], http_faults: Callable[[int], HttpFaults], service: Service, place: str
) -> None:
    front = http_faults(service.port)
    front.answer(403, times=None)
    with pytest.raises((PermissionDenied, AuthenticationFailed)):
        make(port=front.port, timeout=2.0).stat(child(place, "f"))


@pytest.mark.needs("http")
def test_out_of_room(
    make: Callable[..., StorageABC],
    storage: StorageABC,
    http_faults: Callable[[int], HttpFaults],
    service: Service,
    place: str,
) -> None:
    from cloudmesh.storage.errors import StorageError

    put(storage, child(place, "f"), b"old")
    front = http_faults(service.port)
    front.answer(507, times=None, method="PUT")
    with pytest.raises(StorageError):
        put(make(port=front.port, timeout=2.0), child(place, "f"), b"new")
    assert bytes_of(storage, child(place, "f")) == b"old"
