"""`Vdir.write`: a stream becomes a name's content, on several services, or nothing has changed."""

from __future__ import annotations

import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from cloudmesh.storage.errors import (
    AlreadyExists,
    IsADirectory,
    NotADirectory,
    PreconditionFailed,
    SourceChanged,
    StorageError,
)
from cloudmesh.vdir import Vdir
from cloudmesh.vdir.records import NameInfo
from deploy.servers import SeaweedFS
from tests.places import configure, local, read_tree


@pytest.fixture
def roots(home: Path, tmp_path: Path, seaweedfs: SeaweedFS) -> dict[str, Path]:
    roots = {name: tmp_path / name for name in ("one", "two")}
    aws = seaweedfs.settings("aws", bucket=seaweedfs.make_bucket())
    configure(home, [*(local(name, root) for name, root in roots.items()), aws])
    return roots


@pytest.fixture
def vdir(roots: dict[str, Path]) -> Iterator[Vdir]:
    with Vdir() as opened:
        yield opened


def test_a_stream_becomes_a_file_on_each_service(vdir: Vdir, roots: dict[str, Path]) -> None:
    pieces = [b"alpha", b"", b"beta" * 500_000]
    info = vdir.write("/a/b.bin", iter(pieces), to=["one", "two", "aws"])
    assert (info.size, info.services, info.version) == (2_000_005, ["aws", "one", "two"], 1)
    assert read_tree(roots["one"]) == read_tree(roots["two"]) == {"a/b.bin": b"".join(pieces)}
    assert b"".join(vdir.cat("aws:/a/b.bin")) == b"".join(pieces)


def test_a_new_content_is_a_new_version_everywhere(vdir: Vdir, roots: dict[str, Path]) -> None:
    vdir.write("/a", [b"first"], to=["one", "aws"])
    info = vdir.write("/a", [b"second"], to=["two"])
    assert (info.version, info.services) == (2, ["aws", "one", "two"])
    assert {read_tree(root).pop("a") for root in roots.values()} == {b"second"}


def test_a_stream_that_fails_leaves_all_as_it_was(vdir: Vdir, roots: dict[str, Path]) -> None:
    vdir.write("/a", [b"first"], to=["one"])

    def broken() -> Iterator[bytes]:
        yield b"half"
        raise PreconditionFailed("stream", "cut")

    with pytest.raises(PreconditionFailed, match="cut"):
        vdir.write("/a", broken())
    with pytest.raises(SourceChanged):
        vdir.write("/a", [b"short"], size=10, to=["one"])
    with pytest.raises(SourceChanged):
        vdir.write("/new", [b"long"], size=1, to=["one"])
    assert [one.path for one in vdir.ls("/")] == ["/a"]
    assert read_tree(roots["one"]) == {"a": b"first"}


def test_what_no_service_takes_is_not_written(vdir: Vdir, roots: dict[str, Path]) -> None:
    for root in roots.values():
        root.mkdir()
        (root / "a").write_bytes(b"somebody's")
    with pytest.raises(AlreadyExists):
        vdir.write("/a", [b"ours"], to=["one", "two"], force=False)
    assert [read_tree(root) for root in roots.values()] == [{"a": b"somebody's"}] * 2
    assert not list(vdir.ls("/"))


def test_what_could_not_be_copied_again_is_not_written(vdir: Vdir, roots: dict[str, Path]) -> None:
    vdir.write("/a", [b"ours"], to=["one", "two"])
    for root in roots.values():
        (root / "a").write_bytes(b"somebody's")
    vdir.status("/a", check=True)
    with pytest.raises(StorageError):
        vdir.write("/a", [b"ours"], to=["one", "two"], force=False)
    assert [read_tree(root) for root in roots.values()] == [{"a": b"somebody's"}] * 2


def test_names_that_cannot_be(vdir: Vdir) -> None:
    vdir.mkdir("/d")
    vdir.write("/f", [b""], to=["one"])
    with pytest.raises(IsADirectory):
        vdir.write("/d", [b"x"], to=["one"])
    with pytest.raises(NotADirectory):
        vdir.write("/f/x", [b"x"], to=["one"])


@pytest.mark.parametrize("exists", [True, False], ids=["replacing", "creating"])
def test_of_two_writers_with_one_condition_one_is_refused(roots: dict[str, Path], exists: bool) -> None:
    with Vdir() as vdir:
        version = vdir.write("/x", [b"first"], to=["one"]).version if exists else None
    both = threading.Barrier(2)
    outcomes: list[str] = []

    def check(info: NameInfo | None) -> None:
        if (info.version if info else None) != version:
            raise PreconditionFailed("/x")

    def writer(data: bytes) -> None:
        def pieces() -> Iterator[bytes]:
            both.wait(10)
            yield data

        with Vdir() as vdir:
            try:
                vdir.write("/x", pieces(), to=["one"], check=check)
                outcomes.append(data.decode())
            except PreconditionFailed:
                outcomes.append("refused")

    threads = [threading.Thread(target=writer, args=(data,)) for data in (b"mine", b"yours")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(outcomes) == 2
    assert outcomes.count("refused") == 1
    winner = next(one for one in outcomes if one != "refused")
    assert read_tree(roots["one"])["x"] == winner.encode()


@pytest.mark.parametrize("verb", ["delete", "purge", "drop"])
def test_what_is_removed_under_a_condition_nobody_writes_meanwhile(roots: dict[str, Path], verb: str) -> None:
    seen: list[NameInfo | None] = []

    def writes() -> None:
        with Vdir() as vdir:
            vdir.write("/x", [b"second"], check=seen.append)

    writer = threading.Thread(target=writes)

    def check(info: NameInfo) -> None:
        assert info.version == 1
        writer.start()
        writer.join(0.5)
        assert writer.is_alive()
        assert len(seen) < 2

    with Vdir() as vdir:
        vdir.write("/x", [b"first"], to=["one", "two"])
        if verb == "drop":
            vdir.drop("/x", from_=["two"], check=check)
        else:
            vdir.delete("/x", purge=verb == "purge", accept_loss=True, check=check)
        writer.join()
        assert [one and one.services for one in seen] == [["one", "two"], ["one"] if verb == "drop" else None]
        assert vdir.info("/x").version == (2 if verb == "drop" else 1)


def test_what_a_condition_refuses_stays_as_it_was(vdir: Vdir, roots: dict[str, Path]) -> None:
    info = vdir.write("/d/x", [b"first"], to=["one", "two"])

    def refuse(there: NameInfo | None) -> None:
        assert there in (info, None)
        raise PreconditionFailed("/d/x")

    for change in (
        lambda: vdir.write("/d/x", [b"second"], check=refuse),
        lambda: vdir.write("/new/y", [b"second"], to=["one"], check=refuse),
        lambda: vdir.delete("/d/x", check=refuse),
        lambda: vdir.delete("/d/x", purge=True, accept_loss=True, check=refuse),
        lambda: vdir.drop("/d/x", from_=["two"], check=refuse),
    ):
        with pytest.raises(PreconditionFailed):
            change()
    assert [one.path for one in vdir.ls("/", recursive=True)] == ["/d", "/d/x"]
    assert vdir.info("/d/x") == info
    assert read_tree(roots["one"]) == read_tree(roots["two"]) == {"d/x": b"first"}


KILLED = """
import os, signal
from cloudmesh.vdir import Vdir

def pieces():
    yield b"x" * 10_000_000
    os.kill(os.getpid(), signal.SIGKILL)

Vdir().write("/a/killed", pieces(), to=["one"])
"""


def test_what_a_killed_upload_left_is_swept(vdir: Vdir, roots: dict[str, Path]) -> None:
    vdir.write("/a/b", [b"first"], to=["one"])
    assert subprocess.run([sys.executable, "-c", KILLED]).returncode == -signal.SIGKILL
    assert len(read_tree(roots["one"])) == 2
    assert [one.name for one in vdir.ls("/a")] == ["b"]
    vdir.sync("/")
    assert read_tree(roots["one"]) == {"a/b": b"first"}
