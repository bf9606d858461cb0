"""What the configuration of a service says, read into what a connection needs."""

from __future__ import annotations

import getpass
import posixpath
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

from cloudmesh.storage.abc import ServiceSettings, Timeouts
from cloudmesh.storage.errors import ConfigError
from cloudmesh.storage.providers.sftp.known_hosts import DEFAULT_FILES


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


def read_root(text: str) -> bytes:
    """Return the root's name on the wire; empty for the directory of the login."""
    text = text.strip()
    if text == "~":
        text = ""
    root = posixpath.normpath(text.removeprefix("~/")) if text else ""
    return b"" if root == "." else root.encode()


def read_login(settings: ServiceSettings) -> Login:
    """Read the credentials.

    Raises:
        ConfigError: a required one is missing or one makes no sense.
    """
    given = settings.credentials
    for key in ("host", "username"):
        if not given.get(key):
            raise ConfigError(settings.name, f"the credential {key} is missing", "see: cms storage config edit")

    def text(key: str) -> str | None:
        value = given.get(key)
        return None if value in (None, "") else str(value)

    try:
        port = int(given.get("port") or 22)
    except (TypeError, ValueError):
        port = 0
    if not 0 < port < 65536:
        raise ConfigError(settings.name, "the credential port is not a number from 1 to 65535")
    username = str(given["username"])
    jump, key_file, known = text("jump"), text("key_file"), text("known_hosts")
    return Login(
        service=settings.name,
        target=Host(str(given["host"]), port, username),
        jump=parse_host(jump, username, settings.name) if jump else None,
        known_hosts=(Path(known).expanduser(),) if known else DEFAULT_FILES,
        key_file=Path(key_file) if key_file else None,
        timeouts=settings.timeouts,
        password=text("password"),
        key_passphrase=text("key_passphrase"),
    )
