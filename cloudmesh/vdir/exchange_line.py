"""One line of an exported catalogue: written from what the catalogue has of a name, and read back with every field
checked."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from cloudmesh.storage import paths
from cloudmesh.storage.errors import ConfigError, InvalidName
from cloudmesh.vdir.lookup import check_path, shown
from cloudmesh.vdir.nodes import STATES, Node, Replica
from cloudmesh.vdir.rules import DEFAULT
from cloudmesh.vdir.versions import Kept

FORMAT = "cloudmesh-vdir catalogue"
VERSION = 3
"""Version 1 has neither rankers nor rules, version 2 no kept contents; both can be read."""

_SHA256 = re.compile(r"[0-9a-f]{64}\Z")
_MAX = 2**63

_Check = Callable[[Any], bool]


@dataclass(frozen=True, slots=True)
class Name:
    """One line of the file, checked.

    Attributes:
        number: of the line.
        path: virtual path.
        is_directory: what it is.
        fields: as they stand there.
        replicas: of a file.
        kept: contents that a file had; their ``entry_id`` is not known.
    """

    number: int
    path: str
    is_directory: bool
    fields: Mapping[str, Any]
    replicas: Sequence[Replica]
    kept: Sequence[Kept]

    @property
    def choices(self) -> tuple[str | None, ...]:
        """The database's form of what is preferred here, and what else the user has set."""
        found = (self.fields.get(key) for key in ("preferred", "rankers", "rules"))
        return tuple(json.dumps(one) if one else None for one in found)


def record_of(node: Node, replicas: Sequence[Replica] = (), kept: Sequence[Kept] = ()) -> dict[str, Any]:
    """Return what is exported of a name."""
    record: dict[str, Any] = {"path": shown(node.path), "type": "directory" if node.is_directory else "file"}
    if not node.is_directory:
        record |= {"size": node.size, "mtime_ns": node.mtime_ns, "sha256": node.sha256, "version": node.version}
        record["origin"] = node.origin or None
    if node.path:
        # the root was made with the database, not by the user
        record["created_ns"] = node.created_ns
    if node.preferred_from == node.path:
        record["preferred"] = list(node.preferred)
    if node.rankers_from == node.path:
        record["rankers"] = list(node.rankers)
    if node.own_rules:
        record["rules"] = node.own_rules
    if replicas:
        record["replicas"] = [_replica_record(replica) for replica in replicas]
    if kept:
        record["versions"] = [_version_record(one) for one in kept]
    return record


def _version_record(kept: Kept) -> dict[str, Any]:
    return _known(
        {
            "version": kept.version,
            "size": kept.size,
            "mtime_ns": kept.mtime_ns,
            "sha256": kept.sha256,
            "origin": kept.origin or None,
            "replaced_ns": kept.replaced_ns,
            "service": kept.service,
            "path": kept.path,
            "service_version": kept.service_version,
        }
    )


def _replica_record(replica: Replica) -> dict[str, Any]:
    return _known(
        {
            "service": replica.service,
            "path": replica.path,
            "state": replica.state,
            "size": replica.size,
            "mtime_ns": replica.mtime_ns,
            "mtime_precision_ns": replica.mtime_precision_ns,
            "etag": replica.etag,
            "hashes": dict(sorted(replica.hashes.items())) or None,
            "sha256": replica.sha256,
            "version": replica.version,
            "checked_ns": replica.checked_ns,
            "failures": replica.failures or None,
            "verified_ns": replica.verified_ns,
        }
    )


def _known(record: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in record.items() if value is not None}


def line_of(record: Mapping[str, Any]) -> str:
    """Return a line with its line end; what is unknown is left out."""
    return json.dumps(_known(record), ensure_ascii=False) + "\n"


# ---- checking -----------------------------------------------------------------------------------------------------


def wrong(source: str, number: int, why: str) -> ConfigError:
    """Return the error for a line."""
    return ConfigError(f"{source}: line {number}", why, "nothing was imported")


def numbered(lines: Iterable[str], source: str) -> Iterator[tuple[int, str]]:
    """Yield the lines that are not empty, with their numbers.

    Raises:
        ConfigError: it is no text.
    """
    number = 0
    try:
        for number, line in enumerate(lines, 1):
            if line.strip():
                yield number, line
    except UnicodeDecodeError as error:
        raise wrong(source, number + 1, "is not UTF-8 text") from error


def parse(line: str, source: str, number: int) -> dict[str, Any]:
    """Return the object that a line holds.

    Raises:
        ConfigError: it holds none.
    """
    try:
        fields = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise wrong(source, number, f"is not JSON: {error}") from None
    if not isinstance(fields, dict):
        raise wrong(source, number, "is not a JSON object")
    return fields


def _is_count(value: Any) -> bool:
    return type(value) is int and 0 <= value < _MAX


def _is_time(value: Any) -> bool:
    return type(value) is int and -_MAX <= value < _MAX


def _is_text(value: Any) -> bool:
    if not isinstance(value, str) or "\0" in value:
        return False
    try:
        value.encode()
    except UnicodeEncodeError:
        return False
    return True


def _is_sha256(value: Any) -> bool:
    return isinstance(value, str) and bool(_SHA256.match(value))


def _is_service(value: Any) -> bool:
    return isinstance(value, str) and paths.is_service_name(value)


def _are_objects(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(item, dict) for item in value)


def _is_version(value: Any) -> bool:
    return _is_count(value) and value > 0


def _is_rules(value: Any) -> bool:
    try:
        DEFAULT.changed(value)
    except (TypeError, ValueError, ArithmeticError):
        return False
    return True


_DIRECTORY: dict[str, _Check] = {
    "path": _is_text,
    "type": lambda value: value in ("directory", "file"),
    "created_ns": _is_time,
    "preferred": lambda value: isinstance(value, list) and all(map(_is_service, value)),
    "rankers": lambda value: isinstance(value, list) and all(map(_is_text, value)),
    "rules": _is_rules,
}
_FILE: dict[str, _Check] = _DIRECTORY | {
    "size": _is_count,
    "mtime_ns": _is_time,
    "sha256": _is_sha256,
    "version": _is_version,
    "origin": _is_service,
    "replicas": _are_objects,
    "versions": _are_objects,
}
_REPLICA: dict[str, _Check] = {
    "service": _is_service,
    "path": _is_text,
    "state": lambda value: value in STATES,
    "size": _is_count,
    "mtime_ns": _is_time,
    "mtime_precision_ns": _is_count,
    "etag": _is_text,
    "hashes": lambda value: isinstance(value, dict) and all(_is_text(t) for item in value.items() for t in item),
    "sha256": _is_sha256,
    "version": _is_count,
    "checked_ns": _is_time,
    "failures": _is_count,
    "verified_ns": _is_time,
}


_KEPT: dict[str, _Check] = {
    "version": _is_version,
    "size": _is_count,
    "mtime_ns": _is_time,
    "sha256": _is_sha256,
    "origin": _is_service,
    "replaced_ns": _is_time,
    "service": _is_service,
    "path": _is_text,
    "service_version": _is_text,
}


def _check_fields(fields: Mapping[str, Any], checks: Mapping[str, _Check], required: Sequence[str], fail: Any) -> None:
    for key in required:
        if key not in fields:
            raise fail(f"{key} is missing")
    for key, value in fields.items():
        if key not in checks:
            raise fail(f"unknown key {key!r}")
        if not checks[key](value):
            raise fail(f"{key} cannot be {json.dumps(value)[:80]}")


def checked(line: str, source: str, number: int) -> Name:
    """Return the name that a line tells.

    Raises:
        ConfigError: the line is wrong.
    """

    def fail(why: str) -> ConfigError:
        return wrong(source, number, why)

    fields = parse(line, source, number)
    is_directory = fields.get("type") == "directory"
    _check_fields(fields, _DIRECTORY if is_directory else _FILE, ("path", "type"), fail)
    path = fields["path"][1:]
    try:
        good = fields["path"].startswith("/") and paths.normalize(path) == path and (bool(path) or is_directory)
        check_path(path)
    except InvalidName:
        good = False
    if not good:
        raise fail(f"path cannot be {json.dumps(fields['path'])}")
    replicas: dict[str, Replica] = {}
    for record in fields.get("replicas", ()):
        _check_fields(record, _REPLICA, ("service", "path", "state", "version"), fail)
        if record["service"] in replicas:
            raise fail(f"two replicas on {record['service']}")
        replicas[record["service"]] = Replica(**record)
    kept: dict[int, Kept] = {}
    for record in fields.get("versions", ()):
        _check_fields(record, _KEPT, ("version", "replaced_ns", "service", "path"), fail)
        if record["version"] in kept:
            raise fail(f"version {record['version']} twice")
        unknown: dict[str, Any] = {"size": None, "mtime_ns": None, "sha256": None, "origin": ""}
        kept[record["version"]] = Kept(entry_id=0, **unknown | record)
    return Name(number, path, is_directory, fields, tuple(replicas.values()), tuple(kept.values()))
