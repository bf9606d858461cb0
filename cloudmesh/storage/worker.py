"""The process that does a job detached from the shell: ``python -m cloudmesh.storage.worker JOB``."""

from __future__ import annotations

import sys

from cloudmesh.storage.api import Storage
from cloudmesh.storage.errors import StorageError


def main(name: str) -> int:
    """Do the waiting job called ``name``; how it ends is written into its row. Return the exit code."""
    storage = Storage()
    job = storage.jobs.show(name)
    try:
        with Storage(job.storage or None) as bound:
            return int(bound.run_sync(job).failed)
    except StorageError:
        return 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
