"""One authenticated ssh connection with an SFTP channel, by libssh (ssh-python).

libssh waits without limit in places (a server that accepts the connection and then says nothing, a window that never
opens). Every call into it therefore runs under a deadline: a watchdog thread shuts the socket down when it passes, and
libssh then fails at once.
"""

from __future__ import annotations

import base64
import getpass
import os
import select
import shlex
import socket
import threading
import time
import weakref
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from cloudmesh.storage.abc import Timeouts
from cloudmesh.storage.errors import AuthenticationFailed, ConfigError, Unavailable
from cloudmesh.storage.providers.sftp import known_hosts

# AES-GCM first: with AES instructions it costs half of OpenSSH's usual ChaCha20.
CIPHERS = "aes128-gcm@openssh.com,aes256-gcm@openssh.com,chacha20-poly1305@openssh.com,aes256-ctr,aes192-ctr,aes128-ctr"
RECEIVE = 256 * 1024
"""Bytes asked of libssh at once."""


class ConnectionLost(Exception):
    """The connection broke, ended or fell silent; the text says how."""


@dataclass(frozen=True, slots=True)
class Host:
    """Where to log in: one host, or the jump host before it."""

    host: str
    port: int
    username: str


@dataclass(frozen=True, slots=True)
class Login:
    """All that is needed to open a connection; secrets stay out of its ``repr``."""

    service: str
    target: Host
    jump: Host | None
    known_hosts: tuple[Path, ...]
    key_file: Path | None
    timeouts: Timeouts
    password: str | None = field(default=None, repr=False)
    key_passphrase: str | None = field(default=None, repr=False)


def parse_host(text: str, default_user: str, service: str) -> Host:
    """Read ``[user@]host[:port]``.

    Raises:
        ConfigError: it cannot be understood.
    """
    try:
        parts = urlsplit(f"//{text}")
        port = parts.port or 22
    except ValueError:
        parts, port = urlsplit("//"), 22
    if not parts.hostname or parts.path or parts.password:
        raise ConfigError(service, "'jump' is not of the form user@host:port")
    return Host(parts.hostname, port, parts.username or default_user or getpass.getuser())


class Connection:
    """An ssh connection with an open SFTP channel. Used by one thread at a time.

    Raises (when made):
        AuthenticationFailed: the host's key is not the known one, or the host did not accept us.
        Unavailable: not reachable, or no answer in ``timeouts.connect`` seconds.
    """

    def __init__(self, login: Login) -> None:
        self._login = login
        self._ssh = _Ssh(login, login.target, _socket_to(login))
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
            count, data = self._channel.read_timeout(int(timeout * 1000), RECEIVE)
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


class _Ssh:
    """A connected, verified and authenticated libssh session on a socket of ours."""

    def __init__(self, login: Login, host: Host, sock: socket.socket) -> None:
        from ssh import options  # type: ignore[import-untyped]
        from ssh.session import Session  # type: ignore[import-untyped]

        self.deadline: float | None = None
        self.late = False
        self._sock = sock
        # libssh closes the descriptor that it is given; ours stays open, so that the watchdog can shut it down.
        self._descriptor = os.dup(sock.fileno())
        self._pid = os.getpid()
        _watchdog.add(self)
        try:
            self.session: Any = Session()
            self.session.options_set_int_val(options.PROCESS_CONFIG, 0)
            self.session.set_socket(self._descriptor)
            self.session.options_set(options.HOST, host.host)
            self.session.options_set_port(host.port)
            self.session.options_set(options.USER, host.username)
            # Else libssh takes the home of the system's user database, whatever HOME says.
            self.session.options_set(options.SSH_DIR, str(Path("~/.ssh").expanduser()))
            # The file also decides which kind of host key libssh asks for first.
            files = [str(file.expanduser()) for file in login.known_hosts]
            self.session.options_set(options.KNOWNHOSTS, files[0])
            self.session.options_set(options.GLOBAL_KNOWNHOSTS, files[-1])
            self.session.options_set(options.CIPHERS_C_S, CIPHERS)
            self.session.options_set(options.CIPHERS_S_C, CIPHERS)
            with self.calling("connecting", login.timeouts.connect):
                self.session.connect()
                key = base64.b64decode(self.session.get_server_publickey().export_pubkey_base64())
            _verify(login, host, key)
            self._authenticate(login, host)
        except ConnectionLost as error:
            self.close()
            raise Unavailable(login.service, f"{host.host} port {host.port}: {error}") from error
        except BaseException:
            self.close()
            raise

    @contextmanager
    def calling(self, doing: str, seconds: float) -> Iterator[None]:
        """Run calls into libssh that must end within ``seconds``; its errors become ConnectionLost."""
        from ssh.exceptions import BaseSSHError  # type: ignore[import-untyped]

        self.deadline = time.monotonic() + seconds
        try:
            yield
        except BaseSSHError as error:
            if self.late:
                raise ConnectionLost(f"no answer within {seconds:g} s while {doing}") from error
            raise ConnectionLost(f"the connection broke while {doing}") from error
        finally:
            self.deadline = None

    def _authenticate(self, login: Login, host: Host) -> None:
        """Log in by what the configuration gives: the key file, else the keys of the user's agent and home; a password.

        Raises:
            AuthenticationFailed: nothing of it was accepted.
        """
        from ssh.exceptions import AuthenticationDenied, AuthenticationError, AuthenticationPartial

        tried = []
        attempts: list[Any] = []
        if login.key_file is not None:
            key = _private_key(login)
            attempts.append((f"the key in {login.key_file.name}", lambda: self.session.userauth_publickey(key)))
        elif login.password is None:
            attempts.append(("the agent's keys and ~/.ssh", lambda: self.session.userauth_publickey_auto("")))
        if login.password is not None:
            password = login.password
            attempts.append(("the password", lambda: self.session.userauth_password(host.username, password)))
            attempts.append(("the password, asked for", lambda: self._answer_prompts(host.username, password)))
        for what, attempt in attempts:
            tried.append(what)
            try:
                with self.calling("logging in", login.timeouts.connect):
                    attempt()
                return
            except ConnectionLost as error:
                cause = error.__cause__
                if not isinstance(cause, (AuthenticationDenied, AuthenticationError, AuthenticationPartial)):
                    raise
                if not self.session.is_connected():
                    if "authentication failures" in str(cause):
                        break
                    raise
        raise AuthenticationFailed(
            login.service,
            f"{host.host} did not accept {tried[0] if tried else 'anything'} for the user {host.username}",
        )

    def _answer_prompts(self, username: str, password: str) -> None:
        """Give the password to each question of a server that asks instead of taking a password (PAM)."""
        info = 3  # SSH_AUTH_INFO
        for _ in range(3):
            if self.session.userauth_kbdint(username, "") != info:
                return
            for number in range(self.session.userauth_kbdint_getnprompts()):
                self.session.userauth_kbdint_setanswer(number, password.encode())

    def is_open(self, answers_due: bool) -> bool:
        """Tell whether nothing has come, or (with ``answers_due``) not yet the end: uninvited, it is a good-bye."""
        try:
            if not select.select([self._sock], [], [], 0)[0]:
                return True
            return answers_due and bool(self._sock.recv(1, socket.MSG_PEEK))
        except (OSError, ValueError):
            return False

    def cut(self) -> None:
        """Shut the socket down because the deadline passed; called by the watchdog."""
        self.late = True
        with suppress(OSError):
            self._sock.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        """Close the socket; libssh frees the rest when the last object of the session goes."""
        if os.getpid() == self._pid:
            # Otherwise libssh would try to say good-bye, and could wait for that.
            with suppress(OSError):
                self._sock.shutdown(socket.SHUT_RDWR)
        self._sock.close()

    def abandon(self) -> None:
        """In a forked child: let go of the parent's connection without a word on the wire."""
        null = os.open(os.devnull, os.O_RDWR)
        with suppress(OSError):
            os.dup2(null, self._descriptor)
        os.close(null)
        self._sock.close()


class _Watchdog:
    """Cuts the connections whose deadline has passed."""

    def __init__(self) -> None:
        self._sessions: weakref.WeakSet[_Ssh] = weakref.WeakSet()
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None

    def add(self, session: _Ssh) -> None:
        with self._lock:
            self._sessions.add(session)
            if self._thread is None or not self._thread.is_alive():
                self._thread = threading.Thread(target=self._watch, name="sftp-watchdog", daemon=True)
                self._thread.start()

    def _watch(self) -> None:
        while True:
            time.sleep(0.25)
            with self._lock:
                sessions = list(self._sessions)
            now = time.monotonic()
            for session in sessions:
                deadline = session.deadline
                if deadline is not None and now > deadline:
                    session.cut()
            del sessions

    def after_fork(self) -> None:
        self._lock = threading.Lock()
        self._thread = None
        for session in list(self._sessions):
            session.abandon()
        self._sessions = weakref.WeakSet()


_watchdog = _Watchdog()
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=lambda: _watchdog.after_fork())


def _socket_to(login: Login) -> socket.socket:
    """Return a connected socket to the target, through the jump host where there is one."""
    if login.jump is None:
        return _connect(login, login.target)
    jump = _Ssh(login, login.jump, _connect(login, login.jump))
    try:
        with jump.calling("opening the way through the jump host", login.timeouts.connect):
            channel = jump.session.channel_new()
            channel.open_forward(login.target.host, login.target.port, "127.0.0.1", 0)
    except ConnectionLost as error:
        jump.close()
        raise Unavailable(
            login.service, f"the jump host {login.jump.host} cannot reach {login.target.host} port {login.target.port}"
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


def _forward(jump: _Ssh, channel: Any, local: socket.socket) -> None:
    """Carry bytes between ``local`` and the jump host's channel until one of them ends."""
    from ssh.exceptions import BaseSSHError

    descriptor = jump.session.get_fd()
    try:
        while True:
            # libssh may hold bytes that it has already taken from its socket, so it is asked before waiting.
            _, data = channel.read_nonblocking(RECEIVE)
            if data:
                local.sendall(data)
                continue
            if channel.is_eof() or channel.is_closed():
                return
            readable, _, _ = select.select([descriptor, local], [], [])
            if local in readable:
                data = local.recv(RECEIVE)
                if not data:
                    return
                channel.write(data)
    except (OSError, ValueError, BaseSSHError):
        return
    finally:
        local.close()
        jump.close()


def _private_key(login: Login) -> Any:
    """Read the key file.

    Raises:
        AuthenticationFailed: it is not there, not a key, or the passphrase is missing or wrong.
    """
    from ssh.exceptions import BaseSSHError
    from ssh.key import import_privkey_file  # type: ignore[import-untyped]

    assert login.key_file is not None  # noqa: S101 - the caller asked
    path = login.key_file.expanduser()
    try:
        path.open("rb").close()
    except OSError as error:
        why = (error.strerror or "").lower()
        raise AuthenticationFailed(login.service, f"the key file {login.key_file} cannot be read: {why}") from error
    try:
        return import_privkey_file(str(path), (login.key_passphrase or "").encode())
    except BaseSSHError as error:
        if login.key_passphrase:
            why, hint = "cannot be opened with the key_passphrase given, or is no private key", ""
        else:
            why, hint = "needs a passphrase or is no private key", "set the credential key_passphrase"
        raise AuthenticationFailed(login.service, f"the key file {login.key_file} {why}", hint) from error


def _verify(login: Login, host: Host, key: bytes) -> None:
    """Refuse a host whose key the known_hosts files do not hold.

    Raises:
        AuthenticationFailed: unknown, changed or revoked.
    """
    try:
        verdict = known_hosts.check(login.known_hosts, host.host, host.port, key)
    except OSError as error:
        raise AuthenticationFailed(
            login.service, f"{error.filename} cannot be read: {(error.strerror or '').lower()}"
        ) from error
    if verdict is known_hosts.Verdict.KNOWN:
        return
    kind = key[4 : 4 + int.from_bytes(key[:4], "big")].decode("ascii", "replace")
    shown = f"{kind} {known_hosts.fingerprint(key)}"
    file = shlex.quote(str(login.known_hosts[0].expanduser()))
    name = known_hosts.host_pattern(host.host, host.port)
    if verdict is known_hosts.Verdict.UNKNOWN:
        raise AuthenticationFailed(
            login.service,
            f"the host {name} is not known; it shows the key {shown}",
            f"compare the fingerprint with the host's, then: ssh-keyscan -p {host.port} {host.host} >> {file}",
        )
    if verdict is known_hosts.Verdict.REVOKED:
        raise AuthenticationFailed(login.service, f"the host {name} shows the revoked key {shown}")
    raise AuthenticationFailed(
        login.service,
        f"the key of the host {name} has changed; it now shows {shown}",
        f"someone may be listening in; if the host was really reinstalled: ssh-keygen -R '{name}' -f {file}",
    )
