"""What is there before a command, the command, and everything that can be seen afterwards: for the crash matrix."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from sqlalchemy.sql.expression import text

from cloudmesh.storage.abc import SMALL
from cloudmesh.storage.database import Database
from cloudmesh.storage.errors import StorageError
from cloudmesh.storage.paths import TEMPORARY_PREFIX, VERSIONS
from cloudmesh.vdir import Vdir
from cloudmesh.vdir.catalogue import Catalogue
from tests.places import wait_for_tick, write_tree

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


def damaged(one: Path, two: Path) -> None:
    """Other bytes than were written, under the same time: as a disk does it."""
    place = two / "t/a"
    before = place.stat()
    wait_for_tick()
    place.write_bytes(b"?" * before.st_size)
    os.utime(place, ns=(before.st_atime_ns, before.st_mtime_ns))


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


Places = Mapping[str, Callable[[], dict[str, bytes]]]
"""By service, all files that are there, as seen from behind: temporary ones too."""

BOTH = put(OLD, "one", "two")
RENEWED = in_turn(BOTH, put(NEW, "one", "two", force=True))
PROPAGATE = in_turn(BOTH, rule(deletes="propagate"))
AWAY = in_turn(put(OLD, "one", "two", "three"), rule(deletes="propagate"), deleted_while_one_was_away)

SCENARIOS: dict[str, tuple[Act, Edit, Act]] = {
    "put": (lambda vdir: None, nothing, BOTH),
    "put --force": (BOTH, nothing, put(NEW, "one", "two", force=True)),
    "put --force over edits": (BOTH, edited_differently, put(NEW, "one", "two", force=True)),
    "copy": (put(OLD, "one"), nothing, lambda vdir: vdir.copy("/t", to=["two"], recursive=True)),
    "drop": (BOTH, nothing, lambda vdir: vdir.drop("/t", from_=["two"], recursive=True)),
    "move": (BOTH, nothing, lambda vdir: vdir.move("/t/a", "/t/d/moved")),
    "delete": (BOTH, nothing, lambda vdir: vdir.delete("/t", recursive=True)),
    "delete --purge": (BOTH, nothing, lambda vdir: vdir.delete("/t", recursive=True, purge=True, accept_loss=True)),
    "sync: heal": (BOTH, lost, sync),
    "sync: newest wins": (BOTH, edited, sync),
    "sync: conflict": (BOTH, edited_differently, sync),
    "sync: keep both": (BOTH, edited_differently, lambda vdir: vdir.sync("/", conflict="keep-both")),
    "sync: rename": (BOTH, renamed, sync),
    "sync: deletion goes everywhere": (PROPAGATE, deleted, sync),
    "sync: service that was away": (AWAY, nothing, sync),
    "sync: old versions expire": (in_turn(RENEWED, rule(versions=0)), nothing, sync),
    "verify --repair": (BOTH, damaged, lambda vdir: vdir.verify("/t", deep=True, repair=True)),
    "restore": (RENEWED, nothing, lambda vdir: vdir.restore("/t/a", 1)),
}
"""By command: what is there before, what others do then, and the command."""


@dataclass(frozen=True)
class State:
    """What there is, as seen from outside.

    Attributes:
        files: of each service, from behind, those that listings show.
        kept: contents that are kept and that no name has, each with the name that had it.
        names: with their contents as they are read, their services and health.
        left: temporary files, kept files that no row tells of, and rows of work that is under way.
    """

    files: list[dict[str, bytes]]
    kept: set[tuple[str, bytes]]
    names: Mapping[str, tuple[bytes, list[str], str]]
    left: list[str]


def seen(places: Places) -> State:
    """Look at everything."""
    files, left = [], []
    kept: dict[str, bytes] = {}
    for place, read in places.items():
        everything = read()
        left += [name for name in everything if TEMPORARY_PREFIX in name]
        kept |= {f"{place}:{name}": content for name, content in everything.items() if name.startswith(VERSIONS)}
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
    # whether a content that a name has is kept once more depends on where a run was killed, and is all the same
    current = {content for content, _, _ in names.values()}
    return State(files, {(name, content) for name, content in known if content not in current}, names, left)


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


def nothing_is_left_to_do() -> None:
    """Another sync does nothing, and every replica is good."""
    with Vdir(parallel=1) as vdir:
        report = vdir.sync("/")
        assert not report, report
        assert not vdir.status("/", check=True).problems


def contents_of(places: Places) -> set[bytes]:
    """Return all contents that are anywhere."""
    return {content for read in places.values() for content in read().values()}


def begun(places: Places) -> str:
    """Return what of ours lies about that is no file yet."""
    return "temporary file" if any(TEMPORARY_PREFIX in name for read in places.values() for name in read()) else ""


def everything_can_be_read(contents: set[bytes]) -> None:
    """No content that was acknowledged is lost, whatever died."""
    with Vdir(parallel=1) as vdir:
        for one in vdir.ls("/", recursive=True):
            if one.kind == "file" and one.services:
                assert b"".join(vdir.cat(f"/{one.name}")) in contents
