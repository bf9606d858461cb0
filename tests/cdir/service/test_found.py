"""Requests with which schemathesis (`test_fuzz`) found the service to be other than its document, each as it was."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import httpx

FOUND: list[tuple[str, str, Any, int]] = [
    # server errors
    ("POST", "storage/measure", {"size": 869015900672949}, 400),
    ("POST", "vdir/export", {"file": ""}, 400),
    ("POST", "vdir/export", {"file": "."}, 400),
    ("POST", "vdir/import", {"file": "\0Nt\U0008e03d\x1e\xad", "dryrun": False}, 400),
    ("POST", "vdir/import", {"file": ""}, 400),
    # another type than the document says
    ("POST", "storage/clean", {"dryrun": 0, "older": 0.0}, 422),
    ("POST", "storage/config/seal", {"dryrun": 0, "name": ""}, 422),
    ("POST", "storage/move", {"source": "", "destination": "", "dryrun": 0}, 422),
    ("POST", "vdir/add", {"dryrun": 0}, 422),
    ("POST", "vdir/drop", {"dir_or_name": "", "from": [], "dryrun": 0}, 422),
    ("POST", "vdir/sync", {"dryrun": 0}, 422),
    ("POST", "vdir/sync", {"parallel": "5"}, 422),
    ("POST", "vdir/sync", {"parallel": True}, 422),
    # what the document says and was not taken
    ("POST", "storage/measure", {"service": "one", "size": 1024.0}, 200),
    ("POST", "vdir/rules/set", {"dir": "/", "copies": 1.0}, 200),
    ("POST", "vdir/rules/set", {"dir": "/", "copies": 1.5}, 422),
    ("POST", "vdir/rules/set", {"dir": "/", "copies": (1 << 53) - 1}, 409),
    ("POST", "vdir/rules/set", {"dir": "/", "copies": 1 << 53}, 422),
    ("POST", "vdir/sync", {"parallel": 0}, 422),
    # told as a violation of the document, which it is not
    ("GET", "storage/versions", {"source": "one:"}, 409),
]


def test_what_was_found_with_a_service(client: httpx.Client) -> None:
    for method, path, values, status in FOUND:
        given: dict[str, Any] = {"params": values} if method == "GET" else {"json": values}
        answer = client.request(method, f"/api/v1/{path}", **given)
        assert answer.status_code == status, (path, values, answer.text)


def test_a_url_tells_all_its_methods(client: httpx.Client) -> None:
    for path, allowed in (
        ("/files/0", "DELETE, GET, HEAD, PUT"),
        ("/api/v1/jobs/none", "DELETE, GET"),
        ("/api/v1/vdir/mkdir", "POST"),
    ):
        answer = client.request("OPTIONS", path)
        assert (answer.status_code, answer.headers["allow"]) == (405, allowed)


def test_a_file_without_a_body_is_an_empty_file(client: httpx.Client, disks: dict[str, Path]) -> None:
    assert client.put("/files/one/0").status_code == 201
    assert (disks["one"] / "0").read_bytes() == b""


def test_strangers_may_come_as_often_as_is_set(client: httpx.Client) -> None:
    statuses = {client.get("/api/v1/vdir/ls", headers={"Authorization": ""}).status_code for _ in range(100)}
    assert statuses == {401}


def test_times_keep_all_their_bits(client: httpx.Client) -> None:
    limits = client.get("/api/v1/openapi.json").json()["components"]["schemas"]["File"]["properties"]["modified_ns"]
    told = limits["anyOf"][0]
    assert (told["minimum"], told["exclusiveMaximum"]) == (-(1 << 63), 1 << 63)
    assert isinstance(told["exclusiveMaximum"], int)
    latest = (1 << 63) - 1
    answer = client.put("/files/aws/late", params={"modified_ns": latest}, content=b"x")
    assert (answer.status_code, answer.json()["modified_ns"]) == (201, latest)
    for values, status in (
        ({"modified_ns": latest}, 200),
        ({"modified_ns": 1 << 63}, 422),
        ({"modified_ns": -(1 << 63) - 1}, 422),
        ({"size": 1 << 53}, 422),
        ({"size": "1"}, 422),
    ):
        announced = {"files": [{"path": "/a", "size": 1} | values], "to": ["one"]}
        assert client.post("/api/v1/announcements", json=announced).status_code == status, values
