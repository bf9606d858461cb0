"""What the conformance suite does not cover: Nextcloud (our own fake), Digest, hostile answers, odd servers."""

from __future__ import annotations

import hashlib
import os
import ssl
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import trustme
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID

from cloudmesh.storage.abc import Content, ServiceSettings, Timeouts
from cloudmesh.storage.errors import (
    AlreadyExists,
    AuthenticationFailed,
    ChecksumMismatch,
    ConfigError,
    InvalidName,
    IsADirectory,
    NotFound,
    PreconditionFailed,
    QuotaExceeded,
    RateLimited,
    SourceChanged,
    StorageError,
    Unavailable,
    Unsupported,
)
from cloudmesh.storage.providers.webdav import WebdavStorage
from cloudmesh.storage.providers.webdav.answers import error_for, segments_of
from cloudmesh.storage.providers.webdav.multistatus import MultistatusError, MultistatusParser, Response
from deploy.servers import ApacheDav, Wsgidav, find_program
from tests.storage.providers.fake_nextcloud import FakeNextcloud, Fault

MIB = 1024 * 1024
MTIME = 1_500_000_000_123_456_789


@pytest.fixture
def cloud() -> Iterator[FakeNextcloud]:
    with FakeNextcloud() as fake:
        yield fake


@pytest.fixture
def make() -> Iterator[Callable[..., WebdavStorage]]:
    made = []

    def maker(url: str, root: str = "", **credentials: str) -> WebdavStorage:
        settings = ServiceSettings(
            "cloud", "webdav", root=root, credentials={"url": url, **credentials}, timeouts=Timeouts(5, 5)
        )
        made.append(WebdavStorage(settings))
        return made[-1]

    yield maker
    for storage in made:
        storage.close()


@pytest.fixture
def storage(cloud: FakeNextcloud, make: Callable[..., WebdavStorage]) -> WebdavStorage:
    return make(cloud.url, "my files/é", username=cloud.username, password=cloud.password)


def big(size: int) -> bytes:
    return hashlib.shake_128(b"big").digest(1024) * (size // 1024) + b"x" * (size % 1024)


# ---- Nextcloud ----------------------------------------------------------------------------------------------------


def test_small_file_is_one_put_with_mtime_and_checksum(cloud: FakeNextcloud, storage: WebdavStorage) -> None:
    entry = storage.write("a/#?%&+;= ü.txt", Content.of_bytes(b"hello", MTIME))
    stored = cloud.file("my files/é/a/#?%&+;= ü.txt")
    assert (stored.data, stored.mtime) == (b"hello", 1_500_000_000)
    assert stored.checksum == "SHA1:" + hashlib.sha1(b"hello").hexdigest()
    assert len(cloud.sent("PUT")) == 1
    assert not cloud.sent("MOVE")
    seen = storage.stat("a/#?%&+;= ü.txt")
    assert (entry.etag, entry.size, entry.mtime_ns) == (seen.etag, seen.size, seen.mtime_ns)
    assert seen.hashes == {"sha1": hashlib.sha1(b"hello").hexdigest()}
    assert seen.mtime_ns == 1_500_000_000 * 10**9
    assert [e.path for e in storage.scan("", recursive=True)] == ["a", "a/#?%&+;= ü.txt"]


@pytest.mark.parametrize("known", [True, False], ids=["size-known", "size-unknown"])
def test_large_file_goes_in_parts(cloud: FakeNextcloud, storage: WebdavStorage, known: bool) -> None:
    data = big(40 * MIB + 1)
    pieces = (data[at : at + 700_001] for at in range(0, len(data), 700_001))
    entry = storage.write("big", Content.of_stream(pieces, size=len(data) if known else None, mtime_ns=MTIME))
    stored = cloud.file("my files/é/big")
    assert stored.data == data
    assert stored.mtime == 1_500_000_000
    assert stored.checksum == "SHA1:" + hashlib.sha1(data).hexdigest()
    assert entry.size == len(data)
    assert entry.hashes == storage.stat("big").hashes
    assert [path.rpartition("/")[2] for path, _ in cloud.sent("PUT")] == ["00001", "00002", "00003"]
    assert cloud.leftovers() == []


def test_large_file_replaces_a_file_but_never_a_directory(cloud: FakeNextcloud, storage: WebdavStorage) -> None:
    data = big(17 * MIB)
    storage.write("big", Content.of_bytes(b"old"))
    storage.write("big", Content.of_bytes(data))
    assert cloud.file("my files/é/big").data == data
    with pytest.raises(AlreadyExists):
        storage.write("big", Content.of_bytes(data), mode="create")
    with pytest.raises(PreconditionFailed):
        storage.write("big", Content.of_bytes(data), if_match="other")
    storage.write("big", Content.of_bytes(data + b"1"), if_match=storage.stat("big").etag)
    storage.write("dir/inside", Content.of_bytes(b"kept"))
    with pytest.raises(IsADirectory):
        storage.write("dir", Content.of_bytes(data))
    assert cloud.file("my files/é/dir/inside").data == b"kept"
    assert cloud.leftovers() == []


@pytest.mark.parametrize("given", [17 * MIB - 1, 17 * MIB + 1])
def test_large_source_of_another_length_leaves_nothing(
    cloud: FakeNextcloud, storage: WebdavStorage, given: int
) -> None:
    storage.write("big", Content.of_bytes(b"old"))
    with pytest.raises(SourceChanged):
        storage.write("big", Content.of_stream([big(given)], size=17 * MIB))
    assert cloud.file("my files/é/big").data == b"old"
    assert cloud.leftovers() == []


def test_large_file_broken_off_in_a_part(cloud: FakeNextcloud, storage: WebdavStorage) -> None:
    storage.write("big", Content.of_bytes(b"old"))
    cloud.faults.append(Fault("PUT", cut_after=MIB, skip=1))
    with pytest.raises(Unavailable):
        storage.write("big", Content.of_bytes(big(40 * MIB)))
    assert cloud.file("my files/é/big").data == b"old"
    assert cloud.leftovers() == []


def test_conditions_of_a_small_file(storage: WebdavStorage) -> None:
    first = storage.write("f", Content.of_bytes(b"1"), mode="create")
    with pytest.raises(AlreadyExists):
        storage.write("f", Content.of_bytes(b"2"), mode="create")
    storage.write("f", Content.of_bytes(b"3"), if_match=first.etag)
    with pytest.raises(PreconditionFailed):
        storage.write("f", Content.of_bytes(b"4"), if_match=first.etag)
    with storage.open_read("f") as reader:
        assert reader.read() == b"3"


def test_copy_keeps_the_modification_time(storage: WebdavStorage) -> None:
    storage.write("f", Content.of_bytes(b"1", MTIME))
    storage.copy_within("f", "deep/copy")
    assert storage.stat("deep/copy").mtime_ns == 1_500_000_000 * 10**9
    storage.set_mtime("f", 5 * 10**9)
    assert storage.stat("f").mtime_ns == 5 * 10**9


def test_changed_bytes_are_seen(cloud: FakeNextcloud, storage: WebdavStorage) -> None:
    """A content that is not the same when it is read again is what a damaged transfer looks like to the service."""
    answers = [[b"first"], [b"other"]]
    with pytest.raises(ChecksumMismatch):
        storage.write("f", Content(open=lambda: answers.pop(0), size=5))
    with pytest.raises(NotFound):
        storage.stat("f")


def test_usage(cloud: FakeNextcloud, storage: WebdavStorage) -> None:
    cloud.quota = 1000
    storage.write("f", Content.of_bytes(b"x" * 100))
    usage = storage.usage()
    assert (usage.total, usage.used, usage.free) == (1000, 100, 900)
    with pytest.raises(QuotaExceeded):
        storage.write("g", Content.of_bytes(b"x" * 901))


def test_bearer_token(cloud: FakeNextcloud, make: Callable[..., WebdavStorage]) -> None:
    storage = make(cloud.url, token=cloud.token)
    storage.write("f", Content.of_bytes(big(17 * MIB)))
    assert storage.stat("f").size == 17 * MIB
    with pytest.raises(AuthenticationFailed) as caught:
        make(cloud.url, token="hidden-token").probe()
    assert "hidden" not in str(caught.value)


def test_old_address(cloud: FakeNextcloud, make: Callable[..., WebdavStorage]) -> None:
    """The address below ``remote.php/webdav`` names no user: the account's name is the user's."""
    from cloudmesh.storage.providers.webdav.nextcloud import Uploads

    uploads = Uploads.of("https://h/remote.php/webdav/a%20b", "j d")
    assert uploads == Uploads("https://h/remote.php/dav/uploads/j%20d", "https://h/remote.php/dav/files/j%20d/a%20b")
    assert Uploads.of("https://h/dav", "j") is None


@pytest.mark.parametrize(
    ("header", "low", "high"), [("7", 7, 7), ("Wed, 01 Jan 2200 00:00:00 GMT", 10**9, 10**10), ("soon", None, None)]
)
def test_rate_limit(
    cloud: FakeNextcloud, storage: WebdavStorage, header: str, low: float | None, high: float | None
) -> None:
    storage.probe()
    cloud.faults.append(Fault("PROPFIND", 429, {"Retry-After": header}))
    with pytest.raises(RateLimited) as caught:
        storage.stat("f")
    wait = caught.value.retry_after
    assert wait is None if low is None or high is None else wait is not None and low <= wait <= high


@pytest.mark.parametrize("status", [500, 502, 503, 504])
def test_trouble_is_retryable(cloud: FakeNextcloud, storage: WebdavStorage, status: int) -> None:
    storage.probe()
    cloud.faults.append(Fault("PUT", status, {"Retry-After": "3"}))
    with pytest.raises(Unavailable) as caught:
        storage.write("f", Content.of_bytes(b"1"))
    assert caught.value.retry_after == 3


def test_rclone_reads_and_writes_the_fake(cloud: FakeNextcloud, storage: WebdavStorage, tmp_path: Path) -> None:
    """A client that others wrote takes the fake for a Nextcloud, and its files and ours are the same."""
    data = big(25 * MIB)
    (tmp_path / "big").write_bytes(data)
    rclone = find_program("rclone")
    obscured = subprocess.run([rclone, "obscure", cloud.password], capture_output=True, text=True, check=True).stdout
    configuration = tmp_path / "rclone.conf"
    configuration.write_text(
        f"[nc]\ntype = webdav\nvendor = nextcloud\nurl = {cloud.url}\nuser = {cloud.username}\n"
        f"pass = {obscured.strip()}\nnextcloud_chunk_size = 10M\n"
    )
    common = [rclone, "--config", str(configuration), "--retries", "1"]
    subprocess.run([*common, "copyto", str(tmp_path / "big"), "nc:my files/é/from rclone"], check=True)
    with storage.open_read("from rclone") as reader:
        assert reader.read() == data
    assert any("/uploads/" in path for path, _ in cloud.sent("PUT"))
    storage.write("sub/from us", Content.of_bytes(data, MTIME))
    subprocess.run([*common, "copyto", "nc:my files/é/sub/from us", str(tmp_path / "back")], check=True)
    assert (tmp_path / "back").read_bytes() == data
    assert (tmp_path / "back").stat().st_mtime == 1_500_000_000


# ---- https ----------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> tuple[trustme.CA, Path]:
    """A certificate authority that no system knows, and the file of its certificate."""
    authority = trustme.CA()
    file = tmp_path_factory.mktemp("authority") / "authority.pem"
    authority.cert_pem.write_to_path(file)
    return authority, file


def encrypting(certificate: trustme.LeafCert) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    certificate.configure_cert(context)
    return context


def test_a_private_authority_is_named_in_the_environment(
    authority: tuple[trustme.CA, Path], make: Callable[..., WebdavStorage], monkeypatch: pytest.MonkeyPatch
) -> None:
    ca, file = authority
    with FakeNextcloud(tls=encrypting(ca.issue_cert("127.0.0.1"))) as cloud:
        storage = make(cloud.url, username=cloud.username, password=cloud.password)
        with pytest.raises(AuthenticationFailed, match=r"authority is not known here .*SSL_CERT_FILE"):
            storage.probe()
        assert not cloud.requests  # no password went out
        monkeypatch.setenv("SSL_CERT_FILE", str(file))
        storage = make(cloud.url, username=cloud.username, password=cloud.password)
        data = big(17 * MIB)
        storage.write("f", Content.of_bytes(data))
        with storage.open_read("f") as reader:
            assert reader.read() == data


NOW = datetime.now(UTC)


@pytest.mark.parametrize(
    ("host", "begins", "ends", "why"),
    [
        ("example.org", None, None, "is for another host name"),
        ("127.0.0.1", NOW - timedelta(9), NOW - timedelta(1), "has expired"),
        ("127.0.0.1", NOW + timedelta(1), NOW + timedelta(9), "is not valid yet"),
    ],
    ids=["other-host", "expired", "not-yet"],
)
def test_a_certificate_that_is_not_right(
    authority: tuple[trustme.CA, Path],
    make: Callable[..., WebdavStorage],
    monkeypatch: pytest.MonkeyPatch,
    host: str,
    begins: datetime | None,
    ends: datetime | None,
    why: str,
) -> None:
    ca, file = authority
    monkeypatch.setenv("SSL_CERT_FILE", str(file))
    certificate = ca.issue_cert(host, not_before=begins, not_after=ends)
    with FakeNextcloud(tls=encrypting(certificate)) as cloud:
        with pytest.raises(AuthenticationFailed, match=f"cloud.*: the server's certificate {why}"):
            make(cloud.url, username=cloud.username, password=cloud.password).probe()
        assert not cloud.requests


def test_a_certificate_signed_by_itself(make: Callable[..., WebdavStorage], tmp_path: Path) -> None:
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "127.0.0.1")])
    builder = x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(key.public_key())
    builder = builder.serial_number(1).not_valid_before(NOW - timedelta(1)).not_valid_after(NOW + timedelta(9))
    certificate = builder.sign(key, hashes.SHA256())
    plain = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    (tmp_path / "both.pem").write_bytes(plain + certificate.public_bytes(Encoding.PEM))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(tmp_path / "both.pem")
    with FakeNextcloud(tls=context) as cloud:
        with pytest.raises(AuthenticationFailed, match="is signed by itself only"):
            make(cloud.url, username=cloud.username, password=cloud.password).probe()
        assert not cloud.requests


def test_a_file_of_authorities_that_is_none(
    authority: tuple[trustme.CA, Path],
    make: Callable[..., WebdavStorage],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    (tmp_path / "no.pem").write_text("no certificate")
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "no.pem"))
    with (
        FakeNextcloud(tls=encrypting(authority[0].issue_cert("127.0.0.1"))) as cloud,
        pytest.raises(ConfigError, match="SSL_CERT_FILE"),
    ):
        make(cloud.url).probe()


# ---- servers that others wrote --------------------------------------------------------------------------------------


def test_streams_with_digest(apache_dav_digest: ApacheDav) -> None:
    storage = WebdavStorage(apache_dav_digest.settings("digest", root="digest"))
    pieces = [b"x" * 300_000] * 7
    storage.write("stream", Content.of_stream(pieces, mtime_ns=MTIME))
    assert storage.stat("stream").size == 2_100_000
    assert storage.stat("stream").mtime_ns == MTIME
    with storage.open_read("stream", start=-5) as reader:
        assert reader.read() == b"xxxxx"
    storage.close()


@pytest.mark.parametrize("known", [True, False], ids=["size-known", "size-unknown"])
def test_an_upload_may_take_longer_than_the_read_timeout(apache_dav: ApacheDav, known: bool) -> None:
    """The timeout is for a service that stands still, not for how long a file takes."""
    settings = replace(apache_dav.settings("slow", root="slow"), timeouts=Timeouts(read=2))
    storage = WebdavStorage(settings)

    def pieces() -> Iterator[bytes]:
        for _ in range(6):
            time.sleep(0.5)
            yield b"x" * 300_000

    storage.write("f", Content(open=pieces, size=1_800_000 if known else None))
    assert storage.stat("f").size == 1_800_000
    storage.close()


def test_digest_of_wsgidav(wsgidav_digest: Wsgidav) -> None:
    storage = WebdavStorage(wsgidav_digest.settings("digest", root="digest"))
    for number in range(5):
        storage.write(f"f{number}", Content.of_bytes(b"x" * number))
    assert [entry.size for entry in storage.scan()] == [0, 1, 2, 3, 4]
    storage.close()


def test_a_stale_modification_time_is_not_told(apache_dav: ApacheDav) -> None:
    """mod_dav keeps our property when another client overwrites the file; it is of the old content then."""
    storage = WebdavStorage(apache_dav.settings("stale", root="stale"))
    storage.write("f", Content.of_bytes(b"ours", MTIME))
    assert storage.stat("f").mtime_ns == MTIME
    apache_dav.request("PUT", "stale/f", b"theirs")
    assert storage.stat("f").mtime_ns is None
    storage.close()


def test_directories_that_another_client_removes_are_made_again(apache_dav: ApacheDav) -> None:
    storage = WebdavStorage(apache_dav.settings("again", root="again"))
    storage.write("f", Content.of_bytes(b"1"))
    changes: list[Callable[[str], object]] = [
        lambda path: storage.write(path, Content.of_bytes(b"1")),
        lambda path: storage.copy_within("f", path),
        lambda path: storage.move_within("f", path),
    ]
    for number, change in enumerate(changes):
        storage.write("a/b/c/seen", Content.of_bytes(b"1"))
        apache_dav.request("DELETE", "again/a/").close()
        change(f"a/b/c/{number}")
        assert [entry.path for entry in storage.scan("a/b/c")] == [f"a/b/c/{number}"]
    storage.close()


def test_names_that_are_no_utf8_are_listed(apache_dav: ApacheDav) -> None:
    """They come from behind; they cannot be named to us, but must not end a scan."""
    storage = WebdavStorage(apache_dav.settings("bytes", root="bytes"))
    storage.make_dir("")
    directory = os.fsencode(apache_dav.data) + b"/bytes/d\xff"
    os.mkdir(directory)
    Path(os.fsdecode(directory + b"/f\xfe")).write_bytes(b"12")
    found = list(storage.scan(recursive=True))
    assert [(entry.path, entry.size) for entry in found] == [("d\udcff", None), ("d\udcff/f\udcfe", 2)]
    with pytest.raises(InvalidName):
        storage.open_read(found[1].path)
    storage.close()


class IndexingApache(ApacheDav):
    """Apache as mod_dir makes it where nobody thought of WebDAV: it answers for a directory's index.html instead."""

    def _prepare(self) -> None:
        super()._prepare()
        configuration = self.directory / "apache.conf"
        text = configuration.read_text()
        configuration.write_text(text.replace("DirectoryIndex disabled", "DirectoryIndex index.html"))


def test_directories_that_an_index_file_hides(server_directory: Path) -> None:
    with IndexingApache(server_directory / "indexing") as server:
        storage = WebdavStorage(server.settings("indexing"))
        storage.write("file/index.html", Content.of_bytes(b"1"))
        storage.make_dir("directory/index.html")
        for hidden in ("file", "directory"):
            for look in (storage.stat, lambda path: list(storage.scan(path)), storage.remove_dir):
                with pytest.raises(Unsupported, match="DirectoryIndex disabled"):
                    look(hidden)
        server.request("PUT", "index.html", b"1")
        with pytest.raises(ConfigError, match="DirectoryIndex disabled"):
            storage.probe()
        storage.close()


def test_question_marks_on_a_server_that_cuts_them(wsgidav: Wsgidav) -> None:
    """wsgidav cuts a MOVE's Destination at a '?': such a file must neither go elsewhere nor hit another one."""
    storage = WebdavStorage(wsgidav.settings("marks", root="marks"))
    storage.write("a", Content.of_bytes(b"another"))
    storage.write("a?b", Content.of_bytes(b"right"))
    storage.write("a;b", Content.of_bytes(b"right too"))
    with pytest.raises(StorageError, match="cannot replace"):
        storage.write("a?b", Content.of_bytes(b"new"))
    storage.move_within("a;b", "c;d")
    found = {}
    for entry in storage.scan():
        with storage.open_read(entry.path) as reader:
            found[entry.path] = reader.read()
    assert found == {"a": b"another", "a?b": b"right", "c;d": b"right too"}
    storage.close()


# ---- hostile and odd answers ----------------------------------------------------------------------------------------


@pytest.fixture
def canned() -> Iterator[Callable[[int, dict[str, str], bytes], str]]:
    """Starts a server that gives every request the same answer; returns its url."""
    servers: list[ThreadingHTTPServer] = []
    seen: list[dict[str, str]] = []

    def start(status: int, headers: dict[str, str], body: bytes) -> str:
        class Handler(BaseHTTPRequestHandler):
            def log_message(self, format: str, *args: Any) -> None:
                pass

            def __getattr__(self, name: str) -> Any:
                if not name.startswith("do_"):
                    raise AttributeError(name)
                return self.reply

            def reply(self) -> None:
                seen.append(dict(self.headers))
                self.rfile.read(int(self.headers.get("Content-Length") or 0))
                self.send_response(status)
                for key, value in headers.items():
                    self.send_header(key, value)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

        server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        servers.append(server)
        threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
        return f"http://127.0.0.1:{server.server_address[1]}/"

    start.seen = seen  # type: ignore[attr-defined]
    yield start
    for server in servers:
        server.shutdown()
        server.server_close()


def test_a_redirect_is_not_followed(
    canned: Callable[[int, dict[str, str], bytes], str], make: Callable[..., WebdavStorage]
) -> None:
    other = canned(207, {}, b"")
    url = canned(302, {"Location": other}, b"")
    with pytest.raises(ConfigError, match="redirects"):
        make(url, username="u", password="hidden-password").probe()
    assert len(canned.seen) == 1  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    "body",
    [
        b'<?xml version="1.0"?><!DOCTYPE d [<!ENTITY a "aaaa"><!ENTITY b "&a;&a;">]><d:multistatus xmlns:d="DAV:"/>',
        b"<html><body>Welcome</body></html>",
        b'<?xml version="1.0"?><d:multistatus xmlns:d="DAV:"><d:response>',
        b"",
        b"<a>" * 100,
    ],
    ids=["entities", "no-multistatus", "truncated", "empty", "deep"],
)
def test_xml_that_is_not_what_it_should_be(
    canned: Callable[[int, dict[str, str], bytes], str], make: Callable[..., WebdavStorage], body: bytes
) -> None:
    with pytest.raises(Unavailable, match=r"XML|multistatus"):
        make(canned(207, {}, body)).probe()


def test_not_webdav(canned: Callable[[int, dict[str, str], bytes], str], make: Callable[..., WebdavStorage]) -> None:
    with pytest.raises(ConfigError, match="does not speak WebDAV"):
        make(canned(405, {}, b"")).probe()


@pytest.mark.parametrize(
    "url",
    ["", "ftp://h/", "https://", "https://u:hidden@h/", "https://h/?a=hidden", "https://h:port/", "no url"],
)
def test_a_wrong_url_is_refused_without_showing_it(make: Callable[..., WebdavStorage], url: str) -> None:
    with pytest.raises(ConfigError) as caught:
        make(url)
    assert "hidden" not in str(caught.value)


def test_credentials_that_make_no_sense(make: Callable[..., WebdavStorage]) -> None:
    with pytest.raises(ConfigError, match="both"):
        make("https://h/", username="u", token="t")
    with pytest.raises(ConfigError, match="no username"):
        make("https://h/", password="p")


@pytest.mark.parametrize(
    ("href", "segments"),
    [
        ("/a/b%20c/", ["a", "b c"]),
        ("http://h:1/a/%3f%23%25.txt", ["a", "?#%.txt"]),
        ("//a/b", ["a", "b"]),
        ("/a/b?c#d", ["a", "b?c#d"]),
        ("/x/http://y", ["x", "http:", "y"]),
        ("/a%2Fb/é", ["a/b", "é"]),
        ("/%ff", ["\udcff"]),
    ],
)
def test_hrefs(href: str, segments: list[str]) -> None:
    assert segments_of(href) == segments


def test_multistatus_as_it_comes_byte_by_byte() -> None:
    text = (
        '<?xml version="1.0" encoding="utf-8"?><d:multistatus xmlns:d="DAV:" xmlns:z="urn:z"><d:response>'
        "<d:href>/a&amp;b</d:href><d:propstat><d:prop><d:resourcetype><d:collection/></d:resourcetype><z:p>é&lt;</z:p>"
        "</d:prop><d:status>HTTP/1.1 200 OK</d:status></d:propstat><d:propstat><d:prop><d:getetag/></d:prop>"
        "<d:status>HTTP/1.1 404 Not Found</d:status></d:propstat></d:response></d:multistatus>"
    ).encode()
    found: list[Response] = []
    parser = MultistatusParser(found.append)
    for at in range(len(text)):
        parser.feed(text[at : at + 1])
    parser.close()
    (response,) = found
    assert response.href == "/a&b"
    assert response.props["urn:z p"] == "é<"
    assert "DAV: resourcetype/DAV: collection" in response.props
    assert response.refused == {"DAV: getetag": 404}
    with pytest.raises(MultistatusError):
        MultistatusParser(found.append).close()


@pytest.mark.parametrize("status", [300, 400, 402, 418, 451, 501, 505, 599])
def test_every_status_is_an_error_of_ours(status: int) -> None:
    assert isinstance(error_for(status, {}, b"", "cloud:f"), StorageError)
