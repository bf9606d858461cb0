"""The memory of a run does not grow with the number of files."""

from __future__ import annotations

import os
import subprocess
import sys

_SCRIPT = """
from pathlib import Path
from cloudmesh.storage.abc import Entry, ServiceSettings
from cloudmesh.storage.providers.local import LocalStorage
from tests.storage.transfer.places import run

class Listed(LocalStorage):
    def scan(self, path="", *, recursive=False, on_error=None):
        for directory in range(self.count // 1000):
            yield Entry(f"{directory:06}", is_directory=True)
            for number in range(1000):
                name = f"{directory:06}/{number:06}"
                yield Entry(name, size=10, mtime_ns=10**18, changed_ns=10**18, etag=name)

def listed(name, count):
    service = Listed(ServiceSettings(name, "local", root="/nowhere at all"))
    service.count = count
    return service

def most():
    # ru_maxrss would be that of the process that forked this one
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) // 1024 for line in lines if line.startswith("VmHWM"))

for count in (2_000, 200_000, 200_000):
    report = run(listed("one", count), listed("two", count), delete=True)
    assert (report.skipped, report.files, report.errors) == (count, 0, 0), report
    print(most())
report = run(listed("one", 2_000), listed("three", 150_000), delete=True, max_delete="100%", dryrun=True)
assert report.removed == 148_000
print(most())
"""


def test_two_hundred_thousand_files_take_no_more_memory_than_two_thousand() -> None:
    done = subprocess.run(
        [sys.executable, "-c", _SCRIPT],
        capture_output=True, text=True, check=False, env={**os.environ, "PYTHONPATH": os.getcwd()},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    first, *others = map(int, done.stdout.split())
    assert max(others) < min(250, first + 40), done.stdout
