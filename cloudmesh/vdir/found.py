"""One file of the virtual directory as it was when it was looked up: asked for once, told and read from as wanted."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

from cloudmesh.storage.errors import Unsupported
from cloudmesh.vdir.nodes import Node, Replica
from cloudmesh.vdir.reading import NameReader, open_name
from cloudmesh.vdir.records import Choice, NameInfo, name_info
from cloudmesh.vdir.sources import Source, unreadable
from cloudmesh.vdir.status import choices
from cloudmesh.vdir.work import Work


@dataclass(frozen=True)
class FoundFile:
    """A file, and the replicas that it is read from.

    Attributes:
        node: the file.
        replicas: all of them, whichever are read.
        chosen: those that are read: all, or the one on the service that was named.
        work: opens the services.
    """

    node: Node
    replicas: tuple[Replica, ...]
    chosen: tuple[Replica, ...]
    work: Work

    @cached_property
    def info(self) -> NameInfo:
        """What `Vdir.info` tells."""
        return name_info(self.node, self.replicas)

    @cached_property
    def choices(self) -> list[Choice]:
        """What `Vdir.why` tells."""
        return choices(self.node, self.chosen, self.work)

    def open(self, start: int = 0, length: int | None = None, *, patience: float | None = None) -> NameReader:
        """Open it for reading, as `Vdir.open` does."""
        return open_name(self.node, self._sources, self.work.catalogue, start, length, patience)

    def url(self, expires: float) -> str:
        """Return a URL as `Vdir.url` does."""
        if not self._sources:
            raise unreadable(self.node)
        for source in self._sources:
            if source.service.capabilities.presign:
                return source.service.presign(source.entry.path, expires=int(expires))
        names = ", ".join(source.service.name for source in self._sources)
        raise Unsupported(
            f"/{self.node.path}", f"no service that has it gives URLs ({names})", "copy it to an S3 service"
        )

    @cached_property
    def _sources(self) -> list[Source]:
        return self.work.sources(self.node, self.chosen)
