"""What can be set of the service: by a section of the configuration, by the environment, by the command line."""

from __future__ import annotations

import os
import typing
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from typing import Any

from cloudmesh.storage import yaml_file
from cloudmesh.storage.binding import Count, Duration, Size, convert
from cloudmesh.storage.errors import ConfigError, UsageError
from cloudmesh.storage.home import config_dir

VARIABLE = "CDIR_SERVICE_"
"""Begins the environment variable of each setting: ``CDIR_SERVICE_PORT``."""


@dataclass(frozen=True, slots=True)
class Settings:
    """What can be set of the service.

    Attributes:
        host: the address at which it listens.
        port: likewise.
        workers: processes; more than one needs PostgreSQL.
        max_upload: bytes of the largest file that is taken.
        patience: seconds that requests and jobs under way have at a stop.
    """

    host: str = "127.0.0.1"
    port: int = 8765
    workers: Count = 1
    max_upload: Size = 1 << 40
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
            try:
                given[name] = convert(name, str(value), types[name])
            except UsageError as error:
                raise ConfigError(where, str(error)) from None
        return replace(self, **given)


def load() -> Settings:
    """Return the settings of the file ``service.yaml`` in our own folder, then of the environment.

    Raises:
        ConfigError: one is not known, or makes no sense.
    """
    file = config_dir() / "service.yaml"
    given = {one.name: os.environ[VARIABLE + one.name.upper()] for one in fields(Settings) if _is_set(one.name)}
    return Settings().changed(yaml_file.read(file), str(file)).changed(given, "environment")


def _is_set(name: str) -> bool:
    return VARIABLE + name.upper() in os.environ
