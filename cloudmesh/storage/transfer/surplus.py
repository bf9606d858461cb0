"""What only the destination of a mirror has: removed last, never in bulk by mistake, and kept elsewhere if wished."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from itertools import islice

from cloudmesh.storage import paths
from cloudmesh.storage.abc import StorageABC
from cloudmesh.storage.errors import DirectoryNotEmpty, NotFound, Refused, StorageError, Unsupported
from cloudmesh.storage.transfer.copying import copy_file
from cloudmesh.storage.transfer.events import Event, Observer
from cloudmesh.storage.transfer.options import DeletionLimit
from cloudmesh.storage.transfer.plan import Plan
from cloudmesh.storage.transfer.report import Report

_BATCH = 500


class Backup:
    """A directory on the destination's service to which files go instead of being replaced or removed.

    Args:
        service: the destination's.
        directory: where replaced and removed files go, by their path below ``top``.
        top: the directory that is being changed.
    """

    def __init__(self, service: StorageABC, directory: str, top: str) -> None:
        self._service = service
        self._directory = directory
        self._top = top

    def keep(self, path: str) -> None:
        """Move a file here; an older backup of it is replaced.

        Raises:
            StorageError: as `StorageABC.move_within`; then the file is where it was.
        """
        target = paths.join(self._directory, paths.below(path, self._top))
        try:
            self._service.move_within(path, target)
        except Unsupported:
            with self._service.open_read(path) as reader:
                entry = reader.entry
            copy_file(self._service, entry, self._service, target)
            self._service.remove(path)


def check_surplus(plan: Plan, destination: StorageABC, surplus: int, most: DeletionLimit) -> None:
    """Refuse a removal that looks like a mistake.

    Raises:
        Refused: the source is empty, or more of the destination's files would go than is allowed.
    """
    if not surplus:
        return
    where = destination.location(plan.top)
    if not plan.files:
        raise Refused(where, f"the source has no files, so {surplus} would be removed here", "look at the source")
    if not most.allows(surplus, plan.there):
        raise Refused(
            where,
            f"{surplus} of {plan.there} files would be removed, which is more than {most}",
            "--max-delete=100% allows it",
        )


def remove_surplus(
    keys: Callable[[], Iterable[bytes]],
    top: str,
    destination: StorageABC,
    report: Report,
    *,
    backup: Backup | None,
    observer: Observer,
) -> None:
    """Remove files, and the directories that are empty then; count them and what fails.

    Args:
        keys: gives what to remove, by its place in listings below ``top``; a directory's ends in a slash and comes
            after all that is in it.
        top: the mirror's directory.
        destination: its service.
        report: counts removed files, and failures.
        backup: moves files instead, where there is one.
        observer: hears of it.
    """
    for batch in _batches(paths.join(top, key.decode("utf-8", "surrogateescape")) for key in keys()):
        files = [path for path in batch if not path.endswith("/")]
        failed = dict(_kept(files, backup) if backup is not None else destination.remove_many(files))
        for path in files:
            name = destination.location(path)
            if path in failed:
                report.fail(name, failed[path])
                observer(Event("failed", name, error=str(failed[path])))
            else:
                report.removed += 1
                observer(Event("removed", name))
        for path in batch:
            if path.endswith("/"):
                try:
                    with suppress(NotFound, DirectoryNotEmpty):
                        destination.remove_dir(path.rstrip("/"))
                except StorageError as error:
                    report.fail(destination.location(path), error)


def _kept(files: Iterable[str], backup: Backup) -> Iterator[tuple[str, StorageError]]:
    for path in files:
        try:
            with suppress(NotFound):
                backup.keep(path)
        except StorageError as error:
            yield path, error


def _batches(items: Iterator[str]) -> Iterator[list[str]]:
    while batch := list(islice(items, _BATCH)):
        yield batch
