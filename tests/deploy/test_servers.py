"""Each server really works, refuses wrong credentials, survives a kill, and leaves nothing running."""

from __future__ import annotations

import os
import pwd
import subprocess
import sys
import urllib.error
import urllib.request
from pathlib import Path
from urllib.parse import urlsplit

import psutil
import psycopg
import pytest
from botocore.exceptions import ClientError

from deploy.servers import (
    HOST,
    ApacheDav,
    OpenSsh,
    Postgres,
    RcloneS3,
    RcloneWebdav,
    SeaweedFS,
    Server,
    ServerError,
    Wsgidav,
    free_port,
)

S3 = ["seaweedfs", "rclone_s3"]
WEBDAV = ["wsgidav", "wsgidav_digest", "apache_dav", "apache_dav_digest", "rclone_webdav"]

S3Server = SeaweedFS | RcloneS3
WebdavServer = Wsgidav | ApacheDav | RcloneWebdav


@pytest.mark.parametrize("fixture", S3)
def test_s3_stores_and_refuses_a_wrong_key(fixture: str, request: pytest.FixtureRequest) -> None:
    server: S3Server = request.getfixturevalue(fixture)
    credentials = server.settings("aws").credentials
    client = server.client()
    client.put_object(Bucket=credentials["bucket"], Key="a/b.txt", Body=b"hello")
    assert client.get_object(Bucket=server.bucket, Key="a/b.txt")["Body"].read() == b"hello"

    server.secret_access_key, right = "wrong", server.secret_access_key
    try:
        with pytest.raises(ClientError, match="SignatureDoesNotMatch"):
            server.client().list_objects_v2(Bucket=server.bucket)
    finally:
        server.secret_access_key = right


def test_seaweedfs_keeps_versions_where_asked(seaweedfs: SeaweedFS) -> None:
    bucket = seaweedfs.make_bucket(versioned=True)
    client = seaweedfs.client()
    for body in (b"1", b"22"):
        client.put_object(Bucket=bucket, Key="x", Body=body)
    sizes = [version["Size"] for version in client.list_object_versions(Bucket=bucket)["Versions"]]
    assert sizes == [2, 1]


def test_rclone_s3_says_that_it_keeps_no_versions(rclone_s3: RcloneS3) -> None:
    with pytest.raises(ServerError, match="keeps no versions"):
        rclone_s3.make_bucket(versioned=True)


@pytest.mark.parametrize("fixture", WEBDAV)
def test_webdav_stores_and_refuses_a_wrong_password(fixture: str, request: pytest.FixtureRequest) -> None:
    server: WebdavServer = request.getfixturevalue(fixture)
    name = "ä b#1.txt"
    server.request("PUT", name, b"hello").close()
    assert (server.data / name).read_bytes() == b"hello"
    with server.request("GET", name) as response:
        assert response.read() == b"hello"

    server.password, right = "wrong", server.password
    try:
        # a Digest handler gives up by itself after five rounds, with the same class of error
        with pytest.raises((urllib.error.HTTPError, ValueError), match=r"401|Unauthorized"):
            server.request("PROPFIND", Depth="0")
    finally:
        server.password = right


@pytest.mark.parametrize("fixture", WEBDAV)
def test_webdav_asks_for_the_scheme_it_was_told(fixture: str, request: pytest.FixtureRequest) -> None:
    server: WebdavServer = request.getfixturevalue(fixture)
    with pytest.raises(urllib.error.HTTPError) as refusal:
        urllib.request.urlopen(server.url, timeout=20)
    with refusal.value as answer:
        assert answer.code == 401
        scheme = answer.headers["WWW-Authenticate"].split()[0]
    assert scheme == ("Digest" if server.digest else "Basic")


def _sftp(server: OpenSsh, *options: str) -> subprocess.CompletedProcess[str]:
    credentials = server.settings("lab").credentials
    return subprocess.run(
        [
            "sftp",
            "-b-",
            "-F/dev/null",
            f"-P{credentials['port']}",
            f"-oUserKnownHostsFile={credentials['known_hosts']}",
            "-oStrictHostKeyChecking=yes",
            "-oIdentitiesOnly=yes",
            *options,
            f"{credentials['username']}@{HOST}",
        ],
        input=f"put /etc/hostname {server.data}/through-sftp\n",
        capture_output=True,
        text=True,
        timeout=30,
    )


def test_openssh_stores_and_refuses_another_key(openssh: OpenSsh, tmp_path: Path) -> None:
    done = _sftp(openssh, "-i", str(openssh.key_file))
    assert done.returncode == 0, done.stderr
    assert (openssh.data / "through-sftp").read_bytes() == Path("/etc/hostname").read_bytes()

    other = tmp_path / "other"
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(other)], check=True)
    refused = _sftp(openssh, "-i", str(other))
    assert refused.returncode != 0
    assert "Permission denied" in refused.stderr


def test_openssh_is_known_through_another_port(openssh: OpenSsh) -> None:
    openssh.settings("lab", port=12345)
    openssh.settings("lab", port=12345)
    lines = openssh.known_hosts.read_text().splitlines()
    assert lines.count(f"[{HOST}]:12345 {openssh.host_key}") == 1


def test_openssh_makes_and_removes_a_user_for_passwords(server_directory: Path) -> None:
    with OpenSsh(server_directory / "openssh-password") as server:
        settings = server.password_settings("lab")
        user = settings.credentials["username"]
        assert pwd.getpwnam(user).pw_dir == settings.root
        assert "key_file" not in settings.credentials
    with pytest.raises(KeyError):
        pwd.getpwnam(user)


def test_postgres_answers_and_refuses_a_wrong_password(postgres: Postgres, database_url: str) -> None:
    address = urlsplit(database_url)
    plain = database_url.replace("+psycopg", "")
    with psycopg.connect(plain) as connection:
        assert connection.execute("SELECT current_database()").fetchone() == (address.path[1:],)
    with pytest.raises(psycopg.OperationalError, match="password authentication failed"):
        psycopg.connect(plain.replace(str(address.password), "wrong"))


@pytest.mark.parametrize("kind", [RcloneS3, SeaweedFS, Wsgidav, ApacheDav, RcloneWebdav, OpenSsh, Postgres])
def test_a_server_comes_back_after_a_kill_with_its_port_and_leaves_nothing(
    kind: type[Server], server_directory: Path
) -> None:
    server = kind(server_directory / f"killed-{kind.__name__}")
    with server:
        port, first = server.port, server.pid
        server.kill()
        assert not psutil.pid_exists(first)
        server.start()
        assert server.port == port
        assert server.pid != first
        processes = [psutil.Process(server.pid), *psutil.Process(server.pid).children(recursive=True)]
    assert [process for process in processes if _alive(process)] == []
    server.stop()


def _alive(process: psutil.Process) -> bool:
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def test_a_server_that_cannot_start_tells_its_log(server_directory: Path) -> None:
    first = Wsgidav(server_directory / "first")
    second = Wsgidav(server_directory / "second")
    second.port = first.port
    second.username = first.username  # else its request would be refused, and it would wait
    with (
        first,
        pytest.raises(ServerError, match=r"(?s)ended with status \d+; its log ends:.*[Aa]ddress already in use"),
    ):
        second.start()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root starts servers as another user")
def test_a_folder_closed_to_the_servers_user_is_named(tmp_path: Path) -> None:
    tmp_path.chmod(0o700)
    with pytest.raises(ServerError, match="is closed to other users"):
        ApacheDav(tmp_path / "apache").start()


@pytest.mark.parametrize("kind", ["Wsgidav", "ApacheDav", "Postgres"])
def test_no_server_outlives_its_python(kind: str, server_directory: Path) -> None:
    program = (
        "import sys, pathlib, deploy.servers as s\n"
        f"server = s.{kind}(pathlib.Path(sys.argv[1])).start()\n"
        "print(server.pid, flush=True)\n"
        "sys.stdin.read()\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", program, str(server_directory / f"orphan-{kind}")],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        cwd=Path(__file__).parents[2],
    ) as parent:
        assert parent.stdout is not None
        server = psutil.Process(int(parent.stdout.readline()))
        family = [server, *server.children(recursive=True)]
        parent.kill()
    psutil.wait_procs(family, timeout=20)
    assert [process for process in family if _alive(process)] == []


def test_ports_are_never_given_twice() -> None:
    ports = [free_port() for _ in range(50)]
    assert len(set(ports)) == len(ports)


def test_changes_replace_and_remove_credentials(wsgidav: Wsgidav) -> None:
    settings = wsgidav.settings("nas", root="a/b", port=1, password="other", username=None)
    assert settings.credentials == {"url": f"http://{HOST}:1/", "password": "other"}
    assert (settings.kind, settings.root) == ("webdav", "a/b")
