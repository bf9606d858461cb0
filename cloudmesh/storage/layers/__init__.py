"""What every provider needs and none should write: retries, limits and metering, wrapped around it from outside.

A layer is a `StorageABC` around another one. The order matters; `layered` builds the right one::

    Retry(Limit(Meter(provider)))       right: every attempt waits for its turn and is counted, and while a failed one
                                        waits for its next try it holds no connection slot
    Limit(Meter(Retry(provider)))       wrong: a sleeping retry keeps others out, the attempts escape the request
                                        rate, and the measured seconds are mostly sleep

Timeouts are not a layer: only the provider can end a call that hangs (`ServiceSettings.timeouts`).
"""

from __future__ import annotations

import threading

from cloudmesh.storage.abc import StorageABC
from cloudmesh.storage.layers.base import Layer, find_layer
from cloudmesh.storage.layers.limit import Limit, TokenBucket
from cloudmesh.storage.layers.meter import Count, Meter, Snapshot
from cloudmesh.storage.layers.retry import Retry, RetryPolicy
from cloudmesh.storage.rate import Schedule

__all__ = [
    "Count",
    "Layer",
    "Limit",
    "Meter",
    "Retry",
    "RetryPolicy",
    "Snapshot",
    "TokenBucket",
    "find_layer",
    "layered",
    "limited",
]


def layered(
    provider: StorageABC,
    *,
    retry: RetryPolicy | None = None,
    requests_per_second: float | None = None,
    bytes_per_second: float | Schedule | None = None,
    stop: threading.Event | None = None,
) -> StorageABC:
    """Return ``provider`` with the standard layers around it.

    Args:
        provider: whose ``settings.parallel`` is the number of calls let through at once.
        retry: how often and how long; the defaults of `RetryPolicy` when None.
        requests_per_second: no more calls than that; None = no limit.
        bytes_per_second: no more bytes read and written than that, together, also by time of the week; None =
            no limit.
        stop: when set, a call that waits for its next attempt gives up at once with its last error.

    The `Meter` among them is found with ``find_layer(storage, Meter)``.
    """
    limit = Limit(
        Meter(provider),
        concurrency=provider.settings.parallel,
        requests_per_second=requests_per_second,
        bytes_per_second=bytes_per_second,
    )
    sleep = stop.wait if stop is not None else threading.Event().wait
    return Retry(limit, retry or RetryPolicy(), sleep=sleep)


def limited(
    service: StorageABC, bytes_bucket: TokenBucket | None = None, requests_per_second: float | None = None
) -> StorageABC:
    """Return a service with the limits of one run around it: its layers, connections and own limits stay as they are.

    What a run may move is counted in bytes of the files transferred, once each: so the bucket goes around one side, the
    source or the destination, and the same bucket around that side of each service that the run concerns. What is
    copied on a service's own side costs nothing; what a broken write sends again is counted again.

    Args:
        service: layered, or the local disk of a `put` or a `get`.
        bytes_bucket: shared by the run.
        requests_per_second: calls to this service. Repetitions of the layers inside are not among them: they wait
            longer by themselves.
    """
    if bytes_bucket is None and requests_per_second is None:
        return service
    return Limit(service, requests_per_second=requests_per_second, bytes_per_second=bytes_bucket)
