"""One YAML file of the user's: read fast, edited with its comments kept and no change of others lost."""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

from cloudmesh.storage.errors import ConfigError, NotFound
from cloudmesh.storage.local_files import replacing, translated

LOCK_SECONDS = 30
"""How long one writer waits for another."""


def read(path: Path) -> dict[str, Any]:
    """Return the file's mapping; empty where there is no file.

    Only ``true``, ``false`` and null become other than text, so that ``0123``, ``1e5``, ``no`` and ``2024-01-01`` stay
    what was typed; nothing in the file is ever evaluated.

    Raises:
        ConfigError: it is malformed; names file, line and column, and never quotes the file.
    """
    try:
        with translated(str(path)):
            data = path.read_bytes()
    except NotFound:
        return {}
    return parse(_decode(data, path), path)


def parse(text: str, path: Path) -> dict[str, Any]:
    """Return the mapping that ``text``, the content of ``path``, means; see `read`."""
    import yaml

    problem: ConfigError
    try:
        data = yaml.load(text, Loader=_loader())  # noqa: S506 - a SafeLoader with fewer types
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        problem = _malformed(path, mark.line if mark else 0, mark.column if mark else 0, error.problem or "")
    except yaml.reader.ReaderError as error:
        before = text[: error.position]
        line = before.count("\n")
        problem = _malformed(path, line, len(before) - before.rfind("\n") - 1, "a character that YAML does not allow")
    except (ValueError, RecursionError):
        problem = ConfigError(str(path), "is not the YAML of a configuration")
    else:
        if data is None:
            return {}
        if isinstance(data, dict):
            return data
        problem = ConfigError(str(path), "must be a mapping (key: value), as its first line shows it is not")
    raise problem  # outside the handler: the parser's error holds the file's lines


def edit(path: Path, change: Callable[[Any], None], *, keep_previous: bool = True) -> None:
    """Change the file: ``change`` gets its mapping (a plain one or one that keeps comments) and alters it in place.

    The file is replaced at once or not at all; the version before stays beside it as ``NAME.bak``. With
    ``keep_previous=False`` that copy becomes the new version too, so that what was taken out is in neither.

    Raises:
        ConfigError: it is malformed, or cannot be written back without changing something else; nothing is changed.
    """
    from io import StringIO

    from ruamel.yaml import YAML
    from ruamel.yaml.error import YAMLError

    with locked(path):
        real = path.resolve()  # a link (into a folder of dotfiles, say) stays a link
        with translated(str(path)):
            data = real.read_bytes() if real.exists() else None
            mode = stat.S_IMODE(real.stat().st_mode) if data is not None else 0o600
        text = _decode(data, path) if data is not None else ""
        expected = parse(text, path)
        change(expected)
        editor = YAML()
        editor.Resolver = _editor_resolver()
        editor.preserve_quotes = True
        editor.width = 4096
        problem = ConfigError(str(path), "cannot be edited without changing other parts", "change it by hand")
        after = None
        output = StringIO()
        try:
            document = editor.load(text)
            if document is None:
                document = {}
            change(document)
            editor.dump(document, output)
            after = parse(output.getvalue(), path)
        except YAMLError as error:
            mark = getattr(error, "problem_mark", None)
            if mark is not None:
                problem = _malformed(path, mark.line, mark.column, "a key stands twice, or the YAML is malformed")
        if after != expected:
            raise problem
        new = output.getvalue().encode()
        backup = real.with_name(real.name + ".bak")
        if data is not None and (keep_previous or backup.exists()):
            write(backup, data if keep_previous else new, mode)
        write(real, new, mode)


def write(path: Path, data: bytes, mode: int) -> None:
    """Replace ``path`` by ``data`` at once, with permission bits ``mode``.

    Raises:
        StorageError: it cannot be written.
    """
    with translated(str(path)), replacing(path, mode=mode) as temporary:
        temporary.write_bytes(data)
        os.chmod(temporary, mode)  # the process's umask does not take rights away that the file had


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Keep other writers of ``path`` out while the block runs; its folder is made where it is missing.

    Raises:
        ConfigError: another process keeps it for longer than `LOCK_SECONDS`.
    """
    from filelock import FileLock, Timeout

    with translated(str(path.parent)):
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        lock = FileLock(path.with_name(f".{path.name}.lock"), timeout=LOCK_SECONDS, mode=0o600)
        try:
            lock.acquire()
        except Timeout:
            raise ConfigError(str(path), "another process is changing it", "try again when it has ended") from None
    try:
        yield
    finally:
        lock.release()


def child(mapping: Any, key: str) -> Any:
    """Return the mapping below ``key``, made where it is missing or empty."""
    found = mapping.get(key)
    if not isinstance(found, Mapping):
        mapping[key] = found = {}
    return found


_IMPLICIT = (
    ("tag:yaml.org,2002:bool", re.compile(r"(?:true|True|TRUE|false|False|FALSE)\Z"), ["t", "T", "f", "F"]),
    ("tag:yaml.org,2002:null", re.compile(r"(?:~|null|Null|NULL|)\Z"), ["~", "n", "N", ""]),
    ("tag:yaml.org,2002:merge", re.compile(r"<<\Z"), ["<"]),
)
"""What plain text means other than itself; the reader and the editor must agree on it."""


@cache
def _loader() -> Any:
    import yaml

    base: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)

    class Loader(base):  # type: ignore[misc]
        yaml_implicit_resolvers: dict[str, list[Any]] = {}  # noqa: RUF012 - PyYAML's own attribute

    for tag, pattern, firsts in _IMPLICIT:
        Loader.add_implicit_resolver(tag, pattern, firsts)
    return Loader


@cache
def _editor_resolver() -> Any:
    from ruamel.yaml.resolver import VersionedResolver

    class Resolver(VersionedResolver):
        @property
        def versioned_resolver(self) -> Any:
            found: dict[str, list[Any]] = {}
            for tag, pattern, firsts in _IMPLICIT:
                for first in firsts:
                    found.setdefault(first, []).append((tag, pattern))
            return found

    return Resolver


def _decode(data: bytes, path: Path) -> str:
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start)
        column = error.start - data.rfind(b"\n", 0, error.start) - 1
    raise _malformed(path, line, column, "is not UTF-8 text")


def _malformed(path: Path, line: int, column: int, problem: str) -> ConfigError:
    # Of the parser's words only those that quote no text from the file: ':' is fine, a name may be a secret.
    words = re.sub(r"\s*(['\"])(?!.\1).*", "", problem)
    return ConfigError(f"{path}, line {line + 1}, column {column + 1}", words or "malformed YAML", "correct that line")
