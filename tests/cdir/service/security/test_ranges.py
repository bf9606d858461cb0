from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cloudmesh.cdir.service.security.ranges import MAX_RANGES, NotSatisfiable, parse_ranges


@pytest.mark.parametrize(
    ("header", "expected"),
    [
        ("bytes=0-9", [range(0, 10)]),
        ("bytes=90-", [range(90, 100)]),
        ("bytes=-10", [range(90, 100)]),
        ("bytes=-1000", [range(0, 100)]),
        ("bytes=50-1000", [range(50, 100)]),
        ("BYTES=0-0", [range(0, 1)]),
        ("bytes=20-29, 0-9", [range(20, 30), range(0, 10)]),
        ("bytes=0-9,500-", [range(0, 10)]),
    ],
)
def test_ranges_within_the_file(header: str, expected: list[range]) -> None:
    assert parse_ranges(header, 100) == expected


@pytest.mark.parametrize(
    "header",
    [
        "bytes=" + ",".join("0-" for _ in range(1000)),
        "bytes=" + ",".join(f"{one}-{one}" for one in range(MAX_RANGES + 1)),
        "bytes=0-,0-",
        "bytes=0-50,50-60",
        "bytes=-60,0-50",
        "bytes=9-1",
        "bytes=",
        "bytes=-",
        "bytes=a-b",
        "bytes=0-9,",
        "bytes=1 - 2",
        "bytes=" + "9" * 100 + "-",
        "bytes=१-२",
        "lines=0-9",
        "0-9",
        "",
    ],
)
def test_bombs_and_nonsense_are_ignored(header: str) -> None:
    assert parse_ranges(header, 100) is None


@pytest.mark.parametrize(("header", "size"), [("bytes=100-", 100), ("bytes=-0", 100), ("bytes=0-", 0), ("bytes=-5", 0)])
def test_nothing_within_the_file(header: str, size: int) -> None:
    with pytest.raises(NotSatisfiable):
        parse_ranges(header, size)


@given(st.text("0123456789-, ", max_size=60), st.integers(0, 200))
def test_the_ranges_are_never_more_than_the_file(text: str, size: int) -> None:
    try:
        found = parse_ranges(f"bytes={text}", size)
    except NotSatisfiable:
        return
    if found is not None:
        assert sum(map(len, found)) <= size
        assert all(0 <= one.start < one.stop <= size for one in found)
