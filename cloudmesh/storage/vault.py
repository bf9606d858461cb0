"""The vault: all secrets in one file in the age format, ``vault.age`` beside the configuration.

Inside is JSON, service to key to value, so that ``age -d -i vault.key vault.age`` shows it and ``age`` can write it.
``vault.json`` tells, without secrets, how it is opened, and ``vault.services.json`` of which services it holds some, so
that a service without any works while the vault is locked. Each write replaces the file at once and keeps the version
before as ``vault.age.bak``; writers wait for each other, and a change of others between reading and writing is merged.
"""

from __future__ import annotations

import copy
import hashlib
import json
import threading
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

from cloudmesh.storage import age, vault_keys, vault_session, yaml_file
from cloudmesh.storage.errors import AlreadyExists, StorageError, UsageError, VaultError
from cloudmesh.storage.home import config_dir
from cloudmesh.storage.local_files import replacing, translated
from cloudmesh.storage.prompt import Nobody, Prompt, TerminalPrompt
from cloudmesh.storage.vault_keys import Keeping, NewKeeping, OpenedWith

Secrets = dict[str, dict[str, str]]
"""Service to key to value."""

ATTEMPTS = 10
"""How often a write starts over because others (who do not take our lock) changed the vault meanwhile."""


@dataclass(frozen=True, slots=True)
class VaultState:
    """How a vault is opened.

    Attributes:
        path: the vault's file.
        opened_with: ``identity``, ``passphrase``, ``ssh`` or ``keyring``.
        key: where the key is kept.
        locked: whether the next use asks for a passphrase or an ssh key.
    """

    path: str
    opened_with: OpenedWith
    key: str
    locked: bool


class Vault:
    """The secrets of all services. Thread-safe; nothing is read before it is needed.

    Args:
        folder: where it lies; by default `home.config_dir`.
        prompt: asked for a passphrase where one is needed.
    """

    def __init__(self, folder: Path | None = None, prompt: Prompt | None = None) -> None:
        self.folder = folder or config_dir()
        self.path = self.folder / "vault.age"
        self._backup = self.folder / "vault.age.bak"
        self._settings = self.folder / "vault.json"
        self._index = self.folder / "vault.services.json"
        self._prompt: Prompt = prompt or TerminalPrompt()
        self._thread = threading.RLock()
        self._keys: list[str] = []
        self._way: Keeping | None = None  # the one that gave the keys
        self._opened: tuple[bytes, Secrets] | None = None

    def ask_nobody(self) -> None:
        """From now on fail where a passphrase would have to be asked for, as in a process in the background."""
        self._prompt = Nobody()

    def exists(self) -> bool:
        """Tell whether there is one, or was one whose previous version is still there."""
        return self.path.exists() or self._backup.exists()

    def may_hold(self, service: str) -> bool:
        """Tell, without opening it, whether it may hold secrets of a service: not where our list of them says so.

        The list counts only for the very bytes that it was made for, so a vault that others wrote may hold anything.

        Raises:
            VaultError: the vault is missing.
        """
        data = self._bytes()
        if data is None:
            return False
        try:
            index = json.loads(self._index.read_bytes())
            return bool(index["vault"] != _digest(data) or service in index["services"])
        except (OSError, ValueError, KeyError, TypeError):
            return True

    def secrets(self, service: str) -> dict[str, str]:
        """Return a service's secrets, key to value; empty where it has none.

        Raises:
            VaultError: the vault cannot be opened.
        """
        return dict(self.all().get(service, {}))

    def all(self) -> Secrets:
        """Return everything; raises as `secrets`."""
        with self._thread:
            data = self._bytes()
            if data is None:
                return {}
            if self._opened is None or self._opened[0] != data:
                self._opened = (data, self._open(data))
            return copy.deepcopy(self._opened[1])

    def change(self, edit: Callable[[Secrets], None]) -> None:
        """Change the secrets in place; a vault opened with an identity file is made where there is none.

        Raises:
            VaultError: the vault cannot be opened or written; nothing is changed.
        """
        with self._thread:
            if not self.exists():
                self.create()
            with yaml_file.locked(self.path):
                for _ in range(ATTEMPTS):
                    data = self._bytes()
                    before = self._open(data) if data is not None else {}
                    after = copy.deepcopy(before)
                    edit(after)
                    after = {service: keys for service, keys in after.items() if keys}
                    if after == before or self._write(after, self._recipients(), data):
                        return
            raise VaultError(str(self.path), "is changed by others again and again", "try again later")

    def create(self, opened_with: OpenedWith = "identity", file: str = "") -> VaultState:
        """Make an empty vault.

        Args:
            opened_with: who guards its key.
            file: an identity file, or an ssh private key; the usual one where empty.

        Raises:
            AlreadyExists: there is one.
            VaultError: the key cannot be made, read or stored; nothing is changed.
        """
        _check(opened_with)
        with self._thread, yaml_file.locked(self.path):
            if self.exists():
                hint = "cms storage vault rekey gives it another key"
                raise AlreadyExists(str(self.path if self.path.exists() else self._backup), "already exists", hint)
            new = NewKeeping(opened_with, file, self.folder, self._prompt)
            new.store()
            self._keys, self._way = [new.secret_key], new.keeping
            self._write_settings(new.keeping)
            self._write({}, new.keeping.recipients, None)
        return self.state()

    def rekey(self, opened_with: OpenedWith | None = None, file: str = "") -> VaultState:
        """Give the vault a new key, and the previous version with it, so that the old key opens nothing here.

        Dying at any point leaves a vault that the old or the new way opens.

        Args:
            opened_with: who guards the new key; as before where None.
            file: as in `create`; as before where empty.

        Raises:
            VaultError: the vault cannot be opened, or the new key cannot be made; nothing is changed.
        """
        if opened_with is not None:
            _check(opened_with)
        with self._thread, yaml_file.locked(self.path):
            data = self._need()
            content = self._open(data)
            ways, old_keys = self._ways(), tuple(self._keys)
            old = self._way or ways[0]
            if opened_with in (None, old.opened_with) and not file and old.file != str(self._own_key()):
                file = old.file
            new = NewKeeping(opened_with or old.opened_with, file, self.folder, self._prompt, replaces=old)
            # Until the last step both ways are tried, and the new key is kept together with the old one. Where both
            # use the same file, the intent is written first; else the key, since storing it may fail.
            same = new.keeping.opened_with == old.opened_with
            if not same:
                new.store(also=old_keys)
            self._write_settings(new.keeping, *ways)
            if same:
                new.store(also=old_keys)
            self._keys, self._way = [new.secret_key, *old_keys], new.keeping
            if not self._write(content, new.keeping.recipients, data):
                raise VaultError(str(self.path), "was changed by others meanwhile", "try again")
            yaml_file.write(self._backup, self.path.read_bytes(), 0o600)
            new.store()
            self._write_settings(new.keeping)
            for way in ways:
                vault_keys.forget(way, self.folder, but=new.keeping)
            self._keys = [new.secret_key]
        return self.state()

    def unlock(self) -> VaultState:
        """Open the vault with its passphrase or ssh key, and keep it open until `lock` or the end of the session.

        Raises:
            VaultError: it cannot be opened, or nothing can keep it open.
        """
        with self._thread:
            data = self._need()
            keeping = self._ways()[0]
            if keeping.can_lock:
                self._keys, self._way = vault_keys.load(keeping, self.folder, self._prompt, session=False), keeping
                self._open(data)
                vault_session.save(keeping.recipients[0], age.identity_file(self._keys, str(self.path)).decode())
        return self.state()

    def lock(self) -> VaultState:
        """Forget what `unlock` kept.

        Raises:
            VaultError: it is opened by a file or the keyring, and so cannot be locked.
        """
        with self._thread:
            self._need()
            keeping = self._ways()[0]
            if not keeping.can_lock:
                raise VaultError(
                    str(self.path),
                    f"is opened with {keeping.described(self.folder)} and has no lock",
                    "cms storage vault rekey --with=passphrase",
                )
            vault_session.forget(keeping.recipients[0])
            self._keys, self._opened = [], None
        return self.state()

    def state(self) -> VaultState:
        """Return how it is opened.

        Raises:
            VaultError: there is no vault.
        """
        self._need()
        keeping = self._ways()[0]
        locked = keeping.can_lock and not vault_session.load(keeping.recipients[0])
        return VaultState(str(self.path), keeping.opened_with, keeping.described(self.folder), locked)

    def _open(self, data: bytes) -> Secrets:
        """Decrypt with the keys at hand, else with those that each way gives in turn."""
        restore = f"cp {self._backup} {self.path} brings the version before" if self._backup.exists() else ""
        if not data:
            raise VaultError(str(self.path), "is empty", restore)
        if not data.startswith((age.HEADER, age.ARMOR)):
            raise VaultError(str(self.path), "is not in the age format", restore)
        if self._keys:
            try:
                return self._parse(age.decrypt(data, self._keys, str(self.path), restore), restore)
            except age.WrongKey:
                self._keys = []
        failure: StorageError | None = None
        # During a rekey there are two ways: one that is unlocked goes first, and nobody is asked twice for the same.
        ways = sorted(self._ways(), key=lambda way: not (way.can_lock and vault_session.load(way.recipients[0])))
        asked = False
        for keeping in ways:
            if keeping.opened_with == "passphrase":
                if asked:
                    continue
                asked = True
            try:
                keys = vault_keys.load(keeping, self.folder, self._prompt)
                plain = age.decrypt(data, keys, str(self.path), restore)
            except age.WrongKey as error:
                if error.subject == str(self.path):
                    where = keeping.described(self.folder)
                    error = age.WrongKey(error.subject, f"was encrypted for another key than {where}", restore)
                failure = failure or error
            except (VaultError, UsageError) as error:
                failure = failure or error
            else:
                self._keys, self._way = keys, keeping
                return self._parse(plain, restore)
        raise failure or VaultError(str(self.path))

    def _parse(self, plain: bytes, hint: str) -> Secrets:
        try:
            data = json.loads(plain)
            return {
                str(service): {
                    str(key): value if isinstance(value, str) else json.dumps(value) for key, value in keys.items()
                }
                for service, keys in data.items()
            }
        except (ValueError, AttributeError):
            pass  # outside, since the error holds the content
        raise VaultError(str(self.path), "does not hold JSON, service to key to value", hint)

    def _write(self, content: Secrets, recipients: tuple[str, ...], before: bytes | None) -> bool:
        """Replace the vault unless it is no longer ``before``; returns whether it was replaced."""
        plain = json.dumps(content, indent=2, ensure_ascii=False, sort_keys=True).encode() + b"\n"
        data = age.encrypt(plain, recipients, str(self.path))
        if age.decrypt(data, self._keys, str(self.path)) != plain:
            raise VaultError(str(self.path), "cannot be read back", "nothing was changed")
        if before is not None:
            yaml_file.write(self._backup, before, 0o600)
        try:
            with translated(str(self.path)), replacing(self.path, mode=0o600) as temporary:
                temporary.write_bytes(data)
                if self._present() != before:
                    raise _ChangedMeanwhile
        except _ChangedMeanwhile:
            return False
        self._opened = (data, content)
        self._write_index(data, content)
        return True

    def _write_index(self, data: bytes, services: Iterable[str]) -> None:
        index = {"vault": _digest(data), "services": sorted(services)}
        with suppress(StorageError):  # without it the vault is opened more often, that is all
            yaml_file.write(self._index, json.dumps(index, indent=2).encode() + b"\n", 0o600)

    def _bytes(self) -> bytes | None:
        """The file's bytes; None where there never was one."""
        data = self._present()
        if data is None and self._backup.exists():
            raise VaultError(str(self.path), "is missing", f"cp {self._backup} {self.path} brings the version before")
        return data

    def _present(self) -> bytes | None:
        with translated(str(self.path)):
            try:
                return self.path.read_bytes()
            except FileNotFoundError:
                return None

    def _need(self) -> bytes:
        data = self._bytes()
        if data is None:
            raise VaultError(str(self.path), "there is no vault", "cms storage vault init")
        return data

    def _recipients(self) -> tuple[str, ...]:
        """To whom the vault is encrypted: as the way says that opened it."""
        return (self._way or self._ways()[0]).recipients

    def _own_key(self) -> Path:
        return self.folder / vault_keys.IDENTITY_FILE

    def _ways(self) -> list[Keeping]:
        """How the vault is opened: the usual way first; during a rekey the old way too."""
        hint = f"move it away, then {self._own_key()} is tried"
        problem = VaultError(str(self._settings), "does not tell how the vault is opened", hint)
        try:
            found = json.loads(self._settings.read_bytes())["ways"]
            ways = [_keeping(way, self.folder) for way in found]
        except FileNotFoundError:
            # Moved here without its settings: the identity file says all that is needed.
            own = self._own_key()
            keys = age.secret_keys_in(age.read_private(own), str(own))
            return [Keeping("identity", (age.public_of(keys[0], str(own)),), str(own))]
        except (OSError, ValueError, KeyError, TypeError):
            ways = []
        if not ways:
            raise problem
        return ways

    def _write_settings(self, *ways: Keeping) -> None:
        data: list[dict[str, Any]] = [
            {
                "opened_with": way.opened_with,
                "recipients": list(way.recipients),
                # our own file by its name alone, so that the folder can be moved
                "file": way.file if way.file != str(self._own_key()) else self._own_key().name,
            }
            for way in ways
        ]
        yaml_file.write(self._settings, json.dumps({"ways": data}, indent=2).encode() + b"\n", 0o600)


class _ChangedMeanwhile(Exception):
    """Others replaced the vault while we were writing."""


def _digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def _keeping(way: dict[str, Any], folder: Path) -> Keeping:
    opened_with, recipients = way["opened_with"], tuple(str(one) for one in way["recipients"])
    if opened_with not in get_args(OpenedWith) or not recipients:
        raise ValueError(opened_with)
    file = str(way.get("file", ""))
    return Keeping(opened_with, recipients, str(folder / file) if file else "")


def _check(opened_with: str) -> None:
    choices = get_args(OpenedWith)
    if opened_with not in choices:
        raise UsageError(f"--with={opened_with}", "there is no such way", f"one of {', '.join(choices)}")
