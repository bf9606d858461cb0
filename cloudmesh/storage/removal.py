"""Removing files and trees of one service: what would go is counted first, directories go last and from below."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import suppress

from cloudmesh.storage.abc import Entry, StorageABC
from cloudmesh.storage.errors import IsADirectory, NotFound, StorageError
from cloudmesh.storage.transfer.report import Report


def remove_tree(
    service: StorageABC, path: str, *, recursive: bool, dryrun: bool, stop: Callable[[], bool] = bool
) -> Report:
    """Remove a file, or with ``recursive`` a directory with all that is in it; the root itself stays.

    Args:
        service: where.
        path: of a file or directory.
        recursive: a directory may be removed.
        dryrun: only count.
        stop: asked before each file; True ends it after those under way.

    Raises:
        NotFound: nothing is there.
        IsADirectory: a directory is there and ``recursive`` is not asked for.
    """
    report = Report("delete", dryrun=dryrun)
    entry = service.stat(path)
    if not entry.is_directory:
        if not dryrun:
            service.remove(path)
        report.done(entry.size)
        return report.ended()
    if not recursive:
        raise IsADirectory(service.location(path), hint="--recursive removes it with all that is in it")
    directories = [path] if path else []
    unlisted: list[str] = []

    def stays(found: Entry, error: StorageError) -> None:
        unlisted.append(found.path)
        report.fail(service.location(found.path), error)

    def files() -> Iterator[str]:
        for found in service.scan(path, recursive=True, on_error=stays):
            if stop():
                report.stopped = True
                return
            if found.is_directory:
                directories.append(found.path)
            else:
                report.done(found.size)
                if not dryrun:
                    yield found.path

    for name, error in service.remove_many(files()):
        report.files -= 1
        report.fail(service.location(name), error)
    report.directories = len(directories)
    if not dryrun and not report.stopped:
        above = [one for one in directories if not any(f"{name}/".startswith(f"{one}/") for name in unlisted)]
        _remove_directories(service, above, report)
    return report.ended()


def _remove_directories(service: StorageABC, directories: list[str], report: Report) -> None:
    for directory in reversed(directories):
        try:
            # an object store's directory is gone with its last file
            with suppress(NotFound):
                service.remove_dir(directory)
        except StorageError as error:
            report.fail(service.location(directory), error)
