"""The layers around a real storage (the local disk), with a layer between them that fails on order."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator
from datetime import datetime, timedelta
from pathlib import Path
from typing import TypeVar

import pytest

from cloudmesh.storage.abc import (
    CHUNK,
    Content,
    Entry,
    Loaded,
    OnError,
    Reader,
    ReadRequest,
    ServiceSettings,
    StorageABC,
    WriteMode,
    WriteRequest,
)
from cloudmesh.storage.errors import (
    AlreadyExists,
    ChecksumMismatch,
    NotFound,
    PermissionDenied,
    PreconditionFailed,
    RateLimited,
    StorageError,
    Unavailable,
)
from cloudmesh.storage.layers import (
    Layer,
    Limit,
    Meter,
    Retry,
    RetryPolicy,
    TokenBucket,
    find_layer,
    layered,
    limited,
)
from cloudmesh.storage.providers.local import LocalStorage
from cloudmesh.storage.rate import Schedule
from tests.unprivileged import closed

T = TypeVar("T")


class Clock:
    """Time that passes only when somebody waits."""

    def __init__(self) -> None:
        self.now = 0.0
        self.waits: list[float] = []

    def __call__(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> bool:
        self.waits.append(seconds)
        self.now += seconds
        return False


class Faulty(Layer):
    """Fails the next calls of a primitive: before they are made, after they are made, or in the middle of a stream."""

    def __init__(self, inner: StorageABC) -> None:
        super().__init__(inner)
        self.before: list[tuple[str, StorageError]] = []
        self.after: list[tuple[str, StorageError]] = []
        self.in_stream: list[tuple[int, StorageError]] = []
        self.in_batch: dict[str, list[StorageError]] = {}
        self.calls: list[str] = []

    def around(self, primitive: str, path: str, call: Callable[[], T]) -> T:
        self.calls.append(primitive)
        self._fail(self.before, primitive)
        answer = call()
        self._fail(self.after, primitive)
        return answer

    def _fail(self, faults: list[tuple[str, StorageError]], primitive: str) -> None:
        if faults and faults[0][0] == primitive:
            raise faults.pop(0)[1]

    def scan(self, path: str = "", *, recursive: bool = False, on_error: OnError | None = None) -> Iterator[Entry]:
        self.calls.append("scan")
        yield from self._break(self.inner.scan(path, recursive=recursive, on_error=on_error), lambda entry: 1)

    def remove_many(self, files: Iterable[str]) -> Iterator[tuple[str, StorageError]]:
        listed = list(files)
        self.calls.append("remove_many")
        self._fail(self.before, "remove_many")
        failing = [path for path in listed if ("remove_many", path) in self._doomed]
        yield from self.inner.remove_many([path for path in listed if path not in failing])
        for path in failing:
            self._doomed.remove(("remove_many", path))
            yield path, Unavailable(path)

    _doomed: list[tuple[str, str]] = []  # noqa: RUF012 - replaced by the test that needs it

    def doom(self, path: str) -> None:
        self._doomed = [*self._doomed, ("remove_many", path)]

    def open_read(self, path: str, *, start: int = 0, length: int | None = None, if_match: str | None = None) -> Reader:
        reader = super().open_read(path, start=start, length=length, if_match=if_match)
        return Reader(reader.entry, self._break(iter(reader), len), close=reader.close)

    def read_many(self, requests: Iterable[ReadRequest | None]) -> Iterator[tuple[ReadRequest, Loaded | StorageError]]:
        self.calls.append("read_many")
        for request, answer in self.inner.read_many(requests):
            errors = self.in_batch.get(request.path)
            yield request, errors.pop(0) if errors else answer

    def write_many(
        self, requests: Iterable[WriteRequest | None]
    ) -> Iterator[tuple[WriteRequest, Entry | StorageError]]:
        self.calls.append("write_many")
        for request, answer in self.inner.write_many(requests):
            errors = self.in_batch.get(request.path)
            yield request, errors.pop(0) if errors else answer

    def _break(self, steps: Iterator[T], size: Callable[[T], int]) -> Iterator[T]:
        if not self.in_stream:
            yield from steps
            return
        left, error = self.in_stream.pop(0)
        for step in steps:
            if left < size(step):
                if isinstance(step, bytes) and left:
                    yield step[:left]  # type: ignore[misc]
                raise error
            left -= size(step)
            yield step
        raise error


@pytest.fixture
def disk(tmp_path: Path) -> LocalStorage:
    return LocalStorage(ServiceSettings("disk", "local", credentials={"directory": str(tmp_path / "root")}, parallel=4))


@pytest.fixture
def faulty(disk: LocalStorage) -> Faulty:
    return Faulty(disk)


@pytest.fixture
def clock() -> Clock:
    return Clock()


def patient(inner: StorageABC, clock: Clock, policy: RetryPolicy | None = None) -> Retry:
    return Retry(inner, policy or RetryPolicy(), sleep=clock.sleep, clock=clock, random=lambda: 1.0)


@pytest.fixture
def retry(faulty: Faulty, clock: Clock) -> Retry:
    return patient(faulty, clock)


def put(storage: StorageABC, path: str, data: bytes = b"content") -> None:
    storage.write(path, Content.of_bytes(data))


def bytes_of(storage: StorageABC, path: str) -> bytes:
    with storage.open_read(path) as reader:
        return reader.read()


# ---- retry: how often and how long


def test_retryable_errors_are_retried(retry: Retry, faulty: Faulty, clock: Clock) -> None:
    put(faulty, "f")
    faulty.before = [("stat", Unavailable("f")), ("stat", RateLimited("f")), ("stat", ChecksumMismatch("f"))]
    assert retry.stat("f").size == 7
    assert clock.waits == [0.5, 1.0, 2.0]


def test_other_errors_are_not_retried(retry: Retry, faulty: Faulty, clock: Clock) -> None:
    faulty.before = [("stat", PermissionDenied("f"))]
    with pytest.raises(PermissionDenied):
        retry.stat("f")
    assert clock.waits == []


def test_attempts_are_bounded(faulty: Faulty, clock: Clock) -> None:
    faulty.before = [("stat", Unavailable("f", str(number))) for number in range(10)]
    with pytest.raises(Unavailable) as caught:
        patient(faulty, clock, RetryPolicy(attempts=3)).stat("f")
    assert caught.value.why == "2"
    assert len(clock.waits) == 2


def test_waiting_is_capped_and_bounded(faulty: Faulty, clock: Clock) -> None:
    faulty.before = [("stat", Unavailable("f"))] * 100
    with pytest.raises(Unavailable):
        patient(faulty, clock, RetryPolicy(attempts=100, total_seconds=100, cap_seconds=30)).stat("f")
    assert max(clock.waits) == 30
    assert 70 < clock.now <= 100


def test_jitter_is_full(faulty: Faulty, clock: Clock) -> None:
    put(faulty, "f")
    faulty.before = [("stat", Unavailable("f"))] * 2
    Retry(faulty, RetryPolicy(), sleep=clock.sleep, clock=clock, random=lambda: 0.25).stat("f")
    assert clock.waits == [0.125, 0.25]


def test_retry_after_is_honoured(retry: Retry, faulty: Faulty, clock: Clock) -> None:
    put(faulty, "f")
    faulty.before = [("stat", RateLimited("f", retry_after=17.0))]
    retry.stat("f")
    assert clock.waits == [17.0]


def test_retry_after_too_far_away_is_not_waited_for(retry: Retry, faulty: Faulty, clock: Clock) -> None:
    faulty.before = [("stat", RateLimited("f", retry_after=4000.0))]
    with pytest.raises(RateLimited):
        retry.stat("f")
    assert clock.waits == []


def test_waiting_can_be_ended(faulty: Faulty) -> None:
    faulty.before = [("stat", Unavailable("f"))]
    stop = threading.Event()
    stop.set()
    with pytest.raises(Unavailable):
        Retry(faulty, RetryPolicy(base_seconds=3600, cap_seconds=3600, total_seconds=7200), sleep=stop.wait).stat("f")
    assert faulty.calls == ["stat"]


def test_a_retry_is_logged(retry: Retry, faulty: Faulty, caplog: pytest.LogCaptureFixture) -> None:
    put(faulty, "f")
    faulty.before = [("stat", Unavailable("disk:f"))]
    with caplog.at_level("DEBUG", logger="cloudmesh.storage"):
        retry.stat("f")
    (record,) = caplog.records
    assert "stat failed" in record.getMessage()
    assert "disk:f" in record.getMessage()


# ---- retry: reads and scans


@pytest.mark.parametrize("breaks", [[0], [1], [CHUNK], [CHUNK + 5, 7], [10, 0, 0, 10], [3 * CHUNK]])
@pytest.mark.parametrize(("start", "length"), [(0, None), (5, None), (-2 * CHUNK, None), (10, 2 * CHUNK)])
def test_broken_read_goes_on(retry: Retry, faulty: Faulty, breaks: list[int], start: int, length: int | None) -> None:
    data = bytes(range(256)) * (3 * CHUNK // 256)
    put(faulty, "f", data)
    faulty.in_stream = [(after, Unavailable("f")) for after in breaks]
    with retry.open_read("f", start=start, length=length) as reader:
        seen = reader.read()
    assert seen == (data[start:] if length is None else data[start : start + length])


def test_read_never_mixes_versions(retry: Retry, faulty: Faulty) -> None:
    put(faulty, "f", b"o" * 3 * CHUNK)
    faulty.in_stream = [(CHUNK, Unavailable("f"))]
    with retry.open_read("f") as reader:
        pieces = iter(reader)
        assert next(pieces) == b"o" * CHUNK
        put(faulty, "f", b"n" * 3 * CHUNK)
        with pytest.raises(PreconditionFailed):
            list(pieces)


def test_progress_resets_the_attempts(faulty: Faulty, clock: Clock) -> None:
    put(faulty, "f", bytes(1000))
    faulty.in_stream = [(1, Unavailable("f"))] * 50
    with patient(faulty, clock, RetryPolicy(attempts=3)).open_read("f") as reader:
        assert reader.read() == bytes(1000)


def test_read_without_progress_ends(faulty: Faulty, clock: Clock) -> None:
    put(faulty, "f", bytes(1000))
    faulty.in_stream = [(0, Unavailable("f"))] * 50
    with pytest.raises(Unavailable), patient(faulty, clock, RetryPolicy(attempts=3)).open_read("f") as reader:
        reader.read()


def test_wrong_bytes_are_not_continued(retry: Retry, faulty: Faulty) -> None:
    put(faulty, "f", bytes(1000))
    faulty.in_stream = [(1000, ChecksumMismatch("f"))]
    with pytest.raises(ChecksumMismatch), retry.open_read("f") as reader:
        reader.read()


@pytest.mark.parametrize("breaks", [[0], [1], [5, 6], [0, 0, 3]])
def test_broken_scan_goes_on(retry: Retry, faulty: Faulty, breaks: list[int]) -> None:
    for name in ("a", "b/c", "b/d", "b-", "e"):
        put(faulty, name)
    expected = [entry.path for entry in faulty.scan(recursive=True)]
    faulty.in_stream = [(after, Unavailable("")) for after in breaks]
    assert [entry.path for entry in retry.scan(recursive=True)] == expected


def test_a_scan_begun_again_tells_nothing_twice(retry: Retry, faulty: Faulty) -> None:
    for name in ("a/x", "b/x", "c"):
        put(faulty, name)
    root = Path(faulty.settings.root or faulty.settings.credentials["directory"])
    told: list[str] = []
    faulty.in_stream = [(2, Unavailable("")), (2, Unavailable(""))]
    with closed(root / "a"):
        entries = retry.scan(recursive=True, on_error=lambda entry, error: told.append(f"{entry.path}: {error.why}"))
        assert [entry.path for entry in entries] == ["a", "b", "b/x", "c"]
    assert told == ["a: permission denied"]


def test_download_is_repeated_whole(retry: Retry, faulty: Faulty, tmp_path: Path) -> None:
    put(faulty, "f", b"here")
    faulty.after = [("download", Unavailable("f"))]
    retry.download("f", tmp_path / "to")
    assert (tmp_path / "to").read_bytes() == b"here"


# ---- retry: writes whose answer was lost


def test_write_is_repeated(retry: Retry, faulty: Faulty) -> None:
    faulty.before = [("write", Unavailable("f"))]
    faulty.after = [("write", Unavailable("f"))]
    put(retry, "f", b"here")
    assert bytes_of(faulty, "f") == b"here"
    assert faulty.calls.count("write") == 3


def test_stream_is_not_repeated(retry: Retry, faulty: Faulty) -> None:
    faulty.after = [("write", Unavailable("f"))]
    with pytest.raises(Unavailable):
        retry.write("f", Content.of_stream(iter([b"here"])))
    assert faulty.calls.count("write") == 1


def test_stream_that_was_not_touched_is_repeated(retry: Retry, faulty: Faulty) -> None:
    faulty.before = [("write", Unavailable("f"))]
    retry.write("f", Content.of_stream(iter([b"here"])))
    assert bytes_of(faulty, "f") == b"here"


@pytest.mark.parametrize("mode", ["create", "overwrite"])
def test_own_lost_write_is_recognised(retry: Retry, faulty: Faulty, mode: WriteMode) -> None:
    if mode == "overwrite":
        put(faulty, "f", b"old")
    etag = faulty.stat("f").etag if mode == "overwrite" else None
    faulty.after = [("write", Unavailable("f"))]
    entry = retry.write("f", Content.of_bytes(b"here"), mode=mode, if_match=etag)
    assert entry.size == 4
    assert bytes_of(faulty, "f") == b"here"


@pytest.mark.parametrize("other", [b"longer than ours", b"four"])
def test_foreign_file_is_not_taken_for_our_own(retry: Retry, faulty: Faulty, other: bytes) -> None:
    put(faulty, "f", other)
    faulty.before = [("write", Unavailable("f"))]
    with pytest.raises(AlreadyExists):
        retry.write("f", Content.of_bytes(b"here"), mode="create")
    assert bytes_of(faulty, "f") == other


def test_refusal_without_a_lost_answer_stands(retry: Retry, faulty: Faulty) -> None:
    put(faulty, "f", b"here")
    faulty.before = [("write", RateLimited("f"))]
    with pytest.raises(AlreadyExists):
        retry.write("f", Content.of_bytes(b"here"), mode="create")


def test_lost_copy_is_recognised(retry: Retry, faulty: Faulty) -> None:
    put(faulty, "f", b"here")
    faulty.after = [("copy_within", Unavailable("f"))]
    assert retry.copy_within("f", "g", mode="create").size == 4


def test_lost_move_is_told(retry: Retry, faulty: Faulty) -> None:
    put(faulty, "f", b"here")
    faulty.after = [("move_within", Unavailable("f"))]
    with pytest.raises(NotFound, match="disk:g"):
        retry.move_within("f", "g")


@pytest.mark.parametrize("primitive", ["remove", "remove_dir"])
def test_lost_removal_is_done(retry: Retry, faulty: Faulty, primitive: str) -> None:
    put(faulty, "d/f")
    faulty.after = [(primitive, Unavailable("f"))]
    if primitive == "remove":
        retry.remove("d/f")
    else:
        faulty.remove("d/f")
        retry.remove_dir("d")
    with pytest.raises(NotFound):
        retry.remove("d/f")


def test_remove_many_repeats_what_failed(retry: Retry, faulty: Faulty) -> None:
    for number in range(5):
        put(faulty, f"f{number}")
    faulty.before = [("remove_many", Unavailable(""))]
    faulty.doom("f3")
    assert list(retry.remove_many([f"f{number}" for number in range(5)])) == []
    assert list(faulty.scan()) == []


def test_remove_many_tells_what_cannot_be_removed(faulty: Faulty, clock: Clock) -> None:
    put(faulty, "d/f")
    put(faulty, "g")
    for _ in range(5):
        faulty.doom("g")
    failures = dict(patient(faulty, clock, RetryPolicy(attempts=2)).remove_many(["d", "g"]))
    assert set(failures) == {"d", "g"}
    assert failures["g"].retryable


# ---- retry: batches


def test_batch_repeats_what_failed(retry: Retry, faulty: Faulty) -> None:
    names = [f"f{number}" for number in range(50)]
    faulty.in_batch = {"f3": [Unavailable("f3")], "f9": [RateLimited("f9")], "f49": [ChecksumMismatch("f49")]}
    faulty.before = [("write", Unavailable("f"))]
    requests = [WriteRequest(name, name.encode()) for name in names]
    answers = list(retry.write_many(requests))
    assert {id(request) for request, _ in answers} == {id(request) for request in requests}
    assert len(answers) == 50
    assert all(isinstance(answer, Entry) for _, answer in answers)
    assert faulty.calls.count("write") == 4

    faulty.in_batch = {name: [ChecksumMismatch(name)] for name in names[::2]}
    faulty.in_stream = [(1, Unavailable("f")), (0, ChecksumMismatch("f"))]
    found = {request.path: answer for request, answer in retry.read_many(ReadRequest(name) for name in names)}
    assert {name: answer.data for name, answer in found.items() if isinstance(answer, Loaded)} == {
        name: name.encode() for name in names
    }


def test_batch_tells_what_does_not_pass(faulty: Faulty, clock: Clock) -> None:
    put(faulty, "f")
    faulty.in_batch = {"f": [Unavailable("f", "first")]}
    faulty.before = [("open_read", Unavailable("f", "second")), ("open_read", Unavailable("f", "third"))]
    storage = patient(faulty, clock, RetryPolicy(attempts=3))
    answers = {request.path: answer for request, answer in storage.read_many([ReadRequest("f"), ReadRequest("g")])}
    assert isinstance(answers["f"], Unavailable)
    assert answers["f"].why == "third"
    assert isinstance(answers["g"], NotFound)
    assert faulty.calls.count("open_read") == 2


def test_batch_pauses_while_many_wait(retry: Retry, faulty: Faulty) -> None:
    names = [f"f{number}" for number in range(40)]
    faulty.in_batch = {name: [Unavailable(name)] for name in names}
    asked = answered = 0

    def requests() -> Iterator[WriteRequest]:
        nonlocal asked
        for name in names:
            asked += 1
            assert asked - answered <= 2 * retry.settings.parallel
            yield WriteRequest(name, b"here")

    for _, answer in retry.write_many(requests()):
        assert isinstance(answer, Entry)
        answered += 1
    assert answered == 40


def test_batch_repeats_while_the_next_request_is_unknown(retry: Retry, faulty: Faulty) -> None:
    faulty.in_batch = {"f": [Unavailable("f")]}
    answered: list[str] = []

    def requests() -> Iterator[WriteRequest | None]:
        yield WriteRequest("f", b"here")
        for _ in range(1000):
            if answered:
                break
            yield None
        assert answered == ["f"]
        yield WriteRequest("g", b"here")

    for request, _ in retry.write_many(requests()):
        answered.append(request.path)
    assert answered == ["f", "g"]


def test_batch_recognises_its_own_lost_write(retry: Retry, faulty: Faulty) -> None:
    put(faulty, "foreign", b"four")
    faulty.in_batch = {"own": [Unavailable("own")], "foreign": [Unavailable("foreign")]}
    requests = [WriteRequest("own", b"here", mode="create"), WriteRequest("foreign", b"here", mode="create")]
    answers = {request.path: answer for request, answer in retry.write_many(requests)}
    assert isinstance(answers["own"], Entry)
    assert isinstance(answers["foreign"], AlreadyExists)
    assert (bytes_of(faulty, "own"), bytes_of(faulty, "foreign")) == (b"here", b"four")


# ---- limits


def test_token_bucket_spreads_what_passes() -> None:
    clock = Clock()
    bucket = TokenBucket(10.0, clock=clock, sleep=clock.sleep)
    for _ in range(30):
        bucket.take(1)
    assert clock.now == pytest.approx(2.0)
    clock.now += 100
    bucket.take(10)
    assert clock.now == pytest.approx(102.0)


def test_token_bucket_of_almost_nothing_waits_no_longer_than_a_thread_can() -> None:
    slept: list[float] = []

    class Enough(Exception): ...

    def sleep(seconds: float) -> None:
        slept.append(seconds)
        raise Enough

    bucket = TokenBucket(1e-300, sleep=sleep)
    bucket.take(1)
    with pytest.raises(Enough):
        bucket.take(1)
    assert slept == [threading.TIMEOUT_MAX]


def test_token_bucket_wants_a_rate() -> None:
    with pytest.raises(ValueError, match="rate"):
        TokenBucket(0)


def test_requests_per_second(disk: LocalStorage, clock: Clock) -> None:
    slow = Limit(disk, requests_per_second=5, clock=clock, sleep=clock.sleep)
    for _ in range(25):
        slow.stat("")
        list(slow.scan())
    assert clock.now == pytest.approx(9.0)


def test_bytes_per_second(disk: LocalStorage, clock: Clock, tmp_path: Path) -> None:
    slow = Limit(disk, bytes_per_second=CHUNK, clock=clock, sleep=clock.sleep)
    source = tmp_path / "source"
    source.write_bytes(bytes(5 * CHUNK))
    slow.write("f", Content.of_file(source))
    assert clock.now == pytest.approx(4.0)
    slow.download("f", tmp_path / "to")
    assert clock.now == pytest.approx(9.0)
    assert bytes_of(slow, "f") == bytes(5 * CHUNK)
    assert clock.now == pytest.approx(14.0)
    put(slow, "g", bytes(3 * CHUNK))  # one piece, passed on in several
    assert clock.now == pytest.approx(17.0)


def test_bytes_follow_the_time_of_day(disk: LocalStorage, clock: Clock) -> None:
    begin = datetime(2026, 11, 24, 7, 59, 55)
    bucket = TokenBucket(
        Schedule.parse("00:00,1M 08:00,4M 08:01,off"),
        clock=clock,
        sleep=clock.sleep,
        now=lambda: begin + timedelta(seconds=clock.now),
    )
    storage = limited(disk, bucket)
    put(storage, "f", bytes(10 * CHUNK))  # one file: a second's worth at once, 5 in 5 s, the last 4 in 1 s
    assert 5.5 <= clock.now <= 7.0
    assert max(clock.waits) <= 1.0
    clock.now = 70.0
    put(storage, "f", bytes(100 * CHUNK))
    assert clock.now == 70.0


def test_those_who_wait_follow_a_change(clock: Clock) -> None:
    begin = datetime(2026, 11, 24, 18, 59, 50)
    bucket = TokenBucket(
        Schedule.parse("08:00,1B 19:00,off"),
        clock=clock,
        sleep=clock.sleep,
        now=lambda: begin + timedelta(seconds=clock.now),
    )
    bucket.take(1_000_000)
    assert 10.0 <= clock.now <= 11.0


def test_a_run_has_one_bucket(disk: LocalStorage, clock: Clock, tmp_path: Path) -> None:
    other = LocalStorage(ServiceSettings("other", "local", root=str(tmp_path / "other")))
    bucket = TokenBucket(CHUNK, clock=clock, sleep=clock.sleep)
    put(limited(disk, bucket), "f", bytes(2 * CHUNK))
    put(limited(other, bucket), "f", bytes(2 * CHUNK))
    assert clock.now == pytest.approx(3.0)
    assert limited(disk) is disk
    assert disk.immediate
    assert not limited(disk, bucket).immediate


@pytest.mark.parametrize("limit", ["requests", "bytes"])
def test_batches_are_limited(disk: LocalStorage, clock: Clock, limit: str) -> None:
    slow = Limit(
        disk,
        concurrency=2,
        requests_per_second=10 if limit == "requests" else None,
        bytes_per_second=1000 if limit == "bytes" else None,
        clock=clock,
        sleep=lambda seconds: None,
    )
    bucket = slow._requests if limit == "requests" else slow._bytes
    assert bucket is not None
    before = bucket._wanted
    assert all(
        isinstance(answer, Entry) for _, answer in slow.write_many(WriteRequest(f"f{n}", bytes(100)) for n in range(20))
    )
    assert bucket._wanted - before == (20 if limit == "requests" else 2000)


def test_a_batch_holds_no_slot(disk: LocalStorage) -> None:
    storage = Limit(disk, concurrency=1)
    put(storage, "f", b"here")
    done = threading.Event()

    def other() -> None:
        storage.stat("f")
        done.set()

    reading = storage.read_many(ReadRequest("f") for _ in range(3))
    next(reading)
    thread = threading.Thread(target=other)
    thread.start()
    assert done.wait(10)
    thread.join()
    assert len(list(reading)) == 2


class Counting(Layer):
    """Counts the calls that are inside at once."""

    def __init__(self, inner: StorageABC) -> None:
        super().__init__(inner)
        self._lock = threading.Lock()
        self._inside = 0
        self.most = 0

    def around(self, primitive: str, path: str, call: Callable[[], T]) -> T:
        with self._lock:
            self._inside += 1
            self.most = max(self.most, self._inside)
        try:
            return call()
        finally:
            with self._lock:
                self._inside -= 1


def test_concurrency_is_bounded(disk: LocalStorage) -> None:
    counting = Counting(disk)
    limited = Limit(counting, concurrency=3)
    put(limited, "f", bytes(CHUNK))
    begin = threading.Barrier(12)

    def work() -> None:
        begin.wait()
        for _ in range(30):
            bytes_of(limited, "f")
            limited.stat("f")

    threads = [threading.Thread(target=work) for _ in range(12)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert counting.most <= 3


def test_an_open_stream_holds_its_slot(disk: LocalStorage) -> None:
    limited = Limit(disk, concurrency=1)
    put(limited, "f")
    reader = limited.open_read("f")
    done = threading.Event()

    def other() -> None:
        limited.stat("f")
        done.set()

    thread = threading.Thread(target=other)
    thread.start()
    assert not done.wait(0.1)
    reader.close()
    assert done.wait(10)
    thread.join()


def test_a_thread_may_write_what_it_reads(disk: LocalStorage) -> None:
    limited = Limit(disk, concurrency=1)
    put(limited, "f", b"here")
    with limited.open_read("f") as reader:
        limited.write("g", Content.of_stream(reader))
    assert bytes_of(limited, "g") == b"here"


def test_a_slot_is_given_back_after_errors(disk: LocalStorage) -> None:
    limited = Limit(disk, concurrency=1)
    for _ in range(3):
        with pytest.raises(NotFound):
            limited.open_read("nothing")
        with pytest.raises(NotFound):
            limited.stat("nothing")
    put(limited, "f")


# ---- meter


def test_meter_counts(disk: LocalStorage, tmp_path: Path) -> None:
    meter = Meter(disk)
    put(meter, "f", bytes(3 * CHUNK))
    bytes_of(meter, "f")
    meter.download("f", tmp_path / "to")
    meter.write("g", Content.of_file(tmp_path / "to"))
    list(meter.scan())
    list(meter.remove_many(["g"]))
    with pytest.raises(NotFound):
        meter.stat("nothing")
    counts = meter.snapshot().by_primitive
    assert (counts["write"].requests, counts["write"].bytes_out) == (2, 6 * CHUNK)
    assert (counts["open_read"].requests, counts["open_read"].bytes_in) == (1, 3 * CHUNK)
    assert (counts["download"].requests, counts["download"].bytes_in) == (1, 3 * CHUNK)
    assert (counts["stat"].requests, counts["stat"].errors) == (1, 1)
    assert counts["scan"].requests == 1
    assert counts["remove_many"].requests == 1
    total = meter.snapshot().total
    assert (total.requests, total.errors) == (7, 1)
    assert total.seconds > 0


def test_meter_leaves_out_the_readers_own_time(disk: LocalStorage) -> None:
    clock = Clock()
    meter = Meter(disk, clock=clock)
    put(meter, "f", bytes(3 * CHUNK))
    with meter.open_read("f") as reader:
        for _ in reader:
            clock.now += 10
    assert meter.snapshot().by_primitive["open_read"].seconds == 0


def test_meter_counts_batches(disk: LocalStorage) -> None:
    meter = Meter(disk)
    list(meter.write_many(WriteRequest(f"f{number}", bytes(10)) for number in range(600)))
    list(meter.write_many([WriteRequest("f1/x", b"below a file")]))
    reads = [*(ReadRequest(f"f{number}") for number in range(600)), None, ReadRequest("nothing")]
    reading = meter.read_many(reads)
    for _ in range(300):
        next(reading)
    assert meter.snapshot().by_primitive["read_many"].requests >= 256 - 1  # told while it runs
    list(reading)
    wrote, read = (meter.snapshot().by_primitive[name] for name in ("write_many", "read_many"))
    assert (wrote.requests, wrote.errors, wrote.bytes_out, wrote.bytes_in) == (601, 1, 6000, 0)
    assert (read.requests, read.errors, read.bytes_in, read.bytes_out) == (601, 1, 6000, 0)
    assert wrote.seconds > 0
    given_up = meter.read_many([ReadRequest("f1"), ReadRequest("f2")])
    next(given_up)
    given_up.close()  # type: ignore[attr-defined]
    assert meter.snapshot().by_primitive["read_many"].requests == 602


def test_meter_leaves_out_what_the_caller_of_a_batch_does(disk: LocalStorage) -> None:
    clock = Clock()
    meter = Meter(disk, clock=clock)

    def requests() -> Iterator[WriteRequest]:
        for number in range(5):
            clock.now += 10
            yield WriteRequest(f"f{number}", b"here")

    for _ in meter.write_many(requests()):
        clock.now += 100
    assert meter.snapshot().by_primitive["write_many"].seconds == 0


def test_meter_counts_from_many_threads(disk: LocalStorage) -> None:
    meter = Meter(disk)
    threads = [threading.Thread(target=lambda: [meter.stat("") for _ in range(200)]) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert meter.snapshot().total.requests == 1600


# ---- the standard stack


def test_layered(disk: LocalStorage, tmp_path: Path) -> None:
    storage = layered(disk)
    put(storage, "d/f", b"here")
    assert bytes_of(storage, "d/f") == b"here"
    storage.make_dir("e")
    storage.copy_within("d/f", "d/g")
    storage.move_within("d/g", "e/g")
    storage.set_mtime("e/g", 5)
    assert [entry.path for entry in storage.scan(recursive=True)] == ["d", "d/f", "e", "e/g"]
    assert storage.capabilities == disk.capabilities
    assert storage.immediate == disk.immediate
    assert storage.location("f") == "disk:f"
    assert (storage.usage().total or 0) > 0
    storage.probe()
    storage.flush()
    storage.close()
    meter = find_layer(storage, Meter)
    assert meter is not None
    assert meter.snapshot().by_primitive["make_dir"].requests == 1
    assert find_layer(disk, Meter) is None


def test_a_layer_passes_everything_on() -> None:
    public = {name for name in vars(StorageABC) if not name.startswith("_")}
    assert public - set(vars(Layer)) == {"keys", "required", "secrets", "immediate"}  # the last is each object's own


def test_attempts_are_metered_one_by_one(disk: LocalStorage, clock: Clock) -> None:
    put(disk, "f")
    faulty = Faulty(disk)
    meter = Meter(faulty)
    faulty.before = [("stat", Unavailable("f"))] * 2
    patient(Limit(meter, concurrency=1), clock).stat("f")
    count = meter.snapshot().by_primitive["stat"]
    assert (count.requests, count.errors) == (3, 2)
