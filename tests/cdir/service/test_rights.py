"""Who may ask for what: every scope on every route, and what limits leave of a token."""

from __future__ import annotations

import asyncio
import itertools
import re
import socket
import ssl
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
from fastapi import FastAPI
from fastapi.routing import APIRoute
from starlette.routing import Route

from cloudmesh.cdir import Client
from cloudmesh.cdir.service.app import create
from cloudmesh.cdir.service.house import House
from cloudmesh.cdir.service.security.principal import SCOPES
from cloudmesh.cdir.service.security.shares import Shares
from cloudmesh.cdir.service.security.tls import made_certificate
from cloudmesh.cdir.service.settings import Settings
from cloudmesh.cdir.service.state import current
from cloudmesh.cdir.service.work import Crew
from cloudmesh.storage.database import Database
from cloudmesh.storage.errors import Unavailable
from cloudmesh.storage.home import config_dir
from cloudmesh.vdir import Vdir
from tests.cdir.service.conftest import new_token, running
from tests.places import configure, local, read_tree, write_tree

KNOWN = {"/files": "read", "/metrics": "read", "/docs": "", "/api/v1/openapi.json": ""}
"""Routes that are not in the OpenAPI document, each with its scope; none = whoever is known."""

PUBLIC = {"/healthz", "/readyz"}


def routes(app: FastAPI) -> Iterator[tuple[str, str, str]]:
    """Method, path and scope of each route that is not public."""
    for route in app.routes:
        assert isinstance(route, Route | APIRoute), route
        if route.path in PUBLIC:
            continue
        for method in sorted(route.methods or ()):
            if isinstance(route, APIRoute) and route.include_in_schema:
                found = re.search(r"Scope: (\w+)\.", f"{route.description}\n{route.endpoint.__doc__}")
                assert found is not None, f"{method} {route.path} tells no scope"
                yield method, route.path, found[1]
            else:
                yield method, route.path, KNOWN[route.path]


@contextmanager
def application() -> Iterator[FastAPI]:
    """The application in this process: each request can come from an address of its own, so none comes too often."""
    app = create(Settings())
    house = app.state.house = House()
    app.state.crew = Crew(house)
    try:
        yield app
    finally:
        app.state.crew.close(10)
        house.close()


def test_every_scope_on_every_route(home: Path) -> None:
    asyncio.run(ask_every_route())


async def ask_every_route() -> None:
    addresses = itertools.count()

    async def status(app: FastAPI, method: str, path: str, token: str) -> int:
        number = next(addresses)
        transport = httpx.ASGITransport(app, client=(f"10.{number >> 16}.{number >> 8 & 255}.{number & 255}", 1))
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        url = "http://127.0.0.1:8765" + re.sub(r"\{[^}]+\}", "none", path)
        # nothing is done: what every route refuses as not understood comes after what it refuses as not allowed
        given: dict[str, Any] = {"json": {"no_such": 1}} if method == "POST" else {"params": {"no_such": "1"}}
        async with httpx.AsyncClient(transport=transport, headers=headers) as client:
            return (await client.request(method, url, **given)).status_code

    single = {scope: new_token([scope]) for scope in SCOPES}
    without = {scope: new_token([one for one in SCOPES if one != scope]) for scope in SCOPES}
    with application() as app:
        cells = list(routes(app))
        assert len(cells) > 60
        for method, path, scope in cells:
            where = f"{method} {path}"
            assert await status(app, method, path, "") == 401, where
            assert await status(app, method, path, "cdir_" + "A" * 43) == 401, where
            for one in SCOPES:
                found = await status(app, method, path, single[one])
                if scope in ("", one):
                    assert found not in (401, 403, 429), where
                else:
                    assert found == 403, f"{where} with {one} alone"
            if scope:
                assert await status(app, method, path, without[scope]) == 403, where  # type: ignore[index]


# ---- limits ----------------------------------------------------------------------------------------------------------


@pytest.fixture
def roots(home: Path, tmp_path: Path) -> dict[str, Path]:
    """Services ``one`` and ``two``; ``/run/both`` on both, ``/run/two`` and ``/other/two`` on the second."""
    roots = {name: tmp_path / name for name in ("one", "two")}
    configure(home, [local(name, root) for name, root in roots.items()])
    source = write_tree(tmp_path / "source", {"both": b"both", "two": b"second"})
    with Vdir() as vdir:
        vdir.put(str(source / "both"), "/run/both", to=["one", "two"])
        vdir.put(str(source / "two"), "/run/two", to=["two"])
        vdir.put(str(source / "two"), "/other/two", to=["two"])
    return roots


def asked(client: httpx.Client, token: str, method: str, path: str, values: dict[str, Any] | None = None) -> int:
    given: dict[str, Any] = {"json": values} if method == "POST" else {"params": values}
    headers = {"Authorization": f"Bearer {token}", "Prefer": "wait=30"}
    url = path if path[1:6] == "files" else f"/api/v1/{path}"
    return client.request(method, url, headers=headers, **given).status_code


def test_what_limits_leave(roots: dict[str, Path], tmp_path: Path, served: httpx.Client) -> None:
    everything = new_token()
    plain = new_token(["read", "write", "delete"])
    inside = new_token(prefix="/run")
    first = new_token(service=["one"])
    for token, method, path, values, status in (
        # paths of the computer, and who is sent credentials
        (plain, "POST", "vdir/put", {"source": str(tmp_path / "source/two"), "dir_or_name": "/x"}, 403),
        (plain, "POST", "vdir/get", {"name": "/run/two", "destination": str(tmp_path / "out")}, 403),
        (plain, "POST", "storage/put", {"source": "/etc/hosts", "destination": "one:x"}, 403),
        (plain, "POST", "storage/sync", {"source": "/etc", "destination": "one:x"}, 403),
        (plain, "POST", "storage/copy", {"source": "one:", "destination": "two:", "cluster": "tcp://x:1"}, 403),
        (everything, "POST", "vdir/copy", {"dir_or_name": "/run", "to": ["one"], "filter_from": "/etc/hosts"}, 422),
        (plain, "DELETE", "storage/config/remove", {"name": "one"}, 403),
        (plain, "POST", "storage/clean", {}, 403),
        (everything, "POST", "vdir/put", {"source": str(tmp_path / "source/two"), "dir_or_name": "/mine"}, 200),
        # a prefix
        (inside, "GET", "vdir/ls", {"dir": "/run"}, 200),
        (inside, "GET", "vdir/ls", {}, 403),
        (inside, "GET", "vdir/ls", {"dir": "/run/../other"}, 403),
        (inside, "GET", "vdir/ls", {"dir": "/running"}, 403),
        (inside, "GET", "vdir/cat", {"name": "one:/run/both"}, 200),
        (inside, "GET", "vdir/cat", {"name": "two:/other/two"}, 403),
        (inside, "POST", "vdir/mkdir", {"dir": "one:/run/x", "parents": True}, 403),
        (inside, "POST", "vdir/mkdir", {"dir": "none:/run/x", "parents": True}, 403),
        (inside, "GET", "vdir/cat", {"name": "none:/run/both"}, 403),
        (inside, "POST", "vdir/move", {"source": "/run/both", "destination": "/other/"}, 403),
        (inside, "POST", "vdir/move", {"source": "one:/run/both", "destination": "/run/x"}, 403),
        (inside, "POST", "vdir/add", {"fileendpoint": "two:other/two", "dir_and_name": "/run/got"}, 403),
        (inside, "GET", "storage/list", {"source": "one:run"}, 403),
        (inside, "GET", "storage/config/list", {}, 403),
        (inside, "GET", "storage/jobs/list", {}, 403),
        (inside, "GET", "/files/run/both", None, 200),
        (inside, "GET", "/files/other/two", None, 403),
        (inside, "GET", "/files/two/other/two", None, 403),
        # services
        (first, "GET", "vdir/cat", {"name": "/run/both"}, 200),
        (first, "GET", "vdir/cat", {"name": "/run/two"}, 404),
        (first, "GET", "vdir/cat", {"name": "two:/run/both"}, 403),
        (first, "GET", "/files/run/both", None, 200),
        (first, "GET", "/files/run/two", None, 404),
        (first, "GET", "/files/two/run/both", None, 404),
        (first, "GET", "storage/list", {"source": "one:"}, 200),
        (first, "GET", "storage/list", {"source": "two:"}, 403),
        (first, "GET", "storage/list", {"source": "", "storage": "two"}, 403),
        (first, "GET", "storage/list", {}, 403),
        (first, "POST", "storage/copy", {"source": "one:", "destination": "two:x"}, 403),
        (first, "POST", "vdir/copy", {"dir_or_name": "/run", "to": ["two"], "recursive": True}, 403),
        (first, "POST", "storage/measure", {}, 403),
        (first, "POST", "storage/measure", {"service": "two"}, 403),
        (first, "GET", "storage/config/list", {}, 403),
        (first, "GET", "storage/config/show", {"name": "one"}, 403),
        (first, "GET", "storage/vault/list", {}, 403),
        (first, "POST", "storage/clean", {}, 403),
        (first, "GET", "storage/sync/status", {}, 403),
        (first, "GET", "storage/jobs/list", {}, 403),
        (first, "GET", "jobs", {}, 403),
        # a job has the limits of who began it: it cannot be read from where the only replica is
        (first, "POST", "vdir/copy", {"dir_or_name": "/other/two", "to": ["one"]}, 404),
    ):
        assert asked(served, token, method, path, values) == status, (method, path, values)
    # of two replicas the one that may not be read is not gone on with
    (roots["one"] / "run/both").write_bytes(b"else")
    assert asked(served, first, "GET", "vdir/cat", {"name": "/run/both"}) not in (200, 401)
    assert asked(served, everything, "GET", "vdir/cat", {"name": "/run/both"}) == 200
    headers = {"Authorization": f"Bearer {first}"}
    assert served.put("/files/run/two", content=b"x", headers=headers).status_code == 403
    assert read_tree(roots["two"])["run/two"] == b"second"
    assert "other/two" not in read_tree(roots["one"])


def test_a_job_is_shown_to_its_owner_and_keeps_the_limits(roots: dict[str, Path], served: httpx.Client) -> None:
    first, second = new_token(service=["one"]), new_token(service=["one"])
    values = {"dir_or_name": "/other/two", "to": ["one"]}
    headers = {"Authorization": f"Bearer {first}"}
    name = served.post("/api/v1/vdir/copy", json=values, headers=headers).json()["name"]
    served.get(f"/api/v1/jobs/{name}/events", headers=headers)  # ends with the job
    for scope_of, status in ((first, 200), (second, 404)):
        for path in (f"jobs/{name}", f"jobs/{name}/log", f"storage/jobs/show?name={name}"):
            assert asked(served, scope_of, "GET", path) == status, path
    assert asked(served, second, "GET", f"jobs/{name}/result") == 404
    assert asked(served, second, "GET", f"jobs/{name}/events") == 404
    # done again, by a process of its own, it still has no more
    assert asked(served, first, "POST", f"jobs/{name}/resume", {}) == 200
    served.get(f"/api/v1/jobs/{name}/events", headers=headers)  # ends with the job
    assert "other/two" not in read_tree(roots["one"])


HIDDEN = "two"
"""The last part of the names that lie on service ``two`` alone."""

ABOUT_NAMES: list[tuple[str, str, dict[str, Any]]] = [
    ("GET", "vdir/ls", {"dir": "/", "recursive": True}),
    ("GET", "vdir/ls", {"dir": "/run"}),
    ("GET", "vdir/tree", {"dir": "/"}),
    ("GET", "vdir/search", {"pattern": "*", "dir": "/"}),
    ("GET", "vdir/status", {"dir_or_name": "/", "check": True}),
    ("GET", "vdir/rules/check", {"dir": "/"}),
    ("POST", "vdir/export", {"file": "-", "dir": "/"}),
    ("GET", "/files/run/", {}),
    ("GET", "/files/one/run/", {}),
    ("POST", "vdir/copy", {"dir_or_name": "/run", "to": ["one"], "recursive": True, "dryrun": True}),
    ("POST", "vdir/verify", {"dir_or_name": "/run"}),
]


def paths_in(told: Any) -> set[str]:
    """All texts in an answer that could be names."""
    if isinstance(told, dict):
        return set().union(*map(paths_in, told.values()), set())
    if isinstance(told, list):
        return set().union(*map(paths_in, told), set())
    return {told} if isinstance(told, str) else set()


def test_names_on_services_of_others_are_not_there(roots: dict[str, Path], served: httpx.Client) -> None:
    headers = {"Authorization": f"Bearer {new_token(service=['one'])}", "Prefer": "wait=30"}

    def ask(method: str, path: str, values: dict[str, Any]) -> httpx.Response:
        given: dict[str, Any] = {"json": values} if method == "POST" else {"params": values}
        return served.request(
            method, path if path.startswith("/files") else f"/api/v1/{path}", headers=headers, **given
        )

    for method, path, values in ABOUT_NAMES:
        answer = ask(method, path, values)
        assert answer.status_code in (200, 202), (path, answer.text)
        hidden = {f"/run/{HIDDEN}", f"/other/{HIDDEN}", f"run/{HIDDEN}", f"other/{HIDDEN}"}
        told = answer.json() if answer.text[:1] in "[{" else answer.text
        assert hidden.isdisjoint(paths_in(told)), path
    assert ask("GET", "vdir/status", {"dir_or_name": "/"}).json()["files"] == 1
    # as of names that were never there, with the same words
    for method, path, name in (
        ("GET", "vdir/ls", "dir"),
        ("GET", "vdir/status", "dir_or_name"),
        ("GET", "vdir/why", "name"),
        ("GET", "vdir/url", "name"),
        ("GET", "vdir/history", "name"),
        ("GET", "vdir/cat", "name"),
        ("DELETE", "vdir/delete", "dir_or_name"),
        ("POST", "vdir/prefer", "dir_or_name"),
        ("POST", "vdir/rules/set", "dir"),
    ):
        for below in ("", "/below"):
            more = {"copies": 1} if path == "vdir/rules/set" else {}
            there = ask(method, path, {name: f"/run/{HIDDEN}{below}"} | more).json()
            missing = ask(method, path, {name: f"/run/six{below}"} | more).json()
            assert there["status"] == 404, path
            assert there["detail"] == missing["detail"].replace("/run/six", f"/run/{HIDDEN}")
    for method in ("GET", "HEAD", "DELETE"):
        assert ask(method, f"/files/run/{HIDDEN}", {}).status_code == 404
    assert ask("POST", "vdir/sync", {"dir_or_name": "/run"}).status_code == 403, "it asks all services"
    # and nothing is done to them, also not with the directory that holds them
    assert ask("DELETE", "vdir/delete", {"dir_or_name": "/run", "recursive": True}).status_code == 403
    assert ask("POST", "vdir/move", {"source": "/run", "destination": "/away"}).status_code == 403
    assert ask("DELETE", "/files/run/both", {}).status_code == 403, "a replica is another's"
    for purge in (True, False):
        conditions = headers | {"If-Match": "*"}
        answer = served.delete("/files/run/both", params={"purge": purge}, headers=conditions)
        assert answer.status_code == 403
    assert ask("DELETE", "/files/run/both", {"purge": "true"}).status_code == 403
    assert ask("DELETE", "vdir/delete", {"dir_or_name": "/run", "recursive": True, "purge": True}).status_code == 403
    assert served.put(f"/files/run/{HIDDEN}", content=b"x", headers=headers).status_code in (403, 409)
    assert served.get("/files/run/").json()[1]["name"] == HIDDEN
    assert served.get(f"/files/run/{HIDDEN}").content == b"second"
    assert read_tree(roots["one"]) == {"run/both": b"both"}
    assert read_tree(roots["two"]) == {"run/both": b"both", "run/two": b"second", "other/two": b"second"}


def test_services_of_others_are_told_as_those_that_are_not_there(roots: dict[str, Path], served: httpx.Client) -> None:
    headers = {"Authorization": f"Bearer {new_token(service=['one'])}"}
    for path, values in (
        ("/files/{}/run/both", {}),
        ("/files/{}/", {}),
        ("/api/v1/vdir/cat", {"name": "{}:/run/both"}),
        ("/api/v1/storage/list", {"source": "{}:"}),
        ("/api/v1/storage/stat", {"source": "x", "storage": "{}"}),
    ):
        answers = [
            served.get(path.format(name), params={k: v.format(name) for k, v in values.items()}, headers=headers)
            for name in ("two", "six")
        ]
        assert answers[0].status_code == answers[1].status_code
        assert answers[0].json()["detail"] == answers[1].json()["detail"].replace("six", "two")


def test_a_directory_is_shared_by_a_link(roots: dict[str, Path], served: httpx.Client) -> None:
    with Database() as database:
        link = Shares(lambda: database, address=lambda: str(served.base_url)).create("/run").url
        with httpx.Client(follow_redirects=True) as stranger:
            assert [one["name"] for one in stranger.get(link).json()] == ["both", "two"]
            assert stranger.get(f"{link}/both").content == b"both"
            assert stranger.get(f"{link}/../../other/two").status_code in (401, 404)
            assert stranger.put(f"{link}/both", content=b"x").status_code == 405


def test_beyond_the_computer_there_is_tls(roots: dict[str, Path]) -> None:
    certificate = made_certificate(config_dir(), [socket.gethostname()])
    context = ssl.create_default_context(cafile=str(certificate.file))
    with running(tls=context, CDIR_SERVICE_HOST="0.0.0.0") as client:
        assert client.get("/api/v1/vdir/ls").status_code == 200
        assert client.get("/api/v1/vdir/ls", headers={"Host": "evil.example"}).status_code == 421
        assert current().fingerprint == certificate.fingerprint
        with pytest.raises(Unavailable, match="use https://"):
            list(Client(f"http://localhost:{client.base_url.port}").vdir.ls("/"))
