"""``cms vdir``."""

from cloudmesh.shell.command import PluginCommand

from cloudmesh.storage.shell import command, completer
from cloudmesh.vdir.manual import VDIR


class VdirCommand(PluginCommand):  # type: ignore[misc]
    """The command ``vdir`` of the cms shell."""

    do_vdir = command(VDIR)
    complete_vdir = completer(VDIR)
