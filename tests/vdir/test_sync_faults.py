"""`sync` while services fail in every way: it tells, loses nothing, and when they are well one more run mends it all.

Each service is a real server behind two proxies, one for connections and, where it speaks HTTP, one for requests;
beside them is a folder on the local disk, which never fails.
"""

from __future__ import annotations

import hashlib
import json
import os
import shlex
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass, replace
from itertools import cycle
from pathlib import Path
from typing import Any, Protocol

import pytest

from cloudmesh.cdir.main import CDIR
from cloudmesh.storage import Storage
from cloudmesh.storage.abc import Entry, ServiceSettings, StorageABC
from cloudmesh.storage.errors import Refused
from cloudmesh.storage.layers import Layer, Retry, RetryPolicy, find_layer
from cloudmesh.storage.paths import TEMPORARY_PREFIX
from cloudmesh.storage.services import Services
from cloudmesh.vdir import Vdir, stalls
from cloudmesh.vdir.records import SyncReport
from deploy.servers import OpenSsh, SeaweedFS, Server, StorageServer, Wsgidav
from tests.faults import FaultProxy, HttpFaults
from tests.places import configure, local, wait_for_tick, write_tree
from tests.small_disk import own_mounts

MIB = 1024 * 1024
LARGE = hashlib.shake_128(b"large").digest(4 * MIB)
NEWER = hashlib.shake_128(b"newer").digest(4 * MIB)
FILES = {"a.txt": b"alpha", "large": LARGE, "b/c": b"gamma"}
REMOTE = ["aws", "dav", "nas"]
HTTP = ["aws", "dav"]
HOUR_NS = 3600 * 10**9
FAST = RetryPolicy(attempts=2, base_seconds=0.01, cap_seconds=0.01)


@dataclass
class Place:
    """A service for each kind of server, and one on the local disk; ``/data`` on some of them."""

    home: Path
    folder: Path
    servers: dict[str, Any]
    proxies: dict[str, FaultProxy]
    fronts: dict[str, HttpFaults]
    services: Services
    settings: dict[str, ServiceSettings]
    bucket: str

    def vdir(self) -> Vdir:
        return Vdir(services=self.services)

    def put(self, *to: str, files: dict[str, bytes] | None = None) -> None:
        """Put files to services; they are then written long enough ago for all that tell times by the second."""
        source = write_tree(self.folder / "source", FILES if files is None else files)
        with self.vdir() as vdir:
            assert not vdir.put(str(source), "/data", to=["one", *to], recursive=True).errors

    def edit(self, name: str, content: bytes, *, age_s: float = 0.0) -> None:
        """Change a file on the local disk as somebody else would, so long ago."""
        path = self.folder / "one/data" / name
        path.write_bytes(content)
        when = time.time_ns() - int(age_s * 1e9)
        os.utime(path, ns=(when, when))

    def edit_on(self, service: str, name: str, content: bytes) -> None:
        """Change a file on a service as somebody else would."""
        if service == "aws":
            self.servers["aws"].client().put_object(Bucket=self.bucket, Key=f"data/{name}", Body=content)
        else:
            self.behind(service, name).write_bytes(content)

    def behind(self, service: str, name: str) -> Path:
        """Where a server keeps a file."""
        root: Path = self.folder / "one" if service == "one" else self.servers[service].data / self.folder.name
        return root / "data" / name

    def sync(self, directory: str = "/", **how: Any) -> SyncReport:
        with self.vdir() as vdir:
            return vdir.sync(directory, **how)

    def fails(self, *services: str) -> SyncReport:
        """Sync while services fail; each of them is told, and nothing that can be read is wrong."""
        report = self.sync()
        assert report.failed
        told = "\n".join(f"{one.name}: {one.error}" for one in report.failures)
        for service in services:
            assert service in told, told
        return report

    def holds(self, service: str, name: str) -> bytes | None:
        """Return what a file is, past all proxies and all of our program."""
        if service == "aws":
            client = self.servers["aws"].client()
            try:
                content: bytes = client.get_object(Bucket=self.bucket, Key=f"data/{name}")["Body"].read()
            except client.exceptions.NoSuchKey:
                return None
            return content
        file = self.behind(service, name)
        return file.read_bytes() if file.is_file() else None

    def heal(self) -> None:
        for front in (*self.proxies.values(), *self.fronts.values()):
            front.drop()  # nothing that was stalled arrives after all
            front.heal()

    def is_right(self, files: dict[str, bytes], *services: str) -> None:
        """One more sync makes everything right, the next one finds nothing to do, and nothing of ours is left over."""
        self.heal()
        self.services.close()
        report = self.sync()
        assert not report.failed, report.failures
        again = self.sync()
        assert (again.files, again.removed, again.versions, again.errors) == (0, 0, 0, 0), again
        assert not self.sync(), "what a service told no token of when it was written has been read once, by now"
        assert CDIR.run(["sync", "/"]) == 0
        with self.vdir() as vdir:
            assert not vdir.status("/", check=True).problems
            assert {f"/data/{name}" for name in files} == {
                one.path for one in vdir.ls("/", recursive=True) if one.kind == "file"
            }
        for service in ("one", *services):
            for name, content in files.items():
                assert self.holds(service, name) == content, f"{name} on {service}"
        self.nothing_is_left_over()

    def nothing_is_left_over(self) -> None:
        client = self.servers["aws"].client()
        keys = [one["Key"] for one in client.list_objects_v2(Bucket=self.bucket).get("Contents", ())]
        assert not [key for key in keys if TEMPORARY_PREFIX in key]
        assert not client.list_multipart_uploads(Bucket=self.bucket).get("Uploads")
        for service in ("one", "dav", "nas"):
            assert not list(self.behind(service, "").parent.rglob(f"{TEMPORARY_PREFIX}*"))


@pytest.fixture
def place(
    home: Path,
    tmp_path: Path,
    seaweedfs: SeaweedFS,
    wsgidav: Wsgidav,
    openssh: OpenSsh,
    fault_proxy: Callable[[int], FaultProxy],
    http_faults: Callable[[int], HttpFaults],
) -> Iterator[Place]:
    servers: dict[str, StorageServer] = {"aws": seaweedfs, "dav": wsgidav, "nas": openssh}
    fronts = {name: http_faults(servers[name].port) for name in HTTP}
    proxies = {name: fault_proxy(fronts[name].port if name in fronts else servers[name].port) for name in servers}
    bucket = seaweedfs.make_bucket()
    root = tmp_path.name
    settings = {
        "aws": seaweedfs.settings("aws", bucket=bucket, port=proxies["aws"].port),
        "dav": wsgidav.settings("dav", root=root, port=proxies["dav"].port),
        "nas": openssh.settings("nas", root=root, port=proxies["nas"].port),
    }
    impatient = {name: replace(one, options={"read_timeout": 1.5, "parallel": 4}) for name, one in settings.items()}
    configure(home, [*impatient.values(), local("one", tmp_path / "one")])
    services = Services()
    plain = services.open

    def opened(name: str) -> StorageABC:
        service = plain(name)
        retry = find_layer(service, Retry)
        assert retry is not None
        retry.policy = FAST
        return service

    services.open = opened  # type: ignore[method-assign]
    yield Place(home, tmp_path, servers, proxies, fronts, services, impatient, bucket)
    services.close()


# ---- connections ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("fault", ["cut", "reset", "stall"])
@pytest.mark.parametrize("service", REMOTE)
def test_in_the_middle_of_a_write(place: Place, service: str, fault: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stalls, "STALL_S", 1.0)
    place.put(service)
    place.edit("large", NEWER)
    getattr(place.proxies[service], fault)(after=MIB, direction="up", times=None)
    begun = time.monotonic()
    place.fails(service)
    assert time.monotonic() - begun < 15
    assert place.holds(service, "large") == LARGE
    assert place.proxies[service].fired
    place.is_right(FILES | {"large": NEWER}, service)


class Late(Layer):
    """A service on which each write of a file arrives twice: one that was given up long ago comes just before."""

    def write(self, path: str, content: Any, **how: Any) -> Entry:
        if how.get("if_match") is not None:
            self.inner.write(path, content)
        return super().write(path, content, **how)


@pytest.mark.parametrize("service", ["one", *REMOTE])
def test_a_write_that_was_given_up_and_arrives_after_all(place: Place, service: str) -> None:
    other = "dav" if service == "one" else "one"
    place.put(*REMOTE)
    place.edit_on(other, "large", NEWER)
    wrap(place, service, Late)
    report = place.sync()
    assert (report.versions, report.files, report.errors) == (1, 3, 0), report.failures
    place.is_right(FILES | {"large": NEWER}, *REMOTE)


@pytest.mark.parametrize("service", REMOTE)
def test_a_write_that_stalled_and_goes_on_during_the_next_run(place: Place, service: str) -> None:
    place.put(service)
    place.edit("large", NEWER)
    place.proxies[service].stall(after=2 * MIB, direction="up", times=None)
    place.fails(service)
    place.proxies[service].heal()
    for _ in range(3):
        report = place.sync()
        assert not report.errors, report.failures
        assert place.holds(service, "large") == NEWER
    place.is_right(FILES | {"large": NEWER}, service)


@pytest.mark.parametrize("fault", ["cut", "stall"])
@pytest.mark.parametrize("service", REMOTE)
def test_in_the_middle_of_a_read(place: Place, service: str, fault: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stalls, "STALL_S", 1.0)
    place.put(service)
    place.edit_on(service, "large", NEWER)
    getattr(place.proxies[service], fault)(after=2 * MIB, direction="down", times=None)
    begun = time.monotonic()
    report = place.sync()  # it may go on where it was, on another connection
    assert time.monotonic() - begun < 15
    assert place.proxies[service].fired
    assert place.holds("one", "large") == (LARGE if report.failed else NEWER)
    place.is_right(FILES | {"large": NEWER}, service)


@pytest.mark.parametrize("service", REMOTE)
def test_a_stopped_server(place: Place, service: str) -> None:
    others = [one for one in REMOTE if one != service]
    place.put(*REMOTE)
    place.edit("a.txt", b"their newer work")
    server: Server = place.servers[service]
    server.kill()
    try:
        report = place.fails(service)
        assert (report.files, report.versions) == (2, 1), "the others went on"
    finally:
        server.start()
    assert place.holds(service, "a.txt") == b"alpha"
    assert [place.holds(one, "a.txt") for one in others] == [b"their newer work"] * 2
    place.is_right(FILES | {"a.txt": b"their newer work"}, *REMOTE)


# ---- answers -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("status", "method"), [(403, None), (403, "PUT"), (429, "PUT"), (500, None), (500, "PUT"), (507, "PUT")]
)
@pytest.mark.parametrize("service", HTTP)
def test_an_error_as_the_answer(place: Place, service: str, status: int, method: str | None) -> None:
    place.put(service)
    place.edit("a.txt", b"their newer work")
    place.fronts[service].answer(status, times=None, method=method)
    place.fails(service)
    assert place.holds(service, "a.txt") == b"alpha"
    place.is_right(FILES | {"a.txt": b"their newer work"}, service)


@pytest.mark.parametrize("service", HTTP)
def test_a_service_that_asks_to_wait_is_waited_for(place: Place, service: str) -> None:
    place.put(service)
    place.edit("a.txt", b"their newer work")
    place.fronts[service].answer(429, times=1, method="PUT", retry_after=1)
    begun = time.monotonic()
    assert not place.sync().failed
    assert time.monotonic() - begun >= 1
    assert place.fronts[service].fired == 1
    place.is_right(FILES | {"a.txt": b"their newer work"}, service)


def test_a_key_is_revoked(place: Place) -> None:
    place.put("aws", "nas")
    place.edit("a.txt", b"their newer work")
    seaweedfs, openssh = place.servers["aws"], place.servers["nas"]
    key, public = seaweedfs.secret_access_key, openssh.key_file.with_suffix(".pub")
    text = public.read_text()
    with restarted(seaweedfs):
        seaweedfs.secret_access_key = "another"
    public.write_text("")
    place.services.close()
    place.proxies["nas"].drop()
    try:
        place.fails("aws", "nas")
    finally:
        public.write_text(text)
        with restarted(seaweedfs):
            seaweedfs.secret_access_key = key
    assert place.holds("aws", "a.txt") == place.holds("nas", "a.txt") == b"alpha"
    place.is_right(FILES | {"a.txt": b"their newer work"}, "aws", "nas")


def wrap(place: Place, service: str, layer: Callable[[StorageABC], StorageABC]) -> None:
    """Put a layer around a service, as it is opened from now on."""
    opened = place.services.open
    wrapped: dict[str, StorageABC] = {}

    def behind_layer(name: str) -> StorageABC:
        if name not in wrapped:
            wrapped[name] = layer(opened(name)) if name == service else opened(name)
        return wrapped[name]

    place.services.open = behind_layer  # type: ignore[method-assign]


@contextmanager
def restarted(server: Server) -> Iterator[None]:
    """Stop a server for the block, and start it again."""
    server.stop()
    yield
    server.start()


# ---- disks ---------------------------------------------------------------------------------------------------------


class OnSmallDisk:
    """A disk of 6 MiB that processes can enter."""

    def __init__(self, mounted: Path) -> None:
        self.mounted = mounted
        mounted.mkdir(parents=True)
        script = f"mount -t tmpfs -o size=6m,mode=777 none {shlex.quote(str(mounted))} && echo ready && exec cat"
        command = [*own_mounts(), "sh", "-c", script]
        self.keeper = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        assert self.keeper.stdout is not None
        assert self.keeper.stdout.readline() == b"ready\n"
        user = [] if os.geteuid() == 0 else ["--user", "--preserve-credentials"]
        self.enter = ["nsenter", "--target", str(self.keeper.pid), "--mount", *user]

    def grow(self) -> None:
        subprocess.run([*self.enter, "mount", "-o", "remount,size=64m", str(self.mounted)], check=True)

    def read(self, name: str) -> bytes:
        return subprocess.run([*self.enter, "cat", str(self.mounted / name)], check=True, capture_output=True).stdout

    def names(self) -> list[str]:
        found = subprocess.run(
            [*self.enter, "find", str(self.mounted), "-type", "f", "-printf", "%P\n"],
            check=True,
            capture_output=True,
            text=True,
        )
        return sorted(found.stdout.splitlines())

    def close(self) -> None:
        self.keeper.communicate()


class Run(Protocol):
    """Runs a command of ``cdir``, which ends with ``code``, and returns its output; errors are returned with it."""

    def __call__(self, *arguments: str, code: int = 0) -> str: ...


@pytest.fixture
def small(
    request: pytest.FixtureRequest, home: Path, tmp_path: Path, server_directory: Path
) -> Iterator[tuple[OnSmallDisk, Run]]:
    """A small disk with a service called ``small``, beside ``one``, and how to run commands that can see it."""
    folder = server_directory / f"{request.param}-{tmp_path.name}"
    disk = OnSmallDisk(folder / "data/small")

    def run(*arguments: str, code: int = 0) -> str:
        command = [*disk.enter, sys.executable, "-m", "cloudmesh.cdir.main", *arguments]
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
        assert done.returncode == code, done.stdout + done.stderr
        return done.stdout + done.stderr if code else done.stdout

    with closing(disk), ExitStack() as stack:
        service = local("small", disk.mounted)
        if request.param != "local":
            server = SmallDav(folder, disk) if request.param == "dav" else SmallSsh(folder, disk)
            service = stack.enter_context(server).settings("small", root="small")
        configure(home, [service, local("one", tmp_path / "one")])
        yield disk, run


# WsgiDAV does not tell why it could not write
@pytest.mark.parametrize(
    ("small", "why"),
    [("dav", "the service is in trouble (HTTP 500)"), ("nas", "no room left"), ("local", "no room left")],
    indirect=["small"],
)
def test_a_full_disk(small: tuple[OnSmallDisk, Run], why: str, tmp_path: Path) -> None:
    (disk, run), one = small, tmp_path / "one"
    source = write_tree(tmp_path / "source", {"large": LARGE})
    run("put", str(source), "/data", "--to=one,small", "--recursive")
    (one / "data/large").write_bytes(NEWER)
    assert why in run("sync", "/", code=1)
    assert disk.read("data/large") == LARGE
    assert disk.names() == ["data/large"]
    assert (one / "data/large").read_bytes() == NEWER
    disk.grow()
    run("sync", "/")
    assert disk.read("data/large") == NEWER
    assert not [name for name in disk.names() if TEMPORARY_PREFIX in name]
    again = json.loads(run("sync", "/", "--output=json"))
    assert (again["files"], again["removed"], again["versions"]) == (0, 0, 0)
    assert sha256(LARGE) in run("history", "/data/large", "--output=json")


@pytest.mark.parametrize("small", ["nas", "local"], indirect=True)
def test_a_full_disk_in_put_and_copy(small: tuple[OnSmallDisk, Run], tmp_path: Path) -> None:
    disk, run = small
    source = str(write_tree(tmp_path / "source", {"large": LARGE}) / "large")
    run("put", source, "/data", "--to=small")
    for arguments in (["put", source, "/new", "--to=one,small"], ["copy", "/new", "--to=small"]):
        assert "no room left" in run(*arguments, code=1)
        assert disk.names() == ["data"]
        assert (tmp_path / "one/new").read_bytes() == LARGE
    assert "no room left" in run("put", source, "/only", "--to=small", code=1)
    assert disk.names() == ["data"]
    assert "/only" not in run("ls", "/")
    disk.grow()
    run("sync", "/")
    assert disk.read("new") == LARGE
    run("put", source, "/only", "--to=small")
    assert disk.read("only") == LARGE
    assert json.loads(run("sync", "/", "--output=json"))["files"] == 0


class SmallDav(Wsgidav):
    """WsgiDAV whose data lie on a small disk."""

    def __init__(self, directory: Path, disk: OnSmallDisk) -> None:
        super().__init__(directory)
        self._disk = disk

    def _command(self) -> list[str]:
        return [*self._disk.enter, *super()._command()]


class SmallSsh(OpenSsh):
    """OpenSSH whose SFTP server has a small disk."""

    def __init__(self, directory: Path, disk: OnSmallDisk) -> None:
        super().__init__(directory)
        self._disk = disk

    def _prepare(self) -> None:
        super()._prepare()
        program = self.directory / "sftp-server"
        program.write_text(f"#!/bin/sh\nexec {shlex.join([*self._disk.enter, '/usr/lib/openssh/sftp-server'])}\n")
        program.chmod(0o755)
        file = self.directory / "sshd_config"
        file.write_text(file.read_text().replace("Subsystem sftp internal-sftp", f"Subsystem sftp {program}"))


def sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


@pytest.mark.parametrize("looked", [False, True])
@pytest.mark.parametrize("damage", ["truncated", "flipped"])
@pytest.mark.parametrize("service", ["nas", "one"])
def test_damage_that_leaves_the_time(place: Place, service: str, damage: str, looked: bool) -> None:
    """Nobody has written: the others are right.

    Where size and time are as they were, a disk still tells that something was done to the file; of a server, only
    `verify --deep` sees it.
    """
    place.put("dav", "nas")
    age(place, "large")
    file = place.behind(service, "large")
    before = file.stat()
    wait_for_tick()
    if damage == "truncated":
        file.write_bytes(LARGE[:1000])
    else:
        file.write_bytes(bytes([LARGE[0] ^ 1]) + LARGE[1:])
    os.utime(file, ns=(before.st_atime_ns, before.st_mtime_ns))
    if looked:
        with place.vdir() as vdir:
            vdir.verify("/data")
            vdir.status("/data", check=True)
    if damage == "flipped" and service != "one":
        with place.vdir() as vdir:
            report = vdir.verify("/data", deep=True, repair=True)
            assert [(one.service, one.repaired) for one in report.services if one.repaired] == [(service, 1)], report
    place.is_right(FILES, "dav", "nas")


def test_flipped_bits_on_a_disk_are_seen_by_every_look(place: Place) -> None:
    place.put("dav")
    file = place.behind("one", "large")
    before = file.stat()
    wait_for_tick()
    file.write_bytes(bytes([LARGE[0] ^ 1]) + LARGE[1:])
    os.utime(file, ns=(before.st_atime_ns, before.st_mtime_ns))
    with place.vdir() as vdir:
        with pytest.raises(Refused, match="last good replica"):
            vdir.drop("/data/large", from_=["dav"])
        states = {one.service: one.state for one in vdir.status("/data/large", check=True).replicas}
        assert states == {"one": "bad", "dav": "available"}
        assert [one.bad for one in vdir.verify("/data").services if one.service == "one"] == [1]
    place.is_right(FILES, "dav")


def test_a_file_whose_attributes_were_set_is_read_once_and_is_no_change(place: Place) -> None:
    place.put("dav")
    wait_for_tick()
    place.behind("one", "large").chmod(0o600)

    def checked_ns() -> int:
        with place.vdir() as vdir:
            assert len(vdir.history("/data/large")) == 1
            found = [one for one in vdir.status("/data/large").replicas if one.service == "one"]
        assert [one.state for one in found] == ["available"]
        return found[0].checked_ns or 0

    before = checked_ns()
    assert place.sync().files == 0
    read = checked_ns()
    assert before < place.behind("one", "large").stat().st_ctime_ns < read
    assert place.sync().files == 0
    assert checked_ns() == read, "what is as it was then is not read again"


def age(place: Place, name: str) -> None:
    """Let a file be one that was written, and looked at, long ago."""
    for service in ("dav", "nas"):
        file = place.behind(service, name)
        os.utime(file, ns=(0, 1_600_000_000 * 10**9))
    assert not place.sync().failed
    assert not place.sync().failed


# ---- times ---------------------------------------------------------------------------------------------------------


class Shifted(Layer):
    """A service whose clock is off."""

    def __init__(self, inner: StorageABC, shift_ns: int) -> None:
        super().__init__(inner)
        self._shift_ns = shift_ns

    def _shifted(self, entry: Entry) -> Entry:
        changed_ns = None if entry.changed_ns is None else entry.changed_ns + self._shift_ns
        mtime_ns = entry.mtime_ns
        if mtime_ns is not None and self.inner.capabilities.mtime_precision_ns is None:
            mtime_ns += self._shift_ns  # it is the server's own
        return entry._replace(changed_ns=changed_ns, mtime_ns=mtime_ns)

    def stat(self, path: str) -> Entry:
        return self._shifted(super().stat(path))

    def scan(self, path: str = "", **how: Any) -> Iterator[Entry]:
        return map(self._shifted, super().scan(path, **how))

    def write(self, path: str, content: Any, **how: Any) -> Entry:
        entry = super().write(path, content, **how)
        if content.mtime_ns is None and entry.changed_ns is None and entry.mtime_ns is not None:
            return entry._replace(mtime_ns=entry.mtime_ns + self._shift_ns)
        return self._shifted(entry)

    def write_many(self, requests: Any) -> Iterator[Any]:
        for request, result in super().write_many(requests):
            yield request, self._shifted(result) if isinstance(result, Entry) else result


@pytest.mark.parametrize("hours", [-1, 1])
@pytest.mark.parametrize("newest", ["aws", "one"])
def test_a_clock_that_is_an_hour_off(place: Place, newest: str, hours: int) -> None:
    wrap(place, "aws", lambda inner: Shifted(inner, hours * HOUR_NS))
    place.put("aws")
    place.edit_on("aws", "a.txt", b"of aws")
    place.edit("a.txt", b"of one", age_s=100 if newest == "aws" else -100)
    report = place.sync()
    assert (report.versions, report.conflicts, report.errors) == (1, 1, 0), report.failures
    assert place.holds("aws", "a.txt") == place.holds("one", "a.txt") == b"of %s" % newest.encode()
    assert not place.sync().files
    with place.vdir() as vdir:
        assert [one.size for one in vdir.history("/data/a.txt")] == [6, 6], "what lost is kept"
    place.nothing_is_left_over()


@pytest.mark.parametrize("hours", [-1, 0, 1])
def test_a_clock_that_tells_seconds_and_is_off(place: Place, hours: int) -> None:
    """What was written in the second in which it was seen is read once more, by the right time, and nothing else is."""
    wrap(place, "nas", lambda inner: Shifted(inner, hours * HOUR_NS))
    place.put("nas")

    def edit(content: bytes, second: int) -> None:
        place.edit_on("nas", "large", content)
        os.utime(place.behind("nas", "large"), (second + hours * 3600,) * 2)

    edit(NEWER, int(time.time()) - 10)
    assert place.sync().versions == 1
    read = place.proxies["nas"].passed["down"]
    assert not place.sync()
    assert place.proxies["nas"].passed["down"] - read < MIB
    now = 0
    contents = cycle((LARGE, NEWER))
    while now != int(time.time()):  # a busy machine needs longer to see it
        now = int(time.time())
        edit(next(contents), now)
        assert place.sync().versions == 1
    newest = next(contents)
    edit(newest, now)
    assert place.sync().versions == 1
    assert place.holds("one", "large") == newest
    place.nothing_is_left_over()


@pytest.mark.parametrize("apart_ns", [0, 400_000_000, 5 * 10**9])
def test_times_of_one_second_against_those_of_a_nanosecond(place: Place, apart_ns: int) -> None:
    """Within the coarser unit nobody can tell which one is newer: then every run decides the same way."""
    place.put("nas")
    contents = {"nas": b"of the nas", "one": b"of the one"}
    base_ns = (time.time_ns() // 10**9 - 100) * 10**9
    for service, content in contents.items():
        place.edit_on(service, "a.txt", content)
        file = place.behind(service, "a.txt")
        stamp_ns = base_ns + (apart_ns if service == "one" else 0)
        os.utime(file, ns=(stamp_ns, stamp_ns))
    winner = contents["one"] if apart_ns > 10**9 else max(contents.values(), key=sha256)
    report = place.sync()
    assert (report.versions, report.conflicts, report.errors) == (1, 1, 0), report.failures
    with place.vdir() as vdir:
        assert {one.sha256 for one in vdir.history("/data/a.txt")} >= {sha256(one) for one in contents.values()}
    place.is_right(FILES | {"a.txt": winner}, "nas")


# ---- listings ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("service", [*REMOTE, "one"])
def test_a_listing_that_is_wrongly_empty(place: Place, service: str) -> None:
    place.put(*REMOTE)
    with place.vdir() as vdir:
        vdir.rules.set("/data", deletes="propagate")
    root = place.behind(service, "").parent if service != "aws" else None
    if root is None:
        xml = (
            b"<ListBucketResult><Name>b</Name><KeyCount>0</KeyCount><IsTruncated>false</IsTruncated></ListBucketResult>"
        )
        headers = {"Content-Type": "application/xml"}
        place.fronts["aws"].answer(200, times=None, method="GET", path="list-type=2", headers=headers, body=xml)
    else:
        root.rename(root.with_name(f"{root.name} unmounted"))
        root.mkdir()
    report = place.sync()
    assert (report.files, report.removed, report.errors) == (0, 0, 1), report.failures
    assert report.failures[0].name == service
    assert "--accept-loss" in report.failures[0].error
    if root is not None:
        root.rmdir()
        root.with_name(f"{root.name} unmounted").rename(root)
    place.is_right(FILES, *REMOTE)


@pytest.mark.parametrize("service", REMOTE)
def test_a_service_that_has_lost_much(place: Place, service: str) -> None:
    many = {f"f{number:02}": b"%d" % number for number in range(40)}
    place.put(service, files=many)
    with Storage(services=place.services) as storage:
        for name in list(many)[:11]:
            storage.delete(f"{service}:data/{name}")
    report = place.sync()
    assert (report.files, report.errors) == (0, 1)
    assert "11 of 40" in report.failures[0].error
    assert CDIR.run(["sync", "/"]) == 1
    report = place.sync(accept_loss=True)
    assert (report.files, report.errors) == (11, 0), report.failures
    place.is_right(many, service)


@pytest.mark.parametrize("service", REMOTE)
def test_a_service_that_is_away_while_a_name_is_deleted(place: Place, service: str) -> None:
    others = [one for one in REMOTE if one != service]
    place.put(*REMOTE)
    with place.vdir() as vdir:
        vdir.rules.set("/data", deletes="propagate")
    place.proxies[service].refuse()
    place.behind("one", "a.txt").unlink()
    report = place.fails(service)
    assert report.removed == 1
    assert place.holds(service, "a.txt") == b"alpha"
    assert [place.holds(one, "a.txt") for one in others] == [None, None]
    place.is_right({name: content for name, content in FILES.items() if name != "a.txt"}, *REMOTE)
    assert place.holds(service, "a.txt") is None
