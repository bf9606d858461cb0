"""The table of the crash matrix in docs/reliability.md: all steps, and what each leaves when it is the last.

A test of the matrix fails where the table has other rows than it has found; ``--crash-table`` writes them instead.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import pytest

DOCUMENT = Path(__file__).parents[2] / "docs/reliability.md"
PROPERTY = "crash"
_BEGIN = "<!-- crash matrix: written by pytest tests/vdir/test_crash.py --crash-table -->"
_END = "<!-- end of crash matrix -->"


class Row(NamedTuple):
    """A command that was killed after a step.

    Attributes:
        command: which.
        step: the last that it did.
        left: what lay about until the command was done again; empty for nothing.
    """

    command: str
    step: str
    left: str

    @property
    def line(self) -> str:
        """The row in Markdown."""
        left = f"a {self.left} is removed, " if self.left else ""
        return f"| {self.command} | {self.step} | {left}all files right |"


_found: dict[str, list[Row]] = {}


def check(rows: Sequence[Row], config: pytest.Config, record: Callable[[str, object], None]) -> None:
    """Compare the rows of one command with the table, or hand them over to be written."""
    if config.getoption("--crash-table"):
        record(PROPERTY, json.dumps(rows))
        return
    there = [line for line in _lines() if line.startswith(f"| {rows[0].command} |")]
    assert sorted(there) == sorted(row.line for row in rows), "the table is not current: make crash-table"


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--crash-table", action="store_true", help=f"write the crash matrix into {DOCUMENT.name}")


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    for name, value in report.user_properties:
        if name == PROPERTY and report.when == "call" and report.passed:
            rows = [Row(*each) for each in json.loads(str(value))]
            _found[rows[0].command] = rows


def pytest_sessionfinish(session: pytest.Session) -> None:
    if not _found or hasattr(session.config, "workerinput"):
        return
    from tests.vdir.scenarios import SCENARIOS  # not for every run of any test

    others = {line.split(" | ")[0].removeprefix("| ") for line in _lines()} | _found.keys()
    commands = [*SCENARIOS, *sorted(others - SCENARIOS.keys())]
    lines = [
        line
        for command in commands
        for line in (
            [row.line for row in _found[command]]
            if command in _found
            else [line for line in _lines() if line.startswith(f"| {command} |")]
        )
    ]
    table = ["| command | killed after | after the next run |", "|---|---|---|", *lines]
    text = DOCUMENT.read_text("utf-8")
    head, _, rest = text.partition(_BEGIN)
    tail = rest.partition(_END)[2]
    DOCUMENT.write_text("\n".join([head + _BEGIN, "", *table, "", _END]) + tail, "utf-8")


def _lines() -> list[str]:
    if not DOCUMENT.exists():
        return []
    table = DOCUMENT.read_text("utf-8").partition(_BEGIN)[2].partition(_END)[0]
    return [line for line in table.splitlines() if line.startswith("| ") and not line.startswith("| command |")]
