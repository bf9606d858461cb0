"""The body of an upload, as it comes."""

from __future__ import annotations

from collections.abc import Iterator

from anyio import from_thread
from fastapi import Request
from starlette.requests import ClientDisconnect

from cloudmesh.storage.abc import CHUNK
from cloudmesh.storage.errors import SourceChanged


class Incoming:
    """A request's body in pieces of a mebibyte, iterated once, in a thread of the pool; the guards limit its size.

    Args:
        request: whose.
        subject: what is uploaded, for errors.

    Attributes:
        size: bytes; None where the request does not tell.
    """

    def __init__(self, request: Request, subject: str) -> None:
        length = request.headers.get("content-length", "")
        self.size = int(length) if length.isdigit() else None
        self._stream = request.stream()
        self._subject = subject

    def __iter__(self) -> Iterator[bytes]:
        """Yield the pieces.

        Raises:
            SourceChanged: it was cut.
        """
        held = bytearray()
        while (piece := from_thread.run(self._next)) is not None:
            held += piece
            if len(held) >= CHUNK:
                yield bytes(held)
                held.clear()
        if held:
            yield bytes(held)

    async def _next(self) -> bytes | None:
        try:
            return await anext(self._stream, None)
        except ClientDisconnect:
            raise SourceChanged(self._subject, "the upload was cut") from None
