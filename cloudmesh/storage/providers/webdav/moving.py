"""Moves what lies under another name to its own, never onto a directory, and discards what is not wanted.

A MOVE that may overwrite removes a directory with all that it holds, so a MOVE first forbids overwriting, and allows it
only after a look at what is in the way.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterable
from contextlib import suppress
from urllib.parse import quote, unquote

from cloudmesh.storage.abc import WriteMode
from cloudmesh.storage.errors import PreconditionFailed, StorageError
from cloudmesh.storage.http_body import Body
from cloudmesh.storage.providers.webdav.answers import bare_etag
from cloudmesh.storage.providers.webdav.messages import Answer
from cloudmesh.storage.providers.webdav.refusals import check_condition, explain_refusal, refuse_condition
from cloudmesh.storage.providers.webdav.service import Service

_CUT = frozenset("?;\t\n\r")


class Mover:
    """Moves files on one service; thread-safe."""

    def __init__(self, service: Service) -> None:
        self._service = service
        self._faithful: bool | None = None
        self._places = tuple(threading.Lock() for _ in range(64))

    def is_faithful(self, path: str) -> bool:
        """Tell whether a MOVE to ``path`` ends there.

        wsgidav decodes its Destination and only then cuts it at '?' and ';' and drops tabs and line ends. Whether a
        server that we do not know does, is tried once, with two temporary files, when the first such name comes up.

        Raises:
            StorageError: it cannot be tried.
        """
        faithful = self.knows_faithful(path)
        if faithful is None:
            # In the root, so that a target that is cut is the source itself and nothing else is touched.
            root = unquote(self._service.addresses.root)
            faithful = self._faithful = not _CUT.intersection(root) and self._try_destination(path)
        return faithful

    def knows_faithful(self, path: str) -> bool | None:
        """Answer as `is_faithful` without asking the service; None where it has to be tried."""
        if self._service.server.family != "other":
            return True
        if not _CUT.intersection(path) and not _CUT.intersection(unquote(self._service.addresses.root)):
            return True
        return self._faithful

    def _try_destination(self, path: str) -> bool:
        service, subject = self._service, self._service.location(path)
        source = service.addresses.temporary("")
        target = source + quote("?;x", safe="")
        answer = service.client.request("PUT", source, subject, body=Body.of_bytes(b"x"))
        if not 200 <= answer.status < 300:
            raise service.error(answer, path)
        try:
            headers = [("Destination", target), ("Overwrite", "F")]
            service.client.request("MOVE", source, subject, headers=headers)
            return service.propfind(target, "0", subject)[0].status == 207
        finally:
            for url in (source, target):
                service.client.request("DELETE", url, subject)

    def into_place(
        self,
        source: str,
        path: str,
        mode: WriteMode,
        if_match: str | None,
        *,
        destination: str | None = None,
        headers: Iterable[tuple[str, str]] = (),
        patience: float | None = None,
    ) -> Answer:
        """MOVE a file from address ``source`` to ``path``.

        Args:
            mode, if_match: as of `StorageABC.write`.
            destination: the address of ``path`` where the service wants another one than ours.
            headers: sent with it.
            patience: as of `Client.request`.

        Raises:
            as `StorageABC.write`.
        """
        service, subject = self._service, self._service.location(path)
        target = destination or service.addresses.of(path)

        def move(overwrite: str) -> Answer:
            sending = [("Destination", target), ("Overwrite", overwrite), *headers]
            if if_match is not None and service.server.moves_on_condition:
                sending.append(("If", f'<{target}> (["{bare_etag(if_match)}"])'))
            return service.client.request("MOVE", source, subject, headers=sending, patience=patience)

        # Servers refuse two moves to one place at once (423, 500): let those of this process wait for each other.
        with self._places[hash(path) % len(self._places)]:
            # A file that has to match is there, or nothing is moved: no need to try without overwriting.
            answer = move("F") if if_match is None else None
            if answer is None or answer.status == 412:
                if mode == "create":
                    refuse_condition(service, path, mode)
                check_condition(service, path, mode, if_match)
                answer = move("T")
                if answer.status == 412:
                    raise PreconditionFailed(subject)
        if answer.status not in (200, 201, 204):
            explain_refusal(service, path, answer)
            raise service.error(answer, path)
        return answer


def discard(service: Service, url: str) -> None:
    """Remove a temporary file, as far as that can be done.

    The server may notice only after our DELETE that an upload has broken off, and make the file then: ask again
    until the file was there and is gone, for a second at most.
    """
    seen = False
    with suppress(StorageError):
        for wait in (0.0, 0.05, 0.1, 0.2, 0.4):
            time.sleep(wait)
            status = service.client.request("DELETE", url, service.location("")).status
            if status == 404 and seen:
                return
            seen = seen or 200 <= status < 300
