"""OpenSSH's known_hosts: is this the key that the host is known by? (sshd(8), "SSH_KNOWN_HOSTS FILE FORMAT".)

ssh-python tells "known" and "changed" alike with True, so the file is read here. Certificate authorities are not used.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
from collections.abc import Iterable
from enum import Enum
from fnmatch import translate as glob_to_regex
from pathlib import Path
from re import IGNORECASE
from re import compile as compile_regex

DEFAULT_FILES = (Path("~/.ssh/known_hosts"), Path("/etc/ssh/ssh_known_hosts"))


class Verdict(Enum):
    """What the files say about a host and the key that it showed."""

    KNOWN = "known"
    UNKNOWN = "unknown"
    CHANGED = "changed"
    REVOKED = "revoked"


def fingerprint(key: bytes) -> str:
    """Return a public key's fingerprint as ``ssh-keygen -l`` prints it; ``key`` is in the wire format."""
    return "SHA256:" + base64.b64encode(hashlib.sha256(key).digest()).decode().rstrip("=")


def host_pattern(host: str, port: int) -> str:
    """Return how the files write a host and port."""
    return host.lower() if port == 22 else f"[{host.lower()}]:{port}"


def check(files: Iterable[Path], host: str, port: int, key: bytes) -> Verdict:
    """Return what ``files`` say about ``host`` showing ``key`` (wire format). A missing file says nothing.

    Raises:
        OSError: a file is there but cannot be read.
    """
    name = host_pattern(host, port)
    verdict = Verdict.UNKNOWN
    for file in files:
        try:
            lines = file.expanduser().read_text("utf-8", "replace").splitlines()
        except FileNotFoundError:
            continue
        for line in lines:
            fields = line.split()
            marker = fields.pop(0) if fields and fields[0].startswith("@") else ""
            if len(fields) < 3 or fields[0].startswith("#") or not _names(fields[0], name):
                continue
            try:
                same = base64.b64decode(fields[2], validate=True) == key
            except binascii.Error:
                continue
            if marker == "@revoked" and same:
                return Verdict.REVOKED
            if not marker:
                if same:
                    verdict = Verdict.KNOWN
                elif verdict is Verdict.UNKNOWN:
                    verdict = Verdict.CHANGED
    return verdict


def _names(field: str, name: str) -> bool:
    """Tell whether the first field of a line, plain patterns or one hashed name, means ``name``."""
    if field.startswith("|1|"):
        try:
            salt, digest = (base64.b64decode(part, validate=True) for part in field[3:].split("|"))
        except ValueError:
            return False
        return hmac.compare_digest(hmac.new(salt, name.encode(), hashlib.sha1).digest(), digest)
    found = False
    for pattern in field.split(","):
        negated = pattern.startswith("!")
        # Square brackets belong to [host]:port; they are no character class here.
        regex = glob_to_regex(pattern.removeprefix("!").replace("[", "[[]"))
        if compile_regex(regex, IGNORECASE).match(name):
            if negated:
                return False
            found = True
    return found
