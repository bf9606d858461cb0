"""The directory below which all of a service's paths lie: their names on the wire, and no link that leads out."""

from __future__ import annotations

import posixpath
import time

from cloudmesh.storage import paths
from cloudmesh.storage.errors import NotFound, PermissionDenied
from cloudmesh.storage.leftovers import Leftovers
from cloudmesh.storage.providers.sftp import protocol
from cloudmesh.storage.providers.sftp.protocol import Attributes, Sftp, Status

_REMEMBERED = 10_000
_BELIEVED_SECONDS = 30.0


class Root:
    """The root directory of one service.

    Args:
        service: the service's name, for errors.
        directory: as the server is told it; empty for the directory of the login.

    Attributes:
        leftovers: temporary files that listings came across.
    """

    def __init__(self, service: str, directory: bytes) -> None:
        self._service = service
        self._directory = directory
        self._real: bytes | None = None
        self._inside: dict[str, float] = {}
        self.leftovers = Leftovers()

    def location(self, path: str) -> str:
        """Return ``path`` as the user would type it."""
        return str(paths.Location(self._service, path))

    def remote(self, path: str) -> bytes:
        """Return the name on the wire."""
        name = path.encode("utf-8", "surrogateescape")
        return posixpath.join(self._directory, name) if name else self._directory or b"."

    def look(self, sftp: Sftp, path: str) -> Attributes:
        """Return what is at ``path``, which no link may lead out of the root.

        Raises:
            NotFound: nothing is there, or a special file.
            PermissionDenied: a link leads out of the root.
        """
        self.guard(sftp, path)
        attributes = sftp.attributes(sftp.lstat(self.remote(path)))
        if attributes.is_link:
            _, attributes = self.follow(sftp, path)
        if not attributes.is_directory and not attributes.is_file:
            raise NotFound(self.location(path), "it is neither a file nor a directory")
        return attributes

    def guard(self, sftp: Sftp, path: str) -> None:
        """Refuse a path of which a parent is a link that leads out of the root; what was seen is believed for a while.

        Raises:
            PermissionDenied: it leads out.
        """
        if self.is_believed(path):
            return
        parent = paths.parent(path)
        try:
            real = sftp.path(sftp.realpath(self.remote(parent)))
        except Status as error:
            if error.code != protocol.NO_SUCH_FILE:
                raise
            # Its own parent decides, then.
            self.guard(sftp, parent)
            return
        self.believe(sftp, path, real)

    def is_believed(self, path: str) -> bool:
        """Tell whether no parent of ``path`` leads out of the root, as was seen a short while ago."""
        parent = paths.parent(path)
        return not parent or self._inside.get(parent, 0.0) > time.monotonic()

    def believe(self, sftp: Sftp, path: str, real: bytes) -> None:
        """Remember for a while that the parent of ``path`` is inside; its real path is ``real``.

        Raises:
            PermissionDenied: it leads out.
        """
        self.refuse_outside(sftp, path, real)
        if len(self._inside) >= _REMEMBERED:
            self._inside.clear()
        self._inside[paths.parent(path)] = time.monotonic() + _BELIEVED_SECONDS

    def follow(self, sftp: Sftp, path: str) -> tuple[bytes, Attributes]:
        """Return where the link at ``path`` ends and what is there; raises as `look`."""
        status = sftp.stat(self.remote(path))
        try:
            real = sftp.path(sftp.realpath(self.remote(path)))
        finally:
            attributes = sftp.attributes_or_none(status)
        if attributes is None:
            raise NotFound(self.location(path))
        self.refuse_outside(sftp, path, real)
        return real, attributes

    def refuse_outside(self, sftp: Sftp, path: str, real: bytes) -> None:
        """Refuse ``path``, whose real path is ``real``, where that is not in the root.

        Raises:
            PermissionDenied: it is not.
        """
        if self._real is None:
            self._real = sftp.path(sftp.realpath(self.remote("")))
        if real != self._real and not holds(self._real, real):
            raise PermissionDenied(self.location(path), "a symbolic link leads out of the service's directory")

    def existing(self, sftp: Sftp, path: str) -> bytes:
        """Return the name on the wire of the nearest directory at or above ``path`` that is there."""
        remote = self.remote(path)
        while sftp.attributes_or_none(sftp.stat(remote)) is None and remote not in (b"", b".", b"/"):
            remote = posixpath.dirname(remote) or b"."
        return remote


def holds(directory: bytes, path: bytes) -> bool:
    """Tell whether ``path`` lies below ``directory``, both absolute and real."""
    return path.startswith(directory.rstrip(b"/") + b"/")
