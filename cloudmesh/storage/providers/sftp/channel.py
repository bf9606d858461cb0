"""The byte channel that SFTP is spoken over."""

from __future__ import annotations

from cloudmesh.storage.errors import Unavailable
from cloudmesh.storage.providers.sftp.settings import Login
from cloudmesh.storage.providers.sftp.ssh_config import find_route
from cloudmesh.storage.providers.sftp.ssh_session import ConnectionLost, SshSession
from cloudmesh.storage.providers.sftp.tunnel import socket_to

_RECEIVE = 256 * 1024
"""Bytes asked of libssh at once."""


class SftpChannel:
    """An ssh connection with an open SFTP channel. Used by one thread at a time.

    Raises (when made):
        AuthenticationFailed: the host's key is not the known one, or the host did not accept us.
        ConfigError: as `ssh_config.find_route`.
        Unavailable: not reachable, or no answer in ``timeouts.connect`` seconds.
    """

    def __init__(self, login: Login) -> None:
        self._login = login
        route = find_route(login)
        self._ssh = SshSession(login, route.target, socket_to(login, route))
        try:
            with self._ssh.calling("opening the SFTP channel", login.timeouts.connect):
                self._channel = self._ssh.session.channel_new()
                self._channel.open_session()
                self._channel.request_sftp()
        except ConnectionLost as error:
            self.close()
            raise Unavailable(login.service, str(error)) from error

    def send(self, data: bytes) -> None:
        """Send all of ``data``.

        Raises:
            ConnectionLost: the connection broke, or nothing moved for ``timeouts.read`` seconds.
        """
        with self._ssh.calling("sending", self._login.timeouts.read):
            _, count = self._channel.write(data)
        if count != len(data):
            raise ConnectionLost("the connection broke while sending")

    def receive(self) -> bytes:
        """Return the next bytes, at least one; raises as `send`."""
        timeout = self._login.timeouts.read
        with self._ssh.calling("receiving", timeout + 1):
            count, data = self._channel.read_timeout(int(timeout * 1000), _RECEIVE)
        if not data:
            silent = count != 0 and not self._channel.is_eof()
            raise ConnectionLost(f"no answer within {timeout:g} s" if silent else "the server closed the connection")
        return bytes(data)

    def is_open(self, *, answers_due: bool) -> bool:
        """Tell whether the idle connection is still open, as far as can be seen without asking the server.

        Args:
            answers_due: whether the server may have something to say.
        """
        return self._ssh.is_open(answers_due)

    def close(self) -> None:
        """Close the connection; safe to call twice."""
        self._ssh.close()
