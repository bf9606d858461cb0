"""What the commands of the virtual directory return."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from typing import ClassVar, Literal

from cloudmesh.storage.records import Cm, iso
from cloudmesh.storage.transfer.report import Report
from cloudmesh.vdir.nodes import Node, Replica

Health = Literal["ok", "degraded", "unreadable", ""]


@dataclass(frozen=True, slots=True)
class NameInfo:
    """A file or directory of the virtual directory.

    Attributes:
        cm: cloudmesh's block.
        name: as the command shows it: below the directory that was listed.
        path: whole virtual path, with a slash before it.
        kind: what it is.
        size: bytes of the content; None for a directory.
        modified_ns: modification time of the content, ns since the epoch.
        services: those that hold a good replica.
        health: of a file: ``ok``, ``degraded`` (some replica is not good) or ``unreadable`` (none is).
        version: counts the contents that the file has had.
        sha256: of the content, where it is known.
    """

    columns: ClassVar[tuple[str, ...]] = ("kind", "size", "modified_ns", "services", "health", "name")

    cm: Cm
    name: str
    path: str
    kind: Literal["file", "directory"]
    size: int | None
    modified_ns: int | None
    services: list[str]
    health: Health
    version: int
    sha256: str | None


def is_good(node: Node, replica: Replica) -> bool:
    """Tell whether the replica holds the name's present content, as far as the catalogue knows."""
    return replica.state == "available" and replica.version == node.version


def is_trusted(node: Node, replica: Replica) -> bool:
    """Tell whether a good replica may be relied on when others go: its last reading was not wrong, nor did it fail."""
    return is_good(node, replica) and not replica.failures


def name_info(node: Node, replicas: Sequence[Replica], below: str = "") -> NameInfo:
    """Return the record of a name as seen from the directory ``below``."""
    good = [replica.service for replica in replicas if is_good(node, replica)]
    health: Health = ""
    if not node.is_directory:
        health = "unreadable" if not good else "ok" if len(good) == len(replicas) else "degraded"
    return NameInfo(
        cm=Cm(node.name, "vdir", ",".join(good), iso(node.created_ns), iso(node.mtime_ns)),
        name=node.path[len(below) + 1 :] if below else node.path,
        path=f"/{node.path}",
        kind="directory" if node.is_directory else "file",
        size=node.size,
        modified_ns=node.mtime_ns,
        services=good,
        health=health,
        version=node.version,
        sha256=node.sha256,
    )


@dataclass(frozen=True, slots=True)
class ReplicaInfo:
    """One copy of a file; ``outage`` tells until when its service is out of use, and why, where it is."""

    columns: ClassVar[tuple[str, ...]] = (
        *("service", "state", "preferred", "size", "modified_ns", "checked_ns", "path", "outage"),
    )

    service: str
    path: str
    state: str
    preferred: bool
    size: int | None
    modified_ns: int | None
    version: int
    etag: str | None
    sha256: str | None
    checked_ns: int | None
    outage: str


@dataclass(frozen=True, slots=True)
class ServiceStatus:
    """Replicas of one service in one state; ``outage`` as of `ReplicaInfo`."""

    service: str
    state: str
    files: int
    bytes: int
    outage: str


@dataclass(frozen=True, slots=True)
class Problem:
    """A replica, or the file in which an old content was kept, that is not as it should be."""

    name: str
    service: str
    state: str
    detail: str


@dataclass(frozen=True, slots=True)
class Status:
    """How a name, or everything below a directory, stands.

    Attributes:
        name: whole virtual path.
        kind: what it is.
        files: number of files.
        bytes: of their contents, each counted once.
        version: of a file: counts its contents.
        sha256: of a file's content, where it is known.
        replicas: of a file.
        services: of a directory: counts by service and state.
        problems: what a check found not to be good.
    """

    name: str
    kind: Literal["file", "directory"]
    files: int
    bytes: int
    version: int | None = None
    sha256: str | None = None
    replicas: list[ReplicaInfo] = field(default_factory=list)
    services: list[ServiceStatus] = field(default_factory=list)
    problems: list[Problem] = field(default_factory=list)

    @property
    def columns(self) -> tuple[str, ...]:
        """What a table shows."""
        if self.kind == "file":
            shown: tuple[str, ...] = ("name", "bytes", "version", "sha256", "replicas")
        else:
            shown = ("name", "files", "bytes", "services")
        return tuple(one for one in (*shown, "problems") if getattr(self, one) not in ([], None))

    @property
    def failed(self) -> bool:
        """Whether a check found a problem."""
        return bool(self.problems)


@dataclass(slots=True)
class ServiceVerified:
    """What a verification found on one service, in replicas.

    Attributes:
        service: its name.
        checked: looked at.
        good: right.
        repaired: that were not, and are now.
        suspicious: that could not be read, less often than makes them bad; or whose right content is not known.
        bad: with wrong bytes, or that could not be read again and again.
        missing: not there, also at a second look.
        stale: with an older content, changed by others, or whose making or removal was not finished.
        unavailable: not looked at, because the service could not be asked.
    """

    service: str
    checked: int = 0
    good: int = 0
    repaired: int = 0
    suspicious: int = 0
    bad: int = 0
    missing: int = 0
    stale: int = 0
    unavailable: int = 0


@dataclass(slots=True)
class Verified:
    """What a verification found.

    Attributes:
        name: whole virtual path of what was verified.
        deep: whether the bytes of all replicas were read.
        files: looked at.
        versions: old contents that are kept and were looked at.
        bytes: read.
        earlier: replicas and old contents that a verification which was ended before its time had found good already.
        seconds: wall time.
        services: counts by service.
        problems: what is not good, after all repairs.
        stopped: it was ended before its time; the same command goes on.
    """

    name: str
    deep: bool
    files: int = 0
    versions: int = 0
    bytes: int = 0
    earlier: int = 0
    seconds: float = 0.0
    services: list[ServiceVerified] = field(default_factory=list)
    problems: list[Problem] = field(default_factory=list)
    stopped: bool = False

    @property
    def columns(self) -> tuple[str, ...]:
        """What a table shows."""
        telling = [name for name in ("versions", "bytes", "earlier") if getattr(self, name)]
        last = [name for name in ("stopped", "problems") if getattr(self, name)]
        return ("name", "deep", "files", *telling, "seconds", "services", *last)

    @property
    def failed(self) -> bool:
        """Whether something is not good, or was not looked at."""
        return bool(self.problems) or self.stopped


@dataclass(frozen=True, slots=True)
class RuleInfo:
    """A rule that holds for a directory.

    Attributes:
        rule: its name.
        value: what it says, as it is typed.
        set_on: the directory where it was set; empty where it is the default.
    """

    rule: str
    value: str
    set_on: str


@dataclass(frozen=True, slots=True)
class Violation:
    """A file or directory that is not as a rule wants it.

    Attributes:
        name: whole virtual path.
        service: that is concerned, where it is one.
        rule: its name.
        detail: what is wrong, in words.
    """

    columns: ClassVar[tuple[str, ...]] = ("name", "service", "rule", "detail")

    name: str
    service: str
    rule: str
    detail: str

    @property
    def failed(self) -> bool:
        """Whether the command's exit code is 1."""
        return True


@dataclass(frozen=True, slots=True)
class Choice:
    """One candidate for reading a file, with each ranker's figure (lower is better) and why it stands where it does.

    Attributes:
        rank: 1 is the preferred one; None cannot be used.
        service: where the replica is.
        state: of the replica.
        place_in_set: its place in the order of services set by `vdir prefer`; None where it is not among them.
        seconds: that reading it is expected to take, by measurement; None where its speed was never measured.
        kilometres: from here to the service, on a great circle; None where one of the places is not known.
        dollars: that reading it is estimated to cost; None where the prices are not known.
        rankers: what decides, in this order.
        reason: in words.
    """

    columns: ClassVar[tuple[str, ...]] = ("rank", "service", "state", "set", "speed", "location", "cost", "reason")

    rank: int | None
    service: str
    state: str
    place_in_set: int | None
    seconds: float | None
    kilometres: float | None
    dollars: float | None
    rankers: list[str]
    reason: str

    @property
    def set(self) -> str:
        """The figure of the ranker of this name, for a person."""
        return figure("set", self.place_in_set)

    @property
    def speed(self) -> str:
        """As `set`."""
        return figure("speed", self.seconds)

    @property
    def location(self) -> str:
        """As `set`."""
        return figure("location", self.kilometres)

    @property
    def cost(self) -> str:
        """As `set`."""
        return figure("cost", self.dollars)


def dollars(value: float | Decimal) -> str:
    """Return an amount for a person; one request, or a small file for a month, costs far less than a cent."""
    return "$" + f"{value:.9f}".rstrip("0").rstrip(".")


def figure(ranker: str, value: float | None) -> str:
    """Return a ranker's figure for a person, with its unit; a dash where it is unknown."""
    if value is None:
        return "-"
    if ranker == "cost":
        return dollars(value)
    return {"set": f"{value:.0f}", "speed": f"{value:.3g} s", "location": f"{value:.0f} km"}[ranker]


@dataclass(frozen=True, slots=True)
class Imported:
    """What an import did: names made, names renewed, and files kept because the catalogue knows a newer version."""

    new: int
    renewed: int
    kept: int


@dataclass(slots=True)
class SyncReport(Report):
    """What a `sync` found and did. ``files`` counts the copies made, ``skipped`` the replicas that were good already,
    ``removed`` the names that were deleted because a replica was.

    Attributes:
        checked: names whose replicas were compared.
        learned: replicas that were only touched, or were good again by themselves.
        renamed: replicas that were found under another path of their service.
        versions: names that have got a new content.
        conflicts: those of them of which several replicas had different contents.
        dropped: replicas that were taken away, because a rule forbids them or somebody had begun to.
    """

    checked: int = 0
    learned: int = 0
    renamed: int = 0
    versions: int = 0
    conflicts: int = 0
    dropped: int = 0

    @property
    def columns(self) -> tuple[str, ...]:
        """What a table shows."""
        plain = Report.columns.fget(self)  # type: ignore[attr-defined]  # super() does not know a class with slots
        told = [name for name in ("versions", "conflicts", "renamed", "learned", "dropped") if getattr(self, name)]
        return (plain[0], "checked", *plain[1:4], *told, *plain[4:])

    def __bool__(self) -> bool:
        return Report.__bool__(self) or bool(self.learned or self.renamed or self.versions or self.dropped)

    def count_dropped(self, dropping: Report) -> None:
        """Add what a removal of replicas did, and what it could not do."""
        self.dropped += dropping.files
        self.fail_as(dropping)
        self.stopped = self.stopped or dropping.stopped


@dataclass(frozen=True, slots=True)
class NameVersion:
    """A content that a name has, or had and that was kept.

    Attributes:
        version: counts the contents.
        state: ``current`` or ``kept``.
        size: bytes.
        modified_ns: modification time of the content, ns since the epoch.
        replaced_ns: when another one took its place; None for the current one.
        origin: the service on which it appeared; empty where it came through us.
        where: SERVICE:PATH of each file that holds it.
        sha256: of it, where that is known.
    """

    columns: ClassVar[tuple[str, ...]] = ("version", "state", "size", "modified_ns", "replaced_ns", "origin", "where")

    version: int
    state: Literal["current", "kept"]
    size: int | None
    modified_ns: int | None
    replaced_ns: int | None
    origin: str
    where: list[str]
    sha256: str | None
