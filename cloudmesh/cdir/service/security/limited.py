"""The services as a principal with limits may use them."""

from __future__ import annotations

from cloudmesh.cdir.service.security.principal import Principal
from cloudmesh.storage.abc import StorageABC
from cloudmesh.storage.services import Services


def services_for(principal: Principal, services: Services) -> Services:
    """Return the services as the principal may use them, whoever names them: a default, a rule, a replica."""
    return services if principal.services is None else _LimitedServices(services, principal)


class _LimitedServices(Services):
    """The services of another object, which opens and closes them, as far as a principal may use them."""

    def __init__(self, services: Services, principal: Principal) -> None:
        super().__init__(services.configuration)
        self._services = services
        self._principal = principal

    def open(self, name: str) -> StorageABC:
        self._principal.check_service(name)
        return self._services.open(name)

    def opened(self) -> dict[str, StorageABC]:
        return self._services.opened()

    def close(self) -> None:
        """Leave them to their owner."""
