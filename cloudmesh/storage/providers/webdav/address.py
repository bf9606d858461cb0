"""Addresses on a WebDAV server: the configured url, checked, and the paths below it, percent-encoded."""

from __future__ import annotations

import re
from dataclasses import dataclass
from urllib.parse import quote, urlsplit

from cloudmesh.storage import paths
from cloudmesh.storage.errors import ConfigError
from cloudmesh.storage.presence import temporary_name


def configured_url(name: str, url: str | None) -> str:
    """Return the configured address of service ``name``, percent-encoded and without a slash at its end.

    Raises:
        ConfigError: it is no address of a collection.
    """
    if url is None:
        raise ConfigError(name, "has no url", "set credentials.url")
    hint = "check credentials.url"
    try:
        parts = urlsplit(url.strip())
        host, _ = parts.hostname, parts.port
    except ValueError:
        raise ConfigError(name, "the url cannot be read", hint) from None
    if parts.scheme not in ("http", "https") or not host:
        raise ConfigError(name, "the url must begin with https:// or http:// and name a host", hint)
    if parts.username is not None:
        raise ConfigError(name, "the url holds a user name", "set credentials.username and password instead")
    if parts.query or parts.fragment:
        raise ConfigError(name, "the url holds a '?' or '#'", hint)
    path = re.sub("/+", "/", parts.path).rstrip("/")
    return f"{parts.scheme}://{parts.netloc}{quote(path, safe='/%:@!$&()*+,;=~' + chr(39))}"


def encoded(path: str) -> str:
    """Return a normalised path as the end of an address: ``/a%20b/c``, empty for the root.

    A listing's names that are no UTF-8 (surrogates, as `answers.segments_of` gives them) become the bytes they were.
    """
    return "".join("/" + quote(part, safe="", errors="surrogateescape") for part in path.split("/") if part)


@dataclass(frozen=True, slots=True)
class Addresses:
    """Where a service's paths lie.

    Attributes:
        base: the configured url, without a slash at its end; the collection there has to exist.
        root: address of the service's root, at or below ``base``.
    """

    base: str
    root: str

    def of(self, path: str) -> str:
        """Return the address of ``path``, without a slash at its end."""
        return self.root + encoded(path)

    def temporary(self, path: str) -> str:
        """Return the address of a new temporary file beside ``path``."""
        return f"{self.of(paths.parent(path))}/{temporary_name()}"
