"""`history` and `restore`: the contents that a name had."""

from __future__ import annotations

from collections.abc import Sequence

from cloudmesh.storage.abc import Entry
from cloudmesh.storage.errors import NotFound, Refused
from cloudmesh.storage.transfer.events import Event
from cloudmesh.storage.transfer.report import Report
from cloudmesh.vdir import versions
from cloudmesh.vdir.claiming import claiming, working_on_it
from cloudmesh.vdir.distribute import bring
from cloudmesh.vdir.kept import fetched
from cloudmesh.vdir.nodes import Node, Replica
from cloudmesh.vdir.records import NameVersion, is_good
from cloudmesh.vdir.recovery import recover
from cloudmesh.vdir.renewal import Renewal, renew
from cloudmesh.vdir.sources import Source, sha256_of
from cloudmesh.vdir.work import Work


def history(node: Node, replicas: Sequence[Replica], work: Work) -> list[NameVersion]:
    """Return the content that a name has, and those that were kept, the newest first."""
    where = [f"{one.service}:{one.path}" for one in replicas if is_good(node, one)]
    current = NameVersion(node.version, "current", node.size, node.mtime_ns, None, node.origin, where, node.sha256)
    kept = versions.of(work.catalogue.database, [node.id]).get(node.id, [])
    return [
        current,
        *(
            NameVersion(
                one.version,
                "kept",
                one.size,
                one.mtime_ns,
                one.replaced_ns,
                one.origin,
                [f"{one.service}:{one.path}"],
                one.sha256,
            )
            for one in kept
            if one.version != node.version
        ),
    ]


def restore(path: str, version: int, work: Work, report: Report) -> None:
    """Make a kept content the newest version of its name, on all services that have the name; the present one is kept.

    Args:
        path: virtual path.
        version: which.
        work: the catalogue and the services.
        report: counts the copies.

    Raises:
        NotFound: there is no such name, or no such version is kept.
        Refused: another process works on the name, or it has that content already.
        ChecksumMismatch: the kept file is damaged; nothing was changed.
    """
    name = f"/{path}"
    with claiming(work, "vdir restore") as claims:
        entry_id = work.catalogue.lookup(path).id
        with claims.claimed([entry_id]) as held:
            if held:
                raise working_on_it(path, held[entry_id])
            recover([entry_id], work, {})
            node = work.catalogue.lookup(path)
            kept = next(
                (
                    one
                    for one in versions.of(work.catalogue.database, [node.id]).get(node.id, [])
                    if one.version == version
                ),
                None,
            )
            if kept is None:
                raise NotFound(f"{name} version {version}", "is not kept", f"cms vdir history {name}")
            if node.sha256 is not None and kept.sha256 == node.sha256:
                raise Refused(name, f"has the content of version {version} already")
            kept = fetched(kept, node, work)
            service = work.open(kept.service)
            there = service.stat(kept.path)
            entry = Entry(kept.path, size=kept.size, mtime_ns=kept.mtime_ns, etag=there.etag, hashes=there.hashes)
            source = Source(service, entry)
            replicas = work.catalogue.replicas_of([node])[node.id]
            services = [one.service for one in replicas] or [kept.service]
            renewal = Renewal(node, replicas, source, kept.sha256 or sha256_of(source), services)
            for one in services:
                work.observer(Event("planned", f"{name} on {one}", kept.size or 0))
            bring(renew([renewal], work, report), work, report)
