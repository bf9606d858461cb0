"""A server that lists a bucket in an order of its own: no entry is ever lost, and a mirror removes nothing for it."""

from __future__ import annotations

from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import ClassVar
from urllib.parse import parse_qs, urlsplit

import pytest

from cloudmesh.storage import Storage
from cloudmesh.storage.abc import ServiceSettings
from cloudmesh.storage.errors import Refused
from cloudmesh.storage.layers import RetryPolicy, layered
from cloudmesh.storage.providers.awss3 import S3Storage
from cloudmesh.storage.transfer.options import TransferOptions
from cloudmesh.storage.transfer.report import Report
from tests.places import configure, local, read_tree, write_tree

_ETAG = "&quot;0cc175b9c0f1b6a831c399e269772661&quot;"  # of b"a"


class _Listing(BaseHTTPRequestHandler):
    """Lists `keys` in the order in which they stand, `page` at a time; each file holds the letter a."""

    keys: ClassVar[list[str]] = []
    page: ClassVar[int] = 2
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        url = urlsplit(self.path)
        if not url.query.startswith("list-type") and "list-type=2" not in url.query:
            self._answer(b"a", {"ETag": '"0cc175b9c0f1b6a831c399e269772661"'})
            return
        query = {name: values[0] for name, values in parse_qs(url.query).items()}
        prefix, delimiter = query.get("prefix", ""), query.get("delimiter")
        items: list[str] = []
        for key in (one for one in self.keys if one.startswith(prefix)):
            name, slash, _ = key[len(prefix) :].partition("/")
            item = f"{prefix}{name}/" if delimiter and slash else key
            if item not in items:
                items.append(item)
        begin = int(query.get("continuation-token", 0))
        shown, more = items[begin : begin + self.page], begin + self.page < len(items)
        body = "".join(
            f"<CommonPrefixes><Prefix>{item}</Prefix></CommonPrefixes>"
            if item.endswith("/")
            else f"<Contents><Key>{item}</Key><Size>1</Size><ETag>{_ETAG}</ETag>"
            "<LastModified>2026-01-01T00:00:00.000Z</LastModified></Contents>"
            for item in shown
        )
        token = f"<NextContinuationToken>{begin + self.page}</NextContinuationToken>" if more else ""
        text = f"<ListBucketResult><IsTruncated>{str(more).lower()}</IsTruncated>{token}{body}</ListBucketResult>"
        self._answer(text.encode(), {"Content-Type": "application/xml"})

    def do_HEAD(self) -> None:
        self._answer(b"", {"ETag": '"0cc175b9c0f1b6a831c399e269772661"', "Content-Length": "1"})

    def _answer(self, body: bytes, headers: dict[str, str]) -> None:
        self.send_response(200)
        for name, value in {"Content-Length": str(len(body)), **headers}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.fixture
def settings() -> Iterator[ServiceSettings]:
    with ThreadingHTTPServer(("127.0.0.1", 0), _Listing) as server:
        thread = Thread(target=server.serve_forever, daemon=True)
        thread.start()
        credentials = {
            "bucket": "b",
            "endpoint_url": f"http://127.0.0.1:{server.server_port}",
            "access_key_id": "x",
            "secret_access_key": "y",
            "region": "us-east-1",
        }
        yield ServiceSettings("odd", "awss3", credentials=credentials)
        server.shutdown()
        thread.join()


TREES = [
    # on the first page, between the pages, and long after it; a directory's files before a name that sorts before it
    ["a/1", "a.txt", "a/2", "b"],
    ["a/1", "a/2", "a.txt", "b"],
    ["a", "d/1", "d/2", "d/3", "d/4", "d-", "e"],
    ["z/1", "z/2", "z/3", "a", "b"],
]


@pytest.mark.parametrize(("keys", "shows_late"), list(zip(TREES, [False, True, True, True], strict=True)))
def test_no_entry_is_lost(
    settings: ServiceSettings, keys: list[str], shows_late: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_Listing, "keys", keys)
    wanted = sorted(keys)

    def listed() -> list[str]:
        storage = layered(S3Storage(settings), retry=RetryPolicy(base_seconds=0.0))
        try:
            return [entry.path for entry in storage.scan(recursive=True) if not entry.is_directory]
        finally:
            storage.close()

    if shows_late:
        with pytest.raises(Refused, match=r"order of its own.*run the same command again"):
            listed()
    assert listed() == wanted, "another process knows it"


def test_a_mirror_removes_nothing_because_of_it(
    settings: ServiceSettings, home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_Listing, "keys", TREES[3])
    there = dict.fromkeys(TREES[3], b"a")
    write_tree(tmp_path / "mirror", there | {"c": b"gone"})
    configure(home, [settings, local("disk", tmp_path)])
    options = TransferOptions(delete=True)
    with Storage() as storage:
        report = storage.sync("odd:", "disk:mirror", options=options)
        assert isinstance(report, Report)
        assert "order of its own" in report.failures[-1].error
        assert read_tree(tmp_path / "mirror") == there | {"c": b"gone"}
    with Storage() as storage:
        storage.sync("odd:", "disk:mirror", options=options)
    assert read_tree(tmp_path / "mirror") == there
