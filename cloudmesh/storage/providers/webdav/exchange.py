"""One HTTP request under way on one connection of libcurl: its answer as it comes."""

from __future__ import annotations

import re
import time
from collections import deque
from collections.abc import Iterator
from typing import Any

import pycurl

from cloudmesh.storage.errors import AuthenticationFailed, ConfigError, StorageError, Unavailable
from cloudmesh.storage.http_source import Source

_HEADER_LINE = "iso-8859-1"

_CAUSES = {
    pycurl.E_COULDNT_RESOLVE_HOST: "the host name cannot be resolved",
    pycurl.E_COULDNT_CONNECT: "the connection was refused or the host cannot be reached",
    pycurl.E_OPERATION_TIMEDOUT: "connecting took too long",
    pycurl.E_SSL_CONNECT_ERROR: "no TLS connection could be made",
    pycurl.E_GOT_NOTHING: "the service closed the connection without an answer",
    pycurl.E_PARTIAL_FILE: "the connection broke before all bytes had come",
    pycurl.E_SEND_ERROR: "the connection broke while sending",
    pycurl.E_SEND_FAIL_REWIND: "the connection broke while sending",
    pycurl.E_RECV_ERROR: "the connection broke while receiving",
}

_NAME_AUTHORITY = "add its authority to the system's certificates, or name that in SSL_CERT_FILE"
_UNKNOWN_AUTHORITY = ("cannot be verified: its authority is not known here", _NAME_AUTHORITY)
_CERTIFICATES = {  # by OpenSSL's X509_V_ERR_…
    9: ("is not valid yet", "check the clock of this computer"),
    10: ("has expired", "have it renewed, or check the clock of this computer"),
    18: ("is signed by itself only", "if it is the right one, name it in SSL_CERT_FILE"),
    23: ("has been revoked", "have it renewed"),
}
_OTHER_HOST = re.compile(r"no alternative certificate subject name|does not match target")


class Connection:
    """One easy handle (which remembers a Digest nonce) in one multi handle (which keeps the connection)."""

    def __init__(self) -> None:
        self.easy: Any = pycurl.Curl()
        self.multi: Any = pycurl.CurlMulti()
        self.multi.setopt(pycurl.M_MAXCONNECTS, 1)

    def close(self) -> None:
        """Close it, whatever is under way on it."""
        self.easy.close()
        self.multi.close()


class Exchange:
    """One request under way: its answer's status and headers, then the body as it comes."""

    def __init__(self, connection: Connection, subject: str, patience: float, source: Source | None) -> None:
        self.status = 0
        self.headers: dict[str, str] = {}
        self._connection = connection
        self._subject = subject
        self._patience = patience
        self._source = source
        self._pieces: deque[bytes] = deque()
        self._done = False
        self._progress = False
        easy = connection.easy
        easy.setopt(pycurl.HEADERFUNCTION, self._on_header)
        easy.setopt(pycurl.WRITEFUNCTION, self._on_data)
        connection.multi.add_handle(easy)

    def _on_header(self, raw: bytes) -> None:
        self._progress = True
        if self._source is not None:
            self._source.answered = True
        line = raw.decode(_HEADER_LINE).strip()
        if line.startswith("HTTP/"):
            self.status = int(line.split(None, 2)[1])
            self.headers = {}
        elif line:
            name, _, value = line.partition(":")
            name, value = name.strip().lower(), value.strip()
            known = self.headers.get(name)
            self.headers[name] = f"{known}, {value}" if known else value

    def _on_data(self, data: bytes) -> None:
        self._progress = True
        self._pieces.append(data)

    def _advance(self) -> None:
        """Move bytes until there is a piece of the body or the exchange has ended."""
        multi, easy = self._connection.multi, self._connection.easy
        last = time.monotonic()
        while not self._pieces and not self._done:
            self._progress = False
            _, active = multi.perform()
            if not active:
                self._finish()
                return
            if self._pieces:
                return
            now = time.monotonic()
            if self._source is not None and self._source.asked:
                self._source.asked = False
                self._progress = True
            if self._progress:
                last = now
            elif now - last > self._patience and easy.getinfo(pycurl.PRETRANSFER_TIME) > 0:
                raise silence(self._subject, self._patience)
            multi.select(min(1.0, self._patience / 4))

    def _finish(self) -> None:
        self._done = True
        _, _, failed = self._connection.multi.info_read()
        if self._source is not None and self._source.error is not None:
            raise self._source.error
        for _, code, message in failed:
            verified = self._connection.easy.getinfo(pycurl.SSL_VERIFYRESULT)
            raise translate(code, message, verified, self._subject)

    def begin(self) -> None:
        """Wait for the status and headers.

        Raises:
            StorageError: no answer came.
        """
        self._advance()

    def __iter__(self) -> Iterator[bytes]:
        while True:
            while self._pieces:
                yield self._pieces.popleft()
            if self._done:
                return
            self._advance()

    @property
    def reusable(self) -> bool:
        """Whether the connection is in order and can serve the next request."""
        return self._done and not self._pieces

    def detach(self) -> None:
        """Take the request off its connection."""
        self._connection.multi.remove_handle(self._connection.easy)


def silence(subject: str, seconds: float) -> StorageError:
    """Return what it means that no byte moved for so long."""
    return Unavailable(subject, f"the service sent nothing for {seconds:g} s")


def translate(code: int, message: str, verified: int, subject: str) -> StorageError:
    """Return what a failure of libcurl means.

    Args:
        code, message: libcurl's own.
        verified: OpenSSL's result of verifying the server's certificate.
        subject: what was asked for.
    """
    if code == pycurl.E_PEER_FAILED_VERIFICATION:
        if _OTHER_HOST.search(message):
            return AuthenticationFailed(
                subject, "the server's certificate is for another host name", "check credentials.url"
            )
        why, hint = _CERTIFICATES.get(verified, _UNKNOWN_AUTHORITY)
        return AuthenticationFailed(subject, f"the server's certificate {why}", hint)
    if code == pycurl.E_SSL_CACERT_BADFILE:
        why = "the file of certificate authorities cannot be read"
        return ConfigError(subject, why, "check the environment variable SSL_CERT_FILE")
    return Unavailable(subject, _CAUSES.get(code, f"the connection failed (libcurl error {code})"))
