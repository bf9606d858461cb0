"""Reading many files to know their SHA-256: services side by side, small files many at a time."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Generic, TypeVar

from cloudmesh.storage.abc import SMALL, Entry, Loaded, ReadRequest
from cloudmesh.storage.digest import digest_of
from cloudmesh.storage.errors import StorageError
from cloudmesh.storage.pool import run_parallel
from cloudmesh.storage.transfer.events import Event
from cloudmesh.vdir.work import Work

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Unread(Generic[T]):
    """A file of a service to be hashed.

    Attributes:
        service: where it is.
        entry: it; while it has an ``etag`` the file must still have the same.
        context: what the caller wants it for.
        name: under which its progress is told.
    """

    service: str
    entry: Entry
    context: T
    name: str


def hash_many(files: Sequence[Unread[T]], work: Work) -> Iterator[tuple[Unread[T], str | StorageError]]:
    """Yield each file with its SHA-256, lower-case hex, or with the error of reading it; in any order.

    A file that is no longer the one of its entry gives PreconditionFailed, where its service can tell.
    """
    services: dict[str, list[Unread[T]]] = {}
    for one in files:
        services.setdefault(one.service, []).append(one)
    for mine, result in run_parallel(partial(_of_service, work=work), services.values(), max(1, len(services))):
        yield from ((one, result) for one in mine) if isinstance(result, StorageError) else result


def _of_service(files: Sequence[Unread[T]], work: Work) -> list[tuple[Unread[T], str | StorageError]]:
    """Hash files of one service."""
    service = work.open(files[0].service)
    small = [one for one in files if one.entry.size is not None and one.entry.size <= SMALL]
    large = [one for one in files if one.entry.size is None or one.entry.size > SMALL]
    results: list[tuple[Unread[T], str | StorageError]] = []
    wanted = (ReadRequest(one.entry.path, one.entry.etag, one.entry.size, one) for one in small)
    for request, loaded in service.read_many(wanted):
        results.append((request.context, digest_of((loaded.data,)) if isinstance(loaded, Loaded) else loaded))
    threads = work.threads({service.name}, sum(one.entry.size or 0 for one in large) / max(1, len(large)))
    results += run_parallel(partial(hash_one, work=work), large, threads)
    return results


def hash_one(file: Unread[T], work: Work) -> str:
    """Return the SHA-256 of one file, lower-case hex. Raises as `StorageABC.open_read`."""
    state = hashlib.sha256()
    work.observer(Event("started", file.name, file.entry.size or 0))
    with work.open(file.service).open_read(file.entry.path, if_match=file.entry.etag) as reader:
        for piece in reader:
            state.update(piece)
            work.observer(Event("moved", file.name, len(piece)))
    return state.hexdigest()
