"""What each service offers for keeping replicas: where in the world it is, what it charges, how fast it takes files."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from cloudmesh.storage.abc import ServiceSettings
from cloudmesh.storage.config import Configuration
from cloudmesh.storage.places import place_of_service
from cloudmesh.storage.speed import UNKNOWN, Speed
from cloudmesh.storage.transfer.prices import Price, price_of


@dataclass(frozen=True, slots=True)
class Offer:
    """One service as a place for replicas.

    Attributes:
        service: its name.
        place: where it is; two services of one place are lost together.
        price: what it charges.
        writing: how fast it takes files.
    """

    service: str
    place: str
    price: Price
    writing: Speed = UNKNOWN


def offers_of(configuration: Configuration, writing: Mapping[str, Speed]) -> dict[str, Offer]:
    """Return what the configured services offer, by name; no secret is needed for that.

    Args:
        configuration: of the services.
        writing: measured speeds.

    Raises:
        ConfigError: a service's price or place makes no sense.
    """
    offers: dict[str, Offer] = {}
    for service in configuration.services():
        settings = configuration.outline(service.name)
        speed = Speed(0.0, 1e9) if service.kind == "local" else writing.get(service.name, UNKNOWN)
        offers[service.name] = Offer(service.name, place_of(settings), price_of(settings), speed)
    return offers


def place_of(settings: ServiceSettings) -> str:
    """Return a word for the place where a service is, the same for services that would be lost together.

    A degree counts as one place, as do all directories of this computer; a service of which it is not known where it is
    counts as a place of its own.

    Raises:
        ConfigError: ``default.place`` is no place.
    """
    place = place_of_service(settings)
    if place is not None:
        return f"{place.latitude:.0f},{place.longitude:.0f}"
    return "this computer" if settings.kind == "local" else settings.name
