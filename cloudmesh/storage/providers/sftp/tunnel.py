"""The socket to the host: straight, or through a channel of the jump host."""

from __future__ import annotations

import select
import socket
import threading
from typing import Any

from cloudmesh.storage.errors import Unavailable
from cloudmesh.storage.providers.sftp.settings import Login
from cloudmesh.storage.providers.sftp.ssh_config import Host, Route
from cloudmesh.storage.providers.sftp.ssh_session import ConnectionLost, SshSession

_PIECE = 256 * 1024


def socket_to(login: Login, route: Route) -> socket.socket:
    """Return a connected socket to the target, through the jump host where there is one."""
    if route.jump is None:
        return _connect(login, route.target)
    jump = SshSession(login, route.jump, _connect(login, route.jump))
    try:
        with jump.calling("opening the way through the jump host", login.timeouts.connect):
            channel = jump.session.channel_new()
            channel.open_forward(route.target.host, route.target.port, "127.0.0.1", 0)
    except ConnectionLost as error:
        jump.close()
        raise Unavailable(
            login.service, f"the jump host {route.jump.host} cannot reach {route.target.host} port {route.target.port}"
        ) from error
    ours, theirs = socket.socketpair()
    threading.Thread(target=_forward, args=(jump, channel, theirs), name="sftp-jump", daemon=True).start()
    return ours


def _connect(login: Login, host: Host) -> socket.socket:
    try:
        sock = socket.create_connection((host.host, host.port), timeout=login.timeouts.connect)
    except OSError as error:
        why = "no answer" if isinstance(error, TimeoutError) else (error.strerror or "no connection").lower()
        raise Unavailable(login.service, f"{host.host} port {host.port}: {why}") from error
    sock.settimeout(None)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    return sock


def _forward(jump: SshSession, channel: Any, local: socket.socket) -> None:
    """Carry bytes between ``local`` and the jump host's channel until one of them ends."""
    from ssh.exceptions import BaseSSHError  # type: ignore[import-untyped]

    descriptor = jump.session.get_fd()
    try:
        while True:
            # libssh may hold bytes that it has already taken from its socket, so it is asked before waiting.
            _, data = channel.read_nonblocking(_PIECE)
            if data:
                local.sendall(data)
                continue
            if channel.is_eof() or channel.is_closed():
                return
            readable, _, _ = select.select([descriptor, local], [], [])
            if local in readable:
                data = local.recv(_PIECE)
                if not data:
                    return
                channel.write(data)
    except (OSError, ValueError, BaseSSHError):
        return
    finally:
        local.close()
        jump.close()
