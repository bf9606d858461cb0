"""The servers and the data of a benchmark, and how each program names what is on them.

Services: ``aws`` (SeaweedFS), ``r3`` (rclone's S3 server), ``dav`` (rclone's WebDAV server), ``ssh`` (OpenSSH's SFTP)
and ``disk``, a directory of this computer as a service; ``here`` is the same directory as plain paths.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

from benchmarks._process import RunError
from deploy.servers import OpenSsh, RcloneS3, RcloneWebdav, SeaweedFS, StorageServer, find_program
from tests.places import configure, local

SERVERS: dict[str, type[StorageServer]] = {"aws": SeaweedFS, "r3": RcloneS3, "dav": RcloneWebdav, "ssh": OpenSsh}
_WRITTEN_NS = 1_700_000_000_000_000_000


@dataclass(frozen=True, slots=True)
class Tree:
    """Files of one size, the same number in each directory.

    Attributes:
        files: how many.
        size: of each, in bytes.
        per_directory: how many are in one directory.
    """

    files: int
    size: int
    per_directory: int = 100

    def scaled(self, scale: float) -> Tree:
        """A smaller tree: fewer files, or a smaller one where there are few."""
        if self.files < 10:
            return Tree(self.files, max(1, int(self.size * scale)), self.per_directory)
        return Tree(max(1, int(self.files * scale)), self.size, self.per_directory)

    def write(self, root: Path) -> None:
        """Write the files, of random content and modified some time ago."""
        for number in range(self.files):
            folder = root / f"d{number // self.per_directory:04d}"
            if not number % self.per_directory:
                folder.mkdir(parents=True)
            path = folder / f"f{number:06d}-{self.size}"
            with path.open("wb") as file:
                for begin in range(0, self.size, 1 << 24):
                    file.write(os.urandom(min(1 << 24, self.size - begin)))
            os.utime(path, ns=(_WRITTEN_NS + number, _WRITTEN_NS + number))


class Places:
    """Servers that run as long as the context, all that they keep in one folder.

    Args:
        folder: emptied of what was made in it at the end.
        services: which of `SERVERS` to start.
    """

    def __init__(self, folder: Path, services: Iterable[str]) -> None:
        self.folder = folder
        self.servers = {name: SERVERS[name](folder / name) for name in services if name in SERVERS}
        self.local = folder / "disk"
        self._up = ExitStack()

    def __enter__(self) -> Self:
        self.folder.mkdir(mode=0o711)
        self._up.callback(shutil.rmtree, self.folder)
        try:
            for folder in (self.local, self.folder / "home"):
                folder.mkdir()
            for server in self.servers.values():
                self._up.enter_context(server)
            settings = [server.settings(name) for name, server in self.servers.items()]
            configure(self.folder / "home", [*settings, local("disk", self.local)])
        except BaseException:
            self._up.close()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._up.close()

    def environment(self) -> dict[str, str]:
        """Return the variables with which every program finds the servers; secrets are here and nowhere else."""
        found = {
            "PATH": os.environ.get("PATH", os.defpath),
            "HOME": str(self.folder / "home"),
            "LC_ALL": "C.UTF-8",
            "CLOUDMESH_CONFIG_DIR": str(self.folder / "home"),
            "RCLONE_CONFIG": "/dev/null",
        }
        for name, server in self.servers.items():
            remote = {key.upper(): value for key, value in _rclone_remote(server).items()}
            found |= {f"RCLONE_CONFIG_{name.upper()}_{key}": value for key, value in remote.items()}
        aws = self.servers.get("aws")
        if isinstance(aws, SeaweedFS):
            found |= {
                "AWS_ACCESS_KEY_ID": aws.access_key_id,
                "AWS_SECRET_ACCESS_KEY": aws.secret_access_key,
                "AWS_REGION": aws.region,
                "S3_ENDPOINT_URL": f"http://127.0.0.1:{aws.port}",
            }
        return found

    def shown(self, command: Iterable[str]) -> str:
        """Return a command as a reader wants to see it: without folders and buckets that a run makes up."""
        words = []
        for word in command:
            word = word.replace(f"{self.local}", "$HERE")
            for server in self.servers.values():
                word = word.replace(str(server.data), "$DATA").replace(getattr(server, "bucket", "\0"), "$BUCKET")
            words.append(Path(word).name if word.startswith(f"{Path(find_program('rclone')).parent}/") else word)
        return " ".join(words)


@dataclass(frozen=True, slots=True)
class Spot:
    """A directory at one of the places, as each program names it."""

    places: Places
    place: str
    path: str

    @property
    def ours(self) -> str:
        """For ``cdir``."""
        return str(self.folder) if self.place == "here" else f"{self.place}:{self.path}"

    @property
    def rclone(self) -> str:
        """For ``rclone``."""
        if self.place in ("here", "disk"):
            return str(self.folder)
        bucket = getattr(self.places.servers[self.place], "bucket", "")
        path = str(self.folder) if self.place == "ssh" else self.path
        return f"{self.place}:{bucket}/{path}" if bucket else f"{self.place}:{path}"

    @property
    def s5cmd(self) -> str:
        """For ``s5cmd``, without a slash at the end."""
        return str(self.folder) if self.place == "here" else f"s3://{self.rclone.partition(':')[2]}"

    @property
    def folder(self) -> Path:
        """Where it is on this computer's disk; SeaweedFS has no such folder."""
        if self.place in ("here", "disk"):
            return self.places.local / self.path
        server = self.places.servers[self.place]
        return server.data / getattr(server, "bucket", "") / self.path

    def sizes(self) -> Iterator[int]:
        """Yield the size of each file in it, asked from behind: neither ours nor a peer's opinion."""
        server = self.places.servers.get(self.place)
        if isinstance(server, SeaweedFS):
            pages = server.client().get_paginator("list_objects_v2")
            for page in pages.paginate(Bucket=server.bucket, Prefix=f"{self.path}/"):
                yield from (found["Size"] for found in page.get("Contents", ()) if not found["Key"].endswith("/"))
        else:
            for parent, _, names in os.walk(self.folder):
                yield from (os.stat(os.path.join(parent, name)).st_size for name in names)

    def expect(self, sizes: list[int]) -> None:
        """See that its files have these sizes, sorted.

        Raises:
            RunError: they have not.
        """
        if (found := sorted(self.sizes())) != sizes:
            wanted = f"{len(sizes)} files with {sum(sizes)} bytes"
            raise RunError(f"{self.place} has {len(found)} files with {sum(found)} bytes instead of {wanted}")

    def clear(self) -> None:
        """Remove it from the disk. What is on SeaweedFS stays until its end: removing would keep it busy for long."""
        if not isinstance(self.places.servers.get(self.place), SeaweedFS):
            shutil.rmtree(self.folder, ignore_errors=True)


def _rclone_remote(server: StorageServer) -> dict[str, str]:
    """Return the options of a remote."""
    credentials = {key: str(value) for key, value in server.settings("any").credentials.items()}
    if "endpoint_url" in credentials:
        return {
            "type": "s3",
            "provider": "Rclone" if isinstance(server, RcloneS3) else "Other",
            "endpoint": credentials["endpoint_url"],
            "access_key_id": credentials["access_key_id"],
            "secret_access_key": credentials["secret_access_key"],
        }
    if "url" in credentials:
        return {
            "type": "webdav",
            "vendor": "rclone",
            "url": credentials["url"],
            "user": credentials["username"],
            "pass": _obscured(credentials["password"]),
        }
    return {
        "type": "sftp",
        "host": credentials["host"],
        "port": credentials["port"],
        "user": credentials["username"],
        "key_file": credentials["key_file"],
        "known_hosts_file": credentials["known_hosts"],
    }


def _obscured(password: str) -> str:
    command = [find_program("rclone"), "obscure", "-"]
    return subprocess.run(command, input=password, capture_output=True, text=True, check=True).stdout.strip()
