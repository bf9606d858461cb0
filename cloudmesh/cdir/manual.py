"""The manual of what ``cdir`` itself does: each usage line is bound to a method of `cloudmesh.cdir.api`."""

from cloudmesh.storage.dispatch import Command

OWN = Command(
    "cdir",
    """::

  Usage:
    cdir service run [--port=N] [--workers=N]
    cdir service start [--port=N] [--workers=N]
    cdir service stop
    cdir service status

  The REST service offers every command of `vdir` and `storage` to programs and to other computers. It listens on
  127.0.0.1. `run` serves in the foreground, `start` in the background.

  Options:
    --port=N     where to listen (else 8765)
    --workers=N  processes; more than one needs PostgreSQL

  What can be set stands in service.yaml beside the configuration (port: 9000), or in the environment
  (CDIR_SERVICE_PORT=9000): host, port, workers, max_upload (a size), patience (seconds that requests have at a stop).
""",
    "cloudmesh.cdir.api:FrontDoorApi",
)
