"""Directories on a flat set of keys: empty objects whose key ends in a slash, as Amazon's console makes them."""

from __future__ import annotations

import threading
from dataclasses import replace

from cloudmesh.storage import paths
from cloudmesh.storage.errors import DirectoryNotEmpty, NotADirectory
from cloudmesh.storage.providers.awss3.bucket import Bucket


class Directories:
    """Makes and removes the markers of one bucket, and learns whether the service keeps them."""

    def __init__(self, bucket: Bucket) -> None:
        self._bucket = bucket
        self._asking = threading.Lock()
        self._markers: bool | None = True if bucket.connection.is_amazon else None

    def make(self, path: str) -> None:
        """Make the directory ``path`` and its missing parents; NotADirectory where a file is in the way."""
        if self._markers is None:
            # One at a time: a marker that the server takes for a file must not be seen by another thread.
            with self._asking:
                self._make(path)
        else:
            self._make(path)

    def _make(self, path: str) -> None:
        bucket = self._bucket
        missing = []
        level = path
        while level:
            if bucket.is_file(level):
                raise NotADirectory(bucket.location(level))
            if not bucket.is_directory(level):
                missing.append(level)
            level = paths.parent(level)
        for level in reversed(missing):
            if self._markers is False:
                return
            http = bucket.connection.http
            http.request(bucket.location(level), "PUT", f"{bucket.key(level)}/", body=b"")
            if self._markers is None:
                self._markers = not bucket.is_file(level)
                if not self._markers:
                    # The server dropped the slash and holds an empty file now: it has directories only with files.
                    http.request(bucket.location(level), "DELETE", bucket.key(level))
                    bucket.capabilities = replace(bucket.capabilities, empty_directories=False)

    def remove(self, path: str) -> None:
        """Remove the empty directory ``path``; errors as `StorageABC.remove_dir`."""
        bucket = self._bucket
        marker = f"{bucket.key(path)}/"
        items = bucket.first_keys(path)
        if any(item.key != marker for item in items):
            raise DirectoryNotEmpty(bucket.location(path))
        if not items:
            bucket.head(path)
            raise NotADirectory(bucket.location(path))
        bucket.connection.http.request(bucket.location(path), "DELETE", marker)
