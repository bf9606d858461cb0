"""Paths and locations, normalised once at the edge; inside, code may trust them.

A normalised path has no leading or trailing slash, no empty part, no ``.`` and no ``..``; the root is the empty string.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from cloudmesh.storage.errors import InvalidName

TEMPORARY_PREFIX = ".cdir-tmp-"
"""Begins the base name of everything of ours that lies beside a user's files for a moment."""

MEASURING = f"{TEMPORARY_PREFIX}measure-"
"""Begins the name of a file that is written to measure a service: the only temporary one that is written by name."""

VERSIONS = ".cdir-versions"
"""The directory at a service's root in which contents are kept that a name has no longer."""

STAGING = f"{TEMPORARY_PREFIX}upload-"
"""Begins the names of files at a service's root that hold an upload until it is whole."""

HIDDEN = (TEMPORARY_PREFIX, VERSIONS)
"""Beginnings of names that no scan yields, unless it begins below them."""

SERVICE_NAMES = "a service's name is two or more of letters, digits, '_', '.' and '-' (one letter is a disk's)"
"""What is said of a name that a service cannot have."""

_SERVICE = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]+\Z")


def normalize(path: str) -> str:
    """Return ``path`` without empty and ``.`` parts and without slashes at its ends.

    Raises:
        InvalidName: it holds ``..``, a NUL, or characters that are not Unicode text.
    """
    if "\0" in path:
        raise InvalidName(repr(path), "a path cannot hold a NUL character")
    parts = path.split("/")
    if ".." in parts:
        raise InvalidName(path, "a path cannot hold '..'")
    if "" in parts or "." in parts:
        return "/".join(part for part in parts if part not in ("", "."))
    return path


def resolve(path: str, cwd: str = "") -> str:
    """Return the normalised virtual path that ``path`` means when typed in directory ``cwd``; ``..`` goes up.

    Raises:
        InvalidName: it goes above the root or holds a NUL.
    """
    parts = [] if path.startswith("/") else [part for part in cwd.split("/") if part]
    for part in path.split("/"):
        if part == "..":
            if not parts:
                raise InvalidName(path, "goes above the root directory")
            parts.pop()
        elif part not in ("", "."):
            parts.append(part)
    return normalize("/".join(parts))


def join(directory: str, name: str) -> str:
    """Return the path of ``name`` (itself a path) below ``directory``, both normalised."""
    return f"{directory}/{name}" if directory and name else directory or name


def parent(path: str) -> str:
    """Return the directory that holds ``path``; the root's parent is the root."""
    return path.rpartition("/")[0]


def basename(path: str) -> str:
    """Return the last part of ``path``; empty for the root."""
    return path.rpartition("/")[2]


def sort_key(path: str, is_directory: bool) -> bytes:
    """Return the key by which every scan is sorted: UTF-8 bytes, a directory as though its name ended in a slash.

    This is the order in which object stores list their keys, so that listings of any two services can be merged.
    """
    return (path + "/" if is_directory else path).encode("utf-8", "surrogateescape")


@dataclass(frozen=True, slots=True)
class Location:
    """A place on a service, written ``SERVICE:PATH``."""

    service: str
    path: str

    def __str__(self) -> str:
        return f"{self.service}:{self.path}"

    def child(self, name: str) -> Location:
        """Return the place ``name`` (a normalised path) below this one."""
        return Location(self.service, join(self.path, name))


def split_location(text: str) -> tuple[str | None, str]:
    """Split ``SERVICE:PATH`` into service and raw path; the service is None where ``text`` names none.

    A name has at least two characters, so that ``C:\\dir`` is a path, and a slash before the colon makes it a path.
    """
    service, colon, path = text.partition(":")
    if colon and _SERVICE.match(service):
        return service, path
    return None, text


def is_service_name(name: str) -> bool:
    """Tell whether ``name`` can be a service's: two or more of letters, digits, ``_``, ``.``, ``-``."""
    return bool(_SERVICE.match(name))


def below(path: str, directory: str) -> str:
    """Return ``path``, which lies in ``directory``, as seen from there."""
    return path[len(directory) + 1 :] if directory else path


def is_below(path: str, directory: str) -> bool:
    """Tell whether ``path`` lies somewhere in ``directory``, both normalised; nothing lies below itself."""
    return bool(path) and (not directory or path.startswith(directory + "/"))
