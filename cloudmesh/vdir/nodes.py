"""What the catalogue tells: names (`Node`), copies (`Replica`), and sums of them."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, get_args

from cloudmesh.storage import paths
from cloudmesh.storage.abc import NO_HASHES
from cloudmesh.vdir.rules import DEFAULT, NOTHING, Rules

State = Literal["available", "stale", "copying", "missing", "bad", "unavailable", "deleting"]
STATES: tuple[State, ...] = get_args(State)


@dataclass(frozen=True, slots=True)
class Node:
    """A directory or a file in the catalogue.

    Attributes:
        id: stays the same when it is moved, and is never given to another.
        path: normalised virtual path; the root is ``""``.
        is_directory: True for a directory; size, mtime and hash belong to files.
        size: bytes of the content; None where unknown.
        mtime_ns: modification time of the content, in ns since the epoch.
        sha256: lower-case hex digest of the content; None until it has been computed.
        version: counts the contents that the file has had, from 1.
        created_ns: when the name was made, in ns since the epoch.
        preferred: services to read from, best first, as set here or on the nearest directory above; empty = none set.
        preferred_from: the path where that was set.
        rankers: what decides between replicas, in this order, as set here or above; empty = the default order.
        rankers_from: the path where that was set.
        rules: for where replicas are and what becomes of changes, as set here and above.
        own_rules: those that are set here, as the catalogue keeps them.
        origin: the service on which the content appeared; empty where it came through us.
    """

    id: int
    path: str
    is_directory: bool
    size: int | None = None
    mtime_ns: int | None = None
    sha256: str | None = None
    version: int = 1
    created_ns: int = 0
    preferred: tuple[str, ...] = ()
    preferred_from: str | None = None
    rankers: tuple[str, ...] = ()
    rankers_from: str | None = None
    rules: Rules = DEFAULT
    own_rules: Mapping[str, Any] = field(default_factory=lambda: NOTHING)
    origin: str = ""

    @property
    def name(self) -> str:
        """The last part of the path; empty for the root."""
        return paths.basename(self.path)

    @property
    def sort_key(self) -> bytes:
        """The key by which listings are sorted; see `paths.sort_key`."""
        return paths.sort_key(self.path, self.is_directory)


@dataclass(frozen=True, slots=True)
class Replica:
    """One copy of a file on one service.

    Attributes:
        service: name of the service.
        path: the file's path on the service.
        state: what we know of it.
        size: bytes, as the service told when it was last looked at.
        mtime_ns: as the service told.
        mtime_precision_ns: what that is worth: two times closer than this are the same.
        etag: the service's token for this content.
        hashes: algorithm to hex digest, as the service told.
        sha256: hex digest of the bytes that were read from or written to it.
        version: the entry's version whose content this is; 0 = not known to be any.
        checked_ns: when it was last seen to be as it is known, in ns since the epoch.
        entry_id: the entry that it belongs to; 0 while it is being registered.
        failures: readings that failed or gave wrong bytes since the last one that was right.
        verified_ns: when all its bytes were last read and found right, in ns since the epoch.
    """

    service: str
    path: str
    state: State = "available"
    size: int | None = None
    mtime_ns: int | None = None
    mtime_precision_ns: int | None = None
    etag: str | None = None
    hashes: Mapping[str, str] = field(default_factory=lambda: NO_HASHES)
    sha256: str | None = None
    version: int = 1
    checked_ns: int | None = None
    entry_id: int = 0
    failures: int = 0
    verified_ns: int | None = None


def only(service: str | None, replicas: Sequence[Replica]) -> tuple[Replica, ...]:
    """Return the replica on ``service``, or all of them where it is None."""
    return tuple(one for one in replicas if service in (None, one.service))


Files = Iterable[tuple[Node, tuple[Replica, ...]]]
"""Files on their way through a verb, each with its replicas."""


@dataclass(frozen=True, slots=True)
class NewFile:
    """A file to be registered: its virtual path, its content as far as known, where it lies, and the service on which
    it appeared; none where it came through us."""

    path: str
    size: int | None = None
    mtime_ns: int | None = None
    sha256: str | None = None
    replicas: Sequence[Replica] = ()
    origin: str = ""


@dataclass(frozen=True, slots=True)
class Registered:
    """What a registration did.

    Attributes:
        new: names made.
        existing: names that were there and got their replicas added or renewed.
        differing: those of ``existing`` whose registered replica has other content (its size or SHA-256 differs); such
            a replica is kept as ``stale`` with version 0, and the name's content is as it was.
    """

    new: int
    existing: int
    differing: int


@dataclass(frozen=True, slots=True)
class ServiceTotal:
    """Files and bytes of a subtree on one service in one state."""

    service: str
    state: State
    files: int
    bytes: int


@dataclass(frozen=True, slots=True)
class Totals:
    """What a subtree holds; a directory counts itself. ``bytes`` counts each file once, whatever its replicas."""

    files: int
    directories: int
    bytes: int
    services: tuple[ServiceTotal, ...]


ENTRY_COLUMNS: tuple[str, ...] = (
    "id",
    "parent_id",
    "name",
    "is_directory",
    "size",
    "mtime_ns",
    "sha256",
    "version",
    "created_ns",
    "preferred",
    "rankers",
    "rules",
    "origin",
)
"""What `node_of` reads, in this order."""


def node_of(row: Any, path: str, above: Node | None) -> Node:
    """Return the node that a row of `ENTRY_COLUMNS` tells, with what it inherits from the directory ``above``."""
    preferred: tuple[str, ...] = ()
    source: str | None = None
    if row[9] is not None:
        preferred, source = tuple(json.loads(row[9])), path
    elif above is not None:
        preferred, source = above.preferred, above.preferred_from
    rankers: tuple[str, ...] = ()
    rankers_from: str | None = None
    if row[10] is not None:
        rankers, rankers_from = tuple(json.loads(row[10])), path
    elif above is not None:
        rankers, rankers_from = above.rankers, above.rankers_from
    rules, own_rules = DEFAULT if above is None else above.rules, NOTHING
    if row[11] is not None:
        own_rules = json.loads(row[11])
        rules = rules.changed(own_rules)
    return Node(
        id=row[0],
        path=path,
        is_directory=bool(row[3]),
        size=row[4],
        mtime_ns=row[5],
        sha256=row[6].hex() if row[6] is not None else None,
        version=row[7],
        created_ns=row[8],
        preferred=preferred,
        preferred_from=source,
        rankers=rankers,
        rankers_from=rankers_from,
        rules=rules,
        own_rules=own_rules,
        origin=row[12] or "",
    )


def replica_of(row: Any) -> Replica:
    """Return the replica that a row of its table tells."""
    entry_id, service, path, state, size, mtime_ns, precision, etag, hashes, sha256, version, *looks = row
    checked_ns, failures, verified_ns = looks
    return Replica(
        service=service,
        path=path,
        state=state,
        size=size,
        mtime_ns=mtime_ns,
        mtime_precision_ns=precision,
        etag=etag,
        hashes=json.loads(hashes) if hashes else NO_HASHES,
        sha256=sha256.hex() if sha256 is not None else None,
        version=version,
        checked_ns=checked_ns,
        entry_id=entry_id,
        failures=failures,
        verified_ns=verified_ns,
    )


def replica_row(replica: Replica, entry_id: int, state: State, version: int) -> tuple[Any, ...]:
    """Return the table's row of ``replica``, with the entry, state and version given here instead of its own."""
    return (
        entry_id,
        replica.service,
        replica.path,
        state,
        replica.size,
        replica.mtime_ns,
        replica.mtime_precision_ns,
        replica.etag,
        json.dumps(dict(replica.hashes), sort_keys=True) if replica.hashes else None,
        bytes.fromhex(replica.sha256) if replica.sha256 else None,
        version,
        replica.checked_ns,
        replica.failures,
        replica.verified_ns,
    )


class ListingOrder:
    """Brings siblings sorted by name into the order of `paths.sort_key`, where a directory's name ends in a slash.

    A directory ``a`` then stands behind ``a-b``. All that can be waiting at once are prefixes of one name.
    """

    def __init__(self) -> None:
        self._waiting: list[tuple[bytes, Node]] = []

    def add(self, nodes: Iterable[Node]) -> list[Node]:
        """Take the next siblings and return those whose turn has come."""
        ready: list[Node] = []
        for node in nodes:
            if self._waiting or node.is_directory:
                key = node.name.encode()
                while self._waiting and self._waiting[-1][0] < key:
                    ready.append(self._waiting.pop()[1])
                if node.is_directory:
                    self._waiting.append((key + b"/", node))
                    continue
            ready.append(node)
        return ready

    def rest(self) -> list[Node]:
        """Return what is still waiting, when no more siblings come."""
        return [node for _, node in reversed(self._waiting)]
