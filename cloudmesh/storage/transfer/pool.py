"""Running one function over a stream of tasks on several threads."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, CancelledError, Future, ThreadPoolExecutor, wait
from typing import TypeVar

from cloudmesh.storage.errors import StorageError

DEFAULT_PARALLEL = 16
"""Files under way at once, where the user does not say; more did not move 4 KiB files faster on two cores."""

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
        parallel: threads; `DEFAULT_PARALLEL` where None.
    """
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
