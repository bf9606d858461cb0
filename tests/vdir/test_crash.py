"""The crash matrix: every command killed after each of its steps; done again, it is as if nothing had happened.

What "as if nothing had happened" is, a run that is not killed tells. See `steps` for what a step is, and `crash_table`
for the table of all of them in docs/reliability.md.
"""

from __future__ import annotations

import os
import shutil
import uuid
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from cloudmesh.storage.paths import TEMPORARY_PREFIX
from cloudmesh.storage.services import Services
from cloudmesh.vdir import Vdir
from deploy.servers import OpenSsh, SeaweedFS, Wsgidav
from tests.places import configure, local, read_tree, wait_for_tick
from tests.vdir.crash_table import Row, check
from tests.vdir.scenarios import (
    BOTH,
    SCENARIOS,
    Act,
    Edit,
    Places,
    again,
    begun,
    contents_of,
    edited,
    edited_differently,
    everything_can_be_read,
    nothing,
    nothing_is_left_to_do,
    put,
    seen,
    sync,
)
from tests.vdir.steps import done_in_a_process


class Saved:
    """A state of folders that can be had again: the same files, but for the time of their last change.

    Args:
        folders: what is saved.
        place: where to.
    """

    def __init__(self, folders: Sequence[Path], place: Path) -> None:
        self._folders = {folder: place / str(number) for number, folder in enumerate(folders)}
        wait_for_tick()
        for folder, copy in self._folders.items():
            if folder.exists():
                shutil.copytree(folder, copy, copy_function=os.link)

    def restore(self) -> None:
        """Bring it back. What is written in place is not: the catalogue is saved apart."""
        for folder, copy in self._folders.items():
            shutil.rmtree(folder, ignore_errors=True)
            if copy.exists():
                shutil.copytree(copy, folder, copy_function=os.link)


@pytest.mark.parametrize("command", SCENARIOS)
def test_a_command_that_was_killed_is_completed_by_doing_it_again(
    command: str,
    home: Path,
    tmp_path: Path,
    request: pytest.FixtureRequest,
    record_property: Callable[[str, object], None],
) -> None:
    before, edit, act = SCENARIOS[command]
    roots = [tmp_path / name for name in ("one", "two", "three")]
    configure(home, [local(root.name, root) for root in roots])
    with Vdir(parallel=1) as vdir:
        before(vdir)
    edit(*roots[:2])
    saved = Saved(roots, tmp_path / "saved")
    catalogue = (home / "vdir.db").read_bytes() if (home / "vdir.db").exists() else b""
    places: Places = {root.name: partial(read_tree, root) for root in roots}
    old = contents_of(places)

    def begin() -> None:
        saved.restore()
        for file in home.glob("vdir.db*"):
            file.unlink()
        if catalogue:
            (home / "vdir.db").write_bytes(catalogue)

    paths = {root.name: str(root) for root in roots}
    report = tmp_path / "steps.json"
    steps = done_in_a_process(act, paths, report)
    again(sync)
    wanted = seen(places)
    assert not wanted.left
    allowed, kept_anyway = old | contents_of(places), old & contents_of(places)
    rows: dict[Row, None] = {}
    for number, name in enumerate(steps):
        begin()
        assert done_in_a_process(act, paths, report, number) == steps[: number + 1]
        assert kept_anyway <= contents_of(places), f"lost after step {number}: {name}"
        if command != "delete --purge" and edit is not edited_differently:
            everything_can_be_read(allowed)
        rows[Row(command, name, begun(places))] = None
        again(act)
        again(sync)
        assert seen(places) == wanted, f"killed after step {number}: {name}"
    nothing_is_left_to_do()
    check(list(rows), request.config, record_property)


HUGE = {"a": b"alpha", "d/huge": b"0" * (17 << 20)}
"""With a file that goes to S3 in parts."""


def lost_on_two(one: Path, two: Path) -> None:
    services = Services()
    for name in ("t/a", "t/d/big"):
        services.open("two").remove(name)
    services.close()


def edited_on_one(one: Path, two: Path) -> None:
    edited(two, one)


REMOTE: dict[str, tuple[Act, Edit, Act]] = {
    "put": SCENARIOS["put"],
    "put --force": SCENARIOS["put --force"],
    "delete --purge": SCENARIOS["delete --purge"],
    "sync: heal": (BOTH, lost_on_two, sync),
    "sync: newest wins": (BOTH, edited_on_one, sync),
    "put in parts": (lambda vdir: None, nothing, put(HUGE, "two")),
}


def files_of_s3(server: SeaweedFS, root: str) -> dict[str, bytes]:
    """Return all objects below a prefix, and the uploads in parts that are not finished."""
    client = server.client()
    found = client.list_objects_v2(Bucket=server.bucket, Prefix=f"{root}/").get("Contents", [])
    uploads = client.list_multipart_uploads(Bucket=server.bucket).get("Uploads", [])
    objects = {
        one["Key"]: client.get_object(Bucket=server.bucket, Key=one["Key"])["Body"].read()
        for one in found
        if not one["Key"].endswith("/")
    }
    return {key.removeprefix(f"{root}/"): content for key, content in objects.items()} | {
        f"{TEMPORARY_PREFIX}{one['Key']}": b""
        for one in uploads
        if one["Key"].startswith(f"{root}/") and parts_of(client, server.bucket, one)
    }


def parts_of(client: Any, bucket: str, upload: dict[str, str]) -> list[object]:
    """Return what an upload holds. One whose id nobody has learnt, as he died just then, holds and costs nothing."""
    found: list[object] = client.list_parts(Bucket=bucket, Key=upload["Key"], UploadId=upload["UploadId"]).get(
        "Parts", []
    )
    return found


@pytest.mark.parametrize(
    ("server", "command"),
    [
        (server, command)
        for server in ("wsgidav", "openssh", "seaweedfs")
        for command in REMOTE
        if command != "put in parts" or server == "seaweedfs"
    ],
)
def test_a_command_that_was_killed_leaves_nothing_on_a_server(
    server: str,
    command: str,
    home: Path,
    tmp_path: Path,
    request: pytest.FixtureRequest,
    record_property: Callable[[str, object], None],
) -> None:
    running: Wsgidav | OpenSsh | SeaweedFS = request.getfixturevalue(server)
    before, edit, act = REMOTE[command]
    one, report = tmp_path / "one", tmp_path / "steps.json"

    def begin() -> tuple[Places, dict[str, str]]:
        root = f"crash-{uuid.uuid4().hex}"
        for file in home.glob("vdir.db*"):
            file.unlink()
        shutil.rmtree(one, ignore_errors=True)
        configure(home, [local("one", one), running.settings("two", root=root)])
        with Vdir(parallel=1) as vdir:
            before(vdir)
        edit(one, one)
        behind = (
            partial(files_of_s3, running, root)
            if isinstance(running, SeaweedFS)
            else partial(read_tree, running.data / root)
        )
        return {"one": partial(read_tree, one), "two": behind}, {"one": str(one), "two": root}

    places, paths = begin()
    steps = done_in_a_process(act, paths, report)
    again(sync)
    wanted = seen(places)
    assert not wanted.left
    rows: dict[Row, None] = {}
    for number, name in enumerate(steps):
        if not name.startswith(("two:", "request:")) or steps[number - 1 : number + 2] == [name] * 3:
            continue  # of many pieces of a file the first and the last
        places, paths = begin()
        done_in_a_process(act, paths, report, number)
        # what lies about just then is a matter of the server's pace
        rows[Row(f"{command} on {server}", name, "")] = None
        again(act)
        again(sync)
        assert seen(places) == wanted, f"killed after step {number}: {name}"
    nothing_is_left_to_do()
    check(list(rows), request.config, record_property)
