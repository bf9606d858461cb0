"""What a principal with limits may use."""

from __future__ import annotations

from contextlib import closing

import pytest

from cloudmesh.cdir.service.security.limited import services_for
from cloudmesh.cdir.service.security.principal import SCOPES, Principal
from cloudmesh.storage.errors import PermissionDenied
from cloudmesh.storage.services import Services

ALL = frozenset(SCOPES)


@pytest.mark.parametrize(
    ("path", "expected"),
    [("run7", True), ("run7/a", True), ("run7/a/b", True), ("", False), ("run70", False), ("other", False)],
)
def test_a_prefix(path: str, expected: bool) -> None:
    Principal("all", ALL).check_path(path)
    principal = Principal("limited", ALL, prefix="run7")
    if expected:
        principal.check_path(path)
    else:
        with pytest.raises(PermissionDenied):
            principal.check_path(path)


def test_no_default_and_no_rule_opens_another_service() -> None:
    with closing(Services()) as services:
        limited = services_for(Principal("limited", ALL, services=frozenset({"aws"})), services)
        with pytest.raises(PermissionDenied):
            limited.open("local")
        assert services_for(Principal("all", ALL), services) is services
        also = services_for(Principal("limited", ALL, services=frozenset({"local"})), services)
        assert also.open("local") is services.open("local")
        also.close()
        assert services.opened()
