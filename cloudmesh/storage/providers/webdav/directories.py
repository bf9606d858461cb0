"""Makes directories and their parents, and removes what is there."""

from __future__ import annotations

import threading
from contextlib import suppress

from cloudmesh.storage import paths
from cloudmesh.storage.errors import NotADirectory, NotFound
from cloudmesh.storage.providers.webdav.answers import error_for
from cloudmesh.storage.providers.webdav.messages import Answer
from cloudmesh.storage.providers.webdav.multistatus import read_multistatus
from cloudmesh.storage.providers.webdav.service import Service

_THERE_ALREADY = (405, 301)


class Directories:
    """The directories of one service, those remembered that were seen, so that writes need not ask; thread-safe."""

    def __init__(self, service: Service) -> None:
        self._service = service
        self._seen: set[str] = set()
        self._making: dict[str, threading.Lock] = {}

    def knows(self, path: str) -> bool:
        """Tell whether a directory was seen, so that nothing need be asked."""
        return path in self._seen

    def make(self, path: str) -> None:
        """Make a directory and its parents. Raises as `StorageABC.make_dir`."""
        self._service.server  # noqa: B018 - a wrong url or password is told by the first request that this makes
        if self._make(path):
            return
        # Something is there already, or claims to be.
        try:
            entry = self._service.stat(path)
        except NotFound:
            raise NotADirectory(self._service.location(path), "a parent of it is a file") from None
        if not entry.is_directory:
            raise NotADirectory(self._service.location(path))

    def make_parents(self, path: str, *, again: bool = False) -> None:
        """Make the directories above ``path``; ``again``: though they were seen, for others may have removed them."""
        parent = paths.parent(path)
        if again or parent not in self._seen:
            self._make(parent, again=again)

    def _make(self, path: str, *, again: bool = True) -> bool:
        """Make a directory and its parents; False where something is there already."""
        try:
            # Some servers refuse the second of two requests for one directory (423). A directory's lock is taken before
            # its parent's, never after, so none waits in a circle.
            with self._making.setdefault(path, threading.Lock()):
                return (again or path not in self._seen) and self._make_alone(path)
        finally:
            self._making.pop(path, None)

    def _make_alone(self, path: str) -> bool:
        if not path:
            made = self._make_root()
        else:
            url = self._service.addresses.of(path)
            answer = self._mkcol(url, path)
            if answer.status in (404, 409) and not self._service.is_below_file(path):
                self._make(paths.parent(path))
                answer = self._mkcol(url, path)
            made = self._is_made(answer, path)
        self._seen.add(path)
        return made

    def _is_made(self, answer: Answer, path: str) -> bool:
        if answer.status == 201:
            return True
        if answer.status in _THERE_ALREADY:
            return False
        # Others may have made it at the same time, which servers answer in many ways.
        with suppress(NotFound):
            if self._service.stat(path).is_directory:
                return False
            raise NotADirectory(self._service.location(path))
        if self._service.is_below_file(path):
            raise NotADirectory(self._service.location(path), "a parent of it is a file")
        raise self._service.error(answer, path)

    def _make_root(self) -> bool:
        """Make the directories between the configured url, which must be there, and the root."""
        base, root = self._service.addresses.base, self._service.addresses.root
        parts = root[len(base) :].split("/")[1:]
        made = False
        for number in range(1, len(parts) + 1):
            url = base + "".join("/" + part for part in parts[:number])
            answer = self._mkcol(url, "")
            made = answer.status == 201
            refused = not made and answer.status not in _THERE_ALREADY and number == len(parts)
            # An account may be allowed to use a directory but not to try to make it.
            if refused and self._service.propfind(url + "/", "0", self._service.location(""))[0].status != 207:
                raise self._service.error(answer, "")
        return made

    def _mkcol(self, url: str, path: str) -> Answer:
        return self._service.client.request("MKCOL", url + "/", self._service.location(path))

    def forget(self, path: str) -> None:
        """Forget that ``path`` and what is below it was seen as a directory."""
        for known in [d for d in tuple(self._seen) if d == path or paths.is_below(d, path)]:
            self._seen.discard(known)

    def delete(self, path: str, *, is_directory: bool) -> None:
        """Remove what is at ``path``, a directory with all that it holds.

        Raises:
            StorageError: it, or a part of it, could not be removed.
        """
        self.forget(path)
        url = self._service.addresses.of(path) + "/" * is_directory
        answer = self._service.client.request("DELETE", url, self._service.location(path))
        if answer.status == 207:  # a part of it could not be removed
            responses = read_multistatus(answer.body, self._service.location(path))
            inner = [response.status for response in responses if response.status is not None]
            raise error_for(inner[0] if inner else 500, {}, b"", self._service.location(path))
        if not 200 <= answer.status < 300:
            raise self._service.error(answer, path)
