"""`sync` against a simple model: others change files, commands are killed halfway, and nothing may ever be lost.

Contents are compared, not what the catalogue says of them: a content that was acknowledged has to lie in a file of a
replica, or in one that is kept, until others have overwritten or removed all of its copies.

``CDIR_MODEL_EXAMPLES`` makes the run longer, and then different each time.
"""

from __future__ import annotations

import hashlib
import itertools
import os
import re
import shutil
import signal
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from functools import wraps
from pathlib import Path
from typing import Any, Literal, TypeVar

from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule, run_state_machine_as_test
from sqlalchemy.engine import Connection

from cloudmesh.storage.database import Database
from cloudmesh.storage.errors import StorageError
from cloudmesh.storage.paths import TEMPORARY_PREFIX, VERSIONS
from cloudmesh.storage.providers.local import LocalStorage
from cloudmesh.vdir import Vdir
from cloudmesh.vdir.records import ReplicaInfo
from tests.places import configure, local, read_tree

SERVICES = ("one", "two", "three", "four")
CONTENTS = [b"", b"1111", b"2222", b"3333", b"4444", b"a longer content"]

NAMES = ("a", "d/b", "gone/c")
"""No two of them end the same; of the last a deletion by others is believed."""

NAME = st.sampled_from(NAMES)
SERVICE = st.sampled_from(SERVICES)
SOME_SERVICES = st.lists(SERVICE, min_size=1, max_size=3, unique=True)
CONTENT = st.sampled_from(CONTENTS)
PICK = st.integers(0, 1000)
STEP = st.none() | st.none() | st.integers(0, 60)
"""At which step a command is killed."""

T = TypeVar("T")

When = Literal["newer", "same second", "older", "equal"]
WHEN = st.sampled_from(["newer", "newer", "same second", "older", "equal"])

_SECOND = 10**9
_TICK = 7_123_457

PHASES = [Phase.generate, Phase.shrink] if "CDIR_SHRINK" in os.environ else [Phase.generate]
STEPS = (
    "write",
    "_store",
    "_publish",
    "copy_within",
    "move_within",
    "remove",
    "remove_many",
    "remove_dir",
    "make_dir",
    "set_mtime",
)
"""What changes files, of `LocalStorage`; every transaction that writes is a step too."""


@dataclass
class Name:
    """What the model knows of a name.

    Attributes:
        current: its content.
        safe: contents that were acknowledged, and of which others have left a copy.
        unsure: what it may be besides, because a command was killed.
    """

    current: bytes
    safe: set[bytes] = field(default_factory=set)
    unsure: set[bytes] = field(default_factory=set)


def sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def die_at(step: int) -> None:
    """Let this process be killed before, or after, the call that is the ``step``-th half of one."""
    left = step

    def count() -> None:
        nonlocal left
        left -= 1
        if left < 0:
            os.kill(os.getpid(), signal.SIGKILL)

    def deadly(plain: Callable[..., Any]) -> Callable[..., Any]:
        @wraps(plain)
        def dying(*arguments: Any, **more: Any) -> Any:
            count()
            result = plain(*arguments, **more)
            count()
            return result

        return dying

    for name in STEPS:
        made = deadly(getattr(LocalStorage, name))
        setattr(LocalStorage, name, staticmethod(made) if name == "_publish" else made)
    write = Database.write

    @contextmanager
    def dying_write(database: Database) -> Iterator[Connection]:
        count()
        with write(database) as connection:
            yield connection
        count()

    Database.write = dying_write  # type: ignore[method-assign, assignment]


class Machine(RuleBasedStateMachine):
    folder: Path
    home: Path
    fresh: Path
    """A database with no names in it."""

    def __init__(self) -> None:
        super().__init__()
        self.names: dict[str, Name] = {}
        self.clock_ns = 1_600_000_000 * _SECOND
        self.numbers = itertools.count()
        self.opened: Vdir | None = None
        self.refusal: StorageError | None = None
        for file in self.home.glob("vdir.db*"):
            file.unlink()
        shutil.copy(self.fresh, self.home / "vdir.db")
        for name in SERVICES:
            shutil.rmtree(self.folder / name, ignore_errors=True)
            (self.folder / name).mkdir()
            (self.folder / name / "of others").touch()  # so that no service is ever empty

    def teardown(self) -> None:
        self.close()

    # ---- helpers -------------------------------------------------------------------------------------------------

    @property
    def vdir(self) -> Vdir:
        if self.opened is None:
            self.opened = Vdir(parallel=1)
        return self.opened

    def close(self) -> None:
        if self.opened is not None:
            self.opened.close()
            self.opened = None

    def replicas(self, path: str) -> list[ReplicaInfo]:
        return self.vdir.status(f"/{path}").replicas

    def registered(self) -> dict[tuple[str, str], str]:
        return {(one.service, one.path): path for path in self.known() for one in self.replicas(path)}

    def known(self) -> set[str]:
        return {one.path[1:] for one in self.vdir.ls("/", recursive=True) if one.kind == "file"}

    def there(self, service: str, path: str) -> bytes | None:
        file = self.folder / service / path
        return file.read_bytes() if file.is_file() else None

    def everything(self) -> dict[tuple[str, str], bytes]:
        return {
            (service, path): content
            for service in SERVICES
            for path, content in read_tree(self.folder / service).items()
        }

    def held(self, path: str, *, unfinished: bool = True) -> set[bytes]:
        """Return the contents of a name that lie in files of ours; also where such a file was never finished."""
        found = [one for one in self.replicas(path) if unfinished or one.state != "copying"]
        replicas = {self.there(one.service, one.path) for one in found}
        name = path.rpartition("/")[2]
        (key,) = self.query(f"SELECT id FROM entry WHERE name = '{name}' AND NOT is_directory")
        kept = {  # by what files are called: a killed command may have kept it, and not written that down
            content
            for (_, file), content in self.everything().items()
            if file.startswith(VERSIONS) and re.search(rf"~v\d+-{key[0]}(-|$)", file)
        }
        return {one for one in replicas | kept if one is not None}

    def in_replicas(self) -> set[bytes | None]:
        """Return the contents of all files that names have."""
        return {self.there(*place) for place in self.registered()}

    def query(self, statement: str) -> list[tuple[Any, ...]]:
        with closing(sqlite3.connect(self.home / "vdir.db")) as connection:
            found = connection.execute(statement).fetchall()
            connection.commit()
            return found

    def others_did(self) -> None:
        """Others may overwrite or remove what they like: what they leave is what has to stay."""
        for path, name in self.names.items():
            name.safe &= self.held(path)

    def attempt(
        self, verb: Callable[[Vdir], T], step: int | None, *, concerns: str = "", force: bool = False
    ) -> T | None:
        """Do something, maybe killed at a step; None where it was killed or refused. Nothing may be lost by it.

        Args:
            verb: what to do.
            step: when it is killed.
            concerns: the name that it may delete.
            force: others' files may be overwritten, and what was never finished; not what others made of a replica.
        """
        before = self.everything()
        ours = self.registered()
        doomed = {*self.query("SELECT service, path FROM tombstone")}
        self.refusal = None
        unseen = {path: self.held(path, unfinished=not force) for path in self.names}
        report: T | None = None
        if step is None:
            try:
                report = verb(self.vdir)
            except StorageError as error:
                self.refusal = error
        elif not self.killed(verb, step):
            self.query("UPDATE lease SET expires_ns = 0")
        doomed |= {*self.query("SELECT service, path FROM tombstone")}
        after = self.everything()
        ours |= self.registered()  # a file that was renamed has been found to be ours
        for place, content in before.items():
            of_us = place in ours or place in doomed or VERSIONS in place[1] or TEMPORARY_PREFIX in place[1]
            assert of_us or force or after.get(place) == content, f"{place} is not ours"
        known = self.known()
        for path, name in self.names.items():
            if path in known:
                held = self.held(path)
                assert name.safe <= held, f"/{path} has lost {name.safe - held}"
                if path != concerns:
                    assert unseen[path] <= held, f"/{path} has lost {unseen[path] - held}, which others wrote"
            else:
                assert path == concerns or path.startswith("gone/"), f"/{path} is deleted"
        if step is None:
            assert not [place for place in after if TEMPORARY_PREFIX in place[1] and place not in before]
        return report

    def killed(self, verb: Callable[[Vdir], object], step: int) -> bool:
        """Do something in a process that is killed at a step; tell whether it did not come so far, and succeeded."""
        self.close()
        child = os.fork()
        if child == 0:
            code = 1
            try:
                die_at(step)
                with Vdir(parallel=1) as vdir:
                    verb(vdir)
                code = 0
            except StorageError:
                code = 2
            finally:
                os._exit(code)
        code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        assert code in (0, 2, -signal.SIGKILL)
        return code == 0

    def settle(self) -> None:
        """Learn from the catalogue what the contents are that are acknowledged now."""
        known = self.known()
        for path in set(self.names) - known:
            del self.names[path]
        for path in known:
            status = self.vdir.status(f"/{path}")
            held = {sha256(one): one for one in self.held(path)}
            if path not in self.names:
                self.names[path] = Name(b"")
            name = self.names[path]
            if status.sha256 in held:
                name.current = held[status.sha256]
                good = [one for one in status.replicas if one.state == "available" and one.version == status.version]
                if any(self.there(one.service, one.path) == name.current for one in good):
                    name.safe.add(name.current)
            kept = {one.sha256 for one in self.vdir.history(f"/{path}") if one.state == "kept"}
            name.safe |= {held[one] for one in kept if one in held}

    def stamp(self, service: str, path: str, when: When, before_ns: int | None) -> None:
        """Give a file a modification time."""
        self.clock_ns += _TICK
        stamp = self.clock_ns
        if when == "same second":
            self.clock_ns += _SECOND
            stamp = self.clock_ns // _SECOND * _SECOND
        elif when == "older":
            stamp = 1_500_000_000 * _SECOND + self.clock_ns % 10**15
        elif when == "equal" and before_ns is not None:
            stamp = before_ns
        os.utime(self.folder / service / path, ns=(stamp, stamp))

    # ---- what the user does --------------------------------------------------------------------------------------

    @initialize()
    def begin(self) -> None:
        self.vdir.mkdir("/gone")
        self.vdir.rules.set("/", versions=1000)
        self.vdir.rules.set("/gone", deletes="propagate")
        for path, content, services in (("a", b"1111", 3), ("d/b", b"2222", 2), ("gone/c", b"3333", 4)):
            self.put(path, content, list(SERVICES[:services]), False, None)

    @rule(path=NAME, content=CONTENT, to=SOME_SERVICES, force=st.booleans(), step=STEP)
    def put(self, path: str, content: bytes, to: list[str], force: bool, step: int | None) -> None:
        source = self.folder / "source"
        source.write_bytes(content)
        self.clock_ns += _TICK
        os.utime(source, ns=(self.clock_ns, self.clock_ns))
        report = self.attempt(lambda vdir: vdir.put(str(source), f"/{path}", to=to, force=force), step, force=force)
        self.settle()
        if report is not None and (report.files or report.skipped):
            assert self.names[path].current == content
            assert content in self.names[path].safe

    @rule(path=NAME, to=SOME_SERVICES, force=st.booleans(), step=STEP)
    def copy(self, path: str, to: list[str], force: bool, step: int | None) -> None:
        self.attempt(lambda vdir: vdir.copy(f"/{path}", to=to, force=force), step, force=force)
        self.settle()

    @rule(path=NAME, service=SERVICE, step=STEP)
    def drop(self, path: str, service: str, step: int | None) -> None:
        report = self.attempt(lambda vdir: vdir.drop(f"/{path}", from_=[service]), step)
        if report is not None and report.files:
            assert service not in {one.service for one in self.replicas(path)}
        self.settle()

    @rule(path=NAME, new=NAME)
    def move(self, path: str, new: str) -> None:
        try:
            self.vdir.move(f"/{path}", f"/{new}")
        except StorageError:
            return
        self.names[new] = self.names.pop(path)

    @rule(path=NAME, purge=st.booleans(), accept_loss=st.booleans(), step=STEP)
    def delete(self, path: str, purge: bool, accept_loss: bool, step: int | None) -> None:
        if path not in self.names:
            return
        before = self.in_replicas()
        self.attempt(
            lambda vdir: vdir.delete(f"/{path}", purge=purge, accept_loss=accept_loss),
            step,
            concerns=path,
            force=purge,
        )
        if purge and not accept_loss:
            assert self.names[path].current not in before or self.names[path].current in self.in_replicas()
        self.settle()

    @rule(path=NAME, pick=PICK, step=STEP)
    def restore(self, path: str, pick: int, step: int | None) -> None:
        if path not in self.names:
            return
        history = [one for one in self.vdir.history(f"/{path}") if one.state == "kept"]
        if history:
            chosen = history[pick % len(history)]
            report = self.attempt(lambda vdir: vdir.restore(f"/{path}", chosen.version), step)
            self.settle()
            if report is not None and report.files:
                assert sha256(self.names[path].current) == chosen.sha256

    @rule(deep=st.booleans(), repair=st.booleans(), step=STEP)
    def verify(self, deep: bool, repair: bool, step: int | None) -> None:
        self.attempt(lambda vdir: vdir.verify("/", deep=deep, repair=repair), step)
        self.settle()

    @rule()
    def check(self) -> None:
        self.attempt(lambda vdir: vdir.status("/", check=True), None)
        self.settle()

    @rule(step=st.integers(0, 80))
    def sync_that_dies(self, step: int) -> None:
        self.attempt(lambda vdir: vdir.sync("/"), step)
        self.settle()

    @rule()
    def sync(self) -> None:
        before = {path: self.expected(path) for path in self.names}
        report = self.attempt(lambda vdir: vdir.sync("/"), None)
        failures = () if report is None else report.failures
        wrong = " ".join(f"{one.name}: {one.error}" for one in failures) or str(self.refusal)  # one alone is raised
        self.settle()
        for path in self.names:
            if f"/{path}" not in wrong:
                current = self.names[path].current
                assert current in before[path], f"/{path} is {current!r}, expected {before[path]}; {wrong}"
                assert {self.there(one.service, one.path) for one in self.replicas(path)} == {current}
        if report is not None and not report.errors:
            self.converged()

    def expected(self, path: str) -> set[bytes]:
        """Return the contents of which one has to be a name's after a sync; more than one where it is not plain."""
        status = self.vdir.status(f"/{path}")
        current = {self.names[path].current}
        changed: dict[bytes, int] = {}
        plain = True
        for one in status.replicas:
            content = self.there(one.service, one.path)
            if content is None or sha256(content) == status.sha256:
                continue
            if one.version and sha256(content) == one.sha256:
                continue  # an older content of ours
            mtime_ns = (self.folder / one.service / one.path).stat().st_mtime_ns
            changed[content] = max(changed.get(content, 0), mtime_ns)
            plain = plain and mtime_ns != one.modified_ns and one.version == status.version
        if not changed:
            return current if not self.query("SELECT 1 FROM intent") else current | self.held(path)
        if not plain or self.query("SELECT 1 FROM intent"):
            return current | self.held(path)
        return {max(changed, key=lambda content: (changed[content], sha256(content)))}

    def converged(self) -> None:
        again = self.vdir.sync("/")
        assert not again, again
        assert not again.errors
        assert not self.vdir.status("/", check=True).problems
        for table in ("intent", "tombstone", "lease WHERE expires_ns > 0"):  # a dead one goes with the next claim
            assert not self.query(f"SELECT * FROM {table}"), table
        kept = {(service, path) for service, path in self.query("SELECT service, path FROM version")}
        assert {place for place in self.everything() if place[1].startswith(VERSIONS)} == kept
        assert not [place for place in self.everything() if TEMPORARY_PREFIX in place[1]]

    # ---- what others do ------------------------------------------------------------------------------------------

    @rule(service=SERVICE, path=NAME, content=CONTENT, when=WHEN)
    def somebody_writes(self, service: str, path: str, content: bytes, when: When) -> None:
        file = self.folder / service / path
        before_ns = file.stat().st_mtime_ns if file.is_file() else None
        file.parent.mkdir(parents=True, exist_ok=True)
        new = file.with_name("new")
        new.write_bytes(content)
        new.replace(file)  # as editors do: else nothing tells a same size and time apart, short of reading the bytes
        self.stamp(service, path, when, before_ns)
        self.others_did()

    @rule(service=SERVICE, path=NAME, when=WHEN)
    def somebody_touches(self, service: str, path: str, when: When) -> None:
        file = self.folder / service / path
        if file.is_file():
            self.stamp(service, path, when, file.stat().st_mtime_ns)

    @rule(service=SERVICE, path=NAME)
    def somebody_removes(self, service: str, path: str) -> None:
        (self.folder / service / path).unlink(missing_ok=True)
        self.others_did()

    @rule(service=SERVICE, path=NAME, new=st.sampled_from(["a", "d/b", "elsewhere", "d/moved"]))
    def somebody_renames(self, service: str, path: str, new: str) -> None:
        file, to = self.folder / service / path, self.folder / service / new
        if file.is_file():
            to.parent.mkdir(parents=True, exist_ok=True)
            file.rename(to)
            self.others_did()

    # ---- what must always hold -----------------------------------------------------------------------------------

    @invariant()
    def the_names_are_those_of_the_model(self) -> None:
        assert self.known() == set(self.names)

    @invariant()
    def what_is_read_is_a_content_of_the_name(self) -> None:
        for path, name in self.names.items():
            try:
                content = b"".join(self.vdir.cat(f"/{path}"))
            except StorageError:
                continue
            assert content == name.current


def test_nothing_is_lost_and_replicas_converge(home: Path, tmp_path: Path) -> None:
    configure(home, [local(name, tmp_path / name) for name in SERVICES])
    fresh = tmp_path / "fresh.db"
    with Database(f"sqlite:///{fresh}") as database, database.read():
        pass
    examples = int(os.environ.get("CDIR_MODEL_EXAMPLES", "0"))
    bound = {"folder": tmp_path, "home": home, "fresh": fresh}
    run_state_machine_as_test(
        type("BoundMachine", (Machine,), bound),
        settings=settings(
            max_examples=examples or 25,
            stateful_step_count=20,
            deadline=None,
            derandomize=not examples,
            database=None,
            print_blob=True,
            report_multiple_bugs=False,
            phases=PHASES,
            suppress_health_check=list(HealthCheck),
        ),
    )
