"""The process that does a job detached from the shell: ``python -m cloudmesh.storage.worker JOB TOKEN SECONDS``."""

from __future__ import annotations

import signal
import sys

from cloudmesh.storage.database import Database
from cloudmesh.storage.errors import StorageError
from cloudmesh.storage.jobs.call import perform
from cloudmesh.storage.jobs.commands import Jobs
from cloudmesh.storage.jobs.running import Running
from cloudmesh.storage.transfer.events import nobody


def main(name: str, token: str, lease_s: float) -> int:
    """Do the job called ``name``; how it ends is written into its row. Return the exit code.

    Args:
        name: of the job.
        token: of the lease that was taken for this process.
        lease_s: how long the lease lasts unless it is renewed.
    """
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with Database() as database:
            running = Running(Jobs(lambda: database, lease_s).adopt(name, token), nobody)
            signal.signal(signal.SIGTERM, lambda *_: running.interrupt())
            return int(perform(running).failed)
    except StorageError:
        return 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], sys.argv[2], float(sys.argv[3])))
