"""Transfers beside rclone and s5cmd: whole processes, one after the other on the same data and servers of this machine.

    python -m benchmarks.transfers [--only=NAME,NAME...] [--rounds=N] [--scale=FRACTION] [--output=FOLDER]

In each round every program does the work once, to a new destination and in an order that changes from round to round;
what arrived is counted afterwards, from behind. Prints a table and writes ``transfers.json`` (every run),
``transfers.md`` and ``transfers.png``; with ``--only`` the works left out stay in them as they were measured last.
"""

from __future__ import annotations

from benchmarks._places import Places, Spot
from benchmarks._plot import plot
from benchmarks._process import recorded, run
from benchmarks._rounds import measure_works
from benchmarks._works import WORKS, Contender, Work
from deploy.servers import find_program

SOURCE = "source"
_FEW = 100
"""Up to so many files are removed after each run, for the room that they take. More stay until the work ends: for half
a minute ext4 does not use the inodes of removed files again, but looks at each of them for every file that is made, so
that 20,000 took 2 s or 40, depending on how long ago others had been removed."""


class Course:
    """One work on its servers: the data is made, and then each contender runs when asked.

    Args:
        work: what to do.
        places: the servers, which are up.
        scale: fraction of the work's data.
    """

    def __init__(self, work: Work, places: Places, scale: float) -> None:
        self.work = work
        self.places = places
        self.environment = places.environment()
        trees = [tree.scaled(scale) for tree in work.trees]
        self.expected = sorted(tree.size for tree in trees for _ in range(tree.files))
        here = Spot(places, "here", SOURCE)
        for number, tree in enumerate(trees):
            tree.write(here.folder / f"t{number}")
        self.source = Spot(places, work.source, SOURCE)
        if self.source.folder != here.folder:
            run([[find_program("rclone"), "copy", here.rclone, self.source.rclone, "--transfers=8"]], self.environment)

    def measure(self, contender: Contender, turn: int) -> dict[str, object]:
        """Let a contender run once and look at what arrived.

        Returns:
            the run's record, with ``error`` where it failed or something is missing.
        """
        destinations = self._destinations(contender, turn)

        def check() -> None:
            for spot in destinations:
                spot.expect(self.expected)

        record = recorded(contender.name, turn, contender.commands(self.source, destinations), self.environment, check)
        if not self.work.again and len(self.expected) <= _FEW:
            for spot in destinations:
                spot.clear()
        return record

    def shown(self, contender: Contender) -> list[str]:
        """Return a contender's commands for a reader."""
        return [
            self.places.shown(command) for command in contender.commands(self.source, self._destinations(contender, 1))
        ]

    def _destinations(self, contender: Contender, turn: int) -> list[Spot]:
        name = contender.name.replace(" ", "-").replace(",", "")
        path = name if self.work.again else f"{name}-{turn}"
        return [Spot(self.places, place, path) for place in contender.only or self.work.destinations]


if __name__ == "__main__":
    folder, results = measure_works("transfers", __doc__, WORKS, Course)
    plot(results["works"], folder / "transfers.png")
