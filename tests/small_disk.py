"""A disk that is soon full: mounted for one program only, so that nothing has to be cleaned up."""

from __future__ import annotations

import subprocess


def own_mounts() -> list[str]:
    """Return the command before another one that lets it mount: for root its own mounts, else as root of its own."""
    plain = ["unshare", "--mount"]
    if subprocess.run([*plain, "true"], capture_output=True).returncode == 0:
        return plain
    return [*plain, "--map-root-user"]
