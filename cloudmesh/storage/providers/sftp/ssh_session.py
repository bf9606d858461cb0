"""One ssh session by libssh (ssh-python): connected, the host's key verified, logged in."""

from __future__ import annotations

import base64
import os
import select
import shlex
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from cloudmesh.storage.errors import AuthenticationFailed, Unavailable
from cloudmesh.storage.providers.sftp import known_hosts
from cloudmesh.storage.providers.sftp.settings import Login
from cloudmesh.storage.providers.sftp.ssh_config import Host
from cloudmesh.storage.providers.sftp.watchdog import watchdog

# AES-GCM first: with AES instructions it costs half of OpenSSH's usual ChaCha20.
CIPHERS = "aes128-gcm@openssh.com,aes256-gcm@openssh.com,chacha20-poly1305@openssh.com,aes256-ctr,aes192-ctr,aes128-ctr"


class ConnectionLost(Exception):
    """The connection broke, ended or fell silent; the text says how."""


class SshSession:
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
        watchdog.add(self)
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
            for key_file in host.keys:
                self.session.options_set(options.ADD_IDENTITY, str(key_file))
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
