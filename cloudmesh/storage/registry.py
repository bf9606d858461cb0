"""Kinds and their provider classes: our own, and those of others in the entry point group ``cloudmesh.storage``.

Only the one that is wanted is imported.
"""

from __future__ import annotations

from importlib import import_module
from operator import attrgetter

from cloudmesh.storage.abc import StorageABC
from cloudmesh.storage.errors import ConfigError

GROUP = "cloudmesh.storage"
OWN = {
    "awss3": "cloudmesh.storage.providers.awss3:S3Storage",
    "local": "cloudmesh.storage.providers.local:LocalStorage",
    "sftp": "cloudmesh.storage.providers.sftp:SftpStorage",
    "webdav": "cloudmesh.storage.providers.webdav:WebdavStorage",
}
"""Kind to module and class. To find them as entry points would take each command 15 ms (``importlib.metadata``)."""


def kinds() -> list[str]:
    """Return the names of the kinds that are installed, sorted."""
    from importlib.metadata import entry_points

    return sorted(OWN.keys() | entry_points(group=GROUP).names)


def is_known(kind: str) -> bool:
    """Tell whether a kind is installed."""
    return _place(kind) is not None


def provider_class(kind: str, service: str = "") -> type[StorageABC]:
    """Return the class that speaks to services of ``kind``.

    Args:
        kind: as in the configuration.
        service: whose kind it is, for the error.

    Raises:
        ConfigError: there is no such kind, or its module does not load.
    """
    subject = service or f"kind {kind!r}"
    place = _place(kind)
    if place is None:
        why = f"there is no provider for kind {kind!r}" if kind else "it has no kind (cm.kind)"
        raise ConfigError(subject, why, f"kinds: {', '.join(kinds())}")
    module, _, name = place.partition(":")
    try:
        loaded = attrgetter(name)(import_module(module))
    except (ImportError, AttributeError) as error:
        raise ConfigError(subject, f"the provider {place} does not load: {error}") from error
    if not (isinstance(loaded, type) and issubclass(loaded, StorageABC)):
        raise ConfigError(subject, f"the provider {place} is not a StorageABC")
    return loaded


def _place(kind: str) -> str | None:
    """Return module and class of a kind."""
    if kind in OWN:
        return OWN[kind]
    from importlib.metadata import entry_points

    return next((entry.value for entry in entry_points(group=GROUP, name=kind)), None)


def refuse_taken(name: str) -> None:
    """Ask the floors above whether a new service may have this name: the virtual directory may use it.

    They register a function in the entry point group ``cloudmesh.storage.name_guards``, as imports only point down.

    Raises:
        AlreadyExists: the name is taken.
    """
    from importlib.metadata import entry_points

    for point in entry_points(group="cloudmesh.storage.name_guards"):
        point.load()(name)


def refuse_loss(name: str) -> None:
    """Ask the floors above whether a service may be forgotten: the virtual directory may have its last copies there.

    They register a function in the entry point group ``cloudmesh.storage.removal_guards``.

    Raises:
        Refused: something would be lost.
        StorageError: that cannot be known.
    """
    from importlib.metadata import entry_points

    for point in entry_points(group="cloudmesh.storage.removal_guards"):
        point.load()(name)
