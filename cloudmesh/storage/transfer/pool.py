"""Running one function over a stream of tasks on several threads."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, CancelledError, Future, ThreadPoolExecutor, wait
from typing import TypeVar

from cloudmesh.storage.errors import StorageError

DEFAULT_PARALLEL = 16
"""Files under way at once, where the user does not say; more did not move 4 KiB files faster on two cores."""

_SMALL = 1 << 20
_DISK_PARALLEL = 2


def threads_for(kinds: Iterable[str], mean_bytes: float = 0) -> int:
    """Return how many files are worth having under way at once, where the user does not say.

    On the local disk small files are done one after the other: the calls are so short that threads only wait for each
    other (5,000 files of 160 bytes: 1.8 s with one thread, 5 s with two or more).

    Args:
        kinds: of all services concerned.
        mean_bytes: size of a file, where it is known.
    """
    if all(kind == "local" for kind in kinds):
        return 1 if mean_bytes < _SMALL else _DISK_PARALLEL
    return DEFAULT_PARALLEL


Task = TypeVar("Task")
Result = TypeVar("Result")


def run_parallel(
    work: Callable[[Task], Result], tasks: Iterable[Task], parallel: int | None = None
) -> Iterator[tuple[Task, Result | StorageError]]:
    """Yield each task with its result, or with the StorageError that it ended in, as they become ready.

    The stream of tasks is read only a little ahead of the work, and results come in the caller's thread, so that what
    follows a result needs no lock. Any other exception, one raised by ``tasks``, and the end of this iterator before
    its time, end the run: tasks not yet begun are dropped, those under way are waited for.

    Args:
        work: called on several threads at once.
        tasks: read in the caller's thread.
        parallel: threads; `DEFAULT_PARALLEL` where None. 1 does everything in the caller's thread.
    """
    if parallel == 1:
        yield from _run_serial(work, tasks)
        return
    threads_wanted = parallel or DEFAULT_PARALLEL
    stopped = threading.Event()

    def guarded(task: Task) -> Result | StorageError:
        if stopped.is_set():
            raise CancelledError
        try:
            return work(task)
        except StorageError as error:
            return error

    running: dict[Future[Result | StorageError], Task] = {}

    def finished() -> Iterator[tuple[Task, Result | StorageError]]:
        done, _ = wait(running, return_when=FIRST_COMPLETED)
        for future in done:
            yield running.pop(future), future.result()

    with ThreadPoolExecutor(threads_wanted, thread_name_prefix="transfer") as threads:
        try:
            for task in tasks:
                running[threads.submit(guarded, task)] = task
                if len(running) >= 2 * threads_wanted:
                    yield from finished()
            while running:
                yield from finished()
        finally:
            stopped.set()


def _run_serial(work: Callable[[Task], Result], tasks: Iterable[Task]) -> Iterator[tuple[Task, Result | StorageError]]:
    for task in tasks:
        result: Result | StorageError
        try:
            result = work(task)
        except StorageError as error:
            result = error
        yield task, result
