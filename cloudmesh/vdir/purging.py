"""Removing names with their files, where the contents of these are not lost by it."""

from __future__ import annotations

import time
from collections.abc import Collection, Sequence
from dataclasses import replace

from cloudmesh.storage import paths
from cloudmesh.storage.errors import Refused, StorageError
from cloudmesh.storage.paths import Location
from cloudmesh.storage.transfer.report import Report
from cloudmesh.vdir.claiming import claimed, claiming, left_out
from cloudmesh.vdir.elsewhere import names_elsewhere
from cloudmesh.vdir.lookup import chunks
from cloudmesh.vdir.nodes import Files, Node, Replica
from cloudmesh.vdir.records import is_trusted
from cloudmesh.vdir.removal import remove_empty
from cloudmesh.vdir.scrub import Found, Inspector
from cloudmesh.vdir.work import BATCH, Work, is_over

_Known = tuple[Node, tuple[Replica, ...]]
_Seen = tuple[Node, list[Found]]


class Purge:
    """Removes the real files of names, all replicas of each, and then the names.

    Nothing of a file is removed while one of its services cannot be asked, or where others changed one of its replicas.
    A file that another name uses too is left alone.

    Args:
        directory: virtual path, at and below which all names are to go.
        work: the catalogue and the services.
        report: counts what is removed, and what is not.
        accept_loss: remove also contents of which no copy is left then, and believe that a service without any file has
            lost them. Else there has to be one under a name that is not to go, and its service is asked for it right
            then, while nobody else works on it.
    """

    def __init__(self, directory: str, work: Work, report: Report, *, accept_loss: bool) -> None:
        self._directory = directory
        self._work = work
        self._report = report
        self._accept_loss = accept_loss
        self._inspector = Inspector(work, believe=accept_loss)

    def run(self, files: Files, *, dryrun: bool) -> None:
        """Remove ``files``, or only count those that would be removed."""
        directories: set[Location] = set()
        with claiming(self._work, "vdir delete --purge") as claims:
            for batch in chunks(((node, replicas) for node, replicas in files if not node.is_directory), BATCH):
                if is_over(self._work, self._report):
                    break
                others = self._others(batch)
                if dryrun:
                    for node, _ in self._allowed(batch, list(self._work.catalogue.with_replicas(others))):
                        self._report.done(node.size)
                    continue
                mine = {node.id for node, _ in batch}
                with claimed([*(node for node, _ in batch), *others], claims, self._work) as now:
                    for key in mine & now.refused.keys():
                        self._report.fail(now.refused[key].subject, now.refused[key])
                    ours = [one for key, one in now.files.items() if key in mine]
                    theirs = [one for key, one in now.files.items() if key not in mine]
                    directories |= self._remove(self._allowed(ours, theirs))
        remove_empty(directories, self._work)

    def _others(self, batch: Sequence[_Known]) -> list[Node]:
        """Return names that stay and have the same contents, or use the same files."""
        if self._accept_loss:
            return []
        catalogue = self._work.catalogue
        users = catalogue.find_by_location(
            Location(one.service, one.path) for _, replicas in batch for one in replicas
        ).values()
        names = {name for each in users for name in each if not self._goes(name)}
        hashes = {one for node, replicas in batch for one in (node.sha256, *(copy.sha256 for copy in replicas)) if one}
        found = [*catalogue.lookup_many(names).values(), *names_elsewhere(catalogue, hashes, self._directory)]
        return list({node.id: node for node in found}.values())

    # ---- what may go ---------------------------------------------------------------------------------------------

    def _allowed(self, files: Sequence[_Known], others: Sequence[_Known]) -> list[_Seen]:
        """Return the files of which everything may be removed, with their replicas as they are."""
        known = {node.id: replicas for node, replicas in files}
        looked = self._inspector.inspect([(node, tuple(map(_unfinished, replicas))) for node, replicas in files])
        able = [(node, found) for node, found in looked if self._may_go(node, known[node.id], found)]
        return able if self._accept_loss else self._without_last_copies(able, others)

    def _may_go(self, node: Node, known: Sequence[Replica], found: Sequence[Found]) -> bool:
        states = {one.service: one.state for one in known}
        for one in found:
            name = f"/{node.path} on {one.now.service}"
            if one.error:
                self._report.fail(name, StorageError(name, one.error))
                return False
            if _is_foreign(one) and states[one.now.service] not in ("copying", "missing"):
                why = "it was changed on the service since we last saw it"
                self._report.fail(name, Refused(name, why, "without --purge files stay"))
                return False
        return True

    def _without_last_copies(self, files: Sequence[_Seen], others: Sequence[_Known]) -> list[_Seen]:
        """Return those of the files whose contents are somewhere else too; the others are counted as refused."""
        good = [one for _, found in files for one in found if _is_good_copy(one)]
        staying = {
            Location(one.service, one.path) for node, replicas in others for one in replicas if is_trusted(node, one)
        }
        kept = [one for one in good if _location(one) in staying and not one.now.failures]
        lost = {_content(one) for one in good} - {_content(one) for one in kept}
        going: dict[str, set[str]] = {}
        for one in good:
            going.setdefault(_content(one), set()).add(self._place(one))
        there: dict[str, set[str]] = {}
        for one in (one for _, found in self._inspector.inspect(others) for one in found):
            if is_trusted(one.node, one.now) and not one.error:
                there.setdefault(_content(one), set()).add(self._place(one))
        lost = {content for content in lost if not there.get(content, set()) - going[content]}
        able: list[_Seen] = []
        for node, found in files:
            last = [one.now.service for one in found if _is_good_copy(one) and _content(one) in lost]
            if not last:
                able.append((node, found))
                continue
            why = f"what is on {', '.join(last)} is nowhere else: no other name has a good copy of it"
            hint = "without --purge files stay, with --accept-loss also the last copy goes"
            self._report.fail(f"/{node.path}", Refused(f"/{node.path}", why, hint))
        return able

    def _goes(self, name: str) -> bool:
        return name == self._directory or paths.is_below(name, self._directory)

    def _place(self, one: Found) -> str:
        """Return where a file is, by an address that is the same for two services that are one."""
        return self._work.open(one.now.service).identity(one.now.path)

    # ---- removing ------------------------------------------------------------------------------------------------

    def _remove(self, files: Sequence[_Seen]) -> set[Location]:
        """Remove files, then their rows, then the names of which nothing is left; return the directories."""
        ours = [one for _, found in files for one in found if one.now.state != "missing" and not _is_foreign(one)]
        catalogue = self._work.catalogue
        users = catalogue.find_by_location(_location(one) for one in ours)
        names = {node.path for node, _ in files}
        doomed = [one for one in ours if not set(users.get(_location(one), ())) - names]
        left = catalogue.update_replicas(
            replace(one.now, state="deleting", checked_ns=time.time_ns(), entry_id=one.node.id) for one in doomed
        )
        for node, _ in files:
            if node.id in left:
                self._report.fail(f"/{node.path}", left_out(node, left[node.id]))
        doomed = [one for one in doomed if one.node.id not in left]
        failed = self._remove_files({_location(one) for one in doomed})
        done = [
            (node, found)
            for node, found in files
            if node.id not in left and not any(_location(one) in failed for one in found)
        ]
        catalogue.remove_replicas(
            replace(one.now, entry_id=node.id) for node, found in files for one in found if _location(one) not in failed
        )
        catalogue.remove_lost(node.id for node, _ in done)
        for node, _ in done:
            self._report.done(node.size)
        return {Location(one.now.service, paths.parent(one.now.path)) for one in doomed}

    def _remove_files(self, files: Collection[Location]) -> set[Location]:
        """Remove files, one batch a service; return those that could not be removed."""
        failed: set[Location] = set()
        for service in sorted({one.service for one in files}):
            mine = sorted(one.path for one in files if one.service == service)
            try:
                for path, error in self._work.open(service).remove_many(mine):
                    self._report.fail(f"{service}:{path}", error)
                    failed.add(Location(service, path))
            except StorageError as error:
                self._report.fail(service, error)
                failed.update(Location(service, path) for path in mine)
        return failed


def _unfinished(replica: Replica) -> Replica:
    """Return a replica whose removal died halfway as one of which nothing is known, so that it is looked at."""
    return replace(replica, state="copying") if replica.state == "deleting" else replica


def _is_foreign(one: Found) -> bool:
    return one.now.state == "stale" and one.now.version == 0


def _is_good_copy(one: Found) -> bool:
    """Whether a file has the bytes of one of the name's contents, the present or an older one."""
    return one.now.state in ("available", "stale") and one.now.version > 0


def _content(one: Found) -> str:
    """Return what tells the content of a good copy: its hash, or that it is this version of this name."""
    sha256 = one.node.sha256 if one.now.version == one.node.version else one.now.sha256
    return sha256 or f"{one.node.id} {one.now.version}"


def _location(one: Found) -> Location:
    return Location(one.now.service, one.now.path)
