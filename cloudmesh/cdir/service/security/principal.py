"""Who asks, and the one place that says what they may do."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

from cloudmesh.storage import paths
from cloudmesh.storage.errors import PermissionDenied

Scope = Literal["read", "write", "delete", "admin"]
"""read: what changes nothing; write: what changes; delete: what destroys; admin: configuration, vault, jobs removed.

None includes another one.
"""

SCOPES: tuple[Scope, ...] = get_args(Scope)


@dataclass(frozen=True, slots=True)
class Principal:
    """Whoever a request comes from.

    Attributes:
        name: as the audit log writes it: ``token-3``, ``session-8``, ``share-5``.
        scopes: what they may do.
        prefix: the virtual directory or file in which they may do it, normalised; empty for the root.
        services: those that they may name and use; None for all.
    """

    name: str
    scopes: frozenset[Scope]
    prefix: str = ""
    services: frozenset[str] | None = None

    def check_scope(self, scope: Scope) -> None:
        """Let through who has this scope.

        Raises:
            PermissionDenied: they have not.
        """
        if scope not in self.scopes:
            raise PermissionDenied(self.name, f"this needs the scope {scope!r}")

    def check_path(self, path: str) -> None:
        """Let a normalised virtual path through that is the prefix or lies below it.

        Raises:
            PermissionDenied: it lies elsewhere.
        """
        if self.prefix and path != self.prefix and not paths.is_below(path, self.prefix):
            raise PermissionDenied(f"/{path}", f"{self.name} may use what is in /{self.prefix} alone")

    def check_service(self, name: str) -> None:
        """Let a service through that they may use.

        Raises:
            PermissionDenied: they may not; it is not told whether it exists.
        """
        if self.services is not None and name not in self.services:
            raise PermissionDenied(name, f"{self.name} may not use this service")
