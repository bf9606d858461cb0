"""Running one function over a stream of tasks on several threads."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from queue import Empty, SimpleQueue
from typing import TypeVar

from cloudmesh.storage.errors import StorageError

DEFAULT_PARALLEL = 16
"""Files under way at once, where the user does not say; more did not move 4 KiB files faster on two cores."""

GRACE_S = 1.5
"""How long what is under way may take to end by itself after an interruption, so that it leaves nothing behind."""

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


@dataclass(frozen=True, slots=True)
class _Raised:
    error: BaseException


def run_parallel(
    work: Callable[[Task], Result], tasks: Iterable[Task | None], parallel: int | None = None
) -> Iterator[tuple[Task, Result | StorageError]]:
    """Yield each task with its result, or with the StorageError that it ended in, as they become ready.

    The stream of tasks is read only a little ahead of the work, and results come in the caller's thread, so that what
    follows a result needs no lock. Any other exception, one raised by ``tasks``, and the end of this iterator before
    its time, end the run: tasks not yet begun are dropped, those under way are waited for; after an interruption, or
    where nobody wants the results any longer, only for `GRACE_S`.

    Args:
        work: called on several threads at once.
        tasks: read in the caller's thread; None among them says that the next one is not known yet.
        parallel: threads; `DEFAULT_PARALLEL` where None. 1 does everything in the caller's thread.
    """
    if parallel == 1:
        yield from _run_serial(work, tasks)
        return
    threads_wanted = parallel or DEFAULT_PARALLEL
    todo: SimpleQueue[Task | None] = SimpleQueue()
    done: SimpleQueue[tuple[Task, Result | StorageError | _Raised]] = SimpleQueue()
    stopped = threading.Event()

    def serve() -> None:
        while (task := todo.get()) is not None and not stopped.is_set():
            result: Result | StorageError | _Raised
            try:
                result = work(task)
            except StorageError as error:
                result = error
            except BaseException as error:  # goes on in the caller's thread
                result = _Raised(error)
            done.put((task, result))

    threads: list[threading.Thread] = []
    under_way = 0

    def finished(*, wait: bool) -> Iterator[tuple[Task, Result | StorageError]]:
        nonlocal under_way
        try:
            task, result = done.get(block=wait)
        except Empty:
            return
        under_way -= 1
        if isinstance(result, _Raised):
            raise result.error
        yield task, result

    interrupted = True
    try:
        for task in tasks:
            if task is not None:
                todo.put(task)
                under_way += 1
                if len(threads) < min(threads_wanted, under_way):
                    threads.append(threading.Thread(target=serve, name="transfer", daemon=True))
                    threads[-1].start()
            yield from finished(wait=under_way >= 2 * threads_wanted)
        while under_way:
            yield from finished(wait=True)
        interrupted = False
    except Exception:
        interrupted = False
        raise
    finally:
        stopped.set()
        for _ in threads:
            todo.put(None)
        join(threads, GRACE_S if interrupted else None)


def join(threads: Iterable[threading.Thread], seconds: float | None = None) -> None:
    """Wait for the end of all threads, so many seconds at most."""
    end = None if seconds is None else time.monotonic() + seconds
    for thread in threads:
        thread.join(None if end is None else max(0.0, end - time.monotonic()))


def _run_serial(
    work: Callable[[Task], Result], tasks: Iterable[Task | None]
) -> Iterator[tuple[Task, Result | StorageError]]:
    for task in tasks:
        if task is None:
            continue
        result: Result | StorageError
        try:
            result = work(task)
        except StorageError as error:
            result = error
        yield task, result
