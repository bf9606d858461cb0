"""``cms cdir``."""

from cloudmesh.shell.command import PluginCommand

from cloudmesh.cdir.main import CDIR
from cloudmesh.storage.shell import command


class CdirCommand(PluginCommand):  # type: ignore[misc]
    """The command ``cdir`` of the cms shell."""

    do_cdir = command(CDIR)
