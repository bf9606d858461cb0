"""The commands whose usages are what the command line, the REST service and the client offer."""

from __future__ import annotations

from cloudmesh.storage.dispatch import Command
from cloudmesh.storage.manual import STORAGE
from cloudmesh.vdir.manual import VDIR

COMMANDS: dict[str, Command] = {command.name: command for command in (VDIR, STORAGE)}
