"""The numbers of transfers as Markdown: medians, ratios, and whether the targets are met."""

from __future__ import annotations

import statistics
from typing import Any

Measured = dict[str, Any]

_HEAD = (
    "| work | program | wall s, median | least | most | processor s | MB at most | ratio of medians "
    "| median of paired ratios | target | met |"
)
_EXPLAINED = """
A ratio is the time of `cdir` divided by the program's, so less than 1 is faster. Paired: within each round, then the
median; it decides whether a target is met, because the machine's pace differs between rounds more than within one.
Processor seconds are the program's own, without the servers. A program with one run takes so long that one is enough.
"""


def good_runs(work: Measured, program: str) -> list[Measured]:
    """Return a program's runs that count and did not fail."""
    return [run for run in work["runs"] if run["program"] == program and run["round"] and "error" not in run]


def walls(work: Measured, program: str) -> dict[int, float]:
    """Return the wall seconds of a program's good runs by round, from the first that counts."""
    return {run["round"]: run["wall_s"] for run in good_runs(work, program)}


def ratios(work: Measured, beside: list[str]) -> tuple[float, float] | None:
    """Return how ours compares with the slowest of some programs.

    Returns:
        ratio of the medians, and median of the ratios within each round; None where either has no good run.
    """
    ours, theirs = walls(work, work["programs"][0]), [walls(work, name) for name in beside]
    both = [turn for turn in ours if all(turn in one for one in theirs)]
    if not both:
        return None
    medians = statistics.median(ours.values()) / max(statistics.median(one.values()) for one in theirs)
    return medians, statistics.median(ours[turn] / max(one[turn] for one in theirs) for turn in both)


def is_met(work: Measured, target: Measured) -> bool:
    """Whether ours is fast enough."""
    found = ratios(work, target["beside"])
    return found is not None and found[1] <= target["ratio"]


def table(title: str, results: Measured) -> str:
    """Return the machine and the table."""
    lines = [f"# {title}", "", *(f"- {key}: {value}" for key, value in results["machine"].items()), _EXPLAINED]
    lines += [_HEAD, f"|{'---|' * 11}"]
    for work in results["works"].values():
        for number, program in enumerate(work["programs"]):
            heading = "" if number else f"{work['title']} ({work['date']})"
            lines.append(f"| {heading} | {_row(work, program)} |")
        for target in work["targets"]:
            if len(target["beside"]) > 1:
                lines.append(f"| | | | | | | | {_compared(work, target['beside'])} |")
    errors = [
        f"- {work['title']}: {run['program']}, round {run['round']}: {' '.join(run['error'].split())}"
        for work in results["works"].values()
        for run in work["runs"]
        if "error" in run
    ]
    return "\n".join([*lines, "", *(["## Runs that failed", "", *errors, ""] if errors else [])])


def commands_of(results: Measured) -> str:
    """Return all commands."""
    lines = ["## Commands", ""]
    for work in results["works"].values():
        lines += [f"{work['title']} ({work['files']:,} files, {work['bytes']:,} bytes):", "", "```"]
        lines += [command for commands in work["commands"].values() for command in commands]
        lines += ["```", ""]
    return "\n".join(lines)


def _row(work: Measured, program: str) -> str:
    seconds = list(walls(work, program).values())
    if not seconds:
        return f"{program} | failed | | | | | | | |"
    runs = good_runs(work, program)
    cpu = statistics.median(run["cpu_s"] for run in runs)
    figures = " | ".join(f"{n:.2f}" for n in (statistics.median(seconds), min(seconds), max(seconds), cpu))
    # what was measured before there was this column has none
    figures += f" | {max((run['memory_mb'] for run in runs if 'memory_mb' in run), default='')}"
    once = " (1 run)" if len(seconds) == 1 else ""
    compared = " | | | " if program == work["programs"][0] else _compared(work, [program])
    return f"{program}{once} | {figures} | {compared}"


def _compared(work: Measured, beside: list[str]) -> str:
    found = ratios(work, beside)
    target = next((target for target in work["targets"] if target["beside"] == beside), None)
    asked = f"{target['text']} | {'yes' if is_met(work, target) else '**no**'}" if target else " | "
    return f"{found[0]:.2f} | {found[1]:.2f} | {asked}" if found else f" | | {asked}"
