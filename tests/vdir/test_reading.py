"""Reading goes on in the middle of a file where a replica fails, and gives whole and right bytes or an error."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from cloudmesh.storage.abc import Content, StorageABC
from cloudmesh.storage.database import Database
from cloudmesh.storage.errors import ChecksumMismatch, NotFound, PreconditionFailed, SourceChanged, StorageError
from cloudmesh.storage.layers import Meter, Retry, RetryPolicy, find_layer
from cloudmesh.storage.services import Services
from cloudmesh.storage.transfer.options import Selection
from cloudmesh.vdir import Vdir, stalls
from cloudmesh.vdir.catalogue import Catalogue
from deploy.servers import OpenSsh, SeaweedFS, Wsgidav
from tests.faults import FaultProxy
from tests.places import configure, local, read_tree, write_tree

MIB = 1024 * 1024
LARGE = hashlib.shake_128(b"large").digest(16 * MIB)
SMALL = hashlib.shake_128(b"small").digest(3 * MIB)
FAST = RetryPolicy(attempts=2, base_seconds=0.01, cap_seconds=0.01)
FIRST = ["aws", "dav", "nas"]


class Place:
    """Three services on real servers, each behind a proxy, and two on the local disk; names with replicas on some."""

    def __init__(self, services: Services, proxies: dict[str, FaultProxy], tmp_path: Path) -> None:
        self.services = services
        self.proxies = proxies
        self.tmp_path = tmp_path

    def vdir(self) -> Vdir:
        return Vdir(services=self.services)

    def put(self, content: bytes, *to: str) -> None:
        """Make ``/f`` with replicas on services, to be read in this order."""
        source = self.tmp_path / "source"
        source.write_bytes(content)
        with self.vdir() as vdir:
            vdir.put(str(source), "/f", to=list(to))
            vdir.prefer("/f", list(to))

    def bytes_read(self, name: str) -> int:
        meter = find_layer(self.services.open(name), Meter)
        assert meter is not None
        return sum(count.bytes_in for count in meter.snapshot().by_primitive.values())

    def failures(self) -> dict[str, int]:
        with Database() as database:
            catalogue = Catalogue(database)
            node = catalogue.lookup("f")
            return {one.service: one.failures for one in catalogue.replicas_of([node])[node.id]}

    def flip(self, service: str, at: int) -> None:
        """Change one byte of a file on a local service so that nothing but its hash tells."""
        file = self.tmp_path / service / "f"
        seen = file.stat()
        with file.open("r+b") as opened:
            opened.seek(at)
            byte = opened.read(1)
            opened.seek(at)
            opened.write(bytes([byte[0] ^ 1]))
        os.utime(file, ns=(seen.st_atime_ns, seen.st_mtime_ns))


@pytest.fixture
def place(
    home: Path,
    tmp_path: Path,
    seaweedfs: SeaweedFS,
    wsgidav: Wsgidav,
    openssh: OpenSsh,
    fault_proxy: Callable[[int], FaultProxy],
) -> Iterator[Place]:
    servers = {"aws": seaweedfs, "dav": wsgidav, "nas": openssh}
    proxies = {name: fault_proxy(server.port) for name, server in servers.items()}
    root = tmp_path.name
    configure(
        home,
        [
            seaweedfs.settings("aws", bucket=seaweedfs.make_bucket(), port=proxies["aws"].port),
            wsgidav.settings("dav", root=root, port=proxies["dav"].port),
            openssh.settings("nas", root=root, port=proxies["nas"].port),
            local("one", tmp_path / "one"),
            local("two", tmp_path / "two"),
        ],
    )
    services = Services()
    plain = services.open

    def opened(name: str) -> StorageABC:
        service = plain(name)
        retry = find_layer(service, Retry)
        assert retry is not None
        retry.policy = FAST
        return service

    services.open = opened  # type: ignore[method-assign]
    yield Place(services, proxies, tmp_path)
    services.close()


def after(name: str) -> str:
    return FIRST[(FIRST.index(name) + 1) % len(FIRST)]


# ---- in the middle -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("first", FIRST)
def test_the_next_replica_goes_on_where_the_first_one_was_cut_off(place: Place, first: str) -> None:
    place.put(LARGE, first, after(first))
    place.proxies[first].stall(after=6 * MIB)  # more than that is on its way to us at no moment
    with place.vdir() as vdir, vdir.open("/f") as reader:
        pieces = iter(reader)
        got = [next(pieces)]
        place.proxies[first].refuse()
        got += pieces
    assert b"".join(got) == LARGE
    assert 0 < place.bytes_read(after(first)) < len(LARGE), "from the middle on"
    assert place.failures() == {first: 0, after(first): 0}, "the service failed, and not the file"


@pytest.mark.parametrize("first", FIRST)
def test_the_next_replica_goes_on_where_the_first_one_stalls(
    place: Place, first: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stalls, "STALL_S", 0.5)
    place.put(LARGE, first, after(first))
    place.proxies[first].stall(after=6 * MIB, times=None)
    begin = time.monotonic()
    with place.vdir() as vdir:
        assert b"".join(vdir.cat("/f")) == LARGE
    assert time.monotonic() - begin < 15
    assert 0 < place.bytes_read(after(first)) < len(LARGE)
    place.proxies[first].heal()


def test_a_download_goes_on_where_the_first_replica_stalls(
    place: Place, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stalls, "STALL_S", 0.5)
    place.put(LARGE, "aws", "dav")
    place.proxies["aws"].stall(after=6 * MIB, times=None)
    with place.vdir() as vdir:
        assert vdir.get("/f", str(tmp_path / "back") + "/").files == 1
    assert read_tree(tmp_path / "back") == {"f": LARGE}
    assert (tmp_path / "back/f").stat().st_mtime_ns == (tmp_path / "source").stat().st_mtime_ns
    assert 0 < place.bytes_read("dav") < len(LARGE)
    place.proxies["aws"].heal()


@pytest.mark.parametrize("first", FIRST)
def test_many_small_files_come_from_the_next_replica_where_the_first_one_stalls(
    place: Place, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, first: str
) -> None:
    monkeypatch.setattr(stalls, "STALL_S", 0.5)
    files = {f"f{i}": bytes([i]) * 50_000 for i in range(100)}
    source = write_tree(tmp_path / "many", files)
    with place.vdir() as vdir:
        vdir.put(str(source), "/many", to=[first, "one"], recursive=True)
        vdir.prefer("/many", [first])
        place.proxies[first].stall(after=300_000, times=None)
        begin = time.monotonic()
        assert vdir.get("/many", str(tmp_path / "back"), recursive=True).files == 100
        assert time.monotonic() - begin < 15
        assert read_tree(tmp_path / "back") == files
        place.proxies[first].heal()


@pytest.mark.parametrize("first", FIRST)
def test_a_command_ends_although_a_service_hangs_that_it_has_given_up(place: Place, tmp_path: Path, first: str) -> None:
    place.put(SMALL[:1000], first, "one")
    place.proxies[first].stall(after=0, times=None)
    program = (
        "import sys; from cloudmesh.cdir.main import CDIR; from cloudmesh.vdir import stalls; stalls.STALL_S = 0.5;"
        "sys.exit(CDIR.run(sys.argv[1:]))"
    )
    command = [sys.executable, "-c", program, "get", "/f", str(tmp_path / "back")]
    assert subprocess.run(command, timeout=30, check=False).returncode == 0
    assert (tmp_path / "back").read_bytes() == SMALL[:1000]
    place.proxies[first].heal()


def test_the_user_s_own_bandwidth_limit_is_no_stall(
    place: Place, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stalls, "STALL_S", 0.1)
    place.put(SMALL, "aws", "dav")
    with place.vdir() as vdir:
        vdir.get("/f", str(tmp_path / "back"), options=Selection(bwlimit="2M"))
    assert (tmp_path / "back").read_bytes() == SMALL
    assert place.bytes_read("dav") == 0


def test_a_process_ends_although_a_service_stalls(place: Place) -> None:
    place.put(LARGE, "aws", "dav")
    place.proxies["aws"].stall(after=6 * MIB, times=None)
    code = (
        "import sys; from cloudmesh.vdir import Vdir, stalls; stalls.STALL_S = 0.5\n"
        "with Vdir() as vdir:\n    sys.stdout.buffer.writelines(vdir.cat('/f'))"
    )
    begin = time.monotonic()
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout == LARGE
    assert time.monotonic() - begin < 30
    place.proxies["aws"].heal()


@pytest.mark.parametrize("first", FIRST)
def test_a_file_that_is_replaced_meanwhile_is_never_mixed_with_another(place: Place, first: str) -> None:
    place.put(LARGE, first, "one")
    place.proxies[first].stall(after=6 * MIB)
    with place.vdir() as vdir, vdir.open("/f") as reader:
        pieces = iter(reader)
        got = [next(pieces)]
        written = int(time.time())
        while int(time.time()) == written:  # WsgiDAV's ETag is made of inode, size and whole seconds
            time.sleep(0.01)
        place.services.open(first).write("f", Content.of_bytes(LARGE[::-1]))
        place.proxies[first].drop()
        got += pieces
        assert b"".join(got) == LARGE
        assert 0 < place.bytes_read("one") <= len(LARGE)
    (place.tmp_path / "one/f").unlink()
    place.proxies[first].heal()
    with place.vdir() as vdir, pytest.raises(StorageError):
        b"".join(vdir.cat("/f"))


def test_what_nothing_proves_to_be_the_same_is_not_gone_on_with(place: Place) -> None:
    """Of files that were only registered no hash is known: after the first byte only an error is honest."""
    for name in ("one", "two"):
        (place.tmp_path / name).mkdir()
        (place.tmp_path / name / "f").write_bytes(LARGE)
        os.utime(place.tmp_path / name / "f", ns=(1, 1))
    with place.vdir() as vdir:
        vdir.add("one:f", "/f")
        vdir.copy("/f", to=["two"])
        vdir.prefer("/f", ["one"])
        node = vdir._catalogue.lookup("f")
        vdir._catalogue.set_content(node.id, version=1, size=node.size, mtime_ns=node.mtime_ns, sha256=None)
        with vdir.open("/f") as reader:
            pieces = iter(reader)
            next(pieces)
            os.truncate(place.tmp_path / "one/f", MIB)
            with pytest.raises(SourceChanged):
                list(pieces)
        assert b"".join(vdir.cat("/f")) == LARGE, "before the first byte another one may be taken"


# ---- wrong bytes ---------------------------------------------------------------------------------------------------


def test_a_small_file_is_right_before_its_first_byte_is_given(place: Place) -> None:
    place.put(SMALL, "one", "two")
    place.flip("one", 0)
    with place.vdir() as vdir:
        assert b"".join(vdir.cat("/f")) == SMALL
        assert place.failures() == {"one": 1, "two": 0}
        with pytest.raises(ChecksumMismatch, match="one:f"):
            vdir.open("one:/f")
        assert place.failures() == {"one": 2, "two": 0}
        place.flip("one", 0)
        assert vdir.open("one:/f").read() == SMALL
        assert place.failures() == {"one": 0, "two": 0}, "a right reading takes the count back"


def test_a_large_file_with_wrong_bytes_is_never_given_whole_and_the_next_time_another_one_is_read(place: Place) -> None:
    place.put(LARGE, "one", "two")
    place.flip("one", len(LARGE) // 2)
    got: list[bytes] = []
    with place.vdir() as vdir:
        with pytest.raises(ChecksumMismatch, match="one:f"):
            got.extend(vdir.cat("/f"))
        assert len(b"".join(got)) < len(LARGE)
        assert b"".join(vdir.cat("/f")) == LARGE


@pytest.mark.parametrize("content", [b"x" * 1000, SMALL, LARGE], ids=["tiny", "small", "large"])
def test_a_download_of_a_damaged_replica_begins_anew_from_the_next_one(
    place: Place, tmp_path: Path, content: bytes
) -> None:
    place.put(content, "one", "two")
    place.flip("one", len(content) // 2)
    with place.vdir() as vdir:
        assert vdir.get("/f", str(tmp_path / "back") + "/").files == 1
        assert read_tree(tmp_path / "back") == {"f": content}
        assert place.failures() == {"one": 1, "two": 0}
        place.flip("two", 0)
        with pytest.raises(ChecksumMismatch):
            vdir.get("/f", str(tmp_path / "again"))
        assert not (tmp_path / "again").exists()


@pytest.mark.parametrize("first", FIRST)
def test_a_truncated_replica_gives_no_byte(place: Place, first: str) -> None:
    place.put(LARGE, first, after(first))
    place.services.open(first).write("f", Content.of_bytes(LARGE[:-1]))
    with place.vdir() as vdir:
        assert b"".join(vdir.cat("/f")) == LARGE
    assert place.failures() == {first: 1, after(first): 0}


def test_a_lost_replica_is_suspicious_also_where_small_files_are_downloaded(place: Place, tmp_path: Path) -> None:
    place.put(b"tiny", "one", "two")
    (tmp_path / "one/f").unlink()
    with place.vdir() as vdir:
        assert vdir.get("/f", str(tmp_path / "back")).files == 1
        assert place.failures() == {"one": 1, "two": 0}
        (tmp_path / "two/f").unlink()
        with pytest.raises(NotFound):
            vdir.open("/f")


# ---- ranges --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("service", [*FIRST, "one"])
def test_a_range_is_the_bytes_asked_for(place: Place, service: str) -> None:
    place.put(LARGE, service)
    size = len(LARGE)
    asked = [(0, 1), (5, 10), (size - 3, None), (-4, None), (-4, 2), (0, size + 1), (size, None), (size + 9, 4), (7, 0)]
    with place.vdir() as vdir:
        for start, length in asked:
            begin = max(0, size + start) if start < 0 else start
            with vdir.open("/f", start, length) as reader:
                wanted = LARGE[begin:] if length is None else LARGE[begin : begin + length]
                assert reader.read() == wanted, (start, length)
                assert reader.entry.size == size
                assert reader.entry.hashes["sha256"] == hashlib.sha256(LARGE).hexdigest()


@pytest.mark.parametrize("first", FIRST)
def test_a_range_goes_on_too(place: Place, first: str) -> None:
    place.put(LARGE, first, after(first))
    place.proxies[first].stall(after=6 * MIB)
    with place.vdir() as vdir, vdir.open("/f", 1000, 12 * MIB) as reader:
        pieces = iter(reader)
        got = [next(pieces)]
        place.proxies[first].refuse()
        got += pieces
    assert b"".join(got) == LARGE[1000 : 1000 + 12 * MIB]


def test_a_range_of_a_replica_that_was_changed_is_not_given(place: Place) -> None:
    place.put(LARGE, "one")
    (place.tmp_path / "one/f").write_bytes(LARGE[::-1])
    with place.vdir() as vdir, pytest.raises(PreconditionFailed):
        vdir.open("/f", 0, 10)


def test_an_empty_file(place: Place) -> None:
    place.put(b"", "aws", "one")
    with place.vdir() as vdir:
        assert vdir.open("/f").read() == vdir.open("/f", 5).read() == vdir.open("/f", -5).read() == b""
        assert list(vdir.cat("/f")) == []
