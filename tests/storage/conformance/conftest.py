"""The suite that every provider passes on real servers.

A case asks for ``storage`` and ``place``; ``@pytest.mark.needs(...)`` names the capabilities without which it makes no
sense. A provider on a further server is one more entry in `targets.TARGETS`.
"""

from __future__ import annotations

import itertools
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from cloudmesh.storage.abc import ServiceSettings, StorageABC, Timeouts
from cloudmesh.storage.layers import Retry, RetryPolicy
from tests.storage.conformance.table import PROPERTY
from tests.storage.conformance.targets import TARGETS, InBucket, OnDisk, Outside, Target, make_provider

_HERE = Path(__file__).parent
_counter = itertools.count()


# ---- fixtures -----------------------------------------------------------------------------------------------------


@pytest.fixture(scope="session", params=TARGETS, ids=lambda target: target.id)
def target(request: pytest.FixtureRequest) -> Target:
    chosen: Target = request.param
    return chosen


@dataclass
class Service:
    """The server behind a target.

    Attributes:
        settings: makes settings for it; ``root``, ``port`` and credentials can be replaced.
        outside: looks at what lies below the root of ``settings()``.
        port: where it listens; 0 for the local disk.
        server: of `deploy.servers`; None for the local disk.
    """

    settings: Callable[..., ServiceSettings]
    outside: Outside
    port: int = 0
    server: Any = None


@pytest.fixture(scope="session")
def service(request: pytest.FixtureRequest, target: Target, tmp_path_factory: pytest.TempPathFactory) -> Service:
    if not target.fixture:
        root = tmp_path_factory.mktemp("local")

        def settings(name: str = "disk", root_directory: Path = root, *, root: str = "") -> ServiceSettings:
            return ServiceSettings(name, "local", root=root, credentials={"directory": str(root_directory)})

        return Service(settings, OnDisk(root))
    server = request.getfixturevalue(target.fixture)

    def of_server(name: str = target.provider, **changes: Any) -> ServiceSettings:
        made: ServiceSettings = server.settings(name, **changes)
        return made

    if target.provider != "awss3":
        return Service(of_server, OnDisk(server.data), server.port, server)
    if target.fixture == "rclone_s3":
        return Service(of_server, OnDisk(server.data / server.bucket), server.port, server)
    return Service(of_server, InBucket(server.client(), server.bucket), server.port, server)


@pytest.fixture(scope="session")
def storage(service: Service) -> Iterator[StorageABC]:
    """The provider, one object for all cases, with the layer that repeats what failed for a passing reason.

    So do its users have it: a server may close an idle connection, or be busy for a moment. `make` gives it bare.
    """
    provider = make_provider(service.settings())
    provider.probe()  # some learn only from an answer what the server can do
    yield Retry(provider, RetryPolicy(attempts=4, base_seconds=0.05))
    provider.close()


@pytest.fixture
def place() -> str:
    """A directory of this case's own, which does not exist yet."""
    return f"case-{os.getpid()}-{next(_counter)}"


@pytest.fixture
def outside(service: Service) -> Outside:
    return service.outside


@pytest.fixture
def make(service: Service) -> Iterator[Callable[..., StorageABC]]:
    """Make a provider of one's own, with other settings or other timeouts (in seconds)."""
    made = []

    def maker(*, timeout: float | None = None, **changes: Any) -> StorageABC:
        settings = service.settings(**changes)
        if timeout is not None:
            settings = replace(settings, timeouts=Timeouts(connect=timeout, read=timeout))
        made.append(make_provider(settings))
        return made[-1]

    yield maker
    for provider in made:
        provider.close()


# ---- which case for which target ----------------------------------------------------------------------------------


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "needs(*features): capabilities without which the case makes no sense")
    config.addinivalue_line("markers", "lacks(*features): capabilities with which the case makes no sense")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    kept, left_out = [], []
    for item in items:
        callspec = getattr(item, "callspec", None)
        target = callspec.params.get("target") if callspec and _HERE in item.path.parents else None
        if isinstance(target, Target):
            item.user_properties.append((PROPERTY, target.id))
            needed = {name for mark in item.iter_markers("needs") for name in mark.args}
            unwanted = {name for mark in item.iter_markers("lacks") for name in mark.args}
            case = item.name.replace(f"{target.id}-", "").replace(f"[{target.id}]", "")
            if (
                not needed <= target.features
                or unwanted & target.features
                or any(case.startswith(quirk) for quirk in target.quirks)
            ):
                left_out.append(item)
                continue
        kept.append(item)
    if left_out:
        config.hook.pytest_deselected(items=left_out)
        items[:] = kept
