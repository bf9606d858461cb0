"""What the service tells of itself: a log of JSON lines, and counts that Prometheus can read."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import httpx
from prometheus_client.parser import text_string_to_metric_families

from cloudmesh.cdir.service.security import audit
from cloudmesh.cdir.service.security.shares import Shares
from cloudmesh.storage.database import Database
from deploy.servers import find_program, free_port
from tests.cdir.service.conftest import new_token, running
from tests.places import configure, local


def test_each_request_is_a_line_of_json_and_counted(home: Path) -> None:
    cdir, url = find_program("cdir"), f"http://127.0.0.1:{free_port()}"
    subprocess.run([cdir, "service", "start", f"--port={url.rpartition(':')[2]}"], check=True, capture_output=True)
    try:
        token = new_token()
        headers = {"Authorization": f"Bearer {token}", "X-Request-ID": "mine-1"}
        assert httpx.get(f"{url}/healthz").text == "ok\n"
        assert httpx.get(f"{url}/readyz").text == "ready\n"
        assert {httpx.head(f"{url}/{one}").status_code for one in ("healthz", "readyz")} == {200}
        assert httpx.get(f"{url}/api/v1/vdir/ls?dir=/", headers=headers).status_code == 200
        assert httpx.get(f"{url}/api/v1/vdir/ls?dir=/none", headers=headers).status_code == 404
        answer = httpx.get(f"{url}/metrics", headers=headers)
        with Database() as database:
            link = Shares(lambda: database).create("/a").url.rpartition(".")[2]
        share = f"{url}/share/1.{1:019}.{link}"
        for refused in (share, f"{share}/x/..%2f../y", share.replace("/share", "//share"), f"{url}/{token}"):
            assert httpx.delete(refused).status_code >= 400
    finally:
        subprocess.run([cdir, "service", "stop"], check=True, capture_output=True)
    assert answer.headers["content-type"].startswith("text/plain; version=")
    samples = [one for family in text_string_to_metric_families(answer.text) for one in family.samples]
    asked = {
        one.labels["status"]: one.value
        for one in samples
        if one.name == "cdir_requests_total" and one.labels["route"] == "/api/v1/vdir/ls"
    }
    assert asked == {"200": 1, "404": 1}
    log = (home / "service.log").read_text("utf-8")
    assert token not in log
    assert link not in log
    lines = [json.loads(line) for line in log.splitlines()]
    assert f"/share/1.{1:019}.…" in [one.get("path") for one in lines]
    (told,) = [one for one in lines if one.get("request_id") == "mine-1" and one.get("status") == 404]
    assert (told["level"], told["method"], told["path"]) == ("info", "GET", "/api/v1/vdir/ls")
    assert told["seconds"] > 0


def test_the_audit_log_tells_what_a_command_was_about(home: Path, tmp_path: Path) -> None:
    configure(home, [local("one", tmp_path / "one")])
    with running() as client:
        asked: list[tuple[str, str, Any]] = [
            ("POST", "vdir/mkdir", {"dir": "/a b"}),
            ("POST", "vdir/move", {"source": "/a b", "destination": "/ü"}),
            ("DELETE", "vdir/delete", {"dir_or_name": "/ü", "dryrun": True}),
            ("POST", "storage/config/edit", {"name": "one", "set": ["label=secret-1"], "secret": ["x=secret-2"]}),
            ("POST", "vdir/copy", {"dir_or_name": "/none", "to": ["one"], "recursive": True}),
            ("POST", "vdir/copy", {"nothing": "/none"}),
        ]
        for method, path, values in asked:
            url = httpx.URL(f"/api/v1/{path}", params=values if method == "DELETE" else None)
            client.request(method, url, headers={"Prefer": "wait=10"}, json=values if method == "POST" else None)
        client.post("/api/v1/jobs/none/cancel")
        client.put("/files/one/f", content=b"x")
        assert client.get("/api/v1/vdir/cat?name=/f").content == b"x"
        assert client.get("/api/v1/storage/cat?source=one:f").content == b"x"
        assert client.get("/api/v1/services/one/content/f").content == b"x"
        client.post("/api/v1/services/one/moves", json={"source": "f", "destination": "g h"})
        client.get("/api/v1/vdir/ls?dir=/")
    with Database() as database:
        found = [(one.what, one.path) for one in audit.entries(database) if one.who.startswith("token")]
    assert found == [
        ("vdir mkdir", "'/a b'"),
        ("vdir move", "'/a b' '/ü'"),
        ("vdir delete", "'/ü' --dryrun"),
        ("storage config edit", "one"),
        ("vdir copy", "/none --to=one --recursive"),
        ("POST", "/api/v1/vdir/copy"),
        ("storage jobs cancel", "none"),
        ("PUT", "/files/one/f"),
        ("vdir cat", "/f"),
        ("storage cat", "one:f"),
        ("storage cat", "one:f"),
        ("storage move", "one:f 'one:g h'"),
    ]
