"""Many files under way at once in the caller's thread: each is a flow of requests, one after the other.

A flow is a generator. It yields a `Transfer` and is given the answer, or `NoAnswer` is thrown into it; or it yields
`Aside` for what is rare and blocks. All flows share one loop of connections (`http_multi`).
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import Future
from contextlib import closing
from dataclasses import dataclass
from queue import SimpleQueue
from threading import Thread
from typing import Any, Generic, TypeVar

import pycurl

from cloudmesh.storage.errors import StorageError
from cloudmesh.storage.http_multi import Failure, Transfer
from cloudmesh.storage.providers.webdav.http import Client

Task = TypeVar("Task")
Result = TypeVar("Result")


class NoAnswer(Exception):
    """A request got no whole answer, so what it did is not known.

    Attributes:
        error: why.
        stale: whether it was sent on a connection that had been kept, and the service closed that without a word.
    """

    def __init__(self, error: StorageError, *, stale: bool) -> None:
        super().__init__(error)
        self.error = error
        self.stale = stale


@dataclass(frozen=True, slots=True)
class Aside:
    """Work that blocks, done in another thread while the loop goes on; the flow is given its result or its error.

    Attributes:
        work: what to do.
        key: of work that several flows may need at once: it is done once for all of them.
    """

    work: Callable[[], Any]
    key: str | None = None


Flow = Generator[Transfer | Aside, Any, Result]


@dataclass(slots=True, eq=False)
class _Running(Generic[Task, Result]):
    task: Task
    flow: Flow[Result]
    subject: str


class FlowLoop(Generic[Task, Result]):
    """Runs a flow for each task and yields the results as they come; used once.

    Args:
        client: makes the requests.
        begin: makes a task's flow.
        subject: what an error of a task's connection is about.
        parallel: flows under way at once.
    """

    def __init__(
        self, client: Client, begin: Callable[[Task], Flow[Result]], subject: Callable[[Task], str], parallel: int
    ) -> None:
        self._client = client
        self._begin = begin
        self._subject = subject
        self._parallel = parallel
        self._under_way = 0
        self._sent = 0
        self._ready: deque[Transfer] = deque()
        self._results: deque[tuple[Task, Result | StorageError]] = deque()
        self._aside = 0
        self._waiting: dict[str, list[_Running[Task, Result]]] = {}
        self._came_back: SimpleQueue[tuple[str | _Running[Task, Result], Future[Any]]] = SimpleQueue()
        self._threads: list[Thread] = []
        self._more = True

    def run(self, tasks: Iterable[Task | None]) -> Iterator[tuple[Task, Result | StorageError]]:
        """Yield each task with its flow's result or error; rules as of `StorageABC.read_many`."""
        source = iter(tasks)
        try:
            while self._more or self._under_way:
                with closing(self._client.multi.run(self._transfers(source), self._parallel)) as answers:
                    for transfer, answer in answers:
                        self._sent -= 1
                        running = transfer.context
                        if isinstance(answer, Failure):
                            error = self._client.error_of(answer, running.subject)
                            stale = answer.code == pycurl.E_SEND_FAIL_REWIND
                            self._step(running, error=NoAnswer(error, stale=stale))
                        else:
                            self._step(running, answer)
                        yield from self._ended()
                yield from self._ended()
        finally:
            for thread in self._threads:
                thread.join()

    def _transfers(self, source: Iterator[Task | None]) -> Iterator[Transfer | None]:
        """Yield the next request of each flow; end where only the caller can let it go on, by taking results."""
        while self._more or self._under_way:
            self._take_back()
            if self._ready:
                self._sent += 1
                yield self._ready.popleft()
            elif self._results and not self._sent:
                return
            elif not self._more or self._under_way + len(self._results) >= self._parallel or not self._next(source):
                if not self._sent and self._aside:
                    self._take_back(wait=True)
                elif self._under_way or self._more:
                    yield None

    def _next(self, source: Iterator[Task | None]) -> bool:
        """Begin the next task; False where there is none, or none as yet."""
        try:
            task = next(source)
        except StopIteration:
            self._more = False
            return False
        if task is None:
            return False
        self._under_way += 1
        self._step(_Running(task, self._begin(task), self._subject(task)))
        return True

    def _step(self, running: _Running[Task, Result], value: Any = None, error: BaseException | None = None) -> None:
        """Let a flow go on, to its next request or its end."""
        try:
            wanted = running.flow.send(value) if error is None else running.flow.throw(error)
        except StopIteration as end:
            self._end(running, end.value)
        except NoAnswer as no_answer:
            self._end(running, no_answer.error)
        except StorageError as refusal:
            self._end(running, refusal)
        else:
            if isinstance(wanted, Aside):
                self._put_aside(running, wanted)
            else:
                wanted.context = running
                self._ready.append(wanted)

    def _end(self, running: _Running[Task, Result], result: Result | StorageError) -> None:
        self._under_way -= 1
        self._results.append((running.task, result))

    def _ended(self) -> Iterator[tuple[Task, Result | StorageError]]:
        while self._results:
            yield self._results.popleft()

    # ---- what blocks ------------------------------------------------------------------------------------------------

    def _put_aside(self, running: _Running[Task, Result], aside: Aside) -> None:
        name: str | _Running[Task, Result] = running
        if aside.key is not None:
            name = aside.key
            waiting = self._waiting.setdefault(name, [])
            waiting.append(running)
            if len(waiting) > 1:
                return
        self._aside += 1
        # a daemon: the end of the process waits for a standard executor's threads, and so for a service that hangs
        self._threads = [thread for thread in self._threads if thread.is_alive()]
        self._threads.append(Thread(target=self._do, args=(name, aside.work), name="webdav-aside", daemon=True))
        self._threads[-1].start()

    def _do(self, name: str | _Running[Task, Result], work: Callable[[], Any]) -> None:
        future: Future[Any] = Future()
        try:
            future.set_result(work())
        except BaseException as error:  # goes on in the flow
            future.set_exception(error)
        self._came_back.put((name, future))

    def _take_back(self, *, wait: bool = False) -> None:
        while wait or not self._came_back.empty():
            name, future = self._came_back.get()
            wait = False
            self._aside -= 1
            error = future.exception()
            value = None if error is not None else future.result()
            for running in self._waiting.pop(name) if isinstance(name, str) else (name,):
                self._step(running, value, error)
