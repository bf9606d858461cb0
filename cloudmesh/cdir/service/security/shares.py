"""Share links: a signed, expiring URL with which anybody may read one virtual file or directory.

The link holds the share's number, when it ends, and an HMAC-SHA256 over both and the path, made with a key of this
installation. So a link can be neither guessed nor changed nor made by who has read the database; and the row says
whether it was revoked.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import os
import re
import secrets
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from sqlalchemy.engine import Row

from cloudmesh.cdir.service.security import audit, revocable
from cloudmesh.cdir.service.security.principal import Principal
from cloudmesh.cdir.service.tables import share as table
from cloudmesh.storage import age, home
from cloudmesh.storage.binding import Duration, tells_when_empty
from cloudmesh.storage.database import Database, clock_ns
from cloudmesh.storage.errors import ConfigError, UsageError
from cloudmesh.storage.local_files import translated

ROUTE = "/share/"
"""Begins the path of every share link; what follows the link's own part is a path below the shared directory."""

KEY = "share-key"
"""The file with the key, in our folder. Services that share a PostgreSQL database also need the same key."""

_LINK = re.compile(r"(\d{1,18})\.(\d{1,19})\.([A-Za-z0-9_-]{43})\Z", re.ASCII)
_BYTES = 32


@dataclass(frozen=True, slots=True)
class ShareInfo:
    """What is known of a share."""

    columns: ClassVar[tuple[str, ...]] = ("id", "created_ns", "expires_ns", "revoked_ns", "path")

    id: int
    path: str
    created_ns: int
    expires_ns: int
    revoked_ns: int | None


@dataclass(frozen=True, slots=True)
class NewShare:
    """A share link as it is shown when it is made."""

    columns: ClassVar[tuple[str, ...]] = ("url",)

    url: str
    id: int
    path: str
    expires_ns: int

    def __repr__(self) -> str:
        return f"NewShare(id={self.id}, path={self.path!r})"


class Shares:
    """The share links in the database.

    Args:
        database: gives the database; called when it is first needed.
        folder: where the key lies; our folder where None.
        address: gives the URL of the service, with which links begin.
    """

    usage_exempt: ClassVar[frozenset[str]] = frozenset({"verify"})

    def __init__(
        self, database: Callable[[], Database], folder: Path | None = None, address: Callable[[], str] = str
    ) -> None:
        self._database = database
        self._folder = folder
        self._address = address
        self._key = b""

    def create(self, path: str, expires: Duration = 7 * 86400) -> NewShare:
        """Make a link with which anybody may read a virtual file, or a directory with all that is in it.

        Args:
            path: of the file or directory, in the current one without a slash before it; it need not be there yet.
            expires: seconds for which the link is good.

        Raises:
            InvalidName: it cannot be a path.
            UsageError: it is the root, or the link would expire at once.
        """
        shared = revocable.path("PATH", path)
        if not shared:
            raise UsageError("PATH", "the root cannot be shared", "share a directory in it")
        with self._database().write() as connection:
            now_ns = clock_ns(connection)
            expires_ns = revocable.end_ns(now_ns, expires)
            values = {"path": shared, "created_ns": now_ns, "expires_ns": expires_ns}
            (number,) = connection.execute(table.insert().values(values)).inserted_primary_key or (0,)
            link = f"{number}.{expires_ns}.{self._signature(number, expires_ns, shared)}"
            audit.add(connection, [audit.local("share create", f"/{shared}")])
        base = self._address().rstrip("/")
        return NewShare(f"{base}{ROUTE}{link}", number, f"/{shared}", expires_ns)

    @tells_when_empty("there are no share links")
    def list(self) -> Iterator[ShareInfo]:
        """Yield all share links, the newest first; not the links themselves."""
        return map(_info, revocable.newest_first(self._database(), table))

    def revoke(self, id: int) -> ShareInfo:
        """Make a share link good for nothing, for good; a running service knows it within a second.

        Args:
            id: the number in the list.

        Raises:
            NotFound: there is no such share.
        """
        return _info(revocable.revoke(self._database(), table, id, lambda row: f"/{row.path}"))

    def verify(self, link: str) -> Principal | None:
        """Return who may read what the link shares; None where it is none of ours, expired or revoked."""
        if (found := _LINK.match(link)) is None:
            return None
        number, expires_ns, signature = int(found[1]), int(found[2]), found[3]
        with self._database().read() as connection:
            row = connection.execute(table.select().where(table.c.id == number)).first()
            # the signature of a share that is not there is computed too, so that the time tells nothing
            path = row.path if row is not None else ""
            is_right = hmac.compare_digest(self._signature(number, expires_ns, path), signature)
            if row is None or not is_right or row.revoked_ns is not None or expires_ns <= clock_ns(connection):
                return None
        return Principal(f"share-{number}", frozenset({"read"}), path)

    def _signature(self, number: int, expires_ns: int, path: str) -> str:
        self._key = self._key or key_of(self._folder or home.config_dir())
        told = f"cdir-share\n{number}\n{expires_ns}\n{path}".encode()
        return base64.urlsafe_b64encode(hmac.digest(self._key, told, hashlib.sha256)).decode().rstrip("=")


def key_of(folder: Path) -> bytes:
    """Return the key in ``folder``, made where there is none.

    Raises:
        ConfigError: it is damaged.
        VaultError: others may read it.
        StorageError: it cannot be read or written.
    """
    file = folder / KEY
    with translated(str(file)):
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        draft = folder / f".{KEY}.{secrets.token_hex(8)}"
        if not file.exists():
            descriptor = os.open(draft, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600)
            with os.fdopen(descriptor, "wb") as stream:
                stream.write(secrets.token_bytes(_BYTES))
                stream.flush()
                os.fsync(descriptor)
            with suppress(FileExistsError):
                os.link(draft, file)  # whole or not at all, and the first of several wins
            draft.unlink()
    key = age.read_private(file)
    if len(key) != _BYTES:
        raise ConfigError(str(file), "is no key", "remove it: a new one is made, and the links made so far end")
    return key


def _info(row: Row[Any]) -> ShareInfo:
    return ShareInfo(row.id, f"/{row.path}", row.created_ns, row.expires_ns, row.revoked_ns)
