"""Asking the person at the terminal; everything that asks takes a `Prompt`, so that others (REST, tests) can answer."""

from __future__ import annotations

import sys
from typing import Protocol

from cloudmesh.storage.errors import UsageError


class Prompt(Protocol):
    """Whom to ask. Each question names with ``instead`` what to use where nobody can answer."""

    def can_ask(self) -> bool:
        """Tell whether somebody is there to answer."""

    def ask(self, text: str, *, instead: str, default: str = "") -> str:
        """Return one line; ``default`` for an empty answer."""

    def secret(self, text: str, *, instead: str) -> str:
        """Return one line that is not shown while it is typed."""

    def confirm(self, text: str, *, instead: str) -> bool:
        """Return whether the answer is yes; no is the default."""

    def piped(self) -> str | None:
        """Return what stands on standard input without its last newline, or None where a person sits there."""


class TerminalPrompt:
    """Asks on the terminal. Questions go to standard error, since standard output is for results."""

    _why_not = "cannot be asked, because standard input is not a terminal"

    def can_ask(self) -> bool:
        """Tell whether standard input is a terminal."""
        return sys.stdin.isatty()

    def ask(self, text: str, *, instead: str, default: str = "") -> str:
        """Return one line from standard input.

        Raises:
            UsageError: standard input is no terminal.
        """
        self._need_somebody(text, instead)
        print(f"{text} [{default}]: " if default else f"{text}: ", end="", file=sys.stderr, flush=True)
        line = sys.stdin.readline()
        if not line:
            print(file=sys.stderr)
            raise UsageError(text, "no answer was given", f"use {instead}")
        return line.strip() or default

    def secret(self, text: str, *, instead: str) -> str:
        """Return one line typed without echo.

        Raises:
            UsageError: standard input is no terminal.
        """
        import getpass

        self._need_somebody(text, instead)
        try:
            return getpass.getpass(f"{text}: ", stream=sys.stderr)
        except EOFError:
            print(file=sys.stderr)
            raise UsageError(text, "no answer was given", f"use {instead}") from None

    def confirm(self, text: str, *, instead: str) -> bool:
        """Return whether the person typed yes.

        Raises:
            UsageError: standard input is no terminal.
        """
        return self.ask(f"{text} [y/N]", instead=instead).lower() in ("y", "yes")

    def piped(self) -> str | None:
        """Return all of standard input where it is no terminal, without its last newline.

        Raises:
            UsageError: it is not UTF-8 text.
        """
        if sys.stdin.isatty():
            return None
        try:
            return sys.stdin.read().removesuffix("\n").removesuffix("\r")
        except UnicodeDecodeError:
            pass  # outside, since the error holds the secret
        raise UsageError("standard input", "is not UTF-8 text")

    def _need_somebody(self, text: str, instead: str) -> None:
        if not self.can_ask():
            raise UsageError(text, self._why_not, f"use {instead}")


class Nobody(TerminalPrompt):
    """Asks nobody, though there is a terminal: what is to be found out is whether it goes without."""

    _why_not = "cannot be asked by a process in the background"

    def can_ask(self) -> bool:
        """Tell that nobody is there."""
        return False
