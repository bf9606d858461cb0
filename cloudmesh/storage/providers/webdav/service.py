"""What every part of the provider asks the service: its kind, what is at a path, to set a property."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from cloudmesh.storage import paths
from cloudmesh.storage.abc import Entry
from cloudmesh.storage.errors import NotFound, StorageError, Unavailable, Unsupported
from cloudmesh.storage.http_body import Body
from cloudmesh.storage.leftovers import Leftovers
from cloudmesh.storage.paths import Location
from cloudmesh.storage.providers.webdav.address import Addresses
from cloudmesh.storage.providers.webdav.answers import CLIENT_REFUSALS, REDIRECTS, error_for
from cloudmesh.storage.providers.webdav.detection import INDEX_HINT, Server, detect
from cloudmesh.storage.providers.webdav.messages import Answer
from cloudmesh.storage.providers.webdav.multistatus import (
    MultistatusError,
    MultistatusParser,
    Response,
    read_multistatus,
)
from cloudmesh.storage.providers.webdav.nextcloud import Uploads
from cloudmesh.storage.providers.webdav.properties import ENTRY_PROPS, OURS, XML, XML_TYPE, entry_of_properties

if TYPE_CHECKING:
    from cloudmesh.storage.providers.webdav.http import Client


class Unsettled(Unavailable):
    """The service stumbled over what it was asked about, not over the connection."""


class Service:
    """One account on one WebDAV server.

    Attributes:
        client: sends requests.
        addresses: of its paths.
        uploads: where it collects the parts of large files; None where it has no chunked upload, as far as the
            configured url shows.
        leftovers: temporary files that listings came across.
    """

    def __init__(self, name: str, client: Client, addresses: Addresses, uploads: Uploads | None) -> None:
        self.client = client
        self.addresses = addresses
        self.uploads = uploads
        self.leftovers = Leftovers()
        self._name = name
        self._server: Server | None = None

    @property
    def server(self) -> Server:
        """What kind of server it is, found out once.

        Raises:
            StorageError: it cannot be asked.
        """
        # No lock: threads that ask at once find the same, and none waits through another's failure to connect.
        return self._server or self.connect()

    @property
    def is_known(self) -> bool:
        """Whether `server` answers without asking the service."""
        return self._server is not None

    def connect(self) -> Server:
        """Find out, again if need be, what kind of server it is. Raises as `server`."""
        self._server = detect(self.client, self.addresses, self.uploads, self.location(""))
        return self._server

    def location(self, path: str) -> str:
        """Return ``path`` as the user would type it."""
        return str(Location(self._name, path))

    def error(self, answer: Answer, path: str) -> StorageError:
        """Return what a refusal means."""
        return error_for(answer.status, answer.headers, answer.body, self.location(path))

    # ---- what is there ----------------------------------------------------------------------------------------------

    def stat(self, path: str) -> Entry:
        """Return what is at ``path``. A root that is missing counts as an empty directory.

        Raises:
            NotFound: nothing is there.
            StorageError: the service refuses.
        """
        own_mtime = self.server.own_mtime
        url, subject = self.addresses.of(path), self.location(path)
        answer, found = self.propfind(url, "0", subject)
        if answer.status in REDIRECTS:
            answer, found = self.propfind(url + "/", "0", subject)
        if answer.status == 207 and found and found[0].status in (None, 200):
            return entry_of_properties(path, found[0].props, own_mtime=own_mtime)
        if answer.status == 404 or (answer.status == 207 and found and found[0].status == 404):
            if not path:
                return Entry("", is_directory=True)
            raise NotFound(subject)
        if answer.status in CLIENT_REFUSALS and path and self.is_below_file(path):
            raise NotFound(subject)
        if answer.status == 405 or (path and answer.status in REDIRECTS):
            why = f"the server does not say what is there (HTTP {answer.status})"
            raise Unsupported(subject, why, INDEX_HINT)
        raise self.error(answer, path)

    def is_below_file(self, path: str) -> bool:
        """Tell whether a parent of ``path`` is a file, which some servers answer with any error that they like."""
        parent = paths.parent(path)
        if not parent:
            return False
        try:
            return not self.stat(parent).is_directory
        except NotFound:
            return self.is_below_file(parent)

    # ---- properties -------------------------------------------------------------------------------------------------

    def propfind(
        self,
        url: str,
        depth: str,
        subject: str,
        take: Callable[[Response], None] | None = None,
        *,
        body: bytes = ENTRY_PROPS,
    ) -> tuple[Answer, list[Response]]:
        """Ask for properties; responses go to ``take`` as they come, or into the list.

        Raises:
            Unsettled: the XML cannot be read.
            StorageError: no answer came. A refusal is an answer.
        """
        found: list[Response] = []
        parser = MultistatusParser(take or found.append)

        def sink(status: int, piece: bytes) -> None:
            if status == 207:
                parser.feed(piece)

        headers = [("Depth", depth), XML_TYPE]
        try:
            answer = self.client.request("PROPFIND", url, subject, headers=headers, body=Body.of_bytes(body), sink=sink)
            if answer.status == 207:
                parser.close()
        except MultistatusError as error:
            raise Unsettled(subject, str(error)) from None
        return answer, found

    def proppatch(self, url: str, prop: str, subject: str, *, remove: bool = False) -> bool:
        """Set (or remove) the property ``prop``, given as XML; False where the service refuses that.

        Raises:
            StorageError: the service cannot be asked, or refuses for a reason that has nothing to do with the property.
        """
        body = Body.of_bytes(proppatch_body(prop, remove=remove))
        answer = self.client.request("PROPPATCH", url, subject, headers=[XML_TYPE], body=body)
        return is_patched(answer, subject)


def proppatch_body(prop: str, *, remove: bool = False) -> bytes:
    """Return the document that sets (or removes) the property ``prop``, given as XML."""
    verb = "remove" if remove else "set"
    xml = (
        f'{XML}<d:propertyupdate xmlns:d="DAV:" xmlns:v="{OURS}"><d:{verb}><d:prop>{prop}</d:prop>'
        f"</d:{verb}></d:propertyupdate>"
    )
    return xml.encode()


def is_patched(answer: Answer, subject: str) -> bool:
    """Tell from the answer to a PROPPATCH whether it was done. Raises as `Service.proppatch`."""
    if answer.status == 207:
        found = read_multistatus(answer.body, subject)
        return all(r.status in (None, 200) and not r.refused for r in found)
    if answer.status in (403, 404, 405, 409, 501):
        return False
    if 200 <= answer.status < 300:
        return True
    raise error_for(answer.status, answer.headers, answer.body, subject)
