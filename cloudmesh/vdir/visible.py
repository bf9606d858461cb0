"""The catalogue as it is for somebody who may use only some of the services."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from itertools import chain
from typing import Any

from cloudmesh.storage.database import Database
from cloudmesh.storage.errors import NotADirectory, NotFound, PermissionDenied
from cloudmesh.vdir.catalogue import Catalogue
from cloudmesh.vdir.lookup import shown
from cloudmesh.vdir.nodes import Node, Replica, ServiceTotal, State, Totals

_REPLICAS = "SELECT 1 FROM replica AS r WHERE r.entry_id = e.id"


class VisibleCatalogue(Catalogue):
    """The names that lie on certain services: a file that lies only on others is as one that is not there.

    Directories lie on no service, and are all there. What is done with a name that is there is told all its replicas:
    who gives it a new content has to know them, and opens none that is not allowed.

    Args:
        database: where it is kept; it stays the caller's to close.
        services: names of those that may be used.
    """

    def __init__(self, database: Database, services: Collection[str]) -> None:
        super().__init__(database)
        self._services = frozenset(services)
        self._names = {f"allowed{number}": name for number, name in enumerate(sorted(services))}
        among = ", ".join(f":{one}" for one in self._names) or "NULL"
        on_them = f"{_REPLICAS} AND r.service IN ({among})"
        self._listed = f" AND (e.is_directory OR NOT EXISTS ({_REPLICAS}) OR EXISTS ({on_them}))"

    def lookup(self, path: str) -> Node:
        """Return what is at ``path``; raises as `Catalogue.lookup`."""
        return self.lookup_with_replicas(path)[0]

    def lookup_with_replicas(self, path: str) -> tuple[Node, tuple[Replica, ...]]:
        """Return what is at ``path``, and its replicas; raises as `Catalogue.lookup`."""
        try:
            node, replicas = super().lookup_with_replicas(path)
        except NotADirectory:
            if self._sees(super().way(path)[-1]):  # the file that is in the way
                raise
            raise NotFound(shown(path)) from None
        if not self._allows(replicas):
            raise NotFound(shown(path))
        return node, replicas

    def way(self, path: str) -> list[Node]:
        """Return the entries on the way to ``path``, from the root on, as far as there are any."""
        return list(self._seen(super().way(path)))

    def lookup_many(self, files: Iterable[str]) -> dict[str, Node]:
        """Return what is at those of ``files`` (virtual paths) that there are."""
        found = super().lookup_many(files)
        seen = {node.id for node in self._seen(found.values())}
        return {path: node for path, node in found.items() if node.id in seen}

    def totals(self, path: str) -> Totals:
        """Return how much there is at and below ``path``; raises as `Catalogue.totals`."""
        top = self.lookup(path)
        below = self.walk(path) if top.is_directory else ()
        files = directories = size = 0
        counts: Counter[tuple[str, State]] = Counter()
        sizes: Counter[tuple[str, State]] = Counter()
        for node, replicas in self.with_replicas(chain([top], below)):
            directories += node.is_directory
            files += not node.is_directory
            size += node.size or 0
            for one in replicas:
                if one.service in self._services:
                    counts[one.service, one.state] += 1
                    sizes[one.service, one.state] += one.size or 0
        totals = tuple(ServiceTotal(*key, counts[key], sizes[key]) for key in sorted(counts))
        return Totals(files, directories, size, totals)

    def check_removal(self, path: str) -> None:
        """Refuse what lies, or has something below it, on services that may not be used; raises as `remove`."""
        self.lookup(path)
        if any(one.service not in self._services for one in super().totals(path).services):
            raise PermissionDenied(shown(path), "some of it lies on services that may not be used")

    def move(self, source: str, destination: str) -> Node:
        """Give a file or directory another path; raises as `Catalogue.move`, and PermissionDenied as `remove`."""
        self.check_removal(source)
        return super().move(source, destination)

    def remove(self, path: str, *, recursive: bool = False) -> None:
        """Remove a name; raises as `Catalogue.remove`.

        Raises:
            PermissionDenied: a replica of it, or of what is below, lies on a service that may not be used.
        """
        self.check_removal(path)
        super().remove(path, recursive=recursive)

    def prefer(self, path: str, services: Sequence[str] | None = None, rankers: Sequence[str] | None = None) -> None:
        """Set what is preferred; raises as `Catalogue.prefer`."""
        self.lookup(path)
        super().prefer(path, services, rankers)

    def set_rules(self, path: str, rules: Mapping[str, Any] | None) -> None:
        """Set a directory's own rules; raises as `Catalogue.set_rules`."""
        self.lookup(path)
        super().set_rules(path, rules)

    def _condition(self, like: str | None) -> tuple[str, dict[str, str]]:
        condition, values = super()._condition(like)
        return condition + self._listed, values | self._names

    def _sees(self, node: Node) -> bool:
        return next(self._seen([node]), None) is not None

    def _seen(self, nodes: Iterable[Node]) -> Iterator[Node]:
        for node, replicas in self.with_replicas(nodes):
            if self._allows(replicas):
                yield node

    def _allows(self, replicas: Sequence[Replica]) -> bool:
        return not replicas or any(one.service in self._services for one in replicas)
