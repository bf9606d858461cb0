"""A service that fails is out of use for a while: others are read, it is not written to, and it comes back."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from cloudmesh.cdir.main import CDIR
from cloudmesh.storage import Storage
from cloudmesh.storage.abc import StorageABC
from cloudmesh.storage.database import Database
from cloudmesh.storage.errors import AuthenticationFailed, Unavailable
from cloudmesh.storage.health import LIMIT, Health
from cloudmesh.storage.layers import Meter, Retry, RetryPolicy, find_layer
from cloudmesh.storage.services import Services
from cloudmesh.vdir import Vdir
from deploy.servers import StorageServer, Wsgidav
from tests.faults import FaultProxy
from tests.places import configure, local, write_tree

FILES = {f"f{i:02}": b"%d" % i for i in range(LIMIT + 5)}


@pytest.fixture
def services() -> Iterator[Services]:
    """Services that are asked once only."""
    opened = Services()
    plain = opened.open

    def impatient(name: str) -> StorageABC:
        service = plain(name)
        retry = find_layer(service, Retry)
        assert retry is not None
        retry.policy = RetryPolicy(attempts=1)
        return service

    opened.open = impatient  # type: ignore[method-assign]
    yield opened
    opened.close()


@pytest.fixture
def server(server_directory: Path, home: Path, tmp_path: Path) -> Iterator[Wsgidav]:
    """A server of the test's own, to be stopped; the services are ``dav`` on it, and ``one`` on the local disk."""
    with Wsgidav(server_directory / tmp_path.name) as running:
        configure(home, [running.settings("dav"), local("one", tmp_path / "one")])
        yield running


def requests(services: Services) -> int:
    meter = find_layer(services.open("dav"), Meter)
    assert meter is not None
    return meter.snapshot().total.requests


def test_a_stopped_server_is_put_out_of_use_and_returns(
    server: Wsgidav, services: Services, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    source = str(write_tree(tmp_path / "source", FILES))
    with Vdir(services=services) as vdir:
        vdir.put(source, "/data", to=["dav", "one"], recursive=True)
        vdir.put(f"{source}/f00", "/only-there", to=["dav"])
        vdir.prefer("/", ["dav"])
    server.stop()
    with Vdir(services=services) as vdir:
        assert vdir.put(source, "/more", to=["dav"], recursive=True).errors == len(FILES)
        first = vdir.why("/data/f00")
        assert [(one.service, one.rank) for one in first] == [("one", 1), ("dav", 2)]
        assert "dav is avoided: the service is out of use until" in first[0].reason
        assert "out of use until" in first[1].reason
        assert {one.service: bool(one.outage) for one in vdir.status("/data/f00").replicas} == {
            "one": False,
            "dav": True,
        }
        assert {one.service for one in vdir.status("/data").services if one.outage} == {"dav"}
        before = requests(services)
        assert vdir.get("/data", str(tmp_path / "back"), recursive=True).files == len(FILES)
        report = vdir.put(source, "/again", to=["dav"], recursive=True)
        assert report.errors == len(FILES)
        assert "out of use until" in report.failures[0].error
        assert "cms storage measure dav tries it now" in report.failures[0].error
        assert requests(services) == before, "it was asked nothing"
        with pytest.raises(Unavailable):
            vdir.get("/only-there", str(tmp_path / "there"))
        assert requests(services) > before, "the last resort is tried"
    assert CDIR.run(["status", "/data/f00"]) == 0
    assert "out of use until" in capfd.readouterr().out
    with Storage(services=services) as storage:
        assert storage.measure("dav")[0].failed
        server.start()
        with Vdir(services=services) as vdir:
            assert b"".join(vdir.cat("/only-there")) == FILES["f00"], "the last resort works, and so it is in use again"
        with Vdir(services=services) as vdir:
            assert vdir.why("/data/f00")[0].service == "dav"
            report = vdir.put(source, "/again", to=["dav"], recursive=True)
            assert (report.files, report.errors) == (len(FILES), 0), report.failures


@pytest.mark.parametrize("kind", ["seaweedfs", "wsgidav", "openssh"])
def test_not_each_file_of_a_batch_waits_for_a_service_that_hangs(
    kind: str,
    home: Path,
    tmp_path: Path,
    services: Services,
    fault_proxy: Callable[[int], FaultProxy],
    request: pytest.FixtureRequest,
) -> None:
    server: StorageServer = request.getfixturevalue(kind)
    proxy = fault_proxy(server.port)
    far = server.settings("far", root=f"batch-{tmp_path.name}", port=proxy.port)
    configure(home, [replace(far, options={**far.options, "read_timeout": 1, "connect_timeout": 1})])
    source = str(write_tree(tmp_path / "source", {f"f{i}": b"%d" % i for i in range(40)}))
    proxy.stall(after=0, times=None)
    begin = time.monotonic()
    with Vdir(services=services) as vdir:
        assert vdir.put(source, "/t", to=["far"], recursive=True).errors == 40
    assert time.monotonic() - begin < 10
    proxy.heal()


def test_a_service_that_hangs_is_asked_twice_and_told_of(
    home: Path,
    tmp_path: Path,
    wsgidav: Wsgidav,
    fault_proxy: Callable[[int], FaultProxy],
    capfd: pytest.CaptureFixture[str],
) -> None:
    proxy = fault_proxy(wsgidav.port)
    dav = wsgidav.settings("dav", root=f"silent-{tmp_path.name}", port=proxy.port)
    configure(home, [replace(dav, options={"read_timeout": 1}), local("one", tmp_path / "one")])
    source = str(write_tree(tmp_path / "source", {"f": b"f"}) / "f")
    assert CDIR.run(["put", source, "/f", "--to=dav,one"]) == 0
    proxy.stall(after=0, times=None)
    taken = proxy.accepted
    assert CDIR.run(["sync", "/f"]) == 1
    assert proxy.accepted - taken == 2
    assert capfd.readouterr().err.count("warning: dav: the service sent nothing for 1 s; it is asked again") == 1
    proxy.heal()
    assert CDIR.run(["sync", "/f"]) == 0


def test_a_service_that_hangs_is_waited_for_once(
    home: Path, tmp_path: Path, wsgidav: Wsgidav, services: Services, fault_proxy: Callable[[int], FaultProxy]
) -> None:
    proxy = fault_proxy(wsgidav.port)
    dav = wsgidav.settings("dav", root=f"hang-{tmp_path.name}", port=proxy.port)
    configure(home, [replace(dav, options={"read_timeout": 1}), local("one", tmp_path / "one")])
    source = str(write_tree(tmp_path / "source", {f"f{i}": b"%d" % i for i in range(12)}))
    with Vdir(services=services, parallel=1) as vdir:
        vdir.put(source, "/t", to=["dav", "one"], recursive=True)
    proxy.stall(after=0, times=None)
    before = requests(services)
    with Vdir(services=services, parallel=1) as vdir:
        report = vdir.drop("/t", from_=["one"], recursive=True)
    assert (report.files, report.errors) == (0, 12)
    assert requests(services) - before == 1
    proxy.heal()
    with Vdir(services=services) as vdir:
        assert not vdir.sync("/t").failed
        assert not vdir.verify("/t").failed


@pytest.mark.parametrize(
    "command", [["storage", "measure", "dav", "--size=1K"], ["storage", "config", "test", "dav"]], ids=" ".join
)
def test_what_the_user_has_mended_is_tried_at_once(
    server: Wsgidav, command: list[str], tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    source = write_tree(tmp_path / "source", {"f": b"x"})
    with Database() as database:
        health = Health(database)
        for _ in range(LIMIT):
            health.failed("dav", AuthenticationFailed("dav:"))
        assert CDIR.run(["put", str(source / "f"), "/f", "--to=dav"]) == 1
        assert "out of use until" in capfd.readouterr().err
        assert CDIR.run(command) == 0
        assert health.outages() == {}
        assert CDIR.run(["put", str(source / "f"), "/f", "--to=dav"]) == 0
