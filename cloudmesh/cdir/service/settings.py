"""What can be set of the service: by a section of the configuration, by the environment, by the command line."""

from __future__ import annotations

import os
import socket
import typing
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Annotated, Any
from urllib.parse import urlsplit

from cloudmesh.cdir.service import security
from cloudmesh.cdir.service.security.tls import is_loopback
from cloudmesh.storage import yaml_file
from cloudmesh.storage.binding import Count, Duration, Reads, Size, convert, parse_names
from cloudmesh.storage.database import Database
from cloudmesh.storage.errors import ConfigError, UsageError
from cloudmesh.storage.home import config_dir

_EVERYWHERE = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104 - what a setting may say
"""Addresses that mean all of this computer's, each with one at which it reaches itself."""

VARIABLE = "CDIR_SERVICE_"
"""Begins the environment variable of each setting: ``CDIR_SERVICE_PORT``."""


def _port(text: str) -> int:
    if (port := int(text)) not in range(1 << 16):
        raise ValueError(text)
    return port


Port = Annotated[int, Reads(_port, "a whole number from 0 (any that is free) to 65535")]
"""A TCP port."""


def _host(text: str) -> str:
    text.encode("idna")  # raises UnicodeError, which is a ValueError
    return text


_Host = Annotated[str, Reads(_host, "a host's name or address")]
_Hosts = Annotated[
    list[str], Reads(lambda text: [_host(one) for one in parse_names(text)], "hosts' names separated by commas")
]


@dataclass(frozen=True, slots=True)
class Settings:
    """What can be set of the service.

    Attributes:
        host: the address at which it listens; beyond this computer with TLS alone.
        port: likewise.
        url: where others reach it, as behind a proxy that speaks TLS; made of the others where empty.
        hosts: further names under which it may be asked for.
        certificate: a PEM file; where it is empty and TLS is needed, one is made.
        key: the PEM file with the certificate's key.
        workers: processes that serve together.
        max_upload: bytes of the largest file that is taken.
        requests_per_s: what each process takes of one token or session in a second for long; twice as many at once.
        strangers_per_s: requests a second that one address may send without a token that is known, for long; behind a
            proxy all clients have one address.
        patience: seconds that requests and jobs under way have at a stop.
    """

    host: _Host = "127.0.0.1"
    port: Port = 8765
    url: str = ""
    hosts: _Hosts = field(default_factory=list)
    certificate: str = ""
    key: str = ""
    workers: Count = 1
    max_upload: Size = 1 << 40
    requests_per_s: Count = 1000
    strangers_per_s: Count = 5
    patience: Duration = 10.0

    def changed(self, values: Mapping[str, Any], where: str) -> Settings:
        """Return these settings with those that are given.

        Raises:
            ConfigError: one is not known, or makes no sense.
        """
        types = typing.get_type_hints(Settings, include_extras=True)
        given: dict[str, Any] = {}
        for name, value in values.items():
            if name not in types:
                raise ConfigError(where, f"there is no setting {name!r}", f"settings are {', '.join(types)}")
            text = ",".join(map(str, value)) if isinstance(value, list) else "" if value is None else str(value)
            if not text:  # nothing stands behind its name: above all no address, which would be all of them
                continue
            try:
                given[name] = convert(name, text, types[name])
            except UsageError as error:
                raise ConfigError(where, str(error)) from None
        return replace(self, **given)

    def as_environment(self) -> dict[str, str]:
        """Return the variables with which another process has these settings."""
        told = {name: getattr(self, name) for name in self.__slots__}
        texts = {name: ",".join(one) if isinstance(one, list) else str(one) for name, one in told.items()}
        return {VARIABLE + name.upper(): text for name, text in texts.items() if text}

    @property
    def address(self) -> str:
        """The URL at which it is reached."""
        if self.url:
            return self.url.rstrip("/")
        host = socket.gethostname() if self.host in _EVERYWHERE else self.host
        is_https = self.certificate or not is_loopback(self.host)
        return f"{'https' if is_https else 'http'}://{f'[{host}]' if ':' in host else host}:{self.port}"

    @property
    def listens(self) -> str:
        """The address and port at which this computer reaches it."""
        host = _EVERYWHERE.get(self.host, self.host)
        return f"[{host}]:{self.port}" if ":" in host else f"{host}:{self.port}"

    def guarded(self, database: Callable[[], Database]) -> security.Settings:
        """Return what the guards of its requests need to know.

        Raises:
            ConfigError: the URL is none.
        """
        try:
            parts = urlsplit(self.address)
            scheme, host, _ = parts.scheme, parts.hostname, parts.port  # the last one raises where it is none
        except ValueError:
            scheme, host = "", None
        if scheme not in ("http", "https") or not host:
            raise ConfigError("url", f"{self.url!r} is not allowed", "allowed is a URL such as https://nas.example.org")
        return security.Settings(
            database,
            self.address,
            hosts=frozenset(one.lower() for one in self.hosts),
            certificate=Path(self.certificate) if self.certificate else None,
            key=Path(self.key) if self.key else None,
            max_upload_bytes=self.max_upload,
            strangers_per_s=self.strangers_per_s,
            requests_per_s=self.requests_per_s,
            burst=2 * self.requests_per_s,
        )


def load() -> Settings:
    """Return the settings of the file ``service.yaml`` in our own folder, then of the environment.

    Raises:
        ConfigError: one is not known, or makes no sense.
    """
    file = config_dir() / "service.yaml"
    given = {one.name: os.environ.get(VARIABLE + one.name.upper()) for one in fields(Settings)}
    return Settings().changed(yaml_file.read(file), str(file)).changed(given, "environment")
