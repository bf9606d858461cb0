"""A large file to the REST service and back, and the largest memory that the service had."""

from __future__ import annotations

import http.client
import json
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

from benchmarks._places import Places
from benchmarks._process import RunError
from benchmarks._serving import Served, ours
from deploy.servers import find_program

LIMIT_MB = 200
_PIECE = 1 << 20


def measure(size: int) -> list[dict[str, Any]]:
    """Send a sparse file of ``size`` bytes to the service, which keeps it on S3, and read it; return what each took."""
    with tempfile.TemporaryDirectory(prefix="cdir-benchmark-") as folder:
        Path(folder).chmod(0o711)
        with Places(Path(folder) / "memory", {"aws"}) as places, (Path(folder) / "sparse").open("w+b") as file:
            file.truncate(size)
            command = [find_program("cdir"), "token", "create", "--scope=read,write", "--output=json"]
            made = subprocess.run(command, env=places.environment(), capture_output=True, text=True, check=True)
            token = json.loads(made.stdout)["token"]
            found = []
            for title, method, path, chunked in (
                ("→ service → S3", "PUT", "/files/aws/huge", False),
                ("S3 → service →", "GET", "/files/aws/huge", False),
                ("of unknown size → service → S3", "PUT", "/files/aws/chunked", True),
            ):
                with ours(1, places.environment(), token) as served:  # a new process for each
                    step: dict[str, Any] = {"title": f"4 GiB file, {title}", "command": f"{method} {path}"}
                    found.append(step | {"limit": LIMIT_MB} | _step(served, method, path, file, size, chunked))
    return found


def _step(served: Served, method: str, path: str, file: IO[bytes], size: int, chunked: bool) -> dict[str, Any]:
    begin, spent = time.perf_counter(), served.cpu_s()
    try:
        if (moved := _moved(served, method, path, file, size, chunked)) != size:
            raise RunError(f"{moved} bytes were moved instead of {size}")
    except (OSError, http.client.HTTPException, RunError) as error:
        return {"error": f"{type(error).__name__}: {error}"}
    lines = Path(f"/proc/{served.pid}/status").read_text("utf-8").splitlines()
    peak = int(next(line.split()[1] for line in lines if line.startswith("VmHWM"))) * 1024
    wall = time.perf_counter() - begin
    return {"memory_mb": round(peak / 1e6), "wall_s": round(wall, 1), "cpu_s": round(served.cpu_s() - spent, 1)}


def _moved(served: Served, method: str, path: str, file: IO[bytes], size: int, chunked: bool) -> int:
    """Do one request and return how many bytes were moved."""
    connection = http.client.HTTPConnection("127.0.0.1", served.port, timeout=600)
    headers = {"Authorization": served.authorization}
    try:
        if method == "PUT":
            file.seek(0)
            length = {} if chunked else {"Content-Length": str(size)}
            # a body of pieces without a length is sent in chunks
            connection.request(method, path, _pieces(file), headers | length)
            answer = connection.getresponse()
            told = answer.read()
            return int(json.loads(told)["size"]) if answer.status in (200, 201) else 0
        connection.request(method, path, headers=headers)
        answer = connection.getresponse()
        got = 0
        while piece := answer.read(_PIECE):
            got += len(piece)
        return got
    finally:
        connection.close()


def _pieces(file: IO[bytes]) -> Iterator[bytes]:
    while piece := file.read(_PIECE):
        yield piece
