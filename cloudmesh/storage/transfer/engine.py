"""Doing the steps of a plan, several at a time; what goes wrong is collected and does not stop the rest."""

from __future__ import annotations

from collections.abc import Iterable

from cloudmesh.storage.abc import Entry, StorageABC, WriteMode
from cloudmesh.storage.errors import StorageError
from cloudmesh.storage.pool import run_parallel, threads_for
from cloudmesh.storage.transfer.copying import copy_file
from cloudmesh.storage.transfer.events import Event, Observer, nobody
from cloudmesh.storage.transfer.plan import Step
from cloudmesh.storage.transfer.report import Report


def execute(
    steps: Iterable[Step],
    source: StorageABC,
    destination: StorageABC,
    *,
    action: str,
    mode: WriteMode = "overwrite",
    parallel: int | None = None,
    dryrun: bool = False,
    observer: Observer = nobody,
) -> Report:
    """Do the steps of a plan from ``source`` to ``destination``.

    Args:
        steps: from `plan`.
        source: where the files are.
        destination: where they go.
        action: the verb, for the report.
        mode: as `StorageABC.write`.
        parallel: files under way at once; measured default where None.
        dryrun: change nothing, only count.
        observer: hears of everything.

    Returns:
        the counts, and what failed.

    Raises:
        StorageError: a listing failed, so that the plan itself could not go on.
    """
    report = Report(action, dryrun=dryrun)

    threads = parallel or threads_for((source.settings.kind, destination.settings.kind))

    def planned() -> Iterable[Step]:
        for step in steps:
            size = step.source.size or 0
            name = source.location(step.source.path)
            if step.action == "skip":
                report.skipped += 1
                observer(Event("skipped", name, size))
            elif dryrun:
                if step.action == "copy":
                    report.done(size)
            else:
                if step.action == "copy":
                    observer(Event("planned", name, size))
                yield step

    def work(step: Step) -> Entry | None:
        if step.action == "make_dir":
            destination.make_dir(step.destination)
            return None
        observer(Event("started", source.location(step.source.path), step.source.size or 0))
        return copy_file(source, step.source, destination, step.destination, mode=mode, observer=observer)

    for step, result in run_parallel(work, planned(), threads):
        name = source.location(step.source.path)
        if isinstance(result, StorageError):
            report.fail(name, result)
            observer(Event("failed", name, error=str(result)))
        elif result is not None:
            report.done(result.size if result.size is not None else step.source.size)
            observer(Event("done", name, step.source.size or 0))
    return report
