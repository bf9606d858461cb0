"""`add`: files that lie on a service already become names, where they are; no byte is moved."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase

from cloudmesh.storage import paths
from cloudmesh.storage.abc import Entry, StorageABC
from cloudmesh.storage.errors import AlreadyExists, InvalidName, IsADirectory, NotADirectory, NotFound, StorageError
from cloudmesh.storage.services import exists
from cloudmesh.storage.transfer.report import Report
from cloudmesh.vdir.copies import is_as_seen
from cloudmesh.vdir.lookup import check_path, chunks
from cloudmesh.vdir.names import refuse_service_name
from cloudmesh.vdir.nodes import NewFile, Node, Replica
from cloudmesh.vdir.records import is_good
from cloudmesh.vdir.sources import Source, sha256_of, use_first
from cloudmesh.vdir.work import Work

_BATCH = 5000


@dataclass(frozen=True, slots=True)
class Place:
    """What the user wants to add, and where.

    Attributes:
        text: SERVICE:PATH of a file, a pattern or a directory, as typed.
        target: virtual path.
        into: a single file goes into the directory ``target``; else that is its name.
        recursive: it may be a directory; what is in it goes into ``target``.
    """

    text: str
    target: str
    into: bool
    recursive: bool


@dataclass(frozen=True, slots=True)
class Adoption:
    """A file on a service and the virtual path that it shall have."""

    service: StorageABC
    entry: Entry
    path: str


def adopt(place: Place, work: Work, report: Report, *, dryrun: bool) -> None:
    """Register files in place. A name that is there gets a further replica, if the content is the same.

    A name of a tree that the catalogue cannot hold is counted as failed, and the others go on.

    Raises:
        NotFound, IsADirectory, ConfigError, InvalidName: about the place, before anything is registered.
    """
    for batch in chunks(_files(place, work, report, dryrun=dryrun), _BATCH):
        nodes = work.catalogue.lookup_many([file.path for file in batch])
        replicas = work.catalogue.replicas_of(list(nodes.values()))
        accepted: list[NewFile] = []
        for file in batch:
            node = nodes.get(file.path)
            try:
                if node is not None and _is_registered(file, node, replicas[node.id]):
                    report.skipped += 1
                    continue
                if node is not None:
                    _check_same(file, node, replicas[node.id], work)
            except StorageError as error:
                report.fail(f"/{file.path}", error)
                continue
            accepted.append(_new_file(file))
        failed = {} if dryrun else work.register(accepted)
        for new in accepted:
            if new.path in failed:
                report.fail(f"/{new.path}", failed[new.path])
            else:
                report.done(new.size)


def _files(place: Place, work: Work, report: Report, *, dryrun: bool) -> Iterator[Adoption]:
    """Yield the files that a place means; its directories become virtual ones."""
    location = work.services.locate(place.text)
    service = work.open(location.service)
    services = work.services.names()
    fitting = _matches(service, location.path)
    entry = service.stat(location.path) if fitting is None else None
    if entry is not None and entry.is_directory:
        if not place.recursive:
            raise IsADirectory(str(location), hint="--recursive takes all that is in it")

        def unlisted(found: Entry, error: StorageError) -> None:
            report.fail(service.location(found.path), error)

        for found in service.scan(location.path, recursive=True, on_error=unlisted):
            path = paths.join(place.target, paths.below(found.path, location.path))
            refuse_service_name(path, services)
            try:
                check_path(path)
                if not found.is_directory:
                    yield Adoption(service, found, path)
                elif not dryrun:
                    work.catalogue.make_dir(path, parents=True, exist_ok=True)
            except (InvalidName, AlreadyExists, NotADirectory) as error:
                report.fail(service.location(found.path), error)
        return
    into = place.into or fitting is not None
    for found in fitting if fitting is not None else [entry] if entry is not None else []:
        path = paths.join(place.target, found.name) if into else place.target
        refuse_service_name(path, services)
        yield Adoption(service, found, path)


def _is_registered(file: Adoption, node: Node, replicas: Sequence[Replica]) -> bool:
    return any(
        one.service == file.service.name and one.path == file.entry.path and is_as_seen(one, file.entry)
        for one in replicas
        if is_good(node, one)
    )


def _check_same(file: Adoption, node: Node, replicas: Sequence[Replica], work: Work) -> None:
    """Refuse a file that has other content than the name, comparing bytes where nothing cheaper decides.

    Raises:
        AlreadyExists, IsADirectory: the name has other content, or is a directory's.
    """
    name = f"/{file.path}"
    if node.is_directory:
        raise IsADirectory(name, "a directory has this name")
    taken = [one for one in replicas if one.service == file.service.name and one.path != file.entry.path]
    if any(is_good(node, one) for one in taken):
        raise AlreadyExists(name, f"has a replica on {file.service.name} already: {taken[0].path}")
    if node.size == file.entry.size:
        for one in replicas:
            common = one.hashes.keys() & file.entry.hashes.keys() if is_good(node, one) else ()
            if common and all(one.hashes[kind] == file.entry.hashes[kind] for kind in common):
                return
        if _content(node, replicas, work) == sha256_of(Source(file.service, file.entry)):
            return
    location = file.service.location(file.entry.path)
    raise AlreadyExists(name, f"the name has other content than {location}", "give it another name")


def _content(node: Node, replicas: Sequence[Replica], work: Work) -> str | None:
    """Return the SHA-256 of what the name holds; None where no replica is as we saw it last."""
    if node.sha256 is not None:
        return node.sha256
    try:
        return use_first(node, work.sources(node, replicas), sha256_of)
    except StorageError:
        return None


def _new_file(file: Adoption) -> NewFile:
    entry = file.entry
    replica = Replica(
        file.service.name,
        entry.path,
        size=entry.size,
        mtime_ns=entry.mtime_ns,
        mtime_precision_ns=file.service.capabilities.mtime_precision_ns,
        etag=entry.etag,
        hashes=entry.hashes,
        sha256=entry.hashes.get("sha256"),
        checked_ns=time.time_ns(),
    )
    mtime_ns = entry.mtime_ns if entry.mtime_ns is not None else entry.changed_ns
    return NewFile(file.path, entry.size, mtime_ns, entry.hashes.get("sha256"), [replica], file.service.name)


def expand(text: str) -> list[str]:
    """Return the places that ``aws:dir/f[1-3].txt,box:x`` means; text without a list or range is one place.

    The predecessor's notation. Text that does not fit it is a plain name.
    """
    if "," not in text and not ("[" in text and "-" in text):
        return [text]
    from cloudmesh.common.parameter import Parameter

    try:
        return [str(place) for place in Parameter.expand(text)]
    except Exception:
        return [text]


def _matches(service: StorageABC, path: str) -> list[Entry] | None:
    """Return the files that a pattern in the last part of ``path`` fits; None where ``path`` is no pattern.

    What exists under the name itself is never taken for a pattern.

    Raises:
        NotFound: nothing fits.
    """
    name = paths.basename(path)
    if not any(mark in name for mark in "*?[") or exists(service, path):
        return None
    found = [
        entry for entry in service.scan(paths.parent(path)) if not entry.is_directory and fnmatchcase(entry.name, name)
    ]
    if not found:
        raise NotFound(service.location(path), "no file fits this pattern")
    return found
