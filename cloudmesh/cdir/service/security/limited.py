"""The services as a principal with limits may use them."""

from __future__ import annotations

from cloudmesh.cdir.service.security.principal import Principal
from cloudmesh.storage.limited import LimitedServices
from cloudmesh.storage.services import Services


def services_for(principal: Principal, services: Services) -> Services:
    """Return the services as the principal may use them, whoever names them: a default, a rule, a replica."""
    return services if principal.services is None else LimitedServices(services, principal.services)
