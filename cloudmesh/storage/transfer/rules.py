"""Rules by which files are chosen by their names, as rclone has them: the first that fits a file's path decides.

A file that none fits is concerned. A directory that is left out is left out with all that is in it.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from cloudmesh.storage.errors import UsageError
from cloudmesh.storage.transfer.patterns import translate

MOST = 256 << 10
"""Bytes that a file of rules may have: a request to a service, and a job's row, hold them all."""

_EVERY_DIRECTORY = translate("/**").regex


@dataclass(frozen=True, slots=True)
class _Rule:
    """Says of what fits whether it is concerned."""

    includes: bool
    regex: re.Pattern[str]


class Rules:
    """A list of rules."""

    def __init__(self) -> None:
        self._files: list[_Rule] = []
        self._directories: list[_Rule] = []
        self._last_directory = ("", True)

    def add_line(self, line: str) -> None:
        """Add a rule as a file has it: ``+ PATTERN``, ``- PATTERN``, or ``!``, which forgets all before it.

        Raises:
            ValueError: it is none; the text says why.
        """
        if line == "!":
            self._files.clear()
            self._directories.clear()
        elif line[:2] in ("+ ", "- "):
            self.add(line[0] == "+", line[2:])
        else:
            raise ValueError(f"{line!r} is no rule: it begins with '+ ' or '- ', or is '!'")

    def add(self, includes: bool, pattern: str) -> None:
        """Add a rule; of directories it says what it says of all files in them.

        Raises:
            ValueError: the pattern is none; the text says why.
        """
        names_directory = pattern.endswith("/")
        if names_directory and not includes:
            pattern += "**"
        translated = translate(pattern)
        fits_both = "**" in pattern
        if fits_both or not names_directory:
            self._files.append(_Rule(includes, translated.regex))
            if includes or pattern == "*":
                ways = (_EVERY_DIRECTORY,) if translated.directories is None else translated.directories
                self._directories += [_Rule(includes, one) for one in ways]
        if fits_both or names_directory:
            self._directories.append(_Rule(includes, translated.regex))

    def includes(self, path: str) -> bool:
        """Tell whether the file at a path below the top is concerned."""
        if self._directories:  # rules come in the order of a listing: the directory is mostly that of the file before
            directory = path.rpartition("/")[0]
            last, enters = self._last_directory
            if directory != last:
                enters = self.enters(directory)
                self._last_directory = (directory, enters)
            if not enters:
                return False
        return _decided(self._files, path)

    def enters(self, directory: str) -> bool:
        """Tell whether anything in a directory (its path below the top, "" for the top) can be concerned."""
        if not self._directories or not directory:
            return True
        ends = [place for place, sign in enumerate(directory) if sign == "/"]
        return all(_decided(self._directories, directory[:end] + "/") for end in [*ends, len(directory)])


def _decided(rules: list[_Rule], path: str) -> bool:
    for rule in rules:
        if rule.regex.fullmatch(path):
            return rule.includes
    return True


def read_rules(file: str | Path) -> tuple[str, ...]:
    """Return the rules of a file, one a line, without blank lines and those that begin with ``#`` or ``;``.

    Raises:
        UsageError: it cannot be read, has more than `MOST` bytes, or a line is no rule; the error names the line.
    """
    try:
        with open(file, "rb") as opened:
            data = opened.read(MOST + 1)
    except (OSError, ValueError) as error:  # the second of a NUL in the name
        why = getattr(error, "strerror", None) or str(error)
        raise UsageError(f"--filter-from={file}", why) from None
    if len(data) > MOST:
        raise UsageError(f"--filter-from={file}", f"has more than {MOST >> 10} KiB", "say the same with fewer rules")
    checked, found = Rules(), []
    for number, line in enumerate(data.decode("utf-8", "surrogateescape").splitlines(), 1):
        if (rule := line.strip()) and rule[0] not in "#;":
            try:
                checked.add_line(rule)
            except ValueError as error:
                raise UsageError(f"{file}, line {number}", str(error)) from None
            found.append(rule)
    return tuple(found)
