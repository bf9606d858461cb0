from __future__ import annotations

import pytest

from cloudmesh.cdir.service.security.rates import Rate, address_key


def test_a_bucket_is_emptied_and_fills_evenly() -> None:
    now = 0.0
    rate = Rate(2, 3, lambda: now)
    assert [rate.wait_s("a") for _ in range(4)] == [0, 0, 0, 0.5]
    assert rate.wait_s("b") == 0
    now = 0.25
    assert rate.wait_s("a") == 0.25
    now = 0.5
    assert rate.wait_s("a") == 0
    assert rate.wait_s("a") == 0.5
    now = 100
    assert [rate.wait_s("a") == 0 for _ in range(5)] == [True] * 3 + [False] * 2


def test_many_keys_take_no_endless_memory() -> None:
    rate = Rate(1, 1, lambda: 0)
    for key in range(20_000):
        rate.wait_s(str(key))
    assert len(rate._buckets) <= 10_000
    assert rate.wait_s("19999") > 0


@pytest.mark.parametrize(
    ("address", "key"),
    [
        ("10.0.0.1", "10.0.0.1"),
        ("::ffff:10.0.0.1", "10.0.0.1"),
        ("2001:db8::1", "2001:db8::/64"),
        ("2001:db8::ffff:1", "2001:db8::/64"),
        ("unknown", "unknown"),
    ],
)
def test_addresses_of_one_site_are_counted_together(address: str, key: str) -> None:
    assert address_key(address) == key
