"""The console script ``cdir``: the commands of ``vdir`` at once, and ``storage`` and ``vdir`` by their names.

It takes the arguments exactly as the shell gives them, and imports neither the `cms` shell nor an API before it knows
what is to be done.
"""

from __future__ import annotations

import gc
import os
import sys
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from cloudmesh.cdir.commands import COMMANDS
from cloudmesh.cdir.manual import OWN
from cloudmesh.storage.dispatch import Command, end_soon_when_interrupted, guarded, show, stand_in_for_closed_streams
from cloudmesh.storage.errors import UsageError
from cloudmesh.storage.transfer.events import nobody
from cloudmesh.vdir.manual import VDIR

URL_OPTION = "--url="
URL_VARIABLE = "CDIR_URL"
"""Names the service that commands are sent to where the option does not."""

OWN_WORDS = ("service", "token", "share", "audit")
"""The words with which a command of ``cdir`` itself begins; reading its usage would cost each other command 10 ms."""


class FrontDoor:
    """The command ``cdir``, on its own and as ``cms cdir``."""

    name = "cdir"
    manual = """::

  Usage:
    cdir VERB [ARGUMENT]...
    cdir vdir VERB [ARGUMENT]...
    cdir storage VERB [ARGUMENT]...
    cdir (service | token | share | audit) [ARGUMENT]...
    cdir help [COMMAND]
    cdir --version

  A virtual directory is a tree of names; each file name points to copies of the file on one or more services, such as
  S3, WebDAV, SFTP or a folder of this computer. You name the file; the system knows where it is and which copy is best.

  To begin:
    cdir storage config add lab                asks how to reach a service called `lab`, tests it, and saves it
    cdir put results /run7 --recursive --to=lab
                                               uploads the directory `results` and calls it /run7
    cdir ls /run7                              shows the names, and on which services the files are
    cdir copy /run7 --recursive --to=local     makes a second copy of each file; without a service there is `local`
    cdir get /run7/model.bin .                 brings a file here, from the best copy

  `cdir VERB` is short for `cdir vdir VERB`; `cdir storage VERB` works on the files of the services themselves.
  With --url=URL, or CDIR_URL=URL, a REST service (`cdir service start`) does the work, there; CDIR_TOKEN is the token.

  `cdir help VERB` shows how a verb is used, `cdir help vdir` and `cdir help storage` show everything;
  `cdir help cdir` shows what lets others in: the service, tokens, share links, and the audit log.
"""

    def run(self, argv: Sequence[str], program: str = "cdir") -> int:
        """Do what the arguments say and return the exit code; raises nothing."""
        url, argv = _url(argv)
        if argv and argv[0] in COMMANDS:
            return _at(url, COMMANDS[argv[0]]).run(argv[1:], program)
        if not argv or argv[0] in ("help", "-h", "--help", "--version"):
            return guarded(lambda: self._about(argv))
        if argv[0] in OWN_WORDS:
            return OWN.run(argv, program)
        return _at(url, VDIR).run(argv, program)

    def _about(self, argv: Sequence[str]) -> int:
        if argv[:1] == ["--version"]:
            from importlib.metadata import version

            return show(f"cdir {version('cloudmesh-vdir')}\n")
        if len(argv) < 2:
            text = self.manual.removeprefix("::").strip("\n") + "\n"
            verbs = "".join(
                f"  {name}: {', '.join(dict.fromkeys(one.words[0] for one in command.usage.operations))}\n"
                for name, command in {**COMMANDS, OWN.name: OWN}.items()
            )
            return show(f"{text}\n{verbs}")
        word = argv[1]
        if word in COMMANDS:
            return show(COMMANDS[word].help(argv[2:]))
        if word in (OWN.name, *OWN_WORDS):
            return show(OWN.help(argv[1:]))
        if not VDIR.usage.related(argv[1:]):
            from difflib import get_close_matches

            known = [*COMMANDS, OWN.name, *OWN_WORDS, *(one.words[0] for one in VDIR.usage.operations)]
            close = get_close_matches(word, known, n=1)
            raise UsageError(f"cdir help {word}", "unknown command", f"did you mean {close[0]!r}?" if close else "")
        return show(VDIR.help(argv[1:]))


def _url(argv: Sequence[str]) -> tuple[str, Sequence[str]]:
    """Return the URL of the service that is to do it, empty for this computer, and the other arguments."""
    options = argv[: argv.index("--")] if "--" in argv else argv
    given = [one for one in options if one.startswith(URL_OPTION)]
    if not given:
        return os.environ.get(URL_VARIABLE, ""), argv
    return given[-1].removeprefix(URL_OPTION), [one for one in options if one not in given] + list(argv[len(options) :])


def _at(url: str, command: Command) -> Command:
    """Return the command as done by a service."""
    if not url:
        return command

    def remote(api_class: type, made_with: dict[str, Any]) -> Any:
        from cloudmesh.cdir.client import Client

        observer = made_with.pop("observer", nobody)
        return Client(url, observer=observer).api(command.name, made_with)

    return replace(command, make=remote)


_OBJECTS = 100_000
"""New objects after which Python looks for cycles among them. Listings make millions that are in none: to look after
each 700, as is the default, took a sixth of a command's time."""

CDIR = FrontDoor()


def main() -> int:
    """Run ``cdir`` with the arguments of this process."""
    gc.set_threshold(_OBJECTS, 20, 100)
    stand_in_for_closed_streams()
    end_soon_when_interrupted()
    try:
        return CDIR.run(sys.argv[1:])
    finally:
        gc.freeze()  # at its end Python looks for cycles in all there is: 30 ms for nothing


if __name__ == "__main__":
    sys.exit(main())
