"""What is typed finds its method; what is wrong is named; usage and API fit both ways."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar, Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cloudmesh.storage.binding import Size, bind, check, destructive, parse_duration, parse_size
from cloudmesh.storage.errors import UsageError
from cloudmesh.storage.manual import STORAGE
from cloudmesh.storage.usage import Usage
from cloudmesh.vdir.manual import VDIR
from tests.storage.probe import PROBE, Probe

# The predecessor's usages: words and arguments, the options that go with them, and those words.
PREDECESSOR: list[tuple[str, str, list[str], str]] = [
    ("storage", "create dir DIR", ["--storage=aws", "--parallel=4"], "create dir"),
    ("storage", "get aws:/a b", ["--storage=aws", "--parallel=4", "--recursive"], "get"),
    ("storage", "put a aws:/b", ["--storage=aws", "--parallel=4", "--recursive"], "put"),
    ("storage", "list", ["--storage=aws", "--parallel=4", "--recursive", "--output=json"], "list"),
    ("storage", "list aws:/", ["--storage=aws", "--parallel=4", "--recursive", "--output=json"], "list"),
    ("storage", "delete aws:/a", ["--storage=aws", "--parallel=4"], "delete"),
    ("storage", "search / f.txt", ["--storage=aws", "--recursive", "--output=json"], "search"),
    ("storage", "sync a b", ["--storage=aws", "--name=n", "--async"], "sync"),
    ("storage", "sync status", ["--storage=aws", "--name=n"], "sync status"),
    ("storage", "config list", ["--output=yaml"], "config list"),
    ("storage", "copy a:/x b:/y", ["--parallel=4", "--recursive"], "copy"),
    ("vdir", "mkdir d", [], "mkdir"),
    ("vdir", "cd", [], "cd"),
    ("vdir", "cd d", [], "cd"),
    ("vdir", "ls", [], "ls"),
    ("vdir", "ls d", [], "ls"),
    ("vdir", "add aws:/a d/a", [], "add"),
    ("vdir", "add aws:/a", [], "add"),
    ("vdir", "delete d/a", [], "delete"),
    ("vdir", "status", [], "status"),
    ("vdir", "status d/a", [], "status"),
    ("vdir", "get a b", [], "get"),
]
COMMANDS = {command.name: command for command in (STORAGE, VDIR)}


@pytest.mark.parametrize(("name", "line", "options", "words"), PREDECESSOR)
def test_predecessor_usage_parses_with_options_anywhere(name: str, line: str, options: list[str], words: str) -> None:
    usage = COMMANDS[name].usage
    typed = line.split()
    orders = [[*options, *typed], [*typed, *options], [typed[0], *options, *typed[1:]]]
    orders.append([*typed, *(part for option in options for part in option.split("="))])
    matches = [usage.match(argv) for argv in orders]
    assert {" ".join(match.operation.words) for match in matches} == {words}
    given = {option.partition("=")[0]: option.partition("=")[2] or True for option in options}
    for match in matches:
        assert given.items() <= match.values.items()
        assert match.values == matches[0].values


def test_every_line_takes_the_common_options() -> None:
    for command in (STORAGE, VDIR, PROBE):
        for operation in command.usage.operations:
            assert all(operation.takes(option) for option in ("--output", "--traceback", "--quiet")), operation.line


@pytest.mark.parametrize(
    ("typed", "subject", "why"),
    [
        ("", "probe", "a command is missing"),
        ("--storage=aws", "probe", "a command is missing"),
        ("ecko x", "probe", "unknown command 'ecko', did you mean 'echo'?"),
        ("zzz", "probe", "unknown command 'zzz'"),
        ("config", "probe config", "a command is missing (import, list)"),
        ("config lst", "probe config", "unknown command 'lst', did you mean 'list'?"),
        ("cat", "probe cat", "argument SOURCE is missing"),
        ("echo", "probe echo", "argument TEXT is missing"),
        ("cat a b", "probe cat", "unexpected argument 'b'"),
        ("--output json cat a b", "probe cat", "unexpected argument 'b'"),
        ("cat a --recursive", "probe cat", "unknown option --recursive"),
        ("delete a --recusive", "probe delete", "unknown option --recusive, did you mean --recursive?"),
        ("delete a -x", "probe delete", "unknown option -x"),
        ("settings --size", "probe settings", "--size needs a value"),
        ("settings --s=1", "probe settings", "--s is not a unique prefix: --storage, --size, --sort?"),
        ("delete a --yes=1", "probe delete", "--yes must not have an argument"),
        ("settings --size=1 --size=2", "probe settings", "option --size is given more than once"),
    ],
)
def test_mistake_is_named(typed: str, subject: str, why: str) -> None:
    with pytest.raises(UsageError) as caught:
        PROBE.usage.match(typed.split())
    assert (caught.value.subject, caught.value.why) == (subject, why)


def test_literal_words_win_over_arguments() -> None:
    usage = STORAGE.usage
    assert usage.match(["sync", "status"]).operation.words == ("sync", "status")
    assert usage.match(["sync", "status", "b"]).operation.words == ("sync",)


def test_abbreviation_is_unique_within_its_line_only() -> None:
    assert PROBE.usage.match(["delete", "a", "--rec"]).values["--recursive"] is True
    assert PROBE.usage.match(["delete", "-r", "a"]).values["--recursive"] is True


@given(st.lists(st.text(), min_size=1), st.lists(st.text()))
def test_anything_after_two_dashes_is_an_argument(texts: list[str], quotes: list[str]) -> None:
    match = PROBE.usage.match(["echo", *(f"--quote={quote}" for quote in quotes), "--", *texts])
    call = bind(match, Probe)
    assert list(call.method_values["text"]) == texts
    assert list(call.method_values.get("quote", [])) == quotes


@given(st.lists(st.text().filter(lambda text: text == "-" or not text.startswith("-")), min_size=1))
def test_arguments_arrive_as_typed(texts: list[str]) -> None:
    assert PROBE.usage.match(["echo", *texts]).values["TEXT"] == texts


def read(line: str) -> dict[str, Any]:
    call = bind(PROBE.usage.match(line.split()), Probe)
    return {**call.class_values, **call.method_values}


def test_texts_are_converted_by_the_annotations() -> None:
    read_values = read("--storage=aws --parallel=3 settings --size=1.5KiB --age=2h --to=aws,box --sort=size")
    assert read_values == {
        "storage": "aws", "parallel": 3, "size": 1536, "age": 7200.0, "to": ["aws", "box"], "sort": "size",
    }  # fmt: skip
    assert read("settings") == {"parallel": 7}  # the default that the manual states
    assert read("config import a/b --from=there") == {"source": Path("a/b"), "from_": "there"}
    assert read("many -- -5") == {"count": -5}


@pytest.mark.parametrize(
    ("typed", "message"),
    [
        ("settings --parallel=0", "--parallel: '0' is not allowed (allowed is a whole number of at least 1)"),
        ("settings --parallel=x", "--parallel: 'x' is not allowed (allowed is a whole number of at least 1)"),
        ("settings --size=10Q", "--size: '10Q' is not allowed (allowed is a size such as 4096, 10M or 1.5GiB)"),
        ("settings --age=soon", "--age: 'soon' is not allowed (allowed is a duration such as 30s, 15m, 2h or 7d)"),
        ("settings --to=a,,b", "--to: 'a,,b' is not allowed (allowed is names separated by commas, such as aws,box)"),
        ("settings --sort=age", "--sort: 'age' is not allowed (allowed is one of name, size)"),
        ("many ten", "COUNT: 'ten' is not allowed (allowed is a whole number)"),
    ],
)
def test_wrong_value_is_named_with_what_is_allowed(typed: str, message: str) -> None:
    with pytest.raises(UsageError) as caught:
        read(typed)
    assert str(caught.value) == message


@given(st.integers(0, 2**60), st.sampled_from("KMGTPE"), st.sampled_from(["", "B", "iB"]))
def test_sizes_are_powers_of_1024(number: int, unit: str, ending: str) -> None:
    small = number % 1000
    assert parse_size(f"{small}{unit}{ending}") == small * 1024 ** ("KMGTPE".index(unit) + 1)
    assert parse_size(str(number)) == number


def test_durations() -> None:
    assert [parse_duration(text) for text in ("90", "90s", "15m", "1.5h", "7d", "1w")] == [
        90, 90, 900, 5400, 604800, 604800,
    ]  # fmt: skip


# ---- the check, with deliberately wrong classes --------------------------------------------------------------------


def faults(lines: str, api: type) -> list[str]:
    return check(Usage("x", "::\n\n  Usage:\n    " + "\n    ".join(lines.split("; ")) + "\n"), api)


def test_usage_and_api_fit() -> None:
    assert check(PROBE.usage, Probe) == []


class Group:
    def list(self) -> None: ...
    def forgotten(self) -> None: ...


class Wrong:
    usage_exempt: ClassVar[frozenset[str]] = frozenset({"helper"})
    usage_groups: ClassVar[Mapping[str, str]] = {"group": "tests.storage.test_usage:Group"}

    def __init__(self, storage: str = "local") -> None: ...

    @cached_property
    def group(self) -> Group:
        return Group()

    @property
    def title(self) -> str:
        return ""

    def get(self, source: str, destination: str = ".", flag: bool = False, count: int = 1) -> None: ...
    def odd(self, what: complex) -> None: ...
    def helper(self) -> None: ...
    def _private(self) -> None: ...

    @destructive
    def wipe(self, what: str) -> None: ...


ALL = "x get SOURCE; x odd WHAT; x wipe WHAT [--dryrun] [--yes]; x group list; x group forgotten"


def test_check_names_every_discrepancy() -> None:
    found = faults(ALL, Wrong)
    assert found == [
        "x odd WHAT: WHAT: no text can be read as <class 'complex'>",
        "x wipe WHAT [--dryrun] [--yes]: Wrong.wipe has no parameter for --dryrun",
        "Wrong.wipe has no usage line",
    ]
    lines = {
        "x lost": "Wrong has no method lost",
        "x group lost": "Group has no method lost",
        "x get": "Wrong.get needs 'source', which no argument gives",
        "x get SOURCE PLACE": "Wrong.get has no parameter for PLACE",
        "x get SOURCE [--colour=C]": "Wrong.get has no parameter for --colour",
        "x get [SOURCE]": "SOURCE may be left out, but its parameter has no default",
        "x get SOURCE...": "SOURCE may be repeated, its parameter is no list",
        "x get SOURCE [--count]": "--count takes no value, its parameter is <class 'int'>",
        "x get SOURCE [--flag=F]": "--flag takes a value, its parameter is <class 'bool'>",
        "x get SOURCE [--debug]": "Wrong.get has no parameter for --debug",
        "x get SOURCE [--yes]": "lists --yes, but get is not destructive",
    }
    for line, fault in lines.items():
        assert any(fault in one for one in faults(f"{line}; {ALL}", Wrong)), line
    assert "Wrong.get has no usage line" in faults(ALL.partition("; ")[2], Wrong)
    assert "Group.forgotten has no usage line" in faults(ALL.rpartition("; ")[0], Wrong)


def test_check_refuses_options_of_cms_and_destruction_without_a_question() -> None:
    class Api:
        def a(self, debug: bool = False) -> None: ...

        @destructive
        def b(self, dryrun: bool = False) -> None: ...

    assert faults("x a [--debug]; x b", Api) == [
        "x a [--debug]: --debug belongs to cms",
        "x b: destructive, but does not list --dryrun",
        "x b: destructive, but does not list --yes",
    ]


@pytest.mark.parametrize("line", ["x [a]", "x (a|b)", "x a...", "x (a", "y a"])
def test_usage_that_the_machinery_does_not_support_is_refused(line: str) -> None:
    with pytest.raises(ValueError, match=r"[xy] "):
        Usage("x", f"::\n\n  Usage:\n    {line}\n")


SHARED = """::

  Usage:
    x get SOURCE [options] [--deep]
    x put SOURCE
    x list

  Options:
    --deep  all of it

  Transfer options:
    --include=PATTERN...  may be
                          repeated
    --max-size=SIZE       bytes [default: 1K]
    --checksum            read all
    --links=WHICH         links

  Not an option: --other=X
"""


@dataclass(frozen=True)
class Shared:
    include: tuple[str, ...] = ()
    max_size: Size | None = None
    checksum: bool = False
    links: Literal["inside", "skip"] = "inside"

    def __post_init__(self) -> None:
        if self.checksum and self.links == "skip":
            raise ValueError("these contradict each other")


class SharedApi:
    def get(self, source: str, options: Shared = Shared(), deep: bool = False) -> None: ...
    def put(self, source: str) -> None: ...
    def list(self) -> None: ...


def test_options_of_the_shared_section_fill_a_dataclass() -> None:
    usage = Usage("x", SHARED)
    assert check(usage, SharedApi) == []
    operation = usage.operations[0]
    assert operation.line == "x get SOURCE [options] [--deep]"
    assert {one.name for one in operation.options} >= {"--include", "--max-size", "--checksum", "--links", "--deep"}
    assert not usage.operations[1].takes("--include")
    typed = "get a --include=b --links skip --deep --include c --max-size=2K"
    values = bind(usage.match(typed.split()), SharedApi).method_values
    assert values == {"source": "a", "deep": True, "options": Shared(("b", "c"), 2048, False, "skip")}
    assert bind(usage.match(["get", "a"]), SharedApi).method_values == {"source": "a", "options": Shared(max_size=1024)}
    for wrong, message in (
        ("get a --max-size=x", "--max-size: 'x' is not allowed (allowed is a size such as 4096, 10M or 1.5GiB)"),
        ("get a --links=all", "--links: 'all' is not allowed (allowed is one of inside, skip)"),
        ("get a --links=skip --checksum", "get: these contradict each other"),
        ("get a --checksum --checksum", "x get: option --checksum is given more than once"),
        ("put a --checksum", "x put: unknown option --checksum"),
    ):
        with pytest.raises(UsageError) as caught:
            bind(usage.match(wrong.split()), SharedApi)
        assert str(caught.value) == message


def test_check_compares_a_dataclass_with_the_shared_section_both_ways() -> None:
    missing = SHARED.replace("    --checksum            read all\n", "")
    assert check(Usage("x", missing), SharedApi) == [
        "x get SOURCE [options] [--deep]: no option gives 'checksum' of Shared"
    ]
    surplus = SHARED.replace("--checksum ", "--checksums ")
    assert "x get SOURCE [options] [--deep]: SharedApi.get has no parameter for --checksums" in check(
        Usage("x", surplus), SharedApi
    )
    wrong = SHARED.replace("--checksum   ", "--checksum=X ").replace("PATTERN...", "PATTERN   ")
    assert check(Usage("x", wrong), SharedApi) == [
        "x get SOURCE [options] [--deep]: --checksum takes a value, its parameter is <class 'bool'>"
    ]
    with pytest.raises(ValueError, match=r"needs a section 'Transfer options:'"):
        Usage("x", SHARED.replace("Transfer options:", "Other options:"))


def test_wrapped_line_is_one_line() -> None:
    usage = Usage("x", "::\n\n  Usage:\n    x a [--one]\n        [--two]\n    x b\n\n  Text: x c\n")
    assert [one.line for one in usage.operations] == ["x a [--one] [--two]", "x b"]
