"""What the user may ask of a transfer beyond its two sides: which files, what counts as the same, and how fast."""

from __future__ import annotations

import logging
import re
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, fields
from datetime import UTC, datetime, timedelta
from decimal import Decimal, InvalidOperation
from typing import Annotated, Any, get_args

from cloudmesh.storage import paths
from cloudmesh.storage.binding import Reads, Size, parse_duration
from cloudmesh.storage.errors import InvalidName, UsageError
from cloudmesh.storage.local_files import Links
from cloudmesh.storage.meaning import SchedulerAddress
from cloudmesh.storage.rate import Schedule

_log = logging.getLogger(__name__)

_MAX_DELETE = "50%"
_LISTS = ("include", "exclude", "filter_from")
_ADDRESS = re.compile(r"(tcp|tls)://([^\s/@:]+|\[[0-9A-Fa-f:]+\]):\d{1,5}")
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)


@dataclass(frozen=True, slots=True)
class DeletionLimit:
    """How many of a destination's files may be removed.

    Attributes:
        percent: of the files that are there; None where ``count`` is the limit.
        count: files.
    """

    percent: Decimal | None = None
    count: int | None = None

    @classmethod
    def parse(cls, text: str) -> DeletionLimit:
        """Return the limit that ``50%`` or ``1000`` means.

        Raises:
            ValueError: it is none.
        """
        try:
            number = Decimal(text.removesuffix("%").strip())
        except InvalidOperation:
            raise ValueError(text) from None
        if not number.is_finite() or number < 0:
            raise ValueError(text)
        if text.endswith("%"):
            if number > 100:
                raise ValueError(text)
            return cls(percent=number)
        if number != int(number):
            raise ValueError(text)
        return cls(count=int(number))

    def allows(self, removed: int, there: int) -> bool:
        """Tell whether ``removed`` of ``there`` files may be removed."""
        if self.percent is not None:
            return removed * 100 <= there * self.percent
        return self.count is None or removed <= self.count

    def __str__(self) -> str:
        return f"{self.percent} %" if self.percent is not None else f"{self.count} files"


def _read_rules(file: str) -> tuple[str, ...]:
    from cloudmesh.storage.transfer.rules import read_rules  # most commands have none, and begin sooner without it

    return read_rules(file)


RulesOfFile = Annotated[tuple[str, ...], Reads(_read_rules, "a file of rules")]
"""Rules, typed as the name of a file, which is read where it is typed."""


@dataclass(frozen=True, slots=True)
class Selection:
    """The options that every command which moves files has: which files, how fast, and how much.

    Attributes:
        include: patterns; only files that one of them fits are concerned.
        exclude: patterns of files that are not concerned.
        filter_from: rules, as `read_rules` reads them from a file.
        max_size: bytes of the largest file that is concerned.
        min_size: bytes of the smallest.
        newer: only files modified since: a date, or how long ago; as text.
        bwlimit: bytes a second, also by time of day: ``10M`` or ``08:00,1M 19:00,off``.
        transactions: requests a second to each service.
        max_transfer: bytes after which no further file is begun.

    Raises:
        UsageError: a value makes no sense, or two contradict each other; it names the option.
    """

    include: tuple[str, ...] = ()
    exclude: tuple[str, ...] = ()
    filter_from: RulesOfFile = ()
    max_size: Size | None = None
    min_size: Size | None = None
    newer: str | None = None
    bwlimit: str | None = None
    transactions: float | None = None
    max_transfer: Size | None = None

    def __post_init__(self) -> None:
        for name in _LISTS:
            option, patterns = f"--{name.replace('_', '-')}", getattr(self, name)
            if not isinstance(patterns, tuple | list):
                raise UsageError(option, "is no list")
            if not all(patterns):
                raise UsageError(option, "a pattern is empty")
        if self.include and self.exclude:
            _log.warning(
                "--include comes before --exclude: what both fit is concerned; a --filter-from file sets another order"
            )
        for option, number in (
            ("--max-size", self.max_size),
            ("--min-size", self.min_size),
            ("--max-transfer", self.max_transfer),
        ):
            if number is not None and number < 0:
                raise UsageError(option, f"{number} is less than nothing")
        if self.min_size is not None and self.max_size is not None and self.min_size > self.max_size:
            raise UsageError("--min-size", "is more than --max-size, so that no file is concerned")
        if self.newer is not None:
            parse_moment(self.newer, time.time_ns())
        if self.transactions is not None and not self.transactions > 0:
            raise UsageError("--transactions", f"{self.transactions:g} a second is no speed")
        if self.bwlimit is not None:
            try:
                Schedule.parse(self.bwlimit)
            except ValueError as error:
                raise UsageError("--bwlimit", str(error)) from None


@dataclass(frozen=True, slots=True)
class TransferOptions(Selection):
    """The options that `put`, `get`, `copy` and `sync` share; each field is one ``--option`` of the command.

    Attributes:
        checksum: compare content, not times.
        size_only: compare sizes alone.
        update: leave files alone that are newer at the destination.
        delete: remove at the destination what the source does not have.
        max_delete: of the destination's files, how many may be removed: ``50%`` or a number.
        immutable: never replace a file that differs; report it.
        backup_dir: a directory on the destination's service to which files go instead of being replaced or removed.
        links: of this computer's symbolic links: those that stay ``inside`` the tree, ``follow`` all, ``skip`` all.
        cluster: the address of a Dask scheduler whose workers move the files.

    Raises:
        UsageError: a value makes no sense, or two contradict each other; it names the option.
    """

    checksum: bool = False
    size_only: bool = False
    update: bool = False
    delete: bool = False
    max_delete: str = _MAX_DELETE
    immutable: bool = False
    backup_dir: str | None = None
    links: Links = "inside"
    cluster: SchedulerAddress | None = None

    def __post_init__(self) -> None:
        Selection.__post_init__(self)  # super() does not know a class with slots
        if self.checksum and self.size_only:
            raise UsageError("--checksum", "contradicts --size-only")
        check_links(self.links)
        if self.cluster is not None and not _ADDRESS.fullmatch(self.cluster):
            raise UsageError(
                "--cluster", f"{self.cluster!r} is not allowed", "allowed is tcp://HOST:PORT or tls://HOST:PORT"
            )
        self._check_deletions()

    def _check_deletions(self) -> None:
        try:
            limit = self.deletion_limit
        except ValueError:
            raise UsageError(
                "--max-delete",
                f"{self.max_delete!r} is not allowed",
                "allowed is a percentage such as 50%, or a number",
            ) from None
        if not self.delete and limit != DeletionLimit.parse(_MAX_DELETE):
            raise UsageError("--max-delete", "limits --delete, which is not given")
        if self.backup_dir is not None:
            if paths.split_location(self.backup_dir)[0] is not None:
                raise UsageError(
                    f"--backup-dir={self.backup_dir}", "names a service", "it is a directory on DESTINATION's service"
                )
            try:
                if not paths.normalize(self.backup_dir):
                    raise UsageError("--backup-dir", "is the root of the service", "name a directory in it")
            except InvalidName as error:
                raise UsageError(f"--backup-dir={self.backup_dir}", error.why) from None

    @property
    def deletion_limit(self) -> DeletionLimit:
        """The limit that ``max_delete`` means."""
        return DeletionLimit.parse(self.max_delete)

    def backup_path(self, destination: str) -> str | None:
        """Return the normalised ``backup_dir``; None where there is none.

        Args:
            destination: the directory on the same service into which the transfer goes, normalised.

        Raises:
            UsageError: one lies in the other, so that a later run would take its own backups for files.
        """
        if self.backup_dir is None:
            return None
        backup = paths.normalize(self.backup_dir)
        if backup == destination or paths.is_below(backup, destination) or paths.is_below(destination, backup):
            raise UsageError(
                f"--backup-dir={self.backup_dir}", f"overlaps the destination {destination or '/'}", "keep them apart"
            )
        return backup

    def as_dict(self) -> dict[str, Any]:
        """Return what differs from the defaults as JSON can hold it, so that it means the same later and elsewhere.

        The time since which files are ``newer`` becomes a date.
        """
        values = {one.name: getattr(self, one.name) for one in fields(self) if getattr(self, one.name) != one.default}
        for name in _LISTS:
            if name in values:
                values[name] = list(values[name])
        if self.newer is not None:
            since = _EPOCH + timedelta(microseconds=parse_moment(self.newer, time.time_ns()) // 1000)
            values["newer"] = since.isoformat()
        return values

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> TransferOptions:
        """Return the options that `as_dict` gave.

        Raises:
            UsageError: one is unknown, or its value makes no sense.
        """
        known = dict(values)
        if unknown := known.keys() - {one.name for one in fields(cls)}:
            raise UsageError(f"--{min(unknown).replace('_', '-')}", "there is no such option")
        for name in _LISTS:
            if name in known:
                known[name] = tuple(known[name])
        return cls(**known)


def check_links(links: str) -> None:
    """Refuse what ``--links`` does not know. Raises UsageError."""
    if links not in get_args(Links):
        raise UsageError("--links", f"{links!r} is not allowed", "allowed is one of inside, follow, skip")


def parse_moment(text: str, now_ns: int) -> int:
    """Return the moment that a date (ISO 8601, local time where it names no zone) or a time ago (``36h``) means.

    Args:
        text: as typed.
        now_ns: from when a duration is counted back, in ns since the epoch.

    Returns:
        ns since the epoch.

    Raises:
        UsageError: it is neither.
    """
    with suppress(ValueError, OverflowError):  # the latter near the years 1 and 9999
        return (datetime.fromisoformat(text.strip()).astimezone() - _EPOCH) // _MICROSECOND * 1000
    try:
        return max(0, now_ns - int(parse_duration(text) * 1_000_000_000))
    except (ValueError, OverflowError):
        raise UsageError(
            "--newer",
            f"{text!r} is not allowed",
            "allowed is a date such as 2026-01-31 or 2026-01-31T18:00, or 36h, 7d",
        ) from None


NO_OPTIONS = TransferOptions()
"""What holds where the user asks for nothing."""

ALL_FILES = Selection()
"""All files, as fast as it goes."""
