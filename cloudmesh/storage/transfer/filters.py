"""Which files a transfer concerns: rules by name as rclone has them, size and age.

The first rule that fits a file's path decides, and a file that none fits is concerned. First come those of
``--include``, then those of ``--exclude``, then those of the ``--filter-from`` file; ``--include`` adds at the end that
everything else is left out. A directory that is left out is left out with all that is in it.
"""

from __future__ import annotations

import time

from cloudmesh.storage.abc import Entry
from cloudmesh.storage.errors import UsageError
from cloudmesh.storage.transfer.options import Selection, parse_moment
from cloudmesh.storage.transfer.rules import Rules


class Filter:
    """Tells which files are concerned.

    Args:
        options: what was asked for.
        now_ns: the moment from which ``newer=36h`` is counted, in ns since the epoch; now where None.

    Attributes:
        since_ns: the moment since which a file must have been modified, in ns since the epoch; None = any.

    Raises:
        UsageError: a pattern or rule is wrong; it names the one it is.
    """

    def __init__(self, options: Selection, now_ns: int | None = None) -> None:
        self._min_size = options.min_size
        self._max_size = options.max_size
        self.since_ns: int | None = None
        if options.newer is not None:
            self.since_ns = parse_moment(options.newer, time.time_ns() if now_ns is None else now_ns)
        self._rules = Rules()
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
        return self._rules.includes(path)

    def enters(self, directory: str) -> bool:
        """Tell whether anything in a directory (its path below the top, "" for the top) can be concerned."""
        return self._rules.enters(directory)

    def _read(self, options: Selection) -> None:
        for includes, option, patterns in ((True, "--include", options.include), (False, "--exclude", options.exclude)):
            for pattern in patterns:
                try:
                    self._rules.add(includes, pattern)
                except ValueError as error:
                    raise UsageError(f"{option}={pattern}", str(error)) from None
        for number, rule in enumerate(options.filter_from, 1):
            try:
                self._rules.add_line(rule)
            except ValueError as error:
                raise UsageError(f"--filter-from, rule {number}", str(error)) from None
        if options.include:
            self._rules.add(False, "/**")
