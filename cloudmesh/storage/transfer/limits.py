"""The limits of one run, ``--bwlimit`` and ``--transactions``, around its two services."""

from __future__ import annotations

from cloudmesh.storage.abc import StorageABC
from cloudmesh.storage.disk import Disk
from cloudmesh.storage.layers import TokenBucket, limited
from cloudmesh.storage.rate import Schedule
from cloudmesh.storage.transfer.options import TransferOptions


def limit_run(
    source: StorageABC, destination: StorageABC, options: TransferOptions, sharers: int = 1
) -> tuple[StorageABC, StorageABC]:
    """Return both services, with the limits of a run around them.

    Bytes are counted once, on the way to the destination, or to this computer's disk from the source. The disk itself
    is never wrapped: files go to and from it natively.

    Args:
        source: where the files are.
        destination: where they go; the same object where they stay on one service.
        options: what the user asked for.
        sharers: processes that do the run together; each may have an equal share.
    """
    if options.bwlimit is None and options.transactions is None:
        return source, destination
    speed = None
    if options.bwlimit is not None:
        whole = Schedule.parse(options.bwlimit)
        speed = TokenBucket(
            Schedule(whole.minutes, tuple(None if rate is None else rate / sharers for rate in whole.rates))
        )
    requests = None if options.transactions is None else options.transactions / sharers
    to_disk = isinstance(destination, Disk)
    same = source is destination  # as one object, so that it copies on its own side
    if not isinstance(source, Disk):
        source = limited(source, speed if to_disk else None, requests)
    if not to_disk:
        destination = source if same else limited(destination, speed, requests)
    return source, destination
