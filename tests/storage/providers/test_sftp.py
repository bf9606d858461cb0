"""SFTP's own: logging in, host keys, the way through a jump host, the connections, and servers that can do less."""

from __future__ import annotations

import os
import shlex
import shutil
import signal
import socket
import subprocess
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from cloudmesh.storage.abc import Content, ServiceSettings, Timeouts
from cloudmesh.storage.errors import (
    AlreadyExists,
    AuthenticationFailed,
    ConfigError,
    NotFound,
    PermissionDenied,
    QuotaExceeded,
    StorageError,
    Unavailable,
    Unsupported,
)
from cloudmesh.storage.paths import TEMPORARY_PREFIX
from cloudmesh.storage.providers.sftp import SftpStorage
from deploy.servers import HOST, OpenSsh
from tests.faults import FaultProxy
from tests.small_disk import own_mounts

Opens = Callable[..., SftpStorage]
DATA = bytes(range(256)) * 1024


class LimitedSsh(OpenSsh):
    """OpenSSH with another SFTP server and further lines of configuration."""

    def __init__(self, directory: Path, subsystem: str, *lines: str) -> None:
        super().__init__(directory)
        self._subsystem = subsystem
        self._lines = lines

    def _prepare(self) -> None:
        super()._prepare()
        file = self.directory / "sshd_config"
        lines = [line for line in file.read_text().splitlines() if not line.startswith(("Subsystem", "LogLevel"))]
        file.write_text("\n".join([f"Subsystem sftp {self._subsystem}", *self._lines, *lines]) + "\n")


@pytest.fixture
def opened(openssh: OpenSsh) -> Iterator[Opens]:
    """Makes providers on the server; changed credentials by keyword."""
    made: list[SftpStorage] = []

    def make(settings: ServiceSettings | None = None, *, parallel: int = 4, **changes: Any) -> SftpStorage:
        given = settings or openssh.settings("nas", root="", **changes)
        storage = SftpStorage(replace(given, parallel=parallel, timeouts=Timeouts(connect=10, read=20)))
        made.append(storage)
        return storage

    yield make
    for storage in made:
        storage.close()


def new_key(path: Path, server: OpenSsh, *options: str) -> Path:
    """Make a key pair and let the server accept it."""
    subprocess.run(["ssh-keygen", "-q", "-C", "test", "-f", str(path), *options], check=True)
    with Path(f"{server.key_file}.pub").open("a") as file:
        file.write(path.with_suffix(".pub").read_text())
    return path


def exchange(storage: SftpStorage, name: str) -> None:
    storage.write(name, Content.of_bytes(DATA))
    with storage.open_read(name) as reader:
        assert reader.read() == DATA
    storage.remove(name)


# ---- logging in ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "options",
    [
        ("-t", "ed25519", "-N", ""),
        ("-t", "ed25519", "-N", "open sesame"),
        ("-t", "rsa", "-b", "3072", "-N", ""),
        ("-t", "rsa", "-b", "3072", "-N", "öffne dich"),
        ("-t", "rsa", "-b", "3072", "-N", "open sesame", "-m", "PEM"),
        ("-t", "ecdsa", "-N", "open sesame"),
    ],
    ids=lambda options: "-".join(options[1::2]).replace(" ", "_"),
)
def test_keys(opened: Opens, openssh: OpenSsh, tmp_path: Path, options: tuple[str, ...]) -> None:
    key = new_key(tmp_path / "key", openssh, *options)
    passphrase = options[options.index("-N") + 1]
    exchange(opened(key_file=str(key), key_passphrase=passphrase or None), "key")
    if passphrase:
        for wrong in (None, "wrong phrase"):
            with pytest.raises(AuthenticationFailed, match="passphrase") as caught:
                opened(key_file=str(key), key_passphrase=wrong).probe()
            assert "wrong phrase" not in repr(caught.value)
            assert passphrase not in repr(caught.value)


def test_missing_key_file(opened: Opens, tmp_path: Path) -> None:
    with pytest.raises(AuthenticationFailed, match="nothing-here"):
        opened(key_file=str(tmp_path / "nothing-here")).probe()


def test_password(opened: Opens, openssh: OpenSsh) -> None:
    settings = openssh.password_settings("nas")
    exchange(opened(settings), "password")
    wrong = replace(settings, credentials={**settings.credentials, "password": "not this one"})
    with pytest.raises(AuthenticationFailed) as caught:
        opened(wrong).probe()
    assert "not this one" not in repr(caught.value)
    assert "not this one" not in repr(wrong)


def test_password_asked_for(opened: Opens, server_directory: Path) -> None:
    lines = ("UsePAM yes", "KbdInteractiveAuthentication yes", "PasswordAuthentication no")
    with LimitedSsh(server_directory / "pam", "internal-sftp", *lines) as server:
        settings = server.password_settings("nas")
        exchange(opened(settings), "asked")
        wrong = replace(settings, credentials={**settings.credentials, "password": "not this one"})
        with pytest.raises(AuthenticationFailed) as caught:
            opened(wrong).probe()
        assert "not this one" not in repr(caught.value)


def test_agent(opened: Opens, openssh: OpenSsh, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    key = new_key(tmp_path / "key", openssh, "-t", "ed25519", "-N", "")
    with pytest.raises(AuthenticationFailed):
        opened(key_file=None).probe()
    address = tmp_path / "agent"
    agent = subprocess.Popen(["ssh-agent", "-D", "-a", str(address)], stdout=subprocess.DEVNULL)
    try:
        environment = {**os.environ, "SSH_AUTH_SOCK": str(address)}
        while subprocess.run(["ssh-add", "-q", str(key)], env=environment, capture_output=True).returncode:
            assert agent.poll() is None
        monkeypatch.setenv("SSH_AUTH_SOCK", str(address))
        exchange(opened(key_file=None), "agent")
    finally:
        agent.terminate()
        agent.wait()


def test_key_in_home(opened: Opens, openssh: OpenSsh, tmp_path: Path, home: Path) -> None:
    folder = Path.home() / ".ssh"
    folder.mkdir(mode=0o700)
    new_key(folder / "id_ed25519", openssh, "-t", "ed25519", "-N", "")
    (folder / "known_hosts").write_text(openssh.known_hosts.read_text())
    exchange(opened(key_file=None, known_hosts=None), "home")


@pytest.mark.parametrize(
    "changes",
    [
        {"host": None},
        {"port": "ssh"},
        {"port": 70000},
        {"jump": "user@host:port"},
        {"jump": "user:secret@host:22"},
    ],
    ids=str,
)
def test_bad_configuration(opened: Opens, changes: dict[str, Any]) -> None:
    with pytest.raises(ConfigError) as caught:
        opened(**changes)
    assert "secret" not in str(caught.value)


# ---- host keys ----------------------------------------------------------------------------------------------------


def test_unknown_host(opened: Opens, openssh: OpenSsh, tmp_path: Path) -> None:
    file = tmp_path / "known hosts"
    printed = subprocess.run(
        ["ssh-keygen", "-l", "-f", "-"], input=openssh.host_key, capture_output=True, text=True, check=True
    ).stdout
    with pytest.raises(AuthenticationFailed) as caught:
        opened(known_hosts=str(file)).probe()
    assert printed.split()[1] in str(caught.value)
    assert f"ssh-keyscan -p {openssh.port} {HOST} >> " in caught.value.hint
    assert not file.exists()
    added = subprocess.run(caught.value.hint.partition("then: ")[2], shell=True, capture_output=True)
    assert added.returncode == 0
    exchange(opened(known_hosts=str(file)), "known")


def test_hashed_host(opened: Opens, openssh: OpenSsh, tmp_path: Path) -> None:
    file = tmp_path / "known_hosts"
    file.write_text(openssh.known_hosts.read_text())
    subprocess.run(["ssh-keygen", "-q", "-H", "-f", str(file)], check=True, capture_output=True)
    assert HOST not in file.read_text()
    exchange(opened(known_hosts=str(file)), "hashed")
    line = file.read_text().splitlines()[0].replace("|1|", "|1|AAAA", 1)
    file.write_text(line + "\n")
    with pytest.raises(AuthenticationFailed, match="not known"):
        opened(known_hosts=str(file)).probe()


def test_changed_host_key(opened: Opens, openssh: OpenSsh, tmp_path: Path) -> None:
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(tmp_path / "other")], check=True)
    file = tmp_path / "known_hosts"
    other = " ".join((tmp_path / "other.pub").read_text().split()[:2])
    file.write_text(f"[{HOST}]:{openssh.port} {other}\n")
    with pytest.raises(AuthenticationFailed, match="has changed") as caught:
        opened(known_hosts=str(file)).probe()
    assert f"ssh-keygen -R '[{HOST}]:{openssh.port}'" in caught.value.hint
    assert file.read_text() == f"[{HOST}]:{openssh.port} {other}\n"


@pytest.mark.parametrize(
    ("line", "accepted"),
    [
        ("[{host}]:{port} {key}", True),
        ("# a comment\n\nelsewhere,[{host}]:{port} {key} me@there", True),
        ("[127.0.0.*]:{port} {key}", True),
        ("*,!elsewhere {key}", True),
        ("*,![{host}]:{port} {key}", False),
        ("[{host}]:1 {key}", False),
        ("{host} {key}", False),
        ("@revoked * {key}\n[{host}]:{port} {key}", False),
        ("[{host}]:{port} {key}\n@revoked * {key}", False),
        ("@cert-authority * {key}", False),
        ("[{host}]:{port} ssh-ed25519 ====", False),
        ("|1|nonsense {key}", False),
        ("", False),
    ],
)
def test_known_hosts_lines(opened: Opens, openssh: OpenSsh, tmp_path: Path, line: str, accepted: bool) -> None:
    file = tmp_path / "known_hosts"
    file.write_text(line.format(host=HOST, port=openssh.port, key=openssh.host_key) + "\n")
    storage = opened(known_hosts=str(file))
    if accepted:
        storage.probe()
    else:
        with pytest.raises(AuthenticationFailed):
            storage.probe()


# ---- jump host ----------------------------------------------------------------------------------------------------


def test_jump_host(opened: Opens, openssh: OpenSsh, fault_proxy: Callable[[int], FaultProxy]) -> None:
    proxy = fault_proxy(openssh.port)
    openssh.trust(proxy.port)
    through = opened(jump=f"{openssh.settings('x').credentials['username']}@{HOST}:{proxy.port}")
    exchange(through, "jump")
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda number: exchange(through, f"jump-{number}"), range(12)))
    through.close()
    proxy.refuse()
    with pytest.raises(Unavailable, match=str(proxy.port)):
        opened(jump=f"{HOST}:{proxy.port}").probe()


def test_jump_host_is_checked_too(opened: Opens, openssh: OpenSsh, tmp_path: Path) -> None:
    file = tmp_path / "known_hosts"
    file.write_text(f"[{HOST}]:{openssh.port} {openssh.host_key}\n")
    with FaultProxy(openssh.port) as proxy, pytest.raises(AuthenticationFailed, match=str(proxy.port)):
        opened(known_hosts=str(file), jump=f"{HOST}:{proxy.port}").probe()


def test_jump_host_that_cannot_reach_the_target(opened: Opens, openssh: OpenSsh) -> None:
    with socket.socket() as unused:
        unused.bind((HOST, 0))
        storage = opened(port=unused.getsockname()[1], jump=f"{HOST}:{openssh.port}")
        with pytest.raises(Unavailable, match="jump host"):
            storage.probe()


# ---- ~/.ssh/config ------------------------------------------------------------------------------------------------


@pytest.fixture
def ssh_config(home: Path) -> Callable[[str], None]:
    """Writes the user's ~/.ssh/config."""
    folder = Path.home() / ".ssh"
    folder.mkdir(mode=0o700)

    def write(text: str) -> None:
        (folder / "config").write_text(text)

    return write


def test_host_of_ssh_config(opened: Opens, openssh: OpenSsh, ssh_config: Callable[[str], None], tmp_path: Path) -> None:
    key = new_key(tmp_path / "key", openssh, "-t", "ed25519", "-N", "")
    user = openssh.settings("x").credentials["username"]
    ssh_config(
        f"Host lab\n HostName {HOST}\n Port {openssh.port}\n User {user}\n IdentityFile {key}\n"
        "Host *\n Port 1\n User nobody-here\n"
    )
    exchange(opened(host="lab", port=None, username=None, key_file=None), "alias")


def test_service_goes_before_ssh_config(opened: Opens, openssh: OpenSsh, ssh_config: Callable[[str], None]) -> None:
    ssh_config("Host *\n Port 1\n User nobody-here\n IdentityFile /nothing/here\n")
    exchange(opened(), "own")
    with pytest.raises(AuthenticationFailed, match="nobody-here"):
        opened(username=None).probe()


def test_jump_host_of_ssh_config(
    opened: Opens, openssh: OpenSsh, ssh_config: Callable[[str], None], fault_proxy: Callable[[int], FaultProxy]
) -> None:
    proxy = fault_proxy(openssh.port)
    openssh.trust(proxy.port)
    ssh_config(f"Host {HOST}\n ProxyJump gate\nHost gate\n HostName localhost\n Port {proxy.port}\n")
    file = openssh.known_hosts
    file.write_text(f"{file.read_text()}[localhost]:{proxy.port} {openssh.host_key}\n")
    exchange(opened(), "jump")
    assert proxy.accepted == 1


@pytest.mark.parametrize(
    ("line", "why"),
    [("ProxyCommand nc %h %p", "ProxyCommand"), ("ProxyJump one,two", "several"), ("Nonsense yes", "(?i)nonsense")],
)
def test_ssh_config_that_cannot_be_followed(
    opened: Opens, ssh_config: Callable[[str], None], line: str, why: str
) -> None:
    ssh_config(f"Host *\n {line}\n")
    with pytest.raises(ConfigError, match=why) as caught:
        opened().probe()
    assert "\n" not in str(caught.value)


def test_ssh_config_that_takes_too_long(openssh: OpenSsh, ssh_config: Callable[[str], None]) -> None:
    ssh_config('Match exec "sleep 5"\n Port 1\n')
    storage = SftpStorage(replace(openssh.settings("nas"), timeouts=Timeouts(connect=0.5, read=1)))
    with pytest.raises(Unavailable, match="ssh/config"):
        storage.probe()


# ---- connections --------------------------------------------------------------------------------------------------


def sessions(server: OpenSsh) -> int:
    """Count the connections that are open at the server now."""
    lines = Path("/proc/net/tcp").read_text().splitlines()[1:]
    return sum(line.split()[1].endswith(f":{server.port:04X}") and line.split()[3] == "01" for line in lines)


def test_no_more_connections_than_allowed(opened: Opens, openssh: OpenSsh) -> None:
    before = sessions(openssh)
    storage = opened(parallel=3)
    with ThreadPoolExecutor(12) as pool:
        list(pool.map(lambda number: exchange(storage, f"pool-{number}"), range(48)))
    assert 1 <= sessions(openssh) - before <= 3


def test_reader_and_writer_of_one_service_with_one_connection(opened: Opens) -> None:
    storage = opened(parallel=1)
    storage.write("source", Content.of_bytes(DATA))
    with storage.open_read("source") as reader:
        storage.write("destination", Content.of_stream(reader))
    with storage.open_read("destination") as reader:
        assert reader.read() == DATA


def test_unread_readers_cost_nothing(opened: Opens) -> None:
    storage = opened(parallel=2)
    storage.write("big", Content.of_bytes(DATA * 40))
    for number in range(10):
        reader = storage.open_read("big")
        if number % 3 == 1:
            next(iter(reader))
        if number % 3 != 2:
            reader.close()
        del reader
    with storage.open_read("big", start=-256) as reader:
        assert reader.read() == bytes(range(256))


def test_dead_connections_are_replaced(
    opened: Opens, openssh: OpenSsh, fault_proxy: Callable[[int], FaultProxy]
) -> None:
    proxy = fault_proxy(openssh.port)
    storage = opened(openssh.settings("nas", port=proxy.port))
    exchange(storage, "before")
    proxy.drop()
    exchange(storage, "after")


def test_forked_child_leaves_the_connections_alone(opened: Opens) -> None:
    storage = opened()
    storage.write("fork", Content.of_bytes(DATA))
    child = os.fork()
    if child == 0:
        try:
            with storage.open_read("fork") as reader:
                same = reader.read() == DATA
            storage.close()
            os._exit(0 if same else 1)
        except BaseException:
            os._exit(2)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    with storage.open_read("fork") as reader:
        assert reader.read() == DATA


def test_server_that_says_nothing(opened: Opens, openssh: OpenSsh) -> None:
    with socket.create_server((HOST, 0)) as silent:
        settings = openssh.settings("nas", port=silent.getsockname()[1])
        storage = SftpStorage(replace(settings, timeouts=Timeouts(connect=1, read=1)))
        with pytest.raises(Unavailable):
            storage.probe()


def test_server_that_stops_in_the_middle(openssh: OpenSsh) -> None:
    storage = SftpStorage(replace(openssh.settings("nas"), timeouts=Timeouts(connect=10, read=1)))
    storage.write("stall", Content.of_bytes(DATA * 64))
    mine = {int(line) for line in _children(openssh.pid)}
    assert mine
    with storage.open_read("stall") as reader:
        next(iter(reader))
        for pid in mine:
            os.kill(pid, signal.SIGSTOP)
        try:
            with pytest.raises(Unavailable):
                reader.read()
        finally:
            for pid in mine:
                os.kill(pid, signal.SIGCONT)
    storage.close()


def _children(pid: int) -> list[str]:
    return Path(f"/proc/{pid}/task/{pid}/children").read_text().split()


def test_write_that_stalls(openssh: OpenSsh) -> None:
    storage = SftpStorage(replace(openssh.settings("nas"), timeouts=Timeouts(connect=10, read=1)))
    storage.probe()
    stopped: list[int] = []

    def pieces() -> Iterator[bytes]:
        yield DATA
        stopped.extend(int(pid) for pid in _children(openssh.pid))
        for pid in stopped:
            os.kill(pid, signal.SIGSTOP)
        while True:
            yield DATA

    try:
        with pytest.raises(Unavailable):
            storage.write("stalled", Content(open=pieces))
    finally:
        for pid in stopped:
            os.kill(pid, signal.SIGCONT)
    storage.close()
    assert not (openssh.data / "stalled").exists()


# ---- files --------------------------------------------------------------------------------------------------------


def test_replaced_file_keeps_its_permissions(opened: Opens, openssh: OpenSsh) -> None:
    file = openssh.data / "program"
    file.write_text("#!/bin/sh\n")
    file.chmod(0o750)
    opened().write("program", Content.of_bytes(b"#!/bin/sh\nexit\n", mtime_ns=10**18))
    assert file.stat().st_mode & 0o777 == 0o750
    assert file.stat().st_mtime == 10**9


def test_links(opened: Opens, openssh: OpenSsh) -> None:
    folder = openssh.data / "links"
    (folder / "inside").mkdir(parents=True)
    (folder / "inside" / "file").write_bytes(b"here")
    (openssh.data / "beside").mkdir()
    (openssh.data / "beside" / "secret").write_bytes(b"elsewhere")
    (folder / "to-file").symlink_to("inside/file")
    (folder / "to-directory").symlink_to("inside")
    (folder / "loop").symlink_to(".")
    (folder / "inside" / "up").symlink_to("..")
    (folder / "broken").symlink_to("nowhere")
    (folder / "out").symlink_to("../beside")
    (folder / "out-file").symlink_to("../beside/secret")
    os.mkfifo(folder / "fifo")
    storage = opened(replace(openssh.settings("nas", root="links")))
    assert [entry.path for entry in storage.scan(recursive=True)] == [
        "inside",
        "inside/file",
        "to-directory",
        "to-directory/file",
        "to-file",
    ]
    assert storage.open_read("to-directory/file").read() == b"here"
    calls: list[Callable[[], object]] = [
        lambda: storage.write("out/new", Content.of_bytes(b"new")),
        lambda: storage.write("out/further/new", Content.of_bytes(b"new")),
        lambda: storage.make_dir("out/further/new"),
        lambda: storage.remove("out/secret"),
        lambda: storage.move_within("out/secret", "mine"),
        lambda: storage.move_within("inside/file", "out/file"),
        lambda: storage.copy_within("inside/file", "out/file"),
        lambda: storage.set_mtime("out/secret", 0),
        lambda: storage.stat("out-file"),
        lambda: storage.stat("out/secret"),
        lambda: storage.open_read("out/secret"),
        lambda: list(storage.scan("out")),
    ]
    for call in calls:
        with pytest.raises(PermissionDenied, match="leads out"):
            call()
    assert [path for path, _ in storage.remove_many(["out/secret"])] == ["out/secret"]
    assert os.listdir(openssh.data / "beside") == ["secret"]


def test_directories_read_before_their_turn(
    opened: Opens, openssh: OpenSsh, tmp_path: Path, fault_proxy: Callable[[int], FaultProxy]
) -> None:
    folder = openssh.data / "tree"
    for number in range(40):
        for deep in ("", "a", "b/c"):
            (folder / f"d{number:02}" / deep).mkdir(parents=True, exist_ok=True)
            (folder / f"d{number:02}" / deep / "file").write_bytes(b"here")
    for number in range(1500):  # too many to be held before its turn
        (folder / "d05" / f"f{number:04}").touch()
    (tmp_path / "secret").write_bytes(b"elsewhere")
    proxy = fault_proxy(openssh.port)
    storage = opened(openssh.settings("nas", port=proxy.port, root="tree"))
    everything = sorted(
        (str(path.relative_to(folder)) for path in folder.rglob("*")),
        key=lambda path: path.encode().replace(b"/", b"\0"),
    )
    scan = storage.scan(recursive=True)
    seen = [next(scan).path, next(scan).path]
    # What changes while the scan is on its way is as it is when its turn comes, or as it was a little before.
    gone, replaced, leading_out = folder / "d30", folder / "d31", folder / "d32"
    for directory in (gone, replaced, leading_out):
        shutil.rmtree(directory)
    replaced.write_bytes(b"a file now")
    leading_out.symlink_to(tmp_path)
    with pytest.raises(PermissionDenied, match="d32: a symbolic link leads out"):
        seen += (entry.path for entry in scan)
    assert seen == [path for path in everything if path <= "d32" and not path.startswith(("d30/", "d31/"))]
    # A line that breaks in the middle of a listing ends the scan.
    proxy.cut(after=20_000)
    with pytest.raises(Unavailable):
        list(storage.scan(recursive=True))
    assert proxy.fired == 1
    leading_out.unlink()
    again = [entry.path for entry in storage.scan(recursive=True)]
    assert again == [path for path in everything if not path.startswith(("d30", "d31/", "d32"))]


def test_special_files_are_not_found(opened: Opens, openssh: OpenSsh) -> None:
    os.mkfifo(openssh.data / "fifo")
    storage = opened()
    calls: list[Callable[[], object]] = [
        lambda: storage.open_read("fifo"),
        lambda: storage.stat("fifo"),
        lambda: storage.copy_within("fifo", "copy"),
    ]
    for call in calls:
        with pytest.raises(NotFound, match="neither a file nor a directory"):
            call()


def test_temporary_file_left_behind_goes_with_the_next_write(
    opened: Opens, openssh: OpenSsh, fault_proxy: Callable[[int], FaultProxy]
) -> None:
    folder = openssh.data / "left"
    proxy = fault_proxy(openssh.port)
    storage = opened(openssh.settings("nas", port=proxy.port, root="left"))

    def pieces() -> Iterator[bytes]:
        yield DATA * 16
        assert os.listdir(folder)
        proxy.refuse()
        yield DATA * 16

    with pytest.raises(Unavailable):
        storage.write("f", Content(open=pieces))
    proxy.heal()
    assert os.listdir(folder) != ["f"]
    storage.write("f", Content.of_bytes(DATA))
    assert os.listdir(folder) == ["f"]


def test_create_is_decided_by_the_server(opened: Opens) -> None:
    storage = opened(parallel=8)
    start = threading.Barrier(8)

    def create(number: int) -> bool:
        start.wait()
        try:
            storage.write("only-one", Content.of_bytes(b"%d" % number), mode="create")
        except AlreadyExists:
            return False
        return True

    for _ in range(5):
        with ThreadPoolExecutor(8) as pool:
            assert sum(pool.map(create, range(8))) == 1
        storage.remove("only-one")


@pytest.fixture(scope="module")
def limited(server_directory: Path) -> Iterator[OpenSsh]:
    """A server without OpenSSH's extensions."""
    denied = "-P posix-rename,copy-data,statvfs"
    with LimitedSsh(server_directory / "limited", f"/usr/lib/openssh/sftp-server {denied}") as server:
        yield server


def test_server_without_extensions(limited: OpenSsh) -> None:
    storage = SftpStorage(limited.settings("old"))
    storage.write("f", Content.of_bytes(b"old"))
    storage.write("f", Content.of_bytes(b"new"))
    assert storage.open_read("f").read() == b"new"
    storage.write("g", Content.of_bytes(b"moved"))
    storage.move_within("g", "f")
    assert storage.open_read("f").read() == b"moved"
    assert os.listdir(limited.data) == ["f"]
    for call in (storage.usage, lambda: storage.copy_within("f", "g")):
        with pytest.raises(Unsupported):
            call()
    storage.close()


def test_what_the_server_lacks_is_not_declared(opened: Opens, limited: OpenSsh) -> None:
    assert opened().capabilities.server_copy
    assert opened().capabilities.quota
    old = opened(limited.settings("old"))
    assert not old.capabilities.server_copy
    assert not old.capabilities.quota
    assert old.capabilities.server_move


@pytest.fixture
def small_disk(server_directory: Path, tmp_path: Path) -> Iterator[OpenSsh]:
    """A server whose every connection has a disk of 1 MiB at ``disk`` to itself."""
    folder = server_directory / "small"
    server = LimitedSsh(folder, str(folder / "sftp-server"))
    disk = server.data / "disk"
    disk.mkdir(parents=True)
    script = f"mount -t tmpfs -o size=1m none {disk} && exec /usr/lib/openssh/sftp-server"
    program = folder / "sftp-server"
    program.write_text(f"#!/bin/sh\nexec {shlex.join([*own_mounts(), 'sh', '-c', script])}\n")
    program.chmod(0o755)
    with server:
        yield server


def test_full_disk(opened: Opens, small_disk: OpenSsh) -> None:
    storage = opened(small_disk.settings("small", root="disk"), parallel=1)
    storage.write("kept", Content.of_bytes(b"kept"))
    storage.write("half", Content.of_bytes(DATA * 2))
    before = storage.usage()
    full: list[Callable[[], object]] = [
        lambda: storage.write("kept", Content.of_bytes(DATA * 16)),
        lambda: storage.write("kept", Content(open=lambda: iter([DATA] * 16))),
        lambda: storage.copy_within("half", "kept"),
    ]
    for call in full:
        with pytest.raises(QuotaExceeded):
            call()
        assert storage.open_read("kept").read() == b"kept"
        assert storage.usage() == before


def test_source_that_fails_leaves_nothing(opened: Opens, openssh: OpenSsh) -> None:
    def pieces() -> Iterator[bytes]:
        yield DATA
        raise ZeroDivisionError

    storage = opened(parallel=1)
    for _ in range(3):
        with pytest.raises(ZeroDivisionError):
            storage.write("fails/f", Content(open=pieces))
    assert os.listdir(openssh.data / "fails") == []


def test_errors_are_of_the_closed_set(opened: Opens) -> None:
    storage = opened()
    failed = dict(storage.remove_many(["nothing", "../out", f"{TEMPORARY_PREFIX}x", "no/thing"]))
    assert set(failed) == {"../out", f"{TEMPORARY_PREFIX}x"}
    assert all(isinstance(error, StorageError) for error in failed.values())
