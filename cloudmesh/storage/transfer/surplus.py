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

    Attributes:
        top: as given.
    """

    def __init__(self, service: StorageABC, directory: str, top: str) -> None:
        self._service = service
        self._directory = directory
        self.top = top

    def keep(self, path: str) -> None:
        """Move a file here; an older backup of it is replaced.

        Raises:
            StorageError: as `StorageABC.move_within`; then the file is where it was.
        """
        target = paths.join(self._directory, paths.below(path, self.top))
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
            f"--max-delete={surplus} allows it",
        )


def remove_surplus(
    surplus: Callable[[], Iterable[tuple[bytes, int]]],
    top: str,
    destination: StorageABC,
    report: Report,
    *,
    backup: Backup | None,
    observer: Observer,
) -> None:
    """Remove files, and the directories that are empty then; count them and what fails.

    Args:
        surplus: gives what to remove, by its place in listings below ``top``, and its bytes; a directory's place ends
            in a slash and comes after all that is in it.
        top: the mirror's directory.
        destination: its service.
        report: counts removed files, and failures.
        backup: moves files instead, where there is one.
        observer: hears of it.
    """

    def failed(path: str, size: int, error: StorageError) -> None:
        name = destination.location(path)
        report.fail(name, error)
        observer(Event("planned", name, size))
        observer(Event("failed", name, size, str(error)))

    for batch in _batches((paths.join(top, key.decode("utf-8", "surrogateescape")), size) for key, size in surplus()):
        files = {path: size for path, size in batch if not path.endswith("/")}
        errors = dict(_kept(files, backup) if backup is not None else destination.remove_many(files))
        for path, size in files.items():
            if path in errors:
                failed(path, size, errors[path])
            else:
                report.removed += 1
                observer(Event("removed", destination.location(path), size))
        for path, _ in batch:
            if path.endswith("/"):
                try:
                    with suppress(NotFound, DirectoryNotEmpty):
                        destination.remove_dir(path.rstrip("/"))
                except StorageError as error:
                    failed(path, 0, error)


def _kept(files: Iterable[str], backup: Backup) -> Iterator[tuple[str, StorageError]]:
    for path in files:
        try:
            with suppress(NotFound):
                backup.keep(path)
        except StorageError as error:
            yield path, error


def _batches(items: Iterator[tuple[str, int]]) -> Iterator[list[tuple[str, int]]]:
    while batch := list(islice(items, _BATCH)):
        yield batch
