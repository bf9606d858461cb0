"""The virtual directory over real folders, against a simple model, while others change files behind its back.

``CDIR_MODEL_EXAMPLES`` makes the run longer, and then different each time.
"""

from __future__ import annotations

import hashlib
import itertools
import os
import shutil
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule, run_state_machine_as_test

from cloudmesh.storage.database import Database
from cloudmesh.storage.errors import StorageError
from cloudmesh.storage.paths import TEMPORARY_PREFIX
from cloudmesh.storage.transfer.report import Report
from cloudmesh.vdir import Vdir
from tests.places import configure, local, read_tree, write_tree

SERVICES = ["one", "two", "three"]
CONTENTS = [b"", b"first", b"other", b"a longer content"]

NAMES = st.sampled_from(["a", "b", "d/a"])
PICK = st.integers(0, 1000)
SERVICE = st.sampled_from(SERVICES)
SOME_SERVICES = st.lists(SERVICE, min_size=1, max_size=2, unique=True)
CONTENT = st.sampled_from(CONTENTS)
YES_OR_NO = st.booleans()


def sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def chosen(choices: list[str], pick: int) -> str:
    """Return one of what there is, or something that there is not."""
    return choices[pick % len(choices)] if choices else "nothing"


@dataclass
class Name:
    """What the model knows of a name.

    Attributes:
        content: what was acknowledged last.
        safe: the services on which a replica was made or found, and not touched by others since: service to path.
        touched: others touched it before anybody read it, so that nobody can tell any more what it was.
    """

    content: bytes
    safe: dict[str, str] = field(default_factory=dict)
    touched: bool = False


class Machine(RuleBasedStateMachine):
    folder: Path
    vdir: Vdir
    runs = itertools.count()

    def __init__(self) -> None:
        super().__init__()
        self.names: dict[str, Name] = {}
        self.foreign: dict[tuple[str, str], bytes] = {}
        for node in list(self.vdir.ls("/")):
            self.vdir.delete(node.path, recursive=True)
        for name in SERVICES:
            shutil.rmtree(self.folder / name, ignore_errors=True)

    # ---- helpers -------------------------------------------------------------------------------------------------

    def attempt(self, verb: Callable[[], Report]) -> Report | None:
        """Do something that may be refused; None where it was refused altogether."""
        try:
            return verb()
        except StorageError:
            return None

    def there(self, service: str, path: str) -> bytes | None:
        file = self.folder / service / path
        return file.read_bytes() if file.is_file() else None

    def touch(self, service: str, path: str) -> None:
        """Others have written a file, whatever is in it."""
        for key, name in self.names.items():
            if name.safe.get(service) == path and self.vdir.status(f"/{key}").sha256 is None:
                del name.safe[service]
                name.touched = True

    def settle(self, path: str) -> None:
        """Learn on which services the name's content is now, as the catalogue says."""
        name = self.names[path]
        status = self.vdir.status(f"/{path}")
        name.touched = name.touched and status.sha256 is None
        name.safe = {
            one.service: one.path
            for one in status.replicas
            if one.state == "available" and self.there(one.service, one.path) == name.content and not name.touched
        }
        for place in name.safe.items():
            self.foreign.pop(place, None)

    def overwritten(self, places: set[tuple[str, str]]) -> None:
        """Forget what others wrote there, where that is gone: a replica that is known as good is not looked at."""
        for place in places & self.foreign.keys():
            if self.there(*place) != self.foreign[place]:
                del self.foreign[place]

    def disturbed(self, service: str, path: str) -> None:
        """Others have touched a file: whoever had a replica there does not rely on it any more."""
        for name in self.names.values():
            if name.safe.get(service) == path:
                del name.safe[service]

    def is_known(self, path: str) -> bool:
        return any(one.path == f"/{path}" for one in self.vdir.ls("/", recursive=True))

    def dry(self, verb: Callable[[], Report]) -> None:
        """Run something with ``dryrun`` and see that nothing whatever has changed."""

        def everything() -> object:
            rows = list(self.vdir.export("-"))  # type: ignore[arg-type]
            return rows, [read_tree(self.folder / name) for name in SERVICES]

        before = everything()
        self.attempt(verb)
        assert everything() == before

    # ---- what the user does --------------------------------------------------------------------------------------

    @initialize(to=SOME_SERVICES)
    def begin(self, to: list[str]) -> None:
        self.put("a", b"first", to, False)
        self.put("d/a", b"other", ["one", "two"], False)

    @rule(path=NAMES, content=CONTENT, to=SOME_SERVICES, force=YES_OR_NO)
    def put(self, path: str, content: bytes, to: list[str], force: bool) -> None:
        source = self.folder / "source"
        write_tree(source, {"file": content})
        # as in life, two writes of one file do not bear the same time
        os.utime(source / "file", ns=(0, 1_700_000_000_000_000_000 + next(self.runs)))
        self.dry(lambda: self.vdir.put(str(source / "file"), f"/{path}", to=to, force=force, dryrun=True))
        report = self.attempt(lambda: self.vdir.put(str(source / "file"), f"/{path}", to=to, force=force))
        if force:
            self.overwritten({(service, path) for service in to})
        if report is not None and (report.files or report.skipped):
            known = self.names.get(path)
            if known is None or known.content != content:
                self.names[path] = Name(content)
                if known is not None and force:  # forced onto all services that held the old content
                    self.overwritten({(one.service, one.path) for one in self.vdir.status(f"/{path}").replicas})
            self.settle(path)
            if not report.errors and report.files:
                assert self.names[path].safe

    @rule(path=NAMES, service=SERVICE, pick=PICK)
    def add(self, path: str, service: str, pick: int) -> None:
        at = chosen(sorted(read_tree(self.folder / service)), pick)
        content = self.there(service, at)
        self.dry(lambda: self.vdir.add(f"{service}:{at}", f"/{path}", dryrun=True))
        report = self.attempt(lambda: self.vdir.add(f"{service}:{at}", f"/{path}"))
        if report is None:
            return
        assert content is not None
        if path in self.names:
            assert self.names[path].content == content, "a further replica has the same content"
        self.names.setdefault(path, Name(content))
        self.settle(path)

    @rule(pick=PICK, to=SOME_SERVICES, force=YES_OR_NO)
    def copy(self, pick: int, to: list[str], force: bool) -> None:
        path = chosen(sorted(self.names), pick)
        places = {one.service: one.path for one in self.replicas(path)}
        self.dry(lambda: self.vdir.copy(f"/{path}", to=to, force=force, dryrun=True))
        report = self.attempt(lambda: self.vdir.copy(f"/{path}", to=to, force=force))
        if force:
            self.overwritten({(service, places.get(service, path)) for service in to})
        if report is not None:
            self.settle(path)

    @rule(pick=PICK, service=SERVICE)
    def drop(self, pick: int, service: str) -> None:
        path = chosen(sorted(self.names), pick)
        self.dry(lambda: self.vdir.drop(f"/{path}", from_=[service], dryrun=True))
        report = self.attempt(lambda: self.vdir.drop(f"/{path}", from_=[service]))
        if report is not None and report.files:
            assert service not in {one.service for one in self.replicas(path)}
            self.settle(path)

    @rule(pick=PICK, new=NAMES)
    def move(self, pick: int, new: str) -> None:
        path = chosen(sorted(self.names), pick)
        try:
            self.vdir.move(f"/{path}", f"/{new}")
        except StorageError:
            return
        self.names[new] = self.names.pop(path)

    @rule(pick=PICK, purge=YES_OR_NO, accept_loss=YES_OR_NO)
    def delete(self, pick: int, purge: bool, accept_loss: bool) -> None:
        path = chosen(sorted(self.names), pick)
        self.dry(lambda: self.vdir.delete(f"/{path}", purge=purge, accept_loss=accept_loss, dryrun=True))
        places = [(one.service, one.path) for one in self.replicas(path)]
        report = self.attempt(lambda: self.vdir.delete(f"/{path}", purge=purge, accept_loss=accept_loss))
        if report is None or report.errors:
            return
        gone = self.names.pop(path)
        if purge and not accept_loss and gone.safe:
            left = {self.there(one.service, one.path) for name in self.names for one in self.replicas(name)}
            assert gone.content in left, "the last copy is gone"
        used = {place for name in self.names for place in ((one.service, one.path) for one in self.replicas(name))}
        for place in places:
            if not purge and place not in used and (content := self.there(*place)) is not None:
                self.foreign[place] = content  # nobody's any more: to be left alone

    @rule(path=NAMES, services=st.lists(SERVICE, max_size=2, unique=True))
    def prefer(self, path: str, services: list[str]) -> None:
        if path in self.names:
            self.vdir.prefer(f"/{path}", services)
            usable = [one for one in self.vdir.why(f"/{path}") if one.rank is not None]
            choice = [one for one in usable if "when it was last read" not in one.reason]
            ranked = [one.service for one in choice if one.service in services]
            assert ranked == [one for one in services if one in ranked]

    @rule()
    def check(self) -> None:
        self.vdir.status("/", check=True)

    @rule(accept_loss=YES_OR_NO)
    def sync(self, accept_loss: bool) -> None:
        self.dry(lambda: self.vdir.sync("/", accept_loss=accept_loss, dryrun=True))
        found = {
            path: {place: self.foreign.get((place.service, place.path)) for place in self.replicas(path)}
            for path in self.names
        }
        before = {path: {self.there(place.service, place.path) for place in found[path]} - {None} for path in found}
        report = self.attempt(lambda: self.vdir.sync("/", accept_loss=accept_loss))
        for path, places in found.items():
            status = self.vdir.status(f"/{path}")
            if status.sha256 not in (None, sha256(self.names[path].content)):
                (won,) = (one for one in before[path] if one is not None and sha256(one) == status.sha256)
                self.names[path].content = won
            kept = {one.sha256 for one in self.vdir.history(f"/{path}")}
            for place, content in places.items():
                if content is not None and self.there(place.service, place.path) != content:
                    assert sha256(content) in kept, "what others wrote is overwritten only when it is kept"
                    del self.foreign[place.service, place.path]
            self.settle(path)
        if report is not None and not report.errors:
            assert not self.vdir.status("/", check=True).problems
            again = self.vdir.sync("/")
            assert not again
            assert not again.errors

    # ---- what others do ------------------------------------------------------------------------------------------

    @rule(service=SERVICE, path=NAMES, content=CONTENT)
    def somebody_writes(self, service: str, path: str, content: bytes) -> None:
        write_tree(self.folder / service, {path: content})
        os.utime(self.folder / service / path, ns=(0, 1_600_000_000_000_000_000 + next(self.runs)))
        self.touch(service, path)
        for name in self.names.values():
            if name.safe.get(service) == path and name.content != content:
                del name.safe[service]
        self.foreign[service, path] = content
        place = Place(service, path)
        if any(place in self.replicas(name) and self.names[name].content == content for name in self.names):
            del self.foreign[service, path]  # a replica with its own content again is a replica

    @rule(service=SERVICE, path=NAMES)
    def somebody_removes(self, service: str, path: str) -> None:
        (self.folder / service / path).unlink(missing_ok=True)
        self.disturbed(service, path)
        self.foreign.pop((service, path), None)

    @rule(service=SERVICE, path=NAMES)
    def somebody_touches(self, service: str, path: str) -> None:
        file = self.folder / service / path
        if file.is_file():
            os.utime(file, ns=(0, 1_650_000_000_000_000_000 + next(self.runs)))
            self.touch(service, path)

    # ---- what must always hold -----------------------------------------------------------------------------------

    def replicas(self, path: str) -> list[Place]:
        if path not in self.names:
            return []
        return [Place(one.service, one.path) for one in self.vdir.status(f"/{path}").replicas]

    def shared(self) -> bool:
        places = [place for path in self.names for place in self.replicas(path)]
        return len(set(places)) < len(places)

    @invariant()
    def the_names_are_those_of_the_model(self) -> None:
        assert {one.path[1:] for one in self.vdir.ls("/", recursive=True) if one.kind == "file"} == set(self.names)

    @invariant()
    def what_was_acknowledged_can_be_read(self) -> None:
        for path, name in self.names.items():
            try:
                assert b"".join(self.vdir.cat(f"/{path}")) == name.content
            except StorageError:
                assert not name.safe, f"/{path} is on {name.safe}"

    @invariant()
    def what_others_wrote_is_untouched(self) -> None:
        for (service, path), content in self.foreign.items():
            assert self.there(service, path) == content

    @invariant()
    def nothing_of_ours_is_left_lying_about(self) -> None:
        for name in SERVICES:
            assert not list((self.folder / name).rglob(f"{TEMPORARY_PREFIX}*"))


@dataclass(frozen=True)
class Place:
    """A file on a service."""

    service: str
    path: str


def test_the_virtual_directory_keeps_its_promises(home: Path, tmp_path: Path) -> None:
    configure(home, [local(name, tmp_path / name) for name in SERVICES])
    examples = int(os.environ.get("CDIR_MODEL_EXAMPLES", "0"))
    with Database() as database, Vdir(parallel=2, database=database) as vdir:
        run_state_machine_as_test(
            type("BoundMachine", (Machine,), {"vdir": vdir, "folder": tmp_path}),
            settings=settings(
                max_examples=examples or 60,
                stateful_step_count=25,
                deadline=None,
                derandomize=not examples,
                database=None,
                suppress_health_check=list(HealthCheck),
            ),
        )
