"""Two processes at once on one name: one does its work, the other one says so and changes nothing."""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from cloudmesh.storage.database import Database
from cloudmesh.storage.errors import PreconditionFailed, Refused
from cloudmesh.storage.providers.local import LocalStorage
from cloudmesh.vdir import Vdir, claims
from cloudmesh.vdir.catalogue import Catalogue
from cloudmesh.vdir.claims import Claims
from cloudmesh.vdir.nodes import NewFile, Replica
from tests.places import configure, local, read_tree, write_tree

FILES = {"a": b"alpha", "b": b"beta"}
NEW = {"a": b"alpha, newer", "b": b"beta"}

ACTS: dict[str, Callable[[Vdir, Path], Any]] = {
    "put": lambda vdir, source: vdir.put(str(source / "new"), "/t", to=["one"], recursive=True, force=True),
    "copy": lambda vdir, source: vdir.copy("/t", to=["three"], recursive=True),
    "drop": lambda vdir, source: vdir.drop("/t", from_=["two"], recursive=True),
    "delete": lambda vdir, source: vdir.delete("/t", recursive=True, purge=True, accept_loss=True),
    "sync": lambda vdir, source: vdir.sync("/t"),
}


@pytest.fixture
def roots(home: Path, tmp_path: Path, url: str, monkeypatch: pytest.MonkeyPatch) -> dict[str, Path]:
    """Two names on two of three services; the catalogue is on either database."""
    monkeypatch.setenv("CDIR_DATABASE", url)
    roots = {name: tmp_path / name for name in ("one", "two", "three")}
    configure(home, [local(name, root) for name, root in roots.items()])
    write_tree(tmp_path / "source/old", FILES)
    write_tree(tmp_path / "source/new", NEW)
    with Vdir() as vdir:
        vdir.put(str(tmp_path / "source/old"), "/t", to=["one", "two"], recursive=True)
    return roots


class Other:
    """A process that does something, and stops before a call: a copy of this one.

    Args:
        act: what.
        owner: of the method before which it stops.
        method: its name.
    """

    def __init__(self, act: Callable[[Vdir], Any], owner: type, method: str) -> None:
        self._ended = False
        self.process = os.fork()
        if self.process == 0:
            plain = getattr(owner, method)

            def stopping(*arguments: Any, **more: Any) -> Any:
                setattr(owner, method, plain)
                os.kill(os.getpid(), signal.SIGSTOP)
                return plain(*arguments, **more)

            setattr(owner, method, stopping)
            code = 77
            try:
                with Vdir(parallel=1) as vdir:
                    code = min(getattr(act(vdir), "errors", 0), 70)
            except BaseException as error:
                print(repr(error), file=sys.stderr, flush=True)
            finally:
                os._exit(code)
        assert os.WIFSTOPPED(os.waitpid(self.process, os.WUNTRACED)[1]), "it ended before the call"

    def wake(self) -> int:
        """Let it go on, and return how it ended: the number of its failures."""
        os.kill(self.process, signal.SIGCONT)
        return self._end()

    def kill(self) -> None:
        """Kill it, if it is there still."""
        if not self._ended:
            os.kill(self.process, signal.SIGKILL)
            self._end()

    def _end(self) -> int:
        self._ended = True
        return os.waitstatus_to_exitcode(os.waitpid(self.process, 0)[1])


@pytest.fixture
def other() -> Iterator[Callable[..., Other]]:
    """Makes an `Other`; killed with the test."""
    with ExitStack() as stack:

        def make(act: Callable[[Vdir], Any], owner: type, method: str) -> Other:
            made = Other(act, owner, method)
            stack.callback(made.kill)
            return made

        yield make


def rows(table: str) -> list[Any]:
    with Database() as database, database.read() as connection:
        return list(connection.exec_driver_sql(f"SELECT * FROM {table}").all())


def contents(roots: dict[str, Path]) -> dict[str, bytes | None]:
    """Return what each service has of the name that is worked on; of the other one nothing is to be done."""
    return {name: read_tree(root).get("t/a") for name, root in roots.items()}


def until(is_so: Callable[[], bool]) -> None:
    """Try again and again, until the lease of a process that sleeps has ended."""
    deadline = time.monotonic() + 20
    while not is_so():
        assert time.monotonic() < deadline
        time.sleep(0.1)


def is_done(vdir: Vdir) -> bool:
    try:
        return not vdir.sync("/t").errors
    except Refused as error:
        assert "is being worked on by vdir put" in error.why  # noqa: PT017
        return False


@pytest.mark.parametrize("act", ACTS)
def test_names_that_another_process_works_on_are_left_alone(
    act: str, roots: dict[str, Path], tmp_path: Path, other: Callable[..., Other]
) -> None:
    put = ACTS["put"]
    process = other(lambda vdir: put(vdir, tmp_path / "source"), LocalStorage, "write")
    if act == "sync":
        (roots["two"] / "t/a").unlink()
    before = contents(roots)
    with Vdir() as vdir:
        try:
            told = [one.error for one in ACTS[act](vdir, tmp_path / "source").failures]
        except Refused as error:  # there was nothing else to be done
            told = [str(error)]
    assert contents(roots) == before
    assert told
    assert all(f"/t/a: is being worked on by vdir put, process {process.process} on " in one for one in told)
    assert all("run the same command again" in one for one in told)
    assert process.wake() == 0
    with Vdir() as vdir:
        assert not vdir.sync("/").errors
        assert (roots["one"] / "t/a").read_bytes() == (roots["two"] / "t/a").read_bytes() == NEW["a"]
    assert rows("claim") == rows("lease") == rows("intent") == []


def test_a_process_that_was_killed_holds_nothing(
    roots: dict[str, Path], tmp_path: Path, other: Callable[..., Other]
) -> None:
    put = ACTS["put"]
    process = other(lambda vdir: put(vdir, tmp_path / "source"), LocalStorage, "write")
    assert rows("claim")
    process.kill()
    with Vdir() as vdir:
        assert not put(vdir, tmp_path / "source").errors
        assert (roots["two"] / "t/a").read_bytes() == NEW["a"]
    assert rows("claim") == rows("lease") == rows("intent") == []


def test_a_process_that_slept_too_long_writes_nothing(
    roots: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, other: Callable[..., Other]
) -> None:
    monkeypatch.setattr(claims.Claims.__init__, "__defaults__", (0.5,))
    put = ACTS["put"]
    process = other(lambda vdir: put(vdir, tmp_path / "source"), Catalogue, "set_content")
    with Vdir() as vdir:
        until(lambda: is_done(vdir))
        history = [(one.version, one.size) for one in vdir.history("/t/a")]
    known = rows("replica"), rows("entry"), rows("version")
    assert process.wake() > 0, "it says that its name was taken over"
    assert (rows("replica"), rows("entry"), rows("version")) == known
    with Vdir() as vdir:
        assert not vdir.sync("/t").errors
        assert history[0] in [(one.version, one.size) for one in vdir.history("/t/a")]
        assert not vdir.status("/", check=True).problems
    assert rows("claim") == rows("lease") == rows("intent") == []


def test_a_process_that_slept_too_long_overwrites_no_old_content(
    roots: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, other: Callable[..., Other]
) -> None:
    monkeypatch.setattr(claims.Claims.__init__, "__defaults__", (0.5,))
    put = ACTS["put"]
    process = other(lambda vdir: put(vdir, tmp_path / "source"), LocalStorage, "copy_within")
    with Vdir() as vdir:
        until(lambda: not put(vdir, tmp_path / "source").errors)
    assert process.wake() > 0, "it says that its name was taken over"
    with Vdir() as vdir:
        assert not vdir.verify("/", deep=True).problems
        vdir.restore("/t/a", 1)
    assert contents(roots)["one"] == FILES["a"]


@pytest.mark.parametrize("act", ["drop", "delete"])
def test_a_process_that_slept_too_long_removes_nothing(
    act: str, roots: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, other: Callable[..., Other]
) -> None:
    monkeypatch.setattr(claims.Claims.__init__, "__defaults__", (0.5,))
    process = other(lambda vdir: ACTS[act](vdir, tmp_path), Catalogue, "update_replicas")
    with Vdir() as vdir:
        until(lambda: not ACTS["put"](vdir, tmp_path / "source").errors)
    before = {name: read_tree(root) for name, root in roots.items()}
    assert process.wake() > 0, "it says that its names were taken over"
    assert {name: read_tree(root) for name, root in roots.items()} == before
    with Vdir() as vdir:
        assert not vdir.sync("/t").errors
        assert not vdir.status("/", check=True).problems
    assert rows("claim") == rows("lease") == rows("intent") == []


@pytest.mark.parametrize("act", ["delete", "put"])
def test_nobody_takes_away_the_copy_that_a_purge_relies_on(
    act: str, roots: dict[str, Path], tmp_path: Path, other: Callable[..., Other]
) -> None:
    acts: dict[str, Callable[[Vdir], Any]] = {
        "delete": lambda vdir: vdir.delete("/t/a", purge=True),
        "put": lambda vdir: vdir.put(str(tmp_path / "source/new/a"), "/t/a", to=["one"], force=True),
    }
    with Vdir() as vdir:
        vdir.put(str(roots["one"] / "t/a"), "/same", to=["three"])
    process = other(lambda vdir: vdir.delete("/same", purge=True), LocalStorage, "remove_many")
    with Vdir() as vdir, pytest.raises(Refused, match="is being worked on by vdir delete --purge"):
        acts[act](vdir)
    assert process.wake() == 0
    assert contents(roots) == {"one": FILES["a"], "two": FILES["a"], "three": None}
    assert "same" not in read_tree(roots["three"])


def test_of_two_purges_of_one_file_one_is_refused(roots: dict[str, Path], other: Callable[..., Other]) -> None:
    write_tree(roots["three"], {"shared": b"nobody has read it"})
    with Vdir() as vdir:
        vdir.add("three:shared", "/a")
        vdir.add("three:shared", "/b")
    process = other(lambda vdir: vdir.delete("/a", purge=True), Catalogue, "update_replicas")
    with Vdir() as vdir:
        with pytest.raises(Refused, match="is being worked on by vdir delete --purge"):
            vdir.delete("/b", purge=True)
        assert process.wake() == 0
        assert b"".join(vdir.cat("/b")) == b"nobody has read it"


@pytest.fixture
def late(catalogue: Catalogue) -> Iterator[tuple[Catalogue, int]]:
    """A catalogue of a process whose claim on a name, of that id, another process has now."""
    catalogue.register([NewFile("a", replicas=(Replica("aws", "a"),)), NewFile("b")])
    key = catalogue.lookup("a").id
    mine = Claims(catalogue.database, "vdir put")
    mine.claim([key])
    with catalogue.database.write() as connection:
        connection.exec_driver_sql("UPDATE lease SET expires_ns = 0")
    with Claims(catalogue.database, "vdir sync") as theirs:
        assert theirs.claim([key]) == {}
        yield Catalogue(catalogue.database, mine), key
    mine.close()


def test_what_is_another_s_is_not_written(late: tuple[Catalogue, int], catalogue: Catalogue) -> None:
    mine, key = late
    before = catalogue.lookup("a"), catalogue.replicas_by_id([key])
    why = mine.update_replicas([Replica("box", "a", entry_id=key)])[key]
    assert why.startswith("was taken over by vdir sync, process ")
    mine.remove_replicas([Replica("aws", "a", entry_id=key)])
    mine.remove_lost([key, catalogue.lookup("b").id])
    with pytest.raises(PreconditionFailed, match="was taken over by vdir sync, process"):
        mine.set_content(key, version=2, size=1, mtime_ns=1, sha256=None)
    assert (catalogue.lookup("a"), catalogue.replicas_by_id([key])) == before
    assert catalogue.lookup("b").version == 1
