"""What every kind of long work on the virtual directory needs."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property

from cloudmesh.storage.abc import StorageABC
from cloudmesh.storage.errors import ConfigError, IsADirectory, NotADirectory, StorageError, VaultError
from cloudmesh.storage.pool import threads_for
from cloudmesh.storage.services import Services
from cloudmesh.storage.speed import measured
from cloudmesh.storage.transfer.events import Observer
from cloudmesh.storage.transfer.report import Report
from cloudmesh.vdir.catalogue import Catalogue
from cloudmesh.vdir.nodes import NewFile, Node, Replica
from cloudmesh.vdir.placement import Knowledge, usable
from cloudmesh.vdir.sources import Source, source_of


@dataclass
class Work:
    """The catalogue and the services, and how to work with them.

    Attributes:
        catalogue: the names.
        services: opens services.
        parallel: files under way at once; the default where None.
        observer: hears of the progress.
    """

    catalogue: Catalogue
    services: Services
    parallel: int | None
    observer: Observer

    def open(self, service: str) -> StorageABC:
        """Return the service called ``service``. Raises as `Services.open`."""
        return self.services.open(service)

    @cached_property
    def knowledge(self) -> Knowledge:
        """What decides between replicas, as known when it is first asked."""
        kinds = {service.name: service.kind for service in self.services.configuration.services()}
        return Knowledge(kinds, measured(self.catalogue.database, "read"))

    def threads(self, services: Iterable[str], mean_bytes: float = 0) -> int:
        """Return how many files to have under way at once, on these services and this computer's disk."""
        return self.parallel or threads_for((self.knowledge.kinds.get(one, "") for one in services), mean_bytes)

    def sources(self, node: Node, replicas: Sequence[Replica]) -> list[Source]:
        """Return the replicas that a file can be read from, the best first.

        Raises:
            ConfigError: as `open`, where none of their services can be opened.
        """
        found: list[Source] = []
        failure: ConfigError | None = None
        for one in usable(node, replicas, self.knowledge):
            try:
                found.append(source_of(self.open(one.service), node, one))
            except ConfigError as error:
                failure = error
        if failure is not None and not found:
            raise failure
        return found

    def register(self, files: Sequence[NewFile]) -> dict[str, StorageError]:
        """Add files to the catalogue; return by path those in whose way another name is: the others go on without."""
        try:
            self.catalogue.register(files)
        except (IsADirectory, NotADirectory):
            failed: dict[str, StorageError] = {}
            for one in files:
                try:
                    self.catalogue.register([one])
                except (IsADirectory, NotADirectory) as error:
                    failed[one.path] = error
            return failed
        return {}


@contextmanager
def counting_unusable(node: Node, report: Report) -> Iterator[None]:
    """Count a service that cannot be opened as the failure of one name, so that the other names go on.

    Raises:
        VaultError: as it is; else every name would ask for the passphrase again.
    """
    try:
        yield
    except VaultError:
        raise
    except ConfigError as error:
        report.fail(f"/{node.path}", error)
