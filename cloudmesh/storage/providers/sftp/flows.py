"""Many small files under way at once over one session, without threads.

What is to be done with one file is a generator, a *flow*: it sends requests, yields, and takes the answers when it is
resumed. Flows are resumed in the order in which they yielded, which is the order in which servers answer, so there is
mostly an answer there already, and the requests of many files leave together.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from typing import Generic, TypeVar

from cloudmesh.storage.errors import StorageError, Unavailable
from cloudmesh.storage.providers.sftp.pool import Lease, Pool
from cloudmesh.storage.providers.sftp.protocol import ProtocolError, Sftp, Status
from cloudmesh.storage.providers.sftp.sessions import Session
from cloudmesh.storage.providers.sftp.ssh_session import ConnectionLost

Request = TypeVar("Request")
Result = TypeVar("Result")

_FILES = 64
"""Flows under way at once; each holds one open file on the server."""
_BYTES = 1536 * 1024
"""Content on the way at once (or one larger file): less than the 2 MiB that sshd takes before it stalls us."""
_TOGETHER = 16
"""Steps after which what is collected is sent, so that the server works while we do."""


class Alone(Exception):
    """This file is no plain case: it is to be done by itself, by the call that knows all cases and names all errors."""


class Line:
    """The session that flows share.

    Attributes:
        sftp: what they speak over.
        is_lost: whether its connection broke, so that nothing more is to be sent.
    """

    def __init__(self, lease: Lease[Session]) -> None:
        self.lease = lease
        self.sftp: Sftp = lease.item.sftp
        self.is_lost = False


class Flows(Generic[Request, Result]):
    """Runs flows over one session of a pool, and a new one where the connection broke.

    Args:
        pool: gives the session.
        begin: makes the flow of a request; nothing may be sent before it is first resumed.
        alone: does a request by itself, after its flow raised `Alone` or Status.
        size_of: bytes that a request puts on the way.
        location: of a request, for errors.
    """

    def __init__(
        self,
        pool: Pool[Session],
        begin: Callable[[Line, Request], Generator[None, None, Result]],
        alone: Callable[[Request], Result],
        size_of: Callable[[Request], int],
        location: Callable[[Request], str],
    ) -> None:
        self._pool = pool
        self._begin = begin
        self._alone = alone
        self._size_of = size_of
        self._location = location
        self._line: Line | None = None
        self._flows: deque[tuple[Request, Generator[None, None, Result]]] = deque()
        self._bytes = 0
        self._steps = 0

    def run(self, requests: Iterable[Request | None]) -> Iterator[tuple[Request, Result | StorageError]]:
        """Yield each request with its result or error; as `StorageABC.read_many`."""
        try:
            for request in requests:
                if request is None:
                    # Once round, so that all that is under way goes on while nobody knows what is next.
                    for _ in range(len(self._flows)):
                        yield from self._advance()
                    if self._line is not None:
                        try:
                            self._line.sftp.flush()
                        except ConnectionLost as error:
                            yield from self._lose(error)
                    continue
                size = self._size_of(request)
                while self._flows and (len(self._flows) >= _FILES or self._bytes + size > _BYTES):
                    yield from self._advance()
                try:
                    if self._line is None:
                        self._line = Line(self._pool.lease())
                except StorageError as error:
                    yield request, error
                    continue
                self._bytes += size
                yield from self._step(request, self._begin(self._line, request))
            while self._flows:
                yield from self._advance()
        finally:
            self._end()

    def _advance(self) -> Iterator[tuple[Request, Result | StorageError]]:
        """Resume the flow that has waited longest."""
        if self._flows:
            yield from self._step(*self._flows.popleft())

    def _step(
        self, request: Request, flow: Generator[None, None, Result]
    ) -> Iterator[tuple[Request, Result | StorageError]]:
        """Resume one flow to its next wait, or yield how it ended."""
        line = self._line
        assert line is not None  # noqa: S101 - flows live no longer than their line
        self._flows.append((request, flow))
        try:
            next(flow)
            self._steps += 1
            if self._steps % _TOGETHER == 0:
                line.sftp.flush()
            return
        except StopIteration as end:
            result: Result | StorageError = end.value
        except (Alone, Status):
            self._drop()
            try:
                yield request, self._alone(request)
            except StorageError as error:
                yield request, error
            return
        except StorageError as error:
            result = error
        except (ConnectionLost, ProtocolError) as error:
            yield from self._lose(error)
            return
        self._drop()
        yield request, result

    def _drop(self) -> None:
        request, _ = self._flows.pop()
        self._bytes -= self._size_of(request)

    def _lose(self, error: Exception) -> Iterator[tuple[Request, StorageError]]:
        """Let go of a connection that broke; what was under way may be done or not."""
        lost, why = [request for request, _ in self._flows], str(error)
        self._end(broken=True)
        for request in lost:
            failure = Unavailable(self._location(request), why)
            failure.__cause__ = error
            yield request, failure

    def _end(self, *, broken: bool = False) -> None:
        """End the flows that are under way, and give the session back."""
        line, self._line = self._line, None
        if line is None:
            return
        line.is_lost = broken
        if broken:
            line.lease.discard()
        try:
            while self._flows:
                self._flows.popleft()[1].close()
            if not broken:
                line.sftp.flush()
        except (ConnectionLost, ProtocolError):
            line.is_lost = True
            line.lease.discard()
            while self._flows:
                self._flows.popleft()[1].close()
        except BaseException:
            line.lease.discard()  # something broke in, perhaps in the middle of an answer
            raise
        finally:
            self._flows.clear()
            self._bytes = 0
            line.lease.release()


class Asked:
    """The numbers of a flow's requests that are not answered yet."""

    def __init__(self, sftp: Sftp) -> None:
        self._sftp = sftp
        self._numbers: set[int] = set()

    def note(self, number: int) -> int:
        """Remember a request that was sent."""
        self._numbers.add(number)
        return number

    def take(self, number: int) -> int:
        """Return ``number``, whose answer is going to be taken."""
        self._numbers.remove(number)
        return number

    def forget(self) -> None:
        """Let the answers that nobody took be thrown away."""
        for number in self._numbers:
            self._sftp.forget(number)
        self._numbers.clear()
