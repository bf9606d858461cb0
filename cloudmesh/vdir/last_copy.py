"""Before a service is forgotten: whether its files are somewhere else too, by asking the other services right then."""

from __future__ import annotations

from collections.abc import Iterator

from cloudmesh.storage.database import Database
from cloudmesh.storage.errors import Refused
from cloudmesh.storage.health import Health
from cloudmesh.storage.services import Services
from cloudmesh.storage.transfer.events import nobody
from cloudmesh.vdir.catalogue import Catalogue
from cloudmesh.vdir.lookup import chunks
from cloudmesh.vdir.nodes import Node, Replica
from cloudmesh.vdir.records import is_trusted
from cloudmesh.vdir.scrub import Inspector
from cloudmesh.vdir.work import BATCH, Work

_NAMED = 5
"""Names that a refusal tells of."""


def refuse_last_copies(service: str) -> None:
    """Refuse that a service is forgotten that has the last good replica of a name. Called when a service is removed.

    Raises:
        Refused: it has; nothing else may have the content, or cannot be asked.
    """
    if not Database.exists():
        return
    with Database() as database:
        catalogue = Catalogue(database)
        if service not in catalogue.services_in_use():
            return
        services = Services()
        try:
            names, count = [], 0
            for node in _only_on(service, Work(catalogue, services, None, nobody, Health(database))):
                count += 1
                if count <= _NAMED:
                    names.append(f"/{node.path}")
        finally:
            services.close()
    if count:
        more = f" and {count - len(names)} more" if count > len(names) else ""
        raise Refused(
            service,
            f"no other service has a good replica of {', '.join(names)}{more}",
            f"cms vdir copy NAME --to=OTHER makes one, cms vdir delete NAME gives it up; cms vdir ls {names[0]}",
        )


def _only_on(service: str, work: Work) -> Iterator[Node]:
    """Yield the names on ``service`` that no other service has, in the order of their paths, as a stream."""
    inspector = Inspector(work)
    for batch in chunks(_held(service, work.catalogue), BATCH):
        found = inspector.inspect([(node, others) for node, others in batch if others])
        safe = {node.id for node, each in found if any(is_trusted(node, one.now) and not one.error for one in each)}
        yield from (node for node, _ in batch if node.id not in safe)


def _held(service: str, catalogue: Catalogue) -> Iterator[tuple[Node, tuple[Replica, ...]]]:
    """Yield the files that a service may hold, each with the trusted replicas that it has elsewhere."""
    for node, replicas in catalogue.with_replicas(catalogue.walk("")):
        if any(one.service == service and one.state != "missing" for one in replicas):
            yield node, tuple(one for one in replicas if one.service != service and is_trusted(node, one))
