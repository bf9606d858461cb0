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
from typing import Any, NoReturn

from cloudmesh.cdir.commands import COMMANDS
from cloudmesh.cdir.manual import OWN
from cloudmesh.storage.dispatch import Command, end_soon_when_interrupted, guarded, show, stand_in_for_closed_streams
from cloudmesh.storage.errors import UsageError
from cloudmesh.storage.transfer.events import nobody
from cloudmesh.vdir.manual import VDIR

URL_OPTION = "--url"
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
        given, argv = _url(argv)
        argv = _options_behind(argv)
        url = given if given is not None else os.environ.get(URL_VARIABLE) or None
        if argv and argv[0] in COMMANDS:
            return _at(url, COMMANDS[argv[0]]).run(argv[1:], program)
        if not argv or argv[0] in ("help", "-h", "--help", "--version"):
            return guarded(lambda: self._about(argv))
        if argv[0] in OWN_WORDS:
            if given is not None:
                return guarded(lambda: _only_here(argv[0]))
            return OWN.run(argv, program)
        return _at(url, VDIR).run(argv, program)

    def _about(self, argv: Sequence[str]) -> int:
        if argv[:1] == ["--version"]:
            from importlib.metadata import version

            return show(f"cdir {version('cloudmesh-vdir')}\n")
        if len(argv) < 2:
            from textwrap import fill

            text = self.manual.removeprefix("::").strip("\n") + "\n"
            verbs = [
                f"{name}: {', '.join(dict.fromkeys(one.words[0] for one in command.usage.operations))}"
                for name, command in {**COMMANDS, OWN.name: OWN}.items()
            ]
            lines = "".join(f"{fill(one, 118, initial_indent='  ', subsequent_indent='    ')}\n" for one in verbs)
            return show(f"{text}\n{lines}")
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


def _options_behind(argv: Sequence[str]) -> Sequence[str]:
    """Return the arguments with those options behind the command's name that were typed before it."""
    first = next((place for place, word in enumerate(argv) if not word.startswith("-")), 0)
    is_command = first and "--" not in argv[:first] and argv[first] in {*COMMANDS, *OWN_WORDS}
    return [argv[first], *argv[:first], *argv[first + 1 :]] if is_command else argv


def _url(argv: Sequence[str]) -> tuple[str | None, list[str]]:
    """Return the URL of the service that is to do it, None where none was typed, and the other arguments."""
    given, others = None, []
    words = iter(argv)
    for word in words:
        if word == "--":
            others += [word, *words]
        elif word == URL_OPTION:
            given = next(words, "")
        elif word.startswith(f"{URL_OPTION}="):
            given = word.removeprefix(f"{URL_OPTION}=")
        else:
            others.append(word)
    return given, others


def _only_here(word: str) -> NoReturn:
    raise UsageError(f"cdir {word}", "concerns the service of the computer where it is typed", "leave out --url")


def _at(url: str | None, command: Command) -> Command:
    """Return the command as done by a service, where there is a URL of one."""
    if url is None:
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
