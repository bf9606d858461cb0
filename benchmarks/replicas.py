"""Keeping replicas on three services the same, beside three runs of rclone, each from a fourth tree to one service.

    python -m benchmarks.replicas [--only=NAME,NAME...] [--rounds=N] [--scale=FRACTION] [--output=FOLDER]

rclone knows of no replicas: it brings one tree to another. So it has one more tree on the local disk, which costs next
to nothing to list, and a run for each service. Files that were changed are changed in that tree for rclone, and behind
our back on one of the three services for ``cdir``. Prints a table and writes ``replicas.json`` (every run) and
``replicas.md``; with ``--only`` the works left out stay in them as they were measured last.
"""

from __future__ import annotations

import time

from benchmarks._places import Places, Spot, Tree
from benchmarks._process import recorded, run
from benchmarks._rounds import measure_works
from benchmarks._works import RCLONE, RCLONE_S3, Commands, Contender, Target, Work
from deploy.servers import find_program

SERVICES = ("aws", "dav", "disk")
EDITED, LOST = "disk", "dav"
FILES = Tree(20_000, 256, 1_000)
CHANGED = 100
"""One file of so many is changed."""

_FRESH_S = 1.5
"""The WebDAV server believes for a second that a directory is as it was."""

_OPTIONS = {
    "aws": (*RCLONE_S3, "--checksum"),  # a listing of S3 tells checksums; a modification time costs a request a file
    "dav": (*RCLONE, "--webdav-pacer-min-sleep", "0"),
    "disk": RCLONE,
}


def _vdir(*options: str) -> Commands:
    def commands(source: Spot, destinations: list[Spot]) -> list[list[str]]:
        return [[find_program("cdir"), "vdir", "sync", f"/{destinations[0].path}", *options]]

    return commands


def _rclone(source: Spot, destinations: list[Spot]) -> list[list[str]]:
    return [
        [find_program("rclone"), "sync", source.rclone, spot.rclone, *_OPTIONS[spot.place]] for spot in destinations
    ]


def _work(name: str, title: str, ratio: float, *options: str) -> Work:
    peer = Contender("rclone three times", _rclone)
    return Work(
        name,
        f"20,000 × 256 B on S3, WebDAV and disk, {title}",
        (FILES,),
        "here",
        SERVICES,
        (Contender("cdir", _vdir(*options)), peer),
        (Target(ratio, (peer.name,)),),
    )


WORKS = (
    _work("unchanged", "nothing changed", 0.6),
    _work("changed", "1 % changed", 0.6),
    _work("lost", "WebDAV lost all", 0.9, "--accept-loss"),
)


class Course:
    """One work on its servers, where each program has its own three replicas of the same tree.

    Args:
        work: what to do.
        places: the servers, which are up.
        scale: fraction of the work's data.
    """

    def __init__(self, work: Work, places: Places, scale: float) -> None:
        self.work = work
        self.places = places
        self.environment = places.environment()
        self.source = Spot(places, work.source, "source")
        tree = work.trees[0].scaled(scale)
        tree.write(self.source.folder)
        self.expected = [tree.size] * tree.files
        services = ",".join(work.destinations)
        put = [find_program("cdir"), "vdir", "put", self.source.ours, "/cdir", f"--to={services}", "--recursive"]
        run([put, *_rclone(self.source, self._spots(work.contenders[1]))], self.environment)

    def measure(self, contender: Contender, turn: int) -> dict[str, object]:
        """Do to the replicas what the work says, let a contender mend that, and look at them.

        Returns:
            the run's record, with ``error`` where it failed or a replica is not as it should be.
        """
        spots = {spot.place: spot for spot in self._spots(contender)}
        edited = (spots[EDITED] if contender is self.work.contenders[0] else self.source).folder
        if self.work.name == "changed":
            for path in sorted(edited.glob("*/*"))[::CHANGED]:
                with path.open("ab") as file:
                    file.write(b"+")
        elif self.work.name == "lost":  # moved away rather than removed, for the reason that `transfers` tells
            spots[LOST].folder.rename(self.places.folder / f"lost-{contender.name.split()[0]}-{turn}")
        time.sleep(_FRESH_S)
        expected = sorted(path.stat().st_size for path in edited.glob("*/*"))

        def check() -> None:
            for spot in spots.values():
                spot.expect(expected)

        return recorded(
            contender.name, turn, contender.commands(self.source, list(spots.values())), self.environment, check
        )

    def shown(self, contender: Contender) -> list[str]:
        """Return a contender's commands for a reader."""
        return [self.places.shown(command) for command in contender.commands(self.source, self._spots(contender))]

    def _spots(self, contender: Contender) -> list[Spot]:
        """Return where a contender's replicas are."""
        return [Spot(self.places, place, contender.name.split()[0]) for place in self.work.destinations]


if __name__ == "__main__":
    measure_works("replicas", __doc__, WORKS, Course)
