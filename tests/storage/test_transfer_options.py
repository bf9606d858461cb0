"""The options of a transfer: contradictions are named, and a job reads back what it was given."""

from __future__ import annotations

import json
import time
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cloudmesh.storage.binding import bind
from cloudmesh.storage.errors import UsageError
from cloudmesh.storage.manual import STORAGE
from cloudmesh.storage.transfer.options import DeletionLimit, TransferOptions


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"checksum": True, "size_only": True}, "--checksum: contradicts --size-only"),
        ({"min_size": 2, "max_size": 1}, "--min-size: is more than --max-size, so that no file is concerned"),
        ({"max_size": -1}, "--max-size: -1 is less than nothing"),
        ({"min_size": -1}, "--min-size: -1 is less than nothing"),
        ({"max_transfer": -1}, "--max-transfer: -1 is less than nothing"),
        ({"transactions": 0.0}, "--transactions: 0 a second is no speed"),
        ({"transactions": -1.5}, "--transactions: -1.5 a second is no speed"),
        ({"transactions": float("nan")}, "--transactions: nan a second is no speed"),
        ({"include": ("a", "")}, "--include: a pattern is empty"),
        ({"exclude": "a"}, "--exclude: is no list"),
        ({"filter_from": Path("a")}, "--filter-from: is no list"),
        ({"newer": "soon"}, "--newer: 'soon' is not allowed"),
        ({"max_delete": "10%"}, "--max-delete: limits --delete, which is not given"),
        ({"delete": True, "max_delete": "x"}, "--max-delete: 'x' is not allowed (allowed is a percentage such as 50%"),
        ({"delete": True, "max_delete": "101%"}, "--max-delete: '101%' is not allowed"),
        ({"delete": True, "max_delete": "-1"}, "--max-delete: '-1' is not allowed"),
        ({"delete": True, "max_delete": "1.5"}, "--max-delete: '1.5' is not allowed"),
        ({"delete": True, "max_delete": "NaN"}, "--max-delete: 'NaN' is not allowed"),
        ({"backup_dir": "/"}, "--backup-dir: is the root of the service"),
        ({"backup_dir": "a/../b"}, "--backup-dir=a/../b: a path cannot hold '..'"),
        ({"links": "all"}, "--links: 'all' is not allowed (allowed is one of inside, follow, skip)"),
    ],
)
def test_what_makes_no_sense_names_its_option(values: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError) as caught:
        TransferOptions(**values)
    assert str(caught.value).startswith(message)


def test_deletion_limit() -> None:
    assert DeletionLimit.parse("50%").allows(5, 10)
    assert not DeletionLimit.parse("50%").allows(6, 10)
    assert DeletionLimit.parse("12.5 %").allows(1, 8)
    assert not DeletionLimit.parse("0%").allows(1, 1_000_000)
    assert DeletionLimit.parse("100%").allows(7, 7)
    assert DeletionLimit.parse("1000").allows(1000, 1000)
    assert not DeletionLimit.parse("1000").allows(1001, 10**9)
    assert not DeletionLimit.parse("0").allows(1, 1)
    assert [str(DeletionLimit.parse(text)) for text in ("50%", "12")] == ["50 %", "12 files"]


@given(st.integers(0, 100), st.integers(0, 10**12), st.integers(0, 10**12))
def test_percentages_are_exact(percent: int, removed: int, there: int) -> None:
    assert DeletionLimit.parse(f"{percent}%").allows(removed, there) == (removed * 100 <= there * percent)


@pytest.mark.parametrize("destination", ["", "data", "data/sub", "data/backup/deeper"])
def test_backups_and_destination_do_not_overlap(destination: str) -> None:
    options = TransferOptions(backup_dir="/data/backup/")
    if destination == "data/sub":
        assert options.backup_path(destination) == "data/backup"
        return
    with pytest.raises(UsageError, match="--backup-dir=/data/backup/: overlaps the destination"):
        options.backup_path(destination)


def test_backups_beside_the_destination() -> None:
    assert TransferOptions(backup_dir="data2").backup_path("data") == "data2"
    assert TransferOptions().backup_path("") is None


def test_job_reads_back_what_it_was_given() -> None:
    options = TransferOptions(
        include=("*.a", "b"), exclude=("c",), filter_from=("- x", "!"), max_size=10, min_size=1,
        newer="2026-01-31T00:00:00+00:00", checksum=True, update=True, delete=True, max_delete="10%", bwlimit="1M",
        transactions=2.5, max_transfer=5, immutable=True, backup_dir="old", links="skip",
    )  # fmt: skip
    stored = json.loads(json.dumps(options.as_dict()))
    read = TransferOptions.from_dict(stored)
    assert read == options
    assert read.as_dict() == stored == options.as_dict()
    assert TransferOptions().as_dict() == {}
    assert TransferOptions.from_dict({}) == TransferOptions()


def test_job_means_the_same_time_later() -> None:
    stored = TransferOptions(newer="36h").as_dict()["newer"]
    assert abs(datetime.fromisoformat(stored).timestamp() - (time.time() - 36 * 3600)) < 60


@pytest.mark.parametrize(
    ("values", "message"), [({"colour": 1}, "--colour: there is no such option"), ({"links": "x"}, "--links: 'x'")]
)
def test_job_that_another_version_wrote_is_refused(values: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError) as caught:
        TransferOptions.from_dict(values)
    assert str(caught.value).startswith(message)


@pytest.mark.parametrize("verb", ["put", "get", "copy", "sync"])
def test_what_is_typed_arrives(verb: str, tmp_path: Path) -> None:
    (tmp_path / "rules").write_text("# first\n  - x  \n\n!\n")
    typed = (
        f"{verb} a b --include=*.a --include b --exclude=c --filter-from={tmp_path}/rules --max-size=10M --min-size=1K"
        " --newer=2d --checksum --update --delete --max-delete=10% --bwlimit=1M --transactions=2.5 --max-transfer=1G"
        " --immutable --backup-dir=old --links=follow"
    )
    values = bind(STORAGE.usage.match(typed.split()), STORAGE.api_class()).method_values
    assert values["options"] == TransferOptions(
        include=("*.a", "b"), exclude=("c",), filter_from=("- x", "!"), max_size=10 * 2**20, min_size=1024, newer="2d",
        checksum=True, update=True, delete=True, max_delete="10%", bwlimit="1M", transactions=2.5, max_transfer=2**30,
        immutable=True, backup_dir="old", links="follow",
    )  # fmt: skip
    assert "options" not in bind(STORAGE.usage.match([verb, "a", "b"]), STORAGE.api_class()).method_values
    with pytest.raises(UsageError, match="--checksum: contradicts --size-only"):
        bind(STORAGE.usage.match([verb, "a", "b", "--checksum", "--size-only"]), STORAGE.api_class())
