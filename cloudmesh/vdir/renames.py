"""Renames on a service, recognised by content: a replica that is gone, and a file that no name has with its bytes."""

from __future__ import annotations

from cloudmesh.storage.digest import strongest
from cloudmesh.storage.errors import StorageError
from cloudmesh.storage.paths import Location
from cloudmesh.vdir.detect import Detection
from cloudmesh.vdir.hashing import Unread, hash_many
from cloudmesh.vdir.spool import Spool
from cloudmesh.vdir.work import Work

_BATCH = 500


def recognise(spool: Spool, work: Work, found: Detection) -> None:
    """Find the lost replicas that lie elsewhere on their service now; they are no longer missing.

    A hash that the service tells decides, else the file is read: that is less than to copy it anew.
    """
    for batch in spool.suspects(_BATCH):
        used = work.catalogue.find_by_location(Location(service, entry.path) for service, entry in batch)
        unread: list[Unread[None]] = []
        for service, entry in batch:
            if service in found.failed or Location(service, entry.path) in used:
                continue
            algorithm = strongest(entry.hashes)
            if algorithm is None:
                unread.append(Unread(service, entry, None, f"{service}:{entry.path}"))
            elif spool.recognise(service, entry, algorithm, entry.hashes[algorithm]):
                found.count(service).missing -= 1
        for request, sha256 in hash_many(unread, work):
            if not isinstance(sha256, StorageError) and spool.recognise(
                request.service, request.entry, "sha256", sha256
            ):
                found.count(request.service).missing -= 1
