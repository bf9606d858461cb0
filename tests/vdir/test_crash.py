"""Commands killed before and after every step that changes a file or the catalogue: done again, they mend it all."""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Callable
from functools import wraps
from pathlib import Path
from typing import Any

import pytest

from cloudmesh.storage.database import Database
from cloudmesh.storage.errors import StorageError
from cloudmesh.storage.paths import TEMPORARY_PREFIX, VERSIONS
from cloudmesh.storage.providers.local import LocalStorage
from cloudmesh.vdir import Vdir, intents, versions
from cloudmesh.vdir.catalogue import Catalogue
from tests.places import configure, local, read_tree, write_tree

OLD = {"a": b"alpha", "d/b": b"beta"}
NEW = {"a": b"a newer one", "d/b": b"beta"}

STEPS: tuple[tuple[Any, str], ...] = (
    (LocalStorage, "write"),
    (LocalStorage, "_store"),  # one file of write_many
    (LocalStorage, "copy_within"),
    (intents, "add"),
    (versions, "add"),
    (LocalStorage, "remove"),
    (LocalStorage, "remove_many"),
    (LocalStorage, "remove_dir"),
    (Catalogue, "register"),
    (Catalogue, "make_dir"),
    (Catalogue, "set_content"),
    (Catalogue, "update_replicas"),
    (Catalogue, "remove_replicas"),
    (Catalogue, "remove_lost"),
    (Catalogue, "remove"),
)

DIED = 77

Act = Callable[[Vdir], Any]


def die_at(step: int) -> None:
    """Let this process end before, or after, the call that is the ``step``-th half of one."""
    left = step

    def deadly(plain: Callable[..., Any]) -> Callable[..., Any]:
        @wraps(plain)
        def dying(*arguments: Any, **more: Any) -> Any:
            nonlocal left
            left -= 1
            if left < 0:
                os._exit(DIED)
            result = plain(*arguments, **more)
            left -= 1
            if left < 0:
                os._exit(DIED)
            return result

        return dying

    for owner, name in STEPS:
        setattr(owner, name, deadly(getattr(owner, name)))


def killed(act: Act, step: int) -> bool:
    """Do something in a process that dies at a step; tell whether it came so far.

    The child is a copy of this process while no thread runs in it and nothing is open: it makes all of its own.
    """
    child = os.fork()
    if child == 0:
        code = 1
        try:
            die_at(step)
            with Vdir(parallel=1) as vdir:
                act(vdir)
            code = 0
        finally:
            os._exit(code)
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    assert code in (0, DIED)
    return code == DIED


def put(source: Path, *to: str, force: bool = False) -> Act:
    return lambda vdir: vdir.put(str(source), "/t", to=list(to), recursive=True, force=force)


@pytest.mark.parametrize(
    "command", ["put", "put --force", "copy", "drop", "delete --purge", "sync", "sync of a change"]
)
def test_a_killed_command_is_completed_by_doing_it_again(command: str, home: Path, tmp_path: Path) -> None:
    roots = {name: tmp_path / name for name in ("one", "two")}
    configure(home, [local(name, root) for name, root in roots.items()])
    old, new = write_tree(tmp_path / "old", OLD), write_tree(tmp_path / "new", NEW)
    acts: dict[str, tuple[Act, Act]] = {
        "put": (lambda vdir: None, put(old, "one", "two")),
        "put --force": (put(old, "one", "two"), put(new, "one", "two", force=True)),
        "copy": (put(old, "one"), lambda vdir: vdir.copy("/t", to=["two"], recursive=True)),
        "drop": (put(old, "one", "two"), lambda vdir: vdir.drop("/t", from_=["two"], recursive=True)),
        "delete --purge": (put(old, "one", "two"), lambda vdir: vdir.delete("/t", recursive=True, purge=True)),
        "sync": (put(old, "one", "two"), lambda vdir: vdir.sync("/t")),
        "sync of a change": (put(old, "one", "two"), lambda vdir: vdir.sync("/t")),
    }
    before, act = acts[command]
    step = 0
    died = True
    while died:
        for file in home.glob("vdir.db*"):
            file.unlink()
        for root in roots.values():
            shutil.rmtree(root, ignore_errors=True)
        with Vdir(parallel=1) as vdir:
            before(vdir)
        if command == "sync":
            for name in OLD:
                (roots["two"] / "t" / name).unlink()
        if command == "sync of a change":
            (roots["two"] / "t/a").write_bytes(NEW["a"])
        died = killed(act, step)
        with Database() as database, database.write() as connection:  # the dead process's lease has run out
            connection.exec_driver_sql("UPDATE lease SET expires_ns = 0")
        with Vdir(parallel=1) as vdir:
            if command not in ("put", "delete --purge"):
                everything_can_be_read(vdir)
            if died or command != "delete --purge":
                with_nothing_left_to_do(vdir, act)
            renewed = command in ("put --force", "sync of a change")
            wanted = NEW if renewed else {} if command == "delete --purge" else OLD
            assert shown(roots["one"]) == {f"t/{name}": content for name, content in wanted.items()}
            assert shown(roots["two"]) == ({} if command == "drop" else shown(roots["one"]))
            assert {one.name: one.health for one in vdir.ls("/", recursive=True) if one.kind == "file"} == {
                f"t/{name}": "ok" for name in wanted
            }
            assert not vdir.status("/", check=True).problems
            if renewed:
                kept = {one.sha256 for one in vdir.history("/t/a") if one.state == "kept"}
                assert kept == {hashlib.sha256(OLD["a"]).hexdigest()}
                assert sum(VERSIONS in name for root in roots.values() for name in read_tree(root)) == 1
        for root in roots.values():
            assert not list(root.rglob(f"{TEMPORARY_PREFIX}*"))
        step += 1
    assert step > 6, "the steps were really died at"


def shown(root: Path) -> dict[str, bytes]:
    """Return the files that listings show: not the old contents that are kept."""
    return {name: content for name, content in read_tree(root).items() if not name.startswith(VERSIONS)}


def everything_can_be_read(vdir: Vdir) -> None:
    """No version that was acknowledged is lost, whatever died."""
    for name, contents in {name: {OLD[name], NEW[name]} for name in OLD}.items():
        assert b"".join(vdir.cat(f"/t/{name}")) in contents


def with_nothing_left_to_do(vdir: Vdir, act: Act) -> None:
    try:
        report = act(vdir)
    except StorageError as error:  # it was complete already: there is no such replica or name any more
        assert "no such" in str(error) or "not found" in str(error)  # noqa: PT017
        return
    assert report.errors == 0, report.failures
