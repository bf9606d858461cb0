"""The same plan on a Dask cluster: schedulers and workers are processes, started as a user starts them."""

from __future__ import annotations

import json
import os
import pickle
import socket
import subprocess
import sys
import sysconfig
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, closing, suppress
from importlib.metadata import version
from pathlib import Path
from typing import Any, Self

import pytest
import trustme

from cloudmesh.storage import errors
from cloudmesh.storage.abc import Entry, ServiceSettings
from cloudmesh.storage.api import Storage
from cloudmesh.storage.errors import (
    AuthenticationFailed,
    ConfigError,
    MissingExtra,
    StorageError,
    Unavailable,
    UsageError,
)
from cloudmesh.storage.paths import TEMPORARY_PREFIX
from cloudmesh.storage.services import Services
from cloudmesh.storage.transfer import batch, cluster, workers
from cloudmesh.storage.transfer.events import Event, Observer, nobody
from cloudmesh.storage.transfer.journal import Journal
from cloudmesh.storage.transfer.options import TransferOptions
from cloudmesh.storage.transfer.plan import Step
from cloudmesh.storage.transfer.report import Report
from cloudmesh.storage.transfer.transfer import Side, Transfer
from deploy.servers import SeaweedFS, free_port
from tests.places import configure, local, read_tree, write_tree

FILES = {f"d{number % 7}/file {number}": f"content {number} ".encode() * 40 for number in range(600)}
LEFT = "len(__import__('sys').modules['cloudmesh.storage.transfer.batch']._KNOWN)"
SPY = """
import pickle
from distributed.diagnostics.plugin import SchedulerPlugin

class Spy(SchedulerPlugin):
    def __init__(self, scheduler):
        self.scheduler = scheduler

    def transition(self, key, start, finish, *args, **kwargs):
        task = self.scheduler.tasks.get(key)
        if task is not None:
            print("SPY", key, task, pickle.dumps(task.run_spec), task.annotations, flush=True)

def dask_setup(scheduler):
    scheduler.add_plugin(Spy(scheduler))
"""


class Dask:
    """A scheduler and its workers, each a process of its own; logs are kept."""

    def __init__(self, folder: Path, protocol: str = "tcp", environment: Mapping[str, str] | None = None) -> None:
        folder.mkdir(parents=True)
        self.folder = folder
        self._port = free_port()
        self._address = f"{protocol}://127.0.0.1:{self._port}"
        self.workers: list[subprocess.Popen[bytes]] = []
        self._environment = dict(environment or {})
        (folder / "spy.py").write_text(SPY, "utf-8")
        self.scheduler = self._start(
            "scheduler",
            f"--protocol={protocol}",
            "--host=127.0.0.1",
            f"--port={self._port}",
            f"--preload={folder / 'spy.py'}",
        )

    @property
    def address(self) -> str:
        """Of the scheduler, once it listens."""
        end = time.monotonic() + 60
        while True:
            with suppress(ConnectionRefusedError), socket.create_connection(("127.0.0.1", self._port)):
                return self._address
            assert self.scheduler.poll() is None, self.logs()
            assert time.monotonic() < end, self.logs()
            time.sleep(0.05)

    def add_worker(self, home: Path, python: tuple[str, ...] = (sys.executable,), **environment: str) -> Self:
        """Start a worker whose configuration is in ``home``."""
        options = ["--no-nanny", "--nthreads=1", "--host=127.0.0.1", f"--local-directory={self.folder}"]
        started = self._start(
            "worker", self._address, *options, python=python, CLOUDMESH_CONFIG_DIR=str(home), **environment
        )
        self.workers.append(started)
        return self

    def logs(self) -> str:
        return "".join(log.read_text("utf-8", "replace") for log in self.folder.glob("*.log"))

    def stop(self) -> None:
        for process in (*self.workers, self.scheduler):
            process.kill()
        for process in (*self.workers, self.scheduler):
            process.wait()

    def _start(
        self, what: str, *options: str, python: tuple[str, ...] = (sys.executable,), **environment: str
    ) -> subprocess.Popen[bytes]:
        with open(self.folder / f"{what}-{len(self.workers)}.log", "wb") as log:
            return subprocess.Popen(
                [*python, "-m", "dask", what, *options, "--no-dashboard"],
                cwd=self.folder,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env={**os.environ, **self._environment, **environment},
            )


class Replacement:
    """Observes a run: once a file is done, the last worker is killed, and another started."""

    def __init__(self, dask: Dask, home: Path) -> None:
        self._dask = dask
        self._home = home
        self._replaced = False

    def __call__(self, event: Event) -> None:
        if event.kind == "done" and not self._replaced:
            self._replaced = True
            self._dask.workers[-1].kill()
            self._dask.add_worker(self._home)


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[..., Dask]]:
    """Starts clusters that end with the test."""
    with ExitStack() as stack:

        def begin(**options: Any) -> Dask:
            dask = Dask(tmp_path / f"dask-{free_port()}", **options)
            stack.callback(dask.stop)
            return dask

        yield begin


@pytest.fixture(scope="module")
def places(seaweedfs: SeaweedFS, tmp_path_factory: pytest.TempPathFactory) -> list[ServiceSettings]:
    """What this computer and good workers have configured: two directories that all share, and S3."""
    shared = tmp_path_factory.mktemp("shared")
    return [
        local("share", shared / "share"),
        local("other", shared / "other"),
        seaweedfs.settings("aws", root="cluster"),
    ]


@pytest.fixture(scope="module")
def worker_home(places: list[ServiceSettings], tmp_path_factory: pytest.TempPathFactory) -> Path:
    home = tmp_path_factory.mktemp("worker")
    configure(home, places)
    return home


@pytest.fixture(scope="module")
def dask(worker_home: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Dask]:
    """Two good workers."""
    dask = Dask(tmp_path_factory.mktemp("cluster") / "dask").add_worker(worker_home).add_worker(worker_home)
    yield dask
    dask.stop()


@pytest.fixture(autouse=True)
def configured(home: Path, places: list[ServiceSettings]) -> None:
    configure(home, places)


def root(places: list[ServiceSettings], name: str) -> Path:
    return next(Path(one.root) for one in places if one.name == name)


def sync(source: str, destination: str, dask: Dask, observer: Observer = nobody, **options: Any) -> Report:
    with Storage(observer=observer) as storage:
        done = storage.sync(source, destination, options=TransferOptions(cluster=dask.address, **options))
    assert isinstance(done, Report)
    return done


def on_s3(server: SeaweedFS, top: str) -> dict[str, bytes]:
    client, prefix = server.client(), f"cluster/{top}/"
    listed = client.get_paginator("list_objects_v2").paginate(Bucket=server.bucket, Prefix=prefix)
    keys = [one["Key"] for page in listed for one in page.get("Contents", []) if not one["Key"].endswith("/")]
    return {key.removeprefix(prefix): client.get_object(Bucket=server.bucket, Key=key)["Body"].read() for key in keys}


def files_of(directory: Path) -> dict[str, bytes]:
    """Return its files, without what a killed process has left, which nobody sees and a later run removes."""
    return {name: data for name, data in read_tree(directory).items() if TEMPORARY_PREFIX not in name}


def known(source: str, destination: str) -> int:
    """Return how many files the journal holds for two directories."""
    with Storage() as storage:
        sides = [storage._side(source), storage._side(destination)]
        places = [side.service.identity(side.path) for side in sides]
    with closing(Journal(*places)) as journal:
        return len([*journal.known()])


# ---- what it is for -----------------------------------------------------------------------------------------------


def test_a_tree_goes_from_a_shared_directory_to_s3_and_on(
    dask: Dask, places: list[ServiceSettings], seaweedfs: SeaweedFS
) -> None:
    share = write_tree(root(places, "share") / "tree", {**FILES, "large": b"0123456789" * 300_000})
    (share / "empty").mkdir()
    events: Counter[tuple[str, str]] = Counter()
    report = sync("share:tree", "aws:tree", dask, lambda event: events.update([(event.kind, event.name)]))
    assert (report.files, report.errors, report.skipped) == (601, 0, 0)
    assert report.bytes == sum(map(len, read_tree(share).values()))
    assert on_s3(seaweedfs, "tree") == read_tree(share)
    assert all(events["planned", f"share:tree/{name}"] == events["done", f"share:tree/{name}"] == 1 for name in FILES)
    assert known("share:tree", "aws:tree") == 601

    again = sync("share:tree", "aws:tree", dask)
    assert (again.files, again.skipped) == (0, 601)

    report = sync("aws:tree", "other:tree", dask)
    assert report.files == 601
    assert (root(places, "other") / "tree/empty").is_dir()
    assert read_tree(root(places, "other") / "tree") == read_tree(share)
    within = sync("aws:tree", "aws:copy", dask)
    assert within.files == 601
    assert on_s3(seaweedfs, "copy") == read_tree(share)
    assert [path for path in root(places, "share").iterdir() if path.name != "tree"] == []
    assert seaweedfs.secret_access_key not in dask.logs()
    assert dask.logs().count("cdir-batch") > 4


def test_progress_of_a_large_file_comes_back(dask: Dask, places: list[ServiceSettings]) -> None:
    write_tree(root(places, "share") / "large", {"file": b"0" * 12_000_000})
    events: list[Event] = []
    report = sync("share:large", "other:large", dask, events.append, bwlimit="6M")
    assert report.bytes == 12_000_000
    kinds = [event.kind for event in events]
    assert kinds.index("planned") < kinds.index("started") < kinds.index("moved") < kinds.index("done")
    assert kinds.count("moved") >= 2
    assert {event.name for event in events if event.kind != "planned_all"} == {"share:large/file"}
    assert 0 < sum(event.size for event in events if event.kind == "moved") <= 12_000_000


def test_one_file(dask: Dask, places: list[ServiceSettings]) -> None:
    write_tree(root(places, "share") / "single", {"a": b"alpha"})
    assert sync("share:single/a", "other:single/", dask).files == 1
    assert read_tree(root(places, "other") / "single") == {"a": b"alpha"}


def test_files_are_compared_by_the_workers(dask: Dask, places: list[ServiceSettings]) -> None:
    one, other = root(places, "share") / "compared", root(places, "other") / "compared"
    write_tree(one, {"same": b"11", "differs": b"22", "new": b"33", "kept": b"4"})
    write_tree(other, {"same": b"11", "differs": b"xx", "kept": b"4"})
    report = sync("share:compared", "other:compared", dask, checksum=True, backup_dir="before")
    assert (report.files, report.skipped, report.errors) == (2, 2, 0)
    assert read_tree(other) == read_tree(one)
    assert read_tree(root(places, "other") / "before") == {"differs": b"xx"}
    write_tree(one, {"same": b"12"})
    report = sync("share:compared", "other:compared", dask, checksum=True, immutable=True)
    assert [failure.name for failure in report.failures] == ["share:compared/same"]
    assert read_tree(other)["same"] == b"11"


@pytest.mark.parametrize("there", [{}, {"a": b"xx", "b": b"xx", "c": b"xx"}], ids=["new", "compared"])
def test_limit_of_bytes_holds(dask: Dask, places: list[ServiceSettings], there: dict[str, bytes]) -> None:
    top = f"limit{len(there)}"
    write_tree(root(places, "share") / top, {"a": b"11", "b": b"22", "c": b"33"})
    write_tree(root(places, "other") / top, there)
    report = sync(f"share:{top}", f"other:{top}", dask, checksum=bool(there), max_transfer=4)
    assert (report.files, report.bytes, report.errors) == (2, 4, 1)
    assert "--max-transfer: the limit of 4 bytes is reached" in report.failures[0].error
    report = sync(f"share:{top}", f"other:{top}", dask, checksum=bool(there))
    assert (report.files, report.skipped) == (1, 2)


def test_mirror_removes_what_the_source_does_not_have(dask: Dask, places: list[ServiceSettings]) -> None:
    write_tree(root(places, "share") / "mirror", {"a": b"1", "b": b"2"})
    write_tree(root(places, "other") / "mirror", {"a": b"old", "gone": b"x"})
    report = sync("share:mirror", "other:mirror", dask, delete=True)
    assert (report.files, report.removed) == (2, 1)
    assert read_tree(root(places, "other") / "mirror") == {"a": b"1", "b": b"2"}


def test_a_dry_run_needs_no_cluster(dask: Dask, places: list[ServiceSettings], dead_port: int) -> None:
    write_tree(root(places, "share") / "dry", {"a": b"1"})
    options = TransferOptions(cluster=f"tcp://127.0.0.1:{dead_port}")
    with Storage() as storage:
        report = storage.copy("share:dry", "other:dry", recursive=True, dryrun=True, options=options)
    assert report.files == 1
    assert not (root(places, "other") / "dry").exists()


def test_errors_of_files_come_back_as_they_are(dask: Dask, places: list[ServiceSettings]) -> None:
    write_tree(root(places, "share") / "wrong", {"a": b"1", "name\udcff": b"2", "directory": b"3"})
    (root(places, "other") / "wrong/directory").mkdir(parents=True)
    report = sync("share:wrong", "aws:wrong", dask)
    assert (report.files, report.errors) == (2, 1)
    assert report.failures[0].error.endswith("the name is not Unicode text")
    report = sync("share:wrong", "other:wrong", dask)
    assert sorted(one.error for one in report.failures) == [
        "other:wrong/directory: is a directory",
        "other:wrong/name\udcff: the name is not Unicode text",
    ]


def test_the_user_ends_a_run_and_goes_on(dask: Dask, places: list[ServiceSettings]) -> None:
    write_tree(root(places, "share") / "stop", FILES)
    done: list[str] = []
    options = TransferOptions(cluster=dask.address, transactions=200)
    with closing(Services()) as services:
        origin, target = (Side(services.open(name), "stop", True) for name in ("share", "other"))

        def observe(event: Event) -> None:
            if event.kind == "done":
                done.append(event.name)

        report = Transfer(
            "sync", origin, target, Entry("stop", True), options, observer=observe, stop=lambda: bool(done)
        ).run()
    assert report.stopped
    assert 0 < report.files < 600
    assert len(read_tree(root(places, "other") / "stop")) == report.files
    again = sync("share:stop", "other:stop", dask)
    assert (again.files, again.skipped) == (600 - report.files, report.files)


# ---- what is lost -------------------------------------------------------------------------------------------------


def test_the_batch_of_a_killed_worker_is_done_again(
    start: Callable[..., Dask], worker_home: Path, places: list[ServiceSettings], seaweedfs: SeaweedFS
) -> None:
    dask = start().add_worker(worker_home).add_worker(worker_home)
    share = write_tree(root(places, "share") / "killed", FILES)
    done: Counter[str] = Counter()

    def observe(event: Event) -> None:
        if event.kind == "done":
            if not done:
                dask.workers[0].kill()
                dask.workers[0].wait()
            done[event.name] += 1

    report = sync("share:killed", "aws:killed", dask, observe, transactions=300)
    assert (report.files, report.errors, report.bytes) == (600, 0, sum(map(len, FILES.values())))
    assert set(done.values()) == {1}
    assert len(done) == 600
    assert on_s3(seaweedfs, "killed") == read_tree(share)
    assert known("share:killed", "aws:killed") == 600
    again = sync("share:killed", "aws:killed", dask)
    assert (again.files, again.skipped) == (0, 600)


@pytest.mark.parametrize("dies", ["workers", "scheduler"])
def test_a_lost_cluster_ends_the_run_and_another_goes_on(
    start: Callable[..., Dask],
    worker_home: Path,
    places: list[ServiceSettings],
    dask: Dask,
    monkeypatch: pytest.MonkeyPatch,
    dies: str,
) -> None:
    monkeypatch.setattr(cluster, "NO_WORKERS_S", 1.0)
    lost = start().add_worker(worker_home)
    top = f"lost {dies}"
    write_tree(root(places, "share") / top, FILES)
    killed: list[float] = []

    def observe(event: Event) -> None:
        if event.kind == "done" and not killed:
            (lost.workers[0] if dies == "workers" else lost.scheduler).kill()
            killed.append(time.monotonic())

    report = sync(f"share:{top}", f"other:{top}", lost, observe, transactions=200)
    assert time.monotonic() - killed[0] < 15
    assert report.failed
    assert 0 < report.files < 600
    expected = "the cluster has lost all its workers" if dies == "workers" else "the scheduler is gone"
    assert report.errors == 1
    assert expected in report.failures[0].error
    again = sync(f"share:{top}", f"other:{top}", dask)
    assert again.files + again.skipped == 600
    assert again.skipped >= report.files
    assert files_of(root(places, "other") / top) == FILES


def test_a_batch_that_is_done_again_keeps_the_backup(dask: Dask, places: list[ServiceSettings]) -> None:
    from distributed import Client

    write_tree(root(places, "share") / "again", {"a": b"new", "b": b"new b"})
    write_tree(root(places, "other") / "again", {"a": b"old", "b": b"old b"})
    with closing(Services()) as services, Client(dask.address, set_as_default=False) as client:
        share, other = services.open("share"), services.open("other")
        paths = ["again/a", "again/b"]
        steps = [Step("copy", path.encode(), share.stat(path), path, other.stat(path)) for path in paths]
        packed = [batch.pack_step(step) for step in steps]
        for run in ("first", "again"):
            one, two = (batch.Place(name, batch.sign_of_directory(root(places, name))) for name in ("share", "other"))
            ours = version(batch.DISTRIBUTION)
            order = batch.Order(run, ours, one, two, {"backup_dir": "kept"}, "again", None, 1)
            ends = client.submit(batch.do_batch, order, 1, False, packed, pure=False).result(20)
            assert dict(ends) == dict(enumerate(map(other.stat, paths)))
            client.run(batch.forget, run)
    assert read_tree(root(places, "other") / "again") == {"a": b"new", "b": b"new b"}
    assert read_tree(root(places, "other") / "kept") == {"a": b"old", "b": b"old b"}


# ---- credentials --------------------------------------------------------------------------------------------------


def test_a_worker_with_wrong_credentials_is_named_before_anything_is_moved(
    start: Callable[..., Dask], worker_home: Path, places: list[ServiceSettings], seaweedfs: SeaweedFS, tmp_path: Path
) -> None:
    wrong = tmp_path / "wrong"
    wrong.mkdir()
    bad = seaweedfs.settings("aws", root="cluster", secret_access_key="not the secret")
    configure(wrong, [*places[:2], bad])
    dask = start().add_worker(worker_home).add_worker(wrong)
    wait_for_workers(dask, 2)
    write_tree(root(places, "share") / "credentials", {"a": b"1"})
    with pytest.raises(AuthenticationFailed, match=r"^worker tcp://127\.0\.0\.1:\d+: aws: "):
        sync("share:credentials", "aws:credentials", dask)
    assert on_s3(seaweedfs, "credentials") == {}
    assert "not the secret" not in dask.logs()


def test_secrets_do_not_travel_without_tls(
    start: Callable[..., Dask], worker_home: Path, places: list[ServiceSettings], seaweedfs: SeaweedFS, tmp_path: Path
) -> None:
    bare = tmp_path / "bare"
    bare.mkdir()
    configure(bare, places[:1])
    dask = start().add_worker(bare)
    write_tree(root(places, "share") / "plain", {"a": b"1"})
    with pytest.raises(ConfigError) as caught:
        sync("share:plain", "aws:plain", dask)
    assert "aws is not configured there, and settings with their secrets are sent over TLS alone" in str(caught.value)
    assert "cms storage config add aws" in caught.value.hint
    assert on_s3(seaweedfs, "plain") == {}
    assert seaweedfs.secret_access_key not in dask.logs()

    # nor to one that comes later: it is the only one when the other is killed
    dask.workers[0].kill()
    dask.workers[0].wait()
    dask.add_worker(worker_home)
    write_tree(root(places, "share") / "plain", FILES)
    report = sync("share:plain", "aws:plain", dask, Replacement(dask, bare), transactions=300)
    assert 0 < report.files < 600
    assert [one.error for one in report.failures if "are sent over TLS alone" in one.error]
    assert len(on_s3(seaweedfs, "plain")) >= report.files


def test_workers_without_configuration_are_lent_it_over_tls(
    start: Callable[..., Dask], places: list[ServiceSettings], seaweedfs: SeaweedFS, tmp_path: Path
) -> None:
    import dask.config

    authority = trustme.CA()
    certificate = authority.issue_cert("127.0.0.1")
    authority.cert_pem.write_to_path(tmp_path / "ca.pem")
    certificate.private_key_and_cert_chain_pem.write_to_path(tmp_path / "both.pem")
    (tmp_path / "both.pem").chmod(0o600)
    ca, both = str(tmp_path / "ca.pem"), str(tmp_path / "both.pem")
    prefix = "DASK_DISTRIBUTED__COMM__TLS__"
    environment = {f"{prefix}CA_FILE": ca} | {f"{prefix}{who}__CERT": both for who in ("SCHEDULER", "WORKER")}
    bare = tmp_path / "bare"
    bare.mkdir()
    cluster_ = start(protocol="tls", environment=environment).add_worker(bare)
    share = write_tree(root(places, "share") / "tls", FILES)
    with pytest.raises(ConfigError, match=r"distributed\.comm\.tls"):
        sync("share:tls", "aws:tls", cluster_)
    with dask.config.set({"distributed.comm.tls.ca-file": ca, "distributed.comm.tls.client.cert": both}):
        report = sync("share:tls", "aws:tls", cluster_, Replacement(cluster_, bare), transactions=400)
        assert (report.files, report.errors) == (600, 0)
        assert on_s3(seaweedfs, "tls") == read_tree(share)
        from distributed import Client

        with Client(cluster_.address, set_as_default=False) as client:
            # nothing of it is left in the workers' processes
            assert set(client.run(eval, LEFT).values()) == {0}
    logs = cluster_.logs()
    assert logs.count("SPY cdir-batch") >= 3
    assert len(cluster_.workers) == 2  # the second came when the run was under way
    assert "lend" in logs  # the worker writes which functions it was asked to call
    for secret in (seaweedfs.secret_access_key, seaweedfs.access_key_id):
        assert secret not in logs


# ---- what is refused before anything is moved -----------------------------------------------------------------------


def wait_for_workers(dask: Dask, count: int) -> None:
    from distributed import Client

    with Client(dask.address, set_as_default=False) as client:
        client.wait_for_workers(count, timeout=20)


def test_a_name_that_means_another_place_is_refused(
    start: Callable[..., Dask], worker_home: Path, places: list[ServiceSettings], seaweedfs: SeaweedFS, tmp_path: Path
) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    configure(elsewhere, [local("share", tmp_path / "own"), places[1], seaweedfs.settings("aws", root="other-root")])
    dask = start().add_worker(elsewhere)
    write_tree(tmp_path / "own/place", {"a": b"another file of this name"})
    write_tree(root(places, "share") / "place", {"a": b"1"})
    write_tree(root(places, "other") / "place", {"a": b"1"})
    with pytest.raises(ConfigError, match=r"share: on this worker .* is another directory"):
        sync("share:place", "other:place2", dask)
    with pytest.raises(ConfigError, match="aws: on this worker the name means another place"):
        sync("other:place", "aws:place", dask)
    assert on_s3(seaweedfs, "place") == {}
    assert not (root(places, "other") / "place2").exists()


def test_a_directory_that_cannot_be_written_to_is_known_by_its_inode(
    dask: Dask, places: list[ServiceSettings], monkeypatch: pytest.MonkeyPatch
) -> None:
    write_tree(root(places, "share") / "readonly", {"a": b"1"})
    touch = Path.touch

    def refuse(path: Path, *arguments: Any, **options: Any) -> None:
        if path.parent == root(places, "share"):  # as a read-only mount does, which root may not make here
            raise PermissionError(path)
        touch(path, *arguments, **options)

    monkeypatch.setattr(Path, "touch", refuse)
    assert sync("share:readonly", "other:readonly", dask).files == 1


def test_a_worker_with_another_version_is_refused(
    start: Callable[..., Dask], worker_home: Path, places: list[ServiceSettings], tmp_path: Path
) -> None:
    metadata = tmp_path / "packages/cloudmesh_vdir-0.0.1.dist-info/METADATA"
    metadata.parent.mkdir(parents=True)
    metadata.write_text("Metadata-Version: 2.1\nName: cloudmesh-vdir\nVersion: 0.0.1\n", "utf-8")
    dask = start().add_worker(worker_home, PYTHONPATH=str(tmp_path / "packages"))
    write_tree(root(places, "share") / "version", {"a": b"1"})
    with pytest.raises(ConfigError, match=r"^worker tcp://.*: cloudmesh-vdir is 0\.0\.1 there and .* here"):
        sync("share:version", "other:version", dask)


def test_a_worker_without_the_package_is_refused(
    start: Callable[..., Dask], worker_home: Path, places: list[ServiceSettings], tmp_path: Path
) -> None:
    packages = tmp_path / "packages"
    packages.mkdir()
    for path in Path(sysconfig.get_path("purelib")).iterdir():
        if "cloudmesh" not in path.name:
            (packages / path.name).symlink_to(path)
    dask = start().add_worker(worker_home, (sys.executable, "-S"), PYTHONPATH=str(packages))
    write_tree(root(places, "share") / "package", {"a": b"1"})
    with pytest.raises(ConfigError, match=r"^worker tcp://.*: cloudmesh-vdir is not installed there \(pip install"):
        sync("share:package", "other:package", dask)


def test_nobody_at_the_address(dead_port: int, places: list[ServiceSettings]) -> None:
    begin = time.monotonic()
    write_tree(root(places, "share") / "nobody", {"a": b"1"})
    options = TransferOptions(cluster=f"tcp://127.0.0.1:{dead_port}")
    with Storage() as storage, pytest.raises(Unavailable, match=r"nobody listens there \(Connection refused\)"):
        storage.sync("share:nobody", "other:nobody", options=options)
    assert time.monotonic() - begin < 5


def test_a_cluster_without_workers(
    start: Callable[..., Dask], places: list[ServiceSettings], monkeypatch: pytest.MonkeyPatch
) -> None:
    dask = start()
    write_tree(root(places, "share") / "empty", {"a": b"1"})
    monkeypatch.setattr(workers, "CONNECT_S", 5.0)
    with pytest.raises(Unavailable, match=r"the cluster has no workers \(start some: dask worker tcp://"):
        sync("share:empty", "other:empty", dask)


def test_files_of_this_computer_are_refused(dead_port: int, tmp_path: Path) -> None:
    write_tree(tmp_path / "mine", {"a": b"1"})
    options = TransferOptions(cluster=f"tcp://127.0.0.1:{dead_port}")
    with Storage() as storage:
        with pytest.raises(UsageError, match=r"^--cluster: .*mine is on this computer, where the workers"):
            storage.put(str(tmp_path / "mine"), "other:mine", recursive=True, options=options)
        write_tree(tmp_path / "mine", {"a": b"1"})
        with pytest.raises(UsageError, match="is on this computer"):
            storage.sync(str(tmp_path / "mine"), "other:mine", options=options)


def test_without_dask_the_extra_is_named(
    dead_port: int, places: list[ServiceSettings], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "distributed", None)
    write_tree(root(places, "share") / "extra", {"a": b"1"})
    options = TransferOptions(cluster=f"tcp://127.0.0.1:{dead_port}")
    with Storage() as storage, pytest.raises(MissingExtra) as caught:
        storage.sync("share:extra", "other:extra", options=options)
    assert caught.value.hint == "pip install 'cloudmesh-vdir[cluster]'"


def test_dask_is_imported_only_for_a_cluster() -> None:
    code = "import sys, cloudmesh.storage.api, cloudmesh.storage.transfer.cluster; print('dask' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"


# ---- what travels -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "kind",
    [one for one in vars(errors).values() if isinstance(one, type) and issubclass(one, StorageError)],
    ids=lambda kind: kind.__name__,
)
def test_an_error_survives_the_way_back(kind: type[StorageError]) -> None:
    error = kind("aws:a\udcff", "because", "do this", retry_after=2.5)
    back = pickle.loads(pickle.dumps(error))
    assert type(back) is kind
    assert (back.subject, back.why, back.hint, back.retry_after) == ("aws:a\udcff", "because", "do this", 2.5)
    assert str(back) == str(error)


def test_a_step_survives_the_way_there() -> None:
    entry = Entry("a\udcff", False, 1, 2, 3, "etag", {"md5": "00"}, "v1")
    step = Step("copy", b"a", Entry("a"), "b", entry)
    action, key, source, destination, replaces = pickle.loads(pickle.dumps(batch.pack_step(step)))
    assert (action, key, source, destination, replaces) == ("copy", b"a", Entry("a"), "b", entry)
    assert source.hashes == {}


@pytest.mark.parametrize("address", ["tcp://head:8786", "tls://head.example.org:8786", "tcp://[::1]:8786"])
def test_a_job_keeps_the_address(address: str) -> None:
    stored = json.loads(json.dumps(TransferOptions(cluster=address).as_dict()))
    assert stored == {"cluster": address}
    assert TransferOptions.from_dict(stored).cluster == address


@pytest.mark.parametrize("address", ["", "head:8786", "tcp://head", "inproc://a:1", "tcp://me:secret@head:8786"])
def test_an_address_that_is_none(address: str) -> None:
    with pytest.raises(UsageError, match=r"allowed is tcp://HOST:PORT or tls://HOST:PORT"):
        TransferOptions(cluster=address)
