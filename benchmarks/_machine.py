"""What every benchmark tells of the machine and the versions that it ran on."""

from __future__ import annotations

import os
import platform
import re
import subprocess
import time
from importlib.metadata import version
from pathlib import Path

from deploy.servers import find_program


def machine(*packages: str) -> dict[str, object]:
    """Return date, machine, load, and the versions of Python and of ``packages``."""
    facts: dict[str, object] = {
        "date": time.strftime("%Y-%m-%d"),
        "processors": f"{os.cpu_count()} × {_processor()}",
        "memory": f"{os.sysconf('SC_PAGE_SIZE') * os.sysconf('SC_PHYS_PAGES') / 2**30:.0f} GiB",
        "system": platform.platform(),
        "load before": round(os.getloadavg()[0], 1),
        "python": platform.python_version(),
    }
    facts.update({package: version(package) for package in packages})
    return facts


def programs(*names: str) -> dict[str, str]:
    """Return the first line of what each program says of its version."""
    found = {}
    for name in names:
        done = subprocess.run([find_program(name), "version"], capture_output=True, text=True, check=True)
        found[name] = done.stdout.partition("\n")[0].removeprefix(name).strip()
    return found


def _processor() -> str:
    """Return the processor's name as Linux knows it."""
    named = re.search(r"^model name\s*: (.+)$", Path("/proc/cpuinfo").read_text(encoding="utf-8"), re.MULTILINE)
    return named.group(1) if named else platform.machine()
