"""`verify`: every replica is looked at, and what is not good is told, or made good again."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence

from cloudmesh.storage.errors import StorageError
from cloudmesh.storage.transfer.events import Event
from cloudmesh.storage.transfer.report import Report
from cloudmesh.vdir.claiming import claiming
from cloudmesh.vdir.copies import Copy
from cloudmesh.vdir.distribute import batches, bring_claimed, one_ahead
from cloudmesh.vdir.judging import Judge, Verdict
from cloudmesh.vdir.nodes import Files, Node, Replica
from cloudmesh.vdir.records import Problem, ServiceVerified, Verified, is_good
from cloudmesh.vdir.sources import unreadable
from cloudmesh.vdir.verification import Run, learn, record
from cloudmesh.vdir.work import Work, is_over, skip

_Planned = list[tuple[Node, tuple[Replica, ...]]]


def verify(files: Files, work: Work, run: Run, name: str, *, deep: bool, repair: bool) -> Verified:
    """Look at all replicas of files, and return what was found.

    What is seen is written down batch by batch: after an interruption the same verification goes on.

    Args:
        files: with their replicas.
        work: the catalogue and the services.
        run: what is verified, and since when.
        name: of what is verified, for the report.
        deep: read all bytes.
        repair: make good again what is bad, missing or out of date, from good replicas.
    """
    started = time.monotonic()
    verification = _Verification(work, run.started_ns, Verified(name, deep), repair=repair)
    report = verification.report
    for batch in one_ahead(verification.planned(files)):
        if is_over(work, report):
            break
        verification.do(batch)
    verification.planned_all()
    if not report.stopped:  # else the next one goes on
        run.ended()
    report.services.sort(key=lambda one: one.service)
    report.problems.sort(key=lambda one: (one.name, one.service))
    report.seconds = round(time.monotonic() - started, 3)
    return report


class _Verification:
    """The batches of one verification, counted into ``report``."""

    def __init__(self, work: Work, started_ns: int, report: Verified, *, repair: bool) -> None:
        self.report = report
        self._work = work
        self._started_ns = started_ns
        self._repair = repair
        self._judge = Judge(work, deep=report.deep)
        self._services: dict[str, ServiceVerified] = {}

    def planned(self, files: Files) -> Iterator[_Planned]:
        """Yield files in batches, and tell of each replica."""
        for batch in batches(((node, replicas) for node, replicas in files if not node.is_directory), _weight):
            for node, replicas in batch:
                for one in replicas:
                    if self._was_good(node, one):
                        skip(_name(node, one), 0, self._work)
                    else:
                        self._work.observer(Event("planned", _name(node, one), self._size(node, one)))
            yield batch
        if not self._repair:
            self.planned_all()

    def planned_all(self) -> None:
        """Tell that nothing more will be done; what has to be repaired is known only in the end."""
        self._work.observer(Event("planned_all"))

    def do(self, batch: _Planned) -> None:
        """Look at a batch, write down what was seen, and repair."""
        todo: _Planned = []
        earlier: dict[int, list[Replica]] = {}
        for node, replicas in batch:
            todo.append((node, tuple(one for one in replicas if not self._was_good(node, one))))
            earlier[node.id] = [one for one in replicas if self._was_good(node, one)]
            if not replicas:
                self.report.problems.append(Problem(f"/{node.path}", "", "missing", "it has no replica"))
        verdicts, learnt = self._judge.look(todo)
        learn(self._work.catalogue.database, learnt)
        record(
            self._work.catalogue.database,
            ((one.found.known, one.found.now) for one in verdicts if not one.found.error),
        )
        self.report.files += len(batch)
        self.report.earlier += sum(map(len, earlier.values()))
        mended = self._mend(verdicts, earlier) if self._repair else set()
        for one in verdicts:
            self._tell(one, in_mending=(one.found.node.id, one.found.known.service) in mended)
            self._count(one)

    def _was_good(self, node: Node, replica: Replica) -> bool:
        """Tell whether an earlier run of this verification has found a replica good."""
        seen_ns = replica.verified_ns if self.report.deep else replica.checked_ns
        is_known = node.sha256 is not None or not self.report.deep
        clean = is_good(node, replica) and replica.failures == 0
        return is_known and clean and seen_ns is not None and seen_ns >= self._started_ns

    def _size(self, node: Node, replica: Replica) -> int:
        return (replica.size or 0) if self._judge.reads(node, replica) else 0

    def _mend(self, verdicts: Sequence[Verdict], earlier: dict[int, list[Replica]]) -> set[tuple[int, str]]:
        """Make replicas good again, tell that in their verdicts, and return those, by entry id and service."""
        good = {key: list(replicas) for key, replicas in earlier.items()}
        for one in verdicts:
            if one.outcome == "good":
                good[one.found.node.id].append(one.found.now)
        wrong = [one for one in verdicts if _is_ours_to_mend(one)]
        copies: list[Copy] = []
        for one in wrong:
            node = one.found.node
            try:
                sources = self._work.sources(node, good[node.id])
                if not sources:
                    raise unreadable(node)
            except StorageError as error:
                one.detail = f"{one.detail}; {error}"
                continue
            copies.append(Copy(node, one.found.known.service, sources, one.found.now))
        for copy in copies:
            self._work.observer(Event("planned", copy.name, copy.node.size or 0))
        mending = Report("repair")
        if copies:
            with claiming(self._work, "vdir verify") as claims:
                bring_claimed(copies, self._work, mending, claims)
        failed = {one.name: one.error for one in mending.failures}
        mended = {(copy.node.id, copy.service): failed.get(copy.name) for copy in copies}
        for one in wrong:
            key = (one.found.node.id, one.found.known.service)
            if key not in mended:
                continue
            if (why := mended[key]) is None:
                one.outcome = "repaired"
            else:
                one.detail = f"{one.detail}; it could not be repaired: {why}"
        return set(mended)

    def _tell(self, one: Verdict, *, in_mending: bool) -> None:
        """Tell how the look at a replica ended; of one that was to be repaired, its repair has told the rest."""
        node, known = one.found.node, one.found.known
        size = self._size(node, known)
        if one.outcome == "good" or in_mending:
            self._work.observer(Event("done", _name(node, known), size))
        else:
            self._work.observer(Event("failed", _name(node, known), size, one.detail))

    def _count(self, one: Verdict) -> None:
        name = one.found.known.service
        if name not in self._services:
            self._services[name] = ServiceVerified(name)
            self.report.services.append(self._services[name])
        service = self._services[name]
        service.checked += one.outcome != "unavailable"
        setattr(service, one.outcome, getattr(service, one.outcome) + 1)
        self.report.bytes += one.bytes_read
        if one.outcome not in ("good", "repaired"):
            self.report.problems.append(Problem(f"/{one.found.node.path}", name, one.outcome, one.detail))


def _weight(file: tuple[Node, tuple[Replica, ...]]) -> int:
    node, replicas = file
    return (node.size or 0) * len(replicas)


def _name(node: Node, replica: Replica) -> str:
    """The replica as a person names it; see `Copy.name`."""
    return f"/{node.path} on {replica.service}"


def _is_ours_to_mend(one: Verdict) -> bool:
    """Tell whether a replica may be written anew: not what others changed, which `sync` decides about."""
    now = one.found.now
    if one.outcome == "stale":
        return now.version > 0 and now.state != "deleting"
    return one.outcome in ("bad", "missing")
