"""What the service tells of itself: a log of JSON lines, and counts that Prometheus can read."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import httpx
from prometheus_client.parser import text_string_to_metric_families

from deploy.servers import find_program, free_port
from tests.cdir.service.conftest import new_token


def test_each_request_is_a_line_of_json_and_counted(home: Path) -> None:
    cdir, url = find_program("cdir"), f"http://127.0.0.1:{free_port()}"
    subprocess.run([cdir, "service", "start", f"--port={url.rpartition(':')[2]}"], check=True, capture_output=True)
    try:
        token = new_token()
        headers = {"Authorization": f"Bearer {token}", "X-Request-ID": "mine-1"}
        assert httpx.get(f"{url}/healthz").text == "ok\n"
        assert httpx.get(f"{url}/readyz").text == "ready\n"
        assert httpx.get(f"{url}/api/v1/vdir/ls?dir=/", headers=headers).status_code == 200
        assert httpx.get(f"{url}/api/v1/vdir/ls?dir=/none", headers=headers).status_code == 404
        answer = httpx.get(f"{url}/metrics", headers=headers)
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
    lines = [json.loads(line) for line in log.splitlines()]
    (told,) = [one for one in lines if one.get("request_id") == "mine-1" and one.get("status") == 404]
    assert (told["level"], told["method"], told["path"]) == ("info", "GET", "/api/v1/vdir/ls")
    assert told["seconds"] > 0
