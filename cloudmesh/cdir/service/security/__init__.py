"""Who may do what. This is the seam: `install` adds what guards every request, `require` what guards a route."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from fastapi import FastAPI, Request

from cloudmesh.cdir.service.settings import Settings


@dataclass(frozen=True, slots=True)
class Principal:
    """Who asks, and what they may.

    Attributes:
        name: of the token or session.
        scopes: what they may do.
        prefix: the virtual directory to which they are limited, with a slash before it; empty for no limit.
        services: the services to which they are limited; None for no limit.
    """

    name: str
    scopes: frozenset[str]
    prefix: str = ""
    services: frozenset[str] | None = None


def install(app: FastAPI, settings: Settings) -> None:
    """Add what guards every request."""


def require(scope: str) -> Callable[[Request], Principal]:
    """Return a dependency of a route that lets only those through who have a scope."""

    def principal(request: Request) -> Principal:
        return Principal("local", frozenset({"read", "write", "delete", "admin"}))

    return principal
