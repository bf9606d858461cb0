"""Files away, a thousand with one request where the service can."""

from __future__ import annotations

import html
import itertools
import re
from collections.abc import Callable, Iterable, Iterator

from cloudmesh.storage.errors import NotFound, StorageError, Unsupported
from cloudmesh.storage.providers.awss3.bucket import Bucket
from cloudmesh.storage.providers.awss3.faults import from_code
from cloudmesh.storage.providers.awss3.multipart import SPACE, field

BATCH = 1000
_ERROR = re.compile(rb"<Error>(.*?)</Error>", re.DOTALL)


class Removal:
    """Removes the files of one bucket, and learns whether the service takes batches."""

    def __init__(self, bucket: Bucket) -> None:
        self._bucket = bucket
        self._batches = True

    def one(self, path: str) -> None:
        """Remove a file; most services do not say whether there was one."""
        bucket = self._bucket
        bucket.connection.http.request(bucket.location(path), "DELETE", bucket.key(path))

    def many(self, files: Iterable[str], check: Callable[[str], None]) -> Iterator[tuple[str, StorageError]]:
        """Remove files; yield those that could not be, or that ``check`` refuses, with the error."""
        remaining = iter(files)
        while batch := list(itertools.islice(remaining, BATCH)):
            accepted = []
            for path in batch:
                try:
                    check(path)
                except StorageError as error:
                    yield path, error
                else:
                    accepted.append(path)
            if accepted:
                yield from self._batch(accepted)

    def _batch(self, files: list[str]) -> Iterator[tuple[str, StorageError]]:
        if self._batches:
            try:
                yield from self._together(files)
                return
            except Unsupported:
                # Some services have no such call, or want a checksum with it that nobody else does.
                self._batches = False
        for path, problem in zip(files, self._bucket.pool.map(self._problem, files), strict=True):
            if problem is not None:
                yield path, problem

    def _together(self, batch: list[str]) -> Iterator[tuple[str, StorageError]]:
        bucket = self._bucket
        by_key = {bucket.key(path): path for path in batch}
        objects = "".join(f"<Object><Key>{html.escape(key, quote=False)}</Key></Object>" for key in by_key)
        request = f'<Delete xmlns="{SPACE}">{objects}<Quiet>true</Quiet></Delete>'.encode()
        try:
            answer = bucket.connection.http.request(bucket.location(""), "POST", query={"delete": ""}, body=request)
        except Unsupported:
            raise
        except StorageError as error:
            for path in batch:
                yield path, type(error)(bucket.location(path), error.why, error.hint, retry_after=error.retry_after)
            return
        for item in _ERROR.findall(answer.body):
            path = by_key[field(item, "Key")]
            failure = from_code(field(item, "Code"), bucket.location(path))
            if not isinstance(failure, NotFound):
                yield path, failure

    def _problem(self, path: str) -> StorageError | None:
        try:
            self.one(path)
        except StorageError as error:
            # A missing bucket comes with a hint.
            return None if isinstance(error, NotFound) and not error.hint else error
        return None
