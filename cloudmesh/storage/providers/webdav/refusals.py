"""Why a write is, or was, refused: what is at its path, or above it."""

from __future__ import annotations

from contextlib import suppress
from typing import NoReturn

from cloudmesh.storage.abc import WriteMode
from cloudmesh.storage.errors import AlreadyExists, IsADirectory, NotADirectory, NotFound, PreconditionFailed
from cloudmesh.storage.providers.webdav.answers import CLIENT_REFUSALS, REDIRECTS, bare_etag
from cloudmesh.storage.providers.webdav.messages import Answer
from cloudmesh.storage.providers.webdav.service import Service


def check_condition(service: Service, path: str, mode: WriteMode, if_match: str | None) -> bool:
    """Raise where what is at ``path`` now forbids the write; else tell whether a file is there, to be replaced.

    Raises:
        IsADirectory, AlreadyExists, PreconditionFailed: as of `StorageABC.write`.
    """
    try:
        entry = service.stat(path)
    except NotFound:
        if if_match is not None:
            raise PreconditionFailed(service.location(path), "the file is not there any longer") from None
        return False
    if entry.is_directory:
        raise IsADirectory(service.location(path))
    if mode == "create":
        raise AlreadyExists(service.location(path))
    if if_match is not None and entry.etag != bare_etag(if_match):
        raise PreconditionFailed(service.location(path))
    return True


def refuse_condition(service: Service, path: str, mode: WriteMode) -> NoReturn:
    """Raise what a 412 means."""
    _refuse_directory(service, path)
    if mode == "create":
        raise AlreadyExists(service.location(path))
    raise PreconditionFailed(service.location(path))


def explain_refusal(service: Service, path: str, answer: Answer) -> None:
    """Raise where a directory at ``path`` or a file among its parents is why a write was refused."""
    if answer.status in CLIENT_REFUSALS or answer.status in REDIRECTS or answer.status == 500:
        _refuse_directory(service, path)
        if service.is_below_file(path):
            raise NotADirectory(service.location(path), "a parent of it is a file")


def _refuse_directory(service: Service, path: str) -> None:
    with suppress(NotFound):
        if service.stat(path).is_directory:
            raise IsADirectory(service.location(path))
