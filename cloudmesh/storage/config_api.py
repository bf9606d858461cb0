"""The commands ``storage config …``."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cloudmesh.storage import paths, registry, yaml_file
from cloudmesh.storage.abc import StorageABC
from cloudmesh.storage.binding import destructive
from cloudmesh.storage.config import CONNECTION, LOCAL, Configuration, Service, is_set, number_of
from cloudmesh.storage.errors import AlreadyExists, ConfigError, Refused, StorageError, UsageError, VaultError
from cloudmesh.storage.local_files import translated
from cloudmesh.storage.meaning import ServiceName, reading
from cloudmesh.storage.places import parse_place
from cloudmesh.storage.presets import preset as find_preset
from cloudmesh.storage.prompt import Prompt, TerminalPrompt
from cloudmesh.storage.secrecy import HIDDEN, is_secret, without_secrets
from cloudmesh.storage.vault import Secrets

Values = dict[str, dict[str, Any]]
"""A service's ``cm``, ``default`` and ``credentials``."""


@dataclass(frozen=True, slots=True)
class ServiceRow:
    """One service in a list.

    Attributes:
        name, kind, label, root: as configured.
        default: whether a path without a service means it.
        active: the template's flag.
        problem: why it cannot be used; empty where nothing is known against it.
    """

    name: str
    kind: str
    label: str
    root: str
    default: bool
    active: bool
    problem: str


@dataclass(frozen=True, slots=True)
class Setting:
    """One key of a service.

    Attributes:
        key: ``cm.kind``, ``default.directory``, ``credentials.bucket`` …
        value: as configured; for a secret only that it is there.
        source: ``configuration``, ``vault``, or empty where it is not set.
        meaning: what the provider says about it.
    """

    key: str
    value: str
    source: str
    meaning: str


@dataclass(frozen=True, slots=True)
class Tested:
    """How a service answered.

    Attributes:
        name, kind: the service.
        seconds: that one cheap request with its credentials took.
        problem: why it failed; empty where it worked.
    """

    name: str
    kind: str
    seconds: float
    problem: str

    @property
    def failed(self) -> bool:
        """Whether it did not work; then the command ends with 1."""
        return bool(self.problem)


@dataclass(frozen=True, slots=True)
class Sealed:
    """A secret that was moved from the configuration into the vault."""

    service: str
    key: str


class ConfigApi:
    """What can be done with the configuration.

    Args:
        configuration: by default the user's own, with its vault.
        prompt: asked for what was not given.
    """

    def __init__(self, configuration: Configuration | None = None, prompt: Prompt | None = None) -> None:
        self._configuration = configuration or Configuration()
        self._prompt: Prompt = prompt or TerminalPrompt()

    @reading
    def list(self) -> Sequence[ServiceRow]:
        """Return all services in the configuration's order.

        Raises:
            ConfigError: the file is malformed.
        """
        kinds = registry.kinds()
        default = self._configuration.default_service()
        return [
            ServiceRow(
                service.name,
                service.kind,
                service.label,
                without_secrets(service.root or self._directory(service)),
                service.name == default,
                service.active,
                service.problem or ("" if service.kind in kinds else f"no provider for kind {service.kind!r}"),
            )
            for service in self._configuration.services()
        ]

    @reading
    def show(self, name: ServiceName) -> Sequence[Setting]:
        """Return what is configured for a service; of secrets only whether they are set and where.

        Raises:
            ConfigError: there is no such service, or the file is malformed.
        """
        service = self._configuration.service(name)
        provider = _provider(service.kind)
        declared = provider.secrets if provider else frozenset()
        meanings = provider.keys if provider else {}
        values = self._configuration.values(name) if service.kind else {}
        settings = {}
        for part, keys in values.items():
            for key, value in _flat(keys):
                secret = any(is_secret(word, declared) for word in key.split("."))
                shown = HIDDEN if secret and is_set(value) else without_secrets(_text(value))
                source = "configuration" if is_set(value) else ""
                meaning = meanings.get(key, "") if part == "credentials" else ""
                settings[f"{part}.{key}"] = Setting(f"{part}.{key}", shown if source else "", source, meaning)
        if not values.get("cm"):
            settings["cm.kind"] = Setting("cm.kind", service.kind, "", "built in")
            settings["default.directory"] = Setting("default.directory", service.root, "", "")
        for key, source in self._vaulted(name, declared):
            full = f"credentials.{key}"
            settings[full] = Setting(full, HIDDEN if source == "vault" else "", source, meanings.get(key, ""))
        return [*settings.values()]

    def add(
        self,
        name: str,
        kind: str = "",
        preset: str = "",
        set: Iterable[str] = (),
        secret: Iterable[str] = (),
        no_test: bool = False,
    ) -> ServiceRow:
        """Add a service: asks for what was not given, tests the connection, then saves.

        Args:
            name: of the new service.
            kind: which provider; asked for where neither it nor a preset is given.
            preset: a well-known S3-compatible service, such as ``wasabi``.
            set: ``KEY=VALUE``; ``directory`` is the root on the service.
            secret: ``KEY=env:VARIABLE``, ``KEY=file:PATH``, ``KEY=-`` (standard input) or ``KEY`` alone, which asks;
                goes into the vault.
            no_test: save without a connection.

        Raises:
            AlreadyExists: there is a service of that name.
            ConfigError, AuthenticationFailed, Unavailable …: it cannot be reached so; nothing is saved.
            UsageError: an assignment is not understood, or something is missing and nobody can be asked.
        """
        if not paths.is_service_name(name):
            raise UsageError(name, paths.SERVICE_NAMES)
        if self._defined(name):
            raise AlreadyExists(name, "there is a service of that name", f"cms storage config edit {name}")
        registry.refuse_taken(name)
        given = _assignments(set)
        known = find_preset(preset) if preset else None
        guided = not (kind or known or given)
        if known:
            kind = kind or "awss3"
        elif not kind:
            text = f"Kind of service ({', '.join(registry.kinds())})"
            kind = self._prompt.ask(text, instead="--kind=KIND")
        provider = registry.provider_class(kind, name)
        values: Values = {"cm": _cm(name, kind, known.label if known else name), "default": {}, "credentials": {}}
        if known:
            for parameter in known.parameters:
                if parameter not in given:
                    text = f"{parameter} ({known.documentation})"
                    given[parameter] = self._prompt.ask(text, instead=f"--set={parameter}=VALUE")
            values["credentials"].update(known.settings(given))
            for parameter in known.parameters:
                if parameter not in provider.keys:
                    given.pop(parameter)
        _apply(values, given, provider, name)
        secrets = self._given_secrets(secret, provider, name)
        self._ask(provider, values, secrets, everything=guided, about_secrets=not secrets)
        if not no_test:
            self._test_before_saving(name, values, secrets, provider)

        def put(section: Any) -> None:
            if name in section:
                raise AlreadyExists(name, "another process added a service of that name")
            section[name] = {part: keys for part, keys in values.items() if keys}

        self._save(name, secrets, put)
        return self._row(name)

    def edit(
        self,
        name: str,
        set: Iterable[str] = (),
        unset: Iterable[str] = (),
        secret: Iterable[str] = (),
    ) -> ServiceRow:
        """Change keys of a service; without any, asks for each. Then it is in use again, if it was not.

        Args:
            name: the service.
            set: ``KEY=VALUE``, as in `add`; also ``label=…`` and ``kind=…``.
            unset: keys to take out.
            secret: as in `add`.

        Raises:
            ConfigError: there is no such service, or the file is malformed.
            UsageError: an assignment is not understood; nothing is changed.
        """
        service = self._configuration.service(name)
        given, removed = _assignments(set), [*unset]
        kind = given.get("kind") or given.get("cm.kind") or service.kind
        provider = _provider(kind)
        secrets = self._given_secrets(secret, provider, name)
        values = self._configuration.values(name)
        if not (given or removed or secrets) and provider:
            given, secrets = self._ask_again(provider, values)
        changes: Values = {"cm": {}, "default": {}, "credentials": {}}
        _apply(changes, given, provider, name)
        taken = [_place(key, provider, name, known=True) for key in removed]

        def alter(section: Any) -> None:
            if name not in section:
                section[name] = {"cm": _cm(name, kind, name)}
            for part, keys in changes.items():
                if keys:
                    yaml_file.child(section[name], part).update(keys)
            for part, key in taken:
                yaml_file.child(section[name], part).pop(key, None)

        self._save(name, secrets, alter if given or removed else None)
        _put_back_in_use([name])
        return self._row(name)

    @destructive
    def remove(self, name: str, dryrun: bool = False) -> ServiceRow:
        """Forget a service and its secrets; its files stay where they are.

        Where the virtual directory has files there, the other services are asked, right then, whether they have them.

        Args:
            name: the service.
            dryrun: only tell what would be forgotten.

        Raises:
            ConfigError: there is no such service.
            Refused: it is the built-in one, or has the last good replica of a name of the virtual directory.
            VaultError: its secrets cannot be taken out; nothing is changed.
        """
        row = self._row(name)
        if not self._defined(name):
            raise Refused(name, "this service is built in; it is not in the configuration")
        registry.refuse_loss(name)
        vault = self._configuration.vault
        before = dict(vault.secrets(name)) if vault.exists() else {}
        if dryrun:
            return row
        if before:
            vault.change(lambda secrets: _forget(secrets, name))
        try:
            self._configuration.edit(lambda section: section.pop(name, None))
        except StorageError:
            if before:
                vault.change(lambda secrets: secrets.update({name: before}))
            raise
        return row

    @reading
    def test(self, name: ServiceName = "") -> Sequence[Tested]:
        """Make one cheap request with its credentials to a service, or to each that has a provider.

        Those that answer are used again where they were out of use because they had failed.

        Args:
            name: the service; all where empty.

        Raises:
            ConfigError: there is no such service.
        """
        kinds = registry.kinds()
        services = [self._configuration.service(name)] if name else self._configuration.services()
        tested = [self._tested(service) for service in services if name or service.kind in kinds]
        _put_back_in_use(one.name for one in tested if not one.failed)
        return tested

    def seal(self, name: str = "", dryrun: bool = False) -> Sequence[Sealed]:
        """Move the secrets that stand in the configuration in plain text into the vault, out of its backup too.

        Args:
            name: the service; all where empty.
            dryrun: only tell what would be moved.

        Raises:
            Refused: the vault already holds another value for one of them; nothing is changed.
            VaultError: the vault cannot be opened or written; nothing is changed.
        """
        services = [self._configuration.service(name)] if name else self._configuration.services()
        found = {service.name: self._configuration.secrets_in_file(service.name) for service in services}
        found = {service: keys for service, keys in found.items() if keys}
        if not found:
            return []

        def put(secrets: Secrets) -> None:
            for service, keys in found.items():
                kept = secrets.setdefault(service, {})
                for key, value in keys.items():
                    if kept.get(key, value) != value:
                        hint = f"cms storage vault remove {service}.{key}, or take it out of {self._configuration.path}"
                        raise Refused(f"{service}.{key}", "the vault holds another value", hint)
                    kept[key] = value

        def take(section: Any) -> None:
            for service, keys in found.items():
                for key, value in keys.items():
                    present = section[service]["credentials"].get(key)
                    if present == value or not isinstance(present, str):  # a number, to the editor
                        section[service]["credentials"][key] = "TBD"

        if not dryrun:
            self._configuration.vault.change(put)
            self._configuration.edit(take, keep_previous=False)
        return [Sealed(service, key) for service, keys in found.items() for key in keys]

    def _defined(self, name: str) -> bool:
        return any(
            service.name == name and (name != LOCAL or self._configuration.values(name)["cm"])
            for service in self._configuration.services()
        )

    def _directory(self, service: Service) -> str:
        """Where a kind's root is a credential, as the published template has it for the local disk."""
        directory = self._configuration.values(service.name)["credentials"].get("directory")
        return str(directory) if is_set(directory) else ""

    def _row(self, name: str) -> ServiceRow:
        self._configuration.service(name)
        return next(row for row in self.list() if row.name == name)

    def _vaulted(self, name: str, declared: frozenset[str]) -> Sequence[tuple[str, str]]:
        vault = self._configuration.vault
        try:
            if not vault.may_hold(name) or not (declared or not vault.state().locked):
                return []
            if vault.state().locked:
                return [(key, "the vault is locked") for key in sorted(declared)]
            return [(key, "vault") for key in sorted(vault.secrets(name))]
        except VaultError:
            return [(key, "the vault cannot be opened") for key in sorted(declared)]

    def _given_secrets(self, secret: Iterable[str], provider: type[StorageABC] | None, name: str) -> dict[str, str]:
        found = {}
        for text in secret:
            key, equals, source = text.partition("=")
            _place(key, provider, name)
            instead = f"--secret={key}=env:VARIABLE, {key}=file:PATH or {key}=-"
            found[key] = self._from(key, source) if equals else self._prompt.secret(key, instead=instead)
        return found

    def _from(self, key: str, source: str) -> str:
        scheme, _, rest = source.partition(":")
        if source == "-":
            value = self._prompt.piped()
            return value if value is not None else self._prompt.secret(key, instead="standard input")
        if scheme == "env" and rest:
            value = os.environ.get(rest)
            if not value:
                raise UsageError(f"--secret={key}", f"the environment variable {rest} is not set")
            return value
        if scheme == "file" and rest:
            with translated(rest):
                data = Path(rest).expanduser().read_bytes()
            try:
                return data.decode().removesuffix("\n")
            except UnicodeDecodeError:
                pass  # outside, since the error holds the secret
            raise UsageError(f"--secret={key}", f"{rest} is not UTF-8 text")
        raise UsageError(
            f"--secret={key}", "a secret is not typed into a command", "KEY=env:VARIABLE, KEY=file:PATH, KEY=-"
        )

    def _ask(
        self,
        provider: type[StorageABC],
        values: Values,
        secrets: dict[str, str],
        *,
        everything: bool,
        about_secrets: bool,
    ) -> None:
        """Ask for what is required and missing; where somebody can answer, for secrets or for all other keys too."""
        person = self._prompt.can_ask()
        required = provider.required | (frozenset({"directory"}) if provider.kind == LOCAL else frozenset())
        wanted = required | (provider.secrets if person and about_secrets else frozenset())
        asked = [key for key in provider.keys if key in wanted or (person and everything)]
        if person and everything and "directory" not in provider.keys:
            asked.append("directory")
        for key in asked:
            part, key = _place(key, provider, "")
            if key in values[part] or key in secrets or (key == "directory" and values["default"].get(key)):
                continue
            text = f"{provider.keys.get(key, 'directory on the service below which all paths lie')} ({key})"
            if key not in required:
                text += ", empty for none"
            if is_secret(key, provider.secrets):
                answer = self._prompt.secret(text, instead=f"--secret={key}=env:VARIABLE")
                if answer:
                    secrets[key] = answer
            elif answer := self._prompt.ask(text, instead=f"--set={key}=VALUE"):
                values[part][key] = _typed(answer)
            elif key in required:
                raise UsageError(key, "is needed", f"nothing was saved; --set={key}=VALUE")

    def _ask_again(self, provider: type[StorageABC], values: Values) -> tuple[dict[str, str], dict[str, str]]:
        given, secrets = {}, {}
        for key, meaning in {"directory": "directory on the service", **provider.keys}.items():
            part, key = _place(key, provider, "")
            if is_secret(key, provider.secrets):
                answer = self._prompt.secret(
                    f"{meaning} ({key}), empty to keep", instead=f"--secret={key}=env:VARIABLE"
                )
                if answer:
                    secrets[key] = answer
                continue
            present = _text(values[part].get(key)) if is_set(values[part].get(key)) else ""
            answer = self._prompt.ask(f"{meaning} ({key})", instead=f"--set={key}=VALUE", default=present)
            if answer != present:
                given[key] = answer
        return given, secrets

    def _test_before_saving(
        self, name: str, values: Values, secrets: Mapping[str, str], provider: type[StorageABC]
    ) -> None:
        service = Service(name, values["cm"]["kind"], root=str(values["default"].get("directory", "")))
        settings = self._configuration.complete(service, values, provider, lambda *_: secrets)
        try:
            _probe(provider(settings))
        except ConfigError:
            raise
        except StorageError as error:
            question = f"{error}. Save it anyway?"
            if not (self._prompt.can_ask() and self._prompt.confirm(question, instead="--no-test")):
                error.hint = error.hint or "nothing was saved; --no-test saves without a connection"
                raise

    def _save(self, name: str, secrets: Mapping[str, str], change: Callable[[Any], None] | None) -> None:
        """Save secrets and configuration, both or none."""
        vault = self._configuration.vault
        before = vault.secrets(name) if secrets and vault.exists() else {}
        if secrets:
            vault.change(lambda kept: kept.setdefault(name, {}).update(secrets))
        try:
            if change:
                self._configuration.edit(change)
        except StorageError:
            if secrets:
                vault.change(lambda kept: kept.update({name: before}))
            raise

    def _tested(self, service: Service) -> Tested:
        begin = time.monotonic()
        problem = ""
        try:
            settings = self._configuration.settings(service.name)
            _probe(registry.provider_class(service.kind, service.name)(settings))
        except StorageError as error:
            problem = str(error)
        return Tested(service.name, service.kind, round(time.monotonic() - begin, 3), problem)


def _put_back_in_use(names: Iterable[str]) -> None:
    """Forget the failures of services that work, or are to be tried anew."""
    from cloudmesh.storage.database import Database
    from cloudmesh.storage.health import Health

    if Database.exists():
        with Database() as database:
            Health(database).reset(names)


def _probe(storage: StorageABC) -> None:
    try:
        storage.probe()
    finally:
        storage.close()


def _provider(kind: str) -> type[StorageABC] | None:
    return registry.provider_class(kind) if registry.is_known(kind) else None


def _cm(name: str, kind: str, label: str) -> dict[str, Any]:
    return {"active": True, "heading": label, "label": name, "kind": kind, "service": "storage"}


def _assignments(texts: Iterable[str]) -> dict[str, str]:
    found = {}
    for text in texts:
        key, equals, value = text.partition("=")
        if not equals or not key:
            raise UsageError(f"--set={key}" if equals else "--set", "is not KEY=VALUE")
        found[key] = value
    return found


def _apply(values: Values, given: Mapping[str, str], provider: type[StorageABC] | None, name: str) -> None:
    for full, value in given.items():
        part, key = _place(full, provider, name)
        if part == "cm" and key == "kind":
            registry.provider_class(value, name)
        if is_secret(key, provider.secrets if provider else frozenset()):
            raise UsageError(
                f"--set={key}", "is a secret and is not typed into a command", f"--secret={key}=env:VARIABLE"
            )
        if part == "default" and key in CONNECTION:
            number_of(name, key, value)
        if part == "default" and key == "place":
            parse_place(value, "--set=place")
        values[part][key] = _typed(value)


def _place(full: str, provider: type[StorageABC] | None, name: str, *, known: bool = False) -> tuple[str, str]:
    """Return the part of the service and the key in it that ``full`` means.

    Raises:
        UsageError: the provider knows no such key, unless ``known``.
    """
    part, dot, key = full.partition(".")
    if dot and part in ("cm", "default", "credentials") and key:
        return part, key
    if provider is None or full not in provider.keys:
        if full in ("kind", "label", "heading", "host", "active"):
            return "cm", full
        if full in ("directory", "place") or full in CONNECTION:
            return "default", full
        if provider is not None and not known and full not in provider.secrets:
            names = ", ".join(sorted({"directory", "place", *provider.keys, *CONNECTION}))
            raise UsageError(full, f"kind {provider.kind!r} has no such key", f"keys: {names}")
    return "credentials", full


def _typed(value: str) -> Any:
    return {"true": True, "false": False}.get(value, value)


def _text(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def _flat(values: Mapping[str, Any], before: str = "") -> Iterable[tuple[str, Any]]:
    for key, value in values.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{before}{key}.")
        elif isinstance(value, (list, tuple)):
            yield f"{before}{key}", ", ".join(_text(one) for one in value)
        else:
            yield f"{before}{key}", value


def _forget(secrets: Secrets, name: str) -> None:
    secrets.pop(name, None)
