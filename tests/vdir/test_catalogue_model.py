"""The catalogue against a dictionary: whatever is done to both, they tell the same."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule, run_state_machine_as_test

from cloudmesh.storage import paths
from cloudmesh.storage.database import Database
from cloudmesh.storage.errors import StorageError
from cloudmesh.storage.paths import Location
from cloudmesh.vdir.catalogue import Catalogue
from cloudmesh.vdir.exchange import export_lines, import_lines
from cloudmesh.vdir.nodes import NewFile, Replica

NAMES = st.sampled_from(["a", "b", "a-b", "a.b", "ü", "a b", "%", "\U0001f600"])
PATHS = st.lists(NAMES, min_size=0, max_size=4).map("/".join)
SERVICES = st.sampled_from(["aws", "box", "nas"])


@dataclass
class Thing:
    """What the model knows of a name: for a directory ``replicas`` is None."""

    replicas: dict[str, str] | None = None
    preferred: tuple[str, ...] = ()


@dataclass
class Model:
    """The names, by path."""

    things: dict[str, Thing] = field(default_factory=lambda: {"": Thing()})

    def is_directory(self, path: str) -> bool:
        return path in self.things and self.things[path].replicas is None

    def way(self, path: str) -> list[str]:
        parts = path.split("/") if path else []
        return ["", *("/".join(parts[: i + 1]) for i in range(len(parts) - 1))] if parts else []

    def blocked(self, path: str) -> bool:
        return any(above in self.things and not self.is_directory(above) for above in self.way(path))

    def below(self, path: str) -> list[str]:
        return [p for p in self.things if p and (not path or p.startswith(path + "/"))]

    def make_parents(self, path: str) -> None:
        for above in self.way(path):
            self.things.setdefault(above, Thing())

    def preference(self, path: str) -> tuple[str, ...]:
        for place in [path, *reversed(self.way(path))]:
            if self.things[place].preferred:
                return self.things[place].preferred
        return ()


class Machine(RuleBasedStateMachine):
    catalogue: Catalogue

    def __init__(self) -> None:
        super().__init__()
        self.model = Model()
        for node in list(self.catalogue.children("")):
            self.catalogue.remove(node.path, recursive=True)
        self.catalogue.prefer("", None)

    def both(self, allowed: bool, change: Callable[[], object]) -> bool:
        """Make a change that the model allows or does not; tell whether the model has to follow."""
        if allowed:
            change()
        else:
            with pytest.raises(StorageError):
                change()
        return allowed

    @rule(path=PATHS, service=SERVICES)
    def register(self, path: str, service: str) -> None:
        allowed = bool(path) and not self.model.blocked(path) and not self.model.is_directory(path)
        file = NewFile(path, 1, 2, None, (Replica(service, f"at/{path}"),))
        if self.both(allowed, lambda: self.catalogue.register([file])):
            self.model.make_parents(path)
            replicas = self.model.things.setdefault(path, Thing(replicas={})).replicas
            assert replicas is not None
            replicas[service] = f"at/{path}"

    @rule(path=PATHS, parents=st.booleans(), exist_ok=st.booleans())
    def make_dir(self, path: str, parents: bool, exist_ok: bool) -> None:
        model = self.model
        if path in model.things:
            allowed = exist_ok and model.is_directory(path)
        else:
            allowed = not model.blocked(path) and (parents or paths.parent(path) in model.things)
        if self.both(allowed, lambda: self.catalogue.make_dir(path, parents=parents, exist_ok=exist_ok)):
            model.make_parents(path)
            model.things.setdefault(path, Thing())

    @rule(source=PATHS, destination=PATHS)
    def move(self, source: str, destination: str) -> None:
        model = self.model
        allowed = source in model.things and (
            source == destination
            or (
                bool(source)
                and destination not in model.things
                and model.is_directory(paths.parent(destination))
                and not destination.startswith(source + "/")
            )
        )
        if self.both(allowed, lambda: self.catalogue.move(source, destination)) and source != destination:
            for path in [source, *model.below(source)]:
                model.things[destination + path[len(source) :]] = model.things.pop(path)

    @rule(path=PATHS, recursive=st.booleans())
    def remove(self, path: str, recursive: bool) -> None:
        model = self.model
        allowed = bool(path) and path in model.things and (recursive or not model.below(path))
        if self.both(allowed, lambda: self.catalogue.remove(path, recursive=recursive)):
            for gone in [path, *model.below(path)]:
                del model.things[gone]

    @rule(path=PATHS, services=st.lists(SERVICES, unique=True, max_size=2))
    def prefer(self, path: str, services: list[str]) -> None:
        if self.both(path in self.model.things, lambda: self.catalogue.prefer(path, services)):
            self.model.things[path].preferred = tuple(services)

    @precondition(lambda self: any(thing.replicas for thing in self.model.things.values()))
    @rule(data=st.data())
    def forget_replica(self, data: st.DataObject) -> None:
        path = data.draw(st.sampled_from(sorted(p for p, t in self.model.things.items() if t.replicas)))
        replicas = self.model.things[path].replicas
        assert replicas is not None
        service = data.draw(st.sampled_from(sorted(replicas)))
        node = self.catalogue.lookup(path)
        self.catalogue.remove_replicas([Replica(service, replicas.pop(service), entry_id=node.id)])

    @rule()
    def export_and_import(self) -> None:
        import_lines(self.catalogue, list(export_lines(self.catalogue)))

    @rule(path=PATHS)
    def look_at_one(self, path: str) -> None:
        if self.both(path in self.model.things, lambda: self.catalogue.lookup(path)):
            node = self.catalogue.lookup(path)
            assert node.is_directory == self.model.is_directory(path)
            totals = self.catalogue.totals(path)
            things = [self.model.things[p] for p in [path, *self.model.below(path)]]
            assert totals.files == sum(thing.replicas is not None for thing in things)
            assert totals.directories == len(things) - totals.files
            assert sum(s.files for s in totals.services) == sum(len(thing.replicas or ()) for thing in things)

    @invariant()
    def tell_the_same(self) -> None:
        seen = list(self.catalogue.with_replicas(self.catalogue.walk("")))
        assert [node.sort_key for node, _ in seen] == sorted(node.sort_key for node, _ in seen)
        assert {
            node.path: ({r.service: r.path for r in replicas} if not node.is_directory else None, node.preferred)
            for node, replicas in seen
        } == {path: (thing.replicas, self.model.preference(path)) for path, thing in self.model.things.items() if path}
        assert self.catalogue.lookup_many([path for path in self.model.things if path]) == {
            node.path: node for node, _ in seen
        }
        used: dict[Location, tuple[str, ...]] = {}
        for node, replicas in sorted(seen, key=lambda item: item[0].id):
            for replica in replicas:
                location = Location(replica.service, replica.path)
                used[location] = (*used.get(location, ()), node.path)
        assert self.catalogue.find_by_location(used) == used
        assert self.catalogue.services_in_use() == sorted({location.service for location in used})


@pytest.mark.parametrize(("kind", "examples"), [("sqlite", 40), ("postgresql", 25)])
def test_catalogue_is_like_a_dictionary(kind: str, examples: int, request: pytest.FixtureRequest) -> None:
    with tempfile.TemporaryDirectory() as folder:
        file = f"sqlite:///{Path(folder) / 'vdir.db'}"
        url = file if kind == "sqlite" else request.getfixturevalue("database_url")
        with Database(url) as database:
            machine = type("BoundMachine", (Machine,), {"catalogue": Catalogue(database)})
            run_state_machine_as_test(
                machine,
                settings=settings(
                    max_examples=examples,
                    stateful_step_count=20,
                    deadline=None,
                    suppress_health_check=list(HealthCheck),
                ),
            )
