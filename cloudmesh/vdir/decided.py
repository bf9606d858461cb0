"""One file on its way from what was decided about it to what is done."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from cloudmesh.vdir.copies import Copy
from cloudmesh.vdir.decide import Contender, Decision
from cloudmesh.vdir.kept import Keeping, outdated, superseded
from cloudmesh.vdir.nodes import Node, Replica
from cloudmesh.vdir.observe import Observed
from cloudmesh.vdir.sources import Source


@dataclass(slots=True)
class Decided:
    """A file, what was seen of it, and what is to be done.

    Attributes:
        node: the name; from its renewal on with the new content.
        observed: its replicas.
        decision: what is to be done.
        rows: its replicas as the catalogue has them, or is about to.
        failed: nothing more is done about it in this run.
        hashed: the hash of its content was not known before.
    """

    node: Node
    observed: list[Observed]
    decision: Decision
    rows: dict[str, Replica] = field(default_factory=dict)
    failed: bool = False
    hashed: bool = False

    @property
    def lacking(self) -> list[Observed]:
        """The replicas that the content has to be brought to, as far as their services can be asked."""
        if self.decision.what == "heal":
            return [one for one in self.observed if one.kind in ("old", "damaged", "absent", "missing")]
        if self.decision.what != "renew":
            return []
        holders = {one.service for one in self.holders}
        return [one for one in self.observed if one.kind not in ("away", "obstacle") and one.service not in holders]

    @property
    def holders(self) -> list[Observed]:
        """The replicas that have the content that the name has, or shall have; none where it shall go."""
        winner = self.decision.winner
        if winner is not None and not winner.present:
            return self.that_hold(winner)
        return [] if self.decision.what == "delete" else [one for one in self.observed if one.kind == "good"]

    def that_hold(self, content: Contender) -> list[Observed]:
        """Return the changed replicas with a content."""
        return [one for one in self.observed if one.service in content.services]

    def superseded(self) -> list[Keeping]:
        """Return what may keep the present content, before the one that won takes its place: good replicas, else what a
        service keeps by itself that was overwritten there. A replica on a service that is away is kept when it is back.
        """
        if self.decision.winner is not None and self.decision.winner.present:
            return []
        good = superseded(self.node, [one.now for one in self.observed if one.kind == "good"])
        changed = superseded(self.node, [one.known for one in self.observed if one.kind == "changed"])
        return good or [replace(one, required=False) for one in changed]

    def replaced(self, last: int, *, losers: bool) -> list[list[Keeping]]:
        """Number the contents that lost, and return all that are to be kept before the one that won takes their place.

        Args:
            last: the highest version so far.
            losers: keep these too; else only the present content.

        Returns:
            for each content the ways to keep it; none where it need not be kept.
        """
        found = [self.superseded()]
        for number, loser in enumerate(self.decision.losers, start=last + 1):
            holders = self.that_hold(loser)
            for one in holders:
                self.rows[one.service] = replace(one.now, version=number)
            if losers and self.node.rules.versions:
                node = with_content(self.node, holders[0], number)
                found.append([Keeping(node, self.rows[one.service]) for one in holders])
        return found

    def outdated(self) -> list[tuple[Observed, Keeping]]:
        """Return the replicas with older contents that are going to be overwritten, and what keeps these."""
        if self.failed:
            return []
        found = [(one, outdated(self.node, one.now)) for one in self.lacking if one.kind == "old"]
        return [(one, keeping) for one, keeping in found if keeping is not None]

    def copies(self, sources: Sequence[Source]) -> list[Copy]:
        """Return the copies that make all replicas good."""
        return [Copy(self.node, one.service, sources, self._replaced(one)) for one in self.lacking]

    def _replaced(self, one: Observed) -> Replica:
        """Return what a copy takes the place of: a file with wrong bytes is as replaceable as an older version."""
        row = self.rows[one.service]
        return replace(row, state="stale", version=max(row.version, 1)) if one.kind == "damaged" else row


def with_content(node: Node, one: Observed, version: int) -> Node:
    """Return a name with the content of a changed replica."""
    entry = one.entry
    assert entry is not None  # noqa: S101 - it was seen
    mtime_ns = entry.mtime_ns if entry.mtime_ns is not None else entry.changed_ns
    return replace(node, size=entry.size, mtime_ns=mtime_ns, sha256=one.sha256, version=version, origin=one.service)
