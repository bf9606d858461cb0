"""Running a program as a user would, as a whole process, and what it cost."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

TIMEOUT = 900.0

# A small process between, because the kernel counts the memory of the process that starts a program as the program's.
_MEASURE = """
import os, sys, time
quiet = [(os.POSIX_SPAWN_OPEN, 1, os.devnull, os.O_WRONLY, 0)]
begin = time.perf_counter()
pid = os.posix_spawnp(sys.argv[1], sys.argv[1:], os.environ, file_actions=quiet)
_, status, used = os.wait4(pid, 0)
wall = time.perf_counter() - begin
print(os.waitstatus_to_exitcode(status), wall, used.ru_utime + used.ru_stime, used.ru_maxrss)
"""


class RunError(RuntimeError):
    """A program failed, or did not come to an end."""


@dataclass(frozen=True, slots=True)
class Cost:
    """Seconds on the clock, seconds of processors (user and system), and the largest memory in bytes."""

    wall_s: float
    cpu_s: float
    memory: int


def run(commands: Sequence[Sequence[str]], environment: Mapping[str, str]) -> Cost:
    """Run programs one after the other and return what all cost together.

    Raises:
        RunError: one ended with another status than 0, or took longer than `TIMEOUT`; what it wrote is in the message.
    """
    costs = [_run_one(command, environment) for command in commands]
    return Cost(sum(c.wall_s for c in costs), sum(c.cpu_s for c in costs), max(c.memory for c in costs))


def _run_one(command: Sequence[str], environment: Mapping[str, str]) -> Cost:
    process = subprocess.Popen(
        [sys.executable, "-I", "-S", "-c", _MEASURE, *command],
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        errors="replace",
        start_new_session=True,
    )
    try:
        told, said = process.communicate(timeout=TIMEOUT)
    except BaseException as error:
        os.killpg(process.pid, signal.SIGKILL)
        process.communicate()
        if isinstance(error, subprocess.TimeoutExpired):
            raise RunError(f"{command[0]} did not end within {TIMEOUT:g} s") from error
        raise
    status, wall, cpu, memory = told.split() if process.returncode == 0 else (process.returncode, 0, 0, 0)
    if int(status):
        raise RunError(f"{command[0]} ended with status {status}: {said[-1000:].strip() or '(it said nothing)'}")
    return Cost(float(wall), float(cpu), int(memory) * 1024)


def recorded(
    program: str,
    turn: int,
    commands: Sequence[Sequence[str]],
    environment: Mapping[str, str],
    check: Callable[[], None],
) -> dict[str, object]:
    """Run a program's commands and look at what they have done; return the record of that.

    Args:
        program: its name.
        turn: the round.
        commands: as `run` takes them.
        environment: likewise.
        check: raises RunError where something is not as it should be.

    Returns:
        the record, with ``error`` where the program failed or something is not as it should be.
    """
    os.sync()  # what the run before wrote is not to be paid for by this one
    record: dict[str, object] = {"program": program, "round": turn, "load before": round(os.getloadavg()[0], 1)}
    try:
        cost = run(commands, environment)
        record |= {"wall_s": round(cost.wall_s, 3), "cpu_s": round(cost.cpu_s, 3)}
        record["memory_mb"] = round(cost.memory / 1e6)
        check()
    except RunError as error:
        record["error"] = str(error)
    return record
