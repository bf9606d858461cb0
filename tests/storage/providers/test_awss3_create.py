"""Creating many files on a service that checks no conditions: we look at each first, at many at once."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Barrier, Lock, Thread
from typing import ClassVar

import pytest

from cloudmesh.storage.abc import Entry, ServiceSettings, WriteRequest
from cloudmesh.storage.errors import AlreadyExists, PermissionDenied
from cloudmesh.storage.providers.awss3 import S3Storage

_AT_ONCE = 8


class _Server(BaseHTTPRequestHandler):
    """Ignores conditions. Answers the first HEAD of each file only when those of all others are under way too."""

    seen: ClassVar[set[str]]
    files: ClassVar[dict[str, bytes]]
    looks: ClassVar[Barrier]
    lock: ClassVar[Lock] = Lock()
    protocol_version = "HTTP/1.1"

    def do_HEAD(self) -> None:
        if self.path not in self.seen:
            self.seen.add(self.path)
            self.looks.wait(20)
        if self.path.endswith("secret"):
            self._answer(403)
        else:
            self._answer(200 if self.path in self.files else 404)

    def do_GET(self) -> None:
        self._answer(403)

    def do_PUT(self) -> None:
        data = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        with self.lock:
            self.files[self.path] = data
        self._answer(200, hashlib.md5(data, usedforsecurity=False).hexdigest())

    def do_DELETE(self) -> None:
        with self.lock:
            self.files.pop(self.path, None)
        self._answer(204)

    def _answer(self, status: int, etag: str = "") -> None:
        self.send_response(status)
        self.send_header("Content-Length", "0")
        if etag:
            self.send_header("ETag", f'"{etag}"')
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.fixture
def storage(monkeypatch: pytest.MonkeyPatch) -> Iterator[S3Storage]:
    monkeypatch.setattr(_Server, "seen", set(), raising=False)
    monkeypatch.setattr(_Server, "files", {}, raising=False)
    monkeypatch.setattr(_Server, "looks", Barrier(_AT_ONCE), raising=False)
    with ThreadingHTTPServer(("127.0.0.1", 0), _Server) as server:
        thread = Thread(target=server.serve_forever, daemon=True)
        thread.start()
        credentials = {
            "bucket": "b",
            "endpoint_url": f"http://127.0.0.1:{server.server_port}",
            "access_key_id": "x",
            "secret_access_key": "y",
            "region": "us-east-1",
        }
        made = S3Storage(ServiceSettings("plain", "awss3", credentials=credentials, parallel=_AT_ONCE))
        yield made
        made.close()
        server.shutdown()
        thread.join()


def test_many_are_looked_at_at_once(storage: S3Storage) -> None:
    names = [f"f{number}" for number in range(_AT_ONCE - 2)]
    _Server.files["/b/taken"] = b"theirs"
    requests = [WriteRequest(name, name.encode(), None, "create") for name in ["taken", "secret", *names]]
    ended = {request.path: result for request, result in storage.write_many(requests)}
    assert not _Server.looks.broken, "the looks were not all under way at once"
    assert isinstance(ended.pop("taken"), AlreadyExists)
    assert isinstance(ended.pop("secret"), PermissionDenied)
    assert all(isinstance(result, Entry) for result in ended.values())
    assert _Server.files == {"/b/taken": b"theirs"} | {f"/b/{name}": name.encode() for name in names}
