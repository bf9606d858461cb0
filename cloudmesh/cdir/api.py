"""`FrontDoorApi`: what ``cdir`` itself does, in groups."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property
from typing import TYPE_CHECKING, ClassVar

if TYPE_CHECKING:
    from cloudmesh.cdir.service.control import ServiceApi


class FrontDoorApi:
    """The front door's own commands."""

    usage_groups: ClassVar[Mapping[str, str]] = {"service": "cloudmesh.cdir.service.control:ServiceApi"}

    @cached_property
    def service(self) -> ServiceApi:
        """The REST service: ``cdir service …``."""
        from cloudmesh.cdir.service.control import ServiceApi

        return ServiceApi()
