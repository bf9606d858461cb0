"""Conditional writes: whether the service decides them itself, and what stands in for that where it does not."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from dataclasses import replace

from cloudmesh.storage.abc import WriteMode
from cloudmesh.storage.errors import AlreadyExists, NotFound, PreconditionFailed, StorageError
from cloudmesh.storage.presence import temporary_name
from cloudmesh.storage.providers.awss3.bucket import Bucket


class Conditions:
    """The conditions of writes to one bucket. Amazon's service is known to check them, of others one request tells."""

    def __init__(self, bucket: Bucket) -> None:
        self._bucket = bucket
        self._asking = threading.Lock()
        self._honoured: bool | None = True if bucket.connection.is_amazon else None

    def of_write(self, path: str, mode: WriteMode, if_match: str | None = None) -> Mapping[str, str]:
        """Return the headers by which the service checks it itself; where it would not, check now and return none."""
        headers = self.headers(path, mode, if_match)
        if headers is not None:
            return headers
        try:
            entry = self._bucket.head(path)
        except NotFound:
            if if_match is not None:
                raise PreconditionFailed(self._bucket.location(path)) from None
            return {}
        if if_match is None:
            raise AlreadyExists(self._bucket.location(path))
        self._bucket.match(entry, if_match)
        return {}

    def headers(self, path: str, mode: WriteMode, if_match: str | None = None) -> Mapping[str, str] | None:
        """Return the headers by which the service checks it itself; None where it would not."""
        if mode == "overwrite" and if_match is None:
            return {}
        if self.honoured(path):
            return {"If-None-Match": "*"} if if_match is None else {"If-Match": if_match}
        return None

    def failure(self, path: str, error: StorageError, condition: Mapping[str, str]) -> StorageError:
        """Return what a write's ``error`` means under the condition that it was sent with."""
        if "If-None-Match" in condition and isinstance(error, PreconditionFailed):
            return AlreadyExists(self._bucket.location(path))
        # What is not there does not match either; only a missing bucket comes with a hint.
        if "If-Match" in condition and not error.hint:
            return PreconditionFailed(self._bucket.location(path))
        return error

    def honoured(self, path: str) -> bool:
        """Tell whether the service checks conditions; errors are about ``path``."""
        with self._asking:
            if self._honoured is None:
                self._honoured = self._ask(path)
                self._bucket.capabilities = replace(
                    self._bucket.capabilities, conditional_create=self._honoured, conditional_match=self._honoured
                )
            return self._honoured

    def _ask(self, path: str) -> bool:
        """Ask the service to replace a file that is not there, of a version that never was: it should refuse."""
        bucket = self._bucket
        http = bucket.connection.http
        subject = bucket.location(path)
        key = bucket.key(temporary_name())
        with bucket.translated(path):
            asked = http.transfer("PUT", key, headers={"If-Match": '"00000000000000000000000000000000"'}, body=b"")
        answer = http.answered(subject, http.exchange(asked))
        problem = http.problem(subject, answer)
        if problem is None:
            http.request(subject, "DELETE", key)
            return False
        # Only a missing bucket comes with a hint.
        if answer.status not in (400, 404, 412, 501) or (isinstance(problem, NotFound) and problem.hint):
            raise problem
        return answer.status in (404, 412)
