"""What somebody can do who chooses names and links on a service that we show: nothing, to the whole service."""

from __future__ import annotations

import re
from pathlib import Path
from urllib.parse import quote, unquote

import httpx
import pytest

from tests.places import read_tree

SECRET = b"top secret"

NAMES = [
    'a"; filename="b.exe',
    "a\r\nSet-Cookie: x=1",
    "a\nb",
    "a\rb",
    "a\tb",
    "\x1b]0;x\x07",
    "\x7f",
    "a\\b",
    "a;b=c",
    "a'b''c",
    "%0d%0aX: y",
    "%41",
    "?redirect=true",
    "#a",
    "a\u2028b",
    "\u202egpj.exe",
    "ü" * 100,
    "//evil.example",
    "evil.example:80",
    "@evil.example",
]


def url_of(name: str) -> str:
    return "/files/one/d/" + "/".join(quote(part, safe="") for part in name.split("/") if part)


def test_no_name_becomes_a_header(client: httpx.Client, disks: dict[str, Path]) -> None:
    for name in NAMES:
        made = client.put(url_of(name), content=b"x")
        assert made.status_code in (201, 400), (name, made.text)
        got = client.get(url_of(name))
        for answer in (made, got, client.head(url_of(name)), client.get("/files/d/"), client.get("/files/d")):
            assert "set-cookie" not in answer.headers
            assert "x" not in answer.headers
        if made.status_code == 400:
            assert got.status_code in (400, 404), name
            continue
        assert httpx.URL(client.base_url).join(made.headers["location"]).host == "127.0.0.1"
        assert client.get(made.headers["location"]).content == b"x"
        disposition = got.headers["content-disposition"]
        found = re.fullmatch(r"attachment; filename=\"([^\"\\]*)\"(?:; filename\*=UTF-8''(\S*))?", disposition)
        assert found is not None, disposition
        assert (unquote(found[2]) if found[2] else found[1]) == name.rpartition("/")[2]
    assert len(read_tree(disks["one"])) > 15, "most of them are names like others"


@pytest.mark.parametrize("target", ["/etc/hostname", "../secret", "../../../../../../etc/hostname"])
def test_a_link_leads_out_of_no_service(client: httpx.Client, disks: dict[str, Path], target: str) -> None:
    root = disks["one"]
    root.mkdir(exist_ok=True)
    (root.parent / "secret").write_bytes(SECRET)
    (root / "link").symlink_to(target)
    (root / "folder").symlink_to(Path(target).parent)
    secrets = [SECRET, Path("/etc/hostname").read_bytes()]
    below = f"folder/{Path(target).name}"
    for path in ("link", below):
        for method, url, values in (
            ("GET", f"/files/one/{path}", {}),
            ("GET", "/api/v1/storage/cat", {"source": f"one:{path}"}),
            ("POST", "/api/v1/vdir/add", {"fileendpoint": f"one:{path}", "dir_and_name": "/got"}),
            ("POST", "/api/v1/storage/copy", {"source": f"one:{path}", "destination": "two:got"}),
        ):
            given = {"params": values} if method == "GET" else {"json": values}
            answer = client.request(method, url, headers={"Prefer": "wait=30"}, **given)  # type: ignore[arg-type]
            assert answer.status_code in (400, 403, 404, 409), (url, answer.text)
            assert not [one for one in secrets if one in answer.content]
        # nor is anything written through it
        assert client.put(f"/files/one/{path}", content=b"mine").status_code in (201, 400, 403, 404, 409)
    assert (root.parent / "secret").read_bytes() == SECRET
    assert Path("/etc/hostname").read_bytes() == secrets[1]
    assert client.get("/files/got").status_code == 404
    assert read_tree(disks["two"]) == {}
