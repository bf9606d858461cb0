"""Permission bits that bind the tests too, although root may run them."""

from __future__ import annotations

import ctypes
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_VERSION_3 = 0x20080522
_IGNORE_PERMISSIONS = 1 << 1 | 1 << 2
"""CAP_DAC_OVERRIDE and CAP_DAC_READ_SEARCH."""


@contextmanager
def closed(*directories: Path, mode: int = 0o000) -> Iterator[None]:
    """Close directories to everybody, to this thread and to those that it begins meanwhile; then open them again."""
    before = [directory.stat().st_mode for directory in directories]
    for directory in directories:
        directory.chmod(mode)
    try:
        with _bound_by_permissions():
            for directory in directories:
                assert not os.access(directory, os.R_OK | os.X_OK, effective_ids=True)
            yield
    finally:
        for directory, old in zip(directories, before, strict=True):
            directory.chmod(old)


@contextmanager
def _bound_by_permissions() -> Iterator[None]:
    libc = ctypes.CDLL(None, use_errno=True)
    header = (ctypes.c_uint32 * 2)(_VERSION_3, 0)
    sets = (ctypes.c_uint32 * 6)()  # effective, permitted and inheritable, of 32 capabilities and of the others
    assert libc.capget(header, sets) == 0
    effective = sets[0]
    sets[0] = effective & ~_IGNORE_PERMISSIONS
    assert libc.capset(header, sets) == 0
    try:
        yield
    finally:
        sets[0] = effective
        assert libc.capset(header, sets) == 0
