"""Which provider is tested on which server, and what is known about the two together."""

from __future__ import annotations

import importlib
import os
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from cloudmesh.storage import paths
from cloudmesh.storage.abc import Content, ServiceSettings, StorageABC
from cloudmesh.storage.layers import Retry, RetryPolicy

T = TypeVar("T")

_CLASSES = {
    "local": ("cloudmesh.storage.providers.local", "LocalStorage"),
    "awss3": ("cloudmesh.storage.providers.awss3", "S3Storage"),
    "webdav": ("cloudmesh.storage.providers.webdav", "WebdavStorage"),
    "sftp": ("cloudmesh.storage.providers.sftp", "SftpStorage"),
}

_XML = "XML 1.0, in which the answers come, cannot hold this character"

_URL = "the server takes everything after it in the new name for a part of the URL"
_DROPPED = "the server drops this character from the new name"
_RCLONE_UNICODE = "rclone holds names for the same that differ in Unicode normalisation only"


@dataclass(frozen=True)
class Target:
    """One provider on one server.

    Attributes:
        provider: kind of the provider.
        server: as it stands in the table.
        fixture: of tests/conftest.py; empty for the local disk.
        features: names of true capabilities, and of what a server has: ``network`` (a connection to break), ``http``,
            ``versioned_buckets``. Cases that need another one are left out; one case checks that the provider declares
            exactly these capabilities.
        refuses: beginning of a name's key in the encodings matrix to why InvalidName is right there.
        not_renamed: likewise to why no file can be copied or moved to that name (Unsupported) though it can be written.
        quirks: beginning of a case's name (with its parameter) to why it does not hold there.
        mtime_precision_ns: as must be declared.
    """

    provider: str
    server: str
    fixture: str
    features: frozenset[str]
    mtime_precision_ns: int | None
    refuses: Mapping[str, str] = field(default_factory=dict)
    not_renamed: Mapping[str, str] = field(default_factory=dict)
    quirks: Mapping[str, str] = field(default_factory=dict)

    @property
    def id(self) -> str:
        """What stands in the brackets of a test's name."""
        return f"{self.provider}-{self.fixture or 'disk'}"


_FILES = frozenset({"case_sensitive", "empty_directories", "server_copy", "server_move"})
_BUCKET = frozenset({"case_sensitive", "flat", "server_copy", "server_move", "set_mtime", "presign", "network", "http"})

TARGETS = [
    Target(
        "local",
        "this disk",
        "",
        _FILES | {"scan_mtime", "set_mtime", "conditional_create", "quota"},
        1,
    ),
    Target(
        "awss3",
        "SeaweedFS",
        "seaweedfs",
        _BUCKET | {"empty_directories", "conditional_create", "conditional_match", "versioned_buckets"},
        1,
        refuses={"control": _XML, "backslash": "SeaweedFS stores it as a slash"},
    ),
    Target(
        "awss3",
        "rclone serve s3",
        "rclone_s3",
        _BUCKET,
        1,
        refuses={"control": _XML},
        quirks={
            "test_composed_and_decomposed": _RCLONE_UNICODE,
            "test_directories_that_cannot_be_listed": "it lists a tree in one go, and so refuses all of it or nothing",
            "test_write_over_directory": "the server answers with 500 and shows an empty file afterwards",
        },
    ),
    Target(
        "webdav",
        "wsgidav",
        "wsgidav",
        _FILES | {"quota", "network", "http"},
        None,
        not_renamed={
            "question": _URL,
            "semicolon": _URL,
            "ampersand-entity": _URL,
            "control-tab": _DROPPED,
            "control-newline": _DROPPED,
            "control-return": _DROPPED,
        },
    ),
    Target(
        "webdav",
        "Apache mod_dav",
        "apache_dav",
        _FILES | {"set_mtime", "scan_mtime", "network", "http"},
        1,
    ),
    Target(
        "webdav",
        "rclone serve webdav",
        "rclone_webdav",
        _FILES | {"scan_mtime", "conditional_create", "network", "http"},
        1_000_000_000,
        quirks={
            "test_composed_and_decomposed": _RCLONE_UNICODE,
            "test_temporary_objects": "a listing is not well-formed XML while a file in the directory is being written",
        },
    ),
    Target(
        "sftp",
        "OpenSSH",
        "openssh",
        _FILES | {"scan_mtime", "set_mtime", "quota", "conditional_create", "network"},
        1_000_000_000,
    ),
]


class Outside(ABC):
    """A look at the service without the provider."""

    @abstractmethod
    def names(self, directory: str) -> list[str]:
        """Return the names in a directory, sorted; none where it is not there."""

    @abstractmethod
    def read(self, path: str) -> bytes:
        """Return a file's bytes."""


class OnDisk(Outside):
    """The directory in which the server keeps its files as they are."""

    def __init__(self, root: Path) -> None:
        self._root = root

    def names(self, directory: str) -> list[str]:
        place = os.path.join(self._root, directory)
        return sorted(os.listdir(place)) if os.path.isdir(place) else []

    def read(self, path: str) -> bytes:
        with open(os.path.join(self._root, path), "rb") as file:
            return file.read()


class InBucket(Outside):
    """A bucket seen through boto3."""

    def __init__(self, client: Any, bucket: str) -> None:
        self._client = client
        self._bucket = bucket

    def names(self, directory: str) -> list[str]:
        prefix = directory + "/" if directory else ""
        found: set[str] = set()
        for page in self._client.get_paginator("list_objects_v2").paginate(Bucket=self._bucket, Prefix=prefix):
            found.update(item["Key"][len(prefix) :].split("/")[0] for item in page.get("Contents", []))
        return sorted(found - {""})

    def read(self, path: str) -> bytes:
        data: bytes = self._client.get_object(Bucket=self._bucket, Key=path)["Body"].read()
        return data


def make_provider(settings: ServiceSettings) -> StorageABC:
    """Return a provider for ``settings``."""
    module, name = _CLASSES[settings.kind]
    provider: StorageABC = getattr(importlib.import_module(module), name)(settings)
    return provider


def put(storage: StorageABC, path: str, data: bytes = b"content") -> None:
    """Write a file through the provider."""
    storage.write(path, Content.of_bytes(data))


def patient(storage: StorageABC) -> StorageABC:
    """Return the provider with quick retries, for cases in which servers refuse some calls for a moment."""
    return Retry(storage, RetryPolicy(attempts=20, base_seconds=0.02, cap_seconds=0.5))


def plant(storage: StorageABC, directory: str, files: Iterable[str], data: bytes = b"content") -> None:
    """Write many files, 16 at once."""
    willing = patient(storage)
    with ThreadPoolExecutor(16) as pool:
        list(pool.map(lambda file: put(willing, child(directory, file), data), files))


def listed(storage: StorageABC, directory: str, *, recursive: bool = False) -> list[str]:
    """Return the paths that a scan yields, relative to ``directory``, a directory's with a slash at its end."""
    cut = len(directory) + 1 if directory else 0
    return [entry.path[cut:] + "/" * entry.is_directory for entry in storage.scan(directory, recursive=recursive)]


def settles(look: Callable[[], T], expected: T) -> None:
    """Wait until ``look`` gives ``expected``: a server notices a broken connection, and tidies up, in its own time."""
    end = time.monotonic() + 10
    while (seen := look()) != expected and time.monotonic() < end:
        time.sleep(0.05)
    assert seen == expected, seen


def child(directory: str, *names: str) -> str:
    """Return the path of ``names`` below a directory."""
    return paths.join(directory, "/".join(names))
