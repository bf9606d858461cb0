"""Configuring services for tests as a user's file would."""

from __future__ import annotations

import os
import time
from collections.abc import Iterable
from pathlib import Path

import yaml

from cloudmesh.storage.abc import ServiceSettings

_WRITTEN_NS = 1_700_000_000_123_456_789
_CLOCK_OF_DISKS = 5
"""Linux's CLOCK_REALTIME_COARSE, which goes in ticks of some milliseconds."""


def wait_for_tick() -> None:
    """Wait until the time of the last change of what is written on a disk tells that it was after this call."""
    began_ns = time.time_ns()
    while time.clock_gettime_ns(_CLOCK_OF_DISKS) <= began_ns:
        time.sleep(0.001)


def configure(home: Path, services: Iterable[ServiceSettings]) -> None:
    """Write ``cloudmesh.yaml`` with these services, their secrets in it as in a file of the old tools."""
    section = {
        one.name: {
            "cm": {"active": True, "kind": one.kind, "name": one.name, "service": "storage"},
            "default": {"directory": one.root, **one.options},
            "credentials": dict(one.credentials),
        }
        for one in services
    }
    (home / "cloudmesh.yaml").write_text(yaml.safe_dump({"cloudmesh": {"storage": section}}), "utf-8")
    (home / "cloudmesh.yaml").chmod(0o600)


def local(name: str, root: Path) -> ServiceSettings:
    """A service on the local disk."""
    return ServiceSettings(name, "local", root=str(root))


def write_tree(root: Path, files: dict[str, bytes]) -> Path:
    """Write files, by their relative paths, last modified some time ago, and return the root."""
    root.mkdir(parents=True, exist_ok=True)
    for name, content in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
        os.utime(path, ns=(_WRITTEN_NS, _WRITTEN_NS))
    return root


def read_tree(root: Path) -> dict[str, bytes]:
    """Return all files below a directory, by their relative paths."""
    return {str(path.relative_to(root)): path.read_bytes() for path in root.rglob("*") if path.is_file()}
