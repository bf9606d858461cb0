"""Doing works in rounds, each program once in each, and reporting them: the command line of such a benchmark."""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Protocol

from benchmarks._machine import machine, programs
from benchmarks._places import Places
from benchmarks._table import commands_of, table
from benchmarks._works import Contender, Work


class Course(Protocol):
    """One work on its servers: the data is made, and then each contender runs when asked.

    Attributes:
        expected: the sizes of its files, sorted.
    """

    @property
    def expected(self) -> Sequence[int]: ...

    def measure(self, contender: Contender, turn: int) -> dict[str, object]:
        """Let a contender run once; return the record of that, with ``error`` where it failed."""

    def shown(self, contender: Contender) -> list[str]:
        """Return a contender's commands for a reader."""


MakeCourse = Callable[[Work, Places, float], Course]
"""Prepares a work on servers that are up, with a fraction of its data."""


def in_rounds(work: Work, make_course: MakeCourse, rounds: int, scale: float) -> dict[str, Any]:
    """Do one work with all its contenders; return every run."""
    with tempfile.TemporaryDirectory(prefix="cdir-benchmark-") as folder:
        Path(folder).chmod(0o711)
        with Places(Path(folder) / work.name, {work.source, *work.destinations}) as places:
            course = make_course(work, places, scale)
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


def measure_works(name: str, description: str, works: Sequence[Work], make_course: MakeCourse) -> tuple[Path, Any]:
    """Do the works that the command line asks for, add them to what is there, and write and print the table.

    Args:
        name: of the files that are written.
        description: for the command's help.
        works: all that there are.
        make_course: prepares one.

    Returns:
        the folder that was written to, and all results.
    """
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    known = {work.name: work for work in works}
    parser.add_argument("--only", default=",".join(known), help=f"some of {', '.join(known)}")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--scale", type=float, default=1.0, help="fraction of the data, to try things out")
    parser.add_argument("--output", type=Path, default=Path("docs/benchmarks"))
    arguments = parser.parse_args()
    names = arguments.only.split(",")
    for each in names:
        if each not in known:
            parser.error(f"no work is called {each}")
    written = arguments.output / f"{name}.json"
    results: dict[str, Any] = json.loads(written.read_text()) if written.exists() else {"works": {}}
    results["machine"] = machine("obstore", "pycurl", "ssh-python") | programs("rclone", "s5cmd", "weed")
    arguments.output.mkdir(parents=True, exist_ok=True)
    for each in names:
        results["works"][each] = in_rounds(known[each], make_course, arguments.rounds, arguments.scale)
        results["works"] = {known: results["works"][known] for known in known if known in results["works"]}
        results["machine"]["load after"] = round(os.getloadavg()[0], 1)
        written.write_text(json.dumps(results, indent=2, ensure_ascii=False) + "\n")
    title = name.capitalize()
    (arguments.output / f"{name}.md").write_text(table(title, results) + commands_of(results))
    print(table(title, results))
    return arguments.output, results
