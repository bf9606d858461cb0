"""Prints what an API method returned, as table, json, yaml or csv; rows are printed as they come.

A row is a dataclass or a mapping. ``columns: ClassVar[tuple[str, ...]]`` of a dataclass chooses and orders the columns
of its table (fields, properties, or fields of a nested dataclass with a dot). In tables sizes (``size``, ``bytes*``,
``*bytes``), speeds (``bytes_per_s``), durations (``seconds``, ``*_s``) and times (``*_ns``, nanoseconds since the
epoch) are written for people; the other formats hold every field as it is. A field declared with ``repr=False`` is
never printed.

A table never holds a control character of a name, a terminal gets none from any format but csv.
"""

from __future__ import annotations

import dataclasses
import datetime
import enum
import itertools
import os
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import cache, partial
from pathlib import PurePath
from typing import Any, BinaryIO, Literal, TextIO, get_args

from cloudmesh.storage.errors import StorageError

Format = Literal["table", "json", "yaml", "csv"]

BATCH = 1000
"""Rows of a table whose widths are found together; a longer table goes on in such batches, never narrower."""

# Control characters, line and paragraph separators, marks that turn the direction of writing, lone surrogates
# (bytes of a file name that are not UTF-8), noncharacters.
_UNSAFE = re.compile("[\0-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ufeff\ud800-\udfff\ufffe\uffff]")


@dataclass(frozen=True, slots=True)
class Printed:
    """What was printed: how many rows (a single object is one), and whether any of them says that it ``failed``."""

    rows: int = 0
    failed: bool = False


class NobodyReads(Exception):
    """The other end of the pipe is closed."""


class Output:
    """A text stream for results: its failures are told from those of a service, and any file name can be written.

    Args:
        stream: where to.
        prepare: called before anything is written, as to take a progress bar off the terminal.
    """

    def __init__(self, stream: TextIO, prepare: Callable[[], None] | None = None) -> None:
        self._stream = stream
        self._prepare = prepare

    def write(self, text: str) -> None:
        """Write text. What the encoding lacks is written as the bytes of the file name it came from, or as escapes."""
        if self._prepare is not None:
            prepare, self._prepare = self._prepare, None
            prepare()
        with _failures(self._stream):
            try:
                self._stream.write(text)
            except UnicodeEncodeError:
                self.binary().write(self._encoded(text))

    def writelines(self, lines: Iterable[str]) -> None:
        """Write one text after the other."""
        for line in lines:
            self.write(line)

    def write_bytes(self, pieces: Iterable[bytes]) -> None:
        """Write bytes as they are."""
        self.write("")
        for piece in pieces:
            with _failures(self._stream):
                self.binary().write(piece)
                self.binary().flush()  # a log that is followed is read as it comes
        self.flush()

    def binary(self) -> BinaryIO:
        """The stream of bytes below, what was written as text before being sent on."""
        self._stream.flush()
        return self._stream.buffer

    def flush(self) -> None:
        """Send on what is buffered."""
        with _failures(self._stream):
            self._stream.flush()

    def isatty(self) -> bool:
        """Tell whether it is a terminal."""
        return self._stream.isatty()

    def _encoded(self, text: str) -> bytes:
        try:
            return text.encode(self._stream.encoding, "surrogateescape")
        except UnicodeEncodeError:
            return text.encode(self._stream.encoding, "backslashreplace")


@contextmanager
def _failures(stream: TextIO) -> Iterator[None]:
    try:
        yield
    except BrokenPipeError:
        _silence(stream)
        raise NobodyReads from None
    except OSError as error:
        _silence(stream)
        raise StorageError("output", f"cannot be written: {error.strerror}") from None


def _silence(stream: TextIO) -> None:
    """Send what is still buffered to nowhere, so that Python's end does not complain a second time."""
    with suppress(OSError, ValueError):  # not a real file: nothing is flushed at the end
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, stream.fileno())
        os.close(nowhere)


def visible(text: str) -> str:
    """Return ``text`` with every character that could steer a terminal written as an escape such as ``\\x1b``."""
    return text if text.isascii() and text.isprintable() else _UNSAFE.sub(_escape, text)


def write(result: Any, form: Format, stream: Output, returns: Any = None) -> Printed:
    """Print a method's result.

    An object or row whose attribute ``failed`` is true makes the command fail after all is printed.

    Args:
        result: None (nothing is printed), a text, a dataclass or mapping, an iterable of rows, or of bytes.
        form: bytes are written as they are in every form.
        stream: where to.
        returns: the method's return annotation: tells the columns where there are no rows, and that bytes are meant.
    """
    if result is None:
        return Printed()
    if gives_bytes(returns):
        stream.write_bytes((result,) if isinstance(result, bytes) else result)
        return Printed(1)
    if isinstance(result, (str, int, float, PurePath)):
        return _write_scalar(result, form, stream)
    if _is_row(result):
        write_one = {"table": _object_table, "json": _json_object, "yaml": _yaml, "csv": _object_csv}[form]
        write_one(result, stream)
        return Printed(1, bool(getattr(result, "failed", False)))
    rows = _Watched(iter(result))
    row_type = next((one for one in get_args(returns) if dataclasses.is_dataclass(one)), None)
    if form == "json":
        _json_list(rows, stream)
    elif form == "yaml":
        _yaml_list(rows, stream)
    elif form == "csv":
        _csv(rows, stream, row_type)
    else:
        _table(rows, stream)
    return Printed(rows.count, rows.failed)


@cache
def gives_bytes(returns: Any) -> bool:
    """Tell whether a return annotation means bytes: ``bytes``, ``Iterator[bytes]`` or a class like `Reader`."""
    if returns is bytes or bytes in get_args(returns):
        return True
    iterate = getattr(returns, "__iter__", None) if isinstance(returns, type) else None
    return "bytes" in str(getattr(iterate, "__annotations__", {}).get("return", ""))


class _Watched:
    """Rows on their way, counted, with a note of those that failed."""

    def __init__(self, rows: Iterator[Any]) -> None:
        self._rows = rows
        self.count = 0
        self.failed = False

    def __iter__(self) -> Iterator[Any]:
        for row in self._rows:
            self.count += 1
            self.failed = self.failed or bool(getattr(row, "failed", False))
            yield row


def _write_scalar(result: Any, form: Format, stream: Output) -> Printed:
    if form == "json":
        stream.write(json_text(result) + "\n")
    elif form == "yaml":
        _yaml(result, stream)
    else:
        text = str(result)
        if stream.isatty():  # a script that reads a name needs it as it is
            text = "\n".join(visible(line) for line in text.split("\n"))
        stream.write(text if text.endswith("\n") else text + "\n")
    return Printed(1)


# ---- values ----------------------------------------------------------------------------------------------------------


def _is_row(value: Any) -> bool:
    return isinstance(value, Mapping) or (dataclasses.is_dataclass(value) and not isinstance(value, type))


def _names(row: Any) -> list[str]:
    if isinstance(row, Mapping):
        return [str(name) for name in row]
    return _fields_of(row if isinstance(row, type) else type(row))


@cache
def _fields_of(kind: type) -> list[str]:
    return [field.name for field in dataclasses.fields(kind) if field.repr]


def _value(row: Any, name: str) -> Any:
    if isinstance(row, Mapping):
        return row.get(name)
    head, _, rest = name.partition(".")
    value = getattr(row, head)
    return _value(value, rest) if rest and value is not None else value


def plain(value: Any) -> Any:
    """Return the value made of dicts, lists, texts, numbers, booleans and None only."""
    kind: type = type(value)
    return value if kind in _PLAIN else _way_to_plain(kind)(value)


_PLAIN = frozenset({str, bool, int, float, type(None)})


@cache
def _way_to_plain(kind: type) -> Callable[[Any], Any]:
    """Return what makes values of a type plain: found once, as finding it takes longer than doing it."""
    if issubclass(kind, Mapping):
        return lambda value: {str(name): plain(one) for name, one in value.items()}
    if dataclasses.is_dataclass(kind):
        names = _fields_of(kind)
        return lambda value: {name: plain(getattr(value, name)) for name in names}
    if issubclass(kind, enum.Enum):
        return lambda value: plain(value.value)
    if issubclass(kind, (datetime.datetime, datetime.date)):
        return lambda value: value.isoformat()
    if issubclass(kind, (set, frozenset)):
        return lambda value: sorted(plain(one) for one in value)
    if issubclass(kind, Iterable) and not issubclass(kind, (str, bytes, PurePath)):
        return lambda value: [plain(one) for one in value]
    return str


def _escape(found: re.Match[str]) -> str:
    code = ord(found.group())
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}"


def json_text(value: Any) -> str:
    """Return a value as JSON in one line, safe for a terminal."""
    text = _json_encoder()(plain(value))
    if text.isascii() and text.isprintable():
        return text
    return _UNSAFE.sub(lambda found: f"\\u{ord(found.group()):04x}", text)


@cache
def _json_encoder() -> Callable[[Any], str]:
    import json

    return json.JSONEncoder(ensure_ascii=False).encode


# ---- json, yaml, csv -------------------------------------------------------------------------------------------------


def _json_object(value: Any, stream: Output) -> None:
    stream.write(json_text(value) + "\n")


def _json_list(rows: Iterable[Any], stream: Output) -> None:
    """One array, a row a line. After an error in the middle it stays open, so that nobody takes it for the whole."""
    opening = "["
    for row in rows:
        stream.write(f"{opening}\n{json_text(row)}")
        opening = ","
    stream.write("[]\n" if opening == "[" else "\n]\n")


def _yaml(value: Any, stream: Output) -> None:
    import yaml

    # One long scalar stays on one line: a folded one cannot be found by searching for its text.
    dump: Any = partial(yaml.dump, plain(value), allow_unicode=True, sort_keys=False, width=1_000_000)
    try:
        text: str = dump(Dumper=_yaml_dumper("CSafeDumper" if hasattr(yaml, "CSafeDumper") else "SafeDumper"))
    except UnicodeEncodeError:  # libyaml takes no lone surrogates
        text = dump(Dumper=_yaml_dumper("SafeDumper"))
    # Unsafe characters stand in quoted scalars only, where every one has its escape; line ends are the document's own.
    safe = _UNSAFE.sub(lambda found: "\n" if found.group() == "\n" else f"\\u{ord(found.group()):04x}", text)
    stream.write(safe.removesuffix("...\n"))


@cache
def _yaml_dumper(base: str) -> Any:
    """One of PyYAML's dumpers, which quotes texts with characters that plain scalars lose, as NEL."""
    import yaml

    def text(dumper: Any, text: str) -> Any:
        return dumper.represent_scalar("tag:yaml.org,2002:str", text, style='"' if _UNSAFE.search(text) else None)

    dumper: Any = type("Dumper", (getattr(yaml, base),), {})
    dumper.add_representer(str, text)
    return dumper


def _yaml_list(rows: Iterable[Any], stream: Output) -> None:
    empty = True
    for row in rows:
        _yaml([row], stream)
        empty = False
    if empty:
        stream.write("[]\n")


def _csv_cell(value: Any) -> Any:
    simple = plain(value)
    return json_text(simple) if isinstance(simple, (dict, list)) else "" if simple is None else simple


def _csv(rows: Iterable[Any], stream: Output, row_type: Any = None) -> None:
    import csv

    class Lines:
        """Ends rows with a line feed. A writer told so itself would leave a carriage return in a cell unquoted."""

        def write(self, row: str) -> None:
            stream.write(row.removesuffix("\r\n") + "\n")

    writer = csv.writer(Lines())
    names = _names(row_type) if row_type is not None else None
    waiting = iter(rows)
    first = list(itertools.islice(waiting, 1))  # where this fails nothing is printed
    if names is not None:
        writer.writerow(names)
    for row in itertools.chain(first, waiting):
        if not _is_row(row):
            writer.writerow([_csv_cell(row)])
            continue
        if names is None:
            names = _names(row)
            writer.writerow(names)
        writer.writerow([_csv_cell(_value(row, name)) for name in names])


def _object_csv(value: Any, stream: Output) -> None:
    _csv([value], stream)


# ---- tables ----------------------------------------------------------------------------------------------------------


def _columns(row: Any) -> list[str]:
    return list(getattr(row, "columns", None) or _names(row)) if not isinstance(row, Mapping) else _names(row)


def _heading(column: str) -> str:
    return _heading_of_field(column.rpartition(".")[2])


def _cell(column: str, value: Any) -> str:
    """The value of a table's cell as a person reads it, safe for a terminal."""
    if value is None:
        return ""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, (int, float)):
        if column.endswith("_ns"):
            return _time(value / 1e9)
        name = column.rpartition(".")[2]
        if name.endswith("bytes_per_s"):
            return f"{human_size(round(value))}/s"
        if name == "size" or name.startswith("bytes") or name.endswith("bytes"):
            return human_size(int(value))
        if name == "seconds" or name.endswith("_s"):
            return human_duration(value)
        return str(value) if isinstance(value, int) else f"{value:.3f}".rstrip("0").rstrip(".")
    if column.endswith("_usd"):  # a Decimal, which writes small amounts as 4E-10
        return f"{value.normalize():f}"
    if isinstance(value, datetime.datetime):
        return _time(value.timestamp())
    simple = plain(value)
    if isinstance(simple, list) and all(isinstance(one, str) for one in simple):
        return visible(", ".join(simple))
    return json_text(simple) if isinstance(simple, (dict, list)) else visible(str(simple))


def human_size(size: int) -> str:
    """Return bytes as a person reads them: ``512 B``, ``1.2 MiB``."""
    if abs(size) < 1024:
        return f"{size} B"
    scaled, units = size / 1024, "KMGTPE"
    while abs(scaled) >= 1023.95 and len(units) > 1:  # what would be rounded to 1024.0
        scaled, units = scaled / 1024, units[1:]
    return f"{scaled:.1f} {units[0]}iB"


def human_duration(seconds: float) -> str:
    """Return seconds as a person reads them: ``0.021 s``, ``12 s``, ``2 min 5 s``, ``1 h 3 min``."""
    if seconds < 1:
        return f"{seconds:.3f}".rstrip("0").rstrip(".") + " s"
    if seconds < 9.95:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    if not minutes:
        return f"{rest} s"
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min {rest} s"


def _time(seconds: float) -> str:
    """Local time as ``2026-11-23 09:15:02``; the number itself where the calendar does not reach so far."""
    try:
        return datetime.datetime.fromtimestamp(int(seconds)).isoformat(sep=" ")
    except (ValueError, OverflowError, OSError):
        return str(seconds)


def _width(text: str) -> int:
    if text.isascii():
        return len(text)
    from wcwidth import wcswidth

    return max(wcswidth(text), 0)


def _table(rows: Iterable[Any], stream: Output) -> None:
    waiting = iter(rows)
    columns: list[str] | None = None
    widths: list[int] = []
    numeric: list[bool] = []
    while batch := list(itertools.islice(waiting, BATCH)):
        if not _is_row(batch[0]):
            stream.writelines(visible(str(one)) + "\n" for one in batch)
            continue
        first = columns is None
        if columns is None:
            columns = _columns(batch[0])
            widths = [_width(_heading(column)) for column in columns]
            numeric = [
                all(isinstance(_value(row, column), (int, float, type(None))) for row in batch)
                and not column.endswith("_ns")
                for column in columns
            ]
        lines = [[_cell(column, _value(row, column)) for column in columns] for row in batch]
        widths = [max(width, *(_width(line[index]) for line in lines)) for index, width in enumerate(widths)]
        if first:
            lines.insert(0, [_heading(column) for column in columns])
        stream.writelines(_padded(line, widths, numeric) for line in lines)


def _padded(cells: list[str], widths: list[int], numeric: list[bool]) -> str:
    padded = []
    for cell, width, right in zip(cells, widths, numeric, strict=True):
        space = " " * (width - _width(cell))
        padded.append(space + cell if right else cell + space)
    return "  ".join(padded).rstrip(" ") + "\n"


def _object_table(value: Any, stream: Output) -> None:
    """Its fields, one a line; then each list of rows among them as a table of its own."""
    fields: list[tuple[str, Any]] = []
    tables: list[tuple[str, Any]] = []
    for name in _columns(value):
        _collect(name, _value(value, name), fields, tables)
    # what is unknown or empty says nothing to a person; the other formats hold it
    fields = [(name, field) for name, field in fields if field not in (None, "", [], (), {})]
    width = max((_width(_heading_of_field(name)) for name, _ in fields), default=0)
    for name, field in fields:
        heading = _heading_of_field(name)
        stream.write(f"{heading}{' ' * (width - _width(heading))}  {_cell(name, field)}".rstrip(" ") + "\n")
    for name, rows in tables:
        stream.write(f"\n{_heading_of_field(name)}:\n")
        _table(rows, stream)


def _heading_of_field(name: str) -> str:
    return visible("time" if name == "seconds" else name.removesuffix("_ns").removesuffix("_bytes"))


def _collect(name: str, value: Any, fields: list[tuple[str, Any]], tables: list[tuple[str, Any]]) -> None:
    if _is_row(value) and not isinstance(value, Mapping):
        for inner in _columns(value):
            _collect(f"{name}.{inner}", _value(value, inner), fields, tables)
    elif isinstance(value, (list, tuple)) and value and all(_is_row(one) for one in value):
        tables.append((name, value))
    else:
        fields.append((name, value))
