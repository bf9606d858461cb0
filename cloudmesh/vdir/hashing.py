"""Reading many files to know their SHA-256, small ones many at a time."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

from cloudmesh.storage.abc import SMALL, Entry, Loaded, ReadRequest
from cloudmesh.storage.digest import digest_of
from cloudmesh.storage.errors import StorageError
from cloudmesh.storage.pool import run_parallel
from cloudmesh.vdir.sources import Source, sha256_of
from cloudmesh.vdir.work import Work

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Unread(Generic[T]):
    """A file of a service to be hashed, and what the caller wants it for."""

    service: str
    entry: Entry
    context: T


def hash_many(files: Sequence[Unread[T]], work: Work) -> Iterator[tuple[Unread[T], str | StorageError]]:
    """Yield each file with its SHA-256, lower-case hex, or with the error of reading it; in any order.

    A file that is no longer the one of its entry gives PreconditionFailed, where its service can tell.
    """
    large: list[Unread[T]] = []
    small: dict[str, list[Unread[T]]] = {}
    for one in files:
        if one.entry.size is not None and one.entry.size <= SMALL:
            small.setdefault(one.service, []).append(one)
        else:
            large.append(one)
    for name, group in small.items():
        try:
            service = work.open(name)
        except StorageError as error:
            yield from ((one, error) for one in group)
            continue
        requests = (ReadRequest(one.entry.path, one.entry.etag, one.entry.size, one) for one in group)
        for request, loaded in service.read_many(requests):
            yield request.context, digest_of((loaded.data,)) if isinstance(loaded, Loaded) else loaded
    size = sum(one.entry.size or 0 for one in large) / max(1, len(large))
    threads = work.threads({one.service for one in large}, size)
    yield from run_parallel(lambda one: sha256_of(Source(work.open(one.service), one.entry)), large, threads)
