"""Faults between a client and a real server, under the control of the test.

`FaultProxy` works on connections and bytes, `HttpFaults` on HTTP requests. Both stand before any server of
`deploy.servers`, which is then reached with ``server.settings(name, port=proxy.port)``::

    with FaultProxy(server.port) as proxy:
        proxy.cut(after=100_000, direction="up")
        ...                          # the first connection that sends 100,000 bytes ends there
        assert proxy.fired == 1

Each has an event loop in a thread of its own. Every control method returns when what it says is in force.
"""

from __future__ import annotations

import asyncio
import re
import socket
import struct
import threading
from collections.abc import Coroutine, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from http import HTTPStatus
from types import TracebackType
from typing import Any, Literal, Self

from deploy.servers import HOST, free_port

Direction = Literal["up", "down"]
_PIECE = 65536
_LINGER_ZERO = struct.pack("ii", 1, 0)  # closing then sends RST


@dataclass(eq=False)
class _Link:
    """One connection of a client's and the one to the server that belongs to it."""

    client: asyncio.StreamWriter
    server: asyncio.StreamWriter

    def end(self, *, reset: bool = False) -> None:
        for writer in (self.client, self.server):
            if reset:
                connection = writer.get_extra_info("socket")
                with suppress(OSError):
                    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _LINGER_ZERO)
                writer.transport.abort()
            else:
                writer.close()


class _Front:
    """Listens on a port of its own before a server.

    Attributes:
        port: where clients connect on 127.0.0.1.
        target: the port of the server behind.
        accepted: connections taken so far.
    """

    def __init__(self, target: int) -> None:
        self.target = target
        self.port = free_port()
        self.accepted = 0
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._listener: asyncio.Server | None = None
        self._links: set[_Link] = set()
        self._tasks: set[asyncio.Task[None]] = set()

    def start(self) -> Self:
        """Begin to listen."""
        self._thread.start()
        self._run(self._listen())
        return self

    def stop(self) -> None:
        """End all connections, stop listening and end the thread; this object cannot be started again."""
        self._run(self._leave())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def drop(self) -> None:
        """End all connections that are open now, in good order."""
        self._run(self._end_all())

    def refuse(self) -> None:
        """End all connections and refuse new ones until `heal`."""
        self._run(self._close_listener())
        self._run(self._end_all())

    def heal(self) -> None:
        """Remove all faults."""
        self._run(self._listen())

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def _run(self, work: Coroutine[Any, Any, None]) -> None:
        asyncio.run_coroutine_threadsafe(work, self._loop).result(timeout=30)

    async def _listen(self) -> None:
        if self._listener is None:
            self._listener = await asyncio.start_server(self._accept, HOST, self.port, limit=_PIECE, backlog=256)

    async def _close_listener(self) -> None:
        listener, self._listener = self._listener, None
        if listener is not None:
            listener.close()

    async def _end_all(self) -> None:
        for link in list(self._links):
            link.end()

    async def _leave(self) -> None:
        await self._close_listener()
        await self._end_all()
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        self.accepted += 1
        try:
            server_reader, server_writer = await asyncio.open_connection(HOST, self.target, limit=_PIECE)
        except OSError:
            writer.close()
            self._tasks.discard(task)
            return
        link = _Link(writer, server_writer)
        self._links.add(link)
        try:
            await self._serve(link, reader, server_reader)
        except (OSError, asyncio.CancelledError):
            pass  # one side has gone; so does the other
        finally:
            link.end()
            self._links.discard(link)
            self._tasks.discard(task)

    async def _serve(self, link: _Link, client: asyncio.StreamReader, server: asyncio.StreamReader) -> None:
        raise NotImplementedError


@dataclass(eq=False)
class _Rule:
    action: Literal["cut", "reset", "stall", "slow"]
    direction: Direction
    after: int
    left: int | None
    rate: float = 0.0
    seen: dict[_Link, int] = field(default_factory=dict)
    """Bytes that have passed on each connection since the rule was made."""
    struck: set[_Link] = field(default_factory=set)
    over: asyncio.Event = field(default_factory=asyncio.Event)

    def applies(self, link: _Link, direction: Direction) -> bool:
        return self.direction == direction and (link in self.struck or self.left is None or self.left > 0)

    def room(self, link: _Link) -> int:
        return self.after - self.seen.get(link, 0)

    def strike(self, link: _Link) -> bool:
        """Count the connection as struck; False where it has been before."""
        if link in self.struck:
            return False
        self.struck.add(link)
        if self.left is not None:
            self.left -= 1
        return True


class FaultProxy(_Front):
    """A TCP proxy that does harm to connections after an exact number of bytes.

    A fault waits for connections, open or new, that have passed ``after`` bytes in its direction, counted from when
    the fault was set: up is from the client to the server, down is back. It strikes when a further byte comes, so with
    ``after=0`` at the first. It strikes ``times`` connections, or with None every one, until `heal`.

    Attributes:
        fired: how many connections faults have struck so far.
        passed: bytes that have passed so far, by direction.
    """

    def __init__(self, target: int) -> None:
        super().__init__(target)
        self.fired = 0
        self.passed: dict[Direction, int] = {"up": 0, "down": 0}
        self._rules: list[_Rule] = []

    def cut(self, *, after: int, direction: Direction = "down", times: int | None = 1) -> None:
        """End the connection in good order on both sides after exactly ``after`` bytes."""
        self._run(self._add(_Rule("cut", direction, after, times)))

    def reset(self, *, after: int, direction: Direction = "down", times: int | None = 1) -> None:
        """Reset the connection on both sides after ``after`` bytes (those on their way may be lost, as ever)."""
        self._run(self._add(_Rule("reset", direction, after, times)))

    def stall(self, *, after: int, direction: Direction = "down", times: int | None = 1) -> None:
        """Pass nothing on after exactly ``after`` bytes, with the connection open, until `heal`."""
        self._run(self._add(_Rule("stall", direction, after, times)))

    def slow(
        self, *, bytes_per_second: float, after: int = 0, direction: Direction = "down", times: int | None = None
    ) -> None:
        """Pass on ``bytes_per_second`` at most, on each connection, after ``after`` bytes, until `heal`."""
        self._run(self._add(_Rule("slow", direction, after, times, bytes_per_second)))

    def heal(self) -> None:
        """Remove all faults: stalled connections go on, new ones are taken again."""
        self._run(self._remove_rules())
        super().heal()

    async def _add(self, rule: _Rule) -> None:
        self._rules.append(rule)

    async def _remove_rules(self) -> None:
        for rule in self._rules:
            rule.over.set()
        self._rules.clear()

    async def _serve(self, link: _Link, client: asyncio.StreamReader, server: asyncio.StreamReader) -> None:
        up = asyncio.create_task(self._pump(link, client, link.server, "up"))
        down = asyncio.create_task(self._pump(link, server, link.client, "down"))
        try:
            await asyncio.gather(up, down)
        finally:
            up.cancel()
            down.cancel()

    async def _pump(
        self, link: _Link, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, direction: Direction
    ) -> None:
        while piece := await reader.read(_PIECE):
            while piece:
                rules = [rule for rule in self._rules if rule.applies(link, direction)]
                size = len(piece)
                for rule in rules:
                    room = rule.room(link)
                    if room > 0:
                        size = min(size, room)
                        continue
                    if rule.strike(link):
                        self.fired += 1
                    if rule.action == "slow":
                        size = min(size, max(1, int(rule.rate / 20)))
                        await asyncio.sleep(size / rule.rate)
                    elif rule.action == "stall":
                        await rule.over.wait()
                        break
                    else:
                        link.end(reset=rule.action == "reset")
                        raise ConnectionAbortedError
                else:
                    writer.write(piece[:size])
                    await writer.drain()
                    piece = piece[size:]
                    self.passed[direction] += size
                    for rule in rules:
                        rule.seen[link] = rule.seen.get(link, 0) + size
        if writer.can_write_eof():
            writer.write_eof()


@dataclass(frozen=True)
class Request:
    """The head of a request that came by.

    Attributes:
        method: such as PUT.
        target: path and query as sent.
        headers: names in lower case; of repeated ones the last.
    """

    method: str
    target: str
    headers: Mapping[str, str]


@dataclass(eq=False)
class _Answer:
    status: int
    times: int | None
    method: str | None
    path: re.Pattern[str]
    after: int
    headers: tuple[tuple[str, str], ...]
    body: bytes

    def matches(self, request: Request) -> bool:
        return (self.method is None or self.method == request.method) and bool(self.path.search(request.target))


class HttpFaults(_Front):
    """An HTTP front that answers some requests itself, with an error, and passes all others to the server unchanged.

    Heads and bodies pass as the bytes that they are, streaming, in both directions.

    Attributes:
        requests: the heads of all requests so far, those answered here too.
        fired: requests answered here so far.
    """

    def __init__(self, target: int) -> None:
        super().__init__(target)
        self.requests: list[Request] = []
        self.fired = 0
        self._answers: list[_Answer] = []

    def answer(
        self,
        status: int,
        *,
        times: int | None = 1,
        method: str | None = None,
        path: str = "",
        after: int = 0,
        retry_after: str | float | None = None,
        headers: Mapping[str, str] | None = None,
        body: bytes = b"",
    ) -> None:
        """Answer the next ``times`` requests (None = all until `heal`) that match, instead of the server.

        Args:
            status: such as 429, 500, 503.
            times: how many.
            method: only those with this method.
            path: only those in whose target (path and query, encoded) this regular expression is found.
            after: matching requests that pass first.
            retry_after: value of the Retry-After header: seconds or a date.
            headers: further ones.
            body: of the answer.
        """
        extra = dict(headers or {})
        if retry_after is not None:
            extra["Retry-After"] = str(retry_after)
        new = _Answer(status, times, method, re.compile(path), after, tuple(extra.items()), body)
        self._run(self._add(new))

    def heal(self) -> None:
        """Pass everything on again."""
        self._run(self._remove_answers())
        super().heal()

    async def _add(self, new: _Answer) -> None:
        self._answers.append(new)

    async def _remove_answers(self) -> None:
        self._answers.clear()

    def _choose(self, request: Request) -> _Answer | None:
        for answer in self._answers:
            if answer.times != 0 and answer.matches(request):
                if answer.after:
                    answer.after -= 1
                    continue
                if answer.times is not None:
                    answer.times -= 1
                return answer
        return None

    async def _serve(self, link: _Link, client: asyncio.StreamReader, server: asyncio.StreamReader) -> None:
        # The answers need not be understood: a client sends its next request only when it has the whole last answer.
        down = asyncio.create_task(_copy_all(server, link.client))
        up = asyncio.create_task(self._requests(link, client))
        try:
            done, _ = await asyncio.wait((up, down), return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                task.result()
        finally:
            up.cancel()
            down.cancel()
            await asyncio.gather(up, down, return_exceptions=True)

    async def _requests(self, link: _Link, client: asyncio.StreamReader) -> None:
        while head := await _read_head(client):
            request = _parse(head)
            self.requests.append(request)
            answer = self._choose(request)
            if answer is None:
                link.server.write(head)
                await _copy_body(request, client, link.server)
                continue
            self.fired += 1
            waits = request.headers.get("expect", "").lower() == "100-continue"
            if not waits:
                await _copy_body(request, client, None)
            await _send(link.client, request, answer, close=waits)
            if waits:
                return


async def _read_head(reader: asyncio.StreamReader) -> bytes:
    """Return a request's head with the empty line; nothing at the end of the stream."""
    lines = []
    while line := await reader.readline():
        lines.append(line)
        if line in (b"\r\n", b"\n") and len(lines) > 1:
            return b"".join(lines)
    return b""


def _parse(head: bytes) -> Request:
    first, *others = head.decode("latin-1").splitlines()
    method, target, _ = first.split(" ", 2)
    pairs = (line.partition(":") for line in others if line)
    return Request(method, target, {name.strip().lower(): value.strip() for name, _, value in pairs})


async def _copy_body(request: Request, reader: asyncio.StreamReader, writer: asyncio.StreamWriter | None) -> None:
    """Pass a request's body on as it is; with no writer read it only."""
    if "chunked" in request.headers.get("transfer-encoding", "").lower():
        while line := await reader.readline():
            size = int(line.split(b";")[0], 16)
            await _pass(line, writer)
            if size == 0:
                break
            await _copy_bytes(size + 2, reader, writer)
        while line := await reader.readline():  # trailers, and the empty line
            await _pass(line, writer)
            if line == b"\r\n":
                return
    else:
        await _copy_bytes(int(request.headers.get("content-length", "0")), reader, writer)
    if writer is not None:
        await writer.drain()


async def _copy_bytes(size: int, reader: asyncio.StreamReader, writer: asyncio.StreamWriter | None) -> None:
    while size > 0:
        piece = await reader.read(min(size, _PIECE))
        if not piece:
            raise ConnectionAbortedError
        size -= len(piece)
        await _pass(piece, writer)


async def _pass(piece: bytes, writer: asyncio.StreamWriter | None) -> None:
    if writer is not None:
        writer.write(piece)
        await writer.drain()


async def _copy_all(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while piece := await reader.read(_PIECE):
        await _pass(piece, writer)


async def _send(writer: asyncio.StreamWriter, request: Request, answer: _Answer, *, close: bool) -> None:
    lines = [f"HTTP/1.1 {answer.status} {HTTPStatus(answer.status).phrase}", f"Content-Length: {len(answer.body)}"]
    lines += [f"{name}: {value}" for name, value in answer.headers]
    if close:
        lines.append("Connection: close")
    body = b"" if request.method == "HEAD" else answer.body
    await _pass(("\r\n".join(lines) + "\r\n\r\n").encode("latin-1") + body, writer)
