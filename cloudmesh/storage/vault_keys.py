"""How a vault's key is kept: in a file, behind a passphrase, behind an ssh key, or in the system keyring.

The vault itself is always encrypted to an X25519 key of its own, the vault key; what differs is who guards that key.
So opening is fast once it is unlocked, and unlocking never hands out a passphrase or an ssh key.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from cloudmesh.storage import age, vault_session, yaml_file
from cloudmesh.storage.errors import VaultError
from cloudmesh.storage.prompt import Prompt

OpenedWith = Literal["identity", "passphrase", "ssh", "keyring"]

PASSPHRASE = "CDIR_VAULT_PASSPHRASE"  # noqa: S105 - the name of the variable
NEW_PASSPHRASE = "CDIR_VAULT_NEW_PASSPHRASE"  # noqa: S105
IDENTITY_FILE = "vault.key"
SSH_KEYS = ("~/.ssh/id_ed25519", "~/.ssh/id_rsa")
_WRAPPED = {"passphrase": "vault.passphrase.age", "ssh": "vault.ssh.age"}


@dataclass(frozen=True, slots=True)
class Keeping:
    """One way in which the vault key is kept; not secret.

    Attributes:
        opened_with: who guards it.
        recipients: to whom the vault is encrypted: first the vault key itself; with ssh that key too, so that
            ``age -d -i ~/.ssh/id_ed25519`` opens the vault without us.
        file: the identity file, or the ssh private key; empty for the other two.
    """

    opened_with: OpenedWith
    recipients: tuple[str, ...]
    file: str = ""

    @property
    def can_lock(self) -> bool:
        """Whether it is locked until the user does something."""
        return self.opened_with in _WRAPPED

    def wrapped(self, folder: Path) -> Path:
        """The file that holds the vault key encrypted, where `can_lock`."""
        return folder / _WRAPPED[self.opened_with]

    def described(self, folder: Path) -> str:
        """Where the key is, for people."""
        if self.opened_with == "keyring":
            return "system keyring"
        return self.file or str(self.wrapped(folder))


def load(keeping: Keeping, folder: Path, prompt: Prompt, *, session: bool = True) -> list[str]:
    """Return the secret keys that this way gives.

    Args:
        keeping: the way.
        folder: where the vault lies.
        prompt: asked for a passphrase where one is needed and the environment has none.
        session: whether a vault that was unlocked before may be used without asking.

    Raises:
        VaultError: the key is missing, unreadable, readable by others, or the passphrase is wrong.
        UsageError: a passphrase is needed and nobody can be asked.
    """
    if keeping.opened_with == "identity":
        path = Path(keeping.file)
        return age.secret_keys_in(age.read_private(path), str(path))
    recipient = keeping.recipients[0]
    if keeping.opened_with == "keyring":
        found = vault_session.keyring_get(vault_session.KEYRING, recipient)
        if not found:
            raise VaultError("system keyring", "it does not hold the vault's key", "was it another machine or user?")
        return age.secret_keys_in(found.encode(), "system keyring")
    if session and (kept := vault_session.load(recipient)):
        return age.secret_keys_in(kept.encode(), "the unlocked vault's key")
    wrapped = keeping.wrapped(folder)
    data = age.read_private(wrapped)
    if keeping.opened_with == "passphrase":
        passphrase = _ask("Passphrase of the vault", prompt)
        return age.secret_keys_in(age.decrypt_with_passphrase(data, passphrase, str(wrapped)), str(wrapped))
    ssh_key = age.ssh_private_key(Path(keeping.file), lambda: _ask(f"Passphrase of {keeping.file}", prompt))
    return age.secret_keys_in(age.decrypt_with_ssh(data, ssh_key, str(wrapped)), str(wrapped))


class NewKeeping:
    """A vault key that is about to be kept in a new way. Everything that can fail by the user's doing fails here.

    Args:
        opened_with: who shall guard it.
        file: an identity file of the user's, or an ssh private key; empty for the usual one.
        folder: where the vault lies.
        prompt: asked for a new passphrase, twice.
        replaces: the way that it takes the place of; then a new key is made even where our identity file has one.
    """

    def __init__(
        self, opened_with: OpenedWith, file: str, folder: Path, prompt: Prompt, replaces: Keeping | None = None
    ) -> None:
        self._folder = folder
        self._passphrase = ""
        path = Path(file).expanduser().absolute() if file else folder / IDENTITY_FILE
        self._ours = opened_with != "identity" or path == folder / IDENTITY_FILE
        extra: tuple[str, ...] = ()
        self.secret_key = ""
        if opened_with == "identity":
            if not self._ours or (path.exists() and replaces is None):
                self.secret_key = age.secret_keys_in(age.read_private(path), str(path))[0]
        elif opened_with == "ssh":
            path = path if file else _usual_ssh_key()
            age.read_private(path)
            extra = (age.ssh_recipient(path),)
            age.encrypt(b"", extra, str(path))
        elif file:
            raise VaultError(file, f"a vault opened with {opened_with} has no identity file", "leave --identity out")
        elif opened_with == "passphrase":
            self._passphrase = _new_passphrase(prompt, replaces)
        self.secret_key = self.secret_key or age.generate()
        recipients = (age.public_of(self.secret_key, str(path)), *extra)
        self.keeping = Keeping(opened_with, recipients, str(path) if opened_with in ("identity", "ssh") else "")

    def store(self, also: tuple[str, ...] = ()) -> None:
        """Put the key where it is kept, together with older ones that are still needed until the vault is rewritten."""
        keeping = self.keeping
        content = age.identity_file([self.secret_key, *also], "the vault's key")
        if keeping.opened_with == "keyring":
            vault_session.keyring_set(vault_session.KEYRING, keeping.recipients[0], content.decode())
        elif keeping.opened_with == "passphrase":
            yaml_file.write(
                keeping.wrapped(self._folder), age.encrypt_with_passphrase(content, self._passphrase), 0o600
            )
        elif keeping.opened_with == "ssh":
            wrapped = keeping.wrapped(self._folder)
            yaml_file.write(wrapped, age.encrypt(content, keeping.recipients[1:], str(wrapped)), 0o600)
        elif self._ours:
            yaml_file.write(Path(keeping.file), content, 0o600)


def forget(keeping: Keeping, folder: Path, but: Keeping) -> None:
    """Remove the key of a way that is no longer used; a file of the user's own stays."""
    vault_session.forget(keeping.recipients[0])
    if keeping.opened_with == "keyring":
        if keeping.recipients != but.recipients:
            vault_session.keyring_remove(vault_session.KEYRING, keeping.recipients[0])
    elif keeping.can_lock:
        if keeping.opened_with != but.opened_with:
            keeping.wrapped(folder).unlink(missing_ok=True)
    elif keeping.file == str(folder / IDENTITY_FILE) and keeping.file != but.file:
        Path(keeping.file).unlink(missing_ok=True)


def _ask(text: str, prompt: Prompt) -> str:
    return os.environ.get(PASSPHRASE) or prompt.secret(text, instead=f"{PASSPHRASE}, or cms storage vault unlock")


def _new_passphrase(prompt: Prompt, replaces: Keeping | None) -> str:
    # While a vault is given a new passphrase, the usual variable holds the old one.
    variable = NEW_PASSPHRASE if replaces is not None and replaces.can_lock else PASSPHRASE
    passphrase = os.environ.get(variable)
    if not passphrase:
        passphrase = prompt.secret("New passphrase of the vault", instead=variable)
        if passphrase and prompt.secret("The same again", instead=variable) != passphrase:
            raise VaultError("passphrase", "the two are not the same", "nothing was changed")
    if not passphrase:
        raise VaultError("passphrase", "an empty one guards nothing", "nothing was changed")
    return passphrase


def _usual_ssh_key() -> Path:
    for name in SSH_KEYS:
        path = Path(name).expanduser()
        if path.exists():
            return path
    raise VaultError("ssh key", f"there is none of {' and '.join(SSH_KEYS)}", "--identity=FILE")
