"""Every usage line of every command has its method, and every method of the APIs its usage line."""

from __future__ import annotations

from pathlib import Path

import pytest

from cloudmesh.cdir.commands import COMMANDS
from cloudmesh.cdir.main import CDIR, OWN_WORDS
from cloudmesh.cdir.manual import OWN
from cloudmesh.storage.binding import check
from cloudmesh.storage.dispatch import Command


@pytest.mark.parametrize("command", [*COMMANDS.values(), OWN], ids=lambda one: one.name)
def test_usage_and_api_fit_both_ways(command: Command) -> None:
    assert check(command.usage, command.api_class()) == []


def test_no_verb_of_vdir_is_hidden_by_a_command_of_cdir() -> None:
    verbs = {operation.words[0] for operation in COMMANDS["vdir"].usage.operations}
    assert not verbs & {*COMMANDS, *OWN_WORDS, "help"}
    assert tuple(dict.fromkeys(operation.words[0] for operation in OWN.usage.operations)) == OWN_WORDS


@pytest.mark.parametrize("command", ["vdir ls /", "storage config list", "ls /", "token list"])
def test_options_may_stand_before_a_command(command: str, home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert CDIR.run(["--quiet", "--output=json", *command.split()]) == 0
    before = capsys.readouterr()
    assert CDIR.run([*command.split(), "--quiet", "--output=json"]) == 0
    assert (capsys.readouterr(), before.err) == (before, "")
