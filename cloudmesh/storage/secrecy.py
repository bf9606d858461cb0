"""What is a secret, and how values are shown without them."""

from __future__ import annotations

import re

HIDDEN = "***"

_SECRET = re.compile(
    r"pass_?word|passwd|api_?key|pass_?phrase|secret|token|credential|connection_string|(^|_)(key|sas|pin|pwd)$"
)
_PUBLIC = re.compile(r"(_|^)(file|path|id|ids|uri|uris|url|urls|type|name|expiry|hosts)$|public_?key|cert_url$")
_USER_INFO = re.compile(r"(?<=://)[^/@\s]*:[^/\s]*@")
_QUERY = re.compile(r"(?<=[?&])([^=&\s]+)=[^&\s#]*")


def is_secret(key: str, declared: frozenset[str] = frozenset()) -> bool:
    """Tell whether the value of ``key`` is a secret: one that the provider declares, or one whose name says so.

    A key that names a file, an id or an address (``key_file``, ``access_key_id``, ``token_uri``) is none.
    """
    lower = key.lower()
    return key in declared or (_SECRET.search(lower) is not None and _PUBLIC.search(lower) is None)


def is_public_key_file(value: object) -> bool:
    """Tell whether ``value`` is the name of a file such as the template's ``key: ~/.ssh/id_rsa.pub``, not a key."""
    return isinstance(value, str) and (value.startswith("~/") or value.endswith(".pub"))


def without_secrets(value: str) -> str:
    """Return a value that is no secret itself, with the password and the query values of a URL hidden."""
    if "://" not in value:
        return value
    return _QUERY.sub(rf"\1={HIDDEN}", _USER_INFO.sub(f"{HIDDEN}@", value))
