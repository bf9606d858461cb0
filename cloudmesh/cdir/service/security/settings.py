"""What is guarded and how strictly. Every default is the safe one."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from cloudmesh.storage.database import Database

LOOPBACK = frozenset({"localhost", "127.0.0.1", "::1"})


@dataclass(frozen=True, slots=True)
class Settings:
    """The settings of `install` and `listening`.

    Attributes:
        database: gives the one with tokens, share links, sessions and the audit log; called with the first request.
        url: where the service is reached, such as ``https://nas.example.org:8443``; its host's name is accepted.
        hosts: further names under which it may be asked for.
        certificate: a PEM file with the certificate and what is between it and its root; None is no TLS.
        key: the PEM file with the certificate's key.
        public: paths that anybody may GET; all others need a token, a session or a share link.
        files: where the paths of files begin; uploads go there, and a share link leads there.
        max_body_bytes: the largest body of a request, other than an upload.
        max_upload_bytes: the largest upload.
        requests_per_s: requests a second that one token or session may send for long; ``burst`` at once.
        strangers_per_s: requests a second that one address may send without any token; ``strangers_burst`` at once.
        head_s: seconds in which a request's head must have come.
        stall_s: seconds in which a body must bring 16 KiB or its end, and an answer of 64 KiB be taken.
        connections: connections at once; who comes later gets 503. One address has at most ``connections_each``.
    """

    database: Callable[[], Database]
    url: str
    hosts: frozenset[str] = frozenset()
    certificate: Path | None = None
    key: Path | None = None
    public: frozenset[str] = frozenset({"/healthz", "/readyz"})
    files: str = "/files"
    max_body_bytes: int = 1 << 20
    max_upload_bytes: int = 1 << 40
    requests_per_s: float = 1000
    burst: int = 2000
    strangers_per_s: float = 5
    strangers_burst: int = 50
    head_s: float = 10
    stall_s: float = 60
    connections: int = 1000
    connections_each: int = 256

    @property
    def is_https(self) -> bool:
        """Whether browsers come to it with TLS: its own, or that of a proxy before it."""
        return urlsplit(self.url).scheme == "https"

    @property
    def names(self) -> frozenset[str]:
        """The host names under which it answers, in lower case: its own, and always those of the loopback."""
        return self.hosts | {(urlsplit(self.url).hostname or "").lower()} | LOOPBACK

    @property
    def port(self) -> int:
        """The port at which it is reached."""
        return urlsplit(self.url).port or (443 if self.is_https else 80)
