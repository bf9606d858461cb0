"""What the configuration of a service says, read into what a connection needs."""

from __future__ import annotations

import posixpath
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

from cloudmesh.storage.abc import ServiceSettings, Timeouts
from cloudmesh.storage.errors import ConfigError
from cloudmesh.storage.providers.sftp.known_hosts import DEFAULT_FILES


@dataclass(frozen=True, slots=True)
class HostGiven:
    """A host as the service names it, or the jump host before it; None is what is left open."""

    host: str
    port: int | None = None
    username: str | None = None


@dataclass(frozen=True, slots=True)
class Login:
    """What the service says about logging in; secrets stay out of its ``repr``."""

    service: str
    target: HostGiven
    jump: HostGiven | None
    known_hosts: tuple[Path, ...]
    key_file: Path | None
    timeouts: Timeouts
    password: str | None = field(default=None, repr=False)
    key_passphrase: str | None = field(default=None, repr=False)


def parse_host(text: str, service: str) -> HostGiven:
    """Read ``[user@]host[:port]``.

    Raises:
        ConfigError: it cannot be understood.
    """
    try:
        parts = urlsplit(f"//{text}")
        port = parts.port
    except ValueError:
        parts, port = urlsplit("//"), None
    if not parts.hostname or parts.path or parts.password:
        raise ConfigError(service, "'jump' is not of the form user@host:port")
    return HostGiven(parts.hostname, port, parts.username)


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
    if not given.get("host"):
        raise ConfigError(settings.name, "the credential host is missing", "see: cms storage config edit")

    def text(key: str) -> str | None:
        value = given.get(key)
        return None if value in (None, "") else str(value)

    try:
        port = int(given["port"]) if given.get("port") else None
    except (TypeError, ValueError):
        port = 0
    if port is not None and not 0 < port < 65536:
        raise ConfigError(settings.name, "the credential port is not a number from 1 to 65535")
    jump, key_file, known = text("jump"), text("key_file"), text("known_hosts")
    return Login(
        service=settings.name,
        target=HostGiven(str(given["host"]), port, text("username")),
        jump=parse_host(jump, settings.name) if jump else None,
        known_hosts=(Path(known).expanduser(),) if known else DEFAULT_FILES,
        key_file=Path(key_file) if key_file else None,
        timeouts=settings.timeouts,
        password=text("password"),
        key_passphrase=text("key_passphrase"),
    )
