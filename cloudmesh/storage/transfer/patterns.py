"""The pattern language of rclone's filters, translated to Python's regular expressions.

``*`` and ``?`` stop at a slash, ``**`` does not; ``[a-z]``, ``[^a-z]`` and ``[[:alpha:]]`` are classes, ``{a,b}`` are
alternatives, ``{{…}}`` is a regular expression (Python's, not Go's), and ``\\`` takes the next character's meaning away
or, before ``d``, ``s``, ``w``, gives it one. A pattern fits whole parts at the end of a path; one that begins with a
slash fits from the top.
"""

from __future__ import annotations

import re
import string
from dataclasses import dataclass

_ANYTHING = "(?s:.*)"
_CLASSES = {"d": "0-9", "w": "0-9A-Za-z_", "s": r"\t\n\f\r\ "}
_NAMED = {
    "alnum": "0-9A-Za-z",
    "alpha": "A-Za-z",
    "ascii": r"\x00-\x7f",
    "blank": r"\t\ ",
    "cntrl": r"\x00-\x1f\x7f",
    "digit": "0-9",
    "graph": "!-~",
    "lower": "a-z",
    "print": r"\ -~",
    "punct": r"!-/:-@\[-`{-~",
    "space": r"\t\n\v\f\r\ ",
    "upper": "A-Z",
    "word": "0-9A-Za-z_",
    "xdigit": "0-9A-Fa-f",
}
_FLAGS = re.compile(r"\(\?([ims]+)\)")


@dataclass(frozen=True, slots=True)
class Pattern:
    """A translated pattern.

    Attributes:
        regex: fits the whole relative path; a directory's path ends in a slash there.
        directories: what fits the directories in which a file of this pattern can lie, with a slash at their end; the
            top itself is not among them. None where that may be every directory.
    """

    regex: re.Pattern[str]
    directories: tuple[re.Pattern[str], ...] | None


def translate(pattern: str) -> Pattern:
    """Return the pattern, translated.

    Raises:
        ValueError: it is none; the text says why.
    """
    parser = _Parser(pattern.removeprefix("/"))
    parts = parser.sequence()
    is_anchored = pattern.startswith("/")
    start = "" if is_anchored else f"(?:{_ANYTHING}/)?"
    try:
        regex = re.compile(start + "".join(part.text for part in parts))
    except re.error as error:
        raise ValueError(f"its regular expression is wrong: {error.msg}") from None
    prefixes = dict.fromkeys(_directories(parts))
    if any(part.hides_slash for part in parts) or not (prefixes or is_anchored):
        return Pattern(regex, None)
    return Pattern(regex, tuple(re.compile(start + prefix) for prefix in prefixes))


@dataclass(frozen=True, slots=True)
class _Part:
    """A piece of a pattern.

    Attributes:
        text: the regular expression.
        is_slash, is_anything: it is ``/``, ``**``.
        hides_slash: it may fit slashes in a way that the directories cannot be told from.
    """

    text: str
    is_slash: bool = False
    is_anything: bool = False
    hides_slash: bool = False


def _directories(parts: list[_Part]) -> list[str]:
    """The regular expressions of the directories on the way to what the parts fit, the deepest first."""
    found = []
    before = ""
    for part in parts:
        if part.is_slash and not before.endswith("/"):
            found.append(before + "/")
        elif part.is_anything:
            found.append(before + part.text + "/")
        if not (part.is_slash and before.endswith("/")):
            before += part.text
    return found[::-1]


class _Parser:
    """Reads a pattern from left to right."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._at = 0

    def sequence(self, depth: int = 0) -> list[_Part]:
        """Read to the end, or inside braces to the comma or brace that ends the alternative."""
        parts: list[_Part] = []
        while self._at < len(self._text):
            sign = self._text[self._at]
            if depth and sign in ",}":
                return parts
            if sign == "}":
                raise ValueError("'}' without '{'")
            if sign == "]":
                raise ValueError("']' without '['")
            if self._text.startswith("{{", self._at):
                parts.append(_Part(self._regular_expression(), hides_slash=True))
            elif sign == "{":
                parts.append(self._alternatives(depth))
            elif sign == "*":
                parts.append(self._stars())
            else:
                self._at += 1
                parts.append(self._single(sign))
        if depth:
            raise ValueError("'{' without '}'")
        return parts

    def _single(self, sign: str) -> _Part:
        if sign == "?":
            return _Part("[^/]")
        if sign == "[":
            return _Part(self._class())
        if sign == "\\":
            name, text = self._escaped()
            return _Part(f"[{'^' if name.isupper() else ''}{text}]" if name else text)
        return _Part(re.escape(sign), is_slash=sign == "/")

    def _stars(self) -> _Part:
        rest = self._text[self._at :]
        count = len(rest) - len(rest.lstrip("*"))
        if count > 2:
            raise ValueError("more than two stars in a row")
        self._at += count
        return _Part(_ANYTHING, is_anything=True) if count == 2 else _Part("[^/]*")

    def _escaped(self) -> tuple[str, str]:
        """The name of the class that follows a backslash with what it holds, or "" with a character by itself."""
        if self._at == len(self._text):
            raise ValueError("nothing follows the backslash at its end")
        sign = self._text[self._at]
        self._at += 1
        if sign.lower() in _CLASSES and sign.isascii():
            return sign, _CLASSES[sign.lower()]
        if sign in string.ascii_letters + string.digits:
            raise ValueError(f"'\\{sign}' has no meaning")
        return "", re.escape(sign)

    def _class(self) -> str:
        """Read what follows ``[``, its end included."""
        start = self._at
        negated = self._text.startswith("^", start)
        self._at += negated
        if self._text.startswith("!", self._at) and not negated:
            raise ValueError(r"write [^…] for all but these characters, [\!…] for an exclamation mark")
        inside: list[str] = []
        while not self._text.startswith("]", self._at):
            if self._at >= len(self._text):
                raise ValueError("'[' without ']'")
            inside.append(self._member())
        self._at += 1
        if not inside:
            raise ValueError("an empty class []")
        if (ones := [one for one in inside if one.startswith("[")]) and (len(ones) < len(inside) or negated):
            # a class such as \D among others: Python has no union of negated classes but this one
            rest = "".join(one for one in inside if not one.startswith("["))
            either = "|".join([*ones, *([f"[{rest}]"] if rest else [])])
            return f"(?:(?!{either})(?s:.))" if negated else f"(?:{either})"
        return "".join(inside) if ones else f"[{'^' if negated else ''}{''.join(inside)}]"

    def _member(self) -> str:
        """One member of a class: a class's inside, a range or a character; a negated class in brackets of its own."""
        named = re.compile(r"\[:(\^?)(\w+):\]").match(self._text, self._at)
        if named is not None:
            self._at = named.end()
            if named[2] not in _NAMED:
                raise ValueError(f"there is no class {named[0]}")
            return f"[^{_NAMED[named[2]]}]" if named[1] else _NAMED[named[2]]
        name, first = self._character()
        if name:
            return f"[^{first}]" if name.isupper() else first
        rest = self._text[self._at : self._at + 2]
        if len(rest) < 2 or rest[0] != "-" or rest[1] == "]":
            return first
        self._at += 1
        name, last = self._character()
        if name or last[-1] < first[-1]:
            raise ValueError("a range in [] runs backwards or ends in a class")
        return f"{first}-{last}"

    def _character(self) -> tuple[str, str]:
        sign = self._text[self._at]
        self._at += 1
        if sign == "\\":
            return self._escaped()
        if sign == "[":
            raise ValueError(r"write \[ for a bracket in a class")
        return "", re.escape(sign)

    def _alternatives(self, depth: int) -> _Part:
        self._at += 1
        choices: list[list[_Part]] = []
        while True:
            choices.append(self.sequence(depth + 1))
            self._at += 1
            if self._text[self._at - 1] == "}":
                break
        texts = ["".join(part.text for part in choice) for choice in choices]
        inner = [part for choice in choices for part in choice]
        hides = any(part.is_slash or part.is_anything or part.hides_slash for part in inner)
        nested = any(part.text.startswith("(?:") for part in inner)
        return _Part(f"(?:{'|'.join(texts)})", hides_slash=hides or nested)

    def _regular_expression(self) -> str:
        """Read ``{{…}}``; where more than two braces end it, the last two do."""
        end = self._text.find("}}", self._at + 2)
        if end < 0:
            raise ValueError("'{{' without '}}'")
        while self._text.startswith("}", end + 2):
            end += 1
        inside = self._text[self._at + 2 : end]
        self._at = end + 2
        flags = _FLAGS.match(inside)
        return f"(?{flags[1]}:{inside[flags.end() :]})" if flags else f"(?:{inside})"
