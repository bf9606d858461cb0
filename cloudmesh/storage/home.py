"""Where our own files lie: configuration, vault, database and state, all in one folder."""

from __future__ import annotations

import os
from pathlib import Path


def config_dir() -> Path:
    """Return ``CLOUDMESH_CONFIG_DIR`` where it is set, else ``~/.cloudmesh``; it need not exist yet."""
    return Path(os.environ.get("CLOUDMESH_CONFIG_DIR") or "~/.cloudmesh").expanduser()
