"""Keeps a vault unlocked until the user logs out: its key in a file of the login session, or in the system keyring.

The session's folder (``XDG_RUNTIME_DIR``) is the user's own, in memory, and vanishes at logout.
"""

from __future__ import annotations

import hashlib
import os
import stat
from contextlib import suppress
from pathlib import Path
from typing import Any

from cloudmesh.storage.errors import MissingExtra, VaultError
from cloudmesh.storage.local_files import replacing, translated

KEYRING = "cloudmesh-vdir vault"
"""The name under which the system keyring keeps a vault's key for good."""

KEYRING_SESSION = "cloudmesh-vdir unlocked vault"


def load(recipient: str) -> str:
    """Return what `save` kept for the vault of that recipient; empty where it is locked."""
    file = _file(recipient)
    if file is not None:
        try:
            return file.read_text("utf-8")
        except (OSError, UnicodeDecodeError):
            return ""
    with suppress(VaultError, MissingExtra):
        return keyring_get(KEYRING_SESSION, recipient)
    return ""


def save(recipient: str, text: str) -> None:
    """Keep ``text`` until `forget` or the end of the login session.

    Raises:
        VaultError: there is neither a session's folder nor a system keyring.
    """
    file = _file(recipient)
    if file is None:
        keyring_set(KEYRING_SESSION, recipient, text)
        return
    with translated(str(file)):
        file.parent.mkdir(mode=0o700, exist_ok=True)
        with replacing(file, mode=0o600) as temporary:
            temporary.write_text(text)


def forget(recipient: str) -> None:
    """Forget what `save` kept; nothing happens where it kept nothing."""
    file = _file(recipient)
    if file is not None:
        with suppress(FileNotFoundError), translated(str(file)):
            file.unlink(missing_ok=True)
        return
    with suppress(VaultError, MissingExtra):
        keyring_remove(KEYRING_SESSION, recipient)


def keyring_get(service: str, name: str) -> str:
    """Return a text from the system keyring; empty where it has none.

    Raises:
        VaultError: there is no keyring, or it is locked.
        MissingExtra: the package keyring is not installed.
    """
    return str(_keyring("get_password", service, name) or "")


def keyring_set(service: str, name: str, text: str) -> None:
    """Put a text into the system keyring; raises as `keyring_get`."""
    _keyring("set_password", service, name, text)


def keyring_remove(service: str, name: str) -> None:
    """Remove a text from the system keyring; raises as `keyring_get`, also where it is not there."""
    _keyring("delete_password", service, name)


def _file(recipient: str) -> Path | None:
    folder = os.environ.get("XDG_RUNTIME_DIR")
    if not folder:
        return None
    try:
        status = os.stat(folder)
    except OSError:
        return None
    if status.st_uid != os.getuid() or status.st_mode & (stat.S_IRWXG | stat.S_IRWXO):
        return None
    return Path(folder) / "cloudmesh-vdir" / f"{hashlib.sha256(recipient.encode()).hexdigest()[:32]}.key"


def _keyring(function: str, *arguments: str) -> Any:
    try:
        import keyring
        import keyring.errors
    except ImportError:
        raise MissingExtra(
            "system keyring", "package keyring is not installed", "pip install 'cloudmesh-vdir[keyring]'"
        ) from None
    try:
        return getattr(keyring, function)(*arguments)
    except Exception as error:  # backends raise their own (D-Bus, Keychain, …)
        missing = isinstance(error, keyring.errors.NoKeyringError)
    raise VaultError(
        "system keyring",
        "there is none on this machine" if missing else "it did not answer, or is locked",
        "cms storage vault rekey --with=identity, or set XDG_RUNTIME_DIR",
    )
