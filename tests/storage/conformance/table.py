"""The conformance suite's table: printed at the end of every test run that has run cases of it.

A plugin of the whole run, named in tests/conftest.py: where several workers run the tests, only the process that starts
them sees all results, and it loads no conftest of a subfolder.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from tests.storage.conformance.targets import TARGETS

PROPERTY = "conformance"
"""Name of the property by which a test's report tells its target."""


@dataclass
class _Result:
    passed: set[str] = field(default_factory=set)
    failed: set[str] = field(default_factory=set)


_results: defaultdict[str, _Result] = defaultdict(_Result)


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--conformance-table", metavar="FILE", help="write the conformance suite's table there (Markdown)")


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    target = dict(report.user_properties).get(PROPERTY)
    if target is None:
        return
    if report.failed:
        _results[str(target)].failed.add(report.nodeid)
    elif report.when == "call" and report.passed:
        _results[str(target)].passed.add(report.nodeid)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    if not _results:
        return
    terminalreporter.section("conformance")
    table = _table()
    terminalreporter.write_line(table)
    destination = config.getoption("--conformance-table", default=None)
    if destination:
        Path(destination).write_text(_document(table), encoding="utf-8")


def _table() -> str:
    rows = [("provider", "server", "cases", "passed", "failed")]
    for target in TARGETS:
        if target.id in _results:
            result = _results[target.id]
            passed = len(result.passed - result.failed)
            failed = len(result.failed)
            rows.append((target.provider, target.server, str(passed + failed), str(passed), str(failed)))
    widths = [max(len(row[column]) for row in rows) for column in range(5)]
    lines = [
        "| " + " | ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) + " |" for row in rows
    ]
    lines.insert(1, "|" + "|".join("-" * (width + 2) for width in widths) + "|")
    return "\n".join(lines)


def _document(table: str) -> str:
    lines = [
        "# Conformance",
        "",
        "Written by `make conformance`: one suite (`tests/storage/conformance`), run against every provider on real",
        "servers. A case is a test function with its parameters; a case that a capability rules out is not counted.",
        "",
        table,
        "",
        "## Not as everywhere else",
        "",
    ]
    for target in TARGETS:
        known = [
            *((f"names `{key}…` are refused", reason) for key, reason in target.refuses.items()),
            *((f"no copy or move to names `{key}…`", reason) for key, reason in target.not_renamed.items()),
            *((f"not run: `{case}`", reason) for case, reason in target.quirks.items()),
        ]
        lines += [f"- {target.provider} on {target.server}: {what}. {reason}." for what, reason in known]
    return "\n".join(lines) + "\n"
