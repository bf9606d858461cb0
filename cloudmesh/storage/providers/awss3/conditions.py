"""Conditional writes: whether the service decides them itself, and what stands in for that where it does not."""

from __future__ import annotations

import threading
import uuid
from collections.abc import Mapping
from dataclasses import replace

from cloudmesh.storage.abc import WriteMode
from cloudmesh.storage.errors import AlreadyExists, NotFound, PreconditionFailed, StorageError
from cloudmesh.storage.paths import TEMPORARY_PREFIX
from cloudmesh.storage.providers.awss3.bucket import Bucket
from cloudmesh.storage.providers.awss3.faults import status_and_code


class Conditions:
    """The conditions of writes to one bucket. Amazon's service is known to check them, of others one request tells."""

    def __init__(self, bucket: Bucket) -> None:
        self._bucket = bucket
        self._asking = threading.Lock()
        self._honoured: bool | None = True if bucket.connection.is_amazon else None

    def of_write(self, path: str, mode: WriteMode, if_match: str | None = None) -> Mapping[str, str]:
        """Return what the service shall check itself; where it would not, check it now and return nothing."""
        if mode == "overwrite" and if_match is None:
            return {}
        if self.honoured(path):
            return {"IfNoneMatch": "*"} if if_match is None else {"IfMatch": if_match}
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

    def failure(self, path: str, error: StorageError, condition: Mapping[str, str]) -> StorageError:
        """Return what a write's ``error`` means under the condition that it was sent with."""
        if "IfNoneMatch" in condition and isinstance(error, PreconditionFailed):
            return AlreadyExists(self._bucket.location(path))
        # What is not there does not match either; only a missing bucket comes with a hint.
        if "IfMatch" in condition and not error.hint:
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
        import obstore

        store = self._bucket.connection.store
        key = self._bucket.key(f"{TEMPORARY_PREFIX}{uuid.uuid4().hex}")
        try:
            obstore.put(store, key, b"", mode={"e_tag": '"00000000000000000000000000000000"'})
        except Exception as error:
            status, code = status_and_code(error)
            if code == "NoSuchBucket" or status not in (400, 404, 412, 501):
                with self._bucket.translated(path):
                    raise
            return status in (404, 412)
        with self._bucket.translated(path):
            obstore.delete(store, key)
        return False
