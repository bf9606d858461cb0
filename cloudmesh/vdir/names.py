"""Keeping virtual paths and locations apart: no top-level directory is called as a service, nor a service as one."""

from __future__ import annotations

from collections.abc import Collection

from cloudmesh.storage.database import Database
from cloudmesh.storage.errors import AlreadyExists, InvalidName, NotFound
from cloudmesh.vdir.catalogue import Catalogue


def refuse_service_name(path: str, services: Collection[str]) -> None:
    """Refuse a virtual path whose first part is a service's name.

    Raises:
        InvalidName: it is; ``/aws/data`` would be both a name and a place on the service ``aws``.
    """
    top = path.partition("/")[0]
    if top in services:
        raise InvalidName(f"/{path}", f"{top!r} is a service's name", "choose another name for the directory")


def refuse_directory_name(service: str) -> None:
    """Refuse a new service's name that a top-level name of the catalogue has. Called when a service is added.

    Raises:
        AlreadyExists: there is such a name.
    """
    if not Database.exists():
        return
    with Database() as database:
        try:
            Catalogue(database).lookup(service)
        except NotFound:
            return
    raise AlreadyExists(service, f"the virtual directory has a top-level name /{service}", "choose another name")
