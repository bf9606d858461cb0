"""The current virtual directory, shared by single commands, `cdir` and the interactive shell."""

from __future__ import annotations

import json
import os

from cloudmesh.storage.errors import ConfigError
from cloudmesh.storage.home import config_dir
from cloudmesh.storage.local_files import replacing, translated
from cloudmesh.storage.paths import resolve

VARIABLE = "CDIR_CWD"
"""Overrides the state file, for a script."""


def current() -> str:
    """Return the current virtual directory, normalised.

    Raises:
        ConfigError: the state file is damaged.
        InvalidName: ``CDIR_CWD`` is no path.
    """
    if VARIABLE in os.environ:
        return resolve(os.environ[VARIABLE])
    file = config_dir() / "state.json"
    try:
        return resolve(str(json.loads(file.read_text("utf-8"))["cwd"]))
    except FileNotFoundError:
        return ""
    except (ValueError, KeyError, TypeError):
        raise ConfigError(str(file), "the state file is damaged", "remove it") from None


def change(path: str) -> None:
    """Make the virtual directory ``path`` the current one.

    Raises:
        ConfigError: ``CDIR_CWD`` is set, which would win.
    """
    if VARIABLE in os.environ:
        raise ConfigError(VARIABLE, "is set and decides the current directory", f"unset {VARIABLE}")
    file = config_dir() / "state.json"
    with translated(str(file)):
        file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        with replacing(file) as temporary:
            temporary.write_text(json.dumps({"cwd": f"/{path}"}), "utf-8")
