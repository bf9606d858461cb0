"""The plot of transfers: one group of bars a work, and a line where ours has to be."""

from __future__ import annotations

import statistics
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("Agg")

from matplotlib import pyplot
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from benchmarks._table import walls

# Shades and hatches that a black and white printer keeps apart.
_STYLES = [("#1f4e79", ""), ("#d9d9d9", ""), ("#f2c879", "//"), ("#ffffff", ".."), ("#a6a6a6", "xx")]


def plot(works: dict[str, Any], file: Path) -> None:
    """Draw the medians of all works with least and most, on a logarithmic axis of seconds."""
    bars = sum(len(work["programs"]) + 1 for work in works.values())
    figure, axes = pyplot.subplots(figsize=(7.5, 1.2 + 0.2 * bars), layout="constrained")
    y, ticks = 0.0, []
    for work in works.values():
        top = y
        for number, program in enumerate(work["programs"]):
            seconds = list(walls(work, program).values())
            if seconds:
                median = statistics.median(seconds)
                colour, hatch = _STYLES[number]
                spread = [[median - min(seconds)], [max(seconds) - median]]
                axes.barh(y, median, 0.9, color=colour, hatch=hatch, edgecolor="black", linewidth=0.5)
                axes.errorbar(median, y, xerr=spread, ecolor="black", elinewidth=0.7, capsize=1.5)
                label, at = f"{program} {median:.2f}", (max(seconds), y)
                paper = {"facecolor": "white", "edgecolor": "none", "pad": 0.5}
                axes.annotate(label, at, (4, 0), textcoords="offset points", va="center", size=6, bbox=paper, zorder=4)
            y += 1
        limits = [
            target["ratio"] * max(statistics.median(walls(work, name).values()) for name in target["beside"])
            for target in work["targets"]
            if all(walls(work, name) for name in target["beside"])
        ]
        if limits:
            axes.plot([min(limits)] * 2, [top - 0.6, top + 0.6], color="#c00000", linewidth=2, zorder=3)
        ticks.append(((top + y - 1) / 2, work["title"]))
        y += 1
    axes.set_xscale("log")
    axes.set_yticks([at for at, _ in ticks], [title.replace(", ", ",\n", 1) for _, title in ticks], size=7)
    axes.invert_yaxis()
    axes.margins(y=0.01)
    axes.set_xlim(right=axes.get_xlim()[1] * 4)  # room for what is written beside the longest bar
    axes.grid(axis="x", which="both", linewidth=0.3)
    axes.set_axisbelow(True)
    axes.set_xlabel("wall seconds, median with least and most; less is better")
    axes.legend(
        [Patch(facecolor=_STYLES[0][0], edgecolor="black"), Line2D([], [], color="#c00000", linewidth=2)],
        ["cdir", "the most that cdir's target allows"],
        loc="lower right",
        bbox_to_anchor=(1, 1),
        ncols=2,
        fontsize=7,
        frameon=False,
    )
    figure.savefig(file, dpi=200)
    pyplot.close(figure)
