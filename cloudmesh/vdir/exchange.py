"""The whole catalogue as one text file: JSON Lines in UTF-8, sorted by path, one name a line, readable and diffable.

The first line tells the format and its version. What is unknown is left out. A catalogue written by one database can be
read into another, and a file can be read into a catalogue that has names already: each name in the file then is as the
file says, except that a file of which the catalogue knows a newer version stays as it is; all other names stay.
"""

from __future__ import annotations

import json
import re
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sqlalchemy.engine import Connection

from cloudmesh.storage import paths
from cloudmesh.storage.errors import ConfigError, InvalidName, NotADirectory
from cloudmesh.storage.local_files import replacing, translated
from cloudmesh.storage.transfer.report import Report
from cloudmesh.vdir import bulk, schema
from cloudmesh.vdir.catalogue import Catalogue
from cloudmesh.vdir.lookup import BY_NAME, check_path, chunks, need_directory, shown
from cloudmesh.vdir.nodes import STATES, Node, Replica, replica_row
from cloudmesh.vdir.records import Imported
from cloudmesh.vdir.registration import ensure_directories
from cloudmesh.vdir.rules import DEFAULT

FORMAT = "cloudmesh-vdir catalogue"
VERSION = 2
"""Version 1 has neither rankers nor rules; it can be read."""

_BATCH = 2000
_SHA256 = re.compile(r"[0-9a-f]{64}\Z")
_MAX = 2**63

_Check = Callable[[Any], bool]


def export_lines(catalogue: Catalogue, directory: str = "") -> Iterator[str]:
    """Yield the lines of the text file, each with its line end, for all that is at and below ``directory``.

    Raises (at the first step):
        NotFound, NotADirectory: as `Catalogue.children`.
    """
    top = catalogue.lookup(directory)
    need_directory(top)
    yield _line({"format": FORMAT, "version": VERSION})
    if top.path or top.preferred or top.rankers or top.own_rules:
        yield _line(_record(top, ()))
    for node, replicas in catalogue.with_replicas(catalogue.walk(directory)):
        yield _line(_record(node, replicas))


def import_lines(
    catalogue: Catalogue, lines: Iterable[str], source: str = "import", *, dryrun: bool = False
) -> Imported:
    """Read a text file into the catalogue, in one transaction: all of it, or nothing. Doing it again changes nothing.

    Args:
        catalogue: to read it into.
        lines: the file's lines, with or without their line ends; empty ones are skipped.
        source: the file's name, for errors.
        dryrun: undo it all at the end; only check and count.

    Raises:
        ConfigError: a line is wrong, or a file is in the way of a directory or the other way round; it says which line.
    """
    numbered = _numbered(lines, source)
    number, header = next(numbered, (1, ""))
    fields = _parse(header, source, number)
    if fields.get("format") != FORMAT:
        raise _wrong(source, number, "this is not an exported catalogue")
    if fields.get("version") not in range(1, VERSION + 1):
        raise _wrong(source, number, f"format version {fields.get('version')!r}, known are 1 to {VERSION}")
    new = renewed = kept = 0
    with catalogue.database.write() as connection:
        for batch in chunks(numbered, _BATCH):
            done = _import_batch(connection, [_checked(line, source, number) for number, line in batch], source)
            new, renewed, kept = new + done.new, renewed + done.renewed, kept + done.kept
        if dryrun:
            connection.rollback()
    return Imported(new, renewed, kept)


def write_lines(lines: Iterable[str], file: str) -> Report:
    """Write the lines of an export, with their ends, into a file of this computer, which is replaced whole.

    Raises:
        StorageError: it cannot be written.
    """
    report = Report("export")
    path = Path(file).expanduser()
    with translated(file), replacing(path) as temporary, temporary.open("w", encoding="utf-8") as out:
        for line in lines:
            out.write(line)
            report.done(len(line.encode()))
    report.files -= 1  # the first line tells the format
    return report.ended()


@contextmanager
def opened_lines(file: str) -> Iterator[tuple[Iterable[str], str]]:
    """Give the lines of a file of this computer, ``-`` for standard input, and what errors call it.

    Raises:
        StorageError: it cannot be read.
    """
    if file == "-":
        yield sys.stdin, "standard input"
        return
    with translated(file), Path(file).expanduser().open(encoding="utf-8") as lines:
        yield lines, file


@dataclass(frozen=True, slots=True)
class _Name:
    """One line of the file, checked."""

    number: int
    path: str
    is_directory: bool
    fields: Mapping[str, Any]
    replicas: Sequence[Replica]

    @property
    def choices(self) -> tuple[str | None, ...]:
        """The database's form of what is preferred here, and what else the user has set."""
        found = (self.fields.get(key) for key in ("preferred", "rankers", "rules"))
        return tuple(json.dumps(one) if one else None for one in found)


def _import_batch(connection: Connection, names: Sequence[_Name], source: str) -> Imported:
    by_path = {name.path: name for name in names}
    directories = {path: name for path, name in by_path.items() if name.is_directory}
    files = {path: name for path, name in by_path.items() if not name.is_directory}
    try:
        created = {path: name.fields.get("created_ns") for path, name in directories.items()}
        ids, made = ensure_directories(connection, {*directories, *map(paths.parent, files)}, created)
    except NotADirectory as error:
        blamed = next(
            n for n in names if shown(n.path) == error.subject or shown(n.path).startswith(f"{error.subject}/")
        )
        raise _wrong(source, blamed.number, f"{error.subject} is a file in the catalogue") from error
    columns = ("preferred", "rankers", "rules")
    changes = ", ".join(f"{column} = k.{column}" for column in columns)
    statement = f"UPDATE entry SET {changes} FROM {{keys}} WHERE entry.id = k.id"  # noqa: S608 - names of this program
    keys = [(ids[path], *name.choices) for path, name in directories.items()]
    if keys:
        bulk.execute(connection, statement, ("id", *columns), keys)

    places = {(ids[paths.parent(path)], paths.basename(path)): name for path, name in files.items()}
    there = {(row[1], row[2]): row for row in bulk.select(connection, BY_NAME, ("parent_id", "name"), list(places))}
    fresh = iter(bulk.allocate(connection, len(places) - len(there)))
    entries: list[tuple[Any, ...]] = []
    replicas: list[tuple[Any, ...]] = []
    outdated: list[tuple[int]] = []
    kept = 0
    for place, name in places.items():
        fields, row = name.fields, there.get(place)
        version, created_ns = fields.get("version", 1), fields.get("created_ns") or time.time_ns()
        if row is not None:
            if row[3]:
                raise _wrong(source, name.number, f"{shown(name.path)} is a directory in the catalogue")
            if row[7] > version:
                kept += 1
                continue
            created_ns = row[8]
            outdated += [(row[0],)] if row[7] < version else []
        entry_id = next(fresh) if row is None else row[0]
        sha256 = bytes.fromhex(fields["sha256"]) if "sha256" in fields else None
        content = (fields.get("size"), fields.get("mtime_ns"), sha256, version)
        entries.append((entry_id, *place, False, *content, created_ns, *name.choices))
        replicas.extend(replica_row(replica, entry_id, replica.state, replica.version) for replica in name.replicas)
    bulk.insert(connection, schema.entry, entries, replace=True)
    if outdated:
        stale = "UPDATE replica SET state = 'stale' WHERE state = 'available' AND entry_id IN (SELECT k.id FROM {keys})"
        bulk.execute(connection, stale, ("id",), outdated)
    bulk.insert(connection, schema.replica, replicas, replace=True)
    new = len(places) - len(there) + len(made & directories.keys())
    return Imported(new, len(by_path) - new - kept, kept)


def _record(node: Node, replicas: Sequence[Replica]) -> dict[str, Any]:
    record: dict[str, Any] = {"path": shown(node.path), "type": "directory" if node.is_directory else "file"}
    if not node.is_directory:
        record |= {"size": node.size, "mtime_ns": node.mtime_ns, "sha256": node.sha256, "version": node.version}
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
    return record


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


def _line(record: Mapping[str, Any]) -> str:
    return json.dumps(_known(record), ensure_ascii=False) + "\n"


# ---- checking -----------------------------------------------------------------------------------------------------


def _wrong(source: str, number: int, why: str) -> ConfigError:
    return ConfigError(f"{source}: line {number}", why, "nothing was imported")


def _numbered(lines: Iterable[str], source: str) -> Iterator[tuple[int, str]]:
    number = 0
    try:
        for number, line in enumerate(lines, 1):
            if line.strip():
                yield number, line
    except UnicodeDecodeError as error:
        raise _wrong(source, number + 1, "is not UTF-8 text") from error


def _parse(line: str, source: str, number: int) -> dict[str, Any]:
    try:
        fields = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise _wrong(source, number, f"is not JSON: {error}") from None
    if not isinstance(fields, dict):
        raise _wrong(source, number, "is not a JSON object")
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
    "version": lambda value: _is_count(value) and value > 0,
    "replicas": lambda value: isinstance(value, list) and all(isinstance(item, dict) for item in value),
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


def _check_fields(fields: Mapping[str, Any], checks: Mapping[str, _Check], required: Sequence[str], fail: Any) -> None:
    for key in required:
        if key not in fields:
            raise fail(f"{key} is missing")
    for key, value in fields.items():
        if key not in checks:
            raise fail(f"unknown key {key!r}")
        if not checks[key](value):
            raise fail(f"{key} cannot be {json.dumps(value)[:80]}")


def _checked(line: str, source: str, number: int) -> _Name:
    """Return the name that a line tells.

    Raises:
        ConfigError: the line is wrong.
    """

    def fail(why: str) -> ConfigError:
        return _wrong(source, number, why)

    fields = _parse(line, source, number)
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
    return _Name(number, path, is_directory, fields, tuple(replicas.values()))
