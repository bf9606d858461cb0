"""The REST service beside rclone's servers, on the same files of this computer's disk, asked by wrk.

    python -m benchmarks.service [--rounds N] [--seconds S] [--scale FRACTION] [--output FOLDER]

All programs run all the time; in each round each is asked once, in an order that changes. Prints a table and writes
``service.json`` (every run), ``service.md`` and ``service.png``.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import statistics
import subprocess
import sys
import tempfile
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks._machine import machine, programs
from benchmarks._places import Places, Spot, Tree
from benchmarks._process import RunError
from benchmarks._serving import Served, ask, ours, rclone
from deploy.servers import find_program

SMALL = Tree(2_000, 100)
BIG = Tree(1, 512 << 20)
CONNECTIONS = 16
ONE, TWO = "cdir, 1 process", "cdir, 2 processes"
RCD, HTTP = "rclone rcd", "rclone serve http"


@dataclass(frozen=True, slots=True)
class Work:
    """What is asked of programs.

    Attributes:
        title: for the table.
        unit: of the numbers: ``requests`` or ``MB``.
        tree: the files that are asked for.
        connections: at once.
        asked: path and query of each program, and a body where it is a POST; ``NAME`` is a file's path.
        ratio: how many times as much as the last program ours has to do, in any number of processes.
    """

    title: str
    unit: str
    tree: Tree
    connections: int
    asked: dict[str, tuple[str, str]]
    ratio: float


_STAT = ("/api/v1/storage/stat?source=disk:NAME", "")
_LS = ("/api/v1/vdir/ls?dir=/NAME", "")
_RCD = ("/operations/stat", '{"fs":"FOLDER","remote":"NAME"}')
_FILE = ("/files/NAME", "")
WORKS = {
    "stat": Work(
        "what is known of a file on a service", "requests", SMALL, CONNECTIONS, {ONE: _STAT, TWO: _STAT, RCD: _RCD}, 1.0
    ),
    "lookup": Work(
        "what is known of a virtual file", "requests", SMALL, CONNECTIONS, {ONE: _LS, TWO: _LS, RCD: _RCD}, 1.0
    ),
    "file": Work("one file of 512 MiB", "MB", BIG, 1, {ONE: _FILE, TWO: _FILE, HTTP: ("/NAME", "")}, 0.8),
}


def measure(rounds: int, seconds: float, scale: float) -> dict[str, Any]:
    """Do all works; return every run."""
    works: dict[str, dict[str, Any]] = {
        name: {
            "title": work.title,
            "unit": work.unit,
            "ratio": work.ratio,
            "programs": list(work.asked),
            "asked": {program: " ".join(asked).strip() for program, asked in work.asked.items()},
            "runs": [],
        }
        for name, work in WORKS.items()
    }
    with tempfile.TemporaryDirectory(prefix="cdir-benchmark-") as folder, ExitStack() as stack:
        Path(folder).chmod(0o711)
        places = stack.enter_context(Places(Path(folder) / "service", {"disk"}))
        names = {}
        for tree in (SMALL, BIG):
            spot = Spot(places, "disk", f"t{tree.size}")
            tree.scaled(scale).write(spot.folder)
            names[tree] = sorted(str(one.relative_to(places.local)) for one in spot.folder.rglob("f*"))
            _cdir(places, "vdir", "add", spot.ours, f"/{spot.path}", "--recursive")
        servers = _servers(places, stack)
        for turn in range(1, rounds + 1):
            for name, work in WORKS.items():
                shift = turn % len(work.asked)
                for program in [*work.asked][shift:] + [*work.asked][:shift]:
                    run: dict[str, Any] = {"program": program, "round": turn}
                    try:
                        target, body = (text.replace("FOLDER", str(places.local)) for text in work.asked[program])
                        found = ask(
                            servers[program], target, names[work.tree], Path(folder), seconds, work.connections, body
                        )
                        per_s = found.requests_per_s if work.unit == "requests" else found.bytes_per_s / 1e6
                        run |= {"per_s": round(per_s, 1), "cpu_ms": round(found.cpu_ms, 3)}
                    except RunError as error:
                        run["error"] = str(error)
                    works[name]["runs"].append(run)
                    print(f"service: {name}: {run}", file=sys.stderr, flush=True)
    return works


def _servers(places: Places, stack: ExitStack) -> dict[str, Served]:
    environment = places.environment()
    token = json.loads(_cdir(places, "token", "create", "--scope=read", "--output=json"))["token"]
    served = {}
    for number, program in enumerate((ONE, TWO), 1):
        served[program] = stack.enter_context(ours(number, places.environment() | _own_home(places, number), token))
    served[RCD] = stack.enter_context(rclone(["rcd"], "rc_", environment))
    served[HTTP] = stack.enter_context(rclone(["serve", "http", str(places.local)], "", environment))
    return served


def _own_home(places: Places, number: int) -> dict[str, str]:
    """One configuration has one service: a second one needs its own, on the same database."""
    home = places.folder / f"home-{number}"
    home.mkdir(mode=0o700)
    (home / "cloudmesh.yaml").write_text((places.folder / "home" / "cloudmesh.yaml").read_text())
    (home / "cloudmesh.yaml").chmod(0o600)
    return {"CLOUDMESH_CONFIG_DIR": str(home), "CDIR_DATABASE": f"sqlite:///{places.folder / 'home' / 'vdir.db'}"}


def _cdir(places: Places, *words: str) -> str:
    command = [find_program("cdir"), *words]
    return subprocess.run(command, env=places.environment(), capture_output=True, text=True, check=True).stdout


def compared(work: dict[str, Any], program: str) -> float | None:
    """Return how many times as much a program did as the last one: the median of the ratios within each round."""
    rates = {(run["program"], run["round"]): run["per_s"] for run in work["runs"] if "error" not in run}
    beside = work["programs"][-1]
    both = [
        rates[program, turn] / rates[beside, turn]
        for name, turn in rates
        if name == beside and (program, turn) in rates
    ]
    return statistics.median(both) if both else None


def report(results: dict[str, Any]) -> str:
    """The numbers as Markdown."""
    lines = ["# Service", "", *(f"- {key}: {value}" for key, value in results["machine"].items()), ""]
    lines += [
        "A ratio is what `cdir` does in a second divided by what the other program does, within each round, then the",
        "median: more than 1 is faster. One process of rclone uses all processors, one of `cdir` one or so; a",
        "target is met where either number of processes meets it. Processor ms are the program's own, for a request.",
        "",
        "| work | program | a second, median | least | most | processor ms | median of paired ratios | target | met |",
        f"|{'---|' * 9}",
    ]
    for work in results["works"].values():
        ratios = {program: compared(work, program) for program in work["programs"][:-1]}
        is_met = any(ratio is not None and ratio >= work["ratio"] for ratio in ratios.values())
        for number, program in enumerate(work["programs"]):
            runs = [run for run in work["runs"] if run["program"] == program and "error" not in run]
            rates = [run["per_s"] for run in runs] or [0.0]
            figures = " | ".join(f"{n:,.0f} {work['unit']}" for n in (statistics.median(rates), min(rates), max(rates)))
            cpu = statistics.median([run["cpu_ms"] for run in runs] or [0.0])
            ratio = ratios.get(program)
            told = f"{ratio:.2f}" if ratio is not None else ""
            target = (
                f"≥ {work['ratio']:g} × {work['programs'][-1]} | {'yes' if is_met else '**no**'}"
                if not number
                else " | "
            )
            lines.append(
                f"| {'' if number else work['title']} | {program} | {figures} | {cpu:.2f} | {told} | {target} |"
            )
    lines += ["", "## What was asked", "", "```"]
    for work in results["works"].values():
        lines += [f"{program}: {asked}" for program, asked in work["asked"].items()]
    return "\n".join([*lines, "```", ""])


def plot(results: dict[str, Any], file: Path) -> None:
    """Draw what each program did beside the last one of its work, and where ours has to be."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(figsize=(7.5, 3), layout="constrained")
    labels: list[str] = []
    for work in results["works"].values():
        for program in work["programs"][:-1]:
            y, ratio = len(labels), compared(work, program) or 0.0
            axes.barh(y, ratio, 0.7, color="#1f4e79", edgecolor="black", linewidth=0.5)
            axes.annotate(f"{ratio:.2f}", (ratio, y), (4, 0), textcoords="offset points", va="center", size=7)
            axes.plot([work["ratio"]] * 2, [y - 0.5, y + 0.5], color="#c00000", linewidth=2)
            labels.append(f"{work['title']}\n{program} beside {work['programs'][-1]}")
    axes.set_yticks(range(len(labels)), labels, size=6)
    axes.invert_yaxis()
    axes.set_xlabel("times as much a second; the red line is the least that the target allows")
    figure.savefig(file, dpi=200)
    pyplot.close(figure)


def main() -> None:
    """Measure and report."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--seconds", type=float, default=5.0)
    parser.add_argument("--scale", type=float, default=1.0, help="fraction of the data, to try things out")
    parser.add_argument("--output", type=Path, default=Path("docs/benchmarks"))
    arguments = parser.parse_args()
    wrk = re.search(r"wrk (\S+)", subprocess.run(["wrk", "-v"], capture_output=True, text=True, check=False).stdout)
    facts = machine("uvicorn", "uvloop", "httptools", "fastapi") | programs("rclone")
    results: dict[str, Any] = {"machine": facts | {"wrk": wrk[1] if wrk else "?"}}
    results["works"] = measure(arguments.rounds, arguments.seconds, arguments.scale)
    results["machine"]["load after"] = round(os.getloadavg()[0], 1)
    arguments.output.mkdir(parents=True, exist_ok=True)
    (arguments.output / "service.json").write_text(json.dumps(results, indent=2, ensure_ascii=False) + "\n")
    (arguments.output / "service.md").write_text(report(results))
    plot(results, arguments.output / "service.png")
    print(report(results))


if __name__ == "__main__":
    main()
