"""Jobs over a service: the same commands say the same, progress is told as here, and Ctrl-C leaves nothing unsaid."""

from __future__ import annotations

import json
import os
import re
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest

from cloudmesh.cdir import Client
from cloudmesh.cdir.main import CDIR
from cloudmesh.cdir.service.state import current
from cloudmesh.storage import Storage
from cloudmesh.storage.abc import ServiceSettings
from cloudmesh.storage.errors import PermissionDenied
from cloudmesh.storage.transfer.events import Event
from cloudmesh.storage.transfer.options import TransferOptions
from tests.cdir.service.conftest import new_token, running
from tests.places import configure, local, read_tree, write_tree

LARGE = {f"f{number}": bytes([number]) * 1_500_000 for number in range(6)}
"""Large enough to be moved one by one."""

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def roots(home: Path, tmp_path: Path) -> dict[str, Path]:
    """Services ``one`` and ``two``, and ``slow`` and ``slower``, which take so many bytes a second."""
    roots = {name: tmp_path / name for name in ("one", "two", "slow", "slower")}
    slow = [
        ServiceSettings(name, "local", root=str(roots[name]), options={"bytes_per_second": speed})
        for name, speed in (("slow", "2M"), ("slower", "600K"))
    ]
    configure(home, [local("one", roots["one"]), local("two", roots["two"]), *slow])
    return roots


@pytest.fixture
def url(roots: dict[str, Path], monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    with running() as client:
        monkeypatch.setenv("CDIR_TOKEN", client.headers["Authorization"].removeprefix("Bearer "))
        yield str(client.base_url)


@pytest.fixture
def cdir(capfd: pytest.CaptureFixture[str]) -> Run:
    def run(*arguments: str) -> tuple[int, str, str]:
        code = CDIR.run(arguments)
        return code, *capfd.readouterr()

    return run


def until(name: str, *states: str, seconds: float = 60) -> None:
    deadline = time.monotonic() + seconds
    with Storage() as storage:
        while (now := storage.jobs.show(name).state) not in states:
            assert time.monotonic() < deadline, now
            time.sleep(0.05)


# ---- the same words --------------------------------------------------------------------------------------------------

ABOUT_JOBS = [
    "storage sync status",
    "storage sync status --name=NAME",
    "storage sync status --name=none",
    "storage jobs list",
    "storage jobs show NAME",
    "storage jobs show none",
    "storage jobs log NAME",
    "storage jobs log none",
    "storage jobs pause NAME",
    "storage jobs cancel NAME",
    "storage jobs resume NAME",
    "storage jobs resume",
    "storage jobs remove none",
    "storage run none",
    "storage run",
    "storage clean --older=1d",
]


def test_what_is_told_of_jobs_is_the_same(url: str, roots: dict[str, Path], cdir: Run) -> None:
    write_tree(roots["one"], {"a": b"a", "b/c": b"bc", "d": b"d"})
    write_tree(roots["two"], {"copy/d/in/the/way": b"x"})
    assert cdir(f"--url={url}", "storage", "sync", "one:b", "two:b", "--name=right/and well", "--quiet")[0] == 0
    assert cdir(f"--url={url}", "storage", "sync", "one:", "two:copy", "--name=wrong", "--exclude=*.x")[0] == 1
    assert cdir(f"--url={url}", "storage", "copy", "one:a", "two:")[0] == 0
    for name in ("right/and well", "wrong"):
        for command in ABOUT_JOBS:
            if (name, command) == ("wrong", "storage jobs resume NAME"):
                continue  # it would be resumed
            words = [word.replace("NAME", name) for word in command.split()]
            for more in ([], ["--output=json"], ["--output=yaml"], ["--output=csv"]):
                here = cdir(*words, *more)
                assert cdir(f"--url={url}", *words, *more) == here, words


def test_jobs_are_paused_resumed_and_cancelled_in_the_same_words(url: str, roots: dict[str, Path], cdir: Run) -> None:
    write_tree(roots["one"], LARGE)
    told: list[list[tuple[int, str, str]]] = []
    for over in ([], [f"--url={url}"]):
        name = f"job{len(over)}"
        said: list[tuple[int, str, str]] = []

        def do(*words: str, over: list[str] = over, said: list[Any] = said) -> None:
            code, *texts = cdir(*over, "storage", "jobs", *words, "--output=json")
            out, err = (re.sub(r"[0-9.]+", "N", text) for text in texts)
            said.append((code, out, err))

        begun = ("storage", "--parallel=1", "sync", "one:", f"slower:{name}", f"--name={name}", "--async")
        assert cdir(f"--url={url}", *begun)[0] == 0
        do("pause", name)
        until(name, "paused")
        do("pause", name)
        do("resume", name)
        do("resume", name)
        until(name, "running")
        do("cancel", name)
        until(name, "cancelled")
        do("pause", name)
        do("remove", name)
        do("show", name)
        told.append(said)
    assert told[0] == told[1]


def test_interrupted_jobs_are_done_in_the_same_words(url: str, roots: dict[str, Path], cdir: Run) -> None:
    write_tree(roots["one"], {"a": b"a", "b": b"bb"})
    told = []
    for over in ([], [f"--url={url}"]):
        for name in ("first", "second"):
            write_tree(roots["two"], {f"{name}{len(over)}/b/in/the/way": b"x"} if name == "second" else {})
            interrupt(name, "one:", f"two:{name}{len(over)}")
        told.append([cdir(*over, "storage", "run", *more) for more in ([], ["second"], ["first"], [])])
        with Storage() as storage:
            for name in ("first", "second"):
                storage.jobs.remove(name)
    assert [one[0] for one in told[0]] == [1, 1, 1, 0]
    assert "first" in told[0][0][1]
    assert [[re.sub(r"(second)\d", r"\1", text) for text in one[1:]] for one in told[1]] == [
        [re.sub(r"(second)\d", r"\1", text) for text in one[1:]] for one in told[0]
    ]


def interrupt(name: str, source: str, destination: str) -> None:
    """Begin a job that is interrupted at its first file."""

    def observe(event: Event) -> None:
        if event.kind == "done":
            raise KeyboardInterrupt

    with Storage(observer=observe, parallel=1) as storage, suppress(KeyboardInterrupt):
        storage.sync(source, destination, name=name, options=TransferOptions())


# ---- progress --------------------------------------------------------------------------------------------------------

WORK = [
    "storage copy one: two:copy --recursive",
    "storage copy one: two:copy --recursive --exclude=new --checksum",
    "storage sync one:some two:copy --delete --max-delete=100%",
    "storage sync one: two:copy --delete --max-delete=100%",
    "storage copy one: two:copy --recursive --include=/new",
    "storage put tree one:put --recursive",
    "storage get one: got --recursive",
    "storage move one:some two:moved --recursive --force --yes",
    "storage delete two:moved --recursive --yes",
    "vdir put tree /data --recursive --to=one",
    "vdir copy /data --recursive --to=two",
    "vdir copy /data --recursive --to=two",
    "vdir get /data here --recursive",
    "vdir verify /data --deep",
    "vdir drop /data --recursive --from=one --yes",
    "vdir delete /data --recursive --purge --accept-loss --yes",
]


def test_progress_is_told_as_here(
    roots: dict[str, Path], home: Path, tmp_path: Path, cdir: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    told = []
    for number in range(2):
        monkeypatch.setenv("CDIR_DATABASE", f"sqlite:///{tmp_path}/catalogue{number}")
        roots = {name: tmp_path / f"{name}{number}" for name in roots}
        configure(home, [local(name, root) for name, root in roots.items()])
        directory = tmp_path / f"directory{number}"
        write_tree(directory / "tree", {"a": b"a" * 10, "b/c": bytes(2_000_000), "b/d": b"", "b/e": b"eee"})
        write_tree(roots["one"], {"some/x": b"x" * 100, "some/y": b"yy", "new": b"new", "z": bytes(1_500_000)})
        write_tree(roots["two"], {"copy/new/in/the/way": b"x" * 7, "copy/old": b"old"})
        monkeypatch.chdir(directory)
        with running() as client:
            monkeypatch.setenv("CDIR_TOKEN", client.headers["Authorization"].removeprefix("Bearer "))
            over = [f"--url={client.base_url}"] if number else []
            told.append([(work, progress_of(cdir, *over, *work.split())) for work in WORK])
    assert told[1] == told[0]
    assert {event["event"] for _, (_, events) in told[0] for event in events} == {"failed", "end"}


def progress_of(cdir: Run, *words: str) -> tuple[int, list[dict[str, Any]]]:
    """The exit code, and all that is told of the progress but for times."""
    code, _, err = cdir(*words, "--progress=1h", "--output=json")
    events = [json.loads(line) for line in err.splitlines() if line.startswith("{")]
    for event in events:
        for name in ("time", "seconds", "bytes_per_s", "seconds_left"):
            event.pop(name, None)
    return code, events


def test_who_may_not_look_at_jobs_is_told_of_the_one_that_was_begun(url: str, roots: dict[str, Path]) -> None:
    write_tree(roots["one"], LARGE)
    with Client(url, new_token(["write"])) as client, pytest.raises(PermissionDenied, match=r"^copy-") as told:
        client.storage.copy("one:", "slow:", recursive=True)
    assert "the service does it, but does not tell how it ends" in str(told.value)
    until(told.value.subject, "done")


# ---- interruption ----------------------------------------------------------------------------------------------------


@contextmanager
def begun(url: str, *arguments: str) -> Iterator[subprocess.Popen[str]]:
    """A command over a service, once the service has begun its job."""
    process = subprocess.Popen(
        [sys.executable, "-m", "cloudmesh.cdir.main", f"--url={url}", *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        with Storage() as storage:
            while not list(storage.jobs.list()):
                assert process.poll() is None
                time.sleep(0.02)
        yield process
    finally:
        process.kill()
        process.wait()


@pytest.mark.parametrize("moment", ["before it is named", "while it is followed"])
def test_an_interrupted_command_pauses_its_job_and_says_how_it_goes_on(
    url: str, roots: dict[str, Path], moment: str
) -> None:
    write_tree(roots["one"], LARGE)
    with begun(url, "storage", "--parallel=1", "copy", "one:", "slow:data", "--recursive") as process:
        with Storage() as storage:
            (job,) = storage.jobs.list()
            while moment == "while it is followed" and not storage.jobs.show(job.name).files_done:
                time.sleep(0.05)
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=10)
    assert process.returncode == 130
    again = f"cdir --url={url} storage jobs resume {job.name}"
    assert err == f"interrupted: {job.name} pauses where nothing is half done: {again} goes on\n"
    until(job.name, "paused")
    assert len(read_tree(roots["slow"])) < len(LARGE)
    assert CDIR.run(shlex.split(again)[1:]) == 0
    until(job.name, "done")
    assert read_tree(roots["slow"]) == {f"data/{name}": data for name, data in LARGE.items()}


def test_an_interrupted_command_does_not_wait_for_a_service_that_hangs(url: str, roots: dict[str, Path]) -> None:
    write_tree(roots["one"], LARGE)
    pid = current().pid
    assert pid is not None
    with begun(url, "storage", "copy", "one:", "slower:", "--recursive") as process:
        os.kill(pid, signal.SIGSTOP)
        try:
            process.send_signal(signal.SIGINT)
            _, err = process.communicate(timeout=10)
        finally:
            os.kill(pid, signal.SIGCONT)
    assert process.returncode == 130
    assert err.startswith(f"interrupted: the service may go on: cdir --url={url} storage jobs list tells")
    assert err.count("\n") == 1


def test_work_that_is_over_leaves_nothing_to_say(url: str, roots: dict[str, Path]) -> None:
    """An upload ends with the client: no job is left."""
    tree = write_tree(roots["one"].parent / "tree", LARGE)
    process = subprocess.Popen(
        [
            sys.executable,
            "-m",
            "cloudmesh.cdir.main",
            f"--url={url}",
            "storage",
            "put",
            str(tree),
            "slow:",
            "--recursive",
        ],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    while not (roots["slow"].exists() and any(roots["slow"].iterdir())):
        time.sleep(0.02)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=10)
    assert (process.returncode, err) == (130, "interrupted\n")
    with Storage() as storage:
        assert list(storage.jobs.list()) == []
