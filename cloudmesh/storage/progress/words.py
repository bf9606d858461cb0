"""How far the work has come, in words; parts of the lines and of the bars."""

from __future__ import annotations

from cloudmesh.storage.output import human_size
from cloudmesh.storage.transfer.totals import Snapshot


def files(now: Snapshot) -> str:
    """Return ``1,234/20,000``: done, and to be done; files that were the same already are in neither."""
    return f"{now.files_done:,}/{now.files_planned - now.files_skipped:,}"


def bytes_to_move(now: Snapshot) -> int:
    """Return the bytes of all files but those that were the same already."""
    return now.bytes_planned - now.bytes_skipped


def share(done: int, total: int) -> str:
    """Return ``1.2/4.0 GiB``: a part of some bytes, both in the unit of the whole."""
    number, unit = human_size(total).split(" ")
    if unit == "B":
        return f"{done}/{number} B"
    return f"{done / 1024 ** ' KMGTPE'.index(unit[0]):.1f}/{number} {unit}"


def speed(bytes_per_s: float) -> str:
    """Return ``85.0 MiB/s``."""
    return f"{human_size(round(bytes_per_s))}/s"


def left(seconds: float | None) -> str:
    """Return ``0:31``, ``1:02:03`` or ``2d 3h``; ``-:--`` where it cannot be told."""
    if seconds is None or seconds >= 1000 * 86400:
        return "-:--"
    minutes, second = divmod(round(seconds), 60)
    hours, minute = divmod(minutes, 60)
    if hours >= 24:
        return f"{hours // 24}d {hours % 24}h"
    return f"{hours}:{minute:02}:{second:02}" if hours else f"{minute}:{second:02}"


def remarks(now: Snapshot) -> list[str]:
    """Return what is worth saying only where there is any, such as ``2 failed``."""
    counts = {"skipped": now.files_skipped, "removed": now.files_removed, "failed": now.files_failed}
    return [f"{count:,} {word}" for word, count in counts.items() if count]
