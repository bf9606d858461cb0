"""The manual of what ``cdir`` itself does: each usage line is bound to a method of `cloudmesh.cdir.api`."""

from cloudmesh.storage.dispatch import Command

OWN = Command(
    "cdir",
    """::

  Usage:
    cdir token create [NAME] [--scope=SCOPES] [--prefix=PATH] [--service=NAMES] [--expires=DURATION]
    cdir token list
    cdir token revoke ID
    cdir share create PATH [--expires=DURATION]
    cdir share list
    cdir share revoke ID
    cdir audit [--since=TIME] [--who=WHO]

  A token lets a program in, a share link lets anybody read one virtual file or directory until it expires. Both are
  shown once, when they are made. What was asked of the service, by whom and how it ended, is in the audit log.

  Options:
    --scope=SCOPES      one or more of read, write, delete and admin, such as read,write; else read alone
    --prefix=PATH       the virtual directory or file that the token is good for, with all that is below; else all
    --service=NAMES     the services that may be used, such as aws,box; else all
    --expires=DURATION  for how long, such as 12h or 30d; a token lasts until it is revoked, a share link 7d
    --since=TIME        only since then, such as 2026-01-31, 2026-01-31T18:00, 36h or 7d
    --who=WHO           only by token-ID, share-ID, session-ID, user-NAME (on this computer) or an address

  Every command also takes --output=FORMAT, --traceback, --quiet and --progress=SECONDS, as those of vdir do.

  Examples:
    cdir token create backup --scope=read,write --prefix=/backup --expires=90d
    cdir token create --scope=read --output=json
    cdir share create /run7/report.pdf --expires=24h
    cdir audit --since=1d --who=token-3
""",
    "cloudmesh.cdir.api:FrontDoorApi",
)
