"""The manual of what ``cdir`` itself does: each usage line is bound to a method of `cloudmesh.cdir.api`."""

from cloudmesh.storage.dispatch import Command

OWN = Command(
    "cdir",
    """::

  Usage:
    cdir service run [--port=N] [--workers=N]
    cdir service start [--port=N] [--workers=N]
    cdir service open
    cdir service stop
    cdir service status
    cdir token create [NAME] [--scope=SCOPES] [--prefix=PATH] [--service=NAMES] [--expires=DURATION]
    cdir token list
    cdir token revoke ID
    cdir share create PATH [--expires=DURATION]
    cdir share list
    cdir share revoke ID
    cdir audit [--since=TIME] [--who=WHO]

  The REST service offers the commands of `vdir` and `storage` to programs and to other computers. It listens on
  127.0.0.1 unless told otherwise, and then only with TLS. `run` serves in the foreground, `start` in the background;
  `open` makes a link that signs a browser in, once.

  A token lets a program in, a share link lets anybody read one virtual file or directory until it expires. Both are
  shown once, when they are made. What was asked of the service, by whom and how it ended, is in the audit log.

  Options:
    --port=N            where to listen (else 8765)
    --workers=N         processes that serve together (else 1)
    --scope=SCOPES      one or more of read, write, delete and admin, such as read,write; else read alone
    --prefix=PATH       the virtual directory or file that the token is good for, with all that is below; else all
    --service=NAMES     the services that may be used, such as aws,box; else all
    --expires=DURATION  for how long, such as 12h or 30d; a token lasts until it is revoked, a share link 7d
    --since=TIME        only since then, such as 2026-01-31, 2026-01-31T18:00, 36h or 7d
    --who=WHO           only by token-ID, share-ID, session-ID, user-NAME (on this computer) or an address

  Every command also takes --output=FORMAT, --traceback, --quiet and --progress=SECONDS, as those of vdir do.

  What can be set of the service stands in service.yaml beside the configuration (port: 9000), or in the environment
  (CDIR_SERVICE_PORT=9000): host, port, url (where others reach it), hosts (further names of it), certificate and key
  (PEM files; else one is made where TLS is needed), workers, max_upload (a size), requests_per_s (that one token may
  send to each process for long), strangers_per_s (that one address may send without a token), patience (seconds that
  requests have at a stop).

  Examples:
    cdir service start
    cdir token create backup --scope=read,write --prefix=/backup --expires=90d
    cdir token create --scope=read --output=json
    cdir share create /run7/report.pdf --expires=24h
    cdir audit --since=1d --who=token-3
""",
    "cloudmesh.cdir.api:FrontDoorApi",
)
