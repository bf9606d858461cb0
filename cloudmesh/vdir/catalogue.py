"""The catalogue: which names there are, and which real files on which services stand behind each.

Paths are normalised virtual paths (`paths.resolve`); the root is ``""``. Errors name a path as the user types it, with
a slash before it. Listings come in the order of `paths.sort_key`, the order of every scan of a service, so that a tree
of names and a tree of files can be merged as streams.

A listing is read in pages, each a short transaction of its own: it needs little memory and keeps nobody from writing.
What comes or goes while it runs may or may not be seen. Every change is one transaction, alone among all writers.
"""

from __future__ import annotations

import json
import re
import time
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from fnmatch import translate as regex_of_glob
from functools import cache
from typing import TYPE_CHECKING, Any

from sqlalchemy.engine import Connection
from sqlalchemy.sql.expression import TextClause, text

from cloudmesh.storage import paths
from cloudmesh.storage.database import Database
from cloudmesh.storage.errors import (
    AlreadyExists,
    DirectoryNotEmpty,
    IsADirectory,
    NotFound,
    PreconditionFailed,
    Refused,
)
from cloudmesh.storage.paths import Location
from cloudmesh.vdir import bulk, intents, schema, versions
from cloudmesh.vdir.intents import Intent
from cloudmesh.vdir.lookup import (
    BY_ID,
    BY_NAME,
    COLUMNS,
    REPLICA_COLUMNS,
    chain,
    check_path,
    chunks,
    depth,
    lookup,
    lookup_levels,
    lookup_with_replicas,
    need_directory,
    paths_of,
    shown,
)
from cloudmesh.vdir.nodes import (
    ListingOrder,
    NewFile,
    Node,
    Registered,
    Replica,
    ServiceTotal,
    Totals,
    node_of,
    replica_of,
    replica_row,
)
from cloudmesh.vdir.registration import ensure_directories, register
from cloudmesh.vdir.versions import Kept

if TYPE_CHECKING:
    from cloudmesh.vdir.claims import Claims

PAGE = 1000
"""Names read in one query of a listing."""

BATCH = 5000
"""Files written in one transaction, about a tenth of a second."""

_REMOVED = "the name was removed meanwhile"

_AHEAD = 64
"""Directories whose first names a walk fetches together, where a query has a network to cross."""

_AHEAD_NAMES = 100

_BELOW = """
WITH RECURSIVE below(id, depth) AS (
    SELECT e.id, 0 FROM entry AS e WHERE e.id = :top
    UNION ALL
    SELECT e.id, below.depth + 1 FROM below JOIN entry AS e ON e.parent_id = below.id
)
"""
_MATCHING = " AND (e.is_directory OR e.name LIKE :like ESCAPE '\\')"
_PAGE = f"SELECT {COLUMNS} FROM entry AS e WHERE e.parent_id = :parent AND e.name > :after"  # noqa: S608
_FIRST_NAMES = (
    f"SELECT {COLUMNS} FROM {{keys}} CROSS JOIN LATERAL (SELECT * FROM entry AS e WHERE e.parent_id = k.id"  # noqa: S608
    "{condition} ORDER BY e.name LIMIT :limit) AS e ORDER BY e.parent_id, e.name"
)
_REPLICAS = (
    f"SELECT {REPLICA_COLUMNS} FROM {{keys}} CROSS JOIN replica AS r"  # noqa: S608
    " WHERE r.entry_id = k.entry_id ORDER BY r.entry_id, r.service"
)
_LOCATIONS = (
    "SELECT r.service, r.path, r.entry_id FROM {keys} CROSS JOIN replica AS r"  # noqa: S608
    f" WHERE r.service = k.service AND {schema.indexed('r.path')} = {schema.indexed('k.path')}"
    " AND r.path = k.path ORDER BY r.service, r.path, r.entry_id"
)
_DELETE_REPLICAS = "DELETE FROM replica WHERE entry_id IN (SELECT k.entry_id FROM {keys})"
_LOST = (
    "SELECT e.id FROM {keys} CROSS JOIN entry AS e WHERE e.id = k.id AND NOT e.is_directory AND NOT EXISTS"
    " (SELECT 1 FROM replica AS r WHERE r.entry_id = e.id AND r.state <> 'missing')"
)
_DELETE_ENTRIES = "DELETE FROM entry WHERE id IN (SELECT k.id FROM {keys})"


class Catalogue:
    """The virtual directory's names in one database. Threads may share it.

    Args:
        database: where it is kept; it stays the caller's to close.
        claims: of the process that works with it. With them, contents and replicas are written only of files that are
            claimed still: a process that slept too long writes nothing about what others work on meanwhile.
    """

    def __init__(self, database: Database, claims: Claims | None = None) -> None:
        self.database = database
        self.claims = claims

    # ---- reading --------------------------------------------------------------------------------------------------

    def lookup(self, path: str) -> Node:
        """Return what is at ``path``, in one query whose cost is the depth of the path.

        Raises:
            NotFound: nothing is there.
            NotADirectory: a parent of it is a file; that is the subject.
        """
        with self.database.read() as connection:
            return lookup(connection, path)[-1]

    def lookup_with_replicas(self, path: str) -> tuple[Node, tuple[Replica, ...]]:
        """Return what is at ``path``, and its replicas sorted by service, in one query; raises as `lookup`."""
        with self.database.read() as connection:
            return lookup_with_replicas(connection, path)

    def way(self, path: str) -> list[Node]:
        """Return the entries on the way to ``path``, from the root on, as far as there are any."""
        with self.database.read() as connection:
            return chain(connection, path)

    def lookup_many(self, files: Iterable[str]) -> dict[str, Node]:
        """Return what is at those of ``files`` (virtual paths) that there are, in one query a level and 5,000 paths."""
        found: dict[str, Node] = {}
        for batch in chunks(files, BATCH):
            for path in batch:
                check_path(path)
            with self.database.read() as connection:
                nodes = lookup_levels(connection, batch)
            found.update((path, nodes[path]) for path in batch if path in nodes)
        return found

    def children(self, directory: str) -> Iterator[Node]:
        """Yield what is in ``directory``, one level, as a stream.

        Raises (at the first step):
            NotFound, NotADirectory: as `lookup`, or ``directory`` is a file.
        """
        for page in self._pages(self._directory(directory), None):
            yield from page

    def walk(self, directory: str) -> Iterator[Node]:
        """Yield all that is below ``directory`` (not itself), each directory before what it holds, as a stream.

        Raises (at the first step):
            NotFound, NotADirectory: as `children`.
        """
        return self._walk(directory, None)

    def search(self, directory: str, pattern: str, *, recursive: bool = True) -> Iterator[Node]:
        """Yield what is below ``directory`` and whose name matches a glob (``*``, ``?``, ``[a-z]``, ``[!a-z]``).

        Upper and lower case differ. The database leaves out most of what does not match.

        Raises (at the first step):
            NotFound, NotADirectory: as `children`.
        """
        like, matches = _like_of_glob(pattern), re.compile(regex_of_glob(pattern)).match
        if recursive:
            nodes = self._walk(directory, like)
        else:
            nodes = (node for page in self._pages(self._directory(directory), like) for node in page)
        return (node for node in nodes if matches(node.name))

    def replicas_of(self, nodes: Collection[Node]) -> dict[int, tuple[Replica, ...]]:
        """Return the replicas of each file, by entry id and sorted by service; () for one that has none."""
        found: dict[int, tuple[Replica, ...]] = {node.id: () for node in nodes}
        return found | self.replicas_by_id(node.id for node in nodes if not node.is_directory)

    def replicas_by_id(self, files: Iterable[int]) -> dict[int, tuple[Replica, ...]]:
        """Return the replicas of files by entry id, sorted by service; () for one that has none."""
        found: dict[int, tuple[Replica, ...]] = {}
        for batch in chunks(files, PAGE):
            found.update((key, tuple(map(replica_of, rows))) for key, rows in self._replica_rows(batch).items())
        return found

    def with_replicas(self, nodes: Iterable[Node]) -> Iterator[tuple[Node, tuple[Replica, ...]]]:
        """Yield each node of a stream with its replicas, which are fetched for 1,000 at a time."""
        for node, rows in self.with_rows(nodes):
            yield node, tuple(map(replica_of, rows))

    def with_rows(self, nodes: Iterable[Node]) -> Iterator[tuple[Node, Sequence[Any]]]:
        """Yield each node of a stream with the rows of its replicas, as `replica_of` reads them.

        For those who look at most of them only in passing: making the replicas takes longer than fetching the rows.
        """
        for batch in chunks(nodes, PAGE):
            rows = self._replica_rows(node.id for node in batch if not node.is_directory)
            for node in batch:
                yield node, rows.get(node.id, ())

    def find_by_location(self, locations: Iterable[Location]) -> dict[Location, tuple[str, ...]]:
        """Return the virtual paths that already use each of the files; a file that no name uses is left out."""
        found: dict[Location, tuple[str, ...]] = {}
        for batch in chunks(locations, PAGE):
            with self.database.read() as connection:
                keys = [(location.service, location.path) for location in batch]
                rows = bulk.select(connection, _LOCATIONS, ("service", "path"), keys)
                names = paths_of(connection, {row[2] for row in rows})
            for service, path, entry_id in rows:
                if entry_id in names:
                    location = Location(service, path)
                    found[location] = (*found.get(location, ()), names[entry_id])
        return found

    def totals(self, path: str) -> Totals:
        """Return how much there is at and below ``path``, in all and by service and state.

        Raises:
            NotFound, NotADirectory: as `lookup`.
        """
        with self.database.read() as connection:
            top = {"top": lookup(connection, path)[-1].id}
            kinds = connection.execute(
                text(
                    f"{_BELOW} SELECT e.is_directory, count(*), coalesce(sum(e.size), 0)"  # noqa: S608
                    " FROM below CROSS JOIN entry AS e WHERE e.id = below.id GROUP BY e.is_directory"
                ),
                top,
            ).all()
            services = connection.execute(
                text(
                    f"{_BELOW} SELECT r.service, r.state, count(*), coalesce(sum(r.size), 0)"  # noqa: S608
                    " FROM below CROSS JOIN replica AS r WHERE r.entry_id = below.id"
                    " GROUP BY r.service, r.state ORDER BY r.service, r.state"
                ),
                top,
            ).all()
        counts = {bool(row[0]): (int(row[1]), int(row[2])) for row in kinds}
        files, size = counts.get(False, (0, 0))
        by_service = tuple(ServiceTotal(row[0], row[1], int(row[2]), int(row[3])) for row in services)
        return Totals(files, counts.get(True, (0, 0))[0], size, by_service)

    def services_in_use(self) -> list[str]:
        """Return the names of the services on which some replica lies, sorted."""
        # steps through the index from one service to the next, instead of reading all of it
        statement = (
            "WITH RECURSIVE s(service) AS (SELECT min(service) FROM replica UNION ALL SELECT"
            " (SELECT min(r.service) FROM replica AS r WHERE r.service > s.service) FROM s WHERE s.service IS NOT NULL)"
            " SELECT service FROM s WHERE service IS NOT NULL"
        )
        self._empty_trash()
        with self.database.read() as connection:
            return list(connection.exec_driver_sql(statement).scalars())

    # ---- changing names -------------------------------------------------------------------------------------------

    def make_dir(self, path: str, *, parents: bool = False, exist_ok: bool = False) -> Node:
        """Make a directory and return it.

        Args:
            path: of the directory.
            parents: make missing parents too.
            exist_ok: a directory that is there already is fine.

        Raises:
            AlreadyExists: something is there.
            NotFound: its parent is not there.
            NotADirectory: a parent is a file.
            InvalidName: the name cannot be held.
        """
        check_path(path)
        with self.database.write() as connection:
            found = chain(connection, path)
            missing = depth(path) + 1 - len(found)
            if missing == 0:
                if found[-1].is_directory and exist_ok:
                    return found[-1]
                raise AlreadyExists(shown(path))
            need_directory(found[-1])
            if missing > 1 and not parents:
                raise NotFound(shown(paths.parent(path)), "there is no such directory", "--parents makes it")
            ensure_directories(connection, {path})
            return chain(connection, path)[-1]

    def register(self, files: Iterable[NewFile]) -> Registered:
        """Add files in place, as a stream; missing directories are made.

        A new name gets its content and its replicas. A file that exists gets the replicas added, or renewed where it
        has one on the same service. Each 5,000 files are one transaction, so that after an error the batches before it
        stay; doing it again changes nothing.

        Raises:
            IsADirectory: a directory has that name.
            NotADirectory: a parent is a file.
            InvalidName: a name cannot be held.
        """
        new = existing = differing = 0
        for batch in chunks(files, BATCH):
            for file in batch:
                check_path(file.path)
                if not file.path:
                    raise IsADirectory(shown(""))
            with self.database.write() as connection:
                done = register(connection, batch)
            new, existing, differing = new + done.new, existing + done.existing, differing + done.differing
        return Registered(new, existing, differing)

    def move(self, source: str, destination: str) -> Node:
        """Give a file or directory the new path ``destination``; one row changes. Onto itself nothing happens.

        Raises:
            NotFound: there is no ``source``, or no directory to hold ``destination``.
            AlreadyExists: something is at ``destination``.
            NotADirectory: a parent is a file.
            Refused: it is the root, or ``destination`` lies inside it.
            InvalidName: the new name cannot be held.
        """
        check_path(destination)
        with self.database.write() as connection:
            node = lookup(connection, source)[-1]
            if source == destination:
                return node
            if not source:
                raise Refused(shown(source), "the root cannot be moved")
            if not destination:
                raise AlreadyExists(shown(destination))
            try:
                above = lookup(connection, paths.parent(destination))
            except NotFound as error:
                raise NotFound(error.subject, "there is no such directory") from None
            need_directory(above[-1])
            if node.id in {directory.id for directory in above}:
                raise Refused(shown(source), "a directory cannot be moved into itself")
            name = paths.basename(destination)
            if bulk.select(connection, BY_NAME, ("parent_id", "name"), [(above[-1].id, name)]):
                raise AlreadyExists(shown(destination))
            connection.execute(
                text("UPDATE entry SET parent_id = :parent, name = :name WHERE id = :id"),
                {"parent": above[-1].id, "name": name, "id": node.id},
            )
            return lookup(connection, destination)[-1]

    def remove(self, path: str, *, recursive: bool = False) -> None:
        """Remove a name, and what is known of its replicas; files on services are not touched.

        A tree vanishes at once, in one short transaction; its rows are then deleted in batches. Where the process dies
        meanwhile, the next recursive removal does the rest.

        Raises:
            NotFound, NotADirectory: as `lookup`.
            DirectoryNotEmpty: it is a directory with something in it, and ``recursive`` was not asked for.
            Refused: it is the root.
            PreconditionFailed: it is not this process's any more.
        """
        with self.database.write() as connection:
            node = lookup(connection, path)[-1]
            if not path:
                raise Refused(shown(path), "the root cannot be removed")
            if self.claims is not None and not self.claims.still_mine(connection, [node.id]):
                raise PreconditionFailed(shown(path), "another process works on it meanwhile")
            first = connection.execute(
                text("SELECT 1 FROM entry WHERE parent_id = :id LIMIT 1"), {"id": node.id}
            ).first()
            if first is None:
                versions.bury(connection, [node.id])
                connection.execute(text("DELETE FROM entry WHERE id = :id"), {"id": node.id})
                return
            if not recursive:
                raise DirectoryNotEmpty(shown(path))
            connection.execute(
                text("UPDATE entry SET parent_id = :trash, name = :name WHERE id = :id"),
                {"trash": schema.TRASH, "name": str(node.id), "id": node.id},
            )
        self._empty_trash()

    def check_removal(self, path: str) -> None:
        """Refuse what may not be removed, before anything of it is; all of it may, unless services are limited."""

    def prefer(self, path: str, services: Sequence[str] | None = None, rankers: Sequence[str] | None = None) -> None:
        """Set what decides from where to read what is at and below ``path``; where nothing is given, take it back.

        Args:
            path: a file or directory.
            services: the best first; empty or None leaves them as they are.
            rankers: the names of the rankers, the first one first; likewise.

        Raises:
            NotFound, NotADirectory: as `lookup`.
        """
        with self.database.write() as connection:
            given = {"preferred": services, "rankers": rankers}
            changes = {name: json.dumps(list(value)) for name, value in given.items() if value}
            connection.execute(
                schema.entry.update()
                .where(schema.entry.c.id == lookup(connection, path)[-1].id)
                .values(changes or dict.fromkeys(given))
            )

    def has_rules(self) -> bool:
        """Tell whether rules are set anywhere."""
        with self.database.read() as connection:
            return (
                connection.exec_driver_sql("SELECT id FROM entry WHERE rules IS NOT NULL LIMIT 1").first() is not None
            )

    def set_rules(self, path: str, rules: Mapping[str, Any] | None) -> None:
        """Set the rules of what is at and below ``path``, as `Node.own_rules` has them; None or nothing takes all back.

        Raises:
            NotFound, NotADirectory: as `lookup`.
        """
        with self.database.write() as connection:
            connection.execute(
                text("UPDATE entry SET rules = :rules WHERE id = :id"),
                {"rules": json.dumps(rules, sort_keys=True) if rules else None, "id": lookup(connection, path)[-1].id},
            )

    # ---- changing contents and replicas ---------------------------------------------------------------------------

    def set_content(
        self,
        entry_id: int,
        *,
        version: int,
        size: int | None,
        mtime_ns: int | None,
        sha256: str | None,
        origin: str = "",
        replicas: Iterable[Replica] = (),
    ) -> None:
        """Give a file a new content, and at the same moment tell where it lies; available replicas of older versions
        become stale.

        Args:
            entry_id: the file.
            version: the new content's, greater than the version that the file has. The same version again only
                completes what is known of the content (its hash).
            size: bytes.
            mtime_ns: ns since the epoch.
            sha256: hex digest.
            origin: the service on which a new content appeared; empty where it came through us.
            replicas: those that hold it already; their ``entry_id`` need not be set.

        Raises:
            NotFound: the file is gone.
            PreconditionFailed: it has a newer version meanwhile, or another process works on it.
        """
        with self.database.write() as connection:
            for key, why in self._unwritable(connection, [entry_id]).items():
                raise (NotFound if why == _REMOVED else PreconditionFailed)(f"entry {key}", why)
            changed = connection.execute(
                text(
                    "UPDATE entry SET size = :size, mtime_ns = :mtime_ns, sha256 = :sha256, version = :version,"
                    " origin = CASE WHEN version = :version THEN origin ELSE CAST(:origin AS text) END"
                    " WHERE id = :id AND version <= :version AND NOT is_directory"
                ),
                {
                    "id": entry_id,
                    "size": size,
                    "mtime_ns": mtime_ns,
                    "sha256": bytes.fromhex(sha256) if sha256 else None,
                    "version": version,
                    "origin": origin or None,
                },
            ).rowcount
            if not changed:
                raise PreconditionFailed(f"entry {entry_id}")
            connection.execute(
                text(
                    "UPDATE replica SET state = 'stale'"
                    " WHERE entry_id = :id AND version < :version AND state = 'available'"
                ),
                {"id": entry_id, "version": version},
            )
            rows = [replica_row(replica, entry_id, replica.state, replica.version) for replica in replicas]
            bulk.insert(connection, schema.replica, rows, replace=True)
            intents.done(connection, "write", [(row[0], row[1]) for row in rows])

    def update_replicas(self, replicas: Iterable[Replica]) -> dict[int, str]:
        """Add replicas, or replace what is known of them, by ``entry_id`` and service; 5,000 a transaction.

        An intent to write one of them is done with that. Those whose file was removed meanwhile, or is not this
        process's any more, are left out.

        Returns:
            the ids of the files that were left out, each with why.
        """
        left: dict[int, str] = {}
        for batch in chunks(replicas, BATCH):
            with self.database.write() as connection:
                out = self._unwritable(connection, {replica.entry_id for replica in batch})
                rows = {
                    (replica.entry_id, replica.service): replica_row(
                        replica, replica.entry_id, replica.state, replica.version
                    )
                    for replica in batch
                    if replica.entry_id not in out
                }
                bulk.insert(connection, schema.replica, list(rows.values()), replace=True)
                intents.done(connection, "write", rows)
            left |= out
        return left

    def add_intents(self, wanted: Sequence[Intent]) -> dict[int, str]:
        """Write intents down, in place of earlier ones for the same files; those left out as by `update_replicas`."""
        if not wanted:
            return {}
        with self.database.write() as connection:
            left = self._unwritable(connection, {one.entry_id for one in wanted})
            intents.add(connection, [one for one in wanted if one.entry_id not in left])
        return left

    def add_versions(self, kept: Sequence[Kept]) -> None:
        """Write kept contents down, and that the intents to keep them are done, of names that may be written about."""
        if not kept:
            return
        with self.database.write() as connection:
            ours = self.writable(connection, {one.entry_id for one in kept})
            mine = [one for one in kept if one.entry_id in ours]
            versions.add(connection, mine)
            intents.done(connection, "keep", [(one.entry_id, one.service) for one in mine])

    def remove_lost(self, files: Iterable[int]) -> None:
        """Remove those of the files, by id, of which nothing is anywhere: all their replicas are ``missing``."""
        for batch in chunks(files, BATCH):
            with self.database.write() as connection:
                ours = self.writable(connection, batch)
                lost = [row[0] for row in bulk.select(connection, _LOST, ("id",), [(key,) for key in ours])]
                versions.bury(connection, lost)
                bulk.execute(connection, _DELETE_ENTRIES, ("id",), [(key,) for key in lost])

    def remove_replicas(self, replicas: Iterable[Replica]) -> None:
        """Forget replicas, by ``entry_id`` and service; those that are not there are fine, and those of files that are
        not this process's any more stay."""
        statement = "DELETE FROM replica WHERE (entry_id, service) IN (SELECT k.entry_id, k.service FROM {keys})"
        for batch in chunks(replicas, BATCH):
            with self.database.write() as connection:
                ours = self.writable(connection, {replica.entry_id for replica in batch})
                keys = [(replica.entry_id, replica.service) for replica in batch if replica.entry_id in ours]
                bulk.execute(connection, statement, ("entry_id", "service"), keys)
                intents.done(connection, "write", keys)

    def record_reading(self, replica: Replica, *, right: bool) -> None:
        """Count a reading of a replica that failed or gave wrong bytes; one that was right takes the count back.

        One that was replaced by another version meanwhile is left alone.
        """
        changes = "failures = 0, verified_ns = :now" if right else "failures = failures + 1"
        with self.database.write() as connection:
            connection.execute(
                text(
                    f"UPDATE replica SET {changes}"  # noqa: S608
                    " WHERE entry_id = :id AND service = :service AND version = :version"
                ),
                {"id": replica.entry_id, "service": replica.service, "version": replica.version}
                | ({"now": time.time_ns()} if right else {}),
            )

    def writable(self, connection: Connection, files: Collection[int]) -> set[int]:
        """Return those of the files that are there and may be written about, in the caller's write transaction."""
        if self.claims is not None:
            return self.claims.still_mine(connection, files)
        return {row[0] for row in bulk.select(connection, BY_ID, ("id",), [(key,) for key in files]) if not row[3]}

    # ---- inside ---------------------------------------------------------------------------------------------------

    def _unwritable(self, connection: Connection, files: Collection[int]) -> dict[int, str]:
        """Return the files that `writable` leaves out, each with why."""
        left = set(files) - self.writable(connection, files)
        if not left or self.claims is None:
            return dict.fromkeys(left, _REMOVED)
        holders = self.claims.holders(connection, left)
        there = {row[0] for row in bulk.select(connection, BY_ID, ("id",), [(key,) for key in left])}
        taken = "this process was not heard of for too long; then the name was free for others"
        others = {key: f"was taken over by {holder}" for key, holder in holders.items()}
        return {key: others.get(key, taken) if key in there else _REMOVED for key in left}

    def _replica_rows(self, files: Iterable[int]) -> dict[int, list[Any]]:
        """Return the rows of the replicas of files by entry id, sorted by service."""
        found: dict[int, list[Any]] = {key: [] for key in files}
        keys = [(key,) for key in found]
        with self.database.read() as connection:
            for row in bulk.select(connection, _REPLICAS, ("entry_id",), keys):
                found[row[0]].append(row)
        return found

    def _condition(self, like: str | None) -> tuple[str, dict[str, str]]:
        """Return the condition on names that are listed, in SQL behind others, and its values."""
        return ("", {}) if like is None else (_MATCHING, {"like": like})

    def _directory(self, path: str) -> Node:
        node = self.lookup(path)
        need_directory(node)
        return node

    def _pages(self, directory: Node, like: str | None, after: str = "") -> Iterator[list[Node]]:
        """Yield what is in a directory in lists of about `PAGE` names: all directories, and files that ``like`` lets
        through."""
        order = ListingOrder()
        condition, values = self._condition(like)
        statement = _page(condition)
        parameters = {"parent": directory.id, "limit": PAGE, **values}
        while True:
            with self.database.read() as connection:
                rows = connection.execute(statement, parameters | {"after": after}).all()
            page = order.add(_nodes(rows, directory))
            if len(rows) < PAGE:
                yield page + order.rest()
                return
            yield page
            after = rows[-1][2]

    def _walk(self, directory: str, like: str | None) -> Iterator[Node]:
        levels = [self._level(self._pages(self._directory(directory), like), like)]
        while levels:
            for node, inside in levels[-1]:
                yield node
                if inside is not None:
                    levels.append(self._level(inside, like))
                    break
            else:
                levels.pop()

    def _level(
        self, pages: Iterable[list[Node]], like: str | None
    ) -> Iterator[tuple[Node, Iterable[list[Node]] | None]]:
        """Yield the nodes of one directory, each directory among them with the pages of what it holds."""
        for page in pages:
            directories = [node for node in page if node.is_directory]
            ahead: dict[int, list[Node]] = {}
            position = 0
            for node in page:
                if not node.is_directory:
                    yield node, None
                    continue
                if position % _AHEAD == 0 and not self.database.is_sqlite:
                    ahead = self._first_names(directories[position : position + _AHEAD], like)
                position += 1
                inside = ahead.pop(node.id, None)
                yield node, self._pages(node, like) if inside is None else (inside,)

    def _first_names(self, directories: Sequence[Node], like: str | None) -> dict[int, list[Node]]:
        """Return what is in each of the directories, by id; those that hold more than a few names are left out."""
        condition, values = self._condition(like)
        statement = _FIRST_NAMES.replace("{condition}", condition)
        keys = [(node.id,) for node in directories]
        with self.database.read() as connection:
            rows = bulk.select(connection, statement, ("id",), keys, limit=_AHEAD_NAMES + 1, **values)
        inside: dict[int, list[Any]] = {node.id: [] for node in directories}
        for row in rows:
            inside[row[1]].append(row)
        found: dict[int, list[Node]] = {}
        for node in directories:
            if len(inside[node.id]) <= _AHEAD_NAMES:
                order = ListingOrder()
                found[node.id] = order.add(_nodes(inside[node.id], node)) + order.rest()
        return found

    def _empty_trash(self) -> None:
        """Delete the rows of removed trees, the deepest first, in batches; also those that a killed process left."""
        deepest = text(f"{_BELOW} SELECT id FROM below WHERE depth > 0 ORDER BY depth DESC LIMIT :limit")  # noqa: S608
        while True:
            with self.database.read() as connection:
                ids = connection.execute(deepest, {"top": schema.TRASH, "limit": 10 * BATCH}).scalars().all()
            for batch in chunks(ids, BATCH):
                keys = [(key,) for key in batch]
                with self.database.write() as connection:
                    versions.bury(connection, batch)
                    bulk.execute(connection, _DELETE_REPLICAS, ("entry_id",), keys)
                    bulk.execute(connection, _DELETE_ENTRIES, ("id",), keys)
            if len(ids) < 10 * BATCH:
                return


@cache
def _page(condition: str) -> TextClause:
    return text(f"{_PAGE}{condition} ORDER BY e.name LIMIT :limit")


def _nodes(rows: Iterable[Any], directory: Node) -> Iterator[Node]:
    prefix = f"{directory.path}/" if directory.path else ""
    return (node_of(row, prefix + row[2], directory) for row in rows)


def _like_of_glob(pattern: str) -> str:
    """Return a LIKE pattern, with ``\\`` as escape, that lets through all that the glob does, and maybe more."""
    like = ""
    for part in re.findall(r"\[!?\]?[^\]]*\]|.", pattern, re.DOTALL):
        if part == "*":
            like += "%"
        elif part == "?" or len(part) > 1:
            like += "_"
        elif part in "%_\\":
            like += f"\\{part}"
        else:
            like += part
    return like
