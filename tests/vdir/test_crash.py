"""The crash matrix: every command killed after each of its steps; done again, it is as if nothing had happened.

What "as if nothing had happened" is, a run that is not killed tells. See `steps` for what a step is, and `crash_table`
for the table of all of them in docs/reliability.md.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml
from sqlalchemy.sql.expression import text

from cloudmesh.storage.abc import SMALL
from cloudmesh.storage.database import Database
from cloudmesh.storage.errors import StorageError
from cloudmesh.storage.paths import TEMPORARY_PREFIX, VERSIONS
from cloudmesh.vdir import Vdir
from cloudmesh.vdir.catalogue import Catalogue
from tests.places import configure, local, read_tree, write_tree
from tests.vdir.crash_table import Row, check
from tests.vdir.steps import done_in_a_process

OLD = {"a": b"alpha", "d/b": b"beta", "d/big": b"0" * (SMALL + 1)}
NEW = {"a": b"a newer one", "d/b": b"beta", "d/big": b"1" * (SMALL + 1)}

Act = Callable[[Vdir], Any]
Edit = Callable[[Path, Path], None]
"""What others do meanwhile, given the directories of the services ``one`` and ``two``."""


def put(files: dict[str, bytes], *to: str, force: bool = False) -> Act:
    def act(vdir: Vdir) -> Any:
        source = write_tree(Path(os.environ["HOME"]) / hashlib.sha256(repr(files).encode()).hexdigest(), files)
        return vdir.put(str(source), "/t", to=list(to), recursive=True, force=force)

    return act


def in_turn(*acts: Act) -> Act:
    def act(vdir: Vdir) -> None:
        for one in acts:
            one(vdir)

    return act


def rule(**rules: Any) -> Act:
    def act(vdir: Vdir) -> None:
        with Database() as database:
            node = Catalogue(database).lookup("t")
            with database.write() as connection:
                statement = text("UPDATE entry SET rules = :rules WHERE id = :id")
                connection.execute(statement, {"rules": json.dumps(rules), "id": node.id})

    return act


def changed(root: Path, name: str, content: bytes, second: int) -> None:
    place = root / "t" / name
    place.write_bytes(content)
    os.utime(place, (1_750_000_000 + second,) * 2)


def lost(one: Path, two: Path) -> None:
    (two / "t/a").unlink()
    (two / "t/d/big").unlink()


def edited(one: Path, two: Path) -> None:
    changed(two, "a", b"theirs", 0)
    changed(two, "d/big", b"2" * (SMALL + 1), 0)


def edited_differently(one: Path, two: Path) -> None:
    changed(one, "a", b"theirs", 0)
    changed(two, "a", b"theirs, newer", 100)


def renamed(one: Path, two: Path) -> None:
    (two / "t/a").rename(two / "t/z")


def deleted(one: Path, two: Path) -> None:
    (two / "t/a").unlink()


def nothing(one: Path, two: Path) -> None:
    pass


def sync(vdir: Vdir) -> Any:
    return vdir.sync("/")


def deleted_while_one_was_away(vdir: Vdir) -> None:
    home = Path(os.environ["CLOUDMESH_CONFIG_DIR"])
    whole = (home / "cloudmesh.yaml").read_text()
    root = next(one for one in vdir._services.configuration.services() if one.name == "two").root
    (Path(root) / "t/a").unlink()
    configured = yaml.safe_load(whole)
    configured["cloudmesh"]["storage"]["three"]["cm"]["kind"] = "none"
    (home / "cloudmesh.yaml").write_text(yaml.safe_dump(configured))
    with Vdir(parallel=1) as other:
        assert other.sync("/").removed == 1
    (home / "cloudmesh.yaml").write_text(whole)


BOTH = put(OLD, "one", "two")
RENEWED = in_turn(BOTH, put(NEW, "one", "two", force=True))
PROPAGATE = in_turn(BOTH, rule(deletes="propagate"))
AWAY = in_turn(put(OLD, "one", "two", "three"), rule(deletes="propagate"), deleted_while_one_was_away)

SCENARIOS: dict[str, tuple[Act, Edit, Act]] = {
    "put": (lambda vdir: None, nothing, BOTH),
    "put --force": (BOTH, nothing, put(NEW, "one", "two", force=True)),
    "copy": (put(OLD, "one"), nothing, lambda vdir: vdir.copy("/t", to=["two"], recursive=True)),
    "drop": (BOTH, nothing, lambda vdir: vdir.drop("/t", from_=["two"], recursive=True)),
    "move": (BOTH, nothing, lambda vdir: vdir.move("/t/a", "/t/d/moved")),
    "delete": (BOTH, nothing, lambda vdir: vdir.delete("/t", recursive=True)),
    "delete --purge": (BOTH, nothing, lambda vdir: vdir.delete("/t", recursive=True, purge=True)),
    "sync: heal": (BOTH, lost, sync),
    "sync: newest wins": (BOTH, edited, sync),
    "sync: conflict": (BOTH, edited_differently, sync),
    "sync: keep both": (BOTH, edited_differently, lambda vdir: vdir.sync("/", conflict="keep-both")),
    "sync: rename": (BOTH, renamed, sync),
    "sync: deletion goes everywhere": (PROPAGATE, deleted, sync),
    "sync: service that was away": (
        AWAY,
        nothing,
        sync,
    ),
    "sync: old versions expire": (in_turn(RENEWED, rule(versions=0)), nothing, sync),
    "restore": (RENEWED, nothing, lambda vdir: vdir.restore("/t/a", 1)),
}
"""By command: what is there before, what others do then, and the command."""


@dataclass(frozen=True)
class State:
    """What there is, as seen from outside.

    Attributes:
        files: of each service, from behind, those that listings show.
        kept: contents that are kept, each with the name and the number of services.
        names: with their contents as they are read, their services and health.
        left: temporary files, kept files that no row tells of, and rows of work that is under way.
    """

    files: list[dict[str, bytes]]
    kept: set[tuple[str, bytes]]
    names: dict[str, tuple[bytes, list[str], str]]
    left: list[str]


def seen(roots: Sequence[Path]) -> State:
    """Look at everything."""
    files, left = [], []
    kept: dict[str, bytes] = {}
    for root in roots:
        everything = read_tree(root)
        left += [name for name in everything if TEMPORARY_PREFIX in name]
        kept |= {f"{root.name}:{name}": content for name, content in everything.items() if name.startswith(VERSIONS)}
        files.append({name: content for name, content in everything.items() if not name.startswith(VERSIONS)})
    with Database() as database, database.read() as connection:
        for table in ("intent", "claim", "lease", "tombstone"):
            left += [f"{table} {tuple(row)}" for row in connection.execute(text(f"SELECT * FROM {table}"))]
        halfway = text("SELECT entry_id, service, state FROM replica WHERE state IN ('copying', 'deleting')")
        left += [f"replica {tuple(row)}" for row in connection.execute(halfway)]
        rows = connection.execute(
            text("SELECT e.name, v.service || ':' || v.path FROM version AS v JOIN entry AS e ON e.id = v.entry_id")
        )
        known = {(name, kept.pop(place)) for name, place in rows}
    left += kept
    with Vdir(parallel=1) as vdir:
        names = {
            one.name: (b"".join(vdir.cat(f"/{one.name}")), list(one.services), one.health)
            for one in vdir.ls("/", recursive=True)
            if one.kind == "file"
        }
    return State(files, known, names, left)


class Saved:
    """A state of folders that can be had again: the same files, so that they count as never touched.

    Args:
        folders: what is saved.
        place: where to.
    """

    def __init__(self, folders: Sequence[Path], place: Path) -> None:
        self._folders = {folder: place / str(number) for number, folder in enumerate(folders)}
        for folder, copy in self._folders.items():
            if folder.exists():
                shutil.copytree(folder, copy, copy_function=os.link)

    def restore(self) -> None:
        """Bring it back. What is written in place is not: the catalogue is saved apart."""
        for folder, copy in self._folders.items():
            shutil.rmtree(folder, ignore_errors=True)
            if copy.exists():
                shutil.copytree(copy, folder, copy_function=os.link)


def again(act: Act) -> None:
    """Do a command once more, as a user does; it may say that there is nothing to be done any more."""
    with Vdir(parallel=1) as vdir:
        try:
            report = act(vdir)
        except StorageError as error:
            if not any(part in str(error) for part in ("no such", "not found", "already", "does not exist")):
                raise
            return
        assert getattr(report, "errors", 0) == 0, report.failures


@pytest.mark.parametrize("command", SCENARIOS)
def test_a_command_that_was_killed_is_completed_by_doing_it_again(
    command: str,
    home: Path,
    tmp_path: Path,
    request: pytest.FixtureRequest,
    record_property: Callable[[str, object], None],
) -> None:
    before, edit, act = SCENARIOS[command]
    roots = [tmp_path / name for name in ("one", "two", "three")]
    configure(home, [local(root.name, root) for root in roots])
    with Vdir(parallel=1) as vdir:
        before(vdir)
    edit(*roots[:2])
    saved = Saved(roots, tmp_path / "saved")
    catalogue = (home / "vdir.db").read_bytes() if (home / "vdir.db").exists() else b""
    old = contents_of(roots)

    def begin() -> None:
        saved.restore()
        for file in home.glob("vdir.db*"):
            file.unlink()
        if catalogue:
            (home / "vdir.db").write_bytes(catalogue)

    places = {root.name: str(root) for root in roots}
    report = tmp_path / "steps.json"
    steps = done_in_a_process(act, places, report)
    again(sync)
    wanted = seen(roots)
    assert not wanted.left
    allowed, kept_anyway = old | contents_of(roots), old & contents_of(roots)
    rows: dict[Row, None] = {}
    for number, name in enumerate(steps):
        begin()
        assert done_in_a_process(act, places, report, number) == steps[: number + 1]
        assert kept_anyway <= contents_of(roots), f"lost after step {number}: {name}"
        if command != "delete --purge" and edit is not edited_differently:
            everything_can_be_read(allowed)
        left = "temporary file" if any(TEMPORARY_PREFIX in one for root in roots for one in read_tree(root)) else ""
        again(act)
        again(sync)
        assert seen(roots) == wanted, f"killed after step {number}: {name}"
        rows[Row(command, name, left)] = None
    with Vdir(parallel=1) as vdir:
        report_of_sync = vdir.sync("/")
        assert not report_of_sync, report_of_sync
        assert not vdir.status("/", check=True).problems
    check(list(rows), request.config, record_property)


def contents_of(roots: Sequence[Path]) -> set[bytes]:
    """Return all contents that are anywhere."""
    return {content for root in roots for content in read_tree(root).values()}


def everything_can_be_read(contents: set[bytes]) -> None:
    """No content that was acknowledged is lost, whatever died."""
    with Vdir(parallel=1) as vdir:
        for one in vdir.ls("/", recursive=True):
            if one.kind == "file" and one.services:
                assert b"".join(vdir.cat(f"/{one.name}")) in contents
