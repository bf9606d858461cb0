"""What counts as the same, by each policy; and what it costs to find out."""

from __future__ import annotations

import os
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from cloudmesh.storage.abc import SMALL, Content, StorageABC
from cloudmesh.storage.disk import Disk
from cloudmesh.storage.errors import NotFound, Unavailable
from cloudmesh.storage.registry import provider_class
from cloudmesh.storage.transfer.options import TransferOptions
from cloudmesh.storage.transfer.same import Comparison, certainly_same
from deploy.servers import SeaweedFS

SECOND = 1_000_000_000
THEN = 1_700_000_000 * SECOND


def compared(comparison: Comparison, source: StorageABC, destination: StorageABC) -> tuple[bool | None, bool]:
    """What the listings alone tell of the file ``f``, and what is found by looking."""
    sides = source, next(source.scan()), destination, next(destination.scan())
    return comparison.decide(*sides), comparison.skips(*sides)


def write(service: StorageABC, data: bytes, mtime_ns: int = THEN) -> None:
    service.write("f", Content.of_bytes(data, mtime_ns))


@pytest.fixture
def disks(tmp_path: Path) -> tuple[Disk, Disk]:
    return Disk(str(tmp_path / "one")), Disk(str(tmp_path / "two"))


@pytest.fixture
def s3(seaweedfs: SeaweedFS) -> Iterator[StorageABC]:
    service = provider_class("awss3")(seaweedfs.settings("s3", root=f"same-{uuid.uuid4().hex}"))
    yield service
    service.close()


class Case(NamedTuple):
    """What `decide` and `skips` say with each policy where the second file is thus."""

    data: bytes
    mtime_ns: int
    default: bool
    checksum: bool
    size_only: bool
    update: bool


CASES = {
    "same": Case(b"data", THEN, True, True, True, True),
    "same, a nanosecond later": Case(b"data", THEN + 1, False, True, True, True),
    "same, a nanosecond earlier": Case(b"data", THEN - 1, False, True, True, False),
    "other bytes, same time": Case(b"DATA", THEN, True, False, True, True),
    "other bytes, later": Case(b"DATA", THEN + SECOND, False, False, True, True),
    "other bytes, earlier": Case(b"DATA", THEN - SECOND, False, False, True, False),
    "other size, same time": Case(b"longer", THEN, False, False, False, False),
    "other size, later": Case(b"longer", THEN + SECOND, False, False, False, True),
}


@pytest.mark.parametrize("case", CASES.values(), ids=list(CASES))
def test_policies_on_disks(disks: tuple[Disk, Disk], case: Case) -> None:
    write(disks[0], b"data")
    write(disks[1], case.data, case.mtime_ns)
    later = case.mtime_ns - THEN == 1  # newer by not more than the precision, which is a nanosecond here
    for options, expected in (
        (TransferOptions(), case.default),
        (TransferOptions(size_only=True), case.size_only),
        (TransferOptions(update=True), case.update and not later),
    ):
        assert compared(Comparison.from_options(options), *disks) == (expected, expected), options
    by_content = Comparison.from_options(TransferOptions(checksum=True))
    is_costly = len(case.data) == 4
    assert compared(by_content, *disks) == (None if is_costly else False, case.checksum)
    one, other = next(disks[0].scan()), next(disks[1].scan())
    assert certainly_same(disks[0], one, disks[1], other) is case.checksum


def test_only_content_is_not_believed_from_a_journal() -> None:
    assert [Comparison().trusts_journal, Comparison(size_only=True).trusts_journal] == [True, True]
    assert Comparison(checksum=True).trusts_journal is False


def test_update_with_another_policy(disks: tuple[Disk, Disk]) -> None:
    write(disks[0], b"data")
    write(disks[1], b"DATA", THEN + SECOND)
    assert compared(Comparison(checksum=True, update=True), *disks) == (True, True)
    os.utime(disks[1].path_of("f"), ns=(THEN, THEN - SECOND))
    assert compared(Comparison(checksum=True, update=True), *disks) == (None, False)
    assert compared(Comparison(size_only=True, update=True), *disks) == (True, True)


def test_small_file_is_read_rather_than_its_copy_asked_for(
    disks: tuple[Disk, Disk], s3: StorageABC, seaweedfs: SeaweedFS, dead_port: int
) -> None:
    """The listing of an object store tells the hash and not the time: our own small file is read, nothing is asked."""
    disk, _ = disks
    write(disk, b"data")
    write(s3, b"data", THEN + SECOND)
    stored = next(s3.scan())
    assert "md5" in stored.hashes
    assert stored.mtime_ns is None
    dead = provider_class("awss3")(seaweedfs.settings("s3", port=dead_port))
    for one, other in (((disk, next(disk.scan())), (dead, stored)), ((dead, stored), (disk, next(disk.scan())))):
        assert Comparison().decide(*one, *other) is None
        assert Comparison().skips(*one, *other)
    write(disk, b"DATA", THEN + SECOND)
    assert not Comparison().skips(disk, next(disk.scan()), dead, stored)
    with pytest.raises(Unavailable):
        Comparison(update=True).skips(disk, next(disk.scan()), dead, stored)


def test_large_file_is_asked_for_its_time(disks: tuple[Disk, Disk], s3: StorageABC) -> None:
    disk, _ = disks
    data = bytes(SMALL + 1)
    write(disk, data)
    write(s3, data)
    assert compared(Comparison(), disk, s3) == (None, True)
    assert compared(Comparison(), s3, disk) == (None, True)
    write(disk, data, THEN + SECOND)
    assert compared(Comparison(), disk, s3) == (None, False)
    assert compared(Comparison(checksum=True), disk, s3) == (None, True)
    assert compared(Comparison(update=True), disk, s3) == (None, False)
    assert compared(Comparison(update=True), s3, disk) == (None, True)


def test_hashes_that_both_report_decide_at_once(s3: StorageABC) -> None:
    write(s3, b"data")
    entry = next(s3.scan())
    for comparison in (Comparison(), Comparison(checksum=True)):
        assert comparison.decide(s3, entry, s3, entry) is True


def test_file_that_vanished_meanwhile(disks: tuple[Disk, Disk], s3: StorageABC) -> None:
    disk, _ = disks
    write(disk, bytes(SMALL + 1))
    write(s3, bytes(SMALL + 1))
    stored = next(s3.scan())
    s3.remove("f")
    sides = disk, next(disk.scan()), s3, stored
    assert Comparison().skips(*sides) is True  # by the hash that the listing told; the next listing sees it gone
    disk.remove("f")
    with pytest.raises(NotFound):
        Comparison(checksum=True).skips(*sides)
