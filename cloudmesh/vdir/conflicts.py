"""Contents that differ, where the newest shall not simply win: asking, and giving the others names of their own."""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from dataclasses import replace

from cloudmesh.storage import paths
from cloudmesh.storage.errors import Refused, StorageError
from cloudmesh.storage.prompt import Prompt
from cloudmesh.storage.records import iso
from cloudmesh.storage.transfer.events import Event
from cloudmesh.storage.transfer.report import Report
from cloudmesh.vdir.claiming import claimed
from cloudmesh.vdir.claims import Claims
from cloudmesh.vdir.copies import Copy
from cloudmesh.vdir.decide import Contender
from cloudmesh.vdir.distribute import bring
from cloudmesh.vdir.nodes import NewFile, Node
from cloudmesh.vdir.observe import Observed
from cloudmesh.vdir.records import is_good
from cloudmesh.vdir.sources import source_of
from cloudmesh.vdir.work import Work


def choose(node: Node, contenders: Sequence[Contender], conflict: str, prompt: Prompt) -> str | StorageError:
    """Ask whose content a name shall have; return a service that has it, or why nobody chose.

    Nobody is asked where ``conflict`` is a service: one that has none of the contents.
    """
    choices = [one.services[0] for one in contenders if one.services]
    names = ", ".join(choices)
    why = f"contents differ on {names}" + ("" if conflict == "ask" else f", and {conflict} has none of the contents")
    refused = Refused(f"/{node.path}", why, "--conflict=SERVICE or --conflict=newest decides")
    if conflict != "ask" or not prompt.can_ask():
        return refused
    told = "; ".join(f"{', '.join(one.services)} of {iso(one.time_ns)}" for one in contenders if one.services)
    answer = prompt.ask(f"/{node.path}: {told}; which one", instead="--conflict=SERVICE", default=choices[0])
    return answer if any(answer in one.services for one in contenders) else refused


def name_losers(
    node: Node, losers: Sequence[Observed], services: Sequence[str], work: Work, report: Report, claims: Claims
) -> list[StorageError]:
    """Give contents that have lost names of their own, beside the name that they were of, with replicas as it has.

    Returns:
        why not; then a content is nowhere else, and must not be overwritten.
    """
    errors: list[StorageError] = []
    for one in losers:
        made = _made(node, one, work)
        with claimed([made], claims, work) as now:
            if made.id in now.refused:
                errors.append(now.refused[made.id])
                continue
            replicas = {row.service: row for row in now.files[made.id][1]}
            source = source_of(work.open(one.service), made, one.now)
            copies = [
                Copy(made, service, [source], replicas.get(service))
                for service in services
                if service not in replicas or not is_good(made, replicas[service])
            ]
            for copy in copies:
                work.observer(Event("planned", copy.name, copy.node.size or 0))
            bring(copies, work, report)
            if not any(is_good(made, row) for row in work.catalogue.replicas_of([made])[made.id]):
                work.catalogue.remove_lost([made.id])
                why = "the content could not be copied there"
                errors.append(Refused(f"/{made.path}", why, "nothing was overwritten"))
    return errors


def path_of_loser(node: Node, one: Observed, work: Work) -> tuple[str, Node | None]:
    """Return the virtual path that a content which has lost gets, and what an earlier run has made there already."""
    stem, extension = os.path.splitext(node.name)
    day = time.strftime("%Y-%m-%d")
    number = 1
    while True:
        more = "" if number == 1 else f" {number}"
        name = f"{stem} (conflict on {one.service} {day}{more}){extension}"
        path = paths.join(paths.parent(node.path), name)
        there = work.catalogue.lookup_many([path]).get(path)
        if there is None or (there.sha256 == one.sha256 and not there.is_directory):
            return path, there
        number += 1


def _made(node: Node, one: Observed, work: Work) -> Node:
    """Return the new name of a content; where an earlier run made it already, that one."""
    while True:
        path, there = path_of_loser(node, one, work)
        if there is not None:
            return replace(there, rules=node.rules)
        mtime_ns = one.entry.mtime_ns if one.entry is not None else None
        work.catalogue.register([NewFile(path, one.now.size, mtime_ns, one.sha256, origin=one.service)])
