"""The front door: the console script, the REST service, and the client of one."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from cloudmesh.cdir.client import Client as Client

__all__ = ["Client"]


def __getattr__(name: str) -> Any:
    # imported when it is used: the console script loads this package at every start
    if name == "Client":
        from cloudmesh.cdir.client import Client

        return Client
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
