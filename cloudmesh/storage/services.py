"""The configured services, each opened when it is first used, once, with the layers that every provider needs."""

from __future__ import annotations

import threading
from dataclasses import replace
from functools import cached_property
from typing import TYPE_CHECKING

from cloudmesh.storage import paths
from cloudmesh.storage.errors import ConfigError, InvalidName, NotFound, VaultError

if TYPE_CHECKING:  # imported when a service is opened: `cdir ls` needs none
    from cloudmesh.storage.abc import StorageABC
    from cloudmesh.storage.config import Configuration


class Services:
    """Opens services by name; one object of it is shared by all that one command or one program does.

    Args:
        configuration: where the services stand; the user's own where None.
        parallel: connections that each may have open at once; the provider's default where None.
    """

    allowed: frozenset[str] | None = None
    """Names of those that may be opened; None = all."""

    def __init__(self, configuration: Configuration | None = None, parallel: int | None = None) -> None:
        self._given = configuration
        self._parallel = parallel
        self._open: dict[str, StorageABC] = {}
        self._failed: dict[str, VaultError] = {}
        self._lock = threading.Lock()

    @cached_property
    def configuration(self) -> Configuration:
        """The configuration, read when it is first needed."""
        from cloudmesh.storage.config import Configuration

        return self._given or Configuration()

    def open(self, name: str) -> StorageABC:
        """Return the service called ``name``.

        Raises:
            ConfigError: there is no such service, its kind is unknown, or its settings are incomplete.
            MissingExtra: the package that its kind needs is not installed.
            VaultError: its secrets cannot be read.
        """
        if name in self._open:  # asked for each file
            return self._open[name]

        from cloudmesh.storage.layers import layered
        from cloudmesh.storage.registry import provider_class

        with self._lock:
            if name in self._failed:  # many threads want it: nobody is asked for a passphrase twice
                raise self._failed[name]
            if name not in self._open:
                try:
                    settings = self.configuration.settings(name)
                except VaultError as error:
                    self._failed[name] = error
                    raise
                if self._parallel:
                    settings = replace(settings, parallel=self._parallel)
                self._open[name] = layered(
                    provider_class(settings.kind, name)(settings),
                    requests_per_second=settings.requests_per_second,
                    bytes_per_second=settings.bytes_per_second,
                )
            return self._open[name]

    def names(self) -> list[str]:
        """Return the names of all configured services, sorted."""
        return sorted(service.name for service in self.configuration.services())

    def default(self) -> str:
        """Return the service that a path without one means: ``cms set storage=NAME``, the configuration's, or local."""
        return self.configuration.default_service()

    def locate(self, text: str, default: str | None = None) -> paths.Location:
        """Return the location that ``SERVICE:PATH``, or a path on the service ``default``, means.

        Raises:
            ConfigError: there is no such service.
            InvalidName: the path cannot be one.
        """
        service, path = self._split(text)
        if service is not None and service not in self.names():
            raise ConfigError(service, "there is no such service", "cms storage config list names those there are")
        try:
            return paths.Location(service or default or self.default(), paths.normalize(path))
        except InvalidName as error:
            raise InvalidName(text, error.why, error.hint) from None

    def opened(self) -> dict[str, StorageABC]:
        """Return the services that were opened so far."""
        with self._lock:
            return dict(self._open)

    def is_location(self, text: str) -> bool:
        """Tell whether ``text`` begins with the name of a service, configured or not, and a colon."""
        return self._split(text)[0] is not None

    def _split(self, text: str) -> tuple[str | None, str]:
        """Split a location; one letter before a colon is a service where the configuration has that, else a path."""
        service, path = paths.split_location(text)
        head, colon, rest = text.partition(":")
        if service is None and colon and len(head) == 1 and head in self.names():
            return head, rest  # it cannot be opened, and the error says why
        return service, path

    def close(self) -> None:
        """Close all connections."""
        with self._lock:
            for service in self._open.values():
                service.close()
            self._open.clear()


def exists(service: StorageABC, path: str) -> bool:
    """Tell whether a file or a directory is at ``path``. Raises what `StorageABC.stat` raises, but NotFound."""
    try:
        service.stat(path)
    except NotFound:
        return False
    return True
