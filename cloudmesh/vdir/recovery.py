"""Finishing or undoing what a process began that died: its intents are looked at before anything else is done."""

from __future__ import annotations

import time
from collections.abc import Collection, Mapping
from dataclasses import replace

from cloudmesh.storage import paths
from cloudmesh.storage.abc import Entry
from cloudmesh.storage.errors import NotADirectory, NotFound, PreconditionFailed, StorageError
from cloudmesh.storage.paths import Location
from cloudmesh.storage.pool import run_parallel
from cloudmesh.vdir import intents, kept
from cloudmesh.vdir.copies import is_as_seen
from cloudmesh.vdir.intents import Intent
from cloudmesh.vdir.nodes import Replica
from cloudmesh.vdir.sources import Source, sha256_of
from cloudmesh.vdir.work import Work


def recover(entries: Collection[int], work: Work, away: Mapping[str, StorageError]) -> None:
    """Settle the intents of claimed names, as far as their services can be asked.

    A file that holds the content that was to be written is that version: the write is finished. One that is as it was
    is that: the write is undone. Any other was written by others, and is seen as such by who looks next.
    """
    pending = [
        one for each in intents.of(work.catalogue.database, entries).values() for one in each if one.service not in away
    ]
    sweep_beside({Location(one.service, one.path) for one in pending}, work)
    threads = work.threads({one.service for one in pending})
    keeps = [one for one in pending if one.kind == "keep"]
    for _ in run_parallel(lambda one: kept.resume(one, work), keeps, threads):
        pass  # what cannot be asked stays an intent
    _vanished(keeps, work)
    writes = [one for one in pending if one.kind == "write"]
    rows = _rows({one.entry_id for one in writes}, work)
    for intent, found in run_parallel(lambda one: _looked(one, rows, work), writes, threads):
        if not isinstance(found, StorageError):
            _settle(intent, rows.get((intent.entry_id, intent.service)), found, work)


def sweep_beside(files: Collection[Location], work: Work) -> None:
    """Remove the temporary objects that somebody left beside files who died while he wrote them."""
    directories = {Location(one.service, paths.parent(one.path)) for one in files}

    def sweep(place: Location) -> None:
        service = work.target(place.service)
        for _ in service.scan(place.path):
            pass
        service.sweep()

    for _ in run_parallel(sweep, sorted(directories, key=str), work.threads({one.service for one in directories})):
        pass  # where that fails the next run does it


def _rows(entries: Collection[int], work: Work) -> dict[tuple[int, str], Replica]:
    found = work.catalogue.replicas_by_id(entries)
    return {(one.entry_id, one.service): one for replicas in found.values() for one in replicas}


def _vanished(keeps: Collection[Intent], work: Work) -> None:
    """Note that a file is not there whose content was moved away to keep it: nobody has deleted it."""
    rows = _rows({one.entry_id for one in keeps}, work)
    gone: list[Replica] = []

    def is_gone(intent: Intent) -> bool:
        row = rows[intent.entry_id, intent.service]
        try:
            work.open(row.service).stat(row.path)
        except (NotFound, NotADirectory):
            return True
        return False

    known = [one for one in keeps if (one.entry_id, one.service) in rows]
    for intent, result in run_parallel(is_gone, known, work.threads({one.service for one in known})):
        if result is True:
            row = rows[intent.entry_id, intent.service]
            gone.append(replace(row, state="missing", etag=None, sha256=None))
    work.catalogue.update_replicas(gone)


def _looked(intent: Intent, rows: Mapping[tuple[int, str], Replica], work: Work) -> Entry | None:
    """Return the file that has the intended content; None where none has it, so that nothing was begun."""
    service = work.open(intent.service)
    row = rows.get((intent.entry_id, intent.service))
    try:
        there = service.stat(intent.path)
    except (NotFound, NotADirectory):
        return None
    if there.is_directory or (row is not None and is_as_seen(row, there)) or there.size != intent.size:
        return None
    return there if intent.sha256 is not None and sha256_of(Source(service, there)) == intent.sha256 else None


def _settle(intent: Intent, row: Replica | None, found: Entry | None, work: Work) -> None:
    catalogue = work.catalogue
    if row is None or found is None:
        with catalogue.database.write() as connection:
            intents.done(connection, "write", [(intent.entry_id, intent.service)])
        return
    now = replace(
        row,
        state="available",
        version=intent.version,
        size=found.size,
        mtime_ns=found.mtime_ns if found.mtime_ns is not None else intent.mtime_ns,
        mtime_precision_ns=work.open(intent.service).capabilities.mtime_precision_ns,
        etag=found.etag,
        hashes=found.hashes,
        sha256=intent.sha256,
        checked_ns=time.time_ns(),
    )
    try:
        catalogue.set_content(
            intent.entry_id,
            version=intent.version,
            size=intent.size,
            mtime_ns=intent.mtime_ns,
            sha256=intent.sha256,
            replicas=[now],
        )
    except PreconditionFailed:  # the name has a newer content meanwhile
        catalogue.update_replicas([replace(now, state="stale")])
    except NotFound:
        return
