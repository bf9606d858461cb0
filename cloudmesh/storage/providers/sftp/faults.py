"""The server's error answers as errors of the closed set."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from cloudmesh.storage.errors import (
    InvalidName,
    NotFound,
    PermissionDenied,
    StorageError,
    Unavailable,
    Unsupported,
)
from cloudmesh.storage.providers.sftp import protocol
from cloudmesh.storage.providers.sftp.protocol import Status


@contextmanager
def about(subject: str) -> Iterator[None]:
    """Turn the server's error answers into errors about ``subject``, a location."""
    try:
        yield
    except Status as error:
        raise translate(error, subject) from error


def translate(error: Status, subject: str) -> StorageError:
    """Return the error that an answer means; FAILURE, which says nothing, is Unavailable."""
    if error.code == protocol.NO_SUCH_FILE:
        return NotFound(subject)
    if error.code == protocol.PERMISSION_DENIED:
        return PermissionDenied(subject)
    if error.code == protocol.BAD_MESSAGE:
        return InvalidName(subject, "the server cannot hold this name")
    if error.code == protocol.UNSUPPORTED:
        return Unsupported(subject)
    return Unavailable(subject, "the server failed and does not say why")
