"""`verify`: every replica is looked at, and what is not good is told, or made good again."""

from __future__ import annotations

import time
from collections.abc import Collection, Iterator, Sequence

from cloudmesh.storage.errors import StorageError
from cloudmesh.storage.transfer.events import Event
from cloudmesh.storage.transfer.report import Report
from cloudmesh.vdir import versions
from cloudmesh.vdir.claiming import claiming
from cloudmesh.vdir.copies import Copy
from cloudmesh.vdir.distribute import batches, bring_claimed, one_ahead
from cloudmesh.vdir.judging import Judge, Verdict
from cloudmesh.vdir.kept_judging import KeptJudge, KeptVerdict, OldContent
from cloudmesh.vdir.nodes import Files, Node, Replica
from cloudmesh.vdir.records import Problem, ServiceVerified, Verified, is_good
from cloudmesh.vdir.scrub import Inspector
from cloudmesh.vdir.sources import unreadable
from cloudmesh.vdir.verification import Run, learn, record
from cloudmesh.vdir.work import Work, is_over, skip

_Planned = list[tuple[Node, tuple[Replica, ...]]]


def verify(files: Files, work: Work, run: Run, name: str, *, deep: bool, repair: bool) -> Verified:
    """Look at all replicas of files, and at the old contents that are kept of them, and return what was found.

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
    for batch, old in one_ahead(verification.planned(files)):
        if is_over(work, report):
            break
        verification.do(batch)
        verification.do_old(old)
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
        inspector = Inspector(work)
        self._judge = Judge(work, inspector, deep=report.deep)
        self._kept_judge = KeptJudge(work, inspector, deep=report.deep)
        self._services: dict[str, ServiceVerified] = {}

    def planned(self, files: Files) -> Iterator[tuple[_Planned, list[OldContent]]]:
        """Yield files in batches, with their old contents, and tell of each replica and content."""
        for batch in batches(((node, replicas) for node, replicas in files if not node.is_directory), _weight):
            for node, replicas in batch:
                for one in replicas:
                    if self._was_good(node, one):
                        skip(_name(node, one), 0, self._work)
                    else:
                        self._work.observer(Event("planned", _name(node, one), self._size(node, one)))
            old = _old_contents([node for node, _ in batch], self._work)
            for content in old:
                if self._was_right(content):
                    skip(content.name, 0, self._work)
                else:
                    self._work.observer(Event("planned", content.name, self._size_read(content)))
            yield batch, old
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

    def do_old(self, contents: Sequence[OldContent]) -> None:
        """Look at old contents. Nothing else has what is lost of them, so it is only told."""
        verdicts = self._kept_judge.look([one for one in contents if not self._was_right(one)])
        self.report.versions += len(contents)
        self.report.earlier += len(contents) - len(verdicts)
        database = self._work.catalogue.database
        versions.verified(database, [one.old.kept for one in verdicts if one.was_read and one.outcome == "good"])
        wrong = [one for one in verdicts if one.outcome != "good"]
        # a sync may have removed or moved one meanwhile
        still = {
            one.location for one in _old_contents({one.old.node.id: one.old.node for one in wrong}.values(), self._work)
        }
        for one in verdicts:
            size = self._size_read(one.old)
            self.report.bytes += (one.old.kept.size or 0) if one.was_read else 0
            if one.outcome == "good" or one.old.location not in still:
                self._work.observer(Event("done", one.old.name, size))
                continue
            self._work.observer(Event("failed", one.old.name, size, one.detail))
            self.report.problems.append(_problem(one))

    def _was_right(self, content: OldContent) -> bool:
        """Tell whether an earlier run of this verification has read an old content, and it was right."""
        return self.report.deep and (content.kept.verified_ns or 0) >= self._started_ns

    def _size_read(self, content: OldContent) -> int:
        return (content.kept.size or 0) if self.report.deep and content.is_readable else 0

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


def _old_contents(nodes: Collection[Node], work: Work) -> list[OldContent]:
    kept = versions.of(work.catalogue.database, [node.id for node in nodes])
    return [OldContent(node, one) for node in nodes for one in kept.get(node.id, ()) if one.version != node.version]


def _problem(one: KeptVerdict) -> Problem:
    kept = one.old.kept
    detail = f"version {kept.version}, kept as {one.old.location}: {one.detail}"
    return Problem(f"/{one.old.node.path}", kept.service, one.outcome, detail)


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
