"""Doing what was decided about a batch of files: contents kept, then acknowledged, then brought everywhere.

The order is what makes it safe. An old content is kept before anything may overwrite it; a new one is acknowledged
while it lies where it was found; only then other replicas are overwritten, each one only while it still is the file
that was seen; and names are deleted last.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from cloudmesh.storage.errors import NotFound, PreconditionFailed, Refused, StorageError
from cloudmesh.storage.paths import Location
from cloudmesh.storage.prompt import Prompt
from cloudmesh.storage.transfer.events import Event
from cloudmesh.storage.transfer.report import Report
from cloudmesh.vdir import versions
from cloudmesh.vdir.claiming import working_on_it
from cloudmesh.vdir.claims import Claims
from cloudmesh.vdir.clocks import Clocks
from cloudmesh.vdir.conflicts import choose, name_losers
from cloudmesh.vdir.copies import Copy
from cloudmesh.vdir.decide import Decision, Present, Sight, decide
from cloudmesh.vdir.decided import Decided, with_content
from cloudmesh.vdir.deletion import delete
from cloudmesh.vdir.distribute import bring
from cloudmesh.vdir.forecast import forecast
from cloudmesh.vdir.kept import Keeping, keep, keep_one_of
from cloudmesh.vdir.nodes import Node, Replica
from cloudmesh.vdir.observe import Observed, observe, seen_now, sight
from cloudmesh.vdir.pricing import Bill
from cloudmesh.vdir.records import SyncReport, is_good
from cloudmesh.vdir.recovery import recover, sweep_beside
from cloudmesh.vdir.removal import drop_claimed, remove_empty
from cloudmesh.vdir.sources import unreadable
from cloudmesh.vdir.spool import Seen
from cloudmesh.vdir.work import Work, counting_unusable, refuse

Batch = Sequence[tuple[int, str, Mapping[str, Seen]]]
"""Files to decide about: id, path, and how each replica was seen, by service."""


@dataclass(slots=True)
class Propagation:
    """Decides about files, batch by batch, and does it.

    Attributes:
        work: the catalogue and the services.
        claims: of this process.
        report: counts what was done.
        conflict: who wins where contents differ; as of `decide`.
        prompt: whom to ask.
        away: services that cannot be asked, or shall be left alone, each with why.
        bill: takes what a dry run would copy.
        clocks: of the services.
        dryrun: only tell.
        lost: names of which no good replica was found.
    """

    work: Work
    claims: Claims
    report: SyncReport
    conflict: str
    prompt: Prompt
    away: Mapping[str, StorageError]
    bill: Bill
    clocks: Clocks
    dryrun: bool
    lost: list[Node] = field(default_factory=list)

    def run(self, batch: Batch) -> None:
        """Decide about some files, and do it; what fails is counted, and does not stop the rest."""
        if self.dryrun:
            forecast(self._decided(batch), self.work, self.report, self.bill, self.conflict, self.away)
            return
        with self.claims.claimed([entry_id for entry_id, _, _ in batch]) as held:
            for entry_id, path, _ in batch:
                if entry_id in held:
                    self._refuse(path, working_on_it(path, held[entry_id]))
            mine = [one for one in batch if one[0] not in held]
            recover([one[0] for one in mine], self.work, self.away)
            self._do(self._decided(mine))

    def finish(self) -> None:
        """Count the names of which nothing was found as failed, unless the run itself has brought them something."""
        replicas = self.work.catalogue.replicas_of(self.lost)
        for node in self.lost:
            if not any(is_good(node, one) for one in replicas[node.id]):
                self._fail(f"/{node.path}", unreadable(node), node.size)

    # ---- deciding -------------------------------------------------------------------------------------------------

    def _decided(self, batch: Batch) -> list[Decided]:
        """Read again what the catalogue has, look at what is not certain, and decide."""
        nodes = self.work.catalogue.lookup_many(path for _, path, _ in batch)
        files: list[tuple[Node, Mapping[str, Seen]]] = []
        for entry_id, path, seen in batch:
            if path in nodes and nodes[path].id == entry_id:
                files.append((nodes[path], seen))
            else:
                self._refuse(path, PreconditionFailed(f"/{path}", "was moved or removed meanwhile"))
        replicas = self.work.catalogue.replicas_of([node for node, _ in files])
        if not self.dryrun:
            sweep_beside(self._unlisted_halfway(files, replicas), self.work)
        self._drop_halfway([(node, replicas[node.id]) for node, _ in files])
        looked = observe(
            [(node, _revived(node, replicas[node.id]), seen) for node, seen in files],
            self.work,
            self.away,
            self.clocks,
        )
        decided: list[Decided] = []
        for (node, _), observed in zip(files, looked, strict=True):
            file = self._decide(observed[0].node if observed else node, observed)
            file.hashed = file.node.sha256 != node.sha256
            decided.append(file)
        return decided

    def _unlisted_halfway(
        self, files: Sequence[tuple[Node, Mapping[str, Seen]]], replicas: Mapping[int, Sequence[Replica]]
    ) -> set[Location]:
        """Return the files that somebody wrote who died, where no listing of the tree has come by."""
        return {
            Location(one.service, one.path)
            for node, _ in files
            for one in replicas[node.id]
            if one.state == "copying" and one.path != node.path and one.service not in self.away
        }

    def _decide(self, node: Node, observed: list[Observed]) -> Decided:
        for one in observed:
            if one.error is not None and one.service not in self.away:
                self._fail(one.name, one.error, node.size)
        sights = [sight(one, self.work, None) for one in observed]
        decision = self._choice(node, sights)
        if decision.losers or decision.contenders:  # times decide: they have to be comparable
            sights = [sight(one, self.work, self.clocks) for one in observed]
            decision = self._choice(node, sights)
        file = Decided(node, observed, decision, {one.service: one.now for one in observed if one.kind != "changed"})
        if decision.what == "ask":
            chosen = choose(node, decision.contenders, self.conflict, self.prompt)
            if isinstance(chosen, StorageError):
                self._give_up(file, chosen)
            else:
                file.decision = self._choice(node, sights, chosen)
        elif decision.what == "doubt":
            why = "its content is another, but its modification time is as it was"
            names = ", ".join(decision.contenders[0].services)
            self._give_up(file, Refused(f"/{node.path} on {names}", why, f"--conflict={names} takes it for right"))
        elif decision.what == "lost":
            file.failed = True
            self.lost.append(node)
        self.report.skipped += 0 if file.failed else len(file.holders)
        return file

    def _choice(self, node: Node, sights: Sequence[Sight], conflict: str | None = None) -> Decision:
        present = Present(node.version, node.sha256 or "", node.mtime_ns)
        return decide(present, sights, deletes=node.rules.deletes, conflict=conflict or self.conflict)

    def _drop_halfway(self, files: Sequence[tuple[Node, Sequence[Replica]]]) -> None:
        """Finish removals of replicas that somebody began who died, where another good one is left."""
        halfway = [
            (node, tuple(replicas), {one.service for one in replicas if one.state == "deleting"})
            for node, replicas in files
            if any(is_good(node, one) for one in replicas)
        ]
        for services in {frozenset(names - self.away.keys()) for _, _, names in halfway} - {frozenset()}:
            mine = [(node, replicas) for node, replicas, names in halfway if services == names - self.away.keys()]
            dropping = Report("drop")
            remove_empty(drop_claimed(mine, services, self.work, dropping, dryrun=self.dryrun), self.work)
            self.report.count_dropped(dropping)

    # ---- doing ----------------------------------------------------------------------------------------------------

    def _do(self, files: Sequence[Decided]) -> None:
        self._learn(files)
        self._renew([one for one in files if one.decision.what == "renew" and not one.failed])
        self._keep_outdated(files)
        copies = [copy for one in files if not one.failed for copy in self._copies(one)]
        for copy in copies:
            self.work.observer(Event("planned", copy.name, copy.node.size or 0))
        bring(copies, self.work, self.report)
        for file, error in delete([one for one in files if one.decision.what == "delete"], self.work, self.report):
            self._give_up(file, error)

    def _learn(self, files: Sequence[Decided]) -> None:
        """Write down what is new of replicas that hold a content of ours, or that are gone."""
        known = [one for file in files for one in file.observed if one.now != one.known and one.kind in ("good", "old")]
        self.report.renamed += sum(one.is_renamed for one in known)
        self.report.learned += sum(one.is_new and not one.is_renamed for one in known)
        gone = [one for file in files for one in file.observed if one.is_new and one.kind in ("missing", "absent")]
        self.work.catalogue.update_replicas(one.now for one in [*known, *gone])
        for file in files:
            if file.hashed:
                self._acknowledge(file, file.node, ())

    def _renew(self, files: Sequence[Decided]) -> None:
        """Give files the contents that won: keep the others, then acknowledge."""
        taken = versions.of(self.work.catalogue.database, [file.node.id for file in files])
        wanted: dict[int, list[list[Keeping]]] = {}
        for file in files:
            last = max([file.node.version, *(one.version for one in taken.get(file.node.id, ()))])
            wanted[file.node.id] = file.replaced(last, losers=self.conflict != "keep-both")
        failed = keep_one_of([one for each in wanted.values() for one in each], self.work)
        for file in files:
            errors = [failed[one[0].key] for one in wanted[file.node.id] if one and one[0].key in failed]
            if not errors and self.conflict == "keep-both":
                errors = self._name_losers(file)
            if errors:
                self._give_up(file, errors[0])
                continue
            self._win(file, max([file.node.version, *(one.version for one in taken.get(file.node.id, ()))]))

    def _name_losers(self, file: Decided) -> list[StorageError]:
        losers = [file.that_hold(one)[0] for one in file.decision.losers]
        services = [one.service for one in file.observed if one.service not in self.away]
        return name_losers(file.node, losers, services, self.work, self.report, self.claims)

    def _win(self, file: Decided, last: int) -> None:
        """Acknowledge the content that won, where it lies."""
        winner, number = file.decision.winner, last + len(file.decision.losers) + 1
        assert winner is not None  # noqa: S101 - of every renewal
        holders = file.holders
        node = replace(file.node, version=number) if winner.present else with_content(file.node, holders[0], number)
        for service, row in file.rows.items():
            if row.state == "available":
                file.rows[service] = replace(row, state="stale")
        for one in holders:
            now = seen_now(one, self.work, "available", number) if not winner.present else one.now
            file.rows[one.service] = replace(now, state="available", version=number, sha256=node.sha256)
        changed = [row for row in file.rows.values() if row.version >= last]
        if self._acknowledge(file, node, changed):
            file.node = node
            self.report.versions += 1
            self.report.conflicts += bool(file.decision.losers)

    def _acknowledge(self, file: Decided, node: Node, replicas: Sequence[Replica]) -> bool:
        try:
            self.work.catalogue.set_content(
                node.id,
                version=node.version,
                size=node.size,
                mtime_ns=node.mtime_ns,
                sha256=node.sha256,
                origin=node.origin,
                replicas=replicas,
            )
        except (NotFound, PreconditionFailed) as error:
            self._give_up(file, error)
            return False
        return True

    def _keep_outdated(self, files: Sequence[Decided]) -> None:
        """Keep the contents of outdated replicas that were not kept yet; one that cannot be is not overwritten."""
        old = [(one, keeping) for file in files for one, keeping in file.outdated()]
        failed = keep([keeping for _, keeping in old], self.work)
        for one, keeping in old:
            if keeping.key in failed:
                one.kind = "obstacle"
                self._fail(one.name, failed[keeping.key], keeping.node.size)

    def _copies(self, file: Decided) -> list[Copy]:
        """Return the copies that make every replica of a file good, as far as its services can be asked."""
        node = file.node
        if not file.lacking:
            return []
        with counting_unusable(node, self.work, self.report):
            readable = [row for row in file.rows.values() if row.service not in self.away]
            if sources := self.work.sources(node, readable):
                return file.copies(sources)
            for one in file.lacking:
                refuse(one.name, node.size, unreadable(node), self.work, self.report)
        return []

    def _give_up(self, file: Decided, error: StorageError) -> None:
        file.failed = True
        self._fail(f"/{file.node.path}", error, file.node.size)

    def _refuse(self, path: str, error: StorageError) -> None:
        self._fail(f"/{path}", error, 0)

    def _fail(self, name: str, error: StorageError, size: int | None) -> None:
        refuse(name, size, error, self.work, self.report)


def _revived(node: Node, replicas: Sequence[Replica]) -> tuple[Replica, ...]:
    """Return the replicas that are to be good: one that was being removed only where no other good one is left."""
    if any(is_good(node, one) for one in replicas):
        return tuple(one for one in replicas if one.state != "deleting")
    return tuple(replace(one, state="copying") if one.state == "deleting" else one for one in replicas)
