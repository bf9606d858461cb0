"""What a method returned, as the answer to a request: what the command prints with ``--output=json``."""

from __future__ import annotations

import asyncio
import itertools
import logging
from collections.abc import AsyncIterator, Iterable, Iterator, Mapping
from typing import Any

from fastapi import Request, Response
from starlette.concurrency import run_in_threadpool
from starlette.responses import StreamingResponse
from starlette.types import Send

from cloudmesh.cdir.offers import row_type
from cloudmesh.storage.abc import CHUNK, Reader
from cloudmesh.storage.errors import StorageError
from cloudmesh.storage.output import gives_bytes, json_text

JSON = "application/json"
NDJSON = "application/x-ndjson"
BYTES = "application/octet-stream"

_log = logging.getLogger(__name__)

PATIENCE_S = 20.0
"""Whoever waits for an answer does not wait as long as a command: most give up after 30 s or 60 s."""

PIECE = 64 * 1024
"""Characters of rows that are sent together."""


def answer(result: Any, returns: Any, request: Request) -> Response:
    """Return the answer that holds a result; rows are sent as they come, in memory that does not grow with them.

    An array that failed on its way stays open and its connection is cut, so that nobody takes it for the whole; so do
    lines (NDJSON), which who asks gets with ``Accept: application/x-ndjson``.

    Args:
        result: what the method returned.
        returns: its return annotation.
        request: that is answered.

    Raises:
        StorageError: the rows fail before any was sent.
    """
    if gives_bytes(returns):
        return _streamed(iter(result), BYTES)
    if row_type(returns) is None and not isinstance(result, Iterator):
        return Response(json_text(result), media_type=JSON)
    if NDJSON in request.headers.get("accept", ""):
        return _streamed(_pieces(json_text(row) + "\n" for row in result), NDJSON)
    return _streamed(_pieces(_array(result)), JSON)


def closing(reader: Reader) -> Iterator[bytes]:
    """Yield what a reader gives, in pieces of at least a mebibyte but the last: each costs a change of threads.

    The reader is closed also where nobody asks for a piece any more, as who asked has gone.
    """
    pieces = _closing(reader)
    next(pieces)  # one that was never begun would not end the block in it
    return pieces


def _closing(reader: Reader) -> Iterator[bytes]:
    with reader:
        yield b""
        held: list[bytes] = []
        size = 0
        for piece in reader:
            held.append(piece)
            size += len(piece)
            if size >= CHUNK:
                yield b"".join(held) if len(held) > 1 else piece
                held, size = [], 0
        if held:
            yield b"".join(held)


def sent(pieces: Iterator[bytes], length: int | None, status: int, headers: Mapping[str, str]) -> Response:
    """Return the answer that holds bytes; those that fit into one piece are read at once, in this thread.

    Args:
        pieces: of `closing`.
        length: bytes in all; None where that is not known.
        status: HTTP's.
        headers: of the answer, with ``Content-Length`` where that is known.
    """
    if length is not None and length <= CHUNK:
        return Response(b"".join(pieces), status, headers)
    return Streamed(pieces, status, headers)


class Streamed(StreamingResponse):
    """An answer sent piece by piece; one that fails on its way is cut, so that nobody takes it for the whole."""

    def __init__(
        self,
        pieces: Iterator[bytes],
        status_code: int = 200,
        headers: Mapping[str, str] | None = None,
        media_type: str | None = None,
    ) -> None:
        """Take the pieces, which are read in a thread."""
        super().__init__(_ahead(pieces), status_code, headers, media_type)

    async def stream_response(self, send: Send) -> None:
        """Send head and pieces; the server closes the connection of an answer without an end."""
        try:
            await super().stream_response(send)
        except StorageError as error:
            _log.warning("an answer was cut: %s", error)


async def _ahead(pieces: Iterator[bytes]) -> AsyncIterator[bytes]:
    """Yield what is read in a thread, the next piece being read while one is sent."""
    following = asyncio.ensure_future(run_in_threadpool(next, pieces, None))
    while (piece := await following) is not None:
        following = asyncio.ensure_future(run_in_threadpool(next, pieces, None))
        yield piece


def _array(rows: Iterable[Any]) -> Iterator[str]:
    opening = "["
    for row in rows:
        yield f"{opening}\n{json_text(row)}"
        opening = ","
    yield "[]\n" if opening == "[" else "\n]\n"


def _pieces(texts: Iterable[str]) -> Iterator[bytes]:
    held: list[str] = []
    size = 0
    for text in texts:
        held.append(text)
        size += len(text)
        if size > PIECE:
            yield "".join(held).encode()
            held, size = [], 0
    yield "".join(held).encode()


def _streamed(pieces: Iterator[bytes], media_type: str) -> Response:
    first = list(itertools.islice(pieces, 2))  # what fails at once is answered with its status
    if len(first) < 2:
        return Response(b"".join(first), media_type=media_type)
    return Streamed(itertools.chain(first, pieces), media_type=media_type)
