"""Many small files over SFTP: what is under way when the line, the server or the disk gives out."""

from __future__ import annotations

import os
import shlex
import signal
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import replace
from itertools import islice
from pathlib import Path

import pytest

from cloudmesh.storage.abc import Content, Entry, Loaded, ReadRequest, ServiceSettings, Timeouts, WriteRequest
from cloudmesh.storage.errors import (
    AlreadyExists,
    NotFound,
    PermissionDenied,
    QuotaExceeded,
    StorageError,
    Unavailable,
)
from cloudmesh.storage.paths import TEMPORARY_PREFIX
from cloudmesh.storage.providers.sftp import SftpStorage
from deploy.servers import OpenSsh
from tests.faults import FaultProxy
from tests.small_disk import own_mounts
from tests.storage.providers.test_sftp import LimitedSsh

Opens = Callable[..., SftpStorage]
COUNT = 200
DATA = bytes(range(256)) * 16


@pytest.fixture
def opened() -> Iterator[Callable[[ServiceSettings], SftpStorage]]:
    """Makes providers of settings."""
    made: list[SftpStorage] = []

    def make(settings: ServiceSettings) -> SftpStorage:
        made.append(SftpStorage(replace(settings, timeouts=Timeouts(connect=10, read=20))))
        return made[-1]

    yield make
    for storage in made:
        storage.close()


def writes(count: int = COUNT) -> Iterator[WriteRequest]:
    for number in range(count):
        yield WriteRequest(f"d{number % 5}/f{number}", b"%d " % number + DATA)


def files_of(directory: Path) -> dict[str, bytes]:
    return {
        str(file.relative_to(directory)): file.read_bytes()
        for file in directory.rglob("*")
        if file.is_file() and not file.name.startswith(TEMPORARY_PREFIX)
    }


def leftovers(directory: Path) -> list[Path]:
    return list(directory.rglob(f"{TEMPORARY_PREFIX}*"))


@pytest.mark.parametrize("after", [3_000, 100_000, 400_000])
def test_connection_cut_in_the_middle_of_writes(
    opened: Opens, openssh: OpenSsh, fault_proxy: Callable[[int], FaultProxy], after: int
) -> None:
    folder = openssh.data / f"cut-{after}"
    proxy = fault_proxy(openssh.port)
    storage = opened(openssh.settings("nas", port=proxy.port, root=folder.name))
    storage.make_dir("d0")
    proxy.cut(after=after, direction="up")
    results = list(storage.write_many(writes()))
    assert proxy.fired
    assert len(results) == len({request.path for request, _ in results}) == COUNT
    failed = [result for _, result in results if isinstance(result, StorageError)]
    assert 0 < len(failed) < COUNT
    assert all(isinstance(error, Unavailable) for error in failed)
    there = files_of(folder)
    for request, result in results:
        if isinstance(result, Entry):
            assert there[request.path] == request.data
    # What the server began when the line broke goes with the next write at the latest.
    again = [request for request, result in results if isinstance(result, StorageError)]
    assert all(isinstance(result, Entry) for _, result in storage.write_many(again))
    assert files_of(folder) == {request.path: request.data for request in writes()}
    assert not leftovers(folder)


def test_connection_cut_in_the_middle_of_reads(
    opened: Opens, openssh: OpenSsh, fault_proxy: Callable[[int], FaultProxy]
) -> None:
    proxy = fault_proxy(openssh.port)
    storage = opened(openssh.settings("nas", port=proxy.port, root="cut-reads"))
    assert all(isinstance(result, Entry) for _, result in storage.write_many(writes()))
    proxy.cut(after=200_000)
    results = list(storage.read_many(ReadRequest(request.path, context=request.data) for request in writes()))
    assert proxy.fired
    assert len(results) == COUNT
    failed = [result for _, result in results if isinstance(result, StorageError)]
    assert 0 < len(failed) < COUNT
    assert all(isinstance(error, Unavailable) for error in failed)
    for request, result in results:
        assert isinstance(result, StorageError) or result.data == request.context


def test_server_killed(opened: Opens, server_directory: Path) -> None:
    with OpenSsh(server_directory / "killed") as server:
        storage = opened(server.settings("nas", root="killed"))
        results = []
        for step in storage.write_many(writes()):
            results.append(step)
            if len(results) == 20:
                children = Path(f"/proc/{server.pid}/task/{server.pid}/children").read_text().split()
                os.kill(server.pid, signal.SIGKILL)
                for child in children:
                    os.kill(int(child), signal.SIGKILL)
        folder = server.data / "killed"
    assert len(results) == COUNT
    assert all(isinstance(result, Entry) for _, result in results[:20])
    assert isinstance(results[-1][1], Unavailable)
    there = files_of(folder)
    for request, result in results:
        if isinstance(result, Entry):
            assert there[request.path] == request.data
        else:
            assert isinstance(result, Unavailable)


def test_link_that_leads_out_and_files_that_are_none(opened: Opens, openssh: OpenSsh, tmp_path: Path) -> None:
    folder = openssh.data / "among"
    storage = opened(openssh.settings("nas", root="among"))
    assert all(isinstance(result, Entry) for _, result in storage.write_many(writes(20)))
    (tmp_path / "secret").write_bytes(b"secret")
    (folder / "out").symlink_to(tmp_path)
    (folder / "inside").symlink_to(folder / "d0" / "f0")
    os.mkfifo(folder / "pipe")
    bad = {"out/secret": PermissionDenied, "pipe": NotFound, "d0/nothing": NotFound}
    requests = [ReadRequest(request.path) for request in writes(20)]
    requests[7:7] = [ReadRequest("inside"), *map(ReadRequest, bad)]
    results = {request.path: result for request, result in storage.read_many(requests)}
    assert len(results) == 24
    assert {path: type(found) for path, found in results.items() if isinstance(found, StorageError)} == bad
    inside = results["inside"]
    assert isinstance(inside, Loaded)
    assert inside.data == b"0 " + DATA
    [(_, refused)] = storage.write_many([WriteRequest("out/new", b"new")])
    assert isinstance(refused, PermissionDenied)
    assert os.listdir(tmp_path) == ["secret"]


def test_forbidden_directory_among_many(opened: Opens, openssh: OpenSsh) -> None:
    storage = opened(openssh.settings("nas", root="/"))
    requests = [WriteRequest(f"{openssh.data}/many/f{number}".lstrip("/"), DATA) for number in range(40)]
    requests.insert(20, WriteRequest("proc/self/forbidden", DATA))
    results = {request.path: result for request, result in storage.write_many(requests)}
    failed = {path: type(result) for path, result in results.items() if isinstance(result, StorageError)}
    with pytest.raises(StorageError) as single:
        storage.write("proc/self/forbidden", Content.of_bytes(DATA))
    assert failed == {"proc/self/forbidden": single.type}
    assert len(files_of(openssh.data / "many")) == 40


def test_full_disk(opened: Opens, server_directory: Path) -> None:
    folder = server_directory / "small-batch"
    server = LimitedSsh(folder, str(folder / "sftp-server"))
    disk = server.data / "disk"
    disk.mkdir(parents=True)
    # One disk for all connections: they enter the mounts of a process that waits.
    script = f"mount -t tmpfs -o size=1m none {disk} && echo ready && exec cat"
    with subprocess.Popen([*own_mounts(), "sh", "-c", script], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as keeper:
        assert keeper.stdin is not None
        assert keeper.stdout is not None
        assert keeper.stdout.readline() == b"ready\n"
        user = [] if os.geteuid() == 0 else ["--user", "--preserve-credentials"]
        enter = ["nsenter", "--target", str(keeper.pid), "--mount", *user, "/usr/lib/openssh/sftp-server"]
        program = folder / "sftp-server"
        program.write_text(f"#!/bin/sh\nexec {shlex.join(enter)}\n")
        program.chmod(0o755)
        with server:
            storage = opened(server.settings("small", root="disk"))
            results = list(storage.write_many(WriteRequest(f"f{number}", bytes(64 * 1024)) for number in range(30)))
            stored = {request.path for request, result in results if isinstance(result, Entry)}
            assert 10 < len(stored) < 17
            assert all(isinstance(result, Entry | QuotaExceeded) for _, result in results)
            found = list(storage.scan(""))
            assert {entry.name: entry.size for entry in found} == dict.fromkeys(stored, 64 * 1024)
            for entry in found:
                storage.remove(entry.path)
            # Nothing unseen is left that would still take room.
            assert storage.usage().used == 0
        keeper.stdin.close()


def test_given_up(opened: Opens, openssh: OpenSsh) -> None:
    folder = openssh.data / "given-up"
    storage = opened(openssh.settings("nas", root="given-up"))
    writing = storage.write_many(writes())
    done = list(islice(writing, 30))
    writing.close()  # type: ignore[attr-defined]
    assert not leftovers(folder)
    there = files_of(folder)
    assert all(there[request.path] == request.data for request, _ in done)
    assert len(there) < COUNT


def test_create_and_permissions(opened: Opens, openssh: OpenSsh) -> None:
    folder = openssh.data / "modes"
    storage = opened(openssh.settings("nas", root="modes"))
    [(_, made)] = storage.write_many([WriteRequest("f", b"old", 1_600_000_000_000_000_000)])
    assert isinstance(made, Entry)
    assert made == storage.stat("f")
    (folder / "f").chmod(0o750)
    [(_, refused)] = storage.write_many([WriteRequest("f", b"new", mode="create")])
    assert isinstance(refused, AlreadyExists)
    [(_, replaced)] = storage.write_many([WriteRequest("f", b"new")])
    assert isinstance(replaced, Entry)
    assert (folder / "f").read_bytes() == b"new"
    assert (folder / "f").stat().st_mode & 0o777 == 0o750
    assert os.listdir(folder) == ["f"]


def test_server_without_posix_rename(opened: Opens, server_directory: Path) -> None:
    with LimitedSsh(server_directory / "no-rename", "/usr/lib/openssh/sftp-server -P posix-rename") as server:
        storage = opened(server.settings("old"))
        for data in (b"old", b"new"):
            requests = [WriteRequest(f"f{number}", data) for number in range(5)]
            assert all(isinstance(result, Entry) for _, result in storage.write_many(requests))
        assert files_of(server.data) == {f"f{number}": b"new" for number in range(5)}
        assert not leftovers(server.data)
