"""Reads a docopt usage into operations, and what was typed into one of them.

docopt parses the usage and matches the arguments; here stands only what it does not do: it is asked line by line, so
that options of one line do not hide those of another, ``--`` ends the options on every line, and a mistake is named.
``[options]`` in a line stands for all options that the manual's section `SHARED_SECTION` describes; there
``--name=VALUE...`` is one that may be repeated.
"""

from __future__ import annotations

import re
import textwrap
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import takewhile
from typing import Any

from cloudmesh.storage.errors import UsageError

with warnings.catch_warnings():
    # Python warns of docopt's escapes where it compiles it: at every start if no byte code can be kept
    warnings.simplefilter("ignore")
    import docopt  # type: ignore[import-untyped]

COMMON_OPTIONS = ("--output=FORMAT", "--traceback", "--quiet", "--progress=SECONDS")
"""Every line takes these, whether it lists them or not; the dispatcher acts on them."""

SHARED_SECTION = "Transfer options:"
SHORTCUT = "[options]"
_SHARED_OPTION = re.compile(r"\s*(?P<option>--[\w-]+(?:=[\w-]+)?)(?P<more>(?:\.\.\.)?)(?:\s|$)")

CMS_OPTIONS = frozenset({"--debug", "--echo", "--file", "--help", "--nosplash", "-i"})
"""The `cms` shell takes these wherever they stand, so no usage may list them."""

Value = str | bool | int | list[str] | None
"""What docopt gives for one element: a text, whether a flag stands there (or how often), texts, or nothing."""


@dataclass(frozen=True, slots=True)
class Argument:
    """A positional argument of a usage line, such as ``SOURCE`` or ``[NAME]...``."""

    name: str
    required: bool
    repeated: bool


@dataclass(frozen=True, slots=True)
class Option:
    """An option of a usage line, by its long name where it has one; ``short`` is its other spelling."""

    name: str
    short: str | None
    takes_value: bool
    required: bool
    repeated: bool


@dataclass(frozen=True, slots=True)
class Operation:
    """One usage line.

    Attributes:
        line: the line as written, beginning with the command's name; without the common options that it does not list,
            and with ``[options]`` where it says so.
        words: the literal words after the name, such as ``("create", "dir")``.
        pattern: the docopt pattern after the name, common options and those of ``[options]`` included.
    """

    line: str
    words: tuple[str, ...]
    arguments: tuple[Argument, ...]
    options: tuple[Option, ...]
    pattern: str

    @property
    def elements(self) -> tuple[Argument | Option, ...]:
        """Arguments and options together."""
        return (*self.arguments, *self.options)

    def takes(self, option: str) -> bool:
        """Tell whether the line (or the machinery, for every line) takes this option."""
        return any(option in (known.name, known.short) for known in self.options)


@dataclass(frozen=True, slots=True)
class Match:
    """What was typed: the operation, and for each of its elements (``NAME``, ``--option``) what stands there."""

    operation: Operation
    values: dict[str, Value]


class Usage:
    """The usage of one command.

    Args:
        name: of the command; every usage line begins with it.
        manual: the text with the section ``Usage:``; a blank line ends that section.

    Raises:
        ValueError: a line is not understood by docopt, or uses what this machinery does not support.
    """

    def __init__(self, name: str, manual: str) -> None:
        self.name = name
        self.manual = textwrap.dedent(manual)
        self._described: list[Any] = docopt.parse_defaults(self.manual)
        self._shared = _shared_options(self.manual)
        self.operations = tuple(self._operation(line) for line in _lines(name, self.manual))

    def match(self, argv: Sequence[str]) -> Match:
        """Return the operation that ``argv`` (without the command's name) asks for.

        Options may stand before, between and after the words; what follows ``--`` is never an option nor a word.

        Raises:
            UsageError: no line fits; the error names the mistake as precisely as possible.
        """
        for operation in sorted(self.operations, key=lambda one: -len(one.words)):
            if _is_subsequence(operation.words, argv):
                try:
                    values = self._values(operation, argv)
                except docopt.DocoptExit:
                    continue
                if values is not None:
                    return Match(operation, values)
        raise self._mistake(argv)

    def related(self, argv: Sequence[str]) -> tuple[Operation, ...]:
        """Return the operations whose words fit those in ``argv`` best; none where not even the first word does."""
        typed = self._positionals(argv)
        best = max((_common_prefix(one.words, typed) for one in self.operations), default=0)
        found = [one for one in self.operations if _common_prefix(one.words, typed) == best] if best else []
        complete = [one for one in found if len(one.words) == best]
        return tuple(complete or found)

    def described(self, operations: Sequence[Operation]) -> list[str]:
        """Return the manual's lines about the options that these operations take, one below the other."""
        found = re.findall(r"^ +((--[\w-]+)(?:=\S+)?) {2,}(.+)$", self.manual, re.MULTILINE)
        taken = [(option, text) for option, name, text in found if any(one.takes(name) for one in operations)]
        width = max((len(option) for option, _ in taken), default=0)
        return [f"{option:{width}}  {text}" for option, text in taken]

    def _operation(self, line: str) -> Operation:
        pattern = line.removeprefix(self.name)
        if SHORTCUT in pattern:
            if not self._shared:
                raise ValueError(f"{line}: {SHORTCUT} needs a section {SHARED_SECTION!r}")
            pattern = pattern.replace(SHORTCUT, self._shared)
        for option in COMMON_OPTIONS:
            if not re.search(rf"(?<![\w-]){option.partition('=')[0]}(?![\w-])", pattern):
                pattern += f" [{option}]"
        words: list[str] = []
        arguments: dict[str, Argument] = {}
        options: dict[str, Option] = {}
        try:
            tree = docopt.parse_pattern(f"( {pattern} )", self._options_of(pattern))
        except docopt.DocoptLanguageError as error:
            raise ValueError(f"{line}: {error}") from None
        for leaf, required, repeated in _leaves(tree, True, False):
            if type(leaf) is docopt.Command:
                if not required or repeated:
                    raise ValueError(f"{line}: the word {leaf.name!r} must stand there exactly once")
                words.append(leaf.name)
            elif type(leaf) is docopt.Argument:
                again = leaf.name in arguments
                arguments[leaf.name] = Argument(leaf.name, required, repeated or again)
            else:
                again = leaf.name in options
                options[leaf.name] = Option(
                    leaf.name, leaf.short if leaf.long else None, leaf.argcount == 1, required, repeated or again
                )
        return Operation(line, tuple(words), tuple(arguments.values()), tuple(options.values()), pattern)

    def _options_of(self, pattern: str) -> list[Any]:
        """The described options that ``pattern`` lists: only these may be abbreviated, and only these have defaults."""
        listed = set(re.findall(r"(?<![\w-])--?[A-Za-z0-9][\w-]*", pattern))
        return [
            docopt.Option(one.short, one.long, one.argcount, one.value)
            for one in self._described
            if one.long in listed or one.short in listed
        ]

    def _parsed(self, operation: Operation, argv: Sequence[str]) -> tuple[Any, list[Any], dict[str, str]]:
        """docopt's view of the line and of ``argv``, with placeholders for what follows ``--``."""
        before, after = _split(argv)
        placeholders = {f"\0{number}": text for number, text in enumerate(after)}
        options = self._options_of(operation.pattern)
        tree = docopt.parse_pattern(f"( {operation.pattern} )", options)
        tokens = docopt.TokenStream(before, docopt.DocoptExit)
        parsed = docopt.parse_argv(tokens, list(options))
        return tree, parsed + [docopt.Argument(None, name) for name in placeholders], placeholders

    def _values(self, operation: Operation, argv: Sequence[str]) -> dict[str, Value] | None:
        tree, parsed, placeholders = self._parsed(operation, argv)
        matched, left, collected = tree.fix().match(parsed)
        if not matched or left:
            return None

        def typed(value: Any) -> Any:
            if isinstance(value, list):
                return [placeholders.get(one, one) for one in value]
            return placeholders.get(value, value) if isinstance(value, str) else value

        return {leaf.name: typed(leaf.value) for leaf in [*tree.flat(), *collected] if type(leaf) is not docopt.Command}

    def _positionals(self, argv: Sequence[str]) -> list[str]:
        """The arguments in ``argv`` that are neither options nor their values, as far as any line knows the options."""
        before, after = _split(argv)
        options = [option for one in self.operations for option in one.options if option.takes_value]
        known = {name for option in options for name in (option.name, option.short)}
        found, skip = [], False
        for text in before:
            if skip or (text.startswith("-") and text != "-"):
                skip = not skip and text in known
            else:
                found.append(text)
        return found + after

    def _mistake(self, argv: Sequence[str]) -> UsageError:
        typed = self._positionals(argv)
        related = self.related(argv)
        if not typed:
            return UsageError(self.name, "a command is missing")
        if not related or not any(_common_prefix(one.words, typed) == len(one.words) for one in related):
            known = len(related[0].words[: _common_prefix(related[0].words, typed)]) if related else 0
            return self._unknown_word(typed, related or self.operations, known)
        subject = " ".join([self.name, *related[0].words])
        mistakes = [self._mistake_of(operation, argv, typed) for operation in related]
        # The line that was understood furthest says best what is wrong with it.
        _, why = max(mistakes, key=lambda mistake: mistake[0])
        return UsageError(subject, why)

    def _unknown_word(self, typed: list[str], operations: Sequence[Operation], known: int) -> UsageError:
        from difflib import get_close_matches

        subject = " ".join([self.name, *typed[:known]])
        choices = sorted({one.words[known] for one in operations})
        if len(typed) == known:
            return UsageError(subject, f"a command is missing ({', '.join(choices)})")
        close = get_close_matches(typed[known], choices, n=1)
        question = f", did you mean {close[0]!r}?" if close else ""
        return UsageError(subject, f"unknown command {typed[known]!r}{question}")

    def _mistake_of(self, operation: Operation, argv: Sequence[str], typed: list[str]) -> tuple[int, str]:
        """What is wrong with ``argv`` as this operation, and how far it was understood (higher is further)."""
        try:
            _, parsed, _ = self._parsed(operation, argv)
        except docopt.DocoptExit as error:
            return 1, str(error).replace("requires argument", "needs a value")
        for one in parsed:
            if type(one) is docopt.Option and not operation.takes(one.name):
                return 0, f"unknown option {one.name}{self._close_option(one.name, operation)}"
        given = [one.value for one in parsed if type(one) is docopt.Argument][len(operation.words) :]
        required = [one.name for one in operation.arguments if one.required]
        if len(given) < len(required):
            return 2, f"argument {required[len(given)]} is missing"
        if len(given) > len(operation.arguments) and not any(one.repeated for one in operation.arguments):
            surplus = typed[len(operation.words) + len(operation.arguments)]
            return 2, f"unexpected argument {surplus!r}"
        names = [one.name for one in parsed if type(one) is docopt.Option]
        for option in operation.options:
            if option.required and option.name not in names:
                return 3, f"option {option.name} is missing"
            if not option.repeated and names.count(option.name) > 1:
                return 3, f"option {option.name} is given more than once"
        return 0, "the arguments do not fit together"

    def _close_option(self, name: str, operation: Operation) -> str:
        from difflib import get_close_matches

        close = get_close_matches(name, [option.name for option in operation.options], n=1)
        return f", did you mean {close[0]}?" if close else ""


def _lines(name: str, manual: str) -> Iterator[str]:
    """The usage lines; one that does not begin with the command's name continues the line before."""
    try:
        text = docopt.printable_usage(manual)
    except docopt.DocoptLanguageError as error:
        raise ValueError(f"{name}: {error}") from None
    lines: list[list[str]] = []
    for raw in text.partition(":")[2].splitlines():
        tokens = raw.split()
        if tokens and tokens[0] == name:
            lines.append(tokens)
        elif tokens and lines:
            lines[-1].extend(tokens)
        elif tokens:
            raise ValueError(f"{raw.strip()}: a usage line begins with {name!r}")
    return (" ".join(tokens) for tokens in lines)


def _shared_options(manual: str) -> str:
    """The options of the shared section as a usage line would list them; empty where there is no such section."""
    lines = iter(manual.splitlines())
    listed = []
    if any(line.strip() == SHARED_SECTION for line in lines):
        for line in takewhile(str.strip, lines):
            if found := _SHARED_OPTION.match(line):
                listed.append(f"[{found['option']}]{found['more']}")
    return " ".join(listed)


def _leaves(node: Any, required: bool, repeated: bool) -> Iterator[tuple[Any, bool, bool]]:
    """The words, arguments and options of a docopt pattern, each with whether it must be there and may repeat."""
    if not hasattr(node, "children"):
        yield node, required, repeated
        return
    for child in node.children:
        yield from _leaves(
            child,
            required and type(node) not in (docopt.Optional, docopt.Either),
            repeated or type(node) is docopt.OneOrMore,
        )


def _split(argv: Sequence[str]) -> tuple[list[str], list[str]]:
    """What stands before and what behind the first ``--``."""
    texts = list(argv)
    if "--" not in texts:
        return texts, []
    end = texts.index("--")
    return texts[:end], texts[end + 1 :]


def _is_subsequence(words: Sequence[str], argv: Sequence[str]) -> bool:
    rest = iter(argv)
    return all(word in rest for word in words)


def _common_prefix(words: Sequence[str], typed: Sequence[str]) -> int:
    count = 0
    for word, text in zip(words, typed, strict=False):
        if word != text:
            break
        count += 1
    return count
