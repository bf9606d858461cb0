"""Keeps modification times on servers that take none with a PUT. See docs/decisions/0047-webdav-mtimes.md."""

from __future__ import annotations

import threading
import time
import uuid

from cloudmesh.storage.abc import Entry
from cloudmesh.storage.errors import PermissionDenied, StorageError, Unavailable
from cloudmesh.storage.providers.webdav.answers import epoch_of
from cloudmesh.storage.providers.webdav.messages import Answer
from cloudmesh.storage.providers.webdav.properties import (
    OURS,
    PROBE_PROPS,
    SECOND,
    entry_of_properties,
    mtime_property,
)
from cloudmesh.storage.providers.webdav.service import Service

Window = tuple[int, int]
"""The first and last second, by the server's clock, at which it may have stored a content."""


def put_header(mtime_ns: int | None) -> list[tuple[str, str]]:
    """Return the header by which Nextcloud, ownCloud and rclone take a modification time."""
    return [] if mtime_ns is None else [("X-OC-Mtime", str(mtime_ns // SECOND))]


def stored_within(begun: float, answer: Answer) -> Window:
    """Return when the service stored what a request wrote that began at ``begun`` (`time.monotonic`)."""
    took = int(time.monotonic() - begun) + 2
    moment = epoch_of(answer.headers.get("date")) or int(time.time())
    return moment - took, moment + took


def not_kept(subject: str) -> StorageError:
    """Return what it means that a service that keeps properties refuses one."""
    return Unavailable(subject, "the service did not keep the modification time")


class ModificationTimes:
    """How one service keeps them; thread-safe."""

    def __init__(self, service: Service) -> None:
        self._service = service
        self._in_property: bool | None = None
        self._lock = threading.Lock()

    @property
    def in_property(self) -> bool:
        """Whether a property of ours holds them; tried once.

        Raises:
            StorageError: the service cannot be asked.
        """
        server = self._service.server
        if server.own_mtime:
            return False
        if server.family == "apache":
            return True
        with self._lock:
            if self._in_property is None:
                self._in_property = self._keeps_properties()
            return self._in_property

    def _keeps_properties(self) -> bool:
        """Try whether the service keeps a property that it does not know: some say that they do and do not."""
        subject = self._service.location("")
        token = uuid.uuid4().hex
        url = self._service.addresses.root + "/"
        if self._service.propfind(url, "0", subject)[0].status == 404:
            url = self._service.addresses.base + "/"
        if not self._service.proppatch(url, f"<v:probe>{token}</v:probe>", subject):
            return False
        _, found = self._service.propfind(url, "0", subject, body=PROBE_PROPS)
        kept = bool(found) and found[0].props.get(f"{OURS} probe") == token
        self._service.proppatch(url, "<v:probe/>", subject, remove=True)
        return kept

    @property
    def is_known(self) -> bool:
        """Whether `in_property` answers without asking the service."""
        return self._service.is_known and (
            self._service.server.own_mtime or self._service.server.family == "apache" or self._in_property is not None
        )

    def after_put(self, entry: Entry, url: str, mtime_ns: int | None, window: Window) -> Entry:
        """Keep the modification time of the file just stored at ``url`` where its PUT did not; return its entry."""
        entry, missing = self.kept_by_put(entry, mtime_ns, window)
        if missing is not None:
            self._set(url, entry.path, missing)
        return entry

    def kept_by_put(self, entry: Entry, mtime_ns: int | None, window: Window) -> tuple[Entry, str | None]:
        """Return the entry of the file just stored, and the property, as XML, that it has to be given for that."""
        if mtime_ns is None:
            return entry, None
        if self._service.server.own_mtime:
            return entry._replace(mtime_ns=mtime_ns // SECOND * SECOND), None
        if not self.in_property:
            return entry, None
        return entry._replace(mtime_ns=mtime_ns), mtime_property(mtime_ns, entry.size or 0, window)

    def after_copy(self, original: Entry, url: str, window: Window) -> None:
        """Give the fresh copy at ``url`` its original's modification time where the service did not."""
        if original.mtime_ns is None:
            return
        if not self._service.server.own_mtime:
            self._set_property(url, original.path, original.mtime_ns, original.size or 0, window)
            return
        subject = self._service.location(original.path)
        _, found = self._service.propfind(url, "0", subject)
        if found and entry_of_properties("", found[0].props, own_mtime=True).mtime_ns != original.mtime_ns:
            self._set_own(url, subject, original.mtime_ns)

    def change(self, entry: Entry, mtime_ns: int) -> None:
        """Change the modification time of an existing file."""
        url, subject = self._service.addresses.of(entry.path), self._service.location(entry.path)
        if self._service.server.own_mtime:
            if not self._set_own(url, subject, mtime_ns):
                raise PermissionDenied(subject, "the service did not change the modification time")
            return
        changed = (entry.changed_ns or 0) // SECOND
        self._set_property(url, entry.path, mtime_ns, entry.size or 0, (changed, changed))

    def _set_own(self, url: str, subject: str, mtime_ns: int) -> bool:
        return self._service.proppatch(url, f"<d:lastmodified>{mtime_ns // SECOND}</d:lastmodified>", subject)

    def _set_property(self, url: str, path: str, mtime_ns: int, size: int, window: Window) -> None:
        self._set(url, path, mtime_property(mtime_ns, size, window))

    def _set(self, url: str, path: str, prop: str) -> None:
        subject = self._service.location(path)
        if not self._service.proppatch(url, prop, subject):
            raise not_kept(subject)
