"""The URLs of a service that no usage gives, for the service, which makes routes of them, and for its client."""

from __future__ import annotations

import re
from urllib.parse import quote

PREFIX = "/api/v1"
"""Of all that is no file."""

FILES = "/files/"

JOBS = f"{PREFIX}/jobs"
JOB = f"{JOBS}/{{name}}"
JOB_EVENTS = f"{JOBS}/{{name:path}}/events"

NAMES = f"{PREFIX}/names"
ANNOUNCEMENTS = f"{PREFIX}/announcements"
CATALOGUE = f"{PREFIX}/catalogue"

SERVICES = f"{PREFIX}/services"
SERVICE = f"{SERVICES}/{{service}}"
ENTRY = f"{SERVICE}/entry"
ENTRIES = f"{SERVICE}/entries"
CONTENT = f"{SERVICE}/content/{{path:path}}"
DIRECTORIES = f"{SERVICE}/directories/{{path:path}}"
COPIES = f"{SERVICE}/copies"
MOVES = f"{SERVICE}/moves"

ENTRY_HEADER = "X-Cdir-Entry"
"""Tells of a file of a service whose content is answered."""

_PART = re.compile(r"\{(\w+)(:path)?\}")


def filled(url: str, **values: str) -> str:
    """Return a URL with values in the place of what it has in braces; a path keeps its slashes."""
    return _PART.sub(lambda part: quote(values[part[1]], safe="/" if part[2] else ""), url)


def file_url(path: str) -> str:
    """Return the URL of a virtual path, or of ``SERVICE/path`` for a replica."""
    return FILES + quote(path.lstrip("/"))
