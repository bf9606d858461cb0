"""The whole catalogue as one text file: JSON Lines in UTF-8, sorted by path, one name a line, readable and diffable.

The first line tells the format and its version. What is unknown is left out. A catalogue written by one database can be
read into another, and a file can be read into a catalogue that has names already: each name in the file then is as the
file says, except that a file of which the catalogue knows a newer version stays as it is; all other names stay.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

from sqlalchemy.engine import Connection

from cloudmesh.storage import paths
from cloudmesh.storage.errors import NotADirectory
from cloudmesh.storage.local_files import file_here, replacing, translated
from cloudmesh.storage.transfer.report import Report
from cloudmesh.vdir import bulk, schema, versions
from cloudmesh.vdir.catalogue import Catalogue
from cloudmesh.vdir.exchange_line import FORMAT, VERSION, Name, checked, line_of, numbered, parse, record_of, wrong
from cloudmesh.vdir.lookup import BY_NAME, chunks, need_directory, shown
from cloudmesh.vdir.nodes import replica_row
from cloudmesh.vdir.records import Imported
from cloudmesh.vdir.registration import ensure_directories
from cloudmesh.vdir.versions import Kept

_BATCH = 2000


def export_lines(catalogue: Catalogue, directory: str = "") -> Iterator[str]:
    """Yield the lines of the text file, each with its line end, for all that is at and below ``directory``.

    Raises (at the first step):
        NotFound, NotADirectory: as `Catalogue.children`.
    """
    top = catalogue.lookup(directory)
    need_directory(top)
    yield line_of({"format": FORMAT, "version": VERSION})
    if top.path or top.preferred or top.rankers or top.own_rules:
        yield line_of(record_of(top))
    for batch in chunks(catalogue.with_replicas(catalogue.walk(directory)), _BATCH):
        kept = versions.of(catalogue.database, [node.id for node, _ in batch])
        for node, replicas in batch:
            yield line_of(record_of(node, replicas, kept.get(node.id, ())))


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
    numbered_lines = numbered(lines, source)
    number, header = next(numbered_lines, (1, ""))
    fields = parse(header, source, number)
    if fields.get("format") != FORMAT:
        raise wrong(source, number, "this is not an exported catalogue")
    if fields.get("version") not in range(1, VERSION + 1):
        raise wrong(source, number, f"format version {fields.get('version')!r}, known are 1 to {VERSION}")
    new = renewed = kept = 0
    with catalogue.database.write() as connection:
        for batch in chunks(numbered_lines, _BATCH):
            done = _import_batch(connection, [checked(line, source, number) for number, line in batch], source)
            new, renewed, kept = new + done.new, renewed + done.renewed, kept + done.kept
        if dryrun:
            connection.rollback()
    return Imported(new, renewed, kept)


def write_lines(lines: Iterable[str], file: str) -> Report:
    """Write the lines of an export, with their ends, into a file of this computer, which is replaced whole.

    Raises:
        InvalidName: it names no file.
        StorageError: it cannot be written.
    """
    report = Report("export")
    path = file_here(file)
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
    with translated(file), file_here(file).open(encoding="utf-8") as lines:
        yield lines, file


def _import_batch(connection: Connection, names: Sequence[Name], source: str) -> Imported:
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
        raise wrong(source, blamed.number, f"{error.subject} is a file in the catalogue") from error
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
    versions_kept: list[Kept] = []
    outdated: list[tuple[int]] = []
    kept = 0
    for place, name in places.items():
        fields, row = name.fields, there.get(place)
        version, created_ns = fields.get("version", 1), fields.get("created_ns") or time.time_ns()
        if row is not None:
            if row[3]:
                raise wrong(source, name.number, f"{shown(name.path)} is a directory in the catalogue")
            if row[7] > version:
                kept += 1
                continue
            created_ns = row[8]
            outdated += [(row[0],)] if row[7] < version else []
        entry_id = next(fresh) if row is None else row[0]
        sha256 = bytes.fromhex(fields["sha256"]) if "sha256" in fields else None
        content = (fields.get("size"), fields.get("mtime_ns"), sha256, version)
        entries.append((entry_id, *place, False, *content, created_ns, *name.choices, fields.get("origin")))
        replicas.extend(replica_row(replica, entry_id, replica.state, replica.version) for replica in name.replicas)
        versions_kept.extend(replace(one, entry_id=entry_id) for one in name.kept)
    bulk.insert(connection, schema.entry, entries, replace=True)
    if outdated:
        stale = "UPDATE replica SET state = 'stale' WHERE state = 'available' AND entry_id IN (SELECT k.id FROM {keys})"
        bulk.execute(connection, stale, ("id",), outdated)
    bulk.insert(connection, schema.replica, replicas, replace=True)
    versions.add(connection, versions_kept)
    new = len(places) - len(there) + len(made & directories.keys())
    return Imported(new, len(by_path) - new - kept, kept)
