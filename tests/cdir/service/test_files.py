"""Files by URL, read and written by a plain HTTP client."""

from __future__ import annotations

import base64
import hashlib
import http.client
import os
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest

from cloudmesh.vdir import Vdir
from deploy.servers import SeaweedFS, Wsgidav
from tests.cdir.service.conftest import Start
from tests.faults import FaultProxy
from tests.places import configure, read_tree, write_tree

DATA = os.urandom(3_000_000)
SHA = hashlib.sha256(DATA).hexdigest()


@pytest.fixture
def filled(client: httpx.Client, tmp_path: Path) -> httpx.Client:
    """A client of a service with ``/data/big.bin`` on ``one`` and ``aws``."""
    source = write_tree(tmp_path / "source", {"big.bin": DATA, 'ü "q" #?%.txt': b"odd"})
    with Vdir() as vdir:
        vdir.put(str(source), "/data", to=["one", "aws"], recursive=True)
        vdir.prefer("/data", ["aws", "one"])
    return client


# ---- reading ---------------------------------------------------------------------------------------------------------


def test_a_file_with_all_that_describes_it(filled: httpx.Client) -> None:
    answer = filled.get("/files/data/big.bin")
    assert answer.content == DATA
    assert answer.headers["etag"] == f'"{SHA}"'
    assert answer.headers["content-length"] == str(len(DATA))
    assert answer.headers["repr-digest"] == f"sha-256=:{base64.b64encode(hashlib.sha256(DATA).digest()).decode()}:"
    assert answer.headers["content-type"] == "application/octet-stream"
    assert (answer.headers["x-cdir-replica"], answer.headers["accept-ranges"]) == ("aws", "bytes")
    assert answer.headers["x-cdir-replica-reason"]
    head = filled.head("/files/data/big.bin")
    assert head.content == b""
    for name in ("etag", "content-length", "last-modified", "content-disposition", "x-cdir-replica"):
        assert head.headers[name] == answer.headers[name]


def test_a_replica_by_its_service(filled: httpx.Client) -> None:
    assert filled.get("/files/one/data/big.bin").headers["x-cdir-replica"] == "one"
    assert filled.get("/files/one/data/big.bin").content == DATA
    assert filled.get("/files/two/data/big.bin").status_code == 404


def test_names_of_every_kind(filled: httpx.Client) -> None:
    answer = filled.get("/files/data/%C3%BC%20%22q%22%20%23%3F%25.txt")
    assert answer.content == b"odd"
    assert answer.headers["content-disposition"] == (
        "attachment; filename=\"_ _q_ #__.txt\"; filename*=UTF-8''%C3%BC%20%22q%22%20#%3F%25.txt"
    )
    assert answer.headers["content-type"].startswith("text/plain")
    assert answer.headers["x-content-type-options"] == "nosniff"


def test_a_slash_lists(filled: httpx.Client) -> None:
    assert [one["name"] for one in filled.get("/files/data/").json()] == ["big.bin", 'ü "q" #?%.txt']
    assert [one["path"] for one in filled.get("/files/").json()] == ["/data"]
    assert [one["name"] for one in filled.get("/files/one/data/").json()] == ["big.bin", 'ü "q" #?%.txt']
    assert filled.get("/files/two/data/").json() == []
    to = filled.get("/files/data")
    assert (to.status_code, to.headers["location"]) == (308, "./data/")
    assert filled.get("/files/data/big.bin/").status_code == 409


RANGES: list[tuple[str, int, list[tuple[int, int]]]] = [
    ("bytes=0-9", 206, [(0, 10)]),
    ("bytes=2999990-", 206, [(2_999_990, 10)]),
    ("bytes=-5", 206, [(2_999_995, 5)]),
    ("bytes=5-99999999", 206, [(5, 2_999_995)]),
    ("bytes=0-1,1000-1999,-3", 206, [(0, 2), (1000, 1000), (2_999_997, 3)]),
    ("bytes=3000000-", 416, []),
    ("bytes=9-2", 200, [(0, 3_000_000)]),
    ("lines=1-2", 200, [(0, 3_000_000)]),
    ("bytes=" + ",".join(["0-"] * 50), 200, [(0, 3_000_000)]),
]


def test_ranges(filled: httpx.Client) -> None:
    for asked, status, got in RANGES:
        answer = filled.get("/files/data/big.bin", headers={"Range": asked})
        assert answer.status_code == status
        if status == 416:
            assert answer.headers["content-range"] == "bytes */3000000"
        elif len(got) == 1:
            start, length = got[0]
            assert answer.content == DATA[start : start + length]
            if status == 206:
                assert answer.headers["content-range"] == f"bytes {start}-{start + length - 1}/3000000"
        else:
            kind, _, boundary = answer.headers["content-type"].partition("; boundary=")
            assert kind == "multipart/byteranges"
            assert len(answer.content) == int(answer.headers["content-length"])
            parts = answer.content.split(f"--{boundary}".encode())
            assert parts[-1] == b"--\r\n"
            for part, (start, length) in zip(parts[1:-1], got, strict=True):
                head, _, body = part.partition(b"\r\n\r\n")
                assert f"Content-Range: bytes {start}-{start + length - 1}/3000000".encode() in head
                assert body == DATA[start : start + length] + b"\r\n"


def test_conditions_of_reading(filled: httpx.Client) -> None:
    url, tag = "/files/data/big.bin", f'"{SHA}"'
    modified = filled.head(url).headers["last-modified"]
    for headers, status in (
        ({"If-None-Match": tag}, 304),
        ({"If-None-Match": f'W/{tag}, "x"'}, 304),
        ({"If-None-Match": '"x"'}, 200),
        ({"If-Match": '"x"'}, 412),
        ({"If-Match": f'"x", {tag}'}, 200),
        ({"If-Modified-Since": modified}, 304),
        ({"If-Modified-Since": modified, "If-None-Match": '"x"'}, 200),
        ({"If-Modified-Since": "yesterday"}, 200),
        ({"If-Unmodified-Since": modified}, 200),
        ({"If-Unmodified-Since": "Sat, 01 Jan 2000 00:00:00 GMT"}, 412),
        ({"If-Unmodified-Since": "Sat, 01 Jan 2000 00:00:00 GMT", "If-Match": tag}, 200),
        ({"If-Match": f"W/{tag}"}, 412),
        ({"If-Match": "*"}, 200),
        ({"If-None-Match": "*"}, 304),
        ({"If-Modified-Since": "Sat, 01 Jan 2000 00:00:00 GMT"}, 200),
        ({"Range": "bytes=0-0", "If-Range": tag}, 206),
        ({"Range": "bytes=0-0", "If-Range": '"x"'}, 200),
        ({"Range": "bytes=0-0", "If-Range": modified}, 206),
    ):
        assert filled.head(url, headers=headers).status_code in (status, 200 if status == 206 else status)
        answer = filled.get(url, headers=headers)
        assert answer.status_code == status, headers
        if status in (200, 304):  # what is kept of a file is told the same of it again
            told = ("etag", "last-modified", "cache-control")
            assert [answer.headers[name] for name in told] == [tag, modified, "private, no-cache"]


OUTSIDE = [
    "/files/../etc/passwd",
    "/files/%2e%2e/etc/passwd",
    "/files/data/..%2f..%2fetc/passwd",
    "/files/data/%2Fetc",
    "/files/data//big.bin",
    "/files/data/./big.bin",
    "/files/data/%00",
    "/files/data/%ff",
    "/files/one/%2e%2e/secret",
    "/files/data/%252e%252e/x",
]


def test_no_url_leaves_the_tree(filled: httpx.Client, tmp_path: Path) -> None:
    for path in OUTSIDE:
        (tmp_path / "secret").write_text("top secret")
        connection = http.client.HTTPConnection("127.0.0.1", filled.base_url.port or 0)  # sends a path as it is
        connection.request("GET", path, headers={"Authorization": filled.headers["Authorization"]})
        answer = connection.getresponse()
        assert answer.status in (400, 404)
        assert b"top secret" not in answer.read()
        connection.close()


def test_a_read_that_fails_halfway_goes_on_from_the_next_replica(
    home: Path,
    tmp_path: Path,
    seaweedfs: SeaweedFS,
    wsgidav: Wsgidav,
    fault_proxy: Callable[[int], FaultProxy],
    served: httpx.Client,
) -> None:
    fragile = fault_proxy(seaweedfs.port)
    configure(
        home,
        [
            seaweedfs.settings("aws", bucket=seaweedfs.make_bucket(), port=fragile.port),
            wsgidav.settings("dav", root=f"run-{time.time_ns()}"),
        ],
    )
    with Vdir() as vdir:
        vdir.put(str(write_tree(tmp_path / "source", {"big.bin": DATA})), "/data", to=["aws", "dav"], recursive=True)
        vdir.prefer("/data", ["aws", "dav"])

    def read(served: httpx.Client, path: str, asked: str) -> httpx.Response:
        fragile.heal()
        fragile.drop()  # no connection that was used before
        fragile.stall(after=1_500_000)
        with served.stream("GET", path, headers={"Range": asked} if asked else {}) as answer:
            fragile.refuse()  # the head is here, and so the read was begun
            answer.read()
        return answer

    for asked, status, wanted in (("", 200, DATA), ("bytes=1000-", 206, DATA[1000:])):
        answer = read(served, "/files/data/big.bin", asked)
        assert (answer.status_code, answer.content) == (status, wanted)
        assert answer.headers["x-cdir-replica"] == "aws", "it was begun with that"


def test_a_replica_that_is_not_the_preferred_one_is_told_with_the_reason(
    client: httpx.Client, disks: dict[str, Path]
) -> None:
    for service in ("one", "two"):
        client.put(f"/files/{service}/a", content=b"whole")
    preferred = client.head("/files/a").headers["x-cdir-replica"]
    other = next(one for one in disks if one != preferred)
    os.truncate(disks[preferred] / "a", 2)
    answer = client.get("/files/a")
    told = answer.headers["x-cdir-replica"], answer.headers["x-cdir-replica-reason"]
    assert (answer.content, told) == (b"whole", (other, f"{preferred} could not be read"))


def test_a_url_of_the_service_itself(filled: httpx.Client) -> None:
    to = filled.get("/files/data/big.bin", params={"redirect": "true"})
    assert to.status_code == 307
    assert httpx.get(to.headers["location"]).content == DATA
    here = filled.get("/files/one/data/big.bin", params={"redirect": "true"})
    assert (here.status_code, here.content) == (200, DATA), "the local disk has no URLs"


# ---- writing ---------------------------------------------------------------------------------------------------------


def test_a_file_is_made_replaced_and_removed(client: httpx.Client, disks: dict[str, Path]) -> None:
    made = client.put("/files/one/new/a.bin", content=DATA)
    assert (made.status_code, made.headers["etag"], made.headers["location"]) == (201, f'"{SHA}"', "/files/new/a.bin")
    assert read_tree(disks["one"]) == {"new/a.bin": DATA}
    again = client.put("/files/new/a.bin", content=b"second")
    assert (again.status_code, again.json()["version"], again.json()["size"]) == (200, 2, 6)
    assert client.get("/files/new/a.bin").content == b"second"
    refused = client.delete("/files/new/a.bin?purge=true")
    assert (refused.status_code, "nowhere else" in refused.json()["detail"]) == (409, True)
    assert client.get("/files/new/a.bin").content == b"second"
    assert client.delete("/files/new/a.bin?purge=true&accept_loss=true").status_code == 204
    assert client.get("/files/new/a.bin").status_code == 404
    assert read_tree(disks["one"]) == {}


def test_a_replica_is_added_and_dropped_but_not_the_last(client: httpx.Client, disks: dict[str, Path]) -> None:
    client.put("/files/one/a", content=b"x")
    assert client.put("/files/two/a", content=b"x").json()["services"] == ["one", "two"]
    assert client.delete("/files/one/a").status_code == 204
    assert client.delete("/files/two/a").status_code == 409
    assert read_tree(disks["two"]) == {"a": b"x"}


def test_a_body_of_unknown_length(client: httpx.Client) -> None:
    def pieces() -> Iterator[bytes]:
        for start in range(0, len(DATA), 100_000):
            yield DATA[start : start + 100_000]

    assert client.put("/files/aws/a", content=pieces()).status_code == 201
    assert client.get("/files/a").content == DATA


def test_conditions_of_writing(client: httpx.Client) -> None:
    url = "/files/one/a"
    assert client.put(url, content=b"1", headers={"If-Match": "*"}).status_code == 412
    first = client.put(url, content=b"1", headers={"If-None-Match": "*"})
    assert first.status_code == 201
    answer = client.put(url, content=b"2", headers={"If-None-Match": "*"})
    assert (answer.status_code, answer.json()["hint"]) == (412, "If-Match replaces what was read")
    assert client.put(url, content=b"2", headers={"If-Match": '"x"'}).status_code == 412
    long_ago = {"If-Unmodified-Since": "Sat, 01 Jan 2000 00:00:00 GMT"}
    assert client.put(url, content=b"2", headers=long_ago).status_code == 412
    assert client.put(url, content=b"2", headers={"If-Match": first.headers["etag"]}).status_code == 200
    client.put("/files/two/a", content=b"2")
    for one in ("/files/a", "/files/one/a"):
        assert client.delete(one, headers={"If-Match": first.headers["etag"]}).status_code == 412
        assert client.delete(one, headers=long_ago).status_code == 412
        assert client.delete("/files/none", headers=long_ago).status_code == 404
    assert client.get(url).content == client.get("/files/two/a").content == b"2"
    assert client.delete(url, headers={"If-Match": client.head(url).headers["etag"]}).status_code == 204


def test_of_two_writers_with_if_match_one_wins(client: httpx.Client) -> None:
    tag = client.put("/files/one/a", content=b"0").headers["etag"]
    statuses: list[int] = []

    def write(data: bytes) -> None:
        headers = {"If-Match": tag, "Authorization": client.headers["Authorization"]}
        answer = httpx.put(f"{client.base_url}/files/a", content=data, headers=headers, timeout=60)
        statuses.append(answer.status_code)

    threads = [threading.Thread(target=write, args=(str(i).encode() * 100_000,)) for i in range(1, 6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(statuses) == [200, 412, 412, 412, 412]


def test_of_all_who_change_a_file_at_several_processes_one_wins(
    start: Start, disks: dict[str, Path], database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CDIR_DATABASE", database_url)
    client = start(CDIR_SERVICE_WORKERS="3")

    def change(url: str, data: bytes | None, condition: dict[str, str], purge: bool) -> int:
        """Write data, or delete, on a connection of its own, so that any of the processes may answer."""
        headers = condition | {"Authorization": client.headers["Authorization"]}
        url = f"{client.base_url}{url}"
        if data is None:
            return httpx.delete(
                url, params={"purge": purge, "accept_loss": True}, headers=headers, timeout=60
            ).status_code
        return httpx.put(url, content=data, headers=headers, timeout=60).status_code

    def changes(url: str, datas: list[bytes | None], condition: dict[str, str], purge: bool = False) -> bytes | None:
        """Do it all at once, and return what the one wrote that won."""
        with ThreadPoolExecutor(len(datas)) as pool:
            statuses = list(pool.map(lambda data: change(url, data, condition, purge), datas))
        won = [data for data, status in zip(datas, statuses, strict=True) if status < 300]
        assert len(won) == 1, statuses
        assert set(statuses) <= {200, 201, 204, 412, 404}
        return won[0]

    writes: list[bytes | None] = [bytes([number]) * 100_000 for number in range(12)]
    for turn in range(4):
        name = f"d{turn}/e/a"  # in directories that are not there yet
        assert changes(f"/files/one/{name}", writes[:8], {"If-None-Match": "*"}) == client.get(f"/files/{name}").content
        tag = {"If-Match": client.head(f"/files/{name}").headers["etag"]}
        purge = turn % 2 == 1
        won = changes(f"/files/{name}", [*writes[8:], *[None] * 4], tag, purge=purge)
        answer = client.get(f"/files/{name}")
        assert (answer.status_code, answer.content if won else None) == (200 if won else 404, won)
        assert (disks["one"] / name).exists() is (won is not None or not purge)


def test_what_is_not_taken(start: Start, disks: dict[str, Path]) -> None:
    client = start(CDIR_SERVICE_MAX_UPLOAD="1K")
    assert client.put("/files/one/a", content=bytes(2000)).status_code == 413
    assert client.put("/files/one/a", content=iter([bytes(600), bytes(600)])).status_code == 413
    assert client.put("/files/one/a", content=b"x", headers={"Content-Encoding": "gzip"}).status_code == 415
    assert client.put("/files/one/a", content=b"x", headers={"Content-Range": "bytes 0-0/2"}).status_code == 400
    wrong = base64.b64encode(hashlib.sha256(b"y").digest()).decode()
    for name, told in (("Repr-Digest", f":{wrong}:"), ("Content-Digest", f":{wrong}:"), ("Digest", wrong)):
        answer = client.put("/files/one/a", content=b"x", headers={name: f"sha-256={told}"})
        assert (answer.status_code, answer.json()["error"]) == (400, "ChecksumMismatch")
    assert client.put("/files/one/a/", content=b"x").status_code == 409
    assert client.put("/files/none:x/../a", content=b"x").status_code in (201, 400)
    assert read_tree(disks["one"]) == {}


def test_an_upload_that_is_cut_leaves_nothing(client: httpx.Client, disks: dict[str, Path]) -> None:
    def broken() -> Iterator[bytes]:
        yield bytes(100_000)
        raise RuntimeError("cut")

    with pytest.raises(RuntimeError):
        client.put("/files/one/a", content=broken())
    assert client.get("/files/").json() == []
    assert client.put("/files/one/a", content=b"x").status_code == 201
    assert read_tree(disks["one"]) == {"a": b"x"}
