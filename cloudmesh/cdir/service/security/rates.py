"""How often one token or address may ask: a token bucket for each, in the memory of each process."""

from __future__ import annotations

import ipaddress
import time
from collections import OrderedDict
from collections.abc import Callable

_KNOWN = 10_000


class Rate:
    """Buckets that fill evenly, one a key.

    Args:
        per_s: what flows into each bucket a second.
        burst: what it holds, and has at first.
        clock: seconds that never go back.
    """

    def __init__(self, per_s: float, burst: int, clock: Callable[[], float] = time.monotonic) -> None:
        self._per_s = per_s
        self._burst = burst
        self._clock = clock
        self._buckets: OrderedDict[str, tuple[float, float]] = OrderedDict()

    def wait_s(self, key: str) -> float:
        """Take one out of the bucket and return 0; where it is empty, take nothing and return when to come again."""
        now = self._clock()
        level, then = self._buckets.pop(key, (float(self._burst), now))
        level = min(self._burst, level + (now - then) * self._per_s)
        is_enough = level >= 1
        # the key last asked for stands at the end: of too many, those that were quiet longest are forgotten
        self._buckets[key] = (level - is_enough, now)
        if len(self._buckets) > _KNOWN:
            self._buckets.popitem(last=False)
        return 0 if is_enough else (1 - level) / self._per_s


def address_key(address: str) -> str:
    """Return what an address is counted under: itself, of IPv6 the network of 64 bits that one site has for itself."""
    try:
        ip = ipaddress.ip_address(address)
    except ValueError:
        return address
    if isinstance(ip, ipaddress.IPv6Address):
        if ip.ipv4_mapped is None:
            return str(ipaddress.ip_network((int(ip) >> 64 << 64, 64)))
        ip = ip.ipv4_mapped
    return str(ip)
