"""What feeds a body to libcurl, which pulls it as fast as the service takes it."""

from __future__ import annotations

import pycurl

from cloudmesh.storage.errors import SourceChanged, Unavailable
from cloudmesh.storage.http_body import Body


class Source:
    """Feeds a body to libcurl piece by piece and makes sure that a wrong length never looks like a whole file.

    Attributes:
        error: why it could not go on, to be raised once libcurl has given up.
        asked: set whenever libcurl asks for bytes, which it does while the service takes them.
        answered: whether an answer has come since it asked last, or it never asked.

    With ``once`` it is not sent again because the connection broke: a server may still be at work on what it got, and
    what comes second would be overwritten by that.
    """

    def __init__(self, body: Body, subject: str, *, once: bool) -> None:
        self.body = body
        self.subject = subject
        self.error: BaseException | None = None
        self.asked = False
        self.answered = True
        self._once = once
        self._opened = False

    def _restart(self) -> None:
        if self._opened and not self.body.replayable:
            raise Unavailable(self.subject, "the connection broke, and the source can be read only once")
        self._opened = True
        self._pieces = iter(self.body.open())
        self._view = memoryview(b"")
        self._given = 0

    def _next(self) -> memoryview:
        """Return the next piece that is not empty; empty at the end."""
        for piece in self._pieces:
            if piece:
                return memoryview(piece)
        return memoryview(b"")

    def read(self, limit: int) -> bytes | int:
        """Return up to ``limit`` bytes, as libcurl asks for them."""
        self.asked = True
        self.answered = False
        try:
            if not self._opened:
                self._restart()
            if not self._view:
                self._view = self._next()
            size = self.body.size
            if size is not None:
                if not self._view and self._given < size:
                    raise SourceChanged(self.subject, f"the source ended after {self._given} of {size} bytes")
                if self._given + len(self._view) > size:
                    raise SourceChanged(self.subject, f"the source gives more than {size} bytes")
            part = self._view[:limit]
            rest = self._view[limit:]
            # The service takes the file for whole once it has the last byte: first see that there is no more.
            last = part and not rest and self._given + len(part) == size
            if last and self._next():
                raise SourceChanged(self.subject, f"the source gives more than {size} bytes")
            self._view = rest
            self._given += len(part)
            return bytes(part)
        except BaseException as error:  # it must not be lost in C code: raised again by the exchange
            self.error = error
            return int(pycurl.READFUNC_ABORT)

    def seek(self, offset: int, origin: int) -> int:
        """Begin again, when libcurl has to send the body once more (a Digest nonce ran out, a stale connection)."""
        try:
            if self._once and not self.answered:
                raise Unavailable(self.subject, "the connection broke while sending")
            if offset or origin:
                return int(pycurl.SEEKFUNC_CANTSEEK)
            if self._opened:
                self._restart()
            return int(pycurl.SEEKFUNC_OK)
        except BaseException as error:
            self.error = error
            return int(pycurl.SEEKFUNC_FAIL)

    def check_empty(self) -> None:
        """An empty body is never asked for: see that its source is really empty."""
        if self.body.size == 0:
            self._restart()
            if self._next():
                raise SourceChanged(self.subject, "the source gives more than 0 bytes")
