"""What the user's ~/.ssh/config says of a host, read by OpenSSH itself: ``ssh -G`` prints it, as for a login.

(libssh can read the file, but ssh-python cannot ask it for the result.)
"""

from __future__ import annotations

import getpass
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

from cloudmesh.storage.errors import ConfigError, Unavailable
from cloudmesh.storage.providers.sftp.settings import HostGiven, Login, parse_host

_TRIED_ANYWAY = {f"id_{kind}" for kind in ("rsa", "ecdsa", "ecdsa_sk", "ed25519", "ed25519_sk", "dsa", "xmss")}


@dataclass(frozen=True, slots=True)
class Host:
    """Where to log in, as whom, and which keys to try beside those of the agent and of ~/.ssh."""

    host: str
    port: int
    username: str
    keys: tuple[Path, ...]


@dataclass(frozen=True, slots=True)
class Route:
    """The way to the target."""

    target: Host
    jump: Host | None


def find_route(login: Login) -> Route:
    """Return the way to the service's host, with what the service leaves open filled in.

    Without ~/.ssh/config, or without OpenSSH's client, it is filled in with ssh's own defaults.

    Raises:
        ConfigError: the file is wrong, or asks for a way to the host that we do not have.
        Unavailable: what it runs (``Match exec``) takes too long.
    """
    said = _ask(login, login.target.host)
    jump = login.jump or _jump(login, said)
    return Route(
        _complete(login.target, said),
        _complete(jump, _ask(login, jump.host)) if jump is not None else None,
    )


def _jump(login: Login, said: dict[str, list[str]]) -> HostGiven | None:
    name = login.target.host
    if "proxycommand" in said:
        why = f"~/.ssh/config reaches {name} by a ProxyCommand, which is not supported"
        raise ConfigError(login.service, why, "use ProxyJump there, or set the credential jump")
    [through] = said.get("proxyjump", ["none"])
    if "," in through:
        why = f"~/.ssh/config reaches {name} through several hosts; only one is supported"
        raise ConfigError(login.service, why, "set the credential jump")
    return parse_host(through, login.service) if through != "none" else None


def _complete(given: HostGiven, said: dict[str, list[str]]) -> Host:
    [name] = said.get("hostname", [given.host])
    [port] = said.get("port", ["22"])
    [user] = said.get("user") or [given.username or getpass.getuser()]
    home = Path("~/.ssh").expanduser()
    keys = (Path(text).expanduser() for text in said.get("identityfile", ()))
    further = tuple(key for key in keys if key.is_file() and not (key.parent == home and key.name in _TRIED_ANYWAY))
    return Host(name, given.port or int(port), given.username or user, further)


def _ask(login: Login, host: str) -> dict[str, list[str]]:
    """Return keyword (lower case) to values; empty where there is nothing to ask."""
    file = Path("~/.ssh/config").expanduser()
    program = shutil.which("ssh")
    if program is None or not file.is_file():
        return {}
    command = [program, "-G", "-F", str(file), "--", host]
    limit = login.timeouts.connect
    try:
        done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=limit)
    except subprocess.TimeoutExpired as error:
        # "Match exec" runs programs of the user's.
        raise Unavailable(login.service, f"~/.ssh/config: no answer for {host} within {limit:g} s") from error
    if done.returncode:
        why = (done.stderr.strip().splitlines() or ["cannot be read"])[0]
        raise ConfigError(login.service, f"~/.ssh/config: {why.removeprefix(f'{file}: ')}")
    said: dict[str, list[str]] = {}
    for line in done.stdout.splitlines():
        keyword, _, value = line.partition(" ")
        said.setdefault(keyword, []).append(value)
    return said
