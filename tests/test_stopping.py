"""Work that is told to stop ends where nothing is half done, says so, and the same command goes on."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from cloudmesh.storage import Storage
from cloudmesh.vdir import Vdir
from tests.places import configure, local, read_tree, write_tree

FILES = {f"d{i % 7}/f{i:04}": bytes([i % 256]) * 10 for i in range(1200)}
"""More than two batches."""


class After:
    """Tells to stop from the N-th question on."""

    def __init__(self, times: int) -> None:
        self.left = times

    def __call__(self) -> bool:
        self.left -= 1
        return self.left < 0


@pytest.fixture
def roots(home: Path, tmp_path: Path) -> dict[str, Path]:
    roots = {name: tmp_path / name for name in ("one", "two")}
    configure(home, [local(name, root) for name, root in roots.items()])
    write_tree(roots["one"], {f"data/{name}": data for name, data in FILES.items()})
    with Vdir() as vdir:
        vdir.add("one:data", "/data/", recursive=True)
    return roots


def added_two(roots: dict[str, Path]) -> None:
    with Vdir() as vdir:
        vdir.copy("/data", to=["two"], recursive=True)


VERBS: dict[str, Callable[[Vdir], Any]] = {
    "verify": lambda vdir: vdir.verify("/data"),
    "deep": lambda vdir: vdir.verify("/data", deep=True),
    "sync": lambda vdir: vdir.sync("/data"),
    "drop": lambda vdir: vdir.drop("/data", from_=["two"], recursive=True),
    "purge": lambda vdir: vdir.delete("/data", recursive=True, purge=True, accept_loss=True),
}


@pytest.mark.parametrize("verb", VERBS)
@pytest.mark.parametrize("times", [0, 1, 300])
def test_work_on_names_stops_and_goes_on(verb: str, times: int, roots: dict[str, Path]) -> None:
    added_two(roots)
    with Vdir(stop=After(times)) as vdir:
        report = VERBS[verb](vdir)
    if times == 0:
        assert report.stopped
        assert report.failed
    with Vdir() as vdir:
        if verb in ("drop", "purge"):
            for name in read_tree(roots["two"]):  # each is whole, and a name still
                assert "two" in vdir.info(f"/{name}").services
        if report.stopped or verb not in ("drop", "purge"):
            again = VERBS[verb](vdir)
            assert not again.stopped
            assert not again.failed
        if verb == "purge":
            assert list(vdir.ls("/")) == []
            assert not any(read_tree(roots["one"]))
    if verb in ("drop", "purge"):
        assert not any(read_tree(roots["two"]))


@pytest.mark.parametrize("times", [0, 1, 700])
def test_a_move_and_a_removal_stop_and_go_on(times: int, roots: dict[str, Path]) -> None:
    with Storage(stop=After(times)) as storage:
        report = storage.move("one:data", "two:moved", recursive=True)
    assert report.stopped
    there = {name.partition("/")[2]: data for name, data in read_tree(roots["two"]).items()}
    left = {name.partition("/")[2]: data for name, data in read_tree(roots["one"]).items()}
    assert there | left == FILES
    assert len(there) >= report.files
    with Storage() as storage:
        assert not storage.move("one:data", "two:moved", recursive=True).failed
    assert {name.partition("/")[2]: data for name, data in read_tree(roots["two"]).items()} == FILES
    with Storage(stop=After(times)) as storage:
        report = storage.delete("two:moved", recursive=True)
    assert report.stopped
    assert len(read_tree(roots["two"])) >= len(FILES) - times
    with Storage() as storage:
        assert not storage.delete("two:moved", recursive=True).failed
    assert not any(read_tree(roots["two"]))
