"""What requests hold and answers give, as models from which FastAPI checks the one and documents the other."""

from __future__ import annotations

import inspect
import re
import types
import typing
from collections.abc import Collection, Iterable, Mapping
from dataclasses import fields, is_dataclass
from functools import cache
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from pydantic import BaseModel, BeforeValidator, ConfigDict, create_model
from pydantic import Field as Documented

from cloudmesh.cdir.offers import Field, Offer, row_type
from cloudmesh.storage.binding import plain_type, reader
from cloudmesh.storage.json_values import is_list, is_text
from cloudmesh.storage.output import gives_bytes

MOST = (1 << 53) - 1
"""The largest whole number that every reader of JSON takes as it is (RFC 7493)."""


def _whole(value: Any) -> Any:
    """A whole number, also where it was written as ``5.0``: to JSON they are one."""
    return int(value) if isinstance(value, float) and value.is_integer() else value


WHOLE = BeforeValidator(_whole)
"""Of a whole number in a body, after its limits: those before it the document would not tell."""

Nanoseconds = Annotated[int, Documented(ge=-(1 << 63), lt=1 << 63, description="ns since the epoch"), WHOLE]
"""A time: 64 bits, all of which count. Both limits are told exactly, also by readers that take them for floats."""


class _Query(BaseModel):
    """Values that come as text."""

    model_config = ConfigDict(extra="forbid", validate_by_name=False, validate_by_alias=True, allow_inf_nan=False)


class Body(_Query):
    """Values with types of their own, none of which is taken for another."""

    model_config = ConfigDict(strict=True)


def request_model(offer: Offer, in_path: Collection[str] = ()) -> type[BaseModel]:
    """Return the model of what an operation takes, of a query or of a body, but for what stands in the path."""
    values: dict[str, Any] = {}
    for field in offer.fields:
        if field.name in in_path:
            continue
        kind = _json_type(plain_type(field.parameter.annotation))
        if field.required:
            default: Any = ...
        elif kind is bool:
            default = False
        else:
            default = None  # what is left out is left to the method; null is no value
        documented = Documented(
            default, alias=field.name, description=description(field), json_schema_extra=_without_null
        )
        values[field.parameter.name + "_value"] = (kind, documented)
    return create_model(_name(offer), __base__=Body if offer.http_method == "POST" else _Query, **values)


def description(field: Field) -> str | None:
    """Return what is said of a value: the words of the method, or else what its type says."""
    return field.help or (field.concern.value if field.concern is not None else None)


def _without_null(schema: dict[str, Any]) -> None:
    if schema.get("default", 0) is None:
        del schema["default"]


def answer_model(offer: Offer) -> Any:
    """Return the type of what an operation answers; None for bytes."""
    returns = offer.target.returns
    return None if gives_bytes(returns) else _answer(returns)


def rows_model(offer: Offer) -> Any:
    """Return the type of one row where an operation answers with many; None where it does not."""
    row = row_type(offer.target.returns)
    return None if row is None or row is bytes else _answer(row)


def _name(offer: Offer) -> str:
    return "".join(word.title().replace("-", "") for word in (offer.command, *offer.operation.words, "request"))


def _json_type(annotation: Any) -> Any:
    """The type of a value as JSON holds it."""
    if is_text(annotation):
        return str
    if get_origin(annotation) is Annotated:
        inner = get_args(annotation)[0]
        reads = reader(annotation)
        if inner is int and reads is not None:
            return Annotated[int, Documented(ge=_least(reads.parse), le=MOST), WHOLE]
        if inner is float and reads is not None:
            return Annotated[float, Documented(ge=0)]
        return _json_type(inner)
    if is_list(annotation):
        return list[_json_type(get_args(annotation)[0])]  # type: ignore[misc]
    return Annotated[int, WHOLE] if annotation is int else annotation


def _least(parse: Any) -> int:
    """The least whole number that a reader takes: none takes less than nothing."""
    try:
        parse("0")
    except ValueError:
        return 1
    return 0


def _answer(annotation: Any) -> Any:
    """The type of an answer, with a model for each record."""
    if is_dataclass(annotation):
        return record_model(annotation)  # type: ignore[arg-type]
    origin, inner = get_origin(annotation), get_args(annotation)
    if origin in (Union, types.UnionType):
        return Union[tuple(_answer(one) for one in inner)]  # noqa: UP007 - made at run time
    if origin is Annotated:
        return _answer(inner[0])
    if origin is Literal or not inner:
        return annotation
    if isinstance(origin, type) and issubclass(origin, Mapping):
        return dict[str, _answer(inner[1])]  # type: ignore[misc]
    if isinstance(origin, type) and issubclass(origin, Iterable):
        return list[_answer(inner[0])]  # type: ignore[misc]
    return annotation


@cache
def record_model(kind: type) -> type[BaseModel]:
    """Return the model of a record."""
    hints = typing.get_type_hints(kind, include_extras=True)
    texts = _attributes(kind)
    values: dict[str, Any] = {
        one.name + "_value": (_answer(hints[one.name]), Documented(alias=one.name, description=texts.get(one.name)))
        for one in fields(kind)
        if one.repr
    }
    return create_model(kind.__name__, __doc__=(kind.__doc__ or "").partition("\n\n")[0], **values)


def _attributes(kind: type) -> dict[str, str]:
    """What the docstrings of a class, and of those that it is made of, say of its attributes."""
    found: dict[str, str] = {}
    for one in reversed(kind.__mro__):
        section = inspect.cleandoc(one.__doc__ or "").partition("Attributes:\n")[2].partition("\n\n")[0]
        for names, text in re.findall(r"^    (\w[\w, ]*): (.*(?:\n {8}.*)*)", section, re.MULTILINE):
            found |= dict.fromkeys(names.split(", "), " ".join(text.split()))
    return found
