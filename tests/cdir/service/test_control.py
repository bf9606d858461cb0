"""``cdir service``: what is typed and set wrongly, and how its state is told."""

from __future__ import annotations

import signal
import socket
import subprocess
import sys
import threading
import time
from collections import Counter
from pathlib import Path

import pytest

from cloudmesh.cdir.service import state
from cloudmesh.cdir.service.settings import Settings, load
from cloudmesh.storage.errors import ConfigError


def cdir(*arguments: str, code: int = 1) -> str:
    done = subprocess.run([sys.executable, "-m", "cloudmesh.cdir.main", *arguments], capture_output=True, text=True)
    assert done.returncode == code, done
    return done.stderr.partition("\n")[0]


@pytest.mark.parametrize(
    ("typed", "why"),
    [
        ("--port=99999", "--port: '99999' is not allowed"),
        ("--port=-1", "--port: '-1' is not allowed"),
        ("--workers=0", "--workers: '0' is not allowed"),
        ("--workers=-2", "--workers: '-2' is not allowed"),
    ],
)
def test_what_is_typed_wrongly(typed: str, why: str) -> None:
    for verb in ("start", "run"):
        assert cdir("service", verb, typed, code=2).startswith(f"error: {why}")


@pytest.mark.parametrize(
    ("name", "value", "why"),
    [
        ("HOST", "a..b", "environment: host: 'a..b' is not allowed (allowed is a host's name or address)"),
        ("HOSTS", "nas,a..b", "environment: hosts: 'nas,a..b' is not allowed"),
        ("PORT", "99999", "environment: port: '99999' is not allowed"),
        ("STRANGERS_PER_S", "nan", "environment: strangers_per_s: 'nan' is not allowed"),
        ("STRANGERS_PER_S", "0", "environment: strangers_per_s: '0' is not allowed"),
        ("URL", "https://nas.example.org:99999", "url: 'https://nas.example.org:99999' is not allowed"),
        ("KEY", "/none.pem", "key: has no certificate"),
        ("CERTIFICATE", "/none.pem", "certificate: has no key"),
        ("HOST", "192.0.2.1", "192.0.2.1:8765: Cannot assign requested address (the setting 'host'"),
    ],
)
def test_what_is_set_wrongly(monkeypatch: pytest.MonkeyPatch, name: str, value: str, why: str) -> None:
    monkeypatch.setenv(f"CDIR_SERVICE_{name}", value)
    assert cdir("service", "start").startswith(f"error: {why}")


def test_a_port_that_is_taken() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        where = f"127.0.0.1:{taken.getsockname()[1]}"
        error = cdir("service", "start", f"--port={taken.getsockname()[1]}")
    assert error == f"error: {where}: Address already in use (--port=N listens at another)"


def test_what_is_set_to_nothing_is_not_set(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (home / "service.yaml").write_text("host:\nport:\nurl: ''\nhosts: []\nworkers: 3\n")
    for name in ("HOST", "WORKERS"):
        monkeypatch.setenv(f"CDIR_SERVICE_{name}", "")
    assert load() == Settings(workers=3)
    (home / "service.yaml").write_text("port: false\n")
    with pytest.raises(ConfigError, match="port: 'False' is not allowed"):
        load()


def test_a_service_is_stopped_whatever_its_settings_have_become(home: Path, dead_port: int) -> None:
    cdir("service", "start", f"--port={dead_port}", code=0)
    (home / "service.yaml").write_text("prot: 1\n")
    cdir("service", "stop", code=0)
    assert state.current().state == "stopped"


@pytest.mark.parametrize("workers", [1, 2])
@pytest.mark.parametrize("by", [signal.SIGINT, signal.SIGTERM])
def test_a_service_that_is_ended_has_not_failed(home: Path, dead_port: int, workers: int, by: signal.Signals) -> None:
    command = [sys.executable, "-m", "cloudmesh.cdir.main", "service", "run"]
    typed = [*command, f"--port={dead_port}", f"--workers={workers}"]
    with subprocess.Popen(typed, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert "this link signs a browser in" in process.stdout.readline()
        process.send_signal(by)
        _, told = process.communicate(timeout=30)
    assert process.returncode == 0, told
    assert not (home / "service.json").exists()


SLOW_TO_END = """
import fcntl, json, os, signal, sys, time
lock = open(sys.argv[1] + "/service.lock", "ab")
fcntl.flock(lock, fcntl.LOCK_EX)
file = sys.argv[1] + "/service.json"
told = {"url": "http://x", "pid": os.getpid(), "started_ns": 1, "fingerprint": "", "listens": "x", "patience": 5}

def end(*_):
    os.unlink(file)  # it is a service no longer, and still has the lock
    time.sleep(0.5)
    sys.exit()

signal.signal(signal.SIGTERM, end)
with open(file, "w") as out:
    json.dump(told, out)
print("ready", flush=True)
signal.pause()
"""


def test_a_stop_waits_to_the_end(home: Path) -> None:
    with subprocess.Popen([sys.executable, "-c", SLOW_TO_END, str(home)], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        cdir("service", "stop", code=0)
        assert state.current().state == "stopped"


def test_of_several_that_are_started_at_once_one_runs_and_the_others_say_so(home: Path) -> None:
    command = [sys.executable, "-m", "cloudmesh.cdir.main", "service", "start", "--port=0"]
    started = [subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) for _ in range(4)]
    ended = [(*one.communicate(timeout=60), one.returncode) for one in started]
    cdir("service", "stop", code=0)
    assert sorted(code for _, _, code in ended) == [0, 1, 1, 1]
    assert {"it is " in error for _, error, code in ended if code} == {True}, ended
    log = home / "service.log"
    assert "Application startup complete" in log.read_text()
    assert log.stat().st_mode & 0o077 == 0


def test_who_looks_is_in_nobodys_way() -> None:
    seen: Counter[str] = Counter()
    is_done = threading.Event()

    def look() -> None:
        while not is_done.is_set():
            seen[state.current().state] += 1
            time.sleep(0)

    lookers = [threading.Thread(target=look) for _ in range(3)]
    for one in lookers:
        one.start()
    time.sleep(0.3)
    try:
        assert set(seen) == {"stopped"}
        for _ in range(50):
            with state.serving("http://127.0.0.1:1", "", "127.0.0.1:1", 0):
                assert state.current().state == "running"
    finally:
        is_done.set()
        for one in lookers:
            one.join()
