"""The largest memory of transfers: a 4 GiB file between services and through the REST service, and 200,000 files.

    python -m benchmarks.memory [--scale FRACTION] [--output FOLDER]

Prints a table and writes ``memory.json`` and ``memory.md``. Memory is what the kernel says that the whole process had
at most; the wall seconds beside it are of one run.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
from pathlib import Path
from typing import Any

from benchmarks import _streaming
from benchmarks._machine import machine
from benchmarks._places import Places, Spot, Tree
from benchmarks._process import RunError, run
from deploy.servers import find_program

LIMIT_MB = 250
HUGE = Tree(1, 4 << 30)
MANY = Tree(200_000, 64)

STEPS = (
    # title, data, source, destination, command
    ("4 GiB file, S3 → second S3", HUGE, "aws", "r3", ("copy", "--recursive")),
    ("4 GiB file, S3 → WebDAV", HUGE, "aws", "dav", ("copy", "--recursive")),
    ("200,000 files, local → local", MANY, "disk", "disk", ("sync",)),
    ("200,000 files, local → local again", MANY, "disk", "disk", ("sync",)),
    ("200,000 files, local → S3", MANY, "disk", "aws", ("sync",)),
    ("200,000 files, local → S3 again", MANY, "disk", "aws", ("sync",)),
)


def measure(scale: float) -> list[dict[str, Any]]:
    """Do all steps; return what each took."""
    found: list[dict[str, Any]] = []
    for tree in (HUGE, MANY):
        steps = [step for step in STEPS if step[1] is tree]
        data = tree.scaled(scale)
        with tempfile.TemporaryDirectory(prefix="cdir-benchmark-") as folder:
            Path(folder).chmod(0o711)
            with Places(Path(folder) / "memory", {place for step in steps for place in step[2:4]}) as places:
                here, source = Spot(places, "here", "source"), Spot(places, steps[0][2], "source")
                data.write(here.folder)
                if source.folder != here.folder:
                    run([[find_program("rclone"), "copy", here.rclone, source.rclone]], places.environment())
                    here.clear()
                for title, _, _, place, words in steps:
                    destination = Spot(places, place, "arrived")
                    command = [find_program("cdir"), "storage", *words, source.ours, destination.ours]
                    found.append({"title": title, "command": places.shown(command)})
                    found[-1] |= _step(command, places, destination, data)
                    print(f"memory: {found[-1]}", file=sys.stderr, flush=True)
                    if tree is HUGE:
                        destination.clear()
    return found


def _step(command: list[str], places: Places, destination: Spot, data: Tree) -> dict[str, Any]:
    """Run one command and look at what arrived."""
    try:
        cost = run([command], places.environment())
        sizes = list(destination.sizes())
        if sizes != [data.size] * data.files:
            raise RunError(f"{len(sizes)} files with {sum(sizes)} bytes arrived instead of {data.files} × {data.size}")
    except RunError as error:
        return {"error": " ".join(str(error).split())}
    return {"memory_mb": round(cost.memory / 1e6), "wall_s": round(cost.wall_s, 1), "cpu_s": round(cost.cpu_s, 1)}


def report(results: dict[str, Any]) -> str:
    """The numbers as Markdown."""
    lines = ["# Memory", "", *(f"- {key}: {value}" for key, value in results["machine"].items()), ""]
    lines += ["| work | MB at most | limit | wall s | processor s | command |", "|---|---|---|---|---|---|"]
    for step in results["steps"]:
        figures = " | ".join(str(step.get(key, "")) for key in ("wall_s", "cpu_s"))
        memory = step.get("memory_mb", "failed: " + step.get("error", ""))
        lines.append(
            f"| {step['title']} | {memory} | < {step.get('limit', LIMIT_MB)} | {figures} | `{step['command']}` |"
        )
    return "\n".join(lines) + "\n"


def main() -> None:
    """Measure and report."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--scale", type=float, default=1.0, help="fraction of the data, to try things out")
    parser.add_argument("--output", type=Path, default=Path("docs/benchmarks"))
    arguments = parser.parse_args()
    results = {"machine": machine("obstore", "pycurl"), "scale": arguments.scale, "steps": measure(arguments.scale)}
    results["steps"] += _streaming.measure(int(HUGE.size * arguments.scale))
    results["machine"]["load after"] = round(os.getloadavg()[0], 1)
    arguments.output.mkdir(parents=True, exist_ok=True)
    (arguments.output / "memory.json").write_text(json.dumps(results, indent=2, ensure_ascii=False) + "\n")
    (arguments.output / "memory.md").write_text(report(results))
    print(report(results))


if __name__ == "__main__":
    main()
