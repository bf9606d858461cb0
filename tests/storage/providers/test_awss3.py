"""What the conformance suite does not ask of every provider: credentials, metadata, parts, and foreign keys of S3."""

from __future__ import annotations

import hashlib
import itertools
import json
import logging
import os
import re
import socket
import socketserver
import subprocess
import sys
import threading
import time
import urllib.request
import uuid
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Literal
from urllib.parse import parse_qs, quote

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from cloudmesh.storage.abc import Content, Entry, Loaded, ReadRequest, ServiceSettings, Timeouts, WriteRequest
from cloudmesh.storage.errors import (
    AlreadyExists,
    AuthenticationFailed,
    ChecksumMismatch,
    ConfigError,
    InvalidName,
    IsADirectory,
    MissingExtra,
    NotFound,
    PermissionDenied,
    PreconditionFailed,
    QuotaExceeded,
    SourceChanged,
    StorageError,
    Unavailable,
    Unsupported,
)
from cloudmesh.storage.layers import Limit
from cloudmesh.storage.providers.awss3 import (
    S3Storage,
    copying,
    downloading,
    multipart,
    removing,
    scanning,
    signing,
)
from cloudmesh.storage.providers.awss3.local_parts import Room
from cloudmesh.storage.transfer.copying import Target, copy_file, copy_to_many
from deploy.servers import RcloneS3, SeaweedFS
from tests.faults import FaultProxy, HttpFaults
from tests.storage.transfer.places import change

MIB = 1024 * 1024
MTIME = 1_700_000_000_123_456_789
BIG = os.urandom(20 * MIB)


@pytest.fixture
def storage(seaweedfs: SeaweedFS) -> Iterator[S3Storage]:
    made = S3Storage(seaweedfs.settings("s3", root=f"test-{uuid.uuid4().hex}"))
    yield made
    made.close()


@pytest.fixture
def other(rclone_s3: RcloneS3) -> Iterator[S3Storage]:
    root = f"test-{uuid.uuid4().hex}"
    (rclone_s3.data / rclone_s3.bucket / root).mkdir()  # it fails with 500 where two requests make a directory at once
    made = S3Storage(rclone_s3.settings("s3", root=root))
    yield made
    made.close()


def key_of(storage: S3Storage, path: str) -> str:
    return f"{storage.settings.root}/{path}"


def uploads(seaweedfs: SeaweedFS, storage: S3Storage) -> list[str]:
    found = seaweedfs.client().list_multipart_uploads(Bucket=seaweedfs.bucket).get("Uploads", [])
    return [upload["Key"] for upload in found if upload["Key"].startswith(storage.settings.root)]


# ---- signatures -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("token", [None, "a token+/="])
@pytest.mark.parametrize(
    "query", [{}, {"list-type": "2", "prefix": "a b+c%20~'()*é/", "delimiter": "/", "uploads": "", "partNumber": "1"}]
)
@pytest.mark.parametrize("key", ["a", "dir/ a+b %20~'()!*;:@&=$,é日本/é\t😀", "a..b/.c"])
@pytest.mark.parametrize(("method", "whole"), [("GET", True), ("PUT", True), ("PUT", False)])
def test_signature_is_that_of_botocore(
    method: str, whole: bool, key: str, query: dict[str, str], token: str | None
) -> None:
    from botocore.auth import S3SigV4Auth
    from botocore.awsrequest import AWSRequest
    from botocore.credentials import Credentials

    keys = signing.Keys("AKIA", "secret/+", token)
    body = b"body" if method == "PUT" else b""
    digest = hashlib.sha256(body).hexdigest() if whole else signing.UNSIGNED
    path = f"/bucket/{quote(key, safe='/-_.~')}"
    text = "&".join(f"{name}={quote(value, safe='-_.~')}" for name, value in sorted(query.items()))
    headers = [("Content-Type", "text/plain"), ("x-amz-meta-mtime", " 1.5  and more "), ("Content-MD5", "b2s=")]
    ours = dict(signing.signed(keys, "eu-west-3", method, "host:9000", path, text, headers, digest))
    scheme = "http" if whole else "https"  # over which botocore leaves a body out for which Content-MD5 vouches
    theirs = AWSRequest(method, f"{scheme}://host:9000{path}", dict(headers), body, params=query)
    theirs.context["payload_signing_enabled"] = whole
    signer = S3SigV4Auth(Credentials("AKIA", "secret/+", token), "s3", "eu-west-3")
    with pytest.MonkeyPatch.context() as patch:
        moment = datetime.strptime(ours["x-amz-date"], "%Y%m%dT%H%M%SZ").replace(tzinfo=UTC)
        patch.setattr("botocore.auth.get_current_datetime", lambda *_: moment)
        signer.add_auth(theirs)
    assert ours["Authorization"] == theirs.headers["Authorization"]
    assert "secret" not in repr(keys)


def as_stream(data: bytes) -> Content:
    """Bytes that come in pieces, of which the MD5 is known beforehand."""
    pieces = [data[begin : begin + MIB] for begin in range(0, len(data), MIB)]
    return Content(open=lambda: pieces, size=len(data), hashes={"md5": hashlib.md5(data).hexdigest()})


class _Damage(socketserver.StreamRequestHandler):
    """Passes one connection on to a server, with other bytes in the middle of what passes, either way."""

    target: int

    def handle(self) -> None:
        with socket.create_connection(("127.0.0.1", self.target)) as server:
            back = threading.Thread(target=self.pass_on, args=(server, self.connection))
            back.start()
            self.pass_on(self.connection, server)
            server.shutdown(socket.SHUT_WR)
            back.join()

    def pass_on(self, one: socket.socket, other: socket.socket) -> None:
        while data := one.recv(65536):
            other.sendall(data.replace(b"<right>", b"<wrong>"))


@contextmanager
def damaging(server: SeaweedFS | RcloneS3) -> Iterator[int]:
    """Give the port of a relay to a server, through which no ``<right>`` passes."""
    handler = type("Handler", (_Damage,), {"target": server.port})
    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), handler) as relay:
        thread = threading.Thread(target=relay.serve_forever, args=(0.05,))
        thread.start()
        try:
            yield relay.server_address[1]
        finally:
            relay.shutdown()
            thread.join()


@pytest.mark.parametrize("way", ["whole", "parts", "stream"])
def test_bytes_damaged_on_the_way_are_refused(seaweedfs: SeaweedFS, rclone_s3: RcloneS3, way: str) -> None:
    data = b"<right>" + (b"" if way == "whole" else BIG)
    content = as_stream(data) if way == "stream" else Content.of_bytes(data)
    for server in (seaweedfs, rclone_s3):
        with (
            damaging(server) as port,
            closing(S3Storage(server.settings("s3", root=uuid.uuid4().hex, port=port))) as storage,
        ):
            with pytest.raises(ChecksumMismatch):
                storage.write("a", content)
            if way == "whole":
                ((_, result),) = storage.write_many([WriteRequest("a", data)])
                assert isinstance(result, ChecksumMismatch)
            with pytest.raises(NotFound):
                storage.stat("a")


@pytest.mark.parametrize("where", ["source", "destination"])
def test_copy_that_is_damaged_on_the_way_changes_nothing(
    seaweedfs: SeaweedFS, rclone_s3: RcloneS3, storage: S3Storage, other: S3Storage, where: str
) -> None:
    data = b"<right>" + BIG
    other.write("a", as_stream(data))
    storage.write("a", Content.of_bytes(b"before"))
    damaged, server = (other, rclone_s3) if where == "source" else (storage, seaweedfs)
    with (
        damaging(server) as port,
        closing(S3Storage(server.settings("s3", root=damaged.settings.root, port=port))) as broken,
    ):
        ends = (broken, storage) if where == "source" else (other, broken)
        with pytest.raises(ChecksumMismatch):
            copy_file(ends[0], other.stat("a"), ends[1], "a")
    assert storage.open_read("a").read() == b"before"
    hashes = {"md5": hashlib.md5(data).hexdigest()}
    assert copy_file(other, other.stat("a"), storage, "a").hashes == hashes
    assert storage.open_read("a").read() == data
    for made in copy_to_many(other, other.stat("a"), [Target(storage, "b"), Target(other, "b")]):
        assert isinstance(made, Entry)
        assert made.hashes == hashes
    assert storage.open_read("b").read() == other.open_read("b").read() == data


# ---- settings -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"bucket": None}, "bucket is missing"),
        ({"secret_access_key": None}, "needed together"),
        ({"access_key_id": None}, "needed together"),
        ({"profile": "work"}, "exclude each other"),
        ({"endpoint_url": "127.0.0.1:9000"}, "endpoint_url"),
        ({"endpoint_url": "ftp://host"}, "endpoint_url"),
        ({"endpoint_url": "https://key:word@host"}, "endpoint_url"),
        ({"addressing_style": "auto"}, "addressing_style"),
        ({"anonymous": "perhaps"}, "anonymous"),
    ],
)
def test_settings_that_make_no_sense_are_refused(seaweedfs: SeaweedFS, changes: dict[str, Any], words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        S3Storage(seaweedfs.settings("s3", **changes))


def test_unknown_profile(seaweedfs: SeaweedFS) -> None:
    storage = S3Storage(seaweedfs.settings("s3", access_key_id=None, secret_access_key=None, profile="nobody"))
    with pytest.raises(ConfigError, match="profile"):
        storage.stat("a")


def test_no_credentials_at_all(seaweedfs: SeaweedFS, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    storage = S3Storage(seaweedfs.settings("s3", access_key_id=None, secret_access_key=None))
    with pytest.raises(AuthenticationFailed, match="no usable credentials"):
        storage.write("a", Content.of_bytes(b"1"))


# ---- credentials ----------------------------------------------------------------------------------------------------


def write_and_list(storage: S3Storage) -> None:
    """Use both libraries: obstore reads, libcurl does the rest."""
    storage.write("a", Content.of_bytes(b"1"))
    assert storage.open_read("a").read() == b"1"
    assert [entry.path for entry in storage.scan()] == ["a"]


def test_profile_of_the_aws_files(seaweedfs: SeaweedFS, home: Path) -> None:
    folder = home.parent / ".aws"
    folder.mkdir()
    (folder / "credentials").write_text(
        f"[work]\naws_access_key_id = {seaweedfs.access_key_id}\n"
        f"aws_secret_access_key = {seaweedfs.secret_access_key}\n"
    )
    (folder / "config").write_text("[profile work]\nregion = eu-central-1\n")
    changes: dict[str, Any] = {"access_key_id": None, "secret_access_key": None, "region": None, "profile": "work"}
    storage = S3Storage(seaweedfs.settings("s3", root=uuid.uuid4().hex, **changes))
    write_and_list(storage)
    assert "%2Feu-central-1%2F" in storage.presign("a", expires=60)


def test_default_chain_reads_the_environment(seaweedfs: SeaweedFS, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", seaweedfs.access_key_id)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", seaweedfs.secret_access_key)
    write_and_list(
        S3Storage(seaweedfs.settings("s3", root=uuid.uuid4().hex, access_key_id=None, secret_access_key=None))
    )


def test_configured_keys_are_not_mixed_with_the_environment(
    seaweedfs: SeaweedFS, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in {
        "AWS_PROFILE": "nobody",
        "AWS_ACCESS_KEY_ID": "AKIAOFSOMEBODYELSE",
        "AWS_SECRET_ACCESS_KEY": "of somebody else",
        "AWS_SESSION_TOKEN": "of somebody else",
        "AWS_ENDPOINT_URL": "http://127.0.0.1:9",
        "AWS_REGION": "eu-central-1",
        "AWS_SKIP_SIGNATURE": "true",
        "AWS_VIRTUAL_HOSTED_STYLE_REQUEST": "true",
    }.items():
        monkeypatch.setenv(name, value)
    write_and_list(S3Storage(seaweedfs.settings("s3", root=uuid.uuid4().hex)))


def test_session_token_is_sent_by_both_libraries(rclone_s3: RcloneS3, http_faults: Callable[[int], HttpFaults]) -> None:
    proxy = http_faults(rclone_s3.port)
    storage = S3Storage(rclone_s3.settings("s3", root=uuid.uuid4().hex, port=proxy.port, session_token="token-1"))
    write_and_list(storage)
    assert {request.headers.get("x-amz-security-token") for request in proxy.requests} == {"token-1"}


PROGRAM = """
import json, sys
from cloudmesh.storage.abc import Content, ServiceSettings
from cloudmesh.storage.providers.awss3 import S3Storage

storage = S3Storage(ServiceSettings("s3", "awss3", **json.loads(sys.stdin.readline())))
"""


def started(storage: S3Storage, program: str) -> subprocess.Popen[str]:
    """Start another process that has ``storage`` too."""
    process = subprocess.Popen(
        [sys.executable, "-c", PROGRAM + program], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    settings = {"root": storage.settings.root, "credentials": dict(storage.settings.credentials)}
    assert process.stdin is not None
    process.stdin.write(json.dumps(settings) + "\n")
    process.stdin.flush()
    return process


SMALL_WORK = """
from cloudmesh.storage.abc import ReadRequest, WriteRequest

for mode in ("overwrite", "create"):
    list(storage.write_many([WriteRequest(f"dir/{mode}", b"1", 1, mode), WriteRequest("a", b"2")]))
storage.write("b", Content.of_bytes(b"1"))
storage.write("large", Content.of_stream([bytes(40 * 1024 * 1024)]))
storage.make_dir("made")
storage.copy_within("a", "c")
print(sorted(loaded.data for _, loaded in storage.read_many([ReadRequest("dir/create"), ReadRequest("a")])))
print(storage.stat("a").size, [entry.path for entry in storage.scan(recursive=True)])
storage.remove("a")
storage.remove_dir("made")
print({"boto3", "botocore", "obstore"} & sys.modules.keys())
"""


def test_small_files_under_fixed_keys_wait_for_no_large_library(storage: S3Storage) -> None:
    with started(storage, SMALL_WORK) as process:
        assert process.stdout is not None
        assert process.stdout.read().splitlines() == [
            "[b'1', b'2']",
            "1 ['a', 'b', 'c', 'dir', 'dir/create', 'dir/overwrite', 'large', 'made']",
            "set()",
        ]


@pytest.mark.parametrize("package", ["boto3", "obstore", "pycurl"])
def test_missing_package_is_named(seaweedfs: SeaweedFS, package: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(MissingExtra, match=rf"package {package} is not installed \(pip install 'cloudmesh-vdir\[s3\]'"):
        S3Storage(seaweedfs.settings("s3"))


class _Sts(BaseHTTPRequestHandler):
    """AssumeRole of Amazon's Security Token Service: our own fake, handing out the keys of a real server."""

    grants: dict[str, str]
    lifetime: timedelta
    asked: list[dict[str, list[str]]]

    def do_POST(self) -> None:
        form = parse_qs(self.rfile.read(int(self.headers["Content-Length"])).decode())
        self.asked.append(form)
        signed = f"Credential={self.grants['source']}/" in self.headers.get("Authorization", "")
        if not signed or form["Action"] != ["AssumeRole"] or form["RoleArn"] != [self.grants["role"]]:
            self._answer(403, "<ErrorResponse><Error><Code>AccessDenied</Code></Error></ErrorResponse>")
            return
        end = (datetime.now(UTC) + self.lifetime).strftime("%Y-%m-%dT%H:%M:%SZ")
        self._answer(
            200,
            '<AssumeRoleResponse xmlns="https://sts.amazonaws.com/doc/2011-06-15/"><AssumeRoleResult><Credentials>'
            f"<AccessKeyId>{self.grants['key']}</AccessKeyId><SecretAccessKey>{self.grants['secret']}</SecretAccessKey>"
            f"<SessionToken>token-{len(self.asked)}</SessionToken><Expiration>{end}</Expiration>"
            "</Credentials></AssumeRoleResult></AssumeRoleResponse>",
        )

    def _answer(self, status: int, text: str) -> None:
        self.send_response(status)
        self.send_header("Content-Type", "text/xml")
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text.encode())

    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.fixture
def sts(rclone_s3: RcloneS3, monkeypatch: pytest.MonkeyPatch) -> Iterator[type[_Sts]]:
    class Handler(_Sts):
        grants = {  # noqa: RUF012 - one handler class a test
            "source": "AKIASOURCE",
            "role": "arn:aws:iam::123456789012:role/Reader",
            "key": rclone_s3.access_key_id,
            "secret": rclone_s3.secret_access_key,
        }
        lifetime = timedelta(hours=1)
        asked = []  # noqa: RUF012

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        monkeypatch.setenv("AWS_ENDPOINT_URL_STS", f"http://127.0.0.1:{server.server_port}")
        yield Handler
        server.shutdown()
        thread.join()


def role_storage(rclone_s3: RcloneS3, sts: type[_Sts], role: str, port: int | None = None) -> S3Storage:
    return S3Storage(
        rclone_s3.settings(
            "s3",
            root=uuid.uuid4().hex,
            port=port,
            access_key_id=sts.grants["source"],
            secret_access_key="secret of the source",
            role_arn=role,
        )
    )


def test_role_is_assumed_once(rclone_s3: RcloneS3, sts: type[_Sts], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_PROFILE", "nobody")
    write_and_list(role_storage(rclone_s3, sts, sts.grants["role"]))
    assert len(sts.asked) == 1


def test_role_that_ends_soon_is_renewed(
    rclone_s3: RcloneS3, sts: type[_Sts], http_faults: Callable[[int], HttpFaults]
) -> None:
    sts.lifetime = timedelta(minutes=1)  # below the time at which botocore renews
    proxy = http_faults(rclone_s3.port)
    storage = role_storage(rclone_s3, sts, sts.grants["role"], proxy.port)
    storage.write("a", Content.of_bytes(b"1"))
    assert len(list(storage.scan())) == 1
    assert len(sts.asked) > 1
    tokens = [request.headers.get("x-amz-security-token") for request in proxy.requests]
    assert len(set(tokens)) > 1


def test_role_that_ends_while_many_files_move_is_renewed(
    rclone_s3: RcloneS3, sts: type[_Sts], http_faults: Callable[[int], HttpFaults]
) -> None:
    sts.lifetime = timedelta(minutes=1)  # below the time at which botocore renews
    proxy = http_faults(rclone_s3.port)
    storage = role_storage(rclone_s3, sts, sts.grants["role"], proxy.port)
    storage.write("first", Content.of_bytes(b"1"))  # rclone fails with 500 where two requests make a directory at once
    files = dict(storage.write_many(WriteRequest(str(number), b"1") for number in range(20)))
    assert [entry for entry in files.values() if not isinstance(entry, Entry)] == []
    tokens = {request.headers.get("x-amz-security-token") for request in proxy.requests}
    assert len(tokens) == len(sts.asked) - 1 > 2  # the first was to find out whether the role may be assumed


def test_role_that_may_not_be_assumed(rclone_s3: RcloneS3, sts: type[_Sts]) -> None:
    storage = role_storage(rclone_s3, sts, "arn:aws:iam::123456789012:role/Owner")
    with pytest.raises(PermissionDenied):
        storage.write("a", Content.of_bytes(b"1"))
    with pytest.raises(PermissionDenied):
        list(storage.scan())


def test_no_secret_in_any_log(rclone_s3: RcloneS3, sts: type[_Sts], caplog: pytest.LogCaptureFixture) -> None:
    import boto3.session

    boto3.session.Session().client("sts", region_name="us-east-1")  # what it imports has its loggers now
    for logger in ["", *logging.root.manager.loggerDict]:
        caplog.set_level(logging.DEBUG, logger or None)
    temporary = rclone_s3.settings("s3", root=uuid.uuid4().hex, session_token="token-of-ours")
    for storage in (S3Storage(temporary), role_storage(rclone_s3, sts, sts.grants["role"])):
        write_and_list(storage)
        storage.write("big", Content.of_bytes(BIG))
        storage.copy_within("big", "copy")
        storage.presign("big", expires=60)
    logging.getLogger("botocore.credentials").info("the log is kept")
    assert "the log is kept" in caplog.text
    for secret in (rclone_s3.secret_access_key, "secret of the source", "token-"):
        assert secret not in caplog.text


def test_anonymous_requests_are_not_signed(seaweedfs: SeaweedFS, http_faults: Callable[[int], HttpFaults]) -> None:
    proxy = http_faults(seaweedfs.port)
    storage = S3Storage(seaweedfs.settings("s3", port=proxy.port, anonymous=True))
    with pytest.raises(PermissionDenied):
        storage.open_read("a")
    with pytest.raises(PermissionDenied):
        list(storage.scan())
    assert proxy.requests
    assert not [request for request in proxy.requests if "authorization" in request.headers]
    assert not storage.capabilities.presign
    with pytest.raises(Unsupported):
        storage.presign("a", expires=60)


@pytest.mark.parametrize("changes", [{"secret_access_key": "wrong"}, {"access_key_id": "AKIAWRONG"}])
@pytest.mark.parametrize(
    "call",
    [
        S3Storage.probe,
        lambda storage: storage.stat("a"),
        lambda storage: list(storage.scan()),
        lambda storage: storage.open_read("a"),
        lambda storage: storage.write("a", Content.of_bytes(b"1")),
        lambda storage: storage.write("a", Content.of_bytes(b"1"), mode="create"),
        lambda storage: storage.write("a", Content.of_bytes(BIG)),
        lambda storage: storage.copy_within("a", "b"),
    ],
)
def test_wrong_keys_are_told_from_missing_rights(
    seaweedfs: SeaweedFS, changes: dict[str, Any], call: Callable[[S3Storage], object]
) -> None:
    storage = S3Storage(seaweedfs.settings("s3", **changes))
    with pytest.raises(AuthenticationFailed) as caught:
        call(storage)
    text = f"{caught.value} {caught.value!r} {storage.settings!r}"
    assert seaweedfs.secret_access_key not in text
    assert caught.value.__cause__ is None


def test_missing_bucket_is_named(seaweedfs: SeaweedFS) -> None:
    storage = S3Storage(seaweedfs.settings("s3", bucket="there-is-none"))
    for call in (storage.probe, partial(storage.stat, "a"), partial(storage.write, "a", Content.of_bytes(b"1"))):
        with pytest.raises(NotFound, match="there-is-none"):
            call()


# ---- metadata and names, as others see them -------------------------------------------------------------------------


def test_modification_time_as_rclone_writes_it(seaweedfs: SeaweedFS, storage: S3Storage) -> None:
    client = seaweedfs.client()
    storage.write("ours", Content.of_bytes(b"1", MTIME))
    assert client.head_object(Bucket=seaweedfs.bucket, Key=key_of(storage, "ours"))["Metadata"] == {
        "mtime": "1700000000.123456789"
    }
    for text, expected in (
        ("1700000000.123456789", MTIME),
        ("1700000000", 1_700_000_000 * 10**9),
        ("-1.5", -1_500_000_000),
        ("yesterday", None),
        ("NaN", None),
    ):
        client.put_object(Bucket=seaweedfs.bucket, Key=key_of(storage, "theirs"), Metadata={"mtime": text})
        assert storage.stat("theirs").mtime_ns == expected


def test_modification_time_in_parts_and_of_copies(storage: S3Storage) -> None:
    storage.write("big", Content.of_stream([BIG], mtime_ns=-MTIME))
    assert storage.stat("big").mtime_ns == -MTIME
    assert storage.copy_within("big", "copy").mtime_ns == -MTIME
    assert storage.stat("copy").mtime_ns == -MTIME


def test_set_mtime_keeps_the_rest(seaweedfs: SeaweedFS, storage: S3Storage) -> None:
    client = seaweedfs.client()
    options = {"Bucket": seaweedfs.bucket, "Key": key_of(storage, "a")}
    client.put_object(
        **options, Body=b"1", Metadata={"colour": "red", "mtime": "1.5"}, ContentType="x/y", CacheControl="no-store"
    )
    storage.set_mtime("a", MTIME)
    answer = client.head_object(**options)
    assert answer["Metadata"] == {"colour": "red", "mtime": "1700000000.123456789"}
    assert (answer["ContentType"], answer["CacheControl"]) == ("x/y", "no-store")
    with pytest.raises(NotFound):
        storage.set_mtime("b", MTIME)


def test_content_type_is_told_by_the_name(seaweedfs: SeaweedFS, storage: S3Storage) -> None:
    def stored_as(path: str, content: Content) -> str:
        storage.write(path, content)
        answer = seaweedfs.client().head_object(Bucket=seaweedfs.bucket, Key=key_of(storage, path))
        return str(answer["ContentType"])

    unknown = "application/octet-stream"
    for path, kind in (("a.html", "text/html"), ("a", unknown)):
        assert stored_as(path, Content.of_stream([BIG])) == kind
    for path, kind in (
        ("a.html", "text/html"),
        ("d.html/a", unknown),
        ("a.b.html", "text/html"),
        ("a.tar.gz", "application/x-tar"),
        ("a.", unknown),
    ):
        assert stored_as(path, Content.of_bytes(b"1")) == kind


def test_md5_only_of_what_was_sent_in_one_piece(storage: S3Storage) -> None:
    digest = hashlib.md5(BIG[:MIB]).hexdigest()
    assert storage.write("one", Content.of_bytes(BIG[:MIB])).hashes == {"md5": digest}
    storage.write("parts", Content.of_bytes(BIG))
    stream = {"md5": hashlib.md5(BIG).hexdigest()}
    assert storage.write("stream", as_stream(BIG)).hashes == stream
    assert {entry.path: dict(entry.hashes) for entry in storage.scan()} == {
        "one": {"md5": digest},
        "parts": {},
        "stream": stream,
    }
    assert storage.open_read("stream").read() == BIG


_NAMES = st.text(
    st.characters(exclude_categories=["Cs"], exclude_characters="/\\\ufffe\uffff", min_codepoint=32).filter(
        lambda character: character != "\x7f"
    ),
    min_size=1,
    max_size=60,
).filter(lambda name: name not in (".", "..") and len(name.encode()) <= 200)


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(names=st.sets(_NAMES, min_size=1, max_size=6))
def test_any_name_is_the_key_itself(seaweedfs: SeaweedFS, storage: S3Storage, names: set[str]) -> None:
    folder = uuid.uuid4().hex
    for name in names:
        storage.write(f"{folder}/{name}", Content.of_bytes(name.encode()))
    pages = (
        seaweedfs.client()
        .get_paginator("list_objects_v2")
        .paginate(Bucket=seaweedfs.bucket, Prefix=key_of(storage, folder) + "/")
    )
    keys = {item["Key"] for page in pages for item in page.get("Contents", [])}
    assert keys == {key_of(storage, f"{folder}/{name}") for name in names}
    listed = [entry.path for entry in storage.scan(folder, recursive=True)]
    assert listed == sorted((f"{folder}/{name}" for name in names), key=str.encode)
    for name in names:
        assert storage.open_read(f"{folder}/{name}").read() == name.encode()
    assert not list(storage.remove_many(listed))


def test_what_cannot_be_kept_is_refused_unsent(storage: S3Storage) -> None:
    for name in ("a\nb", "a\x7fb", "a\ufffeb", "a\ud800b", "x" * 1100, "a\\b"):
        with pytest.raises(InvalidName):
            storage.write(name, Content.of_bytes(b"1"))
    assert not list(storage.scan())


def test_backslash_where_the_server_keeps_it(other: S3Storage) -> None:
    other.write("a\\b", Content.of_bytes(b"1"))
    assert [entry.path for entry in other.scan()] == ["a\\b"]


def test_foreign_keys_do_not_break_a_listing(seaweedfs: SeaweedFS, storage: S3Storage) -> None:
    client = seaweedfs.client()
    for key in ("marked/", "marked/a", "empty/", "zero", ".cdir-tmp-1", "dir/.cdir-tmp-2", "dir/b"):
        client.put_object(Bucket=seaweedfs.bucket, Key=key_of(storage, key), Body=b"")
    expected = ["dir/", "dir/b", "empty/", "marked/", "marked/a", "zero"]
    found = [entry.path + "/" * entry.is_directory for entry in storage.scan(recursive=True)]
    assert found == expected
    assert [entry.path for entry in storage.scan()] == ["dir", "empty", "marked", "zero"]
    assert list(storage.scan("empty")) == []
    assert storage.stat("zero").size == 0


@pytest.mark.parametrize(("in_directory", "in_all"), [(0, 0), (8, 3), (8, 64)])
def test_tree_is_in_order_whatever_is_asked_for_ahead(
    storage: S3Storage, monkeypatch: pytest.MonkeyPatch, in_directory: int, in_all: int
) -> None:
    monkeypatch.setattr(scanning, "AHEAD_IN_DIRECTORY", in_directory)
    monkeypatch.setattr(scanning, "AHEAD", in_all)
    files = [f"{a}/{b}/{c}/f" for a in "ab" for b in ("x", "x.y", "x-y") for c in range(12)] + ["a.b", "b/x/0/deep/f"]
    for path in files:
        storage.write(path, Content.of_bytes(b""))
    directories = {path[:end] for path in files for end, character in enumerate(path) if character == "/"}
    expected = sorted([*files, *(f"{path}/" for path in directories)], key=str.encode)
    assert [entry.path + "/" * entry.is_directory for entry in storage.scan(recursive=True)] == expected
    left_early = storage.scan(recursive=True)
    assert next(left_early).path == "a.b"
    left_early.close()  # type: ignore[attr-defined]


def test_failure_of_a_listing_ahead_is_told(
    seaweedfs: SeaweedFS, storage: S3Storage, http_faults: Callable[[int], HttpFaults]
) -> None:
    for number in range(20):
        storage.write(f"{number:02}/f", Content.of_bytes(b""))
    proxy = http_faults(seaweedfs.port)
    broken = through(seaweedfs, proxy.port, storage.settings.root)
    entries = broken.scan(recursive=True)
    assert [next(entries).path for _ in range(4)] == ["00", "00/f", "01", "01/f"]
    proxy.answer(500, times=None)
    with pytest.raises(Unavailable):
        list(entries)


def test_directories_of_ours_are_markers(seaweedfs: SeaweedFS, storage: S3Storage) -> None:
    storage.make_dir("a/b")
    answer = seaweedfs.client().list_objects_v2(Bucket=seaweedfs.bucket, Prefix=key_of(storage, ""))
    assert [(item["Key"], item["Size"]) for item in answer["Contents"]] == [
        (key_of(storage, "a/"), 0),
        (key_of(storage, "a/b/"), 0),
    ]


def test_directory_without_markers(other: S3Storage) -> None:
    other.make_dir("a/b")
    assert not other.capabilities.empty_directories
    assert list(other.scan()) == []
    other.write("a/b/c", Content.of_bytes(b"1"))
    assert other.stat("a/b").is_directory


# ---- many at once ---------------------------------------------------------------------------------------------------

ODD_NAMES = [
    *(
        "a b",
        "a+b",
        "a%20b",
        "100%",
        "é",
        "e\u0301",
        "日本",
        "😀",
        "~x",
        "it's",
        "(p)",
        "a*b",
        "a!b",
        "a$b",
        "a&b=c",
        "a?b",
    ),
    *(
        "a#b",
        "a;b",
        'q"q',
        "<x>",
        "[x]",
        "{x}",
        "a|b",
        "a^b",
        "a`b",
        "a,b",
        "a:b",
        "a@b",
        "a=b",
        " lead",
        "trail ",
        "a..b",
    ),
    *(".hidden", "...", "x/..y/z", "a%2Fb", "\u00a0", "\u0085"),
]


def test_many_files_of_every_name(storage: S3Storage, other: S3Storage) -> None:
    for made in (storage, other):
        names = [name for name in ODD_NAMES if made is storage or name != "e\u0301"]  # rclone holds it for é
        written = {
            request.path: entry
            for request, entry in made.write_many(WriteRequest(name, name.encode(), MTIME) for name in names)
        }
        loaded = {request.path: result for request, result in made.read_many(map(ReadRequest, names))}
        assert written.keys() == loaded.keys() == set(names)
        for name in names:
            file = loaded[name]
            assert isinstance(file, Loaded)
            assert file.data == name.encode()
            with made.open_read(name) as reader:
                assert file.entry == reader.entry
            assert written[name] == file.entry._replace(changed_ns=None)


def test_what_is_wrong_with_one_of_many(storage: S3Storage) -> None:
    storage.write("dir/a", Content.of_bytes(b"1"))
    written = {
        request.path: result
        for request, result in storage.write_many(
            [
                WriteRequest("dir/a", b"2", mode="create"),
                WriteRequest("a\\b", b""),
                WriteRequest("new", b"", mode="create"),
            ]
        )
    }
    assert isinstance(written["dir/a"], AlreadyExists)
    assert isinstance(written["a\\b"], InvalidName)
    assert isinstance(written["new"], Entry)
    assert storage.open_read("dir/a").read() == b"1"
    read = [ReadRequest("dir"), ReadRequest("none"), ReadRequest("../x"), ReadRequest("new", if_match='"0"')]
    kinds = {request.path: type(result) for request, result in storage.read_many(read)}
    assert kinds == {"dir": IsADirectory, "none": NotFound, "../x": InvalidName, "new": PreconditionFailed}


def test_errors_of_many_are_those_of_one(seaweedfs: SeaweedFS, http_faults: Callable[[int], HttpFaults]) -> None:
    proxy = http_faults(seaweedfs.port)
    slow = through(seaweedfs, proxy.port, "x")
    proxy.answer(503, retry_after=7, times=None)
    for changed, error in (
        (slow, Unavailable),
        (S3Storage(seaweedfs.settings("s3", secret_access_key="wrong")), AuthenticationFailed),
        (S3Storage(seaweedfs.settings("s3", bucket="there-is-none")), NotFound),
    ):
        ((_, read),) = changed.read_many([ReadRequest("a")])
        ((_, written),) = changed.write_many([WriteRequest("a", b"1")])
        for result in (read, written):
            assert isinstance(result, error)
            assert result.subject == changed.location("a")
            assert result.retry_after == (7 if changed is slow else None)


def test_bytes_that_are_not_those_of_the_etag(seaweedfs: SeaweedFS, http_faults: Callable[[int], HttpFaults]) -> None:
    proxy = http_faults(seaweedfs.port)
    storage = through(seaweedfs, proxy.port, uuid.uuid4().hex)
    storage.write("a", Content.of_bytes(b"right"))
    etag = storage.stat("a").etag or ""
    proxy.answer(200, body=b"wrong", headers={"ETag": etag})
    ((_, damaged),) = storage.read_many([ReadRequest("a")])
    assert isinstance(damaged, ChecksumMismatch)
    ((_, whole),) = storage.read_many([ReadRequest("a", if_match=etag)])
    assert isinstance(whole, Loaded)
    assert whole.data == b"right"


@pytest.mark.parametrize("direction", ["up", "down"])
def test_many_that_stall_time_out(
    seaweedfs: SeaweedFS, fault_proxy: Callable[[int], FaultProxy], direction: Literal["up", "down"]
) -> None:
    proxy = fault_proxy(seaweedfs.port)
    storage = through(seaweedfs, proxy.port, uuid.uuid4().hex, read=0.5)
    data = BIG[: 4 * MIB]
    storage.write("a", Content.of_bytes(data))
    proxy.stall(after=100_000, direction=direction, times=None)
    result: Entry | Loaded | StorageError
    if direction == "up":
        ((_, result),) = storage.write_many([WriteRequest("a", data)])
    else:
        ((_, result),) = storage.read_many([ReadRequest("a")])
    assert isinstance(result, Unavailable)
    assert result.why == "timed out"


def test_many_use_as_many_connections_as_were_said(
    seaweedfs: SeaweedFS, fault_proxy: Callable[[int], FaultProxy]
) -> None:
    proxy = fault_proxy(seaweedfs.port)
    storage = S3Storage(replace(seaweedfs.settings("s3", root=uuid.uuid4().hex, port=proxy.port), parallel=3))
    for _ in range(2):
        assert len(list(storage.write_many(WriteRequest(str(number), b"1") for number in range(50)))) == 50
    assert len(list(storage.read_many(ReadRequest(str(number)) for number in range(50)))) == 50
    assert proxy.accepted == 3


# ---- parts ----------------------------------------------------------------------------------------------------------


def test_parts_fit_into_ten_thousand() -> None:
    for size in (1, 8 * MIB, 80_000 * MIB, 80_000 * MIB + 1, 5 * 1024 * 1024 * MIB):
        part = multipart.part_bytes(size)
        assert part % MIB == 0
        assert -(-size // part) <= 10_000


def test_a_stream_reaches_the_largest_file_in_bounded_memory() -> None:
    sizes = list(multipart.part_sizes(None))
    assert len(sizes) == 10_000
    assert sum(sizes) >= 5 * 1024**4
    assert sizes == sorted(sizes)
    assert max(sizes) <= 5 * 1024 * MIB
    assert max((multipart.in_flight(size) + 1) * size for size in sizes) <= 2 * 640 * MIB
    assert set(sizes[:400]) == {16 * MIB}
    assert set(multipart.part_sizes(None, equal=True)) == {16 * MIB}
    assert set(multipart.part_sizes(100 * MIB)) == {8 * MIB}


def test_parts_that_grow_make_one_file(storage: S3Storage, other: S3Storage, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(multipart, "STREAM_PART", 5 * MIB)
    monkeypatch.setattr(multipart, "DOUBLED_AFTER", 1)
    for made in (storage, other):
        assert made.write("a", Content.of_stream([BIG, BIG])).size == 2 * len(BIG)  # 5, 10, 20 and 5 MiB
        assert made.open_read("a").read() == BIG + BIG
    # rclone tells the whole file's MD5 instead
    assert (storage.stat("a").etag or "").endswith('-4"')


@given(
    pieces=st.lists(st.binary(max_size=40)),
    sizes=st.lists(st.integers(1, 50), max_size=3),
    last=st.integers(1, 50),
)
def test_regroup_changes_no_byte(pieces: list[bytes], sizes: list[int], last: int) -> None:
    blocks = list(multipart.regroup(pieces, itertools.chain(sizes, itertools.repeat(last)), "s3:a"))
    assert b"".join(blocks) == b"".join(pieces)
    expected = itertools.chain(sizes, itertools.repeat(last))
    assert all(len(block) == size for block, size in zip(blocks[:-1], expected, strict=False))
    assert all(blocks)


def test_stream_longer_than_all_parts_is_refused() -> None:
    assert list(multipart.regroup([b"ab", b"cd"], [3, 1], "s3:a")) == [b"abc", b"d"]
    with pytest.raises(QuotaExceeded, match="s3:a: the stream is longer"):
        list(multipart.regroup([b"ab", b"cd", b"e"], [3, 1], "s3:a"))


def failing(error: Exception) -> Iterable[bytes]:
    yield BIG
    yield BIG
    raise error


@pytest.mark.parametrize(
    ("content", "error"),
    [
        (Content(open=lambda: [BIG], size=len(BIG) + 1), SourceChanged),
        (Content(open=lambda: [BIG, b"1"], size=len(BIG)), SourceChanged),
        (Content(open=lambda: failing(ZeroDivisionError())), ZeroDivisionError),
        (Content(open=lambda: failing(OSError(5, "Input/output error"))), Unavailable),
        (replace(as_stream(BIG), open=lambda: [BIG[1:]]), SourceChanged),
        (replace(as_stream(BIG), open=lambda: [BIG, b"1"]), SourceChanged),
        (replace(as_stream(BIG), open=lambda: [BIG[1:], b"1"]), ChecksumMismatch),
        (replace(as_stream(BIG * 3), open=lambda: failing(ZeroDivisionError())), ZeroDivisionError),
        (replace(as_stream(BIG * 3), open=lambda: failing(OSError(5, "Input/output error"))), Unavailable),
    ],
)
def test_nothing_stays_of_an_upload_that_failed(
    seaweedfs: SeaweedFS, storage: S3Storage, content: Content, error: type[Exception]
) -> None:
    storage.write("a", Content.of_bytes(b"before"))
    with pytest.raises(error):
        storage.write("a", content)
    assert storage.open_read("a").read() == b"before"
    assert not uploads(seaweedfs, storage)


def test_upload_of_a_killed_process_is_aborted_by_the_next(
    seaweedfs: SeaweedFS, storage: S3Storage, home: Path
) -> None:
    program = """
def pieces():
    yield bytes(40 * 1024 * 1024)
    print("sending", flush=True)
    sys.stdin.read()

storage.write("killed", Content.of_stream(pieces()))
"""
    with started(storage, program) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == "sending\n"
            client = seaweedfs.client()
            # Somebody else's upload to the same key, and ours while it goes on, stay.
            theirs = {"Bucket": seaweedfs.bucket, "Key": key_of(storage, "killed")}
            theirs["UploadId"] = client.create_multipart_upload(**theirs)["UploadId"]
            storage.write("killed", Content.of_bytes(BIG))
            assert uploads(seaweedfs, storage) == [key_of(storage, "killed")] * 2
        finally:
            process.kill()
    assert uploads(seaweedfs, storage) == [key_of(storage, "killed")] * 2
    elsewhere = S3Storage(seaweedfs.settings("s3", bucket=seaweedfs.make_bucket()))
    elsewhere.write("a", Content.of_bytes(BIG))
    assert len(uploads(seaweedfs, storage)) == 2
    storage.write("other", Content.of_bytes(BIG))
    assert uploads(seaweedfs, storage) == [key_of(storage, "killed")]
    client.abort_multipart_upload(**theirs)
    assert list((home / "uploads").iterdir()) == []


@pytest.mark.parametrize(("changed", "limit"), [(False, None), (True, None), (False, MIB)])
def test_upload_of_a_killed_process_goes_on_where_it_stopped(
    seaweedfs: SeaweedFS,
    http_faults: Callable[[int], HttpFaults],
    tmp_path: Path,
    home: Path,
    changed: bool,
    limit: int | None,
) -> None:
    file = tmp_path / "file"
    file.write_bytes(BIG + BIG)
    proxy = http_faults(seaweedfs.port)
    storage = through(seaweedfs, proxy.port, f"test-{uuid.uuid4().hex}")
    program = f"""
import itertools, pathlib, threading
from dataclasses import replace

numbers = itertools.count(1)

def moved(count):
    number = next(numbers)
    if number == 4:
        print("sending", flush=True)
    if number >= 4:
        threading.Event().wait()

storage.write("a", replace(Content.of_file(pathlib.Path({str(file)!r})), moved=moved))
"""
    client = seaweedfs.client()

    def parts_there() -> int:
        found = client.list_multipart_uploads(Bucket=seaweedfs.bucket).get("Uploads", [])
        ids = [upload["UploadId"] for upload in found if upload["Key"] == key_of(storage, "a")]
        upload = {"Bucket": seaweedfs.bucket, "Key": key_of(storage, "a"), "UploadId": ids[0]}
        return len(client.list_parts(**upload).get("Parts", []))

    with started(storage, program) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == "sending\n"
            end = time.monotonic() + 20
            while parts_there() < 3:
                assert time.monotonic() < end
        finally:
            process.kill()
    # Another upload does not take it away: the file may be sent again.
    storage.write("b", Content.of_bytes(BIG))
    assert uploads(seaweedfs, storage) == [key_of(storage, "a")]
    expected = BIG + BIG
    if changed:
        expected = expected[::-1]
        file.write_bytes(expected)
        os.utime(file, ns=(MTIME, MTIME))
    proxy.requests.clear()
    waited: list[float] = []
    paced = Limit(storage, bytes_per_second=limit, clock=lambda: sum(waited), sleep=waited.append)
    assert paced.write("a", Content.of_file(file)).size == len(expected)
    sent = sum(int(request.headers["content-length"]) for request in proxy.requests if request.method == "PUT")
    assert sent == (len(expected) if changed else len(expected) - 24 * MIB)
    assert not waited if limit is None else waited, "for what was sent, as for any upload"
    assert storage.open_read("a").read() == expected
    assert uploads(seaweedfs, storage) == []
    assert list((home / "uploads").iterdir()) == []


def test_parts_of_a_killed_process_are_compared_with_the_file(
    seaweedfs: SeaweedFS, storage: S3Storage, tmp_path: Path, home: Path
) -> None:
    """As where the parts were damaged, or the file was changed and its time set back."""
    file = tmp_path / "file"
    file.write_bytes(BIG)
    client = seaweedfs.client()
    target = {"Bucket": seaweedfs.bucket, "Key": key_of(storage, "a")}
    upload = client.create_multipart_upload(**target)["UploadId"]
    for number, part in ((1, BIG[: 8 * MIB]), (2, bytes(8 * MIB)), (3, b"short")):
        client.upload_part(**target, UploadId=upload, PartNumber=number, Body=part)
    note = {
        "endpoint": storage.settings.credentials["endpoint_url"],
        **target,
        "UploadId": upload,
        "source": {"path": str(file), "size": len(BIG), "mtime_ns": file.stat().st_mtime_ns},
    }
    (home / "uploads").mkdir()
    (home / "uploads" / "1.json").write_text(json.dumps(note))
    storage.write("a", Content.of_file(file))
    assert storage.open_read("a").read() == BIG
    assert list((home / "uploads").iterdir()) == []


@pytest.mark.parametrize("text", ["", "[]", '{"endpoint": 1}', "{"])
def test_note_of_an_upload_that_is_damaged(storage: S3Storage, home: Path, text: str) -> None:
    (home / "uploads").mkdir()
    (home / "uploads" / "1.json").write_text(text)
    storage.write("a", Content.of_bytes(BIG))
    assert list((home / "uploads").iterdir()) == []


def test_uploads_go_on_where_they_cannot_be_noted(storage: S3Storage, home: Path) -> None:
    (home / "uploads").write_text("in the way")
    storage.write("a", Content.of_bytes(BIG))
    assert storage.stat("a").size == len(BIG)


def test_create_of_a_large_file_is_decided_at_the_end(seaweedfs: SeaweedFS, storage: S3Storage) -> None:
    def pieces() -> Iterator[bytes]:
        yield BIG
        storage.write("a", Content.of_bytes(b"somebody else's"))
        yield BIG

    with pytest.raises(AlreadyExists):
        storage.write("a", Content(open=pieces, size=2 * len(BIG)), mode="create")
    assert storage.open_read("a").read() == b"somebody else's"
    assert not uploads(seaweedfs, storage)


def test_only_one_of_many_creates_wins(storage: S3Storage) -> None:
    start = threading.Barrier(8)
    results: list[int | None] = []

    def create(number: int) -> None:
        start.wait()
        try:
            storage.write("a", Content.of_bytes(b"%d" % number), mode="create")
            results.append(number)
        except AlreadyExists:
            results.append(None)

    threads = [threading.Thread(target=create, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    winners = [number for number in results if number is not None]
    assert len(results) == 8
    assert [storage.open_read("a").read()] == [b"%d" % number for number in winners]


def test_large_copy_in_ranges(storage: S3Storage, monkeypatch: pytest.MonkeyPatch) -> None:
    # The limit is 5 GiB; here a smaller one leads into the same code and the same requests.
    monkeypatch.setattr(copying, "COPY_LIMIT", 10 * MIB)
    monkeypatch.setattr(multipart, "copy", partial(multipart.copy, range_bytes=8 * MIB))
    storage.write("a.txt", Content.of_bytes(BIG, MTIME))
    storage.copy_within("a.txt", "b")
    assert storage.open_read("b").read() == BIG
    entry = storage.stat("b")
    assert entry.mtime_ns == MTIME
    assert entry.etag is not None
    assert entry.etag.endswith('-3"')
    with pytest.raises(AlreadyExists):
        storage.copy_within("a.txt", "b", mode="create")


def test_upload_tells_of_what_is_sent(storage: S3Storage, tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(BIG)
    moved: list[int] = []
    content = replace(Content.of_file(tmp_path / "a"), moved=moved.append)
    storage.write("a", content)
    assert sorted(moved) == [4 * MIB, 8 * MIB, 8 * MIB]
    assert storage.open_read("a").read() == BIG


@pytest.mark.parametrize("shorter", [False, True])
def test_file_that_changes_while_it_is_uploaded(
    seaweedfs: SeaweedFS, storage: S3Storage, tmp_path: Path, shorter: bool
) -> None:
    file = tmp_path / "a"
    file.write_bytes(BIG * 2)
    before = file.stat()
    storage.write("a", Content.of_bytes(b"before"))

    def moved(_: int) -> None:
        if shorter:
            os.truncate(file, len(BIG))
        else:
            change(file, BIG[::-1])  # in place, the time set back
        os.utime(file, ns=(before.st_atime_ns, before.st_mtime_ns))

    with pytest.raises(SourceChanged):
        storage.write("a", replace(Content.of_file(file), moved=moved))
    assert storage.open_read("a").read() == b"before"
    assert not uploads(seaweedfs, storage)


def test_file_that_is_not_as_promised_is_not_uploaded(seaweedfs: SeaweedFS, storage: S3Storage, tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(BIG)
    with pytest.raises(SourceChanged):
        storage.write("a", replace(Content.of_file(tmp_path / "a"), mtime_ns=MTIME))
    (tmp_path / "a").unlink()
    with pytest.raises(NotFound):
        storage.write("a", Content(list, len(BIG), MTIME, tmp_path / "a"))
    assert not uploads(seaweedfs, storage)


def test_parts_of_all_files_share_memory() -> None:
    room = Room(10)
    held = threading.Event()
    with room.taken(4), room.taken(20 - 14):

        def wait() -> None:
            with room.taken(100):  # as much as there is
                held.set()

        thread = threading.Thread(target=wait)
        thread.start()
        assert not held.wait(0.1)
    thread.join()
    assert held.is_set()


@pytest.mark.parametrize("known", [False, True])
def test_download_in_ranges(
    seaweedfs: SeaweedFS,
    http_faults: Callable[[int], HttpFaults],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    known: bool,
) -> None:
    monkeypatch.setattr(downloading, "RANGE", 3 * MIB + 17)
    proxy = http_faults(seaweedfs.port)
    storage = through(seaweedfs, proxy.port, f"test-{uuid.uuid4().hex}")
    made = storage.write("a", Content.of_bytes(BIG, MTIME))
    target = tmp_path / "a"
    target.write_bytes(b"longer than it will be" * MIB)
    moved: list[int] = []
    proxy.requests.clear()
    size, etag = (len(BIG), made.etag) if known else (None, None)
    entry = storage.download("a", target, size=size, if_match=etag, moved=moved.append)
    assert (entry.size, entry.mtime_ns, entry.etag) == (len(BIG), MTIME, made.etag)
    assert target.read_bytes() == BIG
    assert sum(moved) == len(BIG)
    assert len(moved) > 7, "in the middle of ranges too"
    methods = [request.method for request in proxy.requests]
    assert methods == ["GET"] * 7 if known else ["HEAD"] + ["GET"] * 7
    storage.close()


def test_file_that_changes_while_it_is_downloaded(
    storage: S3Storage, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(downloading, "RANGE", MIB)
    made = storage.write("a", Content.of_bytes(BIG))

    def moved(_: int) -> None:
        storage.write("a", Content.of_bytes(BIG[::-1]))

    with pytest.raises(PreconditionFailed):
        storage.download("a", tmp_path / "a", size=len(BIG), if_match=made.etag, moved=moved)


def test_download_that_is_ended_by_who_hears_of_it(storage: S3Storage, tmp_path: Path) -> None:
    storage.write("a", Content.of_bytes(BIG))

    def moved(_: int) -> None:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        storage.download("a", tmp_path / "a", moved=moved)
    assert storage.download("a", tmp_path / "a").size == len(BIG)


def test_download_from_a_service_without_ranges(
    seaweedfs: SeaweedFS, http_faults: Callable[[int], HttpFaults], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(downloading, "RANGE", 10 * MIB)
    proxy = http_faults(seaweedfs.port)
    storage = through(seaweedfs, proxy.port, f"test-{uuid.uuid4().hex}")
    made = storage.write("a", Content.of_bytes(BIG))
    proxy.answer(200, times=2, method="GET", headers={"ETag": made.etag or ""}, body=b"the whole file" * 1000)
    assert storage.download("a", tmp_path / "a").size == len(BIG)
    assert (tmp_path / "a").read_bytes() == BIG
    storage.close()


def test_download_of_other_bytes_than_were_asked_for(
    seaweedfs: SeaweedFS, http_faults: Callable[[int], HttpFaults], tmp_path: Path
) -> None:
    proxy = http_faults(seaweedfs.port)
    storage = through(seaweedfs, proxy.port, f"test-{uuid.uuid4().hex}")
    etag = storage.write("a", Content.of_bytes(b"right")).etag
    for body in (b"too long", b"few"):
        proxy.answer(200, method="GET", headers={"ETag": etag or ""}, body=body)
        with pytest.raises(Unavailable):
            storage.download("a", tmp_path / "a", size=5, if_match=etag)
    assert storage.download("a", tmp_path / "a", size=5, if_match=etag).size == 5
    assert (tmp_path / "a").read_bytes() == b"right"
    storage.close()


# ---- faults ---------------------------------------------------------------------------------------------------------


def through(seaweedfs: SeaweedFS, port: int, root: str, read: float = 60.0) -> S3Storage:
    return S3Storage(replace(seaweedfs.settings("s3", root=root, port=port), timeouts=Timeouts(5.0, read)))


@pytest.mark.parametrize("make", [Content.of_bytes, as_stream])
@pytest.mark.parametrize("size", [1000, 3 * MIB, len(BIG)])
def test_write_that_is_cut_leaves_the_old_file(
    seaweedfs: SeaweedFS,
    storage: S3Storage,
    fault_proxy: Callable[[int], FaultProxy],
    size: int,
    make: Callable[[bytes], Content],
) -> None:
    storage.write("a", Content.of_bytes(b"before"))
    proxy = fault_proxy(seaweedfs.port)
    broken = through(seaweedfs, proxy.port, storage.settings.root)
    proxy.cut(after=min(size // 2, 5 * MIB), direction="up", times=None)  # of each connection: parts go by several
    with pytest.raises(Unavailable):
        broken.write("a", make(BIG[:size]))
    assert proxy.fired >= 1
    assert storage.open_read("a").read() == b"before"
    assert not uploads(seaweedfs, storage)


def test_read_in_ranges_that_is_cut(
    seaweedfs: SeaweedFS,
    storage: S3Storage,
    fault_proxy: Callable[[int], FaultProxy],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(downloading, "RANGE", 10 * MIB)
    storage.write("a", Content.of_bytes(BIG))
    proxy = fault_proxy(seaweedfs.port)
    broken = through(seaweedfs, proxy.port, storage.settings.root)
    proxy.cut(after=5 * MIB, times=None)
    with pytest.raises(Unavailable):
        broken.download("a", tmp_path / "a")


def test_part_that_has_to_wait_does_not_hold_the_others(
    seaweedfs: SeaweedFS, storage: S3Storage, fault_proxy: Callable[[int], FaultProxy]
) -> None:
    proxy = fault_proxy(seaweedfs.port)
    proxy.stall(after=MIB, direction="up")
    with ThreadPoolExecutor(1) as pool:
        try:
            write = pool.submit(
                through(seaweedfs, proxy.port, storage.settings.root).write, "a", Content.of_bytes(BIG * 4)
            )
            deadline = time.monotonic() + 30
            while proxy.passed["up"] < 9 * multipart.PART:  # all of the ten but one
                assert time.monotonic() < deadline
                time.sleep(0.01)
        finally:
            proxy.heal()
        assert write.result().size == 4 * len(BIG)
    assert proxy.fired == 1
    assert storage.open_read("a").read() == BIG * 4


def test_stalled_read_times_out(
    seaweedfs: SeaweedFS, storage: S3Storage, fault_proxy: Callable[[int], FaultProxy]
) -> None:
    storage.write("a", Content.of_bytes(BIG))
    proxy = fault_proxy(seaweedfs.port)
    broken = through(seaweedfs, proxy.port, storage.settings.root, read=0.5)
    proxy.stall(after=MIB, times=None)
    with pytest.raises(Unavailable, match="timed out"):
        broken.open_read("a").read()


def test_service_that_asks_to_slow_down(
    seaweedfs: SeaweedFS, storage: S3Storage, http_faults: Callable[[int], HttpFaults]
) -> None:
    proxy = http_faults(seaweedfs.port)
    broken = through(seaweedfs, proxy.port, storage.settings.root)
    proxy.answer(503, retry_after=7, times=None)
    for call in (partial(broken.stat, "a"), broken.probe, partial(broken.write, "a", Content.of_bytes(b"1"))):
        with pytest.raises(StorageError) as caught:
            call()
        assert caught.value.retryable
    with pytest.raises(StorageError) as caught:
        broken.probe()
    assert caught.value.retry_after == 7
    # No retries of its own: each call was one request.
    assert len(proxy.requests) == 4
    with pytest.raises(StorageError) as caught:
        broken.open_read("a")
    assert caught.value.retry_after == 7
    # obstore does not tell how long to wait, so one more asked.
    assert len(proxy.requests) == 6


# ---- what else S3 can -----------------------------------------------------------------------------------------------


def test_presigned_urls_work_for_anyone(storage: S3Storage) -> None:
    path = "dir/é #?%&+ name"
    request = urllib.request.Request(storage.presign(path, expires=60, method="PUT"), data=b"sent", method="PUT")
    with urllib.request.urlopen(request) as answer:
        assert answer.status == 200
    with urllib.request.urlopen(storage.presign(path, expires=60)) as answer:
        assert answer.read() == b"sent"
    with pytest.raises(Unsupported):
        storage.presign(path, expires=8 * 24 * 3600)


def test_versions_newest_first(seaweedfs: SeaweedFS) -> None:
    bucket = seaweedfs.make_bucket(versioned=True)
    storage = S3Storage(seaweedfs.settings("s3", bucket=bucket))
    storage.probe()
    assert storage.capabilities.versions
    written = [storage.write("a", Content.of_bytes(b"x" * size)).version for size in (1, 2, 3)]
    storage.write("a-longer-name", Content.of_bytes(b""))
    storage.remove("a")
    assert [(entry.size, entry.version) for entry in storage.versions("a")] == [
        (size, version) for size, version in zip((3, 2, 1), reversed(written), strict=True)
    ]
    with pytest.raises(NotFound):
        storage.versions("b")
    assert written[1] is not None
    assert storage.recall("a", written[1], "back/a").size == 2
    with storage.open_read("back/a") as reader:
        assert reader.read() == b"xx"
    with pytest.raises(NotFound):
        storage.recall("a", "absent", "back/b")


def test_conditions_are_asked_of_a_compatible_service(storage: S3Storage, other: S3Storage) -> None:
    assert not storage.capabilities.conditional_create
    for made, honours in ((storage, True), (other, False)):
        made.write("a", Content.of_bytes(b"1"), mode="create")
        assert made.capabilities.conditional_create is honours
        assert made.capabilities.conditional_match is honours
        with pytest.raises(AlreadyExists):
            made.write("a", Content.of_bytes(b"2"), mode="create")
        assert [entry.path for entry in made.scan()] == ["a"]
        assert made.open_read("a").read() == b"1"


def test_remove_many_in_batches(seaweedfs: SeaweedFS, storage: S3Storage, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(removing, "BATCH", 4)
    paths = [f"dir/é&<{number}>" for number in range(10)]
    for path in paths:
        storage.write(path, Content.of_bytes(b"1"))
    failed = dict(storage.remove_many([*paths, "dir/not there", "bad\nname"]))
    assert list(failed) == ["bad\nname"]
    assert isinstance(failed["bad\nname"], InvalidName)
    assert [entry for entry in storage.scan(recursive=True) if not entry.is_directory] == []


def test_remove_many_where_there_is_no_batch(
    seaweedfs: SeaweedFS, storage: S3Storage, http_faults: Callable[[int], HttpFaults]
) -> None:
    for name in "abc":
        storage.write(name, Content.of_bytes(b"1"))
    proxy = http_faults(seaweedfs.port)
    poor = through(seaweedfs, proxy.port, storage.settings.root)
    proxy.answer(501, method="POST", times=None)
    assert list(poor.remove_many(["a", "b", "not there"])) == []
    assert [entry.path for entry in storage.scan()] == ["c"]


def test_virtual_addressing(seaweedfs: SeaweedFS, http_faults: Callable[[int], HttpFaults]) -> None:
    storage = S3Storage(seaweedfs.settings("s3", endpoint_url="http://s3.example", addressing_style="virtual"))
    url = storage.presign("dir/a", expires=60)
    assert re.match(rf"http://{seaweedfs.bucket}\.s3\.example/dir/a\?", url)
    proxy = http_faults(seaweedfs.port)
    proxy.answer(200, times=None)
    endpoint = f"http://localhost:{proxy.port}/"
    storage = S3Storage(seaweedfs.settings("s3", endpoint_url=endpoint, addressing_style="virtual"))
    storage.write("dir/a b", Content.of_bytes(b"1"))
    (request,) = proxy.requests
    assert request.target == "/dir/a%20b"
    assert request.headers["host"] == f"{seaweedfs.bucket}.localhost:{proxy.port}"


def test_amazon_itself_is_addressed_by_region(tmp_path: Path) -> None:
    credentials = {"bucket": "my-bucket", "access_key_id": "AKIA", "secret_access_key": "s", "region": "eu-west-3"}
    storage = S3Storage(ServiceSettings("aws", "awss3", root="/x/", credentials=credentials))
    assert storage.capabilities.conditional_create
    assert storage.presign("a", expires=60).startswith("https://my-bucket.s3.eu-west-3.amazonaws.com/x/a?")
    dotted = S3Storage(ServiceSettings("aws", "awss3", credentials=credentials | {"bucket": "my.bucket"}))
    assert dotted.presign("a", expires=60).startswith("https://s3.eu-west-3.amazonaws.com/my.bucket/a?")
