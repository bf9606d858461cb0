"""Several processes at work on one catalogue, and one that is killed."""

from __future__ import annotations

import multiprocessing
import os
import random
import signal
import subprocess
import sys
from collections.abc import Callable

from cloudmesh.storage.database import Database
from cloudmesh.storage.errors import AlreadyExists, NotFound, Refused
from cloudmesh.vdir.catalogue import BATCH, Catalogue
from cloudmesh.vdir.nodes import NewFile, Replica

SPAWN = multiprocessing.get_context("spawn")


def together(*jobs: tuple[Callable[..., None], tuple[object, ...]]) -> None:
    """Run functions in processes of their own; all must end well."""
    processes = [SPAWN.Process(target=work, args=arguments) for work, arguments in jobs]
    for process in processes:
        process.start()
    for process in processes:
        process.join(120)
    assert [process.exitcode for process in processes] == [0] * len(processes)


def files(count: int, service: str) -> list[NewFile]:
    return [NewFile(f"d{i % 13}/f{i}", 1, 1, None, (Replica(service, f"x/{i}"),)) for i in range(count)]


def register_all(url: str, count: int, service: str) -> None:
    with Database(url) as database:
        Catalogue(database).register(files(count, service))


def register_one_by_one(url: str, count: int, service: str) -> None:
    with Database(url) as database:
        for file in files(count, service):
            Catalogue(database).register([file])


def list_often(url: str, times: int) -> None:
    with Database(url) as database:
        catalogue = Catalogue(database)
        for _ in range(times):
            keys = [node.sort_key for node in catalogue.walk("")]
            assert keys == sorted(keys)


def move_around(url: str, seed: int, times: int) -> None:
    chance = random.Random(seed)
    with Database(url) as database:
        catalogue = Catalogue(database)
        for _ in range(times):
            everything = [node.path for node in catalogue.walk("tree")]
            source, target = chance.choice(everything), chance.choice(["tree", *everything])
            try:
                catalogue.move(source, f"{target}/{source.rpartition('/')[2]}")
            except (NotFound, AlreadyExists, Refused):
                continue


def test_same_files_registered_by_several_processes(catalogue: Catalogue, url: str) -> None:
    together(
        (register_all, (url, 2 * BATCH, "aws")),
        (register_all, (url, 2 * BATCH, "box")),
        (register_one_by_one, (url, 200, "nas")),
        (list_often, (url, 10)),
    )
    totals = catalogue.totals("")
    assert (totals.files, totals.directories) == (2 * BATCH, 14)
    assert [(s.service, s.files) for s in totals.services] == [("aws", 2 * BATCH), ("box", 2 * BATCH), ("nas", 200)]


def test_directories_moved_by_several_processes_stay_a_tree(catalogue: Catalogue, url: str) -> None:
    for name in ("a/b/c", "d/e/f", "g/h/i"):
        catalogue.make_dir(f"tree/{name}", parents=True)
    together(*((move_around, (url, seed, 60)) for seed in range(3)))
    assert sorted(node.name for node in catalogue.walk("tree")) == list("abcdefghi")


REGISTER_FOREVER = """
import sys
from cloudmesh.storage.database import Database
from cloudmesh.vdir.catalogue import Catalogue
from cloudmesh.vdir.nodes import NewFile, Replica
def files():
    i = 0
    while True:
        if i % 5000 == 2500:
            print(i, flush=True)
        yield NewFile(f"d{i // 100}/f{i}", 1, 1, None, (Replica("aws", f"x/{i}"),))
        i += 1
Catalogue(Database(sys.argv[1])).register(files())
"""


def test_killed_registration_leaves_whole_batches(catalogue: Catalogue, url: str) -> None:
    with subprocess.Popen([sys.executable, "-c", REGISTER_FOREVER, url], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        for line in process.stdout:
            if int(line) > 2 * BATCH:
                os.kill(process.pid, signal.SIGKILL)
                break
    totals = catalogue.totals("")
    assert totals.files >= 2 * BATCH
    assert totals.files % BATCH == 0
    assert totals.services[0].files == totals.files
    assert sum(1 for _ in catalogue.walk("")) == totals.files + totals.directories - 1
    with catalogue.database.read() as connection:
        if catalogue.database.is_sqlite:
            assert connection.exec_driver_sql("PRAGMA integrity_check").scalar() == "ok"
            assert connection.exec_driver_sql("PRAGMA foreign_key_check").all() == []
    catalogue.register([NewFile("afterwards")])
    assert catalogue.lookup("afterwards").version == 1


REMOVE = """
import os, signal, sys
from cloudmesh.storage.database import Database
from cloudmesh.vdir.catalogue import Catalogue
database = Database(sys.argv[1])
catalogue = Catalogue(database)
write, count = database.write, 0
def write_and_die():
    global count
    count += 1
    if count == 3:
        os.kill(os.getpid(), signal.SIGKILL)
    return write()
database.write = write_and_die
catalogue.remove("big", recursive=True)
"""


def test_killed_removal_is_finished_by_the_next_one(catalogue: Catalogue, url: str) -> None:
    catalogue.register(NewFile(f"big/{i % 7}/{i}", 1, 1, None, (Replica("aws", f"{i}"),)) for i in range(3 * BATCH))
    catalogue.register([NewFile("small/x", replicas=(Replica("box", "x"),))])
    done = subprocess.run([sys.executable, "-c", REMOVE, url], check=False)
    assert done.returncode == -signal.SIGKILL
    assert [node.path for node in catalogue.walk("")] == ["small", "small/x"]
    with catalogue.database.read() as connection:
        left = connection.exec_driver_sql("SELECT count(*) FROM entry").scalar_one()
    assert BATCH < left < 3 * BATCH
    assert catalogue.services_in_use() == ["box"]
    with catalogue.database.read() as connection:
        assert connection.exec_driver_sql("SELECT count(*) FROM entry").scalar() == 4
