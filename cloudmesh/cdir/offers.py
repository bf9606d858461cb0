"""The operations that the REST service offers, each with its URL, HTTP method and scope: all derived from the usages.

What the service makes routes of and what the client makes methods of is this one list; neither names an operation.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache, cached_property
from typing import Any, Literal, get_args

from cloudmesh.cdir import urls
from cloudmesh.cdir.commands import COMMANDS
from cloudmesh.storage.binding import Call, Target, find, is_destructive, plain_type
from cloudmesh.storage.dispatch import Command
from cloudmesh.storage.errors import Unsupported
from cloudmesh.storage.json_values import from_json, to_json
from cloudmesh.storage.meaning import Concerns, concern, is_long, is_quick, is_reading, why_at_the_terminal
from cloudmesh.storage.usage import Operation

Scope = Literal["read", "write", "delete", "admin"]
HttpMethod = Literal["GET", "POST", "DELETE"]

_ADMIN_GROUPS = frozenset({"config", "vault"})
_ADMIN_WORDS = frozenset({("jobs", "remove"), ("clean",)})
_DELETING = frozenset({"delete", "remove"})
_JOB_PARAMETERS = frozenset({"async_"})
"""Parameters that no route has: all long work is a job there."""


def scope_of(operation: Operation, target: Target) -> Scope:
    """Return what somebody needs to be allowed to ask for an operation.

    A path of the service's own computer among the values needs ``admin`` besides (`HERE`).
    """
    if _ADMIN_GROUPS.intersection(target.groups) or operation.words in _ADMIN_WORDS:
        return "admin"
    if is_destructive(target.method):
        return "delete"
    return "read" if is_reading(target.method) else "write"


@dataclass(frozen=True)
class Field:
    """A value that an operation takes.

    Attributes:
        name: in URLs and JSON.
        parameter: that takes it.
        part: of what: the API class, its method, or the record that the method takes.
        required: whether it has to be given.
        help: what the manual or the docstring says about it.
    """

    name: str
    parameter: inspect.Parameter
    part: Literal["class", "method", "record"]
    required: bool
    help: str

    @cached_property
    def concern(self) -> Concerns | None:
        """What it names."""
        return concern(self.parameter.annotation)


@dataclass(frozen=True)
class Offer:
    """An operation that the service offers.

    Attributes:
        command: ``storage`` or ``vdir``.
        api: its class, as ``module:Class``.
        operation: the usage line.
        target: the method that it is bound to.
        fields: the values that it takes.
    """

    command: str
    api: str
    operation: Operation
    target: Target
    fields: tuple[Field, ...]

    @cached_property
    def path(self) -> str:
        """Of its URL."""
        return "/".join((urls.PREFIX, self.command, *self.operation.words))

    @cached_property
    def http_method(self) -> HttpMethod:
        """GET for what reads, DELETE for what deletes, POST for all else."""
        if is_reading(self.target.method):
            return "GET"
        return "DELETE" if self.operation.words[-1] in _DELETING else "POST"

    @cached_property
    def scope(self) -> Scope:
        """What is needed to ask for it."""
        return scope_of(self.operation, self.target)

    @cached_property
    def is_long(self) -> bool:
        """Whether it is done as a job."""
        return is_long(self.target.method)

    @cached_property
    def is_quick(self) -> bool:
        """Whether it waits for no service."""
        return is_quick(self.target.method)

    @cached_property
    def _by_name(self) -> Mapping[str, Field]:
        return {field.name: field for field in self.fields}

    def call(self, values: Mapping[str, Any]) -> Call:
        """Return what to call for values by their names in JSON.

        Raises:
            UsageError: a value makes no sense.
        """
        parts: dict[str, dict[str, Any]] = {"class": {}, "method": {}, "record": {}}
        for name, value in values.items():
            if value is not None:
                field = self._by_name[name]
                typed = from_json(name, field.parameter.annotation, value)
                parts[field.part][field.parameter.name] = typed
        if self.target.record is not None and parts["record"]:
            parts["method"][self.target.record.name] = plain_type(self.target.record.annotation)(**parts["record"])
        return Call(self.target, parts["class"], parts["method"])

    def values(self, call: Call) -> dict[str, Any]:
        """Return the values of a call by their names in JSON: the inverse of `call`.

        Raises:
            Unsupported: one of them has no place there.
        """
        given = {("class", name): value for name, value in call.class_values.items()}
        for name, value in call.method_values.items():
            if self.target.record is not None and name == self.target.record.name:
                given |= {("record", key): one for key, one in to_json(type(value), value).items()}
            else:
                given["method", name] = value
        fields = {(field.part, field.parameter.name): field for field in self.fields}
        told: dict[str, Any] = {}
        for key, value in given.items():
            if key in fields:
                told[fields[key].name] = to_json(fields[key].parameter.annotation, value)
            elif key[0] != "class" and key[1] not in _JOB_PARAMETERS and value is not None:
                raise Unsupported(key[1], "not over a service")
        return told


@cache
def offers() -> tuple[Offer, ...]:
    """Return all operations that the service offers, in the order of the manuals."""
    return tuple(_offers())


@cache
def refused() -> Mapping[str, str]:
    """Return the usage lines that the service does not offer, each with the reason."""
    found = {}
    for command in COMMANDS.values():
        for operation in command.usage.operations:
            if why := why_at_the_terminal(find(operation, command.api_class()).method):
                found[operation.line] = why
    return found


@cache
def offer_of_method(command: str, groups: tuple[str, ...], name: str) -> Offer | None:
    """Return the offer whose operation is bound to a method; None where there is none. It looks at no other one."""
    wanted = "_".join((*groups, name)).rstrip("_")
    for operation in COMMANDS[command].usage.operations:
        if "_".join(operation.words).replace("-", "_") == wanted:
            return _offer(COMMANDS[command], operation)
    return None


def _offers() -> Iterator[Offer]:
    for command in COMMANDS.values():
        for operation in command.usage.operations:
            if (offer := _offer(command, operation)) is not None:
                yield offer


def _offer(command: Command, operation: Operation) -> Offer | None:
    target = find(operation, command.api_class())
    if why_at_the_terminal(target.method):
        return None
    described = dict(_described(command.usage.described([operation])))
    return Offer(command.name, command.api, operation, target, tuple(_fields(operation, target, described)))


def _described(lines: list[str]) -> Iterator[tuple[str, str]]:
    for line in lines:
        option, _, text = line.partition("  ")
        yield option.partition("=")[0], text.strip()


def _fields(operation: Operation, target: Target, described: Mapping[str, str]) -> Iterator[Field]:
    required = {element.name for element in operation.elements if element.required}
    documented = _documented(target)
    parts: tuple[tuple[Literal["class", "method", "record"], dict[str, inspect.Parameter]], ...]
    parts = (("class", target.to_class), ("method", target.to_method), ("record", target.to_record))
    for part, parameters in parts:
        for element, parameter in parameters.items():
            if parameter.name not in _JOB_PARAMETERS:
                text = documented.get(parameter.name) or described.get(element, "")
                yield Field(parameter.name.rstrip("_"), parameter, part, element in required, text)


def _documented(target: Target) -> dict[str, str]:
    """What the docstring's section ``Args:`` says of each parameter."""
    lines = inspect.getdoc(target.method) or ""
    section = lines.partition("\nArgs:\n")[2].partition("\n\n")[0]
    found: dict[str, str] = {}
    name = ""
    for line in section.splitlines():
        if line.startswith("    ") and not line.startswith("     "):
            name, _, text = line.strip().partition(": ")
            found[name] = text
        elif name:
            found[name] += f" {line.strip()}"
    return found


@cache
def row_type(returns: Any) -> Any:
    """Return the type of the rows where a return annotation means many of them; None where it is one thing."""
    rows = getattr(returns, "__origin__", None)
    if isinstance(rows, type) and rows is not dict and hasattr(rows, "__iter__"):
        return get_args(returns)[0]
    return None
