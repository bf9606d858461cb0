"""Who may do what with the service, and what nobody may do to it. The threat model is ``docs/security.md``.

    app = FastAPI()
    security.install(app, settings)                 # every request: host, target, size, who, how often, audit

    @app.get("/api/v1/vdir/ls")
    def ls(principal: Annotated[Principal, Depends(security.require("read"))]) -> ...

    uvicorn.Config(app, host, port, **security.listening(host, settings))   # TLS, slow clients, headers' size

Whoever is not known is refused before any route is looked for, so a route without `require` is not open to the world.
The names are imported when they are first used: ``cdir token`` needs the stores in here, but no FastAPI.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from cloudmesh.cdir.service.security.connections import listening
    from cloudmesh.cdir.service.security.guard import install, require
    from cloudmesh.cdir.service.security.principal import Principal, Scope
    from cloudmesh.cdir.service.security.settings import Settings

__all__ = ["Principal", "Scope", "Settings", "install", "listening", "require"]

_PLACES = {
    "Principal": "principal",
    "Scope": "principal",
    "Settings": "settings",
    "install": "guard",
    "listening": "connections",
    "require": "guard",
}


def __getattr__(name: str) -> Any:
    if name not in _PLACES:
        raise AttributeError(name)
    return getattr(import_module(f"{__name__}.{_PLACES[name]}"), name)
