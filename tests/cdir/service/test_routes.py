"""The operations of the commands as routes: one set, with the same answers and the same errors."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest
from fastapi import FastAPI
from openapi_spec_validator import validate

from cloudmesh.cdir import commands, offers
from cloudmesh.cdir.commands import COMMANDS
from cloudmesh.cdir.service.app import create
from cloudmesh.cdir.service.settings import Settings
from cloudmesh.storage.binding import find
from cloudmesh.storage.database import Database
from cloudmesh.storage.dispatch import Command
from cloudmesh.storage.meaning import Concerns, is_long
from cloudmesh.storage.records import Job
from cloudmesh.storage.transfer.report import Report
from tests.cdir.service.conftest import Start
from tests.places import write_tree


@pytest.fixture(scope="module")
def document() -> dict[str, Any]:
    return create(Settings()).openapi()


def operations(document: dict[str, Any]) -> dict[tuple[str, str], dict[str, Any]]:
    return {
        (method.upper(), path): operation
        for path, methods in document["paths"].items()
        for method, operation in methods.items()
    }


# ---- one set ---------------------------------------------------------------------------------------------------------


def test_commands_and_routes_are_one_set(document: dict[str, Any]) -> None:
    lines = {operation.line for command in COMMANDS.values() for operation in command.usage.operations}
    described = "\n".join(one["description"] for one in operations(document).values())
    offered = {line for line in lines if f"Command: `{line}`." in described}
    assert lines - offered == set(offers.refused())
    assert all(offers.refused().values())
    generated = [key for key in operations(document) if key[1].startswith(("/api/v1/vdir/", "/api/v1/storage/"))]
    assert len(generated) == len(offered), "a URL for each, and none besides"


def test_a_reading_route_changes_nothing_by_its_method(document: dict[str, Any]) -> None:
    by_method = {("GET", "/api/v1/vdir/ls"), ("POST", "/api/v1/vdir/copy"), ("DELETE", "/api/v1/vdir/delete")}
    assert by_method <= operations(document).keys()
    for offer in offers.offers():
        assert (offer.http_method == "GET") == (offer.scope == "read" or "reading" in vars(offer.target.method))


def test_no_get_names_a_path_of_the_computer() -> None:
    """A page of others can have a signed-in browser visit a URL: no visit may write a file there."""
    for offer in offers.offers():
        if offer.http_method == "GET":
            of_the_computer = {Concerns.HERE, Concerns.PLACE_OR_HERE, Concerns.SCHEDULER}
            assert of_the_computer.isdisjoint(field.concern for field in offer.fields), offer.operation.line


def test_what_returns_a_report_is_long() -> None:
    for offer in offers.offers():
        if offer.target.returns in (Report, Report | Job):
            assert is_long(offer.target.method), offer.operation.line


@dataclass(frozen=True, slots=True)
class Weather:
    """What the weather is like."""

    place: str
    degrees: float


class NewApi:
    def forecast(self, place: str, *, days: int = 1) -> Iterator[Weather]:
        """Yield how the weather will be."""
        yield from (Weather(place, 20.5) for _ in range(days))


@pytest.fixture
def with_new_command(monkeypatch: pytest.MonkeyPatch) -> Iterator[FastAPI]:
    new = Command("new", "::\n\n  Usage:\n    new forecast PLACE [--days=N]\n", f"{__name__}:NewApi")
    monkeypatch.setitem(sys.modules, __name__, sys.modules.get(__name__) or sys.modules[NewApi.__module__])
    monkeypatch.setitem(commands.COMMANDS, "new", new)
    for cached in (offers.offers, offers.refused):
        cached.cache_clear()
    yield create(Settings())
    for cached in (offers.offers, offers.refused):
        cached.cache_clear()


def test_a_new_usage_line_is_a_new_route(with_new_command: FastAPI) -> None:
    found = operations(with_new_command.openapi())["POST", "/api/v1/new/forecast"]
    assert found["summary"] == "Yield how the weather will be."
    schema = found["responses"]["200"]["content"]["application/json"]["schema"]
    assert schema["items"] == {"$ref": "#/components/schemas/Weather"}
    body = with_new_command.openapi()["components"]["schemas"]["NewForecastRequest"]
    assert (body["required"], body["properties"]["days"]["type"]) == (["place"], "integer")


# ---- the document ----------------------------------------------------------------------------------------------------


def test_the_document_is_openapi_3_1_and_complete(document: dict[str, Any]) -> None:
    validate(document)
    assert document["security"] == [{"token": []}]
    assert document["components"]["securitySchemes"]["token"]["scheme"] == "bearer"
    assert document["openapi"].startswith("3.1")
    for (method, path), operation in operations(document).items():
        assert operation["summary"], path
        assert operation["operationId"], path
        good = [code for code in operation["responses"] if code < "300"]
        assert good, path
        problem = operation["responses"]["404"]["content"]["application/problem+json"]["schema"]
        assert problem == {"$ref": "#/components/schemas/Problem"}, (method, path)


def test_every_value_is_described_and_every_answer_has_its_type(document: dict[str, Any]) -> None:
    for (method, path), operation in operations(document).items():
        assert operation["description"], path
        body = operation.get("requestBody", {}).get("content", {}).get("application/json", {}).get("schema", {})
        model = document["components"]["schemas"].get(body.get("$ref", "").rpartition("/")[2], {})
        for name, value in [
            *((one["name"], one) for one in operation.get("parameters", ())),
            *model.get("properties", {}).items(),
        ]:
            assert value.get("description"), (method, path, name)
        for answer in operation["responses"].values():
            assert {"schema": {}} not in answer.get("content", {}).values(), (method, path)
    info = document["components"]["schemas"]["FileInfo"]["properties"]
    assert info["modified_ns"]["description"].endswith("else when the service stored it.")


def test_the_page_of_operations_loads_nothing(client: httpx.Client) -> None:
    page = client.get("/docs").text
    assert "GET /api/v1/vdir/ls" in page
    assert page.count("Make a virtual directory.") == 1
    for word in ("<script", "src=", "<link", "url(", "http://", "https://"):
        assert word not in page
    assert client.get("/api/v1/openapi.json").json()["openapi"].startswith("3.1")


# ---- answers and errors ----------------------------------------------------------------------------------------------


def cdir(*arguments: str) -> Any:
    done = subprocess.run(
        [sys.executable, "-m", "cloudmesh.cdir.main", *arguments, "--output=json"], capture_output=True, text=True
    )
    return json.loads(done.stdout) if done.returncode == 0 else done.stderr.strip()


def test_answers_are_those_of_the_command_line(client: httpx.Client, tmp_path: Path) -> None:
    write_tree(tmp_path / "tree", {"a.txt": b"alpha", "b/ü c.bin": bytes(3000)})
    cdir("put", str(tmp_path / "tree"), "/data", "--to=one,aws", "--recursive")
    for path, query, command in (
        ("vdir/ls", {"dir": "/data", "recursive": "true"}, ["ls", "/data", "--recursive"]),
        ("vdir/tree", {"dir": "/data"}, ["tree", "/data"]),
        ("vdir/status", {"dir_or_name": "/data/a.txt"}, ["status", "/data/a.txt"]),
        ("vdir/rules/show", {"dir": "/data"}, ["rules", "show", "/data"]),
        ("storage/list", {"source": "aws:data", "recursive": "true"}, ["storage", "list", "aws:data", "--recursive"]),
        ("storage/config/list", {}, ["storage", "config", "list"]),
    ):
        answer = client.get(f"/api/v1/{path}", params=query)
        assert answer.status_code == 200, answer.text
        assert answer.json() == cdir(*command)
    assert client.get("/api/v1/vdir/cat", params={"name": "/data/a.txt"}).content == b"alpha"


def test_a_listing_comes_as_lines_too(client: httpx.Client) -> None:
    for name in ("/a", "/b"):
        assert client.post("/api/v1/vdir/mkdir", json={"dir": name}).json()["path"] == name
    answer = client.get("/api/v1/vdir/ls", headers={"Accept": "application/x-ndjson"})
    assert answer.headers["content-type"] == "application/x-ndjson"
    assert [json.loads(line)["path"] for line in answer.text.splitlines()] == ["/a", "/b"]


def test_an_error_is_the_sentence_of_the_command_line(client: httpx.Client) -> None:
    answer = client.get("/api/v1/vdir/ls", params={"dir": "/nothing"})
    assert answer.status_code == 404
    assert answer.headers["content-type"] == "application/problem+json"
    problem = answer.json()
    assert f"error: {problem['detail']}" == cdir("ls", "/nothing")
    assert (problem["error"], problem["status"], problem["subject"]) == ("NotFound", 404, "/nothing")


BAD: list[tuple[str, str, dict[str, Any], int]] = [
    ("GET", "vdir/ls", {"nothing": "1"}, 422),
    ("GET", "vdir/why", {}, 422),
    ("POST", "vdir/mkdir", {"dir": "/../x"}, 400),
    ("POST", "vdir/mkdir", {"dir": "/x\0y"}, 400),
    ("POST", "vdir/mkdir", {"dir": 7}, 422),
    ("POST", "vdir/mkdir", {"dir": "/one"}, 400),
    ("POST", "vdir/prefer", {"dir_or_name": "/", "services": ["none"]}, 409),
    ("POST", "storage/url", {"source": "one:x"}, 404),
    ("GET", "storage/list", {"source": "none:x"}, 409),
    ("POST", "vdir/verify", {"sample": "much"}, 400),
    ("GET", "nothing/here", {}, 404),
    ("GET", "vdir/mkdir", {}, 405),
]


def test_bad_requests_are_refused(client: httpx.Client) -> None:
    for method, path, values, status in BAD:
        given: dict[str, Any] = {"params": values} if method == "GET" else {"json": values}
        answer = client.request(method, f"/api/v1/{path}", **given)
        assert answer.status_code == status, answer.text
        assert answer.json()["status"] == status
        assert answer.json()["detail"]


def test_a_body_that_is_no_json_is_told_as_such(client: httpx.Client) -> None:
    def asked(body: str, kind: str) -> str:
        return str(client.post("/api/v1/vdir/mkdir", content=body, headers={"Content-Type": kind}).json()["detail"])

    hint = "body: is not taken for JSON (send the header Content-Type: application/json)"
    assert asked('{"dir": "/a"}', "application/x-www-form-urlencoded") == hint  # as curl sends what --data gives
    assert asked('{"dir": ', "application/json") == "body: is no JSON: Expecting value, at character 8"


def test_no_answer_leads_back_to_http(start: Start) -> None:
    there = {"Host": "nas.example.org"}
    client = start(CDIR_SERVICE_URL="https://nas.example.org")
    assert client.get("/docs/", headers=there).status_code == 404
    answer = client.get("/files", headers=there)
    assert (answer.status_code, answer.headers["location"]) == (308, "./files/")


def test_a_change_of_the_configuration_is_seen(client: httpx.Client, tmp_path: Path) -> None:
    answer = client.post("/api/v1/storage/create/dir", json={"directory": "three:x"})
    assert answer.json()["detail"].startswith("three: there is no such service")
    added = cdir("storage", "config", "add", "three", "--kind=local", f"--set=directory={tmp_path / 'three'}")
    assert added["name"] == "three"
    assert client.post("/api/v1/storage/create/dir", json={"directory": "three:x"}).status_code == 200
    assert (tmp_path / "three/x").is_dir()


def test_who_looks_waits_for_no_writer_and_sees_what_was_committed(client: httpx.Client) -> None:
    def seen() -> list[str]:  # the client would give up long before a writer does
        assert client.head("/files/").status_code == 200
        return [one["path"] for one in client.get("/api/v1/vdir/ls").json()]

    cdir("mkdir", "/old")
    with Database() as database:
        with database.write() as connection:  # of another process than the service
            connection.exec_driver_sql("UPDATE entry SET name = 'new' WHERE name = 'old'")
            assert seen() == ["/old"]
        assert seen() == ["/new"]


def test_requests_have_ids_and_are_counted(client: httpx.Client) -> None:
    assert client.get("/healthz", headers={"X-Request-ID": "mine-1"}).headers["x-request-id"] == "mine-1"
    assert len(client.get("/healthz", headers={"X-Request-ID": "a b"}).headers["x-request-id"]) == 16
    client.get("/api/v1/vdir/ls")
    assert 'cdir_requests_total{method="GET",route="/api/v1/vdir/ls",status="200"}' in client.get("/metrics").text


def test_every_method_is_found(document: dict[str, Any]) -> None:
    for offer in offers.offers():
        assert find(offer.operation, COMMANDS[offer.command].api_class()).method is offer.target.method
