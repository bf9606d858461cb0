"""Amazon's signature, version 4. See docs/decisions/0070-s3-requests-over-libcurl.md for why it is our own."""

from __future__ import annotations

import hashlib
import hmac
import time
from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import lru_cache

EMPTY = hashlib.sha256().hexdigest()
"""SHA-256 of no bytes."""
UNSIGNED = "UNSIGNED-PAYLOAD"


@dataclass(frozen=True, slots=True)
class Keys:
    """What requests are signed with; ``token`` comes with temporary keys."""

    access_key: str
    secret_key: str = field(repr=False)
    token: str | None = field(default=None, repr=False)


def signed(
    keys: Keys,
    region: str,
    method: str,
    host: str,
    path: str,
    query: str,
    headers: Iterable[tuple[str, str]],
    digest: str,
) -> list[tuple[str, str]]:
    """Return ``headers`` and those that sign them.

    Args:
        host: as in the Host header.
        path: percent-encoded, every character but letters, digits and ``-_.~/``.
        query: likewise, the parameters in order of their names.
        headers: all that are to be signed, without Host.
        digest: SHA-256 of the body, lower-case hex; or `UNSIGNED`, where another header vouches for it.
    """
    moment = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime())
    day = moment[:8]
    sent = [*headers, ("x-amz-content-sha256", digest), ("x-amz-date", moment)]
    if keys.token:
        sent.append(("x-amz-security-token", keys.token))
    lines = sorted((name.lower(), " ".join(value.split())) for name, value in [*sent, ("host", host)])
    names = ";".join(name for name, _ in lines)
    canonical = "\n".join((method, path, query, *(f"{name}:{value}" for name, value in lines), "", names, digest))
    scope = f"{day}/{region}/s3/aws4_request"
    text = f"AWS4-HMAC-SHA256\n{moment}\n{scope}\n{hashlib.sha256(canonical.encode()).hexdigest()}"
    signature = hmac.digest(_signing_key(keys.secret_key, day, region), text.encode(), "sha256").hex()
    credential = f"{keys.access_key}/{scope}"
    sent.append(
        ("Authorization", f"AWS4-HMAC-SHA256 Credential={credential}, SignedHeaders={names}, Signature={signature}")
    )
    return sent


@lru_cache(maxsize=16)
def _signing_key(secret_key: str, day: str, region: str) -> bytes:
    key = f"AWS4{secret_key}".encode()
    for text in (day, region, "s3", "aws4_request"):
        key = hmac.digest(key, text.encode(), "sha256")
    return key
