"""Moving files: each is copied first, and removed at its source only when it surely is at its destination, unchanged.

Batch by batch: copy, wait until the destination survives a power failure, look at the source once more, remove. So
whatever ends a move halfway, the same command completes it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from itertools import islice

from cloudmesh.storage.abc import Entry, StorageABC, WriteMode
from cloudmesh.storage.errors import AlreadyExists, NotFound, SourceChanged, StorageError
from cloudmesh.storage.pool import run_parallel, threads_for
from cloudmesh.storage.transfer.copying import copy_file
from cloudmesh.storage.transfer.events import Event, Observer
from cloudmesh.storage.transfer.plan import Plan, Step
from cloudmesh.storage.transfer.report import Report
from cloudmesh.storage.transfer.same import certainly_same

_BATCH = 500


class _Left(StorageError):
    """A file was not begun any more."""


def move(
    steps: Iterable[Step],
    source: StorageABC,
    destination: StorageABC,
    *,
    force: bool,
    parallel: int | None,
    dryrun: bool,
    observer: Observer,
    stop: Callable[[], bool] = bool,
) -> Report:
    """Do the steps of a plan, and remove at the source what was done.

    A file that is at its destination already with the same bytes counts as copied; one with other bytes is in the way.

    Args:
        steps: from `plan`; what they skip is compared byte by byte.
        source: where the files are.
        destination: where they go.
        force: replace files that are in the way.
        parallel: files under way at once; measured default where None.
        dryrun: change nothing, only count.
        observer: hears of everything.
        stop: asked before each file; True ends it after those under way, each of which is then on one side, or on both.

    Raises:
        StorageError: a listing failed, so that the plan itself could not go on.
    """
    report = Report("move", dryrun=dryrun)
    threads = parallel or threads_for((source.settings.kind, destination.settings.kind))
    mode: WriteMode = "overwrite" if force else "create"

    def copied(step: Step) -> None:
        if stop():
            report.stopped = True
            raise _Left(source.location(step.source.path))
        if step.action == "make_dir":
            destination.make_dir(step.destination)
            return
        observer(Event("started", source.location(step.source.path), step.source.size or 0))
        if step.replaces is not None and certainly_same(source, step.source, destination, step.replaces):
            return
        try:
            copy_file(source, step.source, destination, step.destination, mode=mode, observer=observer)
        except AlreadyExists:
            raise AlreadyExists(
                destination.location(step.destination), "a file is in the way", "--force replaces it"
            ) from None

    def removed(step: Step) -> None:
        if step.action != "make_dir":
            _remove_unchanged(source, step.source)

    remaining = iter(steps)
    while not report.stopped and (batch := list(islice(remaining, _BATCH))):
        files = [step for step in batch if step.action != "make_dir"]
        if dryrun:
            for step in files:
                report.done(step.source.size)
            continue
        for step in files:
            observer(Event("planned", source.location(step.source.path), step.source.size or 0))
        if len(batch) < _BATCH:
            observer(Event("planned_all"))
        done = list(_good(run_parallel(copied, batch, threads), source, report, observer))
        if done:
            destination.flush()
        for step in _good(run_parallel(removed, done, threads), source, report, observer):
            if step.action != "make_dir":
                report.done(step.source.size)
                observer(Event("done", source.location(step.source.path), step.source.size or 0))
    if isinstance(steps, Plan):
        for error in steps.unlisted:
            report.fail(error.subject, error)
    return report


def remove_emptied(source: StorageABC, directory: str, report: Report) -> None:
    """Remove a directory and those in it, from below. What was not moved, or came meanwhile, stays and is reported."""
    try:
        directories = [entry.path for entry in source.scan(directory, recursive=True) if entry.is_directory]
    except NotFound:  # an object store's directory is gone with its last file
        return
    for path in [*reversed(directories), directory]:
        try:
            if path:
                source.remove_dir(path)
        except NotFound:
            continue
        except StorageError as error:
            report.fail(source.location(path), error)


def _good(
    results: Iterable[tuple[Step, StorageError | None]], source: StorageABC, report: Report, observer: Observer
) -> Iterator[Step]:
    """Yield the steps that went well, and count the others."""
    for step, result in results:
        if isinstance(result, _Left):
            continue
        if isinstance(result, StorageError):
            name = source.location(step.source.path)
            report.fail(name, result)
            observer(Event("failed", name, step.source.size or 0, str(result)))
        else:
            yield step


def _remove_unchanged(source: StorageABC, entry: Entry) -> None:
    """Remove a file, if it is still the one that was copied.

    Raises:
        SourceChanged: it is not; it stays.
    """
    try:
        now = source.stat(entry.path)
    except NotFound:
        return
    if (now.size, now.etag) != (entry.size, entry.etag) or (entry.mtime_ns or now.mtime_ns) != now.mtime_ns:
        raise SourceChanged(source.location(entry.path), "it was changed meanwhile, and stays where it is")
    with suppress(NotFound):
        source.remove(entry.path)
