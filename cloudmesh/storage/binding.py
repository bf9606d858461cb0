"""Binds each operation of a usage by name to one typed method of an API class, and converts what was typed.

``config list`` is ``Api.config.list``: a word in the class's ``usage_groups`` (name → ``module:Class``, the class that
the attribute of that name gives; imported only for its own commands) leads into that class. The remaining words, joined
by ``_``, name the method, and each argument and option the parameter of the same name in lower case; an option that the
method does not take is given to the API class's constructor. A name that Python keeps for itself gets a trailing
underscore (``import_``, ``from_``). The annotations say how texts are converted. A parameter whose annotation is a
dataclass is made from the options that its fields name.
"""

from __future__ import annotations

import importlib
import inspect
import re
import types
import typing
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, fields, is_dataclass
from decimal import Decimal
from functools import cache
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar, Union, get_args, get_origin

from cloudmesh.storage.errors import UsageError
from cloudmesh.storage.meaning import Concerns
from cloudmesh.storage.usage import CMS_OPTIONS, COMMON_OPTIONS, Match, Operation, Option, Usage, Value

MACHINERY = frozenset({*(option.partition("=")[0] for option in COMMON_OPTIONS), "--yes"})
"""Options that the dispatcher acts on; no method takes them."""

Method = TypeVar("Method", bound=Callable[..., Any])


def destructive(method: Method) -> Method:
    """Mark an API method that destroys: the command asks before it runs, showing what ``dryrun=True`` returns.

    Such a method has a parameter ``dryrun: bool``, and its usage lines list ``[--dryrun] [--yes]``. A dry run that
    returns None, something false or no rows has nothing to do, and nothing is asked; nor where its result says with a
    true attribute ``single`` that no more than the one thing named is concerned.
    """
    method.destructive = True  # type: ignore[attr-defined]
    return method


def is_destructive(method: Callable[..., Any]) -> bool:
    """Tell whether the method was marked with `destructive`."""
    return bool(getattr(method, "destructive", False))


def tells_when_empty(text: str) -> Callable[[Method], Method]:
    """Mark an API method that yields rows: where there are none, the command says ``text`` in place of its table."""

    def mark(method: Method) -> Method:
        method.when_empty = text  # type: ignore[attr-defined]
        return method

    return mark


@dataclass(frozen=True, slots=True)
class Reads:
    """How a text is read, as metadata of an ``Annotated`` type.

    Attributes:
        parse: gives the value, or raises ValueError.
        expected: what is allowed, in words.
    """

    parse: Callable[[str], Any]
    expected: str


def reader(annotation: Any) -> Reads | None:
    """Return how a text is read as this type, where the type itself says so."""
    return next((one for one in getattr(annotation, "__metadata__", ()) if isinstance(one, Reads)), None)


_SIZE = re.compile(r"(\d+(?:\.\d+)?)\s*([KMGTPE]?)(I?)B?", re.IGNORECASE)
_DURATION = re.compile(r"(\d+(?:\.\d+)?)\s*(s|m|h|d|w|)", re.IGNORECASE)
_SECONDS = {"": 1, "s": 1, "m": 60, "h": 3600, "d": 86400, "w": 604800}


def parse_size(text: str) -> int:
    """Return the bytes that ``10M``, ``1.5GiB`` or ``4096`` mean; every unit is a power of 1024.

    Raises:
        ValueError: it is no size.
    """
    if (found := _SIZE.fullmatch(text.strip())) is None:
        raise ValueError(text)
    number, unit, _ = found.groups()
    return int(Decimal(number) * 1024 ** " KMGTPE".index(unit.upper() or " "))


def parse_duration(text: str) -> float:
    """Return the seconds that ``90``, ``15m``, ``2h``, ``7d`` or ``1w`` mean.

    Raises:
        ValueError: it is no duration.
    """
    if (found := _DURATION.fullmatch(text.strip())) is None:
        raise ValueError(text)
    number, unit = found.groups()
    return float(number) * _SECONDS[unit.lower()]


def parse_names(text: str) -> list[str]:
    """Return the names in ``aws,box``.

    Raises:
        ValueError: one is empty.
    """
    names = [name.strip() for name in text.split(",")]
    if not all(names):
        raise ValueError(text)
    return names


Size = Annotated[int, Reads(parse_size, "a size such as 4096, 10M or 1.5GiB")]
"""Bytes, typed as ``10M``; K, M, G, T are powers of 1024, with or without ``B`` or ``iB``."""

Duration = Annotated[float, Reads(parse_duration, "a duration such as 30s, 15m, 2h or 7d")]
"""Seconds, typed as ``15m``, ``2h``, ``7d``."""

Names = Annotated[list[str], Reads(parse_names, "names separated by commas, such as aws,box")]
"""A list typed as ``aws,box``."""

ServiceNames = Annotated[Names, Concerns.SERVICES]
"""Names of services."""

Count = Annotated[int, Reads(lambda text: _at_least_one(text), "a whole number of at least 1")]
"""A whole number of at least 1, such as of parallel connections."""


def _at_least_one(text: str) -> int:
    if (number := int(text)) < 1:
        raise ValueError(text)
    return number


@dataclass(frozen=True, slots=True)
class Target:
    """The method that an operation is bound to: through which groups, and which parameter takes which element.

    ``to_record`` gives elements to the fields of a dataclass that the parameter ``record`` takes.
    """

    groups: tuple[str, ...]
    name: str
    method: Callable[..., Any]
    to_method: dict[str, inspect.Parameter]
    to_class: dict[str, inspect.Parameter]
    record: inspect.Parameter | None
    to_record: dict[str, inspect.Parameter]
    returns: Any


@dataclass(frozen=True, slots=True)
class Call:
    """A target with the converted values for the API class and for its method."""

    target: Target
    class_values: dict[str, Any]
    method_values: dict[str, Any]


def bind(match: Match, api: type) -> Call:
    """Return what to call for what was typed. Elements that were not typed are left to the method's defaults.

    Raises:
        UsageError: a value is not what the annotation asks for; the error names it and what is allowed.
        LookupError: the usage line is not bound (a mistake of ours that `check` finds).
    """
    target = find(match.operation, api)
    class_values, method_values, record_values = (
        _converted(match, parameters) for parameters in (target.to_class, target.to_method, target.to_record)
    )
    if target.record is not None and record_values:
        try:
            method_values[target.record.name] = plain_type(target.record.annotation)(**record_values)
        except ValueError as error:
            raise UsageError(" ".join(match.operation.words), str(error)) from None
    return Call(target, class_values, method_values)


def _converted(match: Match, parameters: Mapping[str, inspect.Parameter]) -> dict[str, Any]:
    """The values that were typed, by the names of the parameters that take them."""
    return {
        parameter.name: convert(element, value, parameter.annotation)
        for element, parameter in parameters.items()
        if (value := match.values.get(element)) not in (None, [], False)
    }


def find(operation: Operation, api: type) -> Target:
    """Return the method that the operation is bound to.

    Raises:
        LookupError: there is none, or an argument or option has no parameter; the text says which.
    """
    groups: list[str] = []
    owner = api
    words = list(operation.words)
    while len(words) > 1 and (group := _group(owner, _names(words[0]))) is not None:
        name, owner = group
        groups.append(name)
        del words[0]
    method_name, method = _method(owner, _names("_".join(words)))
    parameters = method_parameters(method)
    class_parameters = constructor_parameters(api)
    record = next((one for one in parameters.values() if is_dataclass(plain_type(one.annotation))), None)
    record_fields = _fields(record) if record is not None else {}
    to_method: dict[str, inspect.Parameter] = {}
    to_class: dict[str, inspect.Parameter] = {}
    to_record: dict[str, inspect.Parameter] = {}
    for element in operation.elements:
        if element.name in MACHINERY:
            continue
        candidates = _names(element.name.lstrip("-").strip("<>").lower())
        if name := next((one for one in candidates if one in parameters), ""):
            to_method[element.name] = parameters[name]
        elif isinstance(element, Option) and (name := next((one for one in candidates if one in record_fields), "")):
            to_record[element.name] = record_fields[name]
        elif isinstance(element, Option) and (name := next((one for one in candidates if one in class_parameters), "")):
            to_class[element.name] = class_parameters[name]
        else:
            raise LookupError(f"{operation.line}: {owner.__name__}.{method_name} has no parameter for {element.name}")
    bound = {parameter.name for parameter in to_method.values()}
    for name, parameter in parameters.items():
        if name not in bound and parameter.default is inspect.Parameter.empty:
            raise LookupError(
                f"{operation.line}: {owner.__name__}.{method_name} needs {name!r}, which no argument gives"
            )
    returns = typing.get_type_hints(method, include_extras=True).get("return")
    return Target(tuple(groups), method_name, method, to_method, to_class, record, to_record, returns)


def convert(element: str, value: Value, annotation: Any) -> Any:
    """Return what was typed for ``element`` (``SOURCE``, ``--parallel``) as the annotated type.

    Raises:
        UsageError: it is not such a value.
    """
    origin, inner = get_origin(annotation), get_args(annotation)
    if origin in (Union, types.UnionType):
        return convert(element, value, next(one for one in inner if one is not type(None)))
    if isinstance(value, bool) or annotation in (str, Any, inspect.Parameter.empty):
        return value
    if origin is Annotated:
        reads = reader(annotation)
        return convert(element, value, inner[0]) if reads is None else _read(element, value, reads)
    if origin is not None and issubclass(origin if isinstance(origin, type) else object, Iterable):
        texts = (convert(element, one, inner[0]) for one in (value if isinstance(value, list) else [str(value)]))
        return tuple(texts) if origin is tuple else list(texts)
    if origin is Literal:
        return _read(element, value, Reads(_choice(inner), f"one of {', '.join(map(str, inner))}"))
    return _read(element, value, _PLAIN[annotation])


_PLAIN = {
    int: Reads(int, "a whole number"),
    float: Reads(float, "a number"),
    bool: Reads(lambda text: {"true": True, "yes": True, "false": False, "no": False}[text.lower()], "true or false"),
    Path: Reads(Path, "a path"),
}


def _choice(choices: tuple[Any, ...]) -> Callable[[str], Any]:
    return {str(choice): choice for choice in choices}.__getitem__


def _read(element: str, value: Value, reads: Reads) -> Any:
    if not isinstance(value, str):  # a flag that counts, or a repeated element of a type that reads each text
        return [item for one in value for item in reads.parse(one)] if isinstance(value, list) else value
    try:
        return reads.parse(value)
    except (ValueError, KeyError):
        raise UsageError(element, f"{value!r} is not allowed", f"allowed is {reads.expected}") from None


def check(usage: Usage, api: type) -> list[str]:
    """Return what does not fit between a usage and an API class, both ways; empty where all is well.

    A public method that is no command is named in the class's ``usage_exempt: ClassVar[frozenset[str]]``.
    """
    faults: list[str] = []
    reached: set[tuple[tuple[str, ...], str]] = set()
    for operation in usage.operations:
        faults += _check_line(operation)
        try:
            target = find(operation, api)
        except LookupError as error:
            faults.append(str(error.args[0]))
            continue
        reached.add((target.groups, target.name))
        faults += _check_types(operation, target)
        faults += _check_record(operation, target)
        if is_destructive(target.method):
            if "dryrun" not in inspect.signature(target.method).parameters:
                faults.append(f"{operation.line}: {target.name} is destructive and has no parameter 'dryrun'")
            faults += [
                f"{operation.line}: destructive, but does not list {option}"
                for option in ("--dryrun", "--yes")
                if not operation.takes(option)
            ]
        elif operation.takes("--yes"):
            faults.append(f"{operation.line}: lists --yes, but {target.name} is not destructive")
    for groups, owner in _classes(api, ()):
        exempt: frozenset[str] = getattr(owner, "usage_exempt", frozenset())
        for name in vars(owner):
            public = not name.startswith("_") and inspect.isfunction(inspect.getattr_static(owner, name))
            if public and name not in exempt and (groups, name) not in reached:
                faults.append(f"{owner.__name__}.{name} has no usage line")
    return faults


def _check_line(operation: Operation) -> Iterator[str]:
    if not operation.words:
        yield f"{operation.line}: has no word"
    for option in operation.options:
        if {option.name, option.short} & CMS_OPTIONS:
            yield f"{operation.line}: {option.name} belongs to cms"


def _check_types(operation: Operation, target: Target) -> Iterator[str]:
    elements = {one.name: one for one in operation.elements}
    for name, parameter in (target.to_method | target.to_class | target.to_record).items():
        element = elements[name]
        where = f"{operation.line}: {name}"
        flag = isinstance(element, Option) and not element.takes_value
        if flag != _is_bool(parameter.annotation) and not (flag and element.repeated and parameter.annotation is int):
            yield f"{where} {'takes no value' if flag else 'takes a value'}, its parameter is {parameter.annotation}"
        elif not flag:
            if fault := _unreadable(parameter.annotation):
                yield f"{where}: no text can be read as {fault}"
            elif element.repeated and not _is_list(parameter.annotation):
                yield f"{where} may be repeated, its parameter is no list"
        is_needed = parameter.default is parameter.empty and target.to_class.get(name) is not parameter
        if not element.required and is_needed:
            yield f"{where} may be left out, but its parameter has no default"


def _check_record(operation: Operation, target: Target) -> Iterator[str]:
    """Every field of a dataclass that a method takes has its option."""
    if target.record is not None:
        given = {parameter.name for parameter in target.to_record.values()}
        for name in sorted(_fields(target.record).keys() - given):
            yield f"{operation.line}: no option gives {name!r} of {plain_type(target.record.annotation).__name__}"


def plain_type(annotation: Any) -> Any:
    """Return the annotation without ``| None``."""
    if get_origin(annotation) in (Union, types.UnionType):
        return next(one for one in get_args(annotation) if one is not type(None))
    return annotation


def _is_bool(annotation: Any) -> bool:
    return plain_type(annotation) is bool


def _is_list(annotation: Any) -> bool:
    plain = plain_type(annotation)
    origin = get_origin(get_args(plain)[0]) if get_origin(plain) is Annotated else get_origin(plain)
    return isinstance(origin, type) and issubclass(origin, Iterable)


def _unreadable(annotation: Any) -> str:
    """What part of an annotation `convert` cannot read; empty where it can read it all."""
    plain = plain_type(annotation)
    inner = get_args(plain)
    if plain is str or plain in _PLAIN or get_origin(plain) is Literal:
        return ""
    if get_origin(plain) is Annotated:
        return _unreadable(inner[0]) if reader(plain) is None else ""
    return _unreadable(inner[0]) if _is_list(plain) and inner else repr(annotation)


def _names(word: str) -> tuple[str, str]:
    """The Python names that a word of a usage may have."""
    name = word.replace("-", "_")
    return name, name + "_"


def _group(owner: type, names: tuple[str, str]) -> tuple[str, type] | None:
    """The group of ``owner`` with one of these names and its class, where there is one."""
    groups: Mapping[str, str] = getattr(owner, "usage_groups", {})
    for name in names:
        if name in groups:
            return name, load(groups[name])
    return None


@cache
def load(place: str) -> type:
    """Import and return the class that ``module:Class`` names."""
    module, _, name = place.partition(":")
    found: type = getattr(importlib.import_module(module), name)
    return found


def _method(owner: type, names: tuple[str, str]) -> tuple[str, Callable[..., Any]]:
    for name in names:
        found = inspect.getattr_static(owner, name, None)
        if inspect.isfunction(found):
            return name, found
    raise LookupError(f"{owner.__name__} has no method {names[0]}")


@cache
def constructor_parameters(api: type) -> Mapping[str, inspect.Parameter]:
    """Return the parameters with which an API class is made."""
    constructor = inspect.getattr_static(api, "__init__")
    return method_parameters(constructor) if inspect.isfunction(constructor) else {}


def method_parameters(function: Callable[..., Any]) -> dict[str, inspect.Parameter]:
    """Return the parameters of a method but ``self``, with evaluated annotations."""
    hints = typing.get_type_hints(function, include_extras=True)
    parameters = list(inspect.signature(function).parameters.values())[1:]
    return {one.name: one.replace(annotation=hints.get(one.name, one.annotation)) for one in parameters}


def _fields(record: inspect.Parameter) -> dict[str, inspect.Parameter]:
    """The fields of the dataclass that a parameter takes, as though they were parameters themselves."""
    kind = plain_type(record.annotation)
    hints = typing.get_type_hints(kind, include_extras=True)
    signature = inspect.signature(kind)
    return {one.name: signature.parameters[one.name].replace(annotation=hints[one.name]) for one in fields(kind)}


def _classes(owner: type, groups: tuple[str, ...]) -> Iterator[tuple[tuple[str, ...], type]]:
    """The API class and the classes of its groups that hold methods of ours."""
    yield groups, owner
    for name, place in getattr(owner, "usage_groups", {}).items():
        yield from _classes(load(place), (*groups, name))
