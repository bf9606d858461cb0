"""Many HTTP requests under way at once in one thread: a loop over libcurl's multi handle, for any protocol over HTTP.

A thread a request costs more than the request where files are small (put of 3,000 × 4 KiB: 0.42 s of CPU with threads,
0.23 s so). Bodies are wholly in memory, unless an answer's goes to a `Transfer.sink`. Redirects are never followed, so
credentials never reach another host. What an answer means is the caller's business; a request that got none ends in a
`Failure`, which tells no header and no URL.
"""

from __future__ import annotations

import io
import threading
import time
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pycurl

from cloudmesh.storage.abc import Timeouts
from cloudmesh.storage.http_source import Source

_BUFFER = 512 * 1024
_LINE = "iso-8859-1"
_BLANK = " \t\r"
_GLANCE = 0.005
"""Seconds until the next request is asked for again while it is not known yet."""


@dataclass(slots=True, eq=False)
class Transfer:
    """One request.

    Attributes:
        method: any; the answer to ``HEAD`` has no body. Empty for one that is not sent but comes back at once, with a
            `Failure` of code 0: so that what is refused beforehand comes in its turn.
        url: percent-encoded already; sent as it is.
        headers: sent as they are, with Host, User-Agent, Accept and Content-Length.
        body: None where the method has none.
        once: never send the body a second time by itself, as libcurl does where a kept connection turns out to be
            broken: for a request that fails when it is done twice.
        source: gives the body instead, as it is sent; once. What it raises ends the run.
        options: libcurl's, such as ``pycurl.HTTPAUTH``. They stay set on the handle, which later transfers use too: so
            all transfers of one `HttpMulti` set the same ones.
        sink: called with the head of an answer (an empty body) when its body begins; gives what takes the body's
            pieces, which are then not in `Answer.body`, or None. What either raises ends the run.
        context: the caller's own.
    """

    method: str
    url: str
    headers: Sequence[tuple[str, str]] = ()
    body: bytes | None = None
    once: bool = False
    source: Source | None = None
    options: Sequence[tuple[int, Any]] = ()
    sink: Callable[[Answer], Callable[[bytes], object] | None] | None = None
    context: Any = None


_NONE = Transfer("", "")


@dataclass(frozen=True, slots=True)
class Answer:
    """The whole answer to a request.

    Attributes:
        status: of HTTP.
        headers: by lower-case name; those that came more than once are joined by commas.
        body: as long as Content-Length promised, where it did.
    """

    status: int
    headers: dict[str, str]
    body: bytes


@dataclass(frozen=True, slots=True)
class Failure:
    """Why there is no whole answer.

    Attributes:
        code: libcurl's ``pycurl.E_…``; E_OPERATION_TIMEDOUT also where nothing moved for the read timeout.
        message: libcurl's words, not for the user.
        verified: OpenSSL's result of verifying the server's certificate; 0 is good.
        stalled: whether the connection was there and nothing moved on it for the read timeout.
    """

    code: int
    message: str = ""
    verified: int = 0
    stalled: bool = False


class HttpMulti:
    """Sends requests to one service, several at once in the caller's thread; connections are kept for the next.

    Thread-safe: each call of `run` that is under way has connections of its own.
    """

    def __init__(self, timeouts: Timeouts, parallel: int) -> None:
        """Take the limits; open nothing yet.

        Args:
            timeouts: ``read`` counts while nothing moves on a connection, waiting for an answer included.
            parallel: requests that one `run` has under way, unless it is told otherwise.
        """
        self._timeouts = timeouts
        self._parallel = parallel
        self._idle: list[_Loop] = []
        self._lock = threading.Lock()
        self._closed = False

    def run(
        self, transfers: Iterable[Transfer | None], parallel: int | None = None
    ) -> Generator[tuple[Transfer, Answer | Failure]]:
        """Make requests and yield each as it ends, in any order.

        Nothing happens until the iterator is advanced. ``transfers`` is read only as far as there are free places;
        None in it says that the next one is not known yet: what is under way goes on and then it is asked again, at
        once where nothing is under way (so ``transfers`` waits by itself then). Giving the iterator up ends what is
        under way. Time that the caller takes does not count for the read timeout.

        Args:
            transfers: read in the caller's thread. What it raises ends the run.
            parallel: requests under way at once.
        """
        loop = self._take()
        try:
            yield from loop.run(transfers, parallel or self._parallel)
        finally:
            self._give_back(loop)

    def request(self, transfer: Transfer) -> Answer | Failure:
        """Make one request."""
        ((_, result),) = self.run((transfer,))
        return result

    def close(self) -> None:
        """Close all idle connections; those in use close when they are no longer."""
        with self._lock:
            self._closed = True
            idle, self._idle = self._idle, []
        for loop in idle:
            loop.close()

    def _take(self) -> _Loop:
        with self._lock:
            if self._idle:
                return self._idle.pop()
        return _Loop(self._timeouts)

    def _give_back(self, loop: _Loop) -> None:
        loop.abandon()
        with self._lock:
            if not self._closed and len(self._idle) < self._parallel:
                self._idle.append(loop)
                return
        loop.close()


class _Once:
    """A body that is given again only after an answer to it, such as 401 because a Digest nonce ran out."""

    def __init__(self, body: bytes, lines: list[bytes]) -> None:
        self._body = io.BytesIO(body)
        self._lines = lines
        self._before: int | None = None

    def read(self, limit: int) -> bytes:
        if self._before is None:
            self._before = len(self._lines)
        return self._body.read(limit)

    def seek(self, offset: int, origin: int) -> int:
        if self._before is not None and len(self._lines) <= self._before:
            return int(pycurl.SEEKFUNC_FAIL)
        self._before = None
        self._body.seek(offset, origin)
        return int(pycurl.SEEKFUNC_OK)


class _Slot:
    """A place for one request at a time: an easy handle, and what has come of the answer."""

    __slots__ = ("easy", "error", "lines", "moved", "pieces", "since", "take", "transfer", "trusts")

    def __init__(self, timeouts: Timeouts) -> None:
        self.easy: Any = pycurl.Curl()
        self.lines: list[bytes] = []
        self.pieces: list[bytes] = []
        self.take: Callable[[bytes], object] | None = None
        self.error: BaseException | None = None
        self.transfer = _NONE
        self.since = 0.0
        self.moved: tuple[int, int, int] | None = None
        self.trusts = False
        easy = self.easy
        easy.setopt(pycurl.NOSIGNAL, 1)
        easy.setopt(pycurl.HTTP_VERSION, pycurl.CURL_HTTP_VERSION_1_1)
        easy.setopt(pycurl.FOLLOWLOCATION, 0)
        easy.setopt(pycurl.PROTOCOLS, pycurl.PROTO_HTTP | pycurl.PROTO_HTTPS)
        easy.setopt(pycurl.PATH_AS_IS, 1)
        easy.setopt(pycurl.TCP_KEEPALIVE, 1)
        easy.setopt(pycurl.BUFFERSIZE, _BUFFER)
        easy.setopt(pycurl.UPLOAD_BUFFERSIZE, _BUFFER)
        easy.setopt(pycurl.CONNECTTIMEOUT_MS, max(1, int(timeouts.connect * 1000)))
        easy.setopt(pycurl.USERAGENT, "cloudmesh-vdir")
        easy.setopt(pycurl.HEADERFUNCTION, self.lines.append)

    def prepare(self, transfer: Transfer) -> None:
        """Make the handle ready to be added to a multi handle."""
        self.transfer = transfer
        easy = self.easy
        names = {name.lower() for name, _ in transfer.headers}
        lines = [f"{name}: {value}".encode() for name, value in transfer.headers]
        if "accept" not in names:
            lines.append(b"Accept: */*")
        body, source = transfer.body, transfer.source
        if source is not None:
            lines.append(b"Expect:")
            self._upload(source.body.size, source.read, source.seek)
        elif body is None:
            easy.setopt(pycurl.HTTPGET, 1)
            if transfer.method == "HEAD":
                easy.setopt(pycurl.NOBODY, 1)
        else:
            lines.append(b"Expect:")
            if transfer.once:
                sending = _Once(body, self.lines)
                self._upload(len(body), sending.read, sending.seek)
            else:
                easy.setopt(pycurl.POST, 1)
                easy.setopt(pycurl.POSTFIELDS, body)
                if "content-type" not in names:
                    lines.append(b"Content-Type:")
        easy.setopt(pycurl.WRITEFUNCTION, self.pieces.append if transfer.sink is None else self._hand_on)
        easy.setopt(pycurl.CUSTOMREQUEST, transfer.method)
        easy.setopt(pycurl.URL, transfer.url)
        easy.setopt(pycurl.HTTPHEADER, lines)
        if transfer.url.startswith("https") and not self.trusts:
            self._trust_the_system()
        for option, value in transfer.options:
            easy.setopt(option, value)

    def _upload(self, size: int | None, read: Callable[[int], bytes | int], seek: Callable[[int, int], int]) -> None:
        """Let libcurl ask for a body of ``size`` bytes; None where that is not known."""
        easy = self.easy
        easy.setopt(pycurl.UPLOAD, 1)
        easy.setopt(pycurl.INFILESIZE_LARGE, -1 if size is None else size)
        easy.setopt(pycurl.READFUNCTION, read)
        easy.setopt(pycurl.SEEKFUNCTION, seek)

    def _hand_on(self, piece: bytes) -> int:
        """Give a piece of the body to the transfer's sink; an error is kept, as libcurl would not pass it on."""
        try:
            if self.take is None:
                sink = self.transfer.sink
                self.take = (sink(self.answer()) if sink is not None else None) or self.pieces.append
            self.take(piece)
        except BaseException as error:
            self.error = error
            return -1
        return len(piece)

    def _trust_the_system(self) -> None:
        """Know the system's certificate authorities, or those that SSL_CERT_FILE and SSL_CERT_DIR name."""
        import ssl

        self.trusts = True
        places = ssl.get_default_verify_paths()
        if places.cafile:
            self.easy.setopt(pycurl.CAINFO, places.cafile)
        if places.capath and Path(places.capath).is_dir():
            self.easy.setopt(pycurl.CAPATH, places.capath)

    def has_moved(self) -> bool:
        """Tell whether a byte was sent or has come since this was asked last."""
        getinfo = self.easy.getinfo
        now = (getinfo(pycurl.SIZE_UPLOAD_T), getinfo(pycurl.SIZE_DOWNLOAD_T), getinfo(pycurl.HEADER_SIZE))
        before, self.moved = self.moved, now
        return now != before

    def has_whole_head(self) -> bool:
        """Tell whether the head of an answer came to its end, the blank line."""
        for line in reversed(self.lines):
            if line.startswith(b"HTTP/"):
                break
            if not line.strip():
                return True
        return False

    def answer(self) -> Answer:
        """Return what has come."""
        status, headers = 0, dict[str, str]()
        for line in b"".join(self.lines).decode(_LINE).split("\n"):
            if line.startswith("HTTP/"):  # after one with a status from 100 to 199 comes another
                status = int(line.split(None, 2)[1])
                headers = {}
            elif ":" in line:
                name, _, value = line.partition(":")
                name, value = name.rstrip().lower(), value.strip(_BLANK)
                headers[name] = f"{headers[name]}, {value}" if name in headers else value
        return Answer(status, headers, self.pieces[0] if len(self.pieces) == 1 else b"".join(self.pieces))

    def clear(self) -> None:
        """Forget the request and its bytes."""
        if self.transfer.body:
            self.easy.setopt(pycurl.POSTFIELDS, b"")
        self.easy.setopt(pycurl.READFUNCTION, None)  # both hold what is sent, and its open source
        self.easy.setopt(pycurl.SEEKFUNCTION, None)
        self.transfer = _NONE
        self.moved = None
        self.take = None
        self.error = None
        self.lines.clear()
        self.pieces.clear()


class _Loop:
    """A multi handle with its connections, used by one run at a time."""

    def __init__(self, timeouts: Timeouts) -> None:
        self._timeouts = timeouts
        self._multi: Any = pycurl.CurlMulti()
        self._free: list[_Slot] = []
        self._busy: dict[Any, _Slot] = {}
        self._waited = 0.0
        self._watched = 0.0

    def run(self, transfers: Iterable[Transfer | None], parallel: int) -> Iterator[tuple[Transfer, Answer | Failure]]:
        """See `HttpMulti.run`."""
        self._multi.setopt(pycurl.M_MAXCONNECTS, parallel)
        source = iter(transfers)
        more = True
        while more or self._busy:
            known = True
            while more and known and len(self._busy) < parallel:
                try:
                    transfer = next(source)
                except StopIteration:
                    more = False
                    break
                if transfer is None:
                    known = False
                elif not transfer.method:
                    yield transfer, Failure(0, "not sent")
                else:
                    self._start(transfer)
            if not self._busy:
                continue
            self._multi.perform()
            ended = [*self._ended(), *self._stalled()]
            if ended:
                yield from ended
            else:
                self._wait(min(1.0, self._timeouts.read / 4) if known else _GLANCE)

    def _start(self, transfer: Transfer) -> None:
        slot = self._free.pop() if self._free else _Slot(self._timeouts)
        slot.prepare(transfer)
        slot.since = self._waited
        self._multi.add_handle(slot.easy)
        self._busy[slot.easy] = slot

    def _end(self, easy: Any) -> _Slot:
        slot = self._busy.pop(easy)
        self._multi.remove_handle(easy)
        return slot

    def _ended(self) -> Iterator[tuple[Transfer, Answer | Failure]]:
        queued = 1
        while queued:
            queued, good, bad = self._multi.info_read()
            for easy in good:
                slot = self._end(easy)
                # libcurl takes for an answer what breaks off in its head
                yield self._result(slot, slot.answer() if slot.has_whole_head() else Failure(pycurl.E_GOT_NOTHING))
            for easy, code, message in bad:
                slot = self._end(easy)
                source = slot.transfer.source
                error = slot.error or (source.error if source is not None else None)
                if error is not None:
                    slot.clear()
                    self._free.append(slot)
                    raise error
                yield self._result(slot, Failure(code, message, easy.getinfo(pycurl.SSL_VERIFYRESULT)))

    def _stalled(self) -> Iterator[tuple[Transfer, Answer | Failure]]:
        """End those on which nothing moved for too long; what counts is the time that was spent waiting here."""
        patience = self._timeouts.read
        if self._waited - self._watched < min(1.0, patience / 4):
            return
        self._watched = self._waited
        for slot in list(self._busy.values()):
            if slot.has_moved() or not slot.easy.getinfo(pycurl.PRETRANSFER_TIME):
                slot.since = self._waited
            elif self._waited - slot.since >= patience:
                self._end(slot.easy)
                yield self._result(slot, Failure(pycurl.E_OPERATION_TIMEDOUT, stalled=True))

    def _result(self, slot: _Slot, result: Answer | Failure) -> tuple[Transfer, Answer | Failure]:
        transfer = slot.transfer
        slot.clear()
        self._free.append(slot)
        return transfer, result

    def _wait(self, seconds: float) -> None:
        wanted = self._multi.timeout()
        if wanted >= 0:
            seconds = min(seconds, wanted / 1000)
        begun = time.monotonic()
        if self._multi.select(seconds) < 0:
            time.sleep(min(seconds, 0.001))  # there is no socket yet
        self._waited += time.monotonic() - begun

    def abandon(self) -> None:
        """End what is under way, and close its connections."""
        for easy in list(self._busy):
            slot = self._end(easy)
            slot.clear()
            self._free.append(slot)

    def close(self) -> None:
        """Close all connections."""
        for slot in self._free:
            slot.easy.close()
        self._multi.close()
