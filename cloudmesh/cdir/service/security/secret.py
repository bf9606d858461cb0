"""Secrets that we make and that come back: 256 random bits as text, of which only the SHA-256 is kept.

They need no slow hash, as nobody can try 2²⁵⁶ of them; and a database that is read by others opens nothing.
"""

from __future__ import annotations

import hashlib
import re
import secrets

_GIVEN_OUT = re.compile(r"(cdir_|\d+\.\d{19}\.)[A-Za-z0-9_-]+")
"""A token or a share link, or what is left of one."""

_TEXT = re.compile(r"[A-Za-z0-9_-]{43}\Z")
_BYTES = 32


def new_secret() -> str:
    """Return 256 bits of the operating system's randomness, in 43 characters that a URL may hold."""
    return secrets.token_urlsafe(_BYTES)


def is_secret(text: str) -> bool:
    """Tell whether ``text`` has the form of a secret of ours, so that nothing else is hashed or looked up."""
    return _TEXT.match(text) is not None


def hashed(secret: str) -> bytes:
    """Return what is kept of a secret."""
    return hashlib.sha256(secret.encode()).digest()


def redacted(text: str) -> str:
    """Return a text as it may be written down: without the tokens and share links that somebody has put there."""
    return _GIVEN_OUT.sub(r"\1…", text)
