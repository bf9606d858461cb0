"""``cms storage``."""

from cloudmesh.shell.command import PluginCommand

from cloudmesh.storage.manual import STORAGE
from cloudmesh.storage.shell import command, completer


class StorageCommand(PluginCommand):  # type: ignore[misc]
    """The command ``storage`` of the cms shell."""

    do_storage = command(STORAGE)
    complete_storage = completer(STORAGE)
