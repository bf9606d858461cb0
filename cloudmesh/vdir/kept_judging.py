"""What to think of old contents that were kept: whether the one file of each is there, and has the right bytes.

As with replicas, what is missing is asked for twice, wrong bytes are read twice, and a service that cannot be asked or
has nothing at all is not its files' fault. One that a service keeps by itself is only looked for: to read it, it would
have to be copied.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass

from cloudmesh.storage import paths
from cloudmesh.storage.abc import Entry
from cloudmesh.storage.errors import NotADirectory, NotFound, StorageError
from cloudmesh.storage.paths import Location
from cloudmesh.storage.pool import run_parallel
from cloudmesh.vdir.hashing import Unread, hash_many, hash_one
from cloudmesh.vdir.judging import Outcome
from cloudmesh.vdir.nodes import Node
from cloudmesh.vdir.scrub import GONE, Inspector
from cloudmesh.vdir.versions import Kept
from cloudmesh.vdir.work import Work


@dataclass(frozen=True, slots=True)
class OldContent:
    """An old content of a name."""

    node: Node
    kept: Kept

    @property
    def name(self) -> str:
        """The content as a person names it."""
        return f"/{self.node.path} version {self.kept.version}"

    @property
    def location(self) -> Location:
        """The file in which it was kept."""
        return Location(self.kept.service, self.kept.path)

    @property
    def is_readable(self) -> bool:
        """Whether its bytes can be read, and told to be right."""
        return self.kept.service_version is None and self.kept.sha256 is not None


@dataclass(frozen=True, slots=True)
class KeptVerdict:
    """What to think of one; ``outcome`` and ``detail`` as of `judging.Verdict`."""

    old: OldContent
    outcome: Outcome
    detail: str = ""
    was_read: bool = False


class KeptJudge:
    """Looks at old contents.

    Args:
        work: opens the services.
        inspector: lists them, and knows those that cannot be asked.
        deep: read all bytes.
    """

    def __init__(self, work: Work, inspector: Inspector, *, deep: bool) -> None:
        self._work = work
        self._inspector = inspector
        self._deep = deep
        self._empty: dict[str, bool] = {}

    def look(self, contents: Sequence[OldContent]) -> list[KeptVerdict]:
        """Return what to think of each, in any order."""
        files = sorted(contents, key=lambda one: paths.sort_key(one.kept.path, False))
        listed = self._inspector.listed([one.location for one in files if one.kept.service_version is None])
        there = [(one, entry) for one in files if (entry := listed.get(one.location)) and entry.size == one.kept.size]
        seen = {one.location for one, _ in there}
        verdicts: list[KeptVerdict] = []
        asked = [one for one in files if one.location not in seen]
        for one, result in run_parallel(self._ask, asked, self._threads(asked)):
            if isinstance(result, Entry):
                there.append((one, result))
            elif isinstance(result, StorageError):
                self._inspector.remember(one.kept.service, result)
                verdicts.append(KeptVerdict(one, "unavailable", str(result)))
            elif self._is_empty(one.kept.service):
                verdicts.append(KeptVerdict(one, "unavailable", GONE))
            else:
                verdicts.append(KeptVerdict(one, "missing", "it is not there"))
        right: list[tuple[OldContent, Entry]] = []
        for one, entry in there:
            if entry.is_directory or (None not in (entry.size, one.kept.size) and entry.size != one.kept.size):
                verdicts.append(KeptVerdict(one, "bad", f"it has {entry.size or 0} bytes, not {one.kept.size}"))
            elif self._deep and one.is_readable:
                right.append((one, entry))
            else:
                verdicts.append(KeptVerdict(one, "good"))
        return verdicts + self._read(right)

    def _ask(self, one: OldContent) -> Entry | None:
        """Return the file as its service tells of it; None where it says twice that there is none."""
        kept = one.kept
        if (why := self._inspector.failed.get(kept.service)) is not None:
            raise StorageError("", why)
        service = self._work.open(kept.service)
        for _ in range(2):
            with suppress(NotFound, NotADirectory):
                if kept.service_version is None:
                    return service.stat(kept.path)
                for entry in service.versions(kept.path):
                    if entry.version == kept.service_version:
                        return entry
        return None

    def _is_empty(self, service: str) -> bool:
        if service not in self._empty:
            self._empty[service] = self._work.is_empty(service)
        return self._empty[service]

    def _read(self, files: Sequence[tuple[OldContent, Entry]]) -> list[KeptVerdict]:
        unread = [Unread(one.kept.service, entry, one, one.name) for one, entry in files]
        results = list(hash_many(unread, self._work))
        right = [KeptVerdict(one.context, "good", was_read=True) for one, result in results if _is_right(one, result)]
        doubted = [one for one, result in results if not _is_right(one, result)]
        for one, again in run_parallel(self._hash, doubted, self._threads([one.context for one in doubted])):
            if isinstance(again, StorageError):
                right.append(KeptVerdict(one.context, "suspicious", str(again)))
            elif _is_right(one, again):
                right.append(KeptVerdict(one.context, "good", was_read=True))
            else:
                right.append(KeptVerdict(one.context, "bad", "its bytes are wrong", was_read=True))
        return right

    def _hash(self, file: Unread[OldContent]) -> str:
        return hash_one(file, self._work)

    def _threads(self, contents: Sequence[OldContent]) -> int:
        return self._work.threads({one.kept.service for one in contents})


def _is_right(file: Unread[OldContent], result: str | StorageError) -> bool:
    return result == file.context.kept.sha256
