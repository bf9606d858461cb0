"""Jobs: detached work on real services, its lease, and what is asked of it from elsewhere."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from cloudmesh.storage import Storage
from cloudmesh.storage.abc import ServiceSettings
from cloudmesh.storage.database import Database
from cloudmesh.storage.errors import (
    AlreadyExists,
    InvalidName,
    NotFound,
    Refused,
    StorageError,
    UsageError,
)
from cloudmesh.storage.jobs.commands import Jobs
from cloudmesh.storage.jobs.log import MAX_BYTES, Log
from cloudmesh.storage.jobs.running import FAILURES, Running
from cloudmesh.storage.records import Job
from cloudmesh.storage.tables import job as table
from cloudmesh.storage.transfer.events import Event, nobody
from cloudmesh.storage.transfer.options import TransferOptions
from cloudmesh.storage.transfer.report import Report
from deploy.servers import SeaweedFS, Wsgidav
from tests.faults import FaultProxy
from tests.places import configure, local, read_tree, write_tree

FILES = {f"d{number % 3}/{number:03}": bytes([number]) * 2000 for number in range(60)}
MANY = {f"d{number % 3}/{number:03}": b"x" * 100 for number in range(400)}
SHORT_S = 1.5

HOLDER = f"""
import sys, time
from cloudmesh.storage.database import Database
from cloudmesh.storage.errors import StorageError
from cloudmesh.storage.jobs.commands import Jobs
from cloudmesh.storage.jobs.running import Running
from cloudmesh.storage.transfer.events import Event, nobody
from cloudmesh.storage.transfer.report import Report

with Database() as database:
    jobs = Jobs(lambda: database, {SHORT_S})
    print("ready", flush=True)
    sys.stdin.readline()
    try:
        running = Running(jobs.begin("sync", "night", {{"source": "a"}}), nobody)
        print("taken", flush=True)
        with running.kept():
            while not running.stop():
                running.observe(Event("done", "file", 1))
                time.sleep(0.02)
            running.report = Report("sync", stopped=True)
    except StorageError as error:
        print(f"refused {{error}}", flush=True)
"""


def until(question: Callable[[], bool], seconds: float = 30) -> None:
    deadline = time.monotonic() + seconds
    while not question():
        assert time.monotonic() < deadline
        time.sleep(0.03)


def ended(storage: Storage, name: str) -> Job:
    until(lambda: storage.jobs.show(name).state not in ("waiting", "running"))
    return storage.jobs.show(name)


def short(storage: Storage) -> Jobs:
    """The storage's jobs with a lease that ends soon."""
    storage.jobs = Jobs(storage.jobs._database, SHORT_S)
    return storage.jobs


@pytest.fixture(params=["sqlite", "postgresql"])
def database(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[Database]:
    if request.param == "postgresql":
        monkeypatch.setenv("CDIR_DATABASE", request.getfixturevalue("database_url"))
    with Database() as opened:
        yield opened


@pytest.fixture
def holders() -> Iterator[Callable[[], subprocess.Popen[str]]]:
    """Makes processes that take a job when told to, and keep it."""
    made = []

    def make() -> subprocess.Popen[str]:
        made.append(
            subprocess.Popen(
                [sys.executable, "-c", HOLDER], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1
            )
        )
        return made[-1]

    yield make
    for process in made:
        process.kill()
        process.communicate()


def tell(process: subprocess.Popen[str]) -> None:
    assert process.stdin is not None
    process.stdin.write("go\n")
    process.stdin.flush()


def hear(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    return process.stdout.readline().strip()


@pytest.fixture
def places(home: Path, tmp_path: Path, seaweedfs: SeaweedFS) -> Path:
    configure(home, [local("one", tmp_path / "one"), seaweedfs.settings("aws", bucket=seaweedfs.make_bucket())])
    return write_tree(tmp_path / "source", FILES)


@pytest.fixture
def storage(places: Path) -> Iterator[Storage]:
    with Storage("one") as opened:
        yield opened


@pytest.fixture
def slow(
    storage: Storage,
    places: Path,
    home: Path,
    tmp_path: Path,
    wsgidav: Wsgidav,
    fault_proxy: Callable[[int], FaultProxy],
) -> Iterator[FaultProxy]:
    """A slow way to the service dav, until it is healed, and many files to go there."""
    write_tree(places, MANY)
    proxy = fault_proxy(wsgidav.port)
    dav: ServiceSettings = wsgidav.settings("dav", root=f"run-{time.time_ns()}", port=proxy.port)
    configure(home, [local("one", tmp_path / "one"), dav])
    proxy.slow(bytes_per_second=1500)
    yield proxy
    proxy.heal()


# ---- the lease ------------------------------------------------------------------------------------------------------


def test_of_two_processes_at_once_one_wins_and_the_other_says_who(
    database: Database, holders: Callable[[], subprocess.Popen[str]]
) -> None:
    pair = [holders(), holders()]
    assert [hear(one) for one in pair] == ["ready", "ready"]
    for one in pair:
        tell(one)
    words = {hear(one): one for one in pair}
    winner = words.pop("taken")
    (refusal,) = words
    assert refusal.startswith("refused night: this job is still running")
    assert f"as process {winner.pid} on {socket.gethostname()} since 20" in refusal
    # killed, it does not give the lease back: another gets it when it has ended, and sees the job as interrupted
    jobs = Jobs(lambda: database, SHORT_S)
    winner.kill()
    winner.wait()
    with pytest.raises(AlreadyExists, match="free in"):
        jobs.begin_again("night")
    until(lambda: jobs.show("night").state == "interrupted")
    assert jobs.interrupted() == ["night"]
    jobs.begin_again("night").end("done", {}, [])
    assert jobs.show("night").state == "done"


def test_a_holder_that_was_stopped_for_too_long_writes_nothing_more(
    database: Database, holders: Callable[[], subprocess.Popen[str]]
) -> None:
    holder = holders()
    hear(holder)
    tell(holder)
    assert hear(holder) == "taken"
    jobs = Jobs(lambda: database, SHORT_S)
    until(lambda: jobs.show("night").files_done > 0)
    with database.write():  # not while it writes itself, which would keep all others out
        os.kill(holder.pid, signal.SIGSTOP)
    until(lambda: jobs.show("night").state == "interrupted")
    lease = jobs.begin_again("night")
    os.kill(holder.pid, signal.SIGCONT)
    assert f"taken over by process {os.getpid()} on" in hear(holder)
    assert holder.wait(10) == 0
    job = jobs.show("night")
    assert (job.files_done, job.pid, job.message) == (0, os.getpid(), "")
    lease.end("done", {}, [])
    with database.read() as connection:
        assert connection.execute(table.select()).one().fence == 2


def test_a_removed_job_is_not_brought_back_by_its_late_holder(database: Database) -> None:
    jobs = Jobs(lambda: database, 0.01)
    late = jobs.begin("sync", "night", {})
    until(lambda: jobs.show("night").state == "interrupted")
    jobs.remove("night")
    jobs.begin("sync", "night", {})
    with pytest.raises(Refused, match="taken over"):
        late.end("done", {}, [])
    assert jobs.show("night").state in ("running", "interrupted")


# ---- detached work --------------------------------------------------------------------------------------------------


def test_a_detached_sync_does_all_that_was_asked(storage: Storage, places: Path) -> None:
    options = TransferOptions(exclude=("d1/",))
    with Storage("one", parallel=3) as three:
        job = three.sync(str(places), "aws:tree", name="far", async_=True, options=options)
    assert isinstance(job, Job)
    done = ended(storage, "far")
    assert (done.state, done.files_done, done.files_total, done.bytes_done) == ("done", 40, 40, 80_000)
    assert (done.parallel, done.options, done.message) == (3, {"exclude": ["d1/"]}, "")
    assert {one.name.split("/")[0] for one in storage.list("aws:tree", recursive=True)} == {"d0", "d2"}
    log = b"".join(storage.jobs.log("far")).decode()
    assert "started: sync" in log
    assert "done: 40 of 40 files" in log
    assert Path(done.log).stat().st_mode & 0o777 == 0o600
    assert [one.name for one in storage.sync_status()] == ["far"]
    with pytest.raises(Refused, match="the job is done"):
        list(storage.jobs.resume("far"))
    assert [one.name for one in storage.clean(older=3600)] == []
    assert [one.name for one in storage.clean(dryrun=True)] == ["far"]
    assert [one.name for one in storage.clean()] == ["far"]
    assert not Path(done.log).exists()
    with pytest.raises(NotFound):
        storage.jobs.show("far")


def test_running_jobs_are_paused_and_cancelled_from_elsewhere_and_go_on(
    storage: Storage, places: Path, slow: FaultProxy
) -> None:
    with open(places / "d0" / "000", "rb") as file:
        os.set_inheritable(file.fileno(), True)
        storage.sync(str(places), "dav:tree", name="far", async_=True)
        storage.sync(str(places), "dav:other", name="other", async_=True)
        until(lambda: all(one.files_done > 0 for one in storage.jobs.list()))
        job = storage.jobs.show("far")
        assert job.pid is not None
        assert os.getsid(job.pid) == job.pid
        opened = {os.readlink(one) for one in Path(f"/proc/{job.pid}/fd").iterdir() if one.is_symlink()}
        assert str(places / "d0" / "000") not in opened
    with pytest.raises(AlreadyExists, match="still running, as process"):
        storage.sync(str(places), "dav:tree", name="far")
    with pytest.raises(Refused, match="cancel far ends it"):
        storage.jobs.remove("far")
    with pytest.raises(AlreadyExists):
        list(storage.run("far"))
    os.kill(job.pid, signal.SIGHUP)  # its terminal is closed
    assert storage.jobs.pause("far").requested == "pause"
    assert storage.jobs.cancel("other").requested == "cancel"
    for name, state in (("far", "paused"), ("other", "cancelled")):
        job = storage.jobs.show(ended(storage, name).name)
        assert job.state == state
        assert 0 < job.files_done < len(MANY)
    assert storage.jobs.interrupted() == []
    with pytest.raises(Refused, match="cancelled"):
        storage.jobs.pause("other")
    paused = storage.jobs.show("far")
    slow.heal()
    (resumed,) = storage.jobs.resume("far")
    assert resumed.state in ("waiting", "running")
    done = ended(storage, "far")
    assert (done.state, done.files_skipped >= paused.files_done) == ("done", True)
    (end,) = storage.run("other")
    assert (end.state, end.failed) == ("done", False)
    assert len([one for one in storage.list("dav:tree", recursive=True) if one.kind == "file"]) == len(MANY)


def test_a_terminated_and_a_killed_job_go_on_by_one_command(storage: Storage, places: Path, slow: FaultProxy) -> None:
    jobs = short(storage)
    storage.sync(str(places), "dav:a", name="terminated", async_=True)
    storage.sync(str(places), "dav:b", name="killed", async_=True)
    for name, number in (("terminated", signal.SIGTERM), ("killed", signal.SIGKILL)):
        until(lambda name=name: jobs.show(name).files_done > 0)  # type: ignore[misc]
        pid = jobs.show(name).pid
        assert pid is not None
        os.kill(pid, number)
    assert ended(storage, "terminated").state == "interrupted"
    assert ended(storage, "killed").state == "interrupted"
    assert "interrupted: " in b"".join(jobs.log("terminated")).decode()
    slow.heal()
    assert [one.name for one in jobs.resume()] == ["terminated", "killed"]
    shown = b"".join(storage.monitor(interval=0.1)).decode()
    for name in ("terminated", "killed"):
        assert ended(storage, name).state == "done"
        assert f"{name}  done  400/400" in shown


def test_follow_ends_with_the_job(storage: Storage, places: Path) -> None:
    storage.sync(str(places), "aws:tree", name="far", async_=True)
    log = b"".join(storage.jobs.log("far", follow=True)).decode()
    assert "done: 60 of 60 files" in log.splitlines()[-1]


# ---- names of jobs --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("state", ["paused", "cancelled", "failed", "interrupted"])
def test_a_job_that_is_not_done_is_not_replaced_by_another(storage: Storage, places: Path, state: str) -> None:
    options = TransferOptions(exclude=("d1/",), newer="36h")
    arguments = {"source": str(places), "destination": "aws:tree", "storage": "one", "computer": socket.gethostname()}
    jobs = storage.jobs
    jobs.begin("sync", "far", arguments | {"options": options.as_dict()}).end(state, {}, [])  # type: ignore[arg-type]
    for destination, changed in (("aws:other", options), ("aws:tree", TransferOptions())):
        for detached in (False, True):
            with pytest.raises(Refused) as caught:
                storage.sync(str(places), destination, name="far", async_=detached, options=changed)
            told = str(caught.value)
            assert f"far: this is a job from {places} to aws:tree" in told
            assert f"which is {state} and not done" in told
            assert ("with other options" in told) == (destination == "aws:tree")
            assert "jobs resume far goes on with it, cms storage jobs remove far forgets it" in told
    assert (jobs.show("far").state, jobs.show("far").destination) == (state, "aws:tree")
    # the last 36 hours are others than a moment ago, and the same all the same
    assert isinstance(storage.sync(str(places), "aws:tree", name="far", options=options), Report)
    assert jobs.show("far").state == "done"
    storage.sync(str(places), "other", name="far")
    assert jobs.show("far").destination == "other"


def test_an_empty_name_is_refused(storage: Storage, places: Path) -> None:
    for detached in (False, True):
        with pytest.raises(UsageError, match="--name: is empty"):
            storage.sync(str(places), "aws:tree", name="", async_=detached)
    assert list(storage.jobs.list()) == []


def test_what_is_wrong_is_said_before_anything_is_begun(storage: Storage, places: Path, tmp_path: Path) -> None:
    (tmp_path / "one").mkdir()
    (tmp_path / "one" / "file").touch()
    wrong: list[tuple[str, str, TransferOptions, str]] = [
        (str(places), "gone:x", TransferOptions(), "gone: there is no such service"),
        (str(places / "nothing"), "aws:x", TransferOptions(), "nothing: not found"),
        (str(places), "one:file", TransferOptions(), "one:file: is a file"),
        (str(places), "aws:x", TransferOptions(filter_from=("+a",)), "is no rule"),
        (str(places), "aws:x", TransferOptions(backup_dir="x/y"), "overlaps the destination"),
        (str(places), "aws:x", TransferOptions(cluster="tcp://127.0.0.1:1"), "is on this computer"),
        (str(places / "d0" / "000"), "aws:x", TransferOptions(delete=True), "only a directory can be mirrored"),
    ]
    for source, destination, options, why in wrong:
        for detached in (False, True):
            with pytest.raises(StorageError, match=why):
                storage.sync(source, destination, name="far", async_=detached, options=options)
    assert list(storage.jobs.list()) == []


def test_a_vault_that_cannot_be_opened_is_told_before_a_job_begins(
    storage: Storage, places: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CDIR_VAULT_NEW_PASSPHRASE", "right")
    monkeypatch.setenv("CDIR_VAULT_PASSPHRASE", "right")
    monkeypatch.delenv("XDG_RUNTIME_DIR", raising=False)
    storage.vault.init(with_="passphrase")
    storage.config.seal("aws")
    monkeypatch.delenv("CDIR_VAULT_PASSPHRASE")
    monkeypatch.setattr("sys.stdin.isatty", lambda: True)  # somebody could be asked here, but not there
    with Storage("one") as other, pytest.raises(UsageError, match="cannot be asked by a process in the background"):
        other.sync(str(places), "aws:x", name="far", async_=True)
    assert list(storage.jobs.list()) == []


# ---- what the command says ------------------------------------------------------------------------------------------


def cdir(*arguments: str) -> tuple[int, str, str]:
    done = subprocess.run(
        [sys.executable, "-m", "cloudmesh.cdir.main", "storage", *arguments],
        stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert "\x1b" not in done.stdout + done.stderr
    return done.returncode, done.stdout, done.stderr


def test_where_there_is_nothing_that_is_said(storage: Storage) -> None:
    for command, told in (
        ("jobs list", "there are no jobs\n"),
        ("sync status", "there are no syncs that are jobs\n"),
        ("jobs resume", "no job was interrupted\n"),
        ("run", "no job was interrupted\n"),
        ("clean --dryrun", "no job has ended that could be forgotten\n"),
    ):
        assert cdir(*command.split()) == (0, "", told)
        assert cdir(*command.split(), "--quiet") == (0, "", "")
        assert cdir(*command.split(), "--output=json") == (0, "[]\n", "")
    assert cdir("monitor") == (0, "there are no jobs\n", "")


def test_tables_of_jobs_are_for_people(storage: Storage, places: Path) -> None:
    storage.sync(str(places), "one:tree", name="far")
    _, table, _ = cdir("jobs", "list")
    assert " 117.2 KiB " in table
    _, details, _ = cdir("jobs", "show", "far")
    assert "bytes_total    117.2 KiB\n" in details
    assert "iB/s\n" in details
    _, rows, _ = cdir("jobs", "list", "--output=csv")
    assert ",120000," in rows
    assert cdir("monitor")[1].split()[1:3] == ["far", "done"]
    assert "far" in cdir("clean", "--dryrun")[1]


def test_a_job_that_is_paused_and_then_cancelled_while_it_stops_is_cancelled(storage: Storage) -> None:
    lease = storage.jobs.begin("sync", "far", {})
    storage.jobs.pause("far")
    assert lease.renew({}, []) == "pause"
    storage.jobs.cancel("far")
    assert lease.end("paused", {}, []) == "cancelled"
    assert storage.jobs.show("far").state == "cancelled"


def test_what_comes_of_pausing_and_cancelling_is_said(storage: Storage, places: Path) -> None:
    storage.jobs.begin("sync", "far", {}, detached=True)
    _, told, _ = cdir("jobs", "pause", "far")
    assert told.splitlines()[1:] == [
        "state  waiting",
        "note   it ends in a moment, between two files; cms storage jobs resume far goes on with it",
    ]
    Jobs(storage.jobs._database, 0.01).begin("sync", "near", {})
    until(lambda: storage.jobs.show("near").state == "interrupted")
    assert "what was copied stays; cms storage jobs resume near goes on" in cdir("jobs", "pause", "near")[1]
    assert "what was copied stays; cms storage jobs remove near forgets" in cdir("jobs", "cancel", "near")[1]
    code, out, error = cdir("jobs", "pause", "near")
    assert (code, out, error) == (1, "", "error: near: the job is cancelled\n")


# ---- in the foreground ----------------------------------------------------------------------------------------------


def test_a_sync_in_the_foreground_without_a_name_is_no_job(storage: Storage, places: Path, tmp_path: Path) -> None:
    assert isinstance(storage.sync(str(places), "tree"), Report)
    assert read_tree(tmp_path / "one" / "tree") == FILES
    assert list(storage.jobs.list()) == []


def test_without_a_name_the_same_sync_is_the_same_job(storage: Storage, places: Path, tmp_path: Path) -> None:
    for destination in ("tree", "tree", "other"):
        job = storage.sync(str(places), destination, async_=True)
        assert isinstance(job, Job)
        assert ended(storage, job.name).state == "done"
    assert len({one.name for one in storage.jobs.list()}) == 2
    assert read_tree(tmp_path / "one" / "tree") == FILES


def test_a_job_that_cannot_begin_says_why(storage: Storage) -> None:
    lease = storage.jobs.begin("sync", "far", {"source": "gone:x", "destination": "one:x"}, detached=True)
    storage.jobs.start_detached(lease)
    job = ended(storage, "far")
    assert (job.state, job.message.partition(" (")[0]) == ("failed", "gone: there is no such service")
    with pytest.raises(InvalidName):
        storage.jobs.begin("sync", "a\nb", {})


def test_a_job_whose_secrets_are_locked_fails_and_says_so(
    storage: Storage, places: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CDIR_VAULT_NEW_PASSPHRASE", "right")
    monkeypatch.setenv("CDIR_VAULT_PASSPHRASE", "right")
    monkeypatch.delenv("XDG_RUNTIME_DIR", raising=False)
    storage.vault.init(with_="passphrase")
    storage.config.seal("aws")
    monkeypatch.delenv("CDIR_VAULT_PASSPHRASE")
    lease = storage.jobs.begin("sync", "far", {"source": str(places), "destination": "aws:x"}, detached=True)
    storage.jobs.start_detached(lease)
    job = ended(storage, "far")
    assert job.state == "failed"
    assert "vault" in job.message


def test_a_job_with_files_of_another_computer_is_left_to_it(storage: Storage) -> None:
    jobs = Jobs(storage.jobs._database, 0.01)
    jobs.begin("sync", "there", {"source": "/home", "computer": "elsewhere"})
    until(lambda: jobs.show("there").state == "interrupted")
    assert jobs.interrupted() == []
    with pytest.raises(Refused, match="its files are on elsewhere"):
        list(jobs.resume("there"))
    with Database() as database, database.write() as connection:
        connection.execute(table.update().values(host="elsewhere", log="/home/ann/.cloudmesh/jobs/there.log"))
    with pytest.raises(NotFound, match="the log is on elsewhere: /home/ann"):
        list(jobs.log("there"))
    assert jobs.cancel("there").state == "cancelled"


def test_the_first_failures_are_kept_and_the_log_is_bounded(storage: Storage) -> None:
    running = Running(storage.jobs.begin("sync", "far", {}), nobody)
    with running.kept():
        for number in range(FAILURES + 20):
            running.observe(Event("failed", f"a{number}", 1, f"a{number}: why\nnot \udcff"))
        running.report = Report("sync", errors=FAILURES + 20)
    details = storage.jobs.show("far")
    assert (details.state, details.errors, len(details.failures)) == ("failed", FAILURES + 20, FAILURES)
    assert details.failures[0].name == "a0"
    log = b"".join(storage.jobs.log("far")).decode()
    assert log.count("failed: a") == FAILURES + 20
    assert len(log.splitlines()) == FAILURES + 22
    long = Log(Path(details.log))
    for _ in range(40):
        long.write("x" * 100_000)
    long.close()
    assert sum(one.stat().st_size for one in Path(details.log).parent.iterdir()) <= 2 * MAX_BYTES
