"""Raises the number in VERSION: ``python deploy/version.py patch`` (or ``minor``, ``major``); prints the new one."""

from __future__ import annotations

import sys
from pathlib import Path

PARTS = ("major", "minor", "patch")


def raised(version: str, part: str) -> str:
    """Return ``version`` (three numbers with dots) with one part raised by one and those after it at zero.

    Raises:
        ValueError: there is no such part, or the version is not three numbers.
    """
    place = PARTS.index(part)
    numbers = [int(number) for number in version.split(".")]
    if len(numbers) != len(PARTS):
        raise ValueError(f"{version!r} is not three numbers with dots")
    return ".".join(map(str, [*numbers[:place], numbers[place] + 1, *[0] * (len(PARTS) - 1 - place)]))


if __name__ == "__main__":
    file = Path(__file__).resolve().parent.parent / "VERSION"
    new = raised(file.read_text().strip(), sys.argv[1])
    file.write_text(new + "\n")
    print(new)
