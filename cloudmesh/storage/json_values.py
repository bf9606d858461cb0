"""Typed values as JSON and back: what methods of an API take and return, on its way through a network or a database."""

from __future__ import annotations

import types
import typing
from collections.abc import Iterable, Mapping
from dataclasses import fields, is_dataclass
from decimal import Decimal
from functools import cache
from pathlib import Path
from typing import Annotated, Any, Union, get_args, get_origin

from cloudmesh.storage.binding import reader
from cloudmesh.storage.errors import UsageError
from cloudmesh.storage.output import plain


def is_text(annotation: Any) -> bool:
    """Tell whether JSON holds values of this type as the text that a person would type."""
    if get_origin(annotation) is Annotated:
        inner = get_args(annotation)[0]
        return is_text(inner) or (reader(annotation) is not None and inner not in (int, float) and not is_list(inner))
    return annotation in (str, Path, Decimal)


def is_list(annotation: Any) -> bool:
    """Tell whether JSON holds values of this type as an array."""
    origin = get_origin(annotation)
    return isinstance(origin, type) and issubclass(origin, Iterable) and not issubclass(origin, Mapping)


def to_json(annotation: Any, value: Any) -> Any:
    """Return a value as JSON holds it; of a dataclass the fields that are not as they are by default."""
    if value is None:
        return None
    inner = _choose(annotation, value)
    if is_text(inner):
        return str(value)
    if is_dataclass(inner) and is_dataclass(value):
        types_ = _types(type(value))
        told = (one for one in fields(value) if getattr(value, one.name) != one.default)
        return {one.name: to_json(types_[one.name], getattr(value, one.name)) for one in told}
    return plain(value)


def from_json(name: str, annotation: Any, value: Any) -> Any:
    """Return the value of the annotated type that `to_json` or the output of a command holds as ``value``.

    Args:
        name: what the value is for, as errors tell it.
        annotation: the type.
        value: from JSON.

    Raises:
        UsageError: it is no such value.
    """
    if value is None:
        return None
    annotation = _choose(annotation, value)
    if (reads := reader(annotation)) is not None and not isinstance(value, list):
        try:
            read = reads.parse(value if isinstance(value, str) else f"{value!r}")
        except (ValueError, ArithmeticError):
            raise UsageError(name, f"{value!r} is not allowed", f"allowed is {reads.expected}") from None
        return read if isinstance(value, str) else value
    if get_origin(annotation) is Annotated:
        return from_json(name, get_args(annotation)[0], value)
    if is_dataclass(annotation) and isinstance(value, Mapping):
        types_ = _types(annotation)
        if unknown := value.keys() - types_.keys():
            raise UsageError(f"{name} {min(unknown)}", "is not known")
        return annotation(**{key: from_json(key, types_[key], one) for key, one in value.items()})  # type: ignore[operator]
    if is_list(annotation) and isinstance(value, list):
        inner = get_args(annotation)[0]
        items = (from_json(name, inner, one) for one in value)
        return tuple(items) if get_origin(annotation) is tuple else list(items)
    if annotation in (Path, Decimal):
        return annotation(value)
    return float(value) if annotation is float else value


def _choose(annotation: Any, value: Any) -> Any:
    """Return the part of a union that a value belongs to, and any other type as it is."""
    if get_origin(annotation) not in (Union, types.UnionType):
        return annotation
    parts = [one for one in get_args(annotation) if one is not type(None)]
    if isinstance(value, Mapping):
        records = [one for one in parts if is_dataclass(one)]
        return next((one for one in records if value.keys() <= _types(one).keys()), parts[0])
    if isinstance(value, list):
        return next((one for one in parts if is_list(one)), parts[0])
    return next((one for one in parts if isinstance(one, type) and isinstance(value, one)), parts[0])


def _types(kind: Any) -> dict[str, Any]:
    """The types of a dataclass's fields that are told."""
    return _types_of(kind)


@cache
def _types_of(kind: type) -> dict[str, Any]:
    hints = typing.get_type_hints(kind, include_extras=True)
    return {one.name: hints[one.name] for one in fields(kind) if one.repr}
