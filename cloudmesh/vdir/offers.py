"""What each service offers for keeping replicas: where in the world it is, what it charges, how fast it takes files."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from cloudmesh.storage.abc import ServiceSettings
from cloudmesh.storage.config import Configuration
from cloudmesh.storage.speed import Speed
from cloudmesh.storage.transfer.prices import Price, price_of

_UNKNOWN_SPEED = Speed(0.1, 10e6)
"""Supposed of a service to which nothing was ever written: an ordinary internet service."""


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
    writing: Speed = _UNKNOWN_SPEED


def offers_of(configuration: Configuration, writing: Mapping[str, Speed]) -> dict[str, Offer]:
    """Return what the configured services offer, by name; no secret is needed for that.

    Args:
        configuration: of the services.
        writing: measured speeds.

    Raises:
        ConfigError: a service's price makes no sense.
    """
    offers: dict[str, Offer] = {}
    for service in configuration.services():
        values = configuration.values(service.name)
        settings = ServiceSettings(
            service.name, service.kind, credentials=values["credentials"], options=values["default"]
        )
        speed = Speed(0.0, 1e9) if service.kind == "local" else writing.get(service.name, _UNKNOWN_SPEED)
        offers[service.name] = Offer(service.name, place_of(settings), price_of(settings), speed)
    return offers


def place_of(settings: ServiceSettings) -> str:
    """Return a word for the place where a service is: its setting ``place``, or else its name."""
    return str(settings.options.get("place") or settings.name)
