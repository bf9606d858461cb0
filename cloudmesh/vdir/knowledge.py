"""What is known of the services when a replica is chosen, gathered once for a command."""

from __future__ import annotations

import logging

from cloudmesh.storage.config import Configuration
from cloudmesh.storage.database import Database
from cloudmesh.storage.errors import ConfigError
from cloudmesh.storage.health import Health
from cloudmesh.storage.places import Place, kilometres, parse_place, place_of_service
from cloudmesh.storage.speed import measured
from cloudmesh.storage.transfer.prices import Price, price_of
from cloudmesh.vdir.placement import Knowledge

_LOG = logging.getLogger(__name__)


def gather(configuration: Configuration, database: Database, health: Health) -> Knowledge:
    """Return what decides between replicas, as it is now; no service is opened for it.

    A place or a price that is written wrongly keeps nobody from reading a file: it is warned of, and unknown.
    """
    kinds, distances, prices = configuration.derived(_configured)
    return Knowledge(kinds, measured(database, "read"), distances, prices, health.outages())


def _configured(configuration: Configuration) -> tuple[dict[str, str], dict[str, float], dict[str, Price]]:
    """Return what the configuration tells of each service: kind, distance from here in km, and price."""
    kinds = {service.name: service.kind for service in configuration.services()}
    distances: dict[str, float] = {}
    prices: dict[str, Price] = {}
    here = _here(configuration)
    for name, kind in kinds.items():
        settings = configuration.outline(name)
        try:
            prices[name] = price_of(settings)
            if here is not None and (there := here if kind == "local" else place_of_service(settings)) is not None:
                distances[name] = kilometres(here, there)
        except ConfigError as error:
            _LOG.warning("%s", error)
    return kinds, distances, prices


def _here(configuration: Configuration) -> Place | None:
    text = configuration.place()
    if text is None:
        return None
    try:
        return parse_place(text, "CDIR_PLACE or cloudmesh.default.place")
    except ConfigError as error:
        _LOG.warning("%s", error)
        return None
