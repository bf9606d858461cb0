"""How the server listens: with TLS wherever others can reach it, and without patience for slow clients."""

from __future__ import annotations

import asyncio
from collections import Counter
from dataclasses import dataclass
from functools import partial
from typing import Any

from uvicorn.protocols.http.auto import AutoHTTPProtocol

from cloudmesh.cdir.service.security.rates import address_key
from cloudmesh.cdir.service.security.settings import Settings
from cloudmesh.cdir.service.security.targets import MAX_HEAD_BYTES
from cloudmesh.cdir.service.security.tls import is_loopback
from cloudmesh.storage.errors import Refused

KEEP_ALIVE_S = 15
"""For how long a connection is kept open between two requests."""

_LEAST_BYTES = 16 << 10
_LOOKS = 5


def listening(host: str, settings: Settings) -> dict[str, Any]:
    """Return the arguments of `uvicorn.Config` with which to listen at ``host``.

    Raises:
        Refused: others can reach it, and there is no TLS.
    """
    if settings.certificate is None and not is_loopback(host):
        why = "others could read along: beyond this computer the service listens with TLS alone"
        raise Refused(host, why, "give it a certificate, or let it make one")
    patience = Patience(settings.head_s, settings.stall_s, settings.connections_each)
    return {
        "http": partial(Impatient, patience=patience),
        "ws": "none",
        "ssl_certfile": settings.certificate,
        "ssl_keyfile": settings.key,
        "limit_concurrency": settings.connections,
        "timeout_keep_alive": KEEP_ALIVE_S,
        "h11_max_incomplete_event_size": MAX_HEAD_BYTES,
        "server_header": False,
        # whoever can send X-Forwarded-For would choose the address that is counted and written down
        "proxy_headers": False,
    }


@dataclass(frozen=True, slots=True)
class Patience:
    """How long a connection is waited for; the fields are those of `Settings`."""

    head_s: float
    stall_s: float
    connections_each: int


class _Together:
    """A transport that sends a head with the beginning of its body: as one packet, and not as the server writes them.

    Args:
        transport: to send on.
        loop: that it belongs to: what nothing follows in this turn of it is sent in the next.
    """

    def __init__(self, transport: Any, loop: asyncio.AbstractEventLoop) -> None:
        self._transport = transport
        self._loop = loop
        self._held = b""

    def write(self, data: bytes) -> None:
        """Send what is held, and with it this; hold it where nothing is held and it is no more than a head."""
        if self._held:
            held, self._held = self._held, b""
            self._transport.writelines((held, data))
        elif len(data) > MAX_HEAD_BYTES:
            self._transport.write(data)
        else:
            self._held = data
            self._loop.call_soon(self._send_held)

    def close(self) -> None:
        """Send what is held, and close."""
        self._send_held()
        self._transport.close()

    def _send_held(self) -> None:
        if self._held:
            held, self._held = self._held, b""
            self._transport.write(held)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)


_open_from: Counter[tuple[int, str]] = Counter()
"""Connections by server and address."""


class Impatient(AutoHTTPProtocol):  # type: ignore[misc, valid-type]
    """One connection, which is looked at every now and then.

    The server itself waits without end for a head, for a body, and for a client that does not read.
    """

    _look: Any = None

    def __init__(self, *arguments: Any, patience: Patience, **more: Any) -> None:
        super().__init__(*arguments, **more)
        self._patience = patience
        self._each_s = min(patience.head_s, patience.stall_s) / _LOOKS

    def connection_made(self, transport: Any) -> None:
        """Begin to look after a new connection, unless its address has too many."""
        super().connection_made(_Together(transport, self.loop))
        now = self.loop.time()
        self._head_since: float | None = now
        self._head_bytes = 0
        self._body_since, self._body_bytes = now, 0
        self._write_since: float | None = None
        address = (transport.get_extra_info("peername") or ("unknown",))[0]
        self._from = id(self.server_state), address_key(address)
        _open_from[self._from] += 1
        if _open_from[self._from] > self._patience.connections_each:
            transport.abort()
        else:
            self._look = self.loop.call_later(self._each_s, self._look_after)

    def connection_lost(self, exc: Exception | None) -> None:
        """Look after it no longer."""
        if self._look is not None:
            self._look.cancel()
        _open_from[self._from] -= 1
        if _open_from[self._from] <= 0:
            del _open_from[self._from]
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Take note of what has come."""
        if self._head_since is None and self._waits_for_head():
            self._head_since = self.loop.time()
        super().data_received(data)
        self._body_bytes += len(data)
        if self._waits_for_head():
            self._head_bytes += len(data)
            if self._head_bytes > MAX_HEAD_BYTES:
                self.transport.abort()
        else:
            if self._head_since is not None:  # a request begins
                self._body_since, self._body_bytes = self.loop.time(), 0
            self._head_since, self._head_bytes = None, 0

    def pause_writing(self) -> None:
        """Take note that the client does not read."""
        self._write_since = self.loop.time()
        super().pause_writing()

    def resume_writing(self) -> None:
        """Take note that the client has read."""
        self._write_since = None
        super().resume_writing()

    def _waits_for_head(self) -> bool:
        return self.cycle is None or self.cycle.response_complete

    def _look_after(self) -> None:
        if self._is_late(self.loop.time()):
            # no polite end: that would wait for the client once more
            self.transport.abort()
        else:
            self._look = self.loop.call_later(self._each_s, self._look_after)

    def _is_late(self, now: float) -> bool:
        if self._write_since is not None and now - self._write_since > self._patience.stall_s:
            return True
        if self._waits_for_head():
            return self._head_since is not None and now - self._head_since > self._patience.head_s
        if not self.cycle.more_body or self.flow.read_paused:  # there it is not the client that is waited for
            self._body_since, self._body_bytes = now, 0
        if now - self._body_since <= self._patience.stall_s:
            return False
        is_late = self._body_bytes < _LEAST_BYTES
        self._body_since, self._body_bytes = now, 0
        return is_late
