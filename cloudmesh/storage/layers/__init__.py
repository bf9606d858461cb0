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
]


def layered(
    provider: StorageABC,
    *,
    retry: RetryPolicy | None = None,
    requests_per_second: float | None = None,
    bytes_per_second: float | None = None,
    stop: threading.Event | None = None,
) -> StorageABC:
    """Return ``provider`` with the standard layers around it.

    Args:
        provider: whose ``settings.parallel`` is the number of calls let through at once.
        retry: how often and how long; the defaults of `RetryPolicy` when None.
        requests_per_second: no more calls than that; None = no limit.
        bytes_per_second: no more bytes read and written than that, together; None = no limit.
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
