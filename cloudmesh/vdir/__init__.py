"""Many services: the catalogue of names, their replicas, and which of them to use.

from cloudmesh.vdir import Vdir

Vdir().put("results/", "/run7", to=["aws", "box"], recursive=True)
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from cloudmesh.vdir.api import Vdir as Vdir

__all__ = ["Vdir"]


def __getattr__(name: str) -> Any:
    # imported when it is used: the console script loads this package for its manual alone
    if name == "Vdir":
        from cloudmesh.vdir.api import Vdir

        return Vdir
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
