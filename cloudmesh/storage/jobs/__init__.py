"""Jobs: long work that has a name and a row in the database, and may go on without the shell that began it.

A job's state, and what changes it::

    waiting ──process begins──> running ──all done─────────────> done
                                   │ ├────a file failed────────> failed
                                   │ ├────pause────────────────> paused
                                   │ ├────cancel───────────────> cancelled
                                   │ └────SIGTERM, ^C, crash───> interrupted
    paused, cancelled, failed, interrupted ──resume, run───────> waiting
    waiting, interrupted, paused ──pause, cancel (at once)─────> paused, cancelled

Whoever does a job, or is just starting the process that will, holds its lease (`cloudmesh.storage.jobs.lease`). A job
that is waiting or running while its lease has ended is interrupted: nobody needs to have written that down, so that it
also holds after a power cut. Pause and cancel of a running job are written into its row, where its process, on whatever
computer, finds them within a second; it then ends between two files.
"""
