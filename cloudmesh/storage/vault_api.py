"""The commands ``storage vault …``."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from cloudmesh.storage import paths, yaml_file
from cloudmesh.storage.binding import destructive
from cloudmesh.storage.errors import AlreadyExists, NotFound, UsageError
from cloudmesh.storage.meaning import PathHere, at_the_terminal, reading
from cloudmesh.storage.prompt import Prompt, TerminalPrompt
from cloudmesh.storage.vault import Secrets, Vault, VaultState
from cloudmesh.storage.vault_keys import OpenedWith


@dataclass(frozen=True, slots=True)
class SecretName:
    """That a secret is there; never its value."""

    service: str
    key: str


@dataclass(frozen=True, slots=True, repr=False)
class Secret:
    """A secret with its value: only ``export`` gives it, and ``repr`` does not."""

    service: str
    key: str
    value: str

    def __repr__(self) -> str:
        return f"Secret(service={self.service!r}, key={self.key!r})"


class VaultApi:
    """What can be done with the vault.

    Args:
        vault: by default the one beside the configuration.
        prompt: asked for secrets and passphrases.
    """

    def __init__(self, vault: Vault | None = None, prompt: Prompt | None = None) -> None:
        self._prompt: Prompt = prompt or TerminalPrompt()
        self._vault = vault or Vault(prompt=self._prompt)

    @at_the_terminal("it asks how the vault is opened")
    def init(self, with_: OpenedWith = "identity", identity: str = "") -> VaultState:
        """Make an empty vault.

        Args:
            with_: how it is opened.
            identity: an age identity file or an ssh private key; the usual one where empty.

        Raises:
            AlreadyExists: there is one.
            VaultError: its key cannot be made or read.
        """
        return self._vault.create(with_, identity)

    @at_the_terminal("it asks for the secret")
    def set(self, key: str) -> SecretName:
        """Store a secret, asked for without echo, or read from standard input where that is no terminal.

        Args:
            key: ``SERVICE.KEY``, such as ``aws.secret_access_key``.

        Raises:
            UsageError: the key has another form, or the value is empty.
            VaultError: the vault cannot be opened or written.
        """
        name = _split(key)
        value = self._prompt.piped()
        if value is None:
            value = self._prompt.secret(key, instead="standard input")
        if not value:
            raise UsageError(key, "the value is empty", "nothing was changed; cms storage vault remove takes it out")
        secret = value

        def put(secrets: Secrets) -> None:
            secrets.setdefault(name.service, {})[name.key] = secret

        self._vault.change(put)
        return name

    @reading
    def list(self) -> Sequence[SecretName]:
        """Return which secrets there are, sorted; never their values.

        Raises:
            VaultError: the vault cannot be opened.
        """
        return [SecretName(service, key) for service, keys in sorted(self._vault.all().items()) for key in sorted(keys)]

    def remove(self, key: str) -> SecretName:
        """Take a secret out of the vault; the version before stays in ``vault.age.bak``.

        Args:
            key: ``SERVICE.KEY``.

        Raises:
            NotFound: the vault does not hold it.
            VaultError: the vault cannot be opened or written.
        """
        name = _split(key)

        def take(secrets: Secrets) -> None:
            if name.key not in secrets.get(name.service, {}):
                raise NotFound(key, "the vault does not hold it", "cms storage vault list")
            del secrets[name.service][name.key]

        if not self._vault.exists():
            raise NotFound(key, "there is no vault", "cms storage vault init")
        self._vault.change(take)
        return name

    @at_the_terminal("it asks how the vault is opened")
    def rekey(self, with_: OpenedWith | None = None, identity: str = "") -> VaultState:
        """Give the vault a new key, or another way to be opened; the old key then opens nothing here.

        Args:
            with_: how it is opened from now on; as before where None.
            identity: as in `init`.

        Raises:
            VaultError: the vault cannot be opened, or the new key cannot be made; nothing is changed.
        """
        return self._vault.rekey(with_, identity)

    @at_the_terminal("it ends the session of who sits there")
    def lock(self) -> VaultState:
        """Forget what `unlock` kept.

        Raises:
            VaultError: this vault has no lock.
        """
        return self._vault.lock()

    @at_the_terminal("it asks how the vault is opened")
    def unlock(self) -> VaultState:
        """Ask for the passphrase now, and no more until `lock` or the end of the login session.

        Raises:
            VaultError: it cannot be opened, or nothing can keep it open.
        """
        return self._vault.unlock()

    @at_the_terminal("no secret leaves the computer through a service")
    @destructive
    def export(self, to: PathHere, dryrun: bool = False) -> Sequence[Secret] | Sequence[SecretName]:
        """Write all secrets in plain text: the one place where they come out, so it asks.

        Args:
            to: a new file (JSON, mode 0600), or ``-`` for standard output.
            dryrun: only tell which there are.

        Raises:
            AlreadyExists: the file is there.
            VaultError: the vault cannot be opened.
        """
        names = self.list()
        path = Path(to).expanduser()
        if to != "-" and path.exists():
            raise AlreadyExists(to)
        if dryrun:
            return names
        secrets = self._vault.all()
        if to == "-":
            return [Secret(name.service, name.key, secrets[name.service][name.key]) for name in names]
        yaml_file.write(path, json.dumps(secrets, indent=2, ensure_ascii=False).encode() + b"\n", 0o600)
        return names


def _split(key: str) -> SecretName:
    service, _, name = key.rpartition(".")
    if not paths.is_service_name(service) or not name:
        raise UsageError(key, "is not SERVICE.KEY", "such as aws.secret_access_key")
    return SecretName(service, name)
