"""`FrontDoorApi`: what ``cdir`` itself does. Each usage line of `cloudmesh.cdir.manual` is one method here."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import cached_property
from types import TracebackType
from typing import TYPE_CHECKING, ClassVar, Self

from cloudmesh.cdir.service.security import audit
from cloudmesh.cdir.service.security.audit import Entry, Since
from cloudmesh.storage.binding import tells_when_empty
from cloudmesh.storage.database import Database

if TYPE_CHECKING:
    from cloudmesh.cdir.service.control import ServiceApi
    from cloudmesh.cdir.service.security.shares import Shares
    from cloudmesh.cdir.service.security.tokens import Tokens


class FrontDoorApi:
    """The front door.

    Args:
        database: where tokens, share links and the audit log are; the user's own where None.
    """

    usage_exempt: ClassVar[frozenset[str]] = frozenset({"close"})
    usage_groups: ClassVar[Mapping[str, str]] = {
        "service": "cloudmesh.cdir.service.control:ServiceApi",
        "token": "cloudmesh.cdir.service.security.tokens:Tokens",
        "share": "cloudmesh.cdir.service.security.shares:Shares",
    }

    def __init__(self, database: Database | None = None) -> None:
        self._shared_database = database

    @cached_property
    def service(self) -> ServiceApi:
        """The REST service on this computer."""
        from cloudmesh.cdir.service.control import ServiceApi

        return ServiceApi(lambda: self._database)

    @cached_property
    def token(self) -> Tokens:
        """The tokens."""
        from cloudmesh.cdir.service.security.tokens import Tokens

        return Tokens(lambda: self._database)

    @cached_property
    def share(self) -> Shares:
        """The share links."""
        from cloudmesh.cdir.service.security.shares import Shares

        return Shares(lambda: self._database, address=_address)

    @tells_when_empty("nothing of this kind was done")
    def audit(self, since: Since | None = None, who: str | None = None) -> Iterator[Entry]:
        """Yield what was asked of the service and how it ended, the oldest first.

        Args:
            since: only what ended since then, in ns since the epoch.
            who: only what they asked for.
        """
        return audit.entries(self._database, since, who)

    def close(self) -> None:
        """Close the database."""
        if self._shared_database is None and "_database" in self.__dict__:
            self._database.close()

    @cached_property
    def _database(self) -> Database:
        return self._shared_database or Database()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _address() -> str:
    """Return the URL of the service here, or the one that it would have."""
    from cloudmesh.cdir.service import settings, state

    return state.current().url or settings.load().address
