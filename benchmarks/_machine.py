"""What every benchmark tells of the machine and the versions that it ran on."""

from __future__ import annotations

import os
import platform
import time
from importlib.metadata import version


def machine(*packages: str) -> dict[str, object]:
    """Return date, machine, load, and the versions of Python and of ``packages``."""
    facts: dict[str, object] = {
        "date": time.strftime("%Y-%m-%d"),
        "processors": os.cpu_count(),
        "system": platform.platform(),
        "load before": round(os.getloadavg()[0], 1),
        "python": platform.python_version(),
    }
    facts.update({package: version(package) for package in packages})
    return facts
