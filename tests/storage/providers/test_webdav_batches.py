"""Many small files at once over WebDAV: how many requests they take, and what one file's trouble does to the others."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from cloudmesh.storage.abc import Content, Loaded, ReadRequest, Timeouts, WriteRequest
from cloudmesh.storage.errors import (
    AlreadyExists,
    AuthenticationFailed,
    InvalidName,
    IsADirectory,
    NotADirectory,
    NotFound,
    PermissionDenied,
    PreconditionFailed,
    QuotaExceeded,
    RateLimited,
    StorageError,
    Unavailable,
)
from cloudmesh.storage.paths import TEMPORARY_PREFIX
from cloudmesh.storage.providers.webdav import WebdavStorage
from deploy.servers import ApacheDav, RcloneWebdav, Wsgidav
from tests.faults import FaultProxy, HttpFaults
from tests.places import read_tree
from tests.storage.providers.fake_nextcloud import FakeNextcloud

MTIME = 1_500_000_000_123_456_789
PARALLEL = 6
SERVERS = ("wsgidav", "wsgidav_digest", "apache_dav", "apache_dav_digest", "rclone_webdav")
ODD = ("a b", "a+b", "a%20b", "a#b", "a&b=c", "ü", "'\"<>", "x" * 200)


@pytest.fixture
def connect() -> Iterator[Callable[..., WebdavStorage]]:
    """Opens a service on a server; keyword ``port`` leads through a proxy."""
    made: list[WebdavStorage] = []

    def connect(server: Any, root: str, *, read: float = 20, **changes: Any) -> WebdavStorage:
        settings = server.settings("cloud", root=root, **changes)
        made.append(WebdavStorage(replace(settings, parallel=PARALLEL, timeouts=Timeouts(5, read))))
        return made[-1]

    yield connect
    for storage in made:
        storage.close()


def files(count: int, *, size: int = 4096, salt: str = "") -> dict[str, bytes]:
    """Return names, in three directories, and contents of their own."""
    return {f"d{n % 3}/f{n}": f"{salt}{n} ".encode() * (size // 8) for n in range(count)}


def write_all(storage: WebdavStorage, wanted: dict[str, bytes], *, mode: Any = "overwrite") -> dict[str, StorageError]:
    """Write files, see that each is answered once and rightly described, and return what failed."""
    failed: dict[str, StorageError] = {}
    answered = []
    for request, result in storage.write_many(WriteRequest(p, d, MTIME, mode) for p, d in wanted.items()):
        answered.append(request.path)
        if isinstance(result, StorageError):
            failed[request.path] = result
        else:
            assert (result.path, result.size) == (request.path, len(request.data))
    assert sorted(answered) == sorted(wanted)
    return failed


def read_all(storage: WebdavStorage, names: Any) -> dict[str, Loaded | StorageError]:
    return {request.path: result for request, result in storage.read_many(ReadRequest(name) for name in names)}


def contents(storage: WebdavStorage, names: Any) -> dict[str, bytes]:
    loaded = {}
    for path, result in read_all(storage, names).items():
        assert isinstance(result, Loaded)
        loaded[path] = result.data
    return loaded


def on_disk(server: Any, root: str) -> dict[str, bytes]:
    """Return all files below a root as they lie on the server, temporary ones too; not Apache's files of properties."""
    return {name: data for name, data in read_tree(Path(server.data, root)).items() if ".DAV/" not in name}


def methods(faults: HttpFaults) -> Counter[str]:
    counted = Counter(request.method for request in faults.requests)
    faults.requests.clear()
    return counted


# ---- requests -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("fixture", SERVERS)
def test_no_more_requests_than_needed(
    fixture: str,
    request: pytest.FixtureRequest,
    connect: Callable[..., WebdavStorage],
    http_faults: Callable[[int], HttpFaults],
) -> None:
    server = request.getfixturevalue(fixture)
    faults = http_faults(server.port)
    storage = connect(server, "count", port=faults.port)
    _ = storage.capabilities
    wanted = files(60)
    # With Digest each connection learns the nonce by one more request, the password having been asked for before.
    spare = PARALLEL if "digest" in fixture else 0
    needed = {"PUT": 1, "PROPPATCH": 1} if "apache" in fixture else {"PUT": 1, "MOVE": 1}

    methods(faults)
    assert not write_all(storage, wanted)
    sent = methods(faults)
    assert sent.pop("MKCOL") <= 3 * 3 + spare  # at worst each directory asks by itself for the root, which is missing
    assert set(sent) == set(needed)
    assert sent.total() <= 60 * 2 + spare
    assert on_disk(server, "count") == wanted

    replaced = files(60, salt="new")
    assert not write_all(storage, replaced)
    sent = methods(faults)
    if "apache" in fixture:
        assert sent.total() <= 60 * 2 + spare
    else:  # to replace a file takes a look, lest it be a directory
        assert sent.total() <= 60 * 3 + PARALLEL + spare
    assert on_disk(server, "count") == replaced

    assert contents(storage, replaced) == replaced
    sent = methods(faults)
    assert set(sent) == {"GET"}
    assert sent.total() <= 60 + spare


def test_nextcloud_takes_one_put_a_file(connect: Callable[..., WebdavStorage]) -> None:
    with FakeNextcloud() as cloud:
        from cloudmesh.storage.abc import ServiceSettings

        credentials = {"url": cloud.url, "username": cloud.username, "password": cloud.password}
        storage = WebdavStorage(ServiceSettings("cloud", "webdav", root="é", credentials=credentials, parallel=4))
        wanted = files(20)
        assert not write_all(storage, wanted)
        assert len(cloud.sent("PUT")) == 20
        assert not cloud.sent("MOVE")
        assert cloud.file("é/d0/f0").mtime == MTIME // 10**9
        assert cloud.file("é/d0/f0").checksum.startswith("SHA1:")
        assert set(map(type, write_all(storage, wanted, mode="create").values())) == {AlreadyExists}
        assert contents(storage, wanted) == wanted
        assert cloud.leftovers() == []
        storage.close()


# ---- the same as one by one -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("fixture", SERVERS)
def test_the_same_as_one_by_one(
    fixture: str, request: pytest.FixtureRequest, connect: Callable[..., WebdavStorage]
) -> None:
    server = request.getfixturevalue(fixture)
    storage = connect(server, "same/deep/er")
    wanted = {f"{name}/{name}": name.encode() for name in ODD} | {"empty": b"", "large": b"x" * 3_000_000}
    assert not write_all(storage, wanted)
    results = read_all(storage, wanted)
    for path, data in wanted.items():
        with storage.open_read(path) as reader:
            assert (reader.entry, reader.read()) == (results[path].entry, data)  # type: ignore[union-attr]
        assert results[path].data == data  # type: ignore[union-attr]
    storage.write("one", Content.of_bytes(b"1", MTIME))
    assert storage.stat("empty").mtime_ns == storage.stat("one").mtime_ns
    assert {type(error) for error in write_all(storage, wanted, mode="create").values()} == {AlreadyExists}
    assert contents(storage, wanted) == wanted


@pytest.mark.parametrize("fixture", ["wsgidav", "apache_dav", "rclone_webdav"])
def test_each_file_has_its_own_error(
    fixture: str, request: pytest.FixtureRequest, connect: Callable[..., WebdavStorage]
) -> None:
    server = request.getfixturevalue(fixture)
    storage = connect(server, "errors")
    storage.write("file", Content.of_bytes(b"old"))
    storage.write("directory/inside", Content.of_bytes(b"kept"))
    good = files(20)
    bad = {"directory": IsADirectory, "file/below": NotADirectory, "": IsADirectory, "x" * 300: InvalidName}
    failed = write_all(storage, good | dict.fromkeys(bad, b"new"))
    assert {path: type(error) for path, error in failed.items()} == bad
    assert on_disk(server, "errors") == good | {"file": b"old", "directory/inside": b"kept"}

    etag = storage.stat("file").etag
    requests = [ReadRequest("file", if_match=etag), ReadRequest("d0/f0", if_match="other")]
    requests += [ReadRequest(path) for path in (*good, "directory", "gone", "gone/too", "x" * 300)]
    seen: dict[str, list[Any]] = {}
    for asked, result in storage.read_many(requests):
        seen.setdefault(asked.path, []).append(result.data if isinstance(result, Loaded) else type(result))
    assert seen.pop("file") == [b"old"]
    assert PreconditionFailed in seen["d0/f0"]
    seen["d0/f0"].remove(PreconditionFailed)
    assert [seen.pop(path) for path in ("directory", "gone", "gone/too", "x" * 300)] == [
        [IsADirectory],
        [NotFound],
        [NotFound],
        [InvalidName],
    ]
    assert seen == {path: [data] for path, data in good.items()}


def test_only_errors_and_never_an_endless_wait(connect: Callable[..., WebdavStorage], rclone_webdav: Any) -> None:
    """Nothing ever gets under way, and more requests come than there are places."""
    storage = connect(rclone_webdav, "none")
    read = 0

    def requests() -> Iterator[ReadRequest | None]:
        nonlocal read
        for number in range(100):
            read = number
            yield ReadRequest("x" * 300) if number % 3 else None

    results = storage.read_many(requests())
    assert isinstance(next(results)[1], InvalidName)
    assert read <= 2 * PARALLEL
    assert sum(isinstance(result, InvalidName) for _, result in results) == 65
    assert list(storage.write_many([])) == []
    assert list(storage.write_many([None, None])) == []


def test_a_service_that_lets_nobody_in(connect: Callable[..., WebdavStorage], apache_dav: ApacheDav) -> None:
    storage = connect(apache_dav, "", password="wrong")
    assert {type(error) for error in write_all(storage, files(10)).values()} == {AuthenticationFailed}
    assert {type(result) for result in read_all(storage, files(10)).values()} == {AuthenticationFailed}


def test_directories_that_others_remove(connect: Callable[..., WebdavStorage], apache_dav: ApacheDav) -> None:
    storage = connect(apache_dav, "removed")
    write_all(storage, files(20))
    for name in ("d0", "d1"):
        apache_dav.request("DELETE", f"removed/{name}/").close()
    assert not write_all(storage, files(20, salt="new"))
    assert on_disk(apache_dav, "removed") == files(20, salt="new")


def test_question_marks_on_a_server_that_cuts_them(connect: Callable[..., WebdavStorage], wsgidav: Wsgidav) -> None:
    storage = connect(wsgidav, "cut")
    wanted = {"a": b"1", "a?b": b"2", "a;b": b"3"}
    assert not write_all(storage, wanted)
    assert set(write_all(storage, wanted)) == {"a?b", "a;b"}
    assert on_disk(wsgidav, "cut") == wanted


def test_one_of_many_creates_a_file(connect: Callable[..., WebdavStorage], rclone_webdav: RcloneWebdav) -> None:
    names = list(files(30))
    start = threading.Barrier(4)
    won: dict[int, list[str]] = {}

    def race(number: int) -> None:
        storage = connect(rclone_webdav, "race")
        _ = storage.capabilities
        start.wait()
        wanted = dict.fromkeys(names, str(number).encode())
        failed = write_all(storage, wanted, mode="create")
        assert all(isinstance(error, AlreadyExists) or error.retryable for error in failed.values())
        won[number] = [name for name in names if name not in failed]

    threads = [threading.Thread(target=race, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert on_disk(rclone_webdav, "race") == {name: str(number).encode() for number in won for name in won[number]}
    assert sorted(name for mine in won.values() for name in mine) == sorted(set(on_disk(rclone_webdav, "race")))


# ---- trouble --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("status", "kind"),
    [(403, PermissionDenied), (423, Unavailable), (429, RateLimited), (500, Unavailable), (507, QuotaExceeded)],
)
@pytest.mark.parametrize("method", ["PUT", "MOVE", "GET"])
def test_a_refusal_is_one_files_own(
    status: int,
    kind: type[StorageError],
    method: str,
    connect: Callable[..., WebdavStorage],
    http_faults: Callable[[int], HttpFaults],
    rclone_webdav: RcloneWebdav,
) -> None:
    faults = http_faults(rclone_webdav.port)
    root = f"refused-{method}-{status}"
    storage = connect(rclone_webdav, root, port=faults.port)
    wanted = files(20)
    faults.answer(status, method=method, after=7, retry_after=3)
    failed: dict[str, Any] = write_all(storage, wanted)
    if method == "GET":
        failed = {path: one for path, one in read_all(storage, wanted).items() if not isinstance(one, Loaded)}
    ((path, error),) = failed.items()
    assert type(error) is kind
    assert error.retry_after == (3 if status in (423, 429, 500) or error.retryable else error.retry_after)
    assert str(storage.location(path)) in str(error)
    left = on_disk(rclone_webdav, root)
    assert left == {name: data for name, data in wanted.items() if method == "GET" or name != path}


@pytest.mark.parametrize("fixture", ["rclone_webdav", "wsgidav"])
@pytest.mark.parametrize("direction", ["up", "down"])
def test_connections_cut_in_the_middle(
    fixture: str,
    direction: Any,
    request: pytest.FixtureRequest,
    connect: Callable[..., WebdavStorage],
    fault_proxy: Callable[[int], FaultProxy],
) -> None:
    server = request.getfixturevalue(fixture)
    root = f"cut-{direction}"
    old, new = files(40), files(40, size=40_000, salt="new")
    assert not write_all(connect(server, root), old)
    proxy = fault_proxy(server.port)
    storage = connect(server, root, port=proxy.port)
    _ = storage.capabilities
    proxy.cut(after=30_000 if direction == "up" else 150, direction=direction, times=5)
    failed = write_all(storage, new)
    assert proxy.fired == 5
    assert {type(error) for error in failed.values()} <= {Unavailable}
    left = on_disk(server, root)
    assert not [name for name in left if TEMPORARY_PREFIX in name]
    for name, data in left.items():
        assert data == new[name] or (name in failed and data == old[name])
    assert not write_all(storage, {name: new[name] for name in failed})
    assert on_disk(server, root) == new

    proxy.cut(after=30_000, times=5)
    results = read_all(storage, new)
    assert proxy.fired == 10
    for name, result in results.items():
        assert isinstance(result, Unavailable) or (isinstance(result, Loaded) and result.data == new[name])
    assert contents(storage, new) == new


def test_a_connection_on_which_nothing_moves(
    connect: Callable[..., WebdavStorage], fault_proxy: Callable[[int], FaultProxy], rclone_webdav: RcloneWebdav
) -> None:
    proxy = fault_proxy(rclone_webdav.port)
    storage = connect(rclone_webdav, "stalled", port=proxy.port, read=1)
    wanted = files(40)
    assert not write_all(storage, wanted)
    proxy.stall(after=10_000, times=1)
    results = read_all(storage, wanted)
    ((path, error),) = ((path, result) for path, result in results.items() if not isinstance(result, Loaded))
    assert isinstance(error, Unavailable)
    assert "sent nothing for 1 s" in str(error)
    assert path in str(error)


def test_idle_connections_that_the_server_closes(
    connect: Callable[..., WebdavStorage], fault_proxy: Callable[[int], FaultProxy], wsgidav: Wsgidav
) -> None:
    proxy = fault_proxy(wsgidav.port)
    storage = connect(wsgidav, "idle", port=proxy.port)
    for salt in ("1", "2"):
        assert not write_all(storage, files(20, salt=salt))
        proxy.drop()
        assert contents(storage, files(20)) == files(20, salt=salt)
        proxy.drop()


@pytest.mark.parametrize("fixture", ["rclone_webdav", "wsgidav"])
def test_giving_up(fixture: str, request: pytest.FixtureRequest, connect: Callable[..., WebdavStorage]) -> None:
    server = request.getfixturevalue(fixture)
    storage = connect(server, "given-up")
    wanted = files(60, size=40_000)
    asked = 0

    def requests() -> Iterator[WriteRequest]:
        nonlocal asked
        for path, data in wanted.items():
            asked += 1
            yield WriteRequest(path, data, MTIME)

    results = storage.write_many(requests())
    assert asked == 0
    for _ in range(10):
        next(results)
    results.close()  # type: ignore[attr-defined]
    assert asked <= 10 + 3 * PARALLEL
    left = on_disk(server, "given-up")
    assert len(left) >= 10
    assert left == {name: wanted[name] for name in left}

    reading = storage.read_many(ReadRequest(name) for name in left)
    next(reading)
    reading.close()  # type: ignore[attr-defined]
    assert contents(storage, left) == left
    assert not write_all(storage, wanted)


def test_what_the_caller_raises_ends_the_batch(
    connect: Callable[..., WebdavStorage], rclone_webdav: RcloneWebdav
) -> None:
    storage = connect(rclone_webdav, "raised")

    def requests() -> Iterator[WriteRequest]:
        for number, (path, data) in enumerate(files(20).items()):
            if number == 12:
                raise RuntimeError("the caller's")
            yield WriteRequest(path, data)

    with pytest.raises(RuntimeError, match="the caller's"):
        list(storage.write_many(requests()))
    left = on_disk(rclone_webdav, "raised")
    assert left == {name: files(20)[name] for name in left}
