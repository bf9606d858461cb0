"""Kinds and their provider classes, through the entry point group ``cloudmesh.storage``.

Others add a kind by an entry point of their own; only the one that is wanted is imported.
"""

from __future__ import annotations

from cloudmesh.storage.abc import StorageABC
from cloudmesh.storage.errors import ConfigError

GROUP = "cloudmesh.storage"


def kinds() -> list[str]:
    """Return the names of the kinds that are installed, sorted."""
    from importlib.metadata import entry_points

    return sorted(entry_points(group=GROUP).names)


def provider_class(kind: str, service: str = "") -> type[StorageABC]:
    """Return the class that speaks to services of ``kind``.

    Args:
        kind: as in the configuration.
        service: whose kind it is, for the error.

    Raises:
        ConfigError: there is no such kind, or its module does not load.
    """
    from importlib.metadata import entry_points

    subject = service or f"kind {kind!r}"
    found = entry_points(group=GROUP, name=kind)
    if not found:
        why = f"there is no provider for kind {kind!r}" if kind else "it has no kind (cm.kind)"
        raise ConfigError(subject, why, f"kinds: {', '.join(kinds()) or 'none is installed'}")
    entry = next(iter(found))
    try:
        loaded = entry.load()
    except (ImportError, AttributeError) as error:
        raise ConfigError(subject, f"the provider {entry.value} does not load: {error}") from error
    if not (isinstance(loaded, type) and issubclass(loaded, StorageABC)):
        raise ConfigError(subject, f"the provider {entry.value} is not a StorageABC")
    return loaded


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
