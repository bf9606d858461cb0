"""Programs that serve the files of one folder, and wrk, which asks them."""

from __future__ import annotations

import base64
import os
import re
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import psutil

from benchmarks._process import RunError
from deploy.servers import find_program, free_port

_READY_S = 30.0
_USER, _PASSWORD = "benchmark", "benchmark"
BASIC = "Basic " + base64.b64encode(f"{_USER}:{_PASSWORD}".encode()).decode()

_SCRIPT = """
local target, body = os.getenv("TARGET"), os.getenv("BODY")
local requests, n = {}, 0
wrk.headers["Authorization"] = os.getenv("AUTHORIZATION")
if body then
  wrk.method = "POST"
  wrk.headers["Content-Type"] = "application/json"
end
init = function(args)
  for name in io.lines(os.getenv("NAMES")) do
    local own = body and body:gsub("NAME", name)
    requests[#requests + 1] = wrk.format(nil, (target:gsub("NAME", name)), nil, own)
  end
end
request = function()
  n = n % #requests + 1
  return requests[n]
end
"""
"""Asks for one name after the other; the requests are made before the clock starts."""


@dataclass(frozen=True, slots=True)
class Served:
    """A program that serves, and what lets in."""

    port: int
    pid: int
    authorization: str

    def cpu_s(self) -> float:
        """Return the processor seconds of all its processes so far."""
        program = psutil.Process(self.pid)
        return sum(sum(one.cpu_times()[:2]) for one in (program, *program.children(recursive=True)))


@dataclass(frozen=True, slots=True)
class Asked:
    """What wrk measured in one run."""

    requests_per_s: float
    bytes_per_s: float
    cpu_ms: float
    """Of the program that served, for a request."""


@contextmanager
def ours(workers: int, environment: Mapping[str, str], token: str) -> Iterator[Served]:
    """Our service with so many processes."""
    port = free_port()
    settings = {"PORT": port, "WORKERS": workers, "REQUESTS_PER_S": 1_000_000}
    given = {f"CDIR_SERVICE_{name}": str(value) for name, value in settings.items()}
    command = [sys.executable, "-m", "cloudmesh.cdir.service.server"]
    with _running(command, {**environment, **given}, port, "/readyz", f"Bearer {token}") as served:
        yield served


@contextmanager
def rclone(words: Sequence[str], option: str, environment: Mapping[str, str]) -> Iterator[Served]:
    """rclone as a server, with a user and a password.

    Args:
        words: its command.
        option: what its options of the network begin with.
        environment: for it.
    """
    port = free_port()
    name = f"RCLONE_{option}".upper()
    login = {f"{name}USER": _USER, f"{name}PASS": _PASSWORD, f"{name}ADDR": f"127.0.0.1:{port}"}
    with _running([find_program("rclone"), *words], {**environment, **login}, port, "/", BASIC) as served:
        yield served


@contextmanager
def _running(
    command: list[str], environment: Mapping[str, str], port: int, path: str, authorization: str
) -> Iterator[Served]:
    # files of bytecode are written, whatever the caller does without: each process would read all sources
    environment = {name: value for name, value in environment.items() if name != "PYTHONDONTWRITEBYTECODE"}
    process = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        deadline = time.monotonic() + _READY_S
        while not _answers(port, path):
            if process.poll() is not None or time.monotonic() > deadline:
                raise RunError(f"{command[:3]} does not answer")
            time.sleep(0.05)
        yield Served(port, process.pid, authorization)
    finally:
        process.terminate()
        process.wait(_READY_S)


def _answers(port: int, path: str) -> bool:
    try:
        urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=5).close()
    except urllib.error.HTTPError:
        return True  # it does not know us
    except OSError:
        return False
    return True


def ask(
    served: Served, target: str, names: Sequence[str], folder: Path, seconds: float, connections: int, body: str = ""
) -> Asked:
    """Have wrk ask for as long as is told, and return what it measured.

    Args:
        served: whom.
        target: path and query, with ``NAME`` where a name goes.
        names: asked for in turn.
        folder: for its files.
        seconds: for how long.
        connections: at once.
        body: of a POST, with ``NAME`` in it; a GET where empty.

    Raises:
        RunError: an answer was none, or not good.
    """
    (folder / "ask.lua").write_text(_SCRIPT)
    (folder / "names").write_text("".join(f"{name}\n" for name in names))
    given = {"AUTHORIZATION": served.authorization, "TARGET": target, "NAMES": str(folder / "names")}
    command = ["wrk", "-t1", f"-c{connections}", f"-d{seconds:g}s", "--timeout=60s", "-s", str(folder / "ask.lua")]
    before = served.cpu_s()
    done = subprocess.run(
        [*command, f"http://127.0.0.1:{served.port}"],
        env=os.environ | given | ({"BODY": body} if body else {}),
        capture_output=True,
        text=True,
        check=False,
    )
    spent = served.cpu_s() - before
    told = re.search(r"(\d+) requests in ([\d.]+)(m?s|m), ([\d.]+)([KMGT]?)B read", done.stdout)
    if done.returncode or told is None or "Non-2xx" in done.stdout or "Socket errors" in done.stdout:
        raise RunError(f"wrk: {done.stdout} {done.stderr}")
    took = float(told[2]) * {"s": 1, "ms": 0.001, "m": 60}[told[3]]
    size = float(told[4]) * 1024 ** " KMGT".index(told[5] or " ")
    requests = int(told[1])
    return Asked(requests / took, size / took, spent / max(1, requests) * 1000)
