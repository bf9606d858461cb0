"""The client, and ``cdir --url``: the same methods, answers and errors, from another process."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import httpx
import pytest

from cloudmesh.cdir import Client
from cloudmesh.storage import Storage
from cloudmesh.storage.errors import (
    AlreadyExists,
    AuthenticationFailed,
    NotFound,
    Refused,
    Unavailable,
    UsageError,
)
from cloudmesh.storage.transfer.events import Event
from cloudmesh.storage.transfer.options import Selection
from cloudmesh.vdir import Vdir
from tests.places import configure, local, read_tree, write_tree

FILES = {"a.txt": b"alpha", "b/ü c.bin": bytes(3000), "b/d.txt": b"delta"}


@pytest.fixture
def roots(home: Path, tmp_path: Path) -> dict[str, Path]:
    roots = {name: tmp_path / name for name in ("one", "two")}
    configure(home, [local(name, root) for name, root in roots.items()])
    with Vdir() as vdir:
        vdir.put(str(write_tree(tmp_path / "tree", FILES)), "/data", to=["one"], recursive=True)
    return roots


@pytest.fixture
def url(roots: dict[str, Path], served: httpx.Client, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setenv("CDIR_TOKEN", served.headers["Authorization"].removeprefix("Bearer "))
    return str(served.base_url)


def test_the_client_answers_as_the_apis_do(url: str) -> None:
    client = Client(url)
    with Vdir() as vdir, Storage("one") as storage:
        assert list(client.vdir.ls("/data", recursive=True)) == list(vdir.ls("/data", recursive=True))
        assert list(client.vdir.tree("/data")) == list(vdir.tree("/data"))
        assert client.vdir.status("/data/a.txt") == vdir.status("/data/a.txt")
        assert client.vdir.why("/data/a.txt") == vdir.why("/data/a.txt")
        assert client.vdir.rules.show("/data") == vdir.rules.show("/data")
        assert b"".join(client.vdir.cat("/data/b/ü c.bin")) == FILES["b/ü c.bin"]
        assert list(client.storage_on("one").list("data")) == list(storage.list("data"))
        assert client.storage_on("one").stat("data/a.txt") == storage.stat("data/a.txt")
        assert client.storage.config.show("one") == storage.config.show("one")
        assert list(client.vdir.export("-", "/data")) == list(vdir.export("-", "/data"))  # type: ignore[arg-type]


@pytest.mark.parametrize("url", ["http://192.0.2.1:8765", "http://lab.example.org", "http://localhost.example.org"])
def test_a_token_crosses_no_network_unencrypted(url: str) -> None:
    with pytest.raises(Refused, match="https://"):
        Client(url, token="cdir_secret")
    Client(url.replace("http:", "https:"), token="cdir_secret")
    Client("http://127.0.0.1:8765", token="cdir_secret")
    Client("http://[::1]:8765", token="cdir_secret")


def test_errors_are_those_of_the_apis(url: str, dead_port: int) -> None:
    client = Client(url)
    with pytest.raises(NotFound) as remote:
        list(client.vdir.ls("/nothing"))
    with Vdir() as vdir, pytest.raises(NotFound) as here:
        list(vdir.ls("/nothing"))
    assert str(remote.value) == str(here.value)
    with pytest.raises(AlreadyExists):
        client.vdir.mkdir("/data")
    with pytest.raises(Unavailable, match="does not answer"):
        list(Client(f"http://127.0.0.1:{dead_port}").vdir.ls("/"))
    with pytest.raises(AuthenticationFailed, match="CDIR_TOKEN"):
        list(Client(url, token="cdir_wrong").vdir.ls("/"))
    for wrong in ("ftp://x", "nothing", "http://user@host"):
        with pytest.raises(UsageError):
            Client(wrong)


def test_long_work_is_followed_to_its_result(url: str, roots: dict[str, Path]) -> None:
    seen: list[Event] = []
    client = Client(url, observer=seen.append)
    report = client.vdir.copy("/data", to=["two"], recursive=True, options=Selection(exclude=("*.txt",)))
    assert (report.action, report.files, report.errors) == ("copy", 1, 0)
    assert read_tree(roots["two"]) == {"data/b/ü c.bin": bytes(3000)}
    with pytest.raises(NotFound):
        client.storage.copy("one:none", "two:")
    assert client.vdir.delete("/data", recursive=True, dryrun=True).files == 3
    assert client.vdir.delete("/data", recursive=True).files == 3
    assert list(client.vdir.ls("/")) == []


def cdir(*arguments: str) -> tuple[int, str, str]:
    done = subprocess.run([sys.executable, "-m", "cloudmesh.cdir.main", *arguments], capture_output=True, text=True)
    return done.returncode, done.stdout, done.stderr


SAME: list[list[str]] = [
    ["ls", "/data", "--recursive"],
    ["status", "/data/a.txt", "--output=yaml"],
    ["cat", "/data/a.txt"],
    ["ls", "/nothing"],
    ["delete", "/data"],
    ["storage", "jobs", "list"],
    ["rules", "check", "/data"],
]


def test_the_command_line_says_the_same_over_a_service(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for arguments in SAME:
        assert cdir(f"--url={url}", *arguments) == cdir(*arguments)
    here = cdir("ls", "/data", "--output=csv")
    monkeypatch.setenv("CDIR_URL", url)
    assert cdir("ls", "/data", "--output=csv") == here


def test_commands_that_change(url: str, roots: dict[str, Path]) -> None:
    code, out, err = cdir(f"--url={url}", "copy", "/data", "--to=two", "--recursive", "--progress=1s")
    assert code == 0, err
    assert "copy" in out
    assert len(read_tree(roots["two"])) == 3
    code, out, err = cdir(f"--url={url}", "delete", "/data", "--recursive", "--yes")
    assert code == 0, err
    code, _, err = cdir(f"--url={url}", "storage", "vault", "unlock")
    assert code == 1
    assert "not over a service" in err


def test_a_service_is_started_in_the_background_and_stopped(roots: dict[str, Path], dead_port: int) -> None:
    assert "stopped" in cdir("service", "status")[1]
    code, out, err = cdir("service", "start", f"--port={dead_port}", "--output=csv")
    try:
        assert code == 0, err
        assert httpx.get(f"http://127.0.0.1:{dead_port}/healthz").text == "ok\n"
        assert f"http://127.0.0.1:{dead_port}/signin?code=" in out
        assert "running" in cdir("service", "status")[1]
        assert "/signin?code=" in cdir("service", "open")[1]
        code, _, err = cdir("service", "start")
        assert (code, "already" in err) == (1, True)
    finally:
        assert "stopped" in cdir("service", "stop")[1]
    assert "stopped" in cdir("service", "status")[1]
