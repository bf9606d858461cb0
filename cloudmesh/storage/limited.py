"""The services of somebody who may use only some of them."""

from __future__ import annotations

from collections.abc import Collection

from cloudmesh.storage.abc import StorageABC
from cloudmesh.storage.errors import PermissionDenied
from cloudmesh.storage.services import Services


class LimitedServices(Services):
    """The services of another object, which opens and closes them, as far as they may be used.

    Args:
        services: all of them.
        allowed: names of those that may be used, whoever names them: a request, a default, a rule, a replica.
    """

    allowed: frozenset[str]

    def __init__(self, services: Services, allowed: Collection[str]) -> None:
        super().__init__(services.configuration)
        self._services = services
        self.allowed = frozenset(allowed)

    def open(self, name: str) -> StorageABC:
        """Return the service called ``name``.

        Raises:
            PermissionDenied: it may not be used; it is not told whether it exists.
        """
        if name not in self.allowed:
            raise PermissionDenied(name, "this service may not be used")
        return self._services.open(name)

    def opened(self) -> dict[str, StorageABC]:
        """Return the services that were opened so far, by anybody."""
        return self._services.opened()

    def close(self) -> None:
        """Leave them to their owner."""
