"""What the replicas of one file, as they were just seen, mean. Pure functions: the same sights give the same decision,
in whatever order they come, on every computer and in every run.

One changed replica is the new version. Several with the same content are one version. Of several contents the newest
wins, by time corrected for the service's clock; where times are closer than they are exact, the greater SHA-256 does.
A replica that was changed from a version that is not the present one stands against the present content too. One whose
content differs while its modification time is exactly as it was (a flipped bit, a truncation by a broken disk) never
wins against others: nobody who edits a file leaves its time behind, to the nanosecond.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

from cloudmesh.vdir.rules import Deletes

Kind = Literal["good", "old", "damaged", "absent", "missing", "changed", "away", "obstacle"]
"""How a replica was seen: with the present content; with that of an older version of ours; with bytes that were found
wrong; not there and never finished; not there any more; with a content of others; not seen at all; a foreign file
stands in its place."""

What = Literal["nothing", "heal", "renew", "delete", "lost", "doubt", "ask"]
"""Nothing to do; bring the present content where it is not; a new version; the name is deleted; no replica has the
content; it cannot be told whether the only content is right; somebody has to choose."""


@dataclass(frozen=True, slots=True)
class Sight:
    """One replica as it was seen.

    Attributes:
        service: where.
        kind: as what.
        sha256: of a changed one's content.
        time_ns: when it was changed, corrected for the service's clock; None = not known.
        error_ns: within how much that is right.
        base: the version that a changed one held before; 0 = not known.
        silent: a changed one's modification time says that it was not.
    """

    service: str
    kind: Kind
    sha256: str = ""
    time_ns: int | None = None
    error_ns: int = 0
    base: int = 0
    silent: bool = False


@dataclass(frozen=True, slots=True)
class Contender:
    """One content that a file may have.

    Attributes:
        sha256: of it; empty for a present content of which it is not known.
        services: that hold it.
        time_ns: the latest of its times; None = not known.
        error_ns: within how much that is right.
        present: it is the one that the name has.
        silent: as of `Sight`.
    """

    sha256: str
    services: tuple[str, ...]
    time_ns: int | None
    error_ns: int = 0
    present: bool = False
    silent: bool = False


@dataclass(frozen=True, slots=True)
class Decision:
    """What is to be done about one file.

    Attributes:
        what: the kind of it.
        winner: of ``renew``, the content that the name shall have.
        losers: of ``renew``, the other contents, the oldest first.
        contenders: of ``ask``, from which to choose, the one that would win first.
    """

    what: What
    winner: Contender | None = None
    losers: tuple[Contender, ...] = ()
    contenders: tuple[Contender, ...] = ()


@dataclass(frozen=True, slots=True)
class Present:
    """What the catalogue holds of a file: its version and that content's hash (empty = not known) and time."""

    version: int
    sha256: str = ""
    time_ns: int | None = None


def decide(
    present: Present, sights: Iterable[Sight], *, deletes: Deletes = "heal", conflict: str = "newest"
) -> Decision:
    """Return what the sights of one file mean.

    Args:
        present: what the catalogue holds.
        sights: one for each registered replica.
        deletes: what a replica that others removed means.
        conflict: who wins where contents differ: ``newest`` or ``keep-both`` the newest, ``ask`` leaves it open, any
            other value is a service, whose content wins; where it has none, that is left open, too.
    """
    seen = sorted(sights, key=lambda one: one.service)
    changed = [one for one in seen if one.kind == "changed"]
    good = tuple(one.service for one in seen if one.kind == "good")
    if not changed:
        return _unchanged(seen, good, deletes)
    contenders = _contents(changed)
    stands = any(0 < one.base < present.version for one in changed) or (len(contenders) > 1 and conflict in good)
    if stands or (good and all(one.silent for one in contenders)):
        contenders.append(Contender(present.sha256, good, present.time_ns, present=True))
    if len(contenders) == 1 and not contenders[0].silent:
        return Decision("renew", contenders[0])
    ranked = rank(contenders)
    if conflict == "ask":
        return Decision("ask", contenders=tuple(ranked))
    winner = next((one for one in ranked if conflict in one.services), None)
    if winner is None and ranked[0].silent:
        return Decision("doubt", contenders=tuple(ranked))
    if winner is None and conflict not in ("newest", "keep-both"):
        return Decision("ask", contenders=tuple(ranked))
    winner = winner or ranked[0]
    losers = tuple(one for one in reversed(ranked) if one is not winner and not one.present)
    return Decision("renew", winner, losers)


def _unchanged(seen: Sequence[Sight], good: Sequence[str], deletes: Deletes) -> Decision:
    kinds = {one.kind for one in seen}
    if deletes == "propagate" and good and "missing" in kinds:
        return Decision("delete")
    if not good and "away" not in kinds:
        return Decision("lost")
    return Decision("heal" if kinds & {"old", "damaged", "absent", "missing"} else "nothing")


def _contents(changed: Sequence[Sight]) -> list[Contender]:
    found: list[Contender] = []
    for sha256 in sorted({one.sha256 for one in changed}):
        same = [one for one in changed if one.sha256 == sha256]
        timed = [(one.time_ns, one.error_ns) for one in same if one.time_ns is not None]
        time_ns, error_ns = max(timed) if timed else (None, 0)
        silent = all(one.silent for one in same)
        found.append(Contender(sha256, tuple(one.service for one in same), time_ns, error_ns, silent=silent))
    return found


def rank(contenders: Sequence[Contender]) -> list[Contender]:
    """Return the contents in the order in which they win.

    The first is the one with the greatest SHA-256 among those whose time cannot be told from the latest; then comes the
    first of the rest, and so on. That is no comparison of pairs, which could go round in a circle.
    """
    left = sorted(contenders, key=lambda one: one.sha256)
    ranked: list[Contender] = []
    while left:
        able = [one for one in left if not one.silent] or left
        timed = [one for one in able if one.time_ns is not None]
        latest = max(timed, key=lambda one: (one.time_ns or 0, one.sha256), default=None)
        tied = able if latest is None else [one for one in able if _is_tied(one, latest)]
        best = max(tied, key=lambda one: one.sha256)
        ranked.append(best)
        left.remove(best)
    return ranked


def _is_tied(one: Contender, latest: Contender) -> bool:
    if one.time_ns is None or latest.time_ns is None:
        return True
    return latest.time_ns - one.time_ns <= one.error_ns + latest.error_ns
