"""The clocks of the services, and what they tell of a file that is as we saw it."""

from __future__ import annotations

import time

from cloudmesh.storage.abc import Entry, StorageABC
from cloudmesh.storage.clock import NO_OFFSET, Offset, known_offsets, measure_offset, remember_offsets
from cloudmesh.storage.errors import StorageError
from cloudmesh.vdir.work import Work

_SECOND = 10**9


class Clocks:
    """How far the clocks of services are off; each is measured when it is first needed in a run.

    Args:
        work: the catalogue and the services.
        exact: measure; else what was measured earlier has to do, or the clock is taken to be right.
    """

    def __init__(self, work: Work, *, exact: bool) -> None:
        self._work = work
        self._exact = exact
        self._measured: dict[str, Offset] = {}
        self._known: dict[str, Offset] = {}

    def of(self, service: str) -> Offset:
        """Return a service's clock less this computer's, as it is now."""
        if service not in self._measured:
            self._measured[service] = self._measure(service)
        return self._measured[service]

    def vouches(self, checked_ns: int | None, there: Entry, service: StorageABC) -> bool:
        """Tell whether a file that by size and time is as we saw it at some time surely has not been written since."""
        return not was_touched(checked_ns, there, service) and self.has_settled(checked_ns, there, service)

    def has_settled(self, checked_ns: int | None, there: Entry, service: StorageABC) -> bool:
        """Tell whether a file that is as we saw it at some time cannot have been written since.

        A service that tells times in whole seconds does not show a second write within the second of the first. So what
        was seen so soon after it was written is not certain, until it has been read once more.
        """
        written_ns = there.mtime_ns if there.changed_ns is None else there.changed_ns
        if service.immediate or written_ns is None or written_ns % _SECOND or service.capabilities.hashes:
            return True
        if checked_ns is None:
            return False
        offset = self._ever(service.name)
        return written_ns - offset.offset_ns + offset.error_ns + 2 * _SECOND < checked_ns

    def _ever(self, service: str) -> Offset:
        """Return a service's clock less this computer's as it was measured last; now, where it never was."""
        if service not in self._known:
            earlier = known_offsets(self._work.catalogue.database).get(service)
            self._known[service] = self.of(service) if earlier is None else earlier
        return self._known[service]

    def _measure(self, service: str) -> Offset:
        opened = self._work.target(service)
        if opened.immediate:
            return NO_OFFSET
        database = self._work.catalogue.database
        if self._exact:
            try:
                found = measure_offset(opened)
                remember_offsets(database, {service: found})
                return found or NO_OFFSET
            except StorageError:  # it cannot be written to: what is known of it has to do
                pass
        return known_offsets(database).get(service) or NO_OFFSET


def was_touched(checked_ns: int | None, there: Entry, service: StorageABC) -> bool:
    """Tell whether a file on a disk of this computer was written, or its attributes set, since we looked at it.

    Who writes can set the modification time back, but not the time of the last change. Times that are yet to come tell
    nothing: the clock was set back.
    """
    if not service.immediate or checked_ns is None or there.changed_ns is None:
        return False
    return checked_ns < there.changed_ns <= time.time_ns()
