"""The primitives of services, and the other routes of `cdir --url`: no way around what limits a token or a service."""

from __future__ import annotations

import http.client
import json
from pathlib import Path
from typing import Any
from urllib.parse import quote

import httpx
import pytest

from cloudmesh.cdir.service.security import audit
from cloudmesh.storage.database import Database
from tests.cdir.service.conftest import new_token, running
from tests.places import configure, local, read_tree, write_tree


@pytest.fixture
def roots(home: Path, tmp_path: Path) -> dict[str, Path]:
    """Services ``one`` and ``two``, a file on each, and one beside them."""
    roots = {name: write_tree(tmp_path / name, {"f": name.encode()}) for name in ("one", "two")}
    configure(home, [local(name, root) for name, root in roots.items()])
    (tmp_path / "secret").write_text("top secret")
    return roots


def test_what_limits_leave(roots: dict[str, Path]) -> None:
    inside, first = new_token(prefix="/run"), new_token(service=["one"])
    file = {"path": "/run/x", "size": 1}
    requests: list[tuple[str, str, Any, int, int]] = [  # with the status by prefix, and by service
        *(
            (method, f"services/{service}{rest}", values, 403, by_service if service == "one" else 403)
            for service in ("one", "two", "six")
            for method, rest, values, by_service in (
                ("GET", "", {}, 200),
                ("GET", "/entry?path=f", {}, 200),
                ("GET", "/entries", {}, 200),
                ("GET", "/content/f", {}, 200),
                ("PUT", "/content/new", {}, 200),
                ("PUT", "/directories/d", {}, 204),
                ("POST", "/copies", {"source": "f", "destination": "g"}, 200),
                ("POST", "/moves", {"source": "g", "destination": "h"}, 204),
                ("DELETE", "/content/h", {}, 204),
                ("DELETE", "/directories/d", {}, 204),
            )
        ),
        ("PUT", "catalogue", {}, 403, 403),
        ("GET", "names?name=/other/x", {}, 403, 404),
        ("GET", "names?name=/run/x", {}, 404, 404),
        ("POST", "announcements", {"files": [file], "to": ["one"]}, 200, 200),
        ("POST", "announcements", {"files": [file]}, 200, 403),  # the default service
        ("POST", "announcements", {"files": [file | {"path": "/other/x"}], "to": ["one"]}, 403, 200),
        ("POST", "announcements", {"files": [file | {"path": "/run/../other/x"}], "to": ["one"]}, 403, 200),
        ("POST", "announcements", {"files": [file], "to": ["two"]}, 200, 403),
        ("PUT", "/files/run/x?to=two", {}, 201, 403),
    ]
    with running() as client:
        for token, index in ((inside, 3), (first, 4)):
            for request in requests:
                method, path, values = request[:3]
                answer = client.request(
                    method,
                    path if path.startswith("/") else f"/api/v1/{path}",
                    headers={"Authorization": f"Bearer {token}"},
                    **({"json": values} if method == "POST" else {}),
                )
                assert answer.status_code == request[index], (method, path, values, answer.text)
        headers = {"Authorization": f"Bearer {first}"}
        assert client.get("/api/v1/services", headers=headers).json() == {"default": "", "services": ["one"]}
    with Database() as database:  # written at the service's end at the latest, also what was refused
        told = {(one.what, one.path, one.outcome) for one in audit.entries(database)}
    within = {"copies": "storage copy", "moves": "storage move"}
    for method, path, values, *_ in requests:
        if method != "GET":
            service, _, kind = path.removeprefix("services/").rpartition("/")
            url = path.partition("?")[0] if path.startswith("/") else f"/api/v1/{path}"
            written = method, url
            if kind in within:
                written = within[kind], f"{service}:{values['source']} {service}:{values['destination']}"
            assert (*written, "refused") in told, url
            assert (*written, "done") in told or "/two" in url or "/six" in url or path == "catalogue", url
    assert read_tree(roots["one"]) == {"f": b"one", "new": b""}
    assert read_tree(roots["two"]) == {"f": b"two", "run/x": b""}


OUTSIDE = [
    *("../secret", "%2e%2e/secret", "%2E./secret", "..%2fsecret", "%2e%2e%2fsecret", "x/../../secret"),
    *("x/%2e%2e/%2e%2e/secret", "/etc/passwd", "%2fetc/passwd", "%252e%252e/secret", "..%5csecret", "..%00/secret"),
    *("..;/secret", "%c0%ae%c0%ae/secret", ".%00./secret", "", ".", "f/"),
]


def test_no_url_leaves_a_service(roots: dict[str, Path], tmp_path: Path, served: httpx.Client) -> None:
    places = {name: read_tree(root) for name, root in roots.items()}

    def ask(method: str, url: str, values: Any = None) -> None:
        connection = http.client.HTTPConnection("127.0.0.1", served.base_url.port or 0)  # sends a path as it is
        body = None if values is None else json.dumps(values)
        headers = {"Authorization": served.headers["Authorization"], "Content-Type": "application/json"}
        connection.request(method, url, body, headers)
        answer = connection.getresponse()
        content = answer.read()
        connection.close()
        assert b"top secret" not in content, (method, url)
        assert b"root:" not in content, (method, url)
        if answer.status < 300:  # a name like others, in the service
            assert "%252e" in url or "%5c" in url or "..;" in url or url.endswith(("path=f/", "path=", "/f/")), url

    for place in OUTSIDE:
        for kind in ("content", "directories"):
            ask("GET", f"/api/v1/services/one/{kind}/{place}")
            ask("DELETE", f"/api/v1/services/one/{kind}/{place.replace('f/', 'none/')}")
        for kind in ("entry", "entries"):
            ask("GET", f"/api/v1/services/one/{kind}?path={place}")
    for place in ("../secret", "/etc/passwd", "x/../../secret", "..", "\0", "./f"):
        for verb in ("copies", "moves"):
            ask("POST", f"/api/v1/services/one/{verb}", {"source": place, "destination": "got"})
            ask("POST", f"/api/v1/services/one/{verb}", {"source": "f", "destination": place})
    for service in ("..", "%2e%2e", "one%2f..", "%2e%2e%2fone", quote(str(tmp_path), safe="")):
        ask("GET", f"/api/v1/services/{service}/content/secret")
        ask("PUT", f"/api/v1/services/{service}/content/secret")
    assert (tmp_path / "secret").read_text() == "top secret"
    assert {name: read_tree(root) for name, root in roots.items()} == places


def test_uploads_are_limited_and_leave_nothing(roots: dict[str, Path]) -> None:
    before = read_tree(roots["one"])
    with running(CDIR_SERVICE_MAX_UPLOAD="1K") as client:
        for path in ("services/one/content/big", "catalogue"):
            assert client.put(f"/api/v1/{path}", content=bytes(2000)).status_code == 413
            assert client.put(f"/api/v1/{path}", content=iter([bytes(600), bytes(600)])).status_code == 413
    assert read_tree(roots["one"]) == before


def test_a_line_without_end_is_not_collected(roots: dict[str, Path], served: httpx.Client) -> None:
    answer = served.put("/api/v1/catalogue", content=iter([b"x" * (1 << 20)] * 64))
    assert (answer.status_code, answer.json()["error"]) == (400, "UsageError")
