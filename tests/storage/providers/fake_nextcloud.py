"""A small, strict Nextcloud of our own, in memory: files, chunked upload v2 (and v1), checksums.

It is a fake: it proves what a client sends, not what a real Nextcloud does. It follows Nextcloud's developer manual
("Chunked file upload", "WebDAV basic APIs"). How far clients that others wrote confirm it:

* rclone 1.75 (vendor nextcloud), in the tests: reading, X-OC-Mtime, and chunked upload v1. It knows no v2 (its issue
  8321), whatever the url and the chunk size.
* nc_py_api 0.30.3, by hand on 2026-11-23, because it brings a urllib3 of its own: chunked upload v2 as we send it too
  (MKCOL, PUT 1, 2, … and MOVE, each with the file's Destination), with a name that has to be encoded, and reading back.
* Nobody but us: OC-Total-Length and OC-Checksum on v2's requests, the limits of part numbers, conditions, quota.
"""

from __future__ import annotations

import base64
import hashlib
import re
import ssl
import threading
import time
import zlib
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from email.utils import formatdate
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any, Self
from urllib.parse import unquote, urlsplit
from xml.etree import ElementTree
from xml.sax.saxutils import escape

Path = tuple[str, ...]
_DAV = "{DAV:}"
_OC = "{http://owncloud.org/ns}"
_FILE_ID = "00000042instance"


@dataclass
class File:
    """A stored file."""

    data: bytes
    mtime: int
    etag: str
    checksum: str = ""


@dataclass
class Fault:
    """What happens to the next request of one method instead of what should; the body is read before."""

    method: str
    status: int = 0
    headers: Mapping[str, str] = field(default_factory=dict)
    cut_after: int | None = None
    skip: int = 0


class Refusal(Exception):
    """An answer that is no success."""

    def __init__(self, status: int, message: str = "") -> None:
        super().__init__(message)
        self.status = status
        self.message = message


class FakeNextcloud:
    """One server with one account; a context manager. ``requests`` holds (method, path, headers) as they came."""

    def __init__(self, *, tls: ssl.SSLContext | None = None) -> None:
        """Choose a port; ``tls`` holds the server's certificate where it is to speak https."""
        self.username, self.password, self.token = "ann", "app-password", "a-token"
        self.nodes: dict[Path, File | None] = {("files", self.username): None, ("uploads", self.username): None}
        self.version_2: dict[Path, str] = {}
        self.requests: list[tuple[str, str, dict[str, str]]] = []
        self.faults: deque[Fault] = deque()
        self.quota = 10_000_000_000
        self.lock = threading.RLock()
        self._count = 0
        fake = self

        class Handler(_Handler):
            server_state = fake

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        if tls is not None:
            self._server.socket = tls.wrap_socket(self._server.socket, server_side=True)
        self._scheme = "http" if tls is None else "https"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True)

    @property
    def origin(self) -> str:
        return f"{self._scheme}://127.0.0.1:{self._server.server_address[1]}"

    @property
    def url(self) -> str:
        """What a user configures."""
        return f"{self.origin}/remote.php/dav/files/{self.username}/"

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    def file(self, path: str) -> File:
        """Return a stored file by its path below the user's files."""
        node = self.nodes[("files", self.username, *path.split("/"))]
        assert node is not None
        return node

    def leftovers(self) -> list[Path]:
        """Return what lies in the uploads directory."""
        return [path for path in self.nodes if path[0] == "uploads" and len(path) > 2]

    def sent(self, method: str) -> list[tuple[str, dict[str, str]]]:
        """Return path and headers of the requests of one method."""
        return [(path, headers) for name, path, headers in self.requests if name == method]

    def new_etag(self) -> str:
        self._count += 1
        return hashlib.md5(str(self._count).encode()).hexdigest()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server_state: FakeNextcloud

    def log_message(self, format: str, *args: Any) -> None:
        pass

    def __getattr__(self, name: str) -> Any:
        if name.startswith("do_"):
            return self._handle
        raise AttributeError(name)

    def _handle(self) -> None:
        state = self.server_state
        body = self._body()
        if body is None:
            return
        headers = {key.lower(): value for key, value in self.headers.items()}
        with state.lock:
            state.requests.append((self.command, self.path, headers))
            if self._fail():
                return
            try:
                self._authenticate(headers)
                path = self._path_of(self.path)
                handler = getattr(self, "on_" + self.command.lower(), None)
                if handler is None:
                    raise Refusal(501, "no such method")
                status, answer_headers, answer = handler(path, headers, body)
            except Refusal as refusal:
                answer = (
                    '<?xml version="1.0"?><d:error xmlns:d="DAV:" xmlns:s="http://sabredav.org/ns">'
                    f"<s:message>{escape(refusal.message)}</s:message></d:error>"
                ).encode()
                status, answer_headers = refusal.status, {"Content-Type": "application/xml; charset=utf-8"}
                if status == 401:
                    answer_headers["WWW-Authenticate"] = 'Basic realm="Nextcloud", charset="UTF-8"'
        self._answer(status, answer_headers, answer)

    def _body(self) -> bytes | None:
        if "chunked" in self.headers.get("Transfer-Encoding", ""):
            self._answer(411, {"Connection": "close"}, b"")  # PHP would see an empty file
            self.close_connection = True
            return None
        length = int(self.headers.get("Content-Length") or 0)
        state = self.server_state
        fault = state.faults[0] if state.faults else None
        if fault and fault.method == self.command and fault.cut_after is not None and not fault.skip:
            state.faults.popleft()
            self.rfile.read(min(length, fault.cut_after))
            self.close_connection = True
            return None
        body = self.rfile.read(length)
        return body if len(body) == length else None

    def _fail(self) -> bool:
        faults = self.server_state.faults
        if not faults or faults[0].method != self.command:
            return False
        if faults[0].skip:
            faults[0].skip -= 1
            return False
        fault = faults.popleft()
        self._answer(fault.status, fault.headers, b"")
        return True

    def _answer(self, status: int, headers: Mapping[str, str], body: bytes) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def _authenticate(self, headers: dict[str, str]) -> None:
        state = self.server_state
        basic = base64.b64encode(f"{state.username}:{state.password}".encode()).decode()
        if headers.get("authorization") not in (f"Basic {basic}", f"Bearer {state.token}"):
            raise Refusal(401, "no such user")

    def _path_of(self, url: str) -> Path:
        match = re.match(r"/remote\.php/dav/(files|uploads)/([^/]+)(/.*)?\Z", urlsplit(url).path)
        if match is None:
            raise Refusal(404, "not found")
        if unquote(match[2]) != self.server_state.username:
            raise Refusal(403, "another user's")
        names = [unquote(part, errors="strict") for part in (match[3] or "").split("/") if part]
        if any("\\" in name or "/" in name for name in names):
            raise Refusal(400, "file name contains at least one invalid character")
        return (match[1], self.server_state.username, *names)

    def _destination(self, headers: dict[str, str]) -> Path:
        value = headers.get("destination")
        if value is None:
            raise Refusal(400, "the destination header is missing")
        if value.startswith("http") and not value.startswith(self.server_state.origin + "/"):
            raise Refusal(502, "another server")
        return self._path_of(value)

    def _need_parent(self, path: Path) -> None:
        nodes = self.server_state.nodes
        if path[:-1] not in nodes:
            raise Refusal(409, "parent does not exist")
        if nodes[path[:-1]] is not None:
            raise Refusal(409, "parent is a file")

    def _check_conditions(self, path: Path, headers: dict[str, str]) -> None:
        node = self.server_state.nodes.get(path)
        etag = f'"{node.etag}"' if node else None
        if headers.get("if-none-match") == "*" and path in self.server_state.nodes:
            raise Refusal(412, "exists")
        if "if-match" in headers and headers["if-match"] != etag:
            raise Refusal(412, "changed")
        tagged = re.match(r"<([^>]+)> \(\[(.+)\]\)\Z", headers.get("if", ""))
        if tagged:
            held = self.server_state.nodes.get(self._path_of(tagged[1]))
            if held is None or f'"{held.etag}"' != tagged[2]:
                raise Refusal(412, "changed")

    def _check_sum(self, data: bytes, headers: dict[str, str]) -> str:
        value = headers.get("oc-checksum", "")
        if not value:
            return ""
        name, _, digest = value.partition(":")
        if name in ("MD5", "SHA1", "SHA256"):
            real = hashlib.new(name.lower(), data).hexdigest()
        elif name == "ADLER32":
            real = f"{zlib.adler32(data):08x}"
        else:
            raise Refusal(400, "unknown checksum")
        if real != digest.lower():
            raise Refusal(400, "The computed checksum does not match the one received from the client.")
        return value

    def _store(self, path: Path, data: bytes, headers: dict[str, str]) -> tuple[int, dict[str, str], bytes]:
        state = self.server_state
        existed = path in state.nodes
        if existed and state.nodes[path] is None:
            raise Refusal(409, "is a directory")
        self._need_parent(path)
        if sum(len(n.data) for p, n in state.nodes.items() if n and p[0] == "files") + len(data) > state.quota:
            raise Refusal(507, "insufficient storage")
        checksum = self._check_sum(data, headers)
        mtime, accepted = int(time.time()), {}
        if "x-oc-mtime" in headers:
            if not re.fullmatch(r"\d+", headers["x-oc-mtime"]):
                raise Refusal(400, "X-OC-MTime header must be an integer")
            mtime, accepted = int(headers["x-oc-mtime"]), {"X-OC-MTime": "accepted"}
        stored = File(data, mtime, state.new_etag(), checksum)
        state.nodes[path] = stored
        tags = {"ETag": f'"{stored.etag}"', "OC-ETag": f'"{stored.etag}"', "OC-FileId": _FILE_ID}
        return 204 if existed else 201, {**tags, **accepted}, b""

    def on_options(self, path: Path, headers: dict[str, str], body: bytes) -> tuple[int, dict[str, str], bytes]:
        return 200, {"DAV": "1, 3, extended-mkcol"}, b""

    def on_put(self, path: Path, headers: dict[str, str], body: bytes) -> tuple[int, dict[str, str], bytes]:
        if path[0] == "files":
            self._check_conditions(path, headers)
            return self._store(path, body, headers)
        self._need_parent(path)
        wanted = self.server_state.version_2.get(path[:-1])
        if wanted is not None:
            if not re.fullmatch(r"\d{1,5}", path[-1]) or not 1 <= int(path[-1]) <= 10_000:
                raise Refusal(400, "invalid chunk name, must be numeric between 1 and 10000")
            if headers.get("destination") != wanted:
                raise Refusal(400, "another destination than at the beginning")
        self.server_state.nodes[path] = File(body, 0, self.server_state.new_etag())
        return 201, {}, b""

    def on_mkcol(self, path: Path, headers: dict[str, str], body: bytes) -> tuple[int, dict[str, str], bytes]:
        if path in self.server_state.nodes:
            raise Refusal(405, "exists")
        self._need_parent(path)
        if path[0] == "uploads" and "destination" in headers:
            self._destination(headers)
            self.server_state.version_2[path] = headers["destination"]
        self.server_state.nodes[path] = None
        return 201, {"OC-FileId": _FILE_ID}, b""

    def on_get(self, path: Path, headers: dict[str, str], body: bytes) -> tuple[int, dict[str, str], bytes]:
        node = self._need(path)
        if node is None:
            raise Refusal(405, "is a directory")
        tags = {"ETag": f'"{node.etag}"', "Last-Modified": formatdate(node.mtime, usegmt=True)}
        if node.checksum:
            tags["OC-Checksum"] = node.checksum
        match = re.fullmatch(r"bytes=(\d*)-(\d*)", headers.get("range", ""))
        if match is None:
            return 200, tags, node.data
        size = len(node.data)
        start = int(match[1]) if match[1] else max(0, size - int(match[2]))
        end = min(int(match[2]), size - 1) if match[1] and match[2] else size - 1
        if start >= size:
            raise Refusal(416, "out of range")
        return 206, {**tags, "Content-Range": f"bytes {start}-{end}/{size}"}, node.data[start : end + 1]

    on_head = on_get

    def on_delete(self, path: Path, headers: dict[str, str], body: bytes) -> tuple[int, dict[str, str], bytes]:
        self._need(path)
        nodes = self.server_state.nodes
        for known in [p for p in nodes if p[: len(path)] == path]:
            del nodes[known]
        return 204, {}, b""

    def on_move(self, path: Path, headers: dict[str, str], body: bytes) -> tuple[int, dict[str, str], bytes]:
        nodes = self.server_state.nodes
        target = self._destination(headers)
        self._check_conditions(target, headers)
        if headers.get("overwrite") == "F" and target in nodes:
            raise Refusal(412, "exists")
        if path[0] == "uploads":
            return self._assemble(path, target, headers)
        self._need(path)
        self._need_parent(target)
        existed = self._clear(target)
        for known in [p for p in nodes if p[: len(path)] == path]:
            nodes[target + known[len(path) :]] = nodes.pop(known)
        return 204 if existed else 201, {}, b""

    def on_copy(self, path: Path, headers: dict[str, str], body: bytes) -> tuple[int, dict[str, str], bytes]:
        node = self._need(path)
        target = self._destination(headers)
        if node is None:
            raise Refusal(501, "directories are not copied here")
        if headers.get("overwrite") == "F" and target in self.server_state.nodes:
            raise Refusal(412, "exists")
        self._need_parent(target)
        existed = self._clear(target)
        copied = File(node.data, int(time.time()), self.server_state.new_etag(), node.checksum)
        self.server_state.nodes[target] = copied
        return 204 if existed else 201, {}, b""

    def _clear(self, target: Path) -> bool:
        """Remove a MOVE's destination, a directory with all that it holds, as WebDAV wants it."""
        nodes = self.server_state.nodes
        existed = target in nodes
        for known in [p for p in nodes if p[: len(target)] == target]:
            del nodes[known]
        return existed

    def _assemble(self, path: Path, target: Path, headers: dict[str, str]) -> tuple[int, dict[str, str], bytes]:
        nodes = self.server_state.nodes
        directory = path[:-1]
        if path[-1] != ".file" or directory not in nodes:
            raise Refusal(404, "no such upload")
        wanted = self.server_state.version_2.get(directory)
        if wanted is not None and headers.get("destination") != wanted:
            raise Refusal(400, "another destination than at the beginning")
        parts = [p for p in nodes if p[:-1] == directory]
        parts.sort(key=lambda p: (int(p[-1]) if wanted is not None else 0, p[-1]))
        data = b"".join(part.data for p in parts if (part := nodes[p]) is not None)
        if headers.get("oc-total-length") not in (None, str(len(data))):
            raise Refusal(400, "chunks on server do not sum up to the announced length")
        answer = self._store(target, data, headers)
        for known in [*parts, directory]:
            del nodes[known]
        return answer

    def _need(self, path: Path) -> File | None:
        if path not in self.server_state.nodes:
            raise Refusal(404, "not found")
        return self.server_state.nodes[path]

    def on_proppatch(self, path: Path, headers: dict[str, str], body: bytes) -> tuple[int, dict[str, str], bytes]:
        node = self._need(path)
        answers = []
        for prop in ElementTree.fromstring(body).iter(_DAV + "prop"):
            for element in prop:
                known = element.tag == _DAV + "lastmodified" and node is not None
                if known and node is not None:
                    node.mtime = int(element.text or "")
                name = element.tag.partition("}")[2]
                answers.append(
                    f'<d:propstat><d:prop><x:{name} xmlns:x="{element.tag[1:].partition("}")[0]}"/></d:prop>'
                    f"<d:status>HTTP/1.1 {'200 OK' if known else '403 Forbidden'}</d:status></d:propstat>"
                )
        return self._multistatus([f"<d:response><d:href>{_href(path)}</d:href>{''.join(answers)}</d:response>"])

    def on_propfind(self, path: Path, headers: dict[str, str], body: bytes) -> tuple[int, dict[str, str], bytes]:
        self._need(path)
        depth = headers.get("depth", "infinity")
        if depth not in ("0", "1"):
            raise Refusal(412, "depth infinity is not served")
        wanted = [e.tag for p in ElementTree.fromstring(body).iter(_DAV + "prop") for e in p] if body else None
        shown = [path]
        if depth == "1" and self.server_state.nodes[path] is None:
            shown += [p for p in self.server_state.nodes if p[:-1] == path]
        return self._multistatus([self._response(p, wanted) for p in shown])

    def _response(self, path: Path, wanted: list[str] | None) -> str:
        node = self.server_state.nodes[path]
        used = sum(len(n.data) for n in self.server_state.nodes.values() if n)
        props = {_OC + "id": _FILE_ID, _OC + "permissions": "RGDNVW"}
        if node is None:
            props[_DAV + "resourcetype"] = "<d:collection/>"
            props[_DAV + "quota-available-bytes"] = str(self.server_state.quota - used)
            props[_DAV + "quota-used-bytes"] = str(used)
        else:
            props[_DAV + "resourcetype"] = ""
            props[_DAV + "getcontentlength"] = str(len(node.data))
            props[_DAV + "getetag"] = f"&quot;{node.etag}&quot;"
            props[_DAV + "getlastmodified"] = formatdate(node.mtime, usegmt=True)
            if node.checksum:
                props[_OC + "checksums"] = f"<oc:checksum>{escape(node.checksum)}</oc:checksum>"
        names = list(props) if wanted is None else wanted
        found = "".join(_element(name, props[name]) for name in names if name in props)
        missing = "".join(_element(name, "") for name in names if name not in props)
        text = f"<d:propstat><d:prop>{found}</d:prop><d:status>HTTP/1.1 200 OK</d:status></d:propstat>"
        if missing:
            text += f"<d:propstat><d:prop>{missing}</d:prop><d:status>HTTP/1.1 404 Not Found</d:status></d:propstat>"
        return f"<d:response><d:href>{_href(path, node is None)}</d:href>{text}</d:response>"

    def _multistatus(self, responses: list[str]) -> tuple[int, dict[str, str], bytes]:
        text = (
            '<?xml version="1.0"?><d:multistatus xmlns:d="DAV:" xmlns:oc="http://owncloud.org/ns">'
            + "".join(responses)
            + "</d:multistatus>"
        )
        return 207, {"Content-Type": "application/xml; charset=utf-8"}, text.encode()


def _element(tag: str, content: str) -> str:
    namespace, _, name = tag[1:].partition("}")
    return f'<x:{name} xmlns:x="{escape(namespace)}">{content}</x:{name}>'


def _href(path: Path, directory: bool = False) -> str:
    """Encode as sabre/dav does: lower-case hex."""
    text = "/remote.php/dav/" + "/".join(path) + ("/" if directory else "")
    return re.sub(rb"[^A-Za-z0-9_\-.~()/]", lambda match: b"%%%02x" % match[0][0], text.encode()).decode()
