"""Finds out what kind of WebDAV server a service is, from its first answers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from cloudmesh.storage.errors import ConfigError, NotFound
from cloudmesh.storage.providers.webdav.address import Addresses
from cloudmesh.storage.providers.webdav.answers import error_for
from cloudmesh.storage.providers.webdav.multistatus import read_multistatus
from cloudmesh.storage.providers.webdav.nextcloud import Uploads
from cloudmesh.storage.providers.webdav.properties import DAV, OC, SERVICE_PROPS, XML_TYPE

if TYPE_CHECKING:
    from cloudmesh.storage.providers.webdav.http import Client

INDEX_HINT = "if the server is Apache and a file index.html is there, set 'DirectoryIndex disabled' on it"
_APACHE = "<http://apache.org/dav/propset/fs/1>"


@dataclass(frozen=True, slots=True)
class Server:
    """What is known of the service after the first answers.

    Attributes:
        family: ``nextcloud`` (and ownCloud), ``rclone``, ``apache`` (mod_dav on a file system), or ``other``.
        quota: whether it tells how much room there is.
    """

    family: Literal["nextcloud", "rclone", "apache", "other"]
    quota: bool

    @property
    def own_mtime(self) -> bool:
        """Whether getlastmodified is the modification time that a writer gives by X-OC-Mtime."""
        return self.family in ("nextcloud", "rclone")

    @property
    def atomic_put(self) -> bool:
        """Whether a PUT replaces a file in one step, and a broken one leaves the old."""
        return self.family in ("nextcloud", "apache")

    @property
    def moves_on_condition(self) -> bool:
        """Whether a MOVE obeys an If header about its destination."""
        return self.family in ("nextcloud", "apache")


def detect(client: Client, addresses: Addresses, uploads: Uploads | None, subject: str) -> Server:
    """Make the first request, which also finds out how the service wants to be given the password.

    The root may be missing as yet, the collection at the configured url may not.

    Raises:
        ConfigError, NotFound: the configured url is not that of a WebDAV collection.
        StorageError: the service cannot be asked.
    """
    for url in dict.fromkeys((addresses.root, addresses.base)):
        answer = client.negotiate("PROPFIND", url + "/", [("Depth", "0"), XML_TYPE], SERVICE_PROPS, subject)
        if answer.status != 404:
            break
    if answer.status == 404:
        raise NotFound(subject, "nothing is at the configured url", "check credentials.url")
    if answer.status in (200, 400, 405, 501):
        hint = "check credentials.url"
        if answer.status == 405:
            hint += "; " + INDEX_HINT
        raise ConfigError(subject, "the configured url does not speak WebDAV", hint)
    if answer.status != 207:
        raise error_for(answer.status, answer.headers, answer.body, subject)
    found = read_multistatus(answer.body, subject)
    props = found[0].props if found else {}
    quota = any(DAV + name in props for name in ("quota-available-bytes", "quota-used-bytes"))
    if uploads is not None or OC + "id" in props or OC + "permissions" in props:
        return Server("nextcloud", quota)
    if answer.headers.get("server", "").startswith("rclone/"):
        return Server("rclone", quota)
    options = client.request("OPTIONS", addresses.base + "/", subject)
    return Server("apache" if _APACHE in options.headers.get("dav", "") else "other", quota)
