"""What is printed can be read back, and never steers a terminal."""

from __future__ import annotations

import csv
import datetime
import io
import json
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any, ClassVar, get_args

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from wcwidth import wcswidth

from cloudmesh.storage.errors import NotFound
from cloudmesh.storage.output import BATCH, Format, Output, Printed, human_size, visible, write
from cloudmesh.storage.transfer.report import Report

ODD = "\0\x07\x1b\x7f\x85\x9b\r\n\t\u2028\u202e\udc80'\",:[]-a"
TEXT = st.text(st.characters(exclude_categories=[])) | st.text(st.sampled_from(ODD))
CONTROL = re.compile("[\0-\x09\x0b-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")


@dataclass(frozen=True)
class Inner:
    state: str
    size: int = 0


@dataclass(frozen=True)
class Row:
    columns: ClassVar[tuple[str, ...]] = ("name", "size", "inner.state", "tags", "mtime_ns")

    path: str
    size: int | None = None
    inner: Inner | None = None
    tags: list[str] = field(default_factory=list)
    mtime_ns: int | None = None
    failed: bool = False
    secret: str = field(default="hunter2", repr=False)

    @property
    def name(self) -> str:
        return self.path.rpartition("/")[2]


ROWS = st.lists(
    st.builds(Row, TEXT, st.none() | st.integers(0, 2**70), st.none() | st.builds(Inner, TEXT), st.lists(TEXT),
              st.none() | st.integers(0, 2**63))
)  # fmt: skip


def printed(result: Any, form: Format, returns: Any = None) -> str:
    raw = io.BytesIO()
    stream = io.TextIOWrapper(raw, encoding="utf-8", newline="")
    output = Output(stream)
    write(result, form, output, returns)
    output.flush()
    return raw.getvalue().decode("utf-8", "surrogateescape")


def plain(row: Row) -> dict[str, Any]:
    inner = {"state": row.inner.state, "size": row.inner.size} if row.inner else None
    return {
        "path": row.path, "size": row.size, "inner": inner,
        "tags": row.tags, "mtime_ns": row.mtime_ns, "failed": row.failed,
    }  # fmt: skip


@given(ROWS)
def test_json_reads_back(rows: list[Row]) -> None:
    text = printed(iter(rows), "json")
    assert json.loads(text) == [plain(row) for row in rows]
    assert not CONTROL.search(text)


@given(ROWS)
def test_yaml_reads_back(rows: list[Row]) -> None:
    text = printed(iter(rows), "yaml")
    assert yaml.safe_load(text) == [plain(row) for row in rows]
    assert not CONTROL.search(text)


@given(ROWS)
def test_csv_reads_back(rows: list[Row]) -> None:
    text = printed(iter(rows), "csv", Iterator[Row])
    header, *lines = csv.reader(io.StringIO(text, newline=""))
    assert header == list(plain(Row("")))
    for line, row in zip(lines, rows, strict=True):
        cells = dict(zip(header, line, strict=True))
        # what no file name can hold (surrogates that stand for no byte) is written as an escape
        if not re.search("[\ud800-\udc7f\udd00-\udfff]", row.path):
            assert cells["path"].encode("utf-8", "surrogatepass") == row.path.encode("utf-8", "surrogatepass")
        assert cells["size"] == ("" if row.size is None else str(row.size))
        assert json.loads(cells["tags"]) == row.tags
        assert (json.loads(cells["inner"]) if cells["inner"] else None) == plain(row)["inner"]


@given(ROWS)
def test_table_is_a_line_a_row_and_holds_no_control_character(rows: list[Row]) -> None:
    text = printed(iter(rows), "table")
    assert not CONTROL.search(text)
    assert text.count("\n") == (len(rows) + 1 if rows else 0)


@given(TEXT)
def test_visible_holds_no_control_character_nor_newline(text: str) -> None:
    assert not CONTROL.search(visible(text))
    assert "\n" not in visible(text)
    assert "hunter2" not in visible(text)


@given(st.builds(Row, TEXT, st.none(), st.none() | st.builds(Inner, TEXT), st.lists(TEXT)))
def test_object_table_holds_no_control_character(row: Row) -> None:
    assert not CONTROL.search(printed(row, "table"))


def test_columns_of_wide_text_stand_below_each_other() -> None:
    names = ["a.txt", "漢字.txt", "ñandú", "e\u0301té", "🗂️ files", "x" * 30]
    lines = printed([Row(name, size=1) for name in names], "table").splitlines()
    assert lines[0].split() == ["name", "size", "state", "tags", "mtime"]
    ends = {wcswidth(line[: line.index("1 B")]) for line in lines[1:]}
    assert len(ends) == 1


def test_table_is_written_for_people_and_the_rest_is_raw() -> None:
    moment = datetime.datetime(2026, 11, 23, 9, 15, 2)
    row = Row("d/a", 1_258_291, Inner("available"), ["x", "y"], int(moment.timestamp()) * 10**9)
    assert printed([row], "table") == (
        "name     size  state      tags  mtime\n"
        "a     1.2 MiB  available  x, y  2026-11-23 09:15:02\n"
    )  # fmt: skip
    for form in ("json", "yaml", "csv"):
        assert "1258291" in printed([row], form)
        assert "hunter2" not in printed([row], form)


def test_object_is_a_field_a_line_with_its_lists_below() -> None:
    @dataclass(frozen=True)
    class Status:
        path: str
        inner: Inner
        replicas: list[Inner]

    status = Status("/d/a", Inner("available", 2048), [Inner("stale", 1), Inner("bad", 20)])
    assert printed(status, "table") == (
        "path         /d/a\ninner.state  available\ninner.size   2.0 KiB\n\n"
        "replicas:\nstate  size\nstale   1 B\nbad    20 B\n"
    )
    assert json.loads(printed(status, "json"))["replicas"][1] == {"state": "bad", "size": 20}


def test_small_amounts_of_money_are_written_out() -> None:
    report = Report("put", dryrun=True, cost_usd=Decimal("4.20E-10"), monthly_usd=Decimal(1200))
    lines = [line.split() for line in printed(report, "table").splitlines()]
    assert [line for line in lines if line[0].endswith("_usd")] == [
        ["cost_usd", "0.00000000042"],
        ["monthly_usd", "1200"],
    ]


def test_rows_stream() -> None:
    """A row is written before the one after the next batch is asked for."""
    asked = 0

    def rows() -> Iterator[Row]:
        nonlocal asked
        for asked in range(3 * BATCH):
            yield Row(f"file-{asked}")

    class Watch(io.StringIO):
        first = -1

        def write(self, text: str) -> int:
            self.first = asked if self.first < 0 else self.first
            return super().write(text)

    for form, most in (("table", BATCH), ("json", 1), ("yaml", 1), ("csv", 1)):
        watch = Watch()
        assert write(rows(), form, Output(watch)) == Printed(3 * BATCH)  # type: ignore[arg-type]
        assert watch.first < most
        assert len(watch.getvalue().splitlines()) >= 3 * BATCH


@pytest.mark.parametrize(
    ("result", "table", "as_json"),
    [
        (None, "", ""),
        ([], "", "[]\n"),
        ("a b", "a b\n", '"a b"\n'),
        (7, "7\n", "7\n"),
        (["x\x1b"], "x\\x1b\n", '[\n"x\\u001b"\n]\n'),
    ],
)
def test_results_that_are_no_rows(result: Any, table: str, as_json: str) -> None:
    assert printed(result, "table") == table
    assert printed(result, "json") == as_json


def test_no_rows() -> None:
    assert yaml.safe_load(printed([], "yaml")) == []
    assert printed(iter(()), "csv", Iterator[Row]).startswith("path,size,")


def test_bytes_are_written_as_they_are() -> None:
    data = bytes(range(256))
    assert printed(iter([data]), "json", Iterator[bytes]).encode("utf-8", "surrogateescape") == data
    assert printed(iter(()), "json", Iterator[bytes]) == ""


def test_failed_row_is_told() -> None:
    stream = Output(io.StringIO())
    assert write([Row("a"), Row("b", failed=True)], "csv", stream) == Printed(2, True)
    assert write(Row("b", failed=True), "yaml", stream) == Printed(1, True)
    assert write([Row("a")], "json", stream) == Printed(1, False)


@given(st.integers(0, 2**70))
def test_size_for_people_is_near_and_short(size: int) -> None:
    number, unit = human_size(size).split()
    assert abs(float(number) * 1024 ** "_KMGTPE".index(unit[0].replace("B", "_")) - size) <= size * 0.06
    assert size > 2**60 or float(number) < 1024


def test_rows_that_fail_at_once_print_nothing() -> None:
    def rows() -> Iterator[Row]:
        raise NotFound("/absent")
        yield

    for form in get_args(Format):
        stream = io.StringIO()
        with pytest.raises(NotFound):
            write(rows(), form, Output(stream), Iterator[Row])
        assert stream.getvalue() == ""
