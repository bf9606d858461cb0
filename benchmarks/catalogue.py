"""The catalogue with a million files, on SQLite and on a PostgreSQL server that is started for it.

    python -m benchmarks.catalogue [--entries N] [--output FOLDER]

Prints a table and writes ``catalogue.json`` and ``catalogue.md``. Each database is measured in a process of its own,
whose largest memory is reported. Times are wall seconds; the load of the machine beside it tells how far to trust them.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import shutil
import sqlite3
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from benchmarks._machine import machine
from cloudmesh.storage.database import Database
from cloudmesh.vdir.catalogue import Catalogue
from cloudmesh.vdir.nodes import NewFile, Replica
from deploy.servers import Postgres

PER_DIRECTORY = 1000
GOALS = {
    "registered_per_s": "≥ 20,000",
    "lookup_ms": "< 1",
    "list_1000_ms": "< 20",
    "memory_mb": "< 300",
}


def path_of(number: int) -> str:
    """The path of one file, three directories deep."""
    directory = number // PER_DIRECTORY
    return f"projects/p{directory // 100:03d}/set-{directory % 100:02d}/measurement-{number % PER_DIRECTORY:06d}.csv"


def files(count: int) -> Iterator[NewFile]:
    """Files with one replica each and all facts that a service tells."""
    for i in range(count):
        path, mtime_ns = path_of(i), 1_700_000_000_000_000_000 + i
        replica = Replica("aws", path, "available", 1000 + i, mtime_ns, 1, f'"{i:032x}"', checked_ns=mtime_ns)
        yield NewFile(path, 1000 + i, mtime_ns, None, (replica,))


def measure(entries: int) -> dict[str, Any]:
    """Fill a catalogue and ask it; return the numbers."""
    with Database() as database:
        catalogue = Catalogue(database)
        begin, cpu = time.perf_counter(), time.process_time()
        catalogue.register(files(entries))
        seconds, cpu = time.perf_counter() - begin, time.process_time() - cpu
        lookups, listings = [], []
        for i in range(1000):
            path = path_of(i * 7919 % entries)
            begin = time.perf_counter()
            catalogue.lookup(path)
            lookups.append(time.perf_counter() - begin)
        for i in range(100):
            directory = path_of(i * 7919 * PER_DIRECTORY % entries).rpartition("/")[0]
            begin = time.perf_counter()
            count = sum(1 for _ in catalogue.children(directory))
            listings.append(time.perf_counter() - begin)
        begin = time.perf_counter()
        walked = sum(1 for _ in catalogue.walk(""))
        walk_s = time.perf_counter() - begin
        begin = time.perf_counter()
        catalogue.totals("")
        totals_s = time.perf_counter() - begin
        begin = time.perf_counter()
        catalogue.move("projects/p000", "moved")
        move_ms = (time.perf_counter() - begin) * 1000
    return {
        "entries": entries,
        "registered_per_s": round(entries / seconds),
        "register_client_cpu_s": round(cpu, 1),
        "lookup_ms": round(statistics.median(lookups) * 1000, 3),
        "lookup_ms_99th": round(sorted(lookups)[989] * 1000, 3),
        "listed": count,
        "list_1000_ms": round(statistics.median(listings) * 1000, 1),
        "walk_s": round(walk_s, 1),
        "walked": walked,
        "totals_s": round(totals_s, 1),
        "move_directory_ms": round(move_ms, 2),
        "memory_mb": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024),
    }


def report(results: dict[str, Any]) -> str:
    """The numbers as Markdown."""
    names = list(results["databases"])
    lines = ["# Catalogue", "", *(f"- {key}: {value}" for key, value in results["machine"].items()), ""]
    lines += [f"| | {' | '.join(names)} | goal |", f"|---|{'---|' * (len(names) + 1)}"]
    for key in results["databases"][names[0]]:
        numbers = (f"{results['databases'][name][key]:,}" for name in names)
        lines.append(f"| {key} | {' | '.join(numbers)} | {GOALS.get(key, '')} |")
    return "\n".join(lines) + "\n"


def main() -> None:
    """Measure both databases."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--entries", type=int, default=1_000_000)
    parser.add_argument("--output", type=Path, default=Path("docs/benchmarks"))
    parser.add_argument("--measure", action="store_true", help="measure the empty database CDIR_DATABASE only")
    arguments = parser.parse_args()
    if arguments.measure:
        print(json.dumps(measure(arguments.entries)))
        return
    results: dict[str, Any] = {
        "machine": machine("sqlalchemy", "psycopg") | {"sqlite": sqlite3.sqlite_version},
        "databases": {},
    }
    folder = Path(tempfile.mkdtemp(prefix="cdir-benchmark-"))
    folder.chmod(0o711)
    try:
        with Postgres(folder / "postgres") as server:
            for name, url in (("SQLite", f"sqlite:///{folder}/vdir.db"), ("PostgreSQL", server.url)):
                command = [sys.executable, "-m", "benchmarks.catalogue", "--measure"]
                command += ["--entries", str(arguments.entries)]
                environment = os.environ | {"CDIR_DATABASE": url}
                done = subprocess.run(command, env=environment, stdout=subprocess.PIPE, check=True)
                results["databases"][name] = json.loads(done.stdout)
    finally:
        shutil.rmtree(folder)
    results["machine"]["load after"] = round(os.getloadavg()[0], 1)
    arguments.output.mkdir(parents=True, exist_ok=True)
    (arguments.output / "catalogue.json").write_text(json.dumps(results, indent=2) + "\n")
    (arguments.output / "catalogue.md").write_text(report(results))
    print(report(results))


if __name__ == "__main__":
    main()
