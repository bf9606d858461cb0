"""Several processes that serve at one socket; what they share is the database, and a folder with their counts.

uvicorn begins another one where one ends. Nothing depends on which of them answers: who may do what, sign-ins, jobs and
their progress are rows of the database, and each lock there is one between processes. Each counts by itself how often
somebody asks.
"""

from __future__ import annotations

import multiprocessing
import os
import shutil
import signal
import socket
import tempfile
import threading
from pathlib import Path

import uvicorn
from prometheus_client.multiprocess import mark_process_dead
from uvicorn.supervisors import Multiprocess

from cloudmesh.cdir.service.telemetry import SHARED_COUNTS


def serve(config: uvicorn.Config, listening: socket.socket) -> None:
    """Serve with ``config.workers`` processes until SIGTERM or SIGINT, then let all of them end what is under way."""
    folder = tempfile.mkdtemp(prefix="cdir-counts-")
    os.environ[SHARED_COUNTS] = folder
    try:
        _Workers(config, [listening]).run()
    finally:
        shutil.rmtree(folder)


class _Workers(Multiprocess):
    """Notices at once that one of them has died, even while it waits for that one to say that it is well."""

    def keep_subprocess_alive(self) -> None:
        """Begin another one for each that has ended."""
        for one in self.processes:
            one.child_conn.close()  # else this process keeps the pipe open that a dead one would answer on
        super().keep_subprocess_alive()


def begin() -> None:
    """Be one of them, where there are several: to be called by a new process before it serves."""
    parent = multiprocessing.parent_process()
    if parent is None or SHARED_COUNTS not in os.environ:
        return
    for file in Path(os.environ[SHARED_COUNTS]).glob("gauge_live*.db"):
        pid = int(file.stem.rpartition("_")[2])
        try:
            os.kill(pid, 0)
        except ProcessLookupError:  # one that was killed answers no requests any more
            mark_process_dead(pid)  # type: ignore[no-untyped-call]

    def end_with_parent() -> None:
        parent.join()
        os.kill(os.getpid(), signal.SIGTERM)

    # else it would keep the port, and no other service could begin
    threading.Thread(target=end_with_parent, name="parent", daemon=True).start()
