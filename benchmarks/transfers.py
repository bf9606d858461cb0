"""Transfers beside rclone and s5cmd: whole processes, one after the other on the same data and servers of this machine.

    python -m benchmarks.transfers [--only=NAME,NAME...] [--rounds=N] [--scale=FRACTION] [--output=FOLDER]

In each round every program does the work once, to a new destination and in an order that changes from round to round;
what arrived is counted afterwards, from behind. Prints a table and writes ``transfers.json`` (every run),
``transfers.md`` and ``transfers.png``; with ``--only`` the works left out stay in them as they were measured last.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from benchmarks._machine import machine, programs
from benchmarks._places import Places, Spot
from benchmarks._plot import plot
from benchmarks._process import RunError, run
from benchmarks._table import commands_of, table
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
        commands = contender.commands(self.source, destinations)
        os.sync()  # what the run before wrote is not to be paid for by this one
        load = os.getloadavg()[0]
        record: dict[str, object] = {"program": contender.name, "round": turn, "load before": round(load, 1)}
        try:
            cost = run(commands, self.environment)
            record |= {"wall_s": round(cost.wall_s, 3), "cpu_s": round(cost.cpu_s, 3)}
            for spot in destinations:
                found = sorted(spot.sizes())
                if found != self.expected:
                    wanted = f"{len(self.expected)} files with {sum(self.expected)} bytes"
                    raise RunError(f"{spot.place} has {len(found)} files with {sum(found)} bytes instead of {wanted}")
        except RunError as error:
            record["error"] = str(error)
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


def measure(work: Work, rounds: int, scale: float) -> dict[str, Any]:
    """Do one work with all its contenders; return every run."""
    with tempfile.TemporaryDirectory(prefix="cdir-benchmark-") as folder:
        Path(folder).chmod(0o711)
        with Places(Path(folder) / work.name, {work.source, *work.destinations}) as places:
            course = Course(work, places, scale)
            runs: list[dict[str, object]] = []
            # Where it is the second run that counts, the first is round 0.
            for turn in range(0 if work.again else 1, rounds + 1):
                first = (turn - 1) % len(work.contenders)
                for contender in work.contenders[first:] + work.contenders[:first]:
                    if turn <= 1 or not contender.once:
                        runs.append(course.measure(contender, turn))
                        print(f"{work.name}: {runs[-1]}", file=sys.stderr, flush=True)
            return {
                "title": work.title if scale == 1 else f"{work.title}, × {scale:g}",
                "date": time.strftime("%Y-%m-%d %H:%M"),
                "files": len(course.expected),
                "bytes": sum(course.expected),
                "programs": [contender.name for contender in work.contenders],
                "commands": {contender.name: course.shown(contender) for contender in work.contenders},
                "targets": [{"ratio": t.ratio, "beside": list(t.beside), "text": str(t)} for t in work.targets],
                "runs": runs,
            }


def main() -> None:
    """Measure the works that are asked for, and add them to what is there."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    known = {work.name: work for work in WORKS}
    parser.add_argument("--only", default=",".join(known), help=f"some of {', '.join(known)}")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--scale", type=float, default=1.0, help="fraction of the data, to try things out")
    parser.add_argument("--output", type=Path, default=Path("docs/benchmarks"))
    arguments = parser.parse_args()
    names = arguments.only.split(",")
    for name in names:
        if name not in known:
            parser.error(f"no work is called {name}")
    written = arguments.output / "transfers.json"
    results: dict[str, Any] = json.loads(written.read_text()) if written.exists() else {"works": {}}
    results["machine"] = machine("obstore", "pycurl", "ssh-python") | programs("rclone", "s5cmd", "weed")
    arguments.output.mkdir(parents=True, exist_ok=True)
    for name in names:
        results["works"][name] = measure(known[name], arguments.rounds, arguments.scale)
        results["works"] = {known: results["works"][known] for known in known if known in results["works"]}
        results["machine"]["load after"] = round(os.getloadavg()[0], 1)
        written.write_text(json.dumps(results, indent=2, ensure_ascii=False) + "\n")
    (arguments.output / "transfers.md").write_text(table(results) + commands_of(results))
    plot(results["works"], arguments.output / "transfers.png")
    print(table(results))


if __name__ == "__main__":
    main()
