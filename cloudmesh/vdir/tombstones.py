"""Names that were deleted because somebody deleted a replica, and those of their files that are still to be removed.

The name goes and the tombstones come in one transaction, before any file is removed. So a service that was away, or a
process that died, brings no deleted name back: the next run removes the file, if it is still as it was.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from sqlalchemy.sql.expression import text

from cloudmesh.storage import paths
from cloudmesh.storage.abc import StorageABC
from cloudmesh.storage.database import Database, clock_ns
from cloudmesh.storage.errors import NotFound, StorageError
from cloudmesh.storage.paths import Location
from cloudmesh.storage.pool import run_parallel
from cloudmesh.storage.transfer.report import Report
from cloudmesh.vdir import bulk, schema, versions
from cloudmesh.vdir.catalogue import Catalogue
from cloudmesh.vdir.copies import is_as_seen
from cloudmesh.vdir.lookup import chunks
from cloudmesh.vdir.nodes import Node, Replica
from cloudmesh.vdir.removal import remove_empty
from cloudmesh.vdir.sources import Source, sha256_of
from cloudmesh.vdir.work import Work

_PAGE = 1000

_COLUMNS = "service, path, name, size, mtime_ns, mtime_precision_ns, etag, sha256"
_FIRST = text(f"SELECT {_COLUMNS} FROM tombstone ORDER BY service, path LIMIT :limit")  # noqa: S608
_NEXT = text(
    f"SELECT {_COLUMNS} FROM tombstone WHERE (service, path) > (:service, :path)"  # noqa: S608
    " ORDER BY service, path LIMIT :limit"
)
_FORGET = "DELETE FROM tombstone WHERE (service, path) IN (SELECT k.service, k.path FROM {keys})"
_DELETE = "DELETE FROM entry WHERE (id, version) IN (SELECT k.id, k.version FROM {keys}) AND NOT is_directory"


def bury(catalogue: Catalogue, deleted: Sequence[tuple[Node, Sequence[Replica]]]) -> None:
    """Delete names that have not got another content meanwhile, and write down which of their files are still there.

    Those that may not be written about stay.

    Args:
        catalogue: where.
        deleted: names, each with its replicas that may still be there.
    """
    with catalogue.database.write() as connection:
        ours = catalogue.writable(connection, {node.id for node, _ in deleted})
        deleted = [one for one in deleted if one[0].id in ours]
        now_ns = clock_ns(connection)
        rows: dict[tuple[str, str], tuple[object, ...]] = {}
        for node, replicas in deleted:
            for one in replicas:
                sha256 = bytes.fromhex(one.sha256) if one.sha256 else None
                facts = (one.size, one.mtime_ns, one.mtime_precision_ns, one.etag, sha256)
                rows[one.service, one.path] = (one.service, one.path, node.path, *facts, now_ns)
        bulk.insert(connection, schema.tombstone, list(rows.values()), replace=True)
        versions.bury(connection, [node.id for node, _ in deleted])
        bulk.execute(connection, _DELETE, ("id", "version"), [(node.id, node.version) for node, _ in deleted])


def settle(directory: str, work: Work, report: Report, away: Iterable[str]) -> None:
    """Remove the files of deleted names, below a virtual directory, that are still as they were.

    A file that was changed meanwhile, or that a name uses again, stays, and is no longer ours to remove.

    Args:
        directory: virtual path.
        work: the catalogue and the services.
        report: counts the failures.
        away: services that cannot be asked; their files stay for the next run. So do those of services that are not
            configured any more, until they are again.
    """
    there = set(work.services.names()) - set(away)
    for batch in chunks(_tombstones(work.catalogue.database), _PAGE):
        mine = [
            (name, stone)
            for name, stone in batch
            if (name in ("", directory) or paths.is_below(name, directory)) and stone.service in there
        ]
        used = work.catalogue.find_by_location(Location(stone.service, stone.path) for _, stone in mine)
        done: list[tuple[str, str]] = []
        ours: list[Replica] = []
        for _, stone in mine:
            if Location(stone.service, stone.path) in used:
                done.append((stone.service, stone.path))
            else:
                ours.append(stone)
        for stone, result in run_parallel(
            lambda stone: _remove(stone, work), ours, work.threads({stone.service for stone in ours})
        ):
            if isinstance(result, StorageError):
                report.fail(f"{stone.service}:{stone.path}", result)
            else:
                done.append((stone.service, stone.path))
        kept = {Location(service, paths.parent(path)) for service, path in done if paths.is_below(path, paths.VERSIONS)}
        remove_empty(kept, work)
        if done:
            with work.catalogue.database.write() as connection:
                bulk.execute(connection, _FORGET, ("service", "path"), done)


def _remove(stone: Replica, work: Work) -> None:
    service = work.target(stone.service)
    try:
        if paths.is_below(stone.path, paths.VERSIONS) or _is_ours(stone, service):
            service.remove(stone.path)
    except NotFound:
        return


def _is_ours(stone: Replica, service: StorageABC) -> bool:
    """Tell whether a file is as it was. What was only just written when the name was deleted bears a token and a time
    that the service had not told by then: its bytes decide."""
    there = service.stat(stone.path)
    if is_as_seen(stone, there):
        return True
    may_be = stone.sha256 is not None and not there.is_directory and there.size == stone.size
    return may_be and sha256_of(Source(service, there)) == stone.sha256


def _tombstones(database: Database) -> Iterator[tuple[str, Replica]]:
    """Yield the names that were deleted, each with one file of it; in pages, so that they may go meanwhile."""
    with database.read() as connection:
        rows = connection.execute(_FIRST, {"limit": _PAGE}).all()
    while rows:
        for service, path, name, size, mtime_ns, precision, etag, sha256 in rows:
            digest = None if sha256 is None else sha256.hex()
            yield name, Replica(service, path, "deleting", size, mtime_ns, precision, etag, sha256=digest)
        if len(rows) < _PAGE:
            return
        last = {"service": rows[-1][0], "path": rows[-1][1], "limit": _PAGE}
        with database.read() as connection:
            rows = connection.execute(_NEXT, last).all()
