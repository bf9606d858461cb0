"""Requests to one bucket, signed, over libcurl: what most calls of the provider are made of."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Generator, Iterable, Mapping
from typing import Any
from urllib.parse import quote, urlsplit

import pycurl

from cloudmesh.storage.abc import Timeouts
from cloudmesh.storage.errors import StorageError, Unavailable
from cloudmesh.storage.http_multi import Answer, Failure, HttpMulti, Transfer
from cloudmesh.storage.http_source import Source
from cloudmesh.storage.providers.awss3 import faults, metadata
from cloudmesh.storage.providers.awss3.signing import EMPTY, UNSIGNED, Keys, signed

_UNRESERVED = "-_.~"
_CONDITIONS = frozenset({"If-None-Match", "If-Match"})
_CAUSES = {
    pycurl.E_OPERATION_TIMEDOUT: "timed out",
    pycurl.E_COULDNT_RESOLVE_HOST: "the host's name is not known",
    pycurl.E_COULDNT_CONNECT: "the connection was refused",
    pycurl.E_PEER_FAILED_VERIFICATION: "the server's TLS certificate is not trusted",
    pycurl.E_SSL_CACERT_BADFILE: "the file of certificate authorities cannot be read",
}


class Http:
    """Makes and sends requests to one bucket; thread-safe."""

    def __init__(
        self,
        url: str,
        bucket: str,
        region: str,
        keys: Callable[[], Keys] | None,
        timeouts: Timeouts,
        parallel: int,
    ) -> None:
        """Take what requests need; open no connection yet.

        Args:
            url: of the bucket.
            bucket: its name, for errors.
            region: for the signature.
            keys: gives those of the moment; None where requests are not signed.
            timeouts: for connections.
            parallel: requests that `run` has under way.
        """
        parts = urlsplit(url)
        default = {"http": ":80", "https": ":443"}[parts.scheme]
        self._host = parts.netloc.removesuffix(default)
        self._origin = f"{parts.scheme}://{parts.netloc}"
        self._path = parts.path
        self._bucket = bucket
        self._region = region
        self._keys = keys
        self._multi = HttpMulti(timeouts, parallel)

    def transfer(
        self,
        method: str,
        key: str | None = None,
        *,
        query: Mapping[str, str | int] | None = None,
        headers: Mapping[str, str] | None = None,
        body: bytes | None = None,
        source: Source | None = None,
        context: Any = None,
    ) -> Transfer:
        """Return a signed request about an object, or without ``key`` about the bucket; to be sent within minutes.

        One with a condition, and a POST, fail or leave something behind when they are done twice: they are sent once.
        What ``source`` gives is not hashed here: its Content-MD5 belongs into ``headers``.

        Raises:
            what botocore raises where there are no credentials.
        """
        path = self._path if key is None else f"{self._path}/{quote(key, safe='/-_.~')}"
        path = path or "/"
        text = "&".join(
            f"{quote(name, safe=_UNRESERVED)}={quote(str(value), safe=_UNRESERVED)}"
            for name, value in sorted((query or {}).items())
        )
        sent = list((headers or {}).items())
        digest = EMPTY
        if body:
            # Only Amazon compares the SHA-256 of a signature with the bytes; this everybody does, and it is signed too.
            md5 = hashlib.md5(body, usedforsecurity=False).digest()
            sent.append(("Content-MD5", metadata.content_md5(md5)))
            digest = UNSIGNED if method == "PUT" else hashlib.sha256(body).hexdigest()
        elif source is not None:
            digest = UNSIGNED
        once = method == "POST" or (headers is not None and not _CONDITIONS.isdisjoint(headers))
        if self._keys is not None:
            sent = signed(self._keys(), self._region, method, self._host, path, text, sent, digest)
        sent.append(("Host", self._host))
        url = f"{self._origin}{path}?{text}" if text else f"{self._origin}{path}"
        return Transfer(method, url, sent, body, once=once and body is not None, source=source, context=context)

    def run(
        self, transfers: Iterable[Transfer | None], parallel: int | None = None
    ) -> Generator[tuple[Transfer, Answer | Failure]]:
        """Send many at once; see `HttpMulti.run`."""
        return self._multi.run(transfers, parallel)

    def send(self, subject: str, transfer: Transfer) -> Answer:
        """Send one request.

        Raises:
            StorageError: no answer came, or one that tells a failure.
        """
        return self.checked(subject, self.exchange(transfer))

    def exchange(self, transfer: Transfer) -> Answer | Failure:
        """Send one request."""
        return self._multi.request(transfer)

    def checked(self, subject: str, result: Answer | Failure) -> Answer:
        """Return an answer that tells success.

        Raises:
            StorageError: any other.
        """
        answer = self.answered(subject, result)
        problem = self.problem(subject, answer)
        if problem is not None:
            raise problem
        return answer

    def answered(self, subject: str, result: Answer | Failure) -> Answer:
        """Return an answer, whatever it tells; Unavailable where none came."""
        if isinstance(result, Failure):
            raise Unavailable(subject, _CAUSES.get(result.code, "the connection broke"))
        return result

    def problem(self, subject: str, answer: Answer) -> StorageError | None:
        """Return the failure that an answer tells; None for success."""
        if 200 <= answer.status < 300:
            return None
        code = faults.code_in(answer.body)
        return faults.meaning(answer.status, code, subject, self._bucket, answer.headers.get("retry-after"))

    def request(self, subject: str, method: str, key: str | None = None, **options: Any) -> Answer:
        """Make and send one request; arguments as `transfer`, errors as `send`."""
        with faults.translated(subject, self._bucket):
            transfer = self.transfer(method, key, **options)
        return self.send(subject, transfer)

    def close(self) -> None:
        """Close all idle connections."""
        self._multi.close()
