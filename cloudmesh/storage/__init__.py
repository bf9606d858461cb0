"""One service: its configuration, its provider, transfers from and to it.

from cloudmesh.storage import Storage

Storage("aws").put("results/", "run7", recursive=True)
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from cloudmesh.storage.api import Storage as Storage

__all__ = ["Storage"]


def __getattr__(name: str) -> Any:
    # imported when it is used: every command loads this package, and few need all of it
    if name == "Storage":
        from cloudmesh.storage.api import Storage

        return Storage
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
