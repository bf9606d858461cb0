"""What others wrote to replicas and no `sync` has seen yet: kept before it is overwritten on request.

A sync would make it the newest version, or keep it as one that has lost. Whoever puts another content in its place
wants that content to win; not that something is lost of which nobody has told him.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from cloudmesh.storage.abc import Entry
from cloudmesh.storage.errors import NotADirectory, NotFound, StorageError
from cloudmesh.storage.pool import run_parallel
from cloudmesh.vdir import versions
from cloudmesh.vdir.copies import Copy
from cloudmesh.vdir.hashing import Unread, hash_many
from cloudmesh.vdir.kept import Keeping, keep_one_of
from cloudmesh.vdir.nodes import Node, Replica
from cloudmesh.vdir.scrub import Found, Inspector
from cloudmesh.vdir.work import Work


def keep_unseen(copies: Sequence[Copy], work: Work) -> dict[tuple[int, str], StorageError]:
    """Keep, as versions of their names, the contents that others have given to the replicas that copies overwrite.

    Where the rule is to keep nothing, nothing is kept. A replica that was never finished holds nothing of others.

    Returns:
        those that could not be kept, by entry id and service; they must not be overwritten.
    """
    found, failed = _of_others(_replicas(copies), work)
    if not found:
        return failed
    nodes = {one.node.id: one.node for one, _, _ in found}
    known = {(key, one.sha256) for key, kept in versions.of(work.catalogue.database, nodes).items() for one in kept}
    numbers = versions.following(work.catalogue.database, nodes.values())
    ways: dict[tuple[int, str], list[Keeping]] = {}
    for one, there, sha256 in found:
        key = one.node.id, sha256
        if key in known or (one.known.version and sha256 == one.known.sha256):
            continue  # kept, or one of ours that was touched
        if key in ways:
            number = ways[key][0].node.version
        else:
            number = numbers[one.node.id]
            numbers[one.node.id] += 1
        ways.setdefault(key, []).append(_keeping(one, there, sha256, number))
    unkept = keep_one_of(list(ways.values()), work)
    for each in ways.values():
        if (error := unkept.get(each[0].key)) is not None:
            failed |= {(one.node.id, one.replica.service): error for one in each}
    return failed


def _replicas(copies: Sequence[Copy]) -> list[tuple[Node, tuple[Replica, ...]]]:
    """Return the names with those of their replicas that are overwritten."""
    found: dict[int, tuple[Node, list[Replica]]] = {}
    for copy in copies:
        if copy.known is not None and copy.known.state != "copying" and copy.node.rules.versions:
            found.setdefault(copy.node.id, (copy.node, []))[1].append(copy.known)
    return [(node, tuple(replicas)) for node, replicas in found.values()]


def _of_others(
    files: Sequence[tuple[Node, tuple[Replica, ...]]], work: Work
) -> tuple[list[tuple[Found, Entry, str]], dict[tuple[int, str], StorageError]]:
    """Return the replicas that others have changed, the oldest first, each with what is there and its SHA-256; and the
    others that cannot be read, by entry id and service."""
    failed: dict[tuple[int, str], StorageError] = {}
    unread: list[Unread[Found]] = []
    looked = Inspector(work, believe=True).inspect(files)
    changed = [one for _, found in looked for one in found if _may_be_theirs(one)]
    threads = work.threads({one.known.service for one in changed})
    for one, there in run_parallel(lambda one: work.open(one.known.service).stat(one.known.path), changed, threads):
        if isinstance(there, (NotFound, NotADirectory)):
            continue
        if isinstance(there, StorageError):
            failed[one.node.id, one.known.service] = there
        elif not there.is_directory:
            unread.append(Unread(one.known.service, there, one, one.name))
    read: list[tuple[Found, Entry, str]] = []
    for file, sha256 in hash_many(unread, work):
        one = file.context
        if isinstance(sha256, StorageError):
            failed[one.node.id, one.known.service] = sha256
        else:
            read.append((one, file.entry, sha256))
    return sorted(read, key=lambda each: (each[1].mtime_ns or each[1].changed_ns or 0, each[2])), failed


def _may_be_theirs(one: Found) -> bool:
    """Whether others wrote it, or may have: that its size and time are as they were is a guess at damage, no proof, and
    that it could not be looked at says nothing."""
    newly_bad = one.now.state == "bad" and one.known.state != "bad"
    return bool(one.error) or newly_bad or (one.now.state, one.now.version) == ("stale", 0)


def _keeping(one: Found, there: Entry, sha256: str, number: int) -> Keeping:
    mtime_ns = there.mtime_ns if there.mtime_ns is not None else there.changed_ns
    service = one.known.service
    node = replace(one.node, size=there.size, mtime_ns=mtime_ns, sha256=sha256, version=number, origin=service)
    facts = replace(
        one.known, size=there.size, mtime_ns=there.mtime_ns, etag=there.etag, sha256=sha256, hashes=there.hashes
    )
    return Keeping(node, replace(facts, state="stale", version=number))
