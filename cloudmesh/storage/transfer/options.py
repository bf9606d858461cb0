"""What the user may ask of a transfer beyond its two sides: which files, what counts as the same, and how fast."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from cloudmesh.storage.binding import Size

Links = Literal["inside", "follow", "skip"]


@dataclass(frozen=True, slots=True)
class TransferOptions:
    """The options that `put`, `get`, `copy` and `sync` share; each field is one ``--option`` of the command.

    Attributes:
        include: patterns; only files that one of them fits are concerned.
        exclude: patterns of files that are not concerned.
        filter_from: a file of rules, one a line.
        max_size: bytes of the largest file that is concerned.
        min_size: bytes of the smallest.
        newer: only files modified since: a date, or how long ago; as text.
        checksum: compare content, not times.
        size_only: compare sizes alone.
        update: leave files alone that are newer at the destination.
        delete: remove at the destination what the source does not have.
        max_delete: of the destination's files, how many may be removed: ``50%`` or a number.
        bwlimit: bytes a second, also by time of day: ``10M`` or ``08:00,1M 19:00,off``.
        transactions: requests a second to each service.
        max_transfer: bytes after which no further file is begun.
        immutable: never replace a file that differs; report it.
        backup_dir: a directory on the destination's service to which files go instead of being replaced or removed.
        links: of this computer's symbolic links: those that stay ``inside`` the tree, ``follow`` all, ``skip`` all.
    """

    include: tuple[str, ...] = ()
    exclude: tuple[str, ...] = ()
    filter_from: Path | None = None
    max_size: Size | None = None
    min_size: Size | None = None
    newer: str | None = None
    checksum: bool = False
    size_only: bool = False
    update: bool = False
    delete: bool = False
    max_delete: str = "50%"
    bwlimit: str | None = None
    transactions: float | None = None
    max_transfer: Size | None = None
    immutable: bool = False
    backup_dir: str | None = None
    links: Links = "inside"
