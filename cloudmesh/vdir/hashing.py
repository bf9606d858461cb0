"""Reading many replicas whole, to know their SHA-256: services side by side, small files many at a time."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from functools import partial

from cloudmesh.storage.abc import SMALL, Loaded, ReadRequest
from cloudmesh.storage.digest import digest_of
from cloudmesh.storage.errors import StorageError
from cloudmesh.storage.pool import run_parallel
from cloudmesh.storage.transfer.events import Event
from cloudmesh.vdir.scrub import Found
from cloudmesh.vdir.work import Work

Hashed = tuple[Found, str | StorageError]
"""A replica with its hash, lower-case hex, or with why it could not be read."""


def hashed(found: Sequence[Found], work: Work) -> Iterator[Hashed]:
    """Read replicas, each while it is the file that was looked at, and yield them with their hashes, in any order."""
    services: dict[str, list[Found]] = {}
    for one in found:
        services.setdefault(one.now.service, []).append(one)
    for mine, result in run_parallel(partial(_of_service, work=work), services.values(), max(1, len(services))):
        yield from ((one, result) for one in mine) if isinstance(result, StorageError) else result


def _of_service(found: Sequence[Found], work: Work) -> list[Hashed]:
    service = work.open(found[0].now.service)
    small = [one for one in found if one.now.size is not None and one.now.size <= SMALL]
    large = [one for one in found if one.now.size is None or one.now.size > SMALL]
    results: list[Hashed] = []
    wanted = (ReadRequest(one.now.path, one.now.etag, one.now.size, one) for one in small)
    for request, loaded in service.read_many(wanted):
        results.append((request.context, digest_of((loaded.data,)) if isinstance(loaded, Loaded) else loaded))
    threads = work.threads({service.name}, sum(one.now.size or 0 for one in large) / max(1, len(large)))
    results += run_parallel(partial(sha256_now, work=work), large, threads)
    return results


def sha256_now(one: Found, work: Work) -> str:
    """Read one replica and return its SHA-256, lower-case hex. Raises as `StorageABC.open_read`."""
    name, state = one.name, hashlib.sha256()
    work.observer(Event("started", name, one.now.size or 0))
    with work.open(one.now.service).open_read(one.now.path, if_match=one.now.etag) as reader:
        for piece in reader:
            state.update(piece)
            work.observer(Event("moved", name, len(piece)))
    return state.hexdigest()
