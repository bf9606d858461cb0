"""The age format (age-encryption.org) through pyrage: keys, encryption, and errors in words that help.

Keys are texts as the ``age`` tool writes them: ``AGE-SECRET-KEY-1…`` and ``age1…``, or a line of an ssh public key.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, TypeVar

from cloudmesh.storage.errors import MissingExtra, VaultError

SECRET_KEY = "AGE-SECRET-KEY-"  # noqa: S105 - how a key begins
HEADER = b"age-encryption.org/v1"
ARMOR = b"-----BEGIN AGE ENCRYPTED FILE-----"

Result = TypeVar("Result")


class WrongKey(VaultError):
    """The file is whole as far as can be told, but for another key."""


def generate() -> str:
    """Return a new X25519 secret key."""
    return str(_pyrage().x25519.Identity.generate())


def public_of(secret_key: str, subject: str) -> str:
    """Return the recipient (``age1…``) of a secret key.

    Raises:
        VaultError: it is no key.
    """
    identity = _quietly(_pyrage().x25519.Identity.from_str, secret_key)
    if identity is None:
        raise VaultError(subject, "holds no valid age key")
    return str(identity.to_public())


def encrypt(plain: bytes, recipients: Iterable[str], subject: str) -> bytes:
    """Return ``plain`` encrypted to all ``recipients``, any one of whose keys opens it.

    Raises:
        VaultError: one is no recipient.
    """
    pyrage = _pyrage()
    made = []
    for recipient in recipients:
        maker = pyrage.ssh.Recipient if recipient.startswith("ssh-") else pyrage.x25519.Recipient
        made.append(_quietly(maker.from_str, recipient))
    encrypted = None if None in made else _quietly(pyrage.encrypt, plain, made)
    if encrypted is None:
        raise VaultError(subject, "cannot be encrypted for its keys; an ssh key must be ed25519 or rsa")
    return bytes(encrypted)


def decrypt(data: bytes, secret_keys: Sequence[str], subject: str, hint: str = "") -> bytes:
    """Return what ``data`` holds.

    Raises:
        WrongKey: it is encrypted to other keys.
        VaultError: it is damaged.
    """
    pyrage = _pyrage()
    made = [_quietly(pyrage.x25519.Identity.from_str, key) for key in secret_keys]
    return _decrypt(lambda: pyrage.decrypt(data, [one for one in made if one is not None]), data, subject, hint)


def encrypt_with_passphrase(plain: bytes, passphrase: str) -> bytes:
    """Return ``plain`` encrypted with a passphrase (scrypt: about 1.5 s, so that guessing is slow)."""
    return bytes(_pyrage().passphrase.encrypt(plain, passphrase))


def decrypt_with_passphrase(data: bytes, passphrase: str, subject: str, hint: str = "") -> bytes:
    """Return what ``data`` holds.

    Raises:
        WrongKey: the passphrase is another.
        VaultError: it is damaged.
    """
    pyrage = _pyrage()
    return _decrypt(lambda: pyrage.passphrase.decrypt(data, passphrase), data, subject, hint, "the passphrase is wrong")


def decrypt_with_ssh(data: bytes, key: bytes, subject: str, hint: str = "") -> bytes:
    """Return what ``data`` holds, opened by an ssh private key (without passphrase); raises as `decrypt`."""
    pyrage = _pyrage()
    identity = _quietly(pyrage.ssh.Identity.from_buffer, key)
    if identity is None:
        raise VaultError(subject, "the ssh key cannot be used; it must be ed25519 or rsa")
    return _decrypt(lambda: pyrage.decrypt(data, [identity]), data, subject, hint)


def ssh_private_key(path: Path, passphrase: Callable[[], str]) -> bytes:
    """Return an ssh private key as a file without passphrase holds it.

    Args:
        path: ed25519 or rsa, as ssh-keygen writes it.
        passphrase: asked only if the key has one.

    Raises:
        VaultError: it cannot be read, others may read it, or the passphrase is wrong.
        MissingExtra: it has a passphrase, and the package that takes it off is not installed.
    """
    data = read_private(path)
    try:
        _pyrage().ssh.Identity.from_buffer(data)
    except Exception as error:
        locked = "decrypted first" in str(error)
    else:
        return data
    if not locked:
        raise VaultError(str(path), "is no ssh private key that age can use", "it must be ed25519 or rsa")
    try:
        from cryptography.hazmat.primitives import serialization
    except ImportError:
        raise MissingExtra(
            str(path), "package cryptography is not installed", "pip install 'cloudmesh-vdir[vault-ssh]'"
        ) from None
    loader = (
        serialization.load_ssh_private_key if b"OPENSSH PRIVATE KEY" in data else serialization.load_pem_private_key
    )
    key = _quietly(loader, data, passphrase().encode())
    if key is None:
        raise WrongKey(str(path), "the passphrase of the ssh key is wrong")
    return bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.OpenSSH, serialization.NoEncryption())
    )


def ssh_recipient(path: Path) -> str:
    """Return the public key that stands beside an ssh private key, as a recipient.

    Raises:
        VaultError: there is no ``NAME.pub``.
    """
    public = path.with_name(path.name + ".pub")
    try:
        words = public.read_text(errors="replace").split()
    except OSError:
        words = []
    if len(words) < 2:
        raise VaultError(str(public), "the public key is missing", f"ssh-keygen -y -f {path} > {public}")
    return " ".join(words[:2])


def read_private(path: Path) -> bytes:
    """Return the bytes of a file that nobody else may read.

    Raises:
        VaultError: it is missing, unreadable, or others may read it.
    """
    try:
        with path.open("rb") as file:
            mode = os.fstat(file.fileno()).st_mode
            data = file.read()
    except OSError as error:
        reason = "is missing" if isinstance(error, FileNotFoundError) else "cannot be read"
        raise VaultError(str(path), f"the key file {reason}", "restore it from a backup") from error
    if mode & (stat.S_IRWXG | stat.S_IRWXO):
        raise VaultError(str(path), "the key file may be read by others", f"chmod 600 {path}")
    return data


def secret_keys_in(data: bytes, subject: str) -> list[str]:
    """Return the secret keys of an identity file as ``age-keygen`` writes it.

    Raises:
        VaultError: there is none.
    """
    lines = data.decode(errors="replace").splitlines()
    keys = [line.strip() for line in lines if line.strip().startswith(SECRET_KEY)]
    if not keys:
        raise VaultError(subject, "holds no age key", "age-keygen writes such files")
    return keys


def identity_file(secret_keys: Sequence[str], subject: str) -> bytes:
    """Return the content of an identity file that the ``age`` tool reads, the newest key first."""
    lines = [f"# public key: {public_of(key, subject)}\n{key}\n" for key in secret_keys]
    return "".join(lines).encode()


def _decrypt(run: Callable[[], Any], data: bytes, subject: str, hint: str, wrong: str = "") -> bytes:
    if not data:
        raise VaultError(subject, "is empty", hint)
    if not data.startswith((HEADER, ARMOR)):
        raise VaultError(subject, "is not in the age format", hint)
    try:
        return bytes(run())
    except Exception as error:
        words = str(error)
    if "No matching keys" in words:
        raise WrongKey(subject, wrong or "was encrypted for another key", hint)
    if wrong and words in ("Decryption failed", "Decryption error"):
        raise WrongKey(subject, wrong, hint)
    raise VaultError(subject, "is damaged (cut off or changed)", hint)


def _quietly(make: Callable[..., Result], *arguments: Any) -> Result | None:
    """Return what ``make`` makes, or None: its error's text may hold the key."""
    try:
        return make(*arguments)
    except Exception:
        return None


def _pyrage() -> Any:
    import pyrage

    return pyrage
