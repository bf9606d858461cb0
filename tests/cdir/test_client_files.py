"""Files of this computer over a service: the same commands give the same output, the same files and the same names."""

from __future__ import annotations

import hashlib
import inspect
import os
import re
import socket
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from cloudmesh.cdir import Client
from cloudmesh.cdir.files_here import OURS
from cloudmesh.cdir.main import CDIR
from cloudmesh.cdir.offers import offer_of_method, offers
from cloudmesh.storage import Storage
from cloudmesh.storage.abc import ServiceSettings
from cloudmesh.storage.binding import load
from cloudmesh.storage.errors import (
    AlreadyExists,
    ChecksumMismatch,
    ConfigError,
    IsADirectory,
    PermissionDenied,
    PreconditionFailed,
    Refused,
    SourceChanged,
    Unavailable,
    Unsupported,
)
from cloudmesh.storage.meaning import Concerns
from cloudmesh.storage.transfer.events import Event
from cloudmesh.storage.transfer.totals import Totals
from cloudmesh.vdir import Vdir
from cloudmesh.vdir.records import NameInfo
from tests.cdir.service.conftest import new_token, running
from tests.places import configure, local, read_tree, write_tree

FILES = {"a.txt": b"alpha", "b/ü c.bin": bytes(range(256)) * 9000, "b/d.txt": b"delta", "b/e": b""}


@pytest.fixture
def roots(home: Path, tmp_path: Path) -> dict[str, Path]:
    roots = {name: tmp_path / name for name in ("one", "two")}
    configure(home, [local(name, root) for name, root in roots.items()])
    return roots


@pytest.fixture
def url(roots: dict[str, Path], served: httpx.Client, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setenv("CDIR_TOKEN", served.headers["Authorization"].removeprefix("Bearer "))
    return str(served.base_url)


Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def cdir(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Run:
    """Runs a command in a directory: exit code, output and errors, but not how long it took."""

    def run(*arguments: str, directory: Path) -> tuple[int, str, str]:
        monkeypatch.chdir(directory)
        code = CDIR.run(arguments)
        out, err = (re.sub(r"\b(\d+\.\d+|0(?= s\b))\b", "N", text) for text in capsys.readouterr())
        return code, out, err

    return run


COMMANDS: list[str] = [
    "put tree/a.txt /data/a.txt --to=one",  # no such directory yet
    "mkdir /data",
    "put tree/a.txt /data --to=one --output=json",
    "put tree/a.txt /data/ --to=one",
    "put tree /data",
    "put tree /data --recursive --dryrun",
    "put tree /data --recursive --to=one,two --output=yaml",
    "put tree /data --recursive --to=one,two",
    "put none /data",
    "put tree/a.txt /data/b --to=nowhere",
    "put tree/a.txt /one/a",
    "put other /data/a.txt --to=one",
    "put other /data/a.txt --to=one --force",
    "put changed /data --recursive",
    "put tree /data --recursive --exclude=*.bin --max-size=1K --output=csv",
    "put - /data",
    "ls /data --recursive --output=csv",
    "get /data/a.txt out",
    "get /data/a.txt .",
    "get /data/a.txt other",
    "get /data/a.txt other --force",
    "get /data there",
    "get /data there --recursive --dryrun",
    "get /data there --recursive --output=json",
    "get /data there --recursive",
    "get /data out --recursive",
    "get two:/data/b/d.txt d2",
    "get two:/data/a.txt a2",
    "get nowhere:/data/a.txt a3",
    "get /none x",
    "cat two:/data/b/d.txt",
    "cat /data",
    "cd /data",
    "pwd",
    "ls --output=csv",
    "cat a.txt",
    "get b/d.txt d3",
    "cd ..",
    "cd /data/a.txt",
    "export catalogue",
    "export - /data/b",
    "export no/such/file",
    "import catalogue",
    "import none",
    "import other",
    "storage put tree one:copy --recursive --output=json",
    "storage put tree one:copy --recursive",
    "storage put tree one:copy",
    "storage put other one:copy/a.txt",
    "storage put none one:",
    "storage put other nowhere:x",
    "storage --storage=two put other x/y/",
    "storage get one:copy back --recursive",
    "storage get one:copy back --recursive",
    "storage get one:copy/a.txt .",
    "storage get one:none .",
    "storage sync changed one:copy --delete --max-delete=100% --dryrun",
    "storage sync changed one:copy --delete --max-delete=100% --backup-dir=one:old",
    "storage sync one:copy synced",
    "storage sync one:copy two:copy --include=a.txt",
    "storage list one: --recursive --output=csv",
    "storage get one:copy limited --recursive --max-transfer=3",
    "storage put tree one:chosen --recursive --filter-from=rules",
    "storage get one:copy chosen --recursive --filter-from=rules",
    "storage copy one:copy two:chosen --recursive --filter-from=rules",
    "storage copy one:copy two:chosen --recursive --filter-from=rules --include=a.txt --exclude=b/*",
    "storage sync one:copy two:synced --filter-from=rules --output=json",
    "storage sync one:copy two:synced --filter-from=rules --dryrun",
    "storage copy one:copy two:empty --recursive --filter-from=/dev/null",
    "copy /data --to=two --recursive --filter-from=rules",
    "put tree /chosen --to=one --recursive --filter-from=rules",
    "get /data names --recursive --filter-from=rules",
    "copy /data --to=one --recursive --filter-from=none",
    "copy /data --to=one --recursive --filter-from=wrong",
    "copy /data --to=one --recursive --filter-from=.",
    "storage list two: --recursive --output=csv",
]


def run_all(cdir: Run, directory: Path, *before: str) -> list[tuple[str, tuple[int, str, str]]]:
    directory.mkdir()
    write_tree(directory / "tree", FILES)
    write_tree(directory / "changed", {"a.txt": b"another"})
    (directory / "other").write_bytes(b"something else")
    (directory / "rules").write_bytes(b"- /x\n!\n# of these the first that fits\n- *.bin\n+ /b/**\n\n- ?.txt\n")
    (directory / "wrong").write_bytes(b"+ a\n+b\n")
    for path in directory.rglob("*"):
        os.utime(path, (1_700_000_000, 1_700_000_000))
    return [(command, cdir(*before, *command.split(), directory=directory)) for command in COMMANDS]


def without_times(files: dict[str, bytes]) -> dict[str, bytes]:
    """The files, without what differs from one run to the other in an exported catalogue."""
    times = re.compile(rb'"(checked|mtime|created|modified|replaced|etag|verified)[a-z_]*": ?("[^"]*"|[0-9]+)')
    return {name: times.sub(b"", data) if name == "catalogue" else data for name, data in files.items()}


def test_files_of_this_computer_over_a_service(
    roots: dict[str, Path], tmp_path: Path, cdir: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    here = run_all(cdir, tmp_path / "here")
    result = {name: read_tree(root) for name, root in roots.items()}
    homes = tmp_path / "second"
    homes.mkdir()
    monkeypatch.setenv("CLOUDMESH_CONFIG_DIR", str(homes))
    roots = {name: tmp_path / f"far-{name}" for name in ("one", "two")}
    configure(homes, [local(name, root) for name, root in roots.items()])
    with running() as client:
        monkeypatch.setenv("CDIR_TOKEN", client.headers["Authorization"].removeprefix("Bearer "))
        # the client knows nothing: neither the services nor the names
        monkeypatch.setenv("CLOUDMESH_CONFIG_DIR", str(tmp_path / "client"))
        there = run_all(cdir, tmp_path / "there", f"--url={client.base_url}")
    pairs = [pair for pair in zip(here, there, strict=True) if "csv" not in pair[0][0] and "export -" not in pair[0][0]]
    assert [one for one, _ in pairs] == [other for _, other in pairs]
    assert without_times(read_tree(tmp_path / "there")) == without_times(read_tree(tmp_path / "here"))
    assert {name: read_tree(root) for name, root in roots.items()} == result


def public(api: type, groups: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], str, Any]]:
    for name, member in vars(api).items():
        if not name.startswith("_") and inspect.isfunction(member):
            yield groups, name, member
    for group, place in getattr(api, "usage_groups", {}).items():
        yield from public(load(place), (*groups, group))


@pytest.mark.parametrize("api", [Vdir, Storage])
def test_the_client_has_the_methods_of_the_apis(api: type) -> None:
    root: Any = Client("http://127.0.0.1:1").vdir if api is Vdir else Client("http://127.0.0.1:1").storage
    found = list(public(api))
    assert len(found) > 20
    for groups, name, method in found:
        owner = root
        for group in groups:
            owner = getattr(owner, group)
        mine = inspect.signature(getattr(owner, name))
        theirs = inspect.signature(method)
        assert list(mine.parameters.values()) == list(theirs.parameters.values())[1:], name
        assert mine.return_annotation == theirs.return_annotation
    for name in ("nothing", "usage_groups", "_path"):
        with pytest.raises(AttributeError):
            getattr(root, name)


def test_each_offer_is_found_by_its_method() -> None:
    for offer in offers():
        found = offer_of_method(offer.command, offer.target.groups, offer.target.name)
        assert found is not None
        assert (found.path, found.target.method) == (offer.path, offer.target.method)


def test_no_path_of_this_computer_is_sent() -> None:
    here = (Concerns.HERE, Concerns.PLACE_OR_HERE)
    for offer in offers():
        if any(field.concern in here for field in offer.fields):
            assert (offer.command, offer.target.name) in OURS


def test_a_name_is_opened_and_written(url: str, roots: dict[str, Path]) -> None:
    data = bytes(range(256)) * 20_000
    with Client(url) as client:
        made = client.vdir.write("/data/x", [data[:1000], data[1000:]], to=["two"], modified_ns=1_700_000_000 * 10**9)
        assert (made.services, made.size, made.modified_ns) == (["two"], len(data), 1_700_000_000 * 10**9)
        assert made == client.vdir.info("/data/x")
        with Vdir() as vdir:
            assert vdir.info("/data/x") == made
            for start, length in ((0, None), (5, 10), (-3, None), (len(data), None), (len(data) - 2, 100), (0, 0)):
                with client.vdir.open("/data/x", start, length) as far, vdir.open("/data/x", start, length) as near:
                    assert far.read() == near.read()
                    assert far.entry.size == near.entry.size
        assert read_tree(roots["two"]) == {"data/x": data}
        with pytest.raises(IsADirectory):
            client.vdir.open("/data")
        with pytest.raises(AlreadyExists):
            client.vdir.write("/data/x", [b"other"], force=False)
        with pytest.raises(Unsupported):
            client.vdir.delete("/data/x", check=print)
        with pytest.raises(ChecksumMismatch):
            client.vdir.write("/data/x", [b"other"], sha256=hashlib.sha256(b"another").hexdigest())
        assert b"".join(client.vdir.cat("/data/x")) == data


def test_a_name_is_written_as_long_as_it_has_what_was_checked(url: str, roots: dict[str, Path]) -> None:
    seen: list[NameInfo | None] = []

    def refuse(info: NameInfo | None) -> None:
        raise Refused("/x")

    with Client(url) as client:

        def change(info: NameInfo | None) -> None:
            client.vdir.write("/x", [b"of another"])

        made = client.vdir.write("/x", [b"first"], check=seen.append)
        client.vdir.write("/x", [b"second"], check=seen.append)
        assert seen == [None, made]
        with pytest.raises(Refused):
            client.vdir.write("/x", [b"third"], check=refuse)
        assert b"".join(client.vdir.cat("/x")) == b"second"
        with pytest.raises(PreconditionFailed):
            client.vdir.write("/x", [b"third"], check=change)
        assert b"".join(client.vdir.cat("/x")) == b"of another"
        write_tree(roots["one"], {"added": b"added"})
        client.vdir.add("one:added", "/added")
        with pytest.raises(Unsupported, match="SHA-256 is not known"):
            client.vdir.write("/added", [b"other"], check=seen.append)


def test_a_foreign_file_is_not_replaced_unasked(url: str, roots: dict[str, Path], tmp_path: Path) -> None:
    write_tree(roots["one"], {"data/x": b"foreign"})
    file = write_tree(tmp_path / "mine", {"x": b"mine"}) / "x"
    client = Client(url)
    with pytest.raises(AlreadyExists):
        client.vdir.put(str(file), "/data/x", to=["one"])
    assert read_tree(roots["one"]) == {"data/x": b"foreign"}
    report = client.vdir.put(str(file), "/data/x", to=["one", "two"])
    assert (report.files, report.errors) == (1, 1)
    assert read_tree(roots["one"]) == {"data/x": b"foreign"}
    assert client.vdir.put(str(file), "/data/x", to=["one"], force=True).files == 1
    assert read_tree(roots["one"]) == {"data/x": b"mine"}


def test_what_a_token_may_not_touch_stays_closed(url: str, roots: dict[str, Path], tmp_path: Path) -> None:
    write_tree(roots["one"], {"data/x": b"one"})
    write_tree(roots["two"], {"data/x": b"two"})
    limited = Client(url, new_token(["read", "write"], service=["one"]))
    assert limited.storage.get("one:data/x", str(tmp_path / "x")).files == 1
    with pytest.raises(ConfigError, match="no such service"):
        limited.storage.get("two:data/x", str(tmp_path / "y"))
    with pytest.raises(ConfigError, match="no such service"):
        limited.storage.put(str(tmp_path / "x"), "two:y")
    with pytest.raises(PermissionDenied):
        limited.vdir.put(str(tmp_path / "x"), "/data/x", to=["two"])
    below = Client(url, new_token(["read", "write"], prefix="/mine"))
    with pytest.raises(PermissionDenied):
        below.storage.get("one:data/x", str(tmp_path / "y"))
    with pytest.raises(PermissionDenied):
        below.vdir.put(str(tmp_path / "x"), "/other")
    assert below.vdir.put(str(tmp_path / "x"), "/mine/x", to=["one"]).files == 1
    only_reads = Client(url, new_token(["read"]))
    with pytest.raises(PermissionDenied):
        only_reads.vdir.put(str(tmp_path / "x"), "/mine/y")
    with pytest.raises(PermissionDenied):
        only_reads.storage.put(str(tmp_path / "x"), "one:y")
    with pytest.raises(PermissionDenied):
        only_reads.vdir.import_lines([])


def test_jobs_of_a_service_have_no_files_of_this_computer(url: str, tmp_path: Path) -> None:
    write_tree(tmp_path / "mine", {"x": b"mine"})
    with pytest.raises(Unsupported, match="--name: a job of the service"):
        Client(url).storage.sync(str(tmp_path / "mine"), "one:", name="mine")
    with pytest.raises(Unsupported, match="--async: a job of the service"):
        Client(url).storage.sync("one:", str(tmp_path / "mine"), async_=True)


def test_progress_names_the_files(url: str, tmp_path: Path) -> None:
    tree = str(write_tree(tmp_path / "tree", FILES))
    over: list[Event] = []
    near: list[Event] = []
    Client(url, observer=over.append).vdir.put(tree, "/far", to=["one", "two"], recursive=True)
    with Vdir(observer=near.append) as vdir:
        vdir.put(tree, "/near", to=["one", "two"], recursive=True)
    told = [
        {(e.kind, e.name.replace("near", "far"), e.size) for e in one if e.kind in ("planned", "done")}
        for one in (over, near)
    ]
    assert told[0] == told[1]
    assert sum(event.size for event in over if event.kind == "moved") == 2 * sum(map(len, FILES.values()))


LARGE = {f"f{number}": bytes([number]) * 1_500_000 for number in range(4)}


def test_a_job_of_the_service_tells_of_its_files(home: Path, tmp_path: Path, served: httpx.Client) -> None:
    roots = {name: tmp_path / name for name in ("one", "slow")}
    write_tree(roots["one"], LARGE)
    write_tree(roots["slow"] / "copy", {"f3/in/the/way": b"x"})
    settings = ServiceSettings("slow", "local", root=str(roots["slow"]), options={"bytes_per_second": "2M"})
    configure(home, [local("one", roots["one"]), settings])
    seen: list[Event] = []
    totals = Totals()
    token = served.headers["Authorization"].removeprefix("Bearer ")

    def observe(event: Event) -> None:
        seen.append(event)
        totals(event)

    far = Client(str(served.base_url), token, observe)
    report = far.storage_on("one").copy("one:", "slow:copy", recursive=True)
    assert (report.files, report.errors) == (3, 1)
    now = totals.snapshot()
    assert (now.files_planned, now.files_done, now.files_failed, now.bytes_done) == (4, 3, 1, 3 * 1_500_000)
    assert now.planned_all
    assert not now.under_way
    started = {event.name for event in seen if event.kind == "started"}
    assert started
    assert started <= {f"one:{name}" for name in LARGE}
    assert any(event.kind == "moved" and event.name in started for event in seen)
    assert [event.name for event in seen if event.kind == "failed"] == ["one:f3"]


OUTSIDE = ("..%2Fsecret", "%2e%2e/secret", "a/..%2f..%2fsecret", "link/secret", "%00", "a//b", "%ff")


def test_no_path_leads_out_of_a_service(roots: dict[str, Path], tmp_path: Path, served: httpx.Client) -> None:
    (tmp_path / "secret").write_bytes(b"hidden")
    write_tree(roots["one"], {"a/x": b"x"})
    (roots["one"] / "link").symlink_to(tmp_path)
    service = "/api/v1/services/one"
    for path in OUTSIDE:
        for method in ("GET", "PUT", "DELETE"):
            answer = served.request(method, f"{service}/content/{path}", content=b"new" if method == "PUT" else None)
            assert 400 <= answer.status_code < 500, (method, path)
            assert b"hidden" not in answer.content
    for query in ("../secret", "/etc", "a/../../secret", "link/secret"):
        for what in ("entry", "entries"):
            assert 400 <= served.get(f"{service}/{what}", params={"path": query}).status_code < 500
        values = {"source": query, "destination": "a/stolen"}
        for what in ("copies", "moves"):
            assert 400 <= served.post(f"{service}/{what}", json=values).status_code < 500
            back = {"source": "a/x", "destination": query}
            assert 400 <= served.post(f"{service}/{what}", json=back).status_code < 500
    assert served.get("/api/v1/services/%2e%2e/content/x").status_code in (400, 404, 409)
    assert (tmp_path / "secret").read_bytes() == b"hidden"
    assert (roots["one"] / "a/x").read_bytes() == b"x"
    assert not (roots["one"] / "a/stolen").exists()


@pytest.mark.parametrize("size", [2, 4])
def test_a_stream_of_another_size_than_promised_is_refused(url: str, roots: dict[str, Path], size: int) -> None:
    with Client(url) as client:
        with pytest.raises(SourceChanged):
            client.vdir.write("/a", [b"a", b"bc"], size=size, to=["one"])
        assert not list(client.vdir.ls("/"))
        assert client.vdir.write("/a", [b"a", b"bc"], size=3, to=["one"]).size == 3
    assert read_tree(roots["one"]) == {"a": b"abc"}


def test_a_listing_that_is_cut_between_two_lines_is_not_taken_for_whole(home: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:

        def answer() -> None:
            connection, _ = server.accept()
            with connection:
                connection.recv(65536)
                connection.sendall(
                    b"HTTP/1.1 200 OK\r\nContent-Type: application/x-ndjson\r\nContent-Length: 9\r\n\r\n"
                )

        thread = threading.Thread(target=answer)
        thread.start()
        with Client(f"http://127.0.0.1:{server.getsockname()[1]}") as client, pytest.raises(Unavailable):
            list(client.vdir.ls("/"))
        thread.join()
