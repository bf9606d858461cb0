"""Small files, many under way at once: each ends as the single call would have ended."""

from __future__ import annotations

import itertools
import threading
from collections.abc import Callable, Iterable, Iterator

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from cloudmesh.storage.abc import SMALL, Content, Entry, Loaded, ReadRequest, StorageABC, WriteRequest
from cloudmesh.storage.errors import (
    AlreadyExists,
    InvalidName,
    IsADirectory,
    NotADirectory,
    NotFound,
    PreconditionFailed,
    StorageError,
    Unavailable,
)
from cloudmesh.storage.layers import RetryPolicy, layered
from cloudmesh.storage.paths import TEMPORARY_PREFIX
from tests.faults import Direction, FaultProxy
from tests.storage.conformance.conftest import Service
from tests.storage.conformance.names import NAMES
from tests.storage.conformance.targets import Outside, Target, child, listed, plant, put, settles

WRITTEN_NS = 1_600_000_000_000_000_000
MOST_AHEAD = 4
"""Requests read ahead of the answers, in multiples of ``settings.parallel``."""

_numbers = itertools.count()


class SourceBroke(Exception):
    """What a stream of requests raises on its own."""


def content_of(number: int) -> bytes:
    return f"{number} ".encode() * (number % 50)


def read_all(
    storage: StorageABC, requests: Iterable[ReadRequest | None]
) -> list[tuple[ReadRequest, Loaded | StorageError]]:
    return list(storage.read_many(requests))


def write_all(
    storage: StorageABC, requests: Iterable[WriteRequest | None]
) -> list[tuple[WriteRequest, Entry | StorageError]]:
    return list(storage.write_many(requests))


def loaded(storage: StorageABC, path: str, if_match: str | None = None) -> Loaded | StorageError:
    request = ReadRequest(path, if_match=if_match)
    [(answered, outcome)] = read_all(storage, [request])
    assert answered is request
    return outcome


def written(storage: StorageABC, request: WriteRequest) -> Entry | StorageError:
    [(answered, outcome)] = write_all(storage, [request])
    assert answered is request
    return outcome


def by_single_call(call: Callable[[], object]) -> StorageError:
    with pytest.raises(StorageError) as caught:
        call()
    return caught.value


def assert_same_error(outcome: object, single: StorageError, kind: type[StorageError]) -> None:
    assert isinstance(outcome, kind)
    assert type(outcome) is type(single)
    assert (outcome.subject, outcome.retryable) == (single.subject, single.retryable)


def bytes_of(storage: StorageABC, path: str) -> bytes:
    with storage.open_read(path) as reader:
        return reader.read()


# ---- the same as one by one


@pytest.mark.parametrize("size", [0, 1, 65536, SMALL - 1, SMALL, SMALL + 1, 3 * SMALL + 7])
def test_batch_size(storage: StorageABC, outside: Outside, place: str, size: int) -> None:
    path, data = child(place, "f"), bytes(range(256)) * (size // 256) + bytes(size % 256)
    entry = written(storage, WriteRequest(path, data))
    assert isinstance(entry, Entry)
    assert entry.size in (None, size)
    assert outside.read(path) == data
    outcome = loaded(storage, path)
    assert isinstance(outcome, Loaded)
    assert outcome.data == data


def test_batch_entries(storage: StorageABC, place: str) -> None:
    one, other = child(place, "one"), child(place, "other")
    single = storage.write(one, Content.of_bytes(b"content", WRITTEN_NS))
    batch = written(storage, WriteRequest(other, b"content", WRITTEN_NS))
    assert isinstance(batch, Entry)
    assert batch.path == other
    # that it is told, and without another request, holds for both; the token and the moment are each file's own
    assert (batch.is_directory, batch.size, batch.mtime_ns) == (single.is_directory, single.size, single.mtime_ns)
    assert (batch.etag is None) == (single.etag is None)
    if storage.capabilities.mtime_precision_ns is not None:
        assert storage.stat(other).mtime_ns == WRITTEN_NS
    for path in (one, other):
        outcome = loaded(storage, path)
        assert isinstance(outcome, Loaded)
        with storage.open_read(path) as reader:
            expected = reader.entry
        for name in ("path", "is_directory", "size", "mtime_ns", "etag", "hashes"):
            assert getattr(outcome.entry, name) == getattr(expected, name), name
    if batch.etag is not None:
        assert storage.stat(other).etag == batch.etag


def test_batch_replaces(storage: StorageABC, outside: Outside, place: str) -> None:
    path = child(place, "f")
    put(storage, path, b"a longer content than the new one")
    assert isinstance(written(storage, WriteRequest(path, b"new")), Entry)
    assert outside.read(path) == b"new"
    assert outside.names(place) == ["f"]


def test_batch_creates(storage: StorageABC, outside: Outside, place: str) -> None:
    path = child(place, "f")
    assert isinstance(written(storage, WriteRequest(path, b"first", mode="create")), Entry)
    outcome = written(storage, WriteRequest(path, b"second", mode="create"))
    single = by_single_call(lambda: storage.write(path, Content.of_bytes(b"second"), mode="create"))
    assert_same_error(outcome, single, AlreadyExists)
    assert outside.read(path) == b"first"


@pytest.mark.parametrize("kind", ["nothing", "below-nothing", "directory", "below-file"])
def test_batch_reads_no_file(storage: StorageABC, place: str, kind: str) -> None:
    put(storage, child(place, "d", "f"))
    path = child(
        place,
        *{"nothing": ["x"], "below-nothing": ["x", "y"], "directory": ["d"], "below-file": ["d", "f", "x"]}[kind],
    )
    single = by_single_call(lambda: storage.open_read(path).read())
    assert_same_error(loaded(storage, path), single, IsADirectory if kind == "directory" else NotFound)


def test_batch_if_match(storage: StorageABC, place: str) -> None:
    path = child(place, "f")
    put(storage, path, b"old")
    etag = storage.stat(path).etag
    outcome = loaded(storage, path, etag)
    assert isinstance(outcome, Loaded)
    assert outcome.data == b"old"
    put(storage, path, b"a new content")
    single = by_single_call(lambda: storage.open_read(path, if_match=etag).read())
    assert_same_error(loaded(storage, path, etag), single, PreconditionFailed)


@pytest.mark.lacks("flat")
def test_batch_writes_over_directory(storage: StorageABC, outside: Outside, place: str) -> None:
    put(storage, child(place, "d", "f"))
    single = by_single_call(lambda: put(storage, child(place, "d")))
    assert_same_error(written(storage, WriteRequest(child(place, "d"), b"new")), single, IsADirectory)
    assert outside.names(place) == ["d"]
    assert outside.names(child(place, "d")) == ["f"]


@pytest.mark.lacks("flat")
@pytest.mark.parametrize("below", [["x"], ["x", "y"]], ids=["parent", "grandparent"])
def test_batch_writes_below_file(storage: StorageABC, outside: Outside, place: str, below: list[str]) -> None:
    put(storage, child(place, "f"), b"here")
    path = child(place, "f", *below)
    single = by_single_call(lambda: put(storage, path))
    assert_same_error(written(storage, WriteRequest(path, b"new")), single, NotADirectory)
    assert outside.read(child(place, "f")) == b"here"


@pytest.mark.parametrize("name", ["../x", "a//b", f"{TEMPORARY_PREFIX}x", "n" * 5000, "\udc80"])
def test_batch_refuses_names(storage: StorageABC, outside: Outside, place: str, name: str) -> None:
    path = child(place, "d") + "/" + name
    single = by_single_call(lambda: put(storage, path))
    assert_same_error(written(storage, WriteRequest(path, b"new")), single, InvalidName)
    assert outside.names(place) == []
    single = by_single_call(lambda: storage.open_read(path).read())
    assert_same_error(loaded(storage, path), single, type(single))


# ---- names


def test_batch_names(storage: StorageABC, target: Target, outside: Outside, place: str) -> None:
    refused = {key for key in NAMES if any(key.startswith(beginning) for beginning in target.refuses)}
    same_here = {"latin-decomposed", "hangul-decomposed"}  # each in a directory of its own: some servers fold them
    paths = {key: child(place, key if key in same_here else "all", NAMES[key]) for key in NAMES}
    answers = write_all(storage, [WriteRequest(path, key.encode(), context=key) for key, path in paths.items()])
    for request, outcome in answers:
        assert isinstance(outcome, InvalidName if request.context in refused else Entry), request.context
    assert {request.context for request, _ in answers} == set(NAMES)
    for asked, found in read_all(storage, [ReadRequest(path, context=key) for key, path in paths.items()]):
        if asked.context not in refused:
            assert isinstance(found, Loaded), asked.context
            assert (found.entry.path, found.data) == (asked.path, asked.context.encode())
            assert outside.read(asked.path) == asked.context.encode()


@settings(max_examples=8, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    names=st.lists(
        st.text(st.characters(exclude_categories=("Cs", "Cc"), exclude_characters="/"), min_size=1, max_size=40).filter(
            lambda name: name not in (".", "..")
        ),
        min_size=1,
        max_size=8,
    )
)
def test_batch_any_names(storage: StorageABC, place: str, names: list[str]) -> None:
    # each in a directory of its own, as some of them differ in case or in Unicode normalisation only
    where = child(place, str(next(_numbers)))
    paths = [child(where, str(number), name) for number, name in enumerate(names)]
    answers = write_all(storage, [WriteRequest(path, path.encode()) for path in paths])
    allowed = [request.path for request, outcome in answers if isinstance(outcome, Entry)]
    for request, outcome in answers:
        if isinstance(outcome, StorageError):
            path = request.path
            assert_same_error(outcome, by_single_call(lambda path=path: put(storage, path)), InvalidName)  # type: ignore[misc]
    found = read_all(storage, [ReadRequest(path) for path in allowed])
    assert sorted((one.path, got.data) for one, got in found if isinstance(got, Loaded)) == sorted(
        (path, path.encode()) for path in allowed
    )


# ---- many of them


def test_batch_of_many(storage: StorageABC, outside: Outside, place: str) -> None:
    put(storage, child(place, "taken"), b"here")
    wanted: list[WriteRequest] = [
        WriteRequest(child(place, f"d{number % 7}", f"f{number}"), content_of(number), WRITTEN_NS, context=number)
        for number in range(200)
    ]
    bad = {
        30: WriteRequest(child(place, "taken"), b"x", mode="create", context="taken"),
        100: WriteRequest(child(place, f"{TEMPORARY_PREFIX}x"), b"x", context="name"),
    }
    for position, request in bad.items():
        wanted.insert(position, request)
    answers = write_all(storage, iter(wanted))
    assert sorted(id(request) for request, _ in answers) == sorted(id(request) for request in wanted)
    failed = {request.context: type(outcome) for request, outcome in answers if isinstance(outcome, StorageError)}
    assert failed == {"taken": AlreadyExists, "name": InvalidName}
    assert outside.names(place) == [*(f"d{number}" for number in range(7)), "taken"]
    assert len(listed(storage, place, recursive=True)) == 200 + 7 + 1

    reads = [ReadRequest(request.path, context=request.context) for request in wanted if request.context not in failed]
    reads[50:50] = [ReadRequest(child(place, "nothing")), ReadRequest(child(place, "d0"))]
    found = read_all(storage, iter(reads))
    assert sorted(id(asked) for asked, _ in found) == sorted(id(asked) for asked in reads)
    for asked, got in found:
        if asked.context is None:
            assert isinstance(got, NotFound | IsADirectory)
        else:
            assert isinstance(got, Loaded)
            assert (got.entry.path, got.data) == (asked.path, content_of(asked.context))


def test_batch_of_nothing(storage: StorageABC) -> None:
    assert read_all(storage, []) == []
    assert write_all(storage, []) == []
    assert read_all(storage, [None, None]) == []
    assert write_all(storage, [None]) == []


def test_batch_with_unknown_requests(storage: StorageABC, place: str) -> None:
    paths = [child(place, f"f{number}") for number in range(40)]

    def writes() -> Iterator[WriteRequest | None]:
        yield from [None] * 50
        for path in paths:
            yield WriteRequest(path, path.encode())
            yield from [None] * 3
        yield from [None] * 50

    assert {request.path for request, outcome in storage.write_many(writes()) if isinstance(outcome, Entry)} == set(
        paths
    )
    asked = itertools.chain.from_iterable((None, ReadRequest(path), None) for path in paths)
    found = [(one.path, got.data) for one, got in storage.read_many(asked) if isinstance(got, Loaded)]
    assert sorted(found) == sorted((path, path.encode()) for path in paths)


def test_batch_answers_while_the_next_is_unknown(storage: StorageABC, place: str) -> None:
    """A caller may wait for what is under way before it knows the next request."""
    paths = [child(place, f"f{number}") for number in range(12)]
    answered: set[str] = set()

    def one_after_the_other() -> Iterator[WriteRequest | None]:
        for path in paths:
            yield WriteRequest(path, b"here")
            for _ in range(5_000_000):
                if path in answered:
                    break
                yield None

    for request, outcome in storage.write_many(one_after_the_other()):
        assert isinstance(outcome, Entry)
        answered.add(request.path)
    assert answered == set(paths)


# ---- the caller's thread, and its pace


def test_batch_begins_with_the_first_step(storage: StorageABC, outside: Outside, place: str) -> None:
    pulled = []

    def writes() -> Iterator[WriteRequest]:
        pulled.append(threading.get_ident())
        yield WriteRequest(child(place, "f"), b"here")

    answers = storage.write_many(writes())
    assert pulled == []
    assert outside.names(place) == []
    assert len(list(answers)) == 1
    assert pulled == [threading.get_ident()]


def test_batch_reads_not_far_ahead(storage: StorageABC, place: str) -> None:
    plant(storage, place, ["f"])
    most = MOST_AHEAD * storage.settings.parallel
    under_way = 0
    threads = set()

    def reads() -> Iterator[ReadRequest]:
        nonlocal under_way
        for _ in range(3 * most):
            threads.add(threading.get_ident())
            under_way += 1
            assert under_way <= most
            yield ReadRequest(child(place, "f"))

    for _, outcome in storage.read_many(reads()):
        assert isinstance(outcome, Loaded)
        under_way -= 1
    assert under_way == 0
    assert threads == {threading.get_ident()}


@pytest.mark.parametrize("after", [0, 1, 20])
def test_batch_whose_requests_end_in_an_error(storage: StorageABC, outside: Outside, place: str, after: int) -> None:
    def writes() -> Iterator[WriteRequest]:
        for number in range(after):
            yield WriteRequest(child(place, f"f{number}"), b"here")
        raise SourceBroke

    with pytest.raises(SourceBroke):
        write_all(storage, writes())
    put(storage, child(place, "after"), b"later")
    settles(lambda: any(name.startswith(TEMPORARY_PREFIX) for name in outside.names(place)), False)
    outcome = loaded(storage, child(place, "after"))
    assert isinstance(outcome, Loaded)
    assert outcome.data == b"later"


@pytest.mark.parametrize("taken", [1, 5, 60])
def test_batch_given_up(storage: StorageABC, outside: Outside, place: str, taken: int) -> None:
    requests = (WriteRequest(child(place, f"f{number}"), content_of(number)) for number in range(500))
    writing = storage.write_many(requests)
    done = [request.path for request, _ in itertools.islice(writing, taken)]
    writing.close()  # type: ignore[attr-defined]
    for path in done:
        assert outside.read(path) == content_of(int(path.rpartition("/f")[2]))
    settles(lambda: any(name.startswith(TEMPORARY_PREFIX) for name in outside.names(place)), False)
    assert taken <= len(outside.names(place)) < 500
    reading = storage.read_many(ReadRequest(path) for path in done * 100)
    assert next(reading)
    reading.close()  # type: ignore[attr-defined]
    outcome = loaded(storage, done[0])
    assert isinstance(outcome, Loaded)
    assert isinstance(written(storage, WriteRequest(child(place, "after"), b"later")), Entry)


def test_batch_feeds_a_batch(storage: StorageABC, outside: Outside, place: str) -> None:
    plant(storage, child(place, "from"), [f"f{number}" for number in range(50)], b"here")
    reads = (ReadRequest(child(place, "from", f"f{number}"), context=number) for number in range(50))

    def writes() -> Iterator[WriteRequest]:
        for request, outcome in storage.read_many(reads):
            assert isinstance(outcome, Loaded)
            yield WriteRequest(child(place, "to", f"f{request.context}"), outcome.data)

    assert all(isinstance(outcome, Entry) for _, outcome in storage.write_many(writes()))
    assert outside.names(child(place, "to")) == sorted(f"f{number}" for number in range(50))


# ---- on a bad line


@pytest.fixture
def proxy(fault_proxy: Callable[[int], FaultProxy], service: Service) -> FaultProxy:
    return fault_proxy(service.port)


@pytest.fixture
def over_proxy(make: Callable[..., StorageABC], proxy: FaultProxy) -> Iterator[StorageABC]:
    """A provider that reaches the server through the proxy, with a short timeout and with its usual layers."""
    provider = make(port=proxy.port, timeout=1.0)
    yield layered(provider, retry=RetryPolicy(attempts=50, base_seconds=0.05, cap_seconds=0.2))
    proxy.heal()


@pytest.mark.needs("network")
def test_batch_without_a_server(make: Callable[..., StorageABC], dead_port: int) -> None:
    nowhere = make(port=dead_port, timeout=1.0)
    for answers in (
        [outcome for _, outcome in nowhere.read_many([ReadRequest("a"), ReadRequest("b")])],
        [outcome for _, outcome in nowhere.write_many([WriteRequest("a", b"x"), WriteRequest("b", b"y")])],
    ):
        assert len(answers) == 2
        for answer in answers:
            assert isinstance(answer, Unavailable)
            assert answer.retryable


@pytest.mark.needs("network")
@pytest.mark.parametrize("direction", ["read", "write"])
@pytest.mark.parametrize("fault", ["cut", "reset", "stall", "refuse"])
def test_batch_on_a_bad_line(
    over_proxy: StorageABC,
    proxy: FaultProxy,
    storage: StorageABC,
    place: str,
    fault: str,
    direction: str,
) -> None:
    contents = {child(place, f"f{number:02}"): f"{number} ".encode() * 1500 for number in range(80)}
    if direction == "read":
        for _, planted in storage.write_many(WriteRequest(path, data) for path, data in contents.items()):
            assert isinstance(planted, Entry)
    way: Direction = "up" if direction == "write" else "down"
    seen = 0

    def harm() -> None:
        nonlocal seen
        seen += 1
        if seen != 5:
            return
        match fault:
            case "cut":
                proxy.cut(after=1500, direction=way, times=3)
            case "reset":
                proxy.reset(after=1500, direction=way, times=3)
            case "stall":
                proxy.stall(after=1500, direction=way, times=2)
            case _:
                proxy.refuse()
                threading.Timer(0.4, proxy.heal).start()

    if direction == "read":
        found = {}
        for request, outcome in over_proxy.read_many([ReadRequest(path) for path in contents]):
            assert isinstance(outcome, Loaded), outcome
            assert request.path not in found
            found[request.path] = outcome.data
            harm()
        assert found == contents
    else:
        done = []
        for wrote, entry in over_proxy.write_many(
            [WriteRequest(path, data, mode="create") for path, data in contents.items()]
        ):
            assert isinstance(entry, Entry), entry
            done.append(wrote.path)
            harm()
        assert sorted(done) == sorted(contents)
        assert {path: bytes_of(storage, path) for path in contents} == contents
        proxy.heal()  # a server may answer no listing while a stalled upload is open
        assert listed(storage, place) == [f"f{number:02}" for number in range(80)]
    assert proxy.fired or fault == "refuse"
