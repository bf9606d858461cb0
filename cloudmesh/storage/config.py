"""The services of ``cloudmesh.yaml``, section ``cloudmesh.storage``, in the shape that cloudmesh has always used.

Each service has ``cm`` (kind, label, active …), ``default`` (``directory`` is the root on the service; ``parallel``,
``connect_timeout`` and ``read_timeout`` limit its connections, ``place`` is where it is, ``price`` what it charges) and
``credentials``. ``cloudmesh.default`` holds the service that is used by default (``storage``), and where this computer
is (``place``): coordinates ``LATITUDE,LONGITUDE`` or the name of a cloud's region. Empty values and ``TBD`` count as
not set. Secrets belong into the vault; found in the file they still work, with a warning.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from cloudmesh.storage import paths, registry, yaml_file
from cloudmesh.storage.abc import ServiceSettings, StorageABC, Timeouts
from cloudmesh.storage.errors import ConfigError
from cloudmesh.storage.home import config_dir
from cloudmesh.storage.secrecy import is_public_key_file, is_secret
from cloudmesh.storage.vault import Vault

_LOG = logging.getLogger(__name__)
T = TypeVar("T")

LOCAL = "local"
"""The service that is there without being configured: a folder beside the configuration."""

CONNECTION = ("parallel", "connect_timeout", "read_timeout", "bytes_per_second", "requests_per_second")
"""Keys of ``default`` that limit connections: how many at once, and seconds to wait."""


@dataclass(frozen=True, slots=True)
class Service:
    """One configured service, without any secret.

    Attributes:
        name: by which locations name it.
        kind: which provider speaks to it.
        label: what the user calls it.
        active: the template's flag; shown only, since the predecessor used inactive services too.
        root: the directory on the service below which its paths lie, as configured.
        problem: why it cannot be used, as far as the file alone tells; empty where it can.
    """

    name: str
    kind: str
    label: str = ""
    active: bool = True
    root: str = ""
    problem: str = ""


class Configuration:
    """``cloudmesh.yaml`` and the vault beside it.

    Args:
        folder: that holds both; by default `home.config_dir`.
        vault: where secrets come from; by default the one in ``folder``.
    """

    def __init__(self, folder: Path | None = None, vault: Vault | None = None) -> None:
        self.folder = folder or config_dir()
        self.path = self.folder / "cloudmesh.yaml"
        self.vault = vault or Vault(self.folder)
        self._read: tuple[tuple[int, ...], dict[str, Any]] | None = None
        self._derived: tuple[dict[str, Any], dict[Callable[..., Any], Any]] = ({}, {})

    def services(self) -> list[Service]:
        """Return all services in the file's order, and `LOCAL` where the file does not define it.

        Raises:
            ConfigError: the file is malformed.
        """
        return [*self.derived(Configuration._services)]

    def derived(self, make: Callable[[Configuration], T]) -> T:
        """Return what ``make`` reads off this configuration: made once, and again when the file has changed."""
        data = self._data()
        if self._derived[0] is not data:
            self._derived = (data, {})
        made = self._derived[1]
        if make not in made:
            made[make] = make(self)
        found: T = made[make]
        return found

    def service(self, name: str) -> Service:
        """Return one service.

        Raises:
            ConfigError: there is none of that name, or the file is malformed.
        """
        for service in self.services():
            if service.name == name:
                return service
        known = ", ".join(service.name for service in self.services())
        raise ConfigError(name, "there is no such service", f"services: {known}; cms storage config add {name}")

    def values(self, name: str) -> dict[str, dict[str, Any]]:
        """Return the service's ``cm``, ``default`` and ``credentials`` as the file has them, WITH secrets.

        Raises:
            ConfigError: there is no such service.
        """
        self.service(name)
        return _parts(self._section().get(name, {}))

    def settings(self, name: str) -> ServiceSettings:
        """Return what a provider is made from, the secrets filled in from the vault.

        Raises:
            ConfigError: there is no such service, it has an unknown kind, or a required key is missing.
            VaultError: the vault cannot be opened and the service needs it.
        """
        service = self.service(name)
        if service.problem:
            raise ConfigError(name, service.problem, f"cms storage config edit {name}")
        return self.complete(service, self.values(name), registry.provider_class(service.kind, name), self._secrets)

    def outline(self, name: str) -> ServiceSettings:
        """Return what the file alone tells of a service: enough to know its place and prices, not to open it.

        Raises:
            ConfigError: there is no such service.
        """
        service, values = self.service(name), self.values(name)
        credentials = {key: value for key, value in values["credentials"].items() if is_set(value)}
        options = {key: value for key, value in values["default"].items() if is_set(value)}
        return ServiceSettings(name, service.kind, service.root, credentials, options)

    def place(self) -> str | None:
        """Return where this computer is, as the user wrote it: ``CDIR_PLACE``, else ``cloudmesh.default.place``."""
        return os.environ.get("CDIR_PLACE") or self._default("place")

    def complete(
        self,
        service: Service,
        values: Mapping[str, Mapping[str, Any]],
        provider: type[StorageABC],
        secrets_of: Callable[[str, type[StorageABC]], Mapping[str, str]],
    ) -> ServiceSettings:
        """Return the settings that ``values`` and the secrets of ``secrets_of`` make; see `settings`."""
        name = service.name
        credentials = {key: _expand(key, value) for key, value in values["credentials"].items() if is_set(value)}
        in_file = [key for key, value in credentials.items() if _is_sealable(key, value, provider.secrets)]
        if in_file:
            _warn_once(self.path, name, in_file)
        credentials.update(secrets_of(name, provider))
        root = service.root
        if service.kind == LOCAL:
            root = os.path.expanduser(root)
            if not root and not credentials.get("directory"):
                if name != LOCAL:
                    raise _missing(name, "directory", secret=False)
                root = str(self._local_root())
        for key in sorted(provider.required):
            if key not in credentials and not (key == "directory" and root):
                raise _missing(name, key, secret=is_secret(key, provider.secrets))
        default = {key: value for key, value in values["default"].items() if is_set(value) and key != "directory"}
        limits = {key: default.pop(key) for key in CONNECTION if key in default}
        usual = Timeouts()
        return ServiceSettings(
            name=name,
            kind=service.kind,
            root=root,
            credentials=credentials,
            options=default,
            timeouts=Timeouts(
                number_of(name, "connect_timeout", limits.get("connect_timeout", usual.connect)),
                number_of(name, "read_timeout", limits.get("read_timeout", usual.read)),
            ),
            parallel=max(1, int(number_of(name, "parallel", limits.get("parallel", ServiceSettings("", "").parallel)))),
            **{
                key: number_of(name, key, limits[key])
                for key in ("bytes_per_second", "requests_per_second")
                if key in limits
            },
        )

    def default_service(self) -> str:
        """Return the service that a path without one means.

        The first of: the variable of ``cms set storage=NAME``; ``cloudmesh.default.storage`` of the file; `LOCAL`.
        """
        variable = self._variable("storage")
        if variable:
            return variable
        return self._default("storage") or LOCAL

    def edit(self, change: Callable[[Any], None], *, keep_previous: bool = True) -> None:
        """Change the section ``cloudmesh.storage`` in place; see `yaml_file.edit`.

        Raises:
            ConfigError: the file is malformed; nothing is changed.
        """

        def in_section(document: Any) -> None:
            change(yaml_file.child(yaml_file.child(document, "cloudmesh"), "storage"))

        yaml_file.edit(self.path, in_section, keep_previous=keep_previous)
        self._read = None

    def secrets_in_file(self, name: str) -> dict[str, str]:
        """Return the secrets that stand in the file in plain text, those of a known provider and those that look so."""
        service = self.service(name)
        declared: frozenset[str] = frozenset()
        if registry.is_known(service.kind):
            declared = registry.provider_class(service.kind, name).secrets
        found = self.values(name)["credentials"]
        return {key: str(value) for key, value in found.items() if _is_sealable(key, value, declared)}

    def _secrets(self, name: str, provider: type[StorageABC]) -> Mapping[str, str]:
        # A service without secrets must work while the vault is locked.
        return self.vault.secrets(name) if provider.secrets and self.vault.may_hold(name) else {}

    def _services(self) -> list[Service]:
        found = self._section()
        services = [_describe(str(name), value) for name, value in found.items()]
        if LOCAL not in found:
            services.append(Service(LOCAL, LOCAL, root=str(self._local_root())))
        return services

    def _local_root(self) -> Path:
        return self.folder / LOCAL

    def _data(self) -> dict[str, Any]:
        try:
            status = self.path.stat()
            signature: tuple[int, ...] = (status.st_ino, status.st_mtime_ns, status.st_size)
        except OSError:
            signature = ()
        if self._read is None or self._read[0] != signature:
            self._read = (signature, yaml_file.read(self.path))
        return self._read[1]

    def _default(self, key: str) -> str | None:
        value = _mapping(_mapping(self._data().get("cloudmesh")).get("default")).get(key)
        return str(value) if is_set(value) else None

    def _section(self) -> Mapping[str, Any]:
        return _mapping(_mapping(self._data().get("cloudmesh")).get("storage"))

    def _variable(self, name: str) -> str:
        # The file of cloudmesh.common.variables: flat YAML, "name: value" a line, whose text values may be quoted. It
        # is rewritten by every call of cms, so a half-written one must not hurt.
        try:
            text = (self.folder / "variables.dat").read_text(errors="replace")
        except OSError:
            return ""
        for line in text.splitlines():
            key, colon, value = line.partition(":")
            if colon and key == name:
                return value.strip().strip("'\"")
        return ""


def is_set(value: object) -> bool:
    """Tell whether a value of the configuration is one: not null, empty or the template's ``TBD``."""
    return value is not None and value not in ("", "TBD")


def _describe(name: str, value: Any) -> Service:
    parts = _parts(value)
    cm = parts["cm"]
    kind = str(cm.get("kind")) if is_set(cm.get("kind")) else ""
    problem = ""
    if not isinstance(value, Mapping):
        problem = "its configuration is not a mapping"
    elif not paths.is_service_name(name):
        problem = paths.SERVICE_NAMES
    elif not kind:
        problem = "it has no kind (cm.kind)"
    label, root, active = cm.get("label"), parts["default"].get("directory"), cm.get("active", True)
    return Service(
        name,
        kind,
        str(label) if is_set(label) else "",
        active is not False,
        str(root) if is_set(root) else "",
        problem,
    )


def _parts(value: Any) -> dict[str, dict[str, Any]]:
    service = _mapping(value)
    return {
        part: {str(key): entry for key, entry in _mapping(service.get(part)).items()}
        for part in ("cm", "default", "credentials")
    }


def _mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}


def _is_sealable(key: str, value: Any, declared: frozenset[str]) -> bool:
    plain = isinstance(value, str) and is_set(value)
    return plain and is_secret(key, declared) and (key in declared or not is_public_key_file(value))


def _expand(key: str, value: Any) -> Any:
    names_file = key.endswith(("_file", "_path")) or key == "known_hosts"
    return os.path.expanduser(value) if names_file and isinstance(value, str) else value


def _missing(name: str, key: str, *, secret: bool) -> ConfigError:
    command = f"cms storage vault set {name}.{key}" if secret else f"cms storage config edit {name} --set={key}=VALUE"
    return ConfigError(name, f"{key} is not set", command)


def number_of(name: str, key: str, value: Any) -> float:
    """Return the number that a key of `CONNECTION` has in the service ``name``; ``10M`` is one too.

    Raises:
        ConfigError: it is no number above 0.
    """
    from cloudmesh.storage.binding import parse_size

    try:
        number = float(value)
    except (TypeError, ValueError):
        try:
            number = float(parse_size(str(value)))
        except ValueError:
            number = 0.0
    if not 0 < number < float("inf"):
        raise ConfigError(
            name, f"default.{key} must be a number above 0", f"cms storage config edit {name} --set={key}=NUMBER"
        )
    return number


_WARNED: set[tuple[Path, str]] = set()


def _warn_once(path: Path, name: str, keys: list[str]) -> None:
    if (path, name) not in _WARNED:
        _WARNED.add((path, name))
        names = ", ".join(keys)
        _LOG.warning("%s: plain text in %s: %s (cms storage config seal %s)", name, path, names, name)
