"""Makes a command of ours one of the `cms` shell.

`cms` joins the arguments into one line, replaces variables in it, splits it again, acts on some options wherever they
stand, and always ends with 0. So in a one-shot run (``cms NAME …``) we take the arguments ourselves, when `cms` imports
the command's module and before it looks at them, and leave it only ``cms NAME``; the command then ends the process with
its true exit code. In the interactive shell the line is split as a POSIX shell does, and nothing ends the shell.
"""

from __future__ import annotations

import shlex
import sys
import textwrap
from collections.abc import Callable, Sequence
from pathlib import PurePath
from typing import Any, Protocol

from cloudmesh.storage.dispatch import (
    Command,
    completions,
    end_soon_when_interrupted,
    guarded,
    stand_in_for_closed_streams,
)
from cloudmesh.storage.errors import UsageError


class Runnable(Protocol):
    """What `command` needs: a `Command`, or another front door with these three."""

    @property
    def name(self) -> str:
        """The command's name."""

    @property
    def manual(self) -> str:
        """What ``cms help NAME`` shows; begins with ``::``."""

    def run(self, argv: Sequence[str], program: str = "cms") -> int:
        """Do what the arguments say and return the exit code; raises nothing."""


def command(spec: Runnable) -> Callable[[Any, str], None]:
    """Return the method ``do_NAME`` for the PluginCommand class of a command."""
    typed = _take_arguments(spec.name)

    def do(shell: Any, line: str) -> None:
        if typed is not None:
            stand_in_for_closed_streams()
            end_soon_when_interrupted()
            raise SystemExit(spec.run(typed))
        guarded(lambda: spec.run(_split(spec.name, line)))

    do.__doc__ = textwrap.dedent(spec.manual)
    return do


def completer(spec: Command) -> Callable[..., list[str]]:
    """Return the method ``complete_NAME``: tab completion from the words and options of the usage."""

    def complete(shell: Any, text: str, line: str, begin: int, end: int) -> list[str]:
        # readline breaks words at dashes: complete the whole word, give back what follows the part before `text`
        word = line[:end].rsplit(" ", 1)[-1]
        before = len(word) - len(text)
        return [one[before:] for one in completions(spec.usage, line[:end], word)]

    return complete


def _take_arguments(name: str) -> list[str] | None:
    """The arguments of ``cms NAME …``, taken out of ``sys.argv``; None in every other kind of run."""
    program, arguments = PurePath(sys.argv[0]).name, sys.argv[1:]
    if program not in ("cms", "cms.exe") or arguments[:1] != [name] or "-i" in arguments:
        return None
    del sys.argv[2:]
    return arguments[1:]


def _split(name: str, line: str) -> list[str]:
    try:
        return shlex.split(line)
    except ValueError as error:
        raise UsageError(name, f"a quotation is not closed: {error}") from None
