"""Which files a transfer concerns: rules by name as rclone has them, size and age.

The first rule that fits a file's path decides, and a file that none fits is concerned. First come those of
``--include``, then those of ``--exclude``, then those of the ``--filter-from`` file; ``--include`` adds at the end that
everything else is left out. A directory that is left out is left out with all that is in it.
"""

from __future__ import annotations

import logging
import re
import time
from dataclasses import dataclass

from cloudmesh.storage.abc import Entry
from cloudmesh.storage.errors import UsageError
from cloudmesh.storage.transfer.options import Selection, parse_moment
from cloudmesh.storage.transfer.patterns import translate

_log = logging.getLogger(__name__)
_EVERY_DIRECTORY = translate("/**").regex


@dataclass(frozen=True, slots=True)
class _Rule:
    """Says of what fits whether it is concerned."""

    includes: bool
    regex: re.Pattern[str]


class Filter:
    """Tells which files are concerned.

    Args:
        options: what was asked for.
        now_ns: the moment from which ``newer=36h`` is counted, in ns since the epoch; now where None.

    Attributes:
        since_ns: the moment since which a file must have been modified, in ns since the epoch; None = any.

    Raises:
        UsageError: a pattern or rule is wrong, or the file of rules cannot be read; it names the one it is.
    """

    def __init__(self, options: Selection, now_ns: int | None = None) -> None:
        self._min_size = options.min_size
        self._max_size = options.max_size
        self.since_ns: int | None = None
        if options.newer is not None:
            self.since_ns = parse_moment(options.newer, time.time_ns() if now_ns is None else now_ns)
        self._files: list[_Rule] = []
        self._directories: list[_Rule] = []
        self._last_directory = ("", True)
        self._read(options)

    @classmethod
    def from_options(cls, options: Selection) -> Filter | None:
        """Return the filter that the options ask for; None where every file is concerned. Raises as the class."""
        names = options.include or options.exclude or options.filter_from
        facts = (options.min_size, options.max_size, options.newer)
        return cls(options) if names or any(fact is not None for fact in facts) else None

    def includes(self, path: str, entry: Entry) -> bool:
        """Tell whether a file is concerned.

        What a listing does not tell leaves nothing out: a file of unknown size or age is concerned. Where it tells no
        modification time, the time at which the service stored the file is taken, which is never earlier.

        Args:
            path: of the file, below the top of the transfer.
            entry: what is known of it.
        """
        if entry.size is not None:
            if self._max_size is not None and entry.size > self._max_size:
                return False
            if self._min_size is not None and entry.size < self._min_size:
                return False
        if self.since_ns is not None:
            modified = entry.mtime_ns if entry.mtime_ns is not None else entry.changed_ns
            if modified is not None and modified < self.since_ns:
                return False
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

    def _read(self, options: Selection) -> None:
        for includes, option, patterns in ((True, "--include", options.include), (False, "--exclude", options.exclude)):
            for pattern in patterns:
                try:
                    self._add(includes, pattern)
                except ValueError as error:
                    raise UsageError(f"{option}={pattern}", str(error)) from None
        if options.include and options.exclude:
            _log.warning(
                "--include comes before --exclude: what both fit is concerned; a --filter-from file sets another order"
            )
        if options.filter_from is not None:
            try:
                lines = options.filter_from.read_text("utf-8", "surrogateescape").splitlines()
            except (OSError, ValueError) as error:  # the second of a NUL in the name
                why = getattr(error, "strerror", None) or str(error)
                raise UsageError(f"--filter-from={options.filter_from}", why) from None
            for number, line in enumerate(lines, 1):
                try:
                    self._add_line(line.strip())
                except ValueError as error:
                    raise UsageError(f"{options.filter_from}, line {number}", str(error)) from None
        if options.include:
            self._add(False, "/**")

    def _add_line(self, line: str) -> None:
        if not line or line[0] in "#;":
            return
        if line == "!":
            self._files.clear()
            self._directories.clear()
        elif line[:2] in ("+ ", "- "):
            self._add(line[0] == "+", line[2:])
        else:
            raise ValueError(f"{line!r} is no rule: it begins with '+ ' or '- ', or is '!'")

    def _add(self, includes: bool, pattern: str) -> None:
        """Add a rule; of directories it says what it says of all files in them."""
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


def _decided(rules: list[_Rule], path: str) -> bool:
    for rule in rules:
        if rule.regex.fullmatch(path):
            return rule.includes
    return True
