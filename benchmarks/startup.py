"""How long a user waits for the smallest commands: whole processes, as installed.

    python -m benchmarks.startup [--runs N] [--output FOLDER]

Prints a table and writes ``startup.json`` and ``startup.md``. Wall and processor seconds, median and smallest of the
runs; on a busy machine only the processor seconds mean something.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from benchmarks._machine import machine

GOALS = {"cdir --help": 0.15, "cdir ls": 0.3}


def measure(command: list[str], environment: dict[str, str], runs: int) -> dict[str, float]:
    """Run a command and return seconds: median and smallest wall time, median of processor time."""
    walls, cpus = [], []
    for _ in range(runs + 1):
        before, begin = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
        subprocess.run(command, env=environment, stdout=subprocess.DEVNULL, stdin=subprocess.DEVNULL, check=True)
        walls.append(time.perf_counter() - begin)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        cpus.append(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)
    # the first run warms the disk's cache
    walls, cpus = walls[1:], cpus[1:]
    figures = {"wall_s": statistics.median(walls), "least_wall_s": min(walls), "cpu_s": statistics.median(cpus)}
    return {name: round(seconds, 3) for name, seconds in figures.items()}


def report(results: dict[str, Any]) -> str:
    """The numbers as Markdown."""
    lines = ["# Start-up", "", *(f"- {key}: {value}" for key, value in results["machine"].items()), ""]
    lines += ["| command | wall s, median | wall s, least | processor s | goal, wall s |", "|---|---|---|---|---|"]
    for name, figures in results["commands"].items():
        goal = f"≤ {GOALS[name]}" if name in GOALS else ""
        lines.append(f"| `{name}` | {figures['wall_s']} | {figures['least_wall_s']} | {figures['cpu_s']} | {goal} |")
    return "\n".join(lines) + "\n"


def main() -> None:
    """Measure the commands with an empty catalogue."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=11)
    parser.add_argument("--output", type=Path, default=Path("docs/benchmarks"))
    arguments = parser.parse_args()
    bin_folder = Path(sys.executable).parent
    commands = {
        "python -c pass": [sys.executable, "-c", "pass"],
        "cdir --help": [str(bin_folder / "cdir"), "--help"],
        "cdir ls": [str(bin_folder / "cdir"), "ls"],
        "cdir storage list": [str(bin_folder / "cdir"), "storage", "list"],
        "cms vdir ls": [str(bin_folder / "cms"), "vdir", "ls"],
    }
    results: dict[str, Any] = {"machine": machine("sqlalchemy", "cloudmesh-cmd5"), "commands": {}}
    with tempfile.TemporaryDirectory(prefix="cdir-benchmark-") as folder:
        environment = os.environ | {"CLOUDMESH_CONFIG_DIR": folder}
        for name, command in commands.items():
            results["commands"][name] = measure(command, environment, arguments.runs)
    arguments.output.mkdir(parents=True, exist_ok=True)
    (arguments.output / "startup.json").write_text(json.dumps(results, indent=2) + "\n")
    (arguments.output / "startup.md").write_text(report(results))
    print(report(results))


if __name__ == "__main__":
    main()
