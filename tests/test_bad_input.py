"""What bad input gets: one line that names the thing, exit code 1 (2 if typed wrongly), and nothing changed."""

from __future__ import annotations

import json
import os
import shlex
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from cloudmesh.storage.transfer.report import Report
from cloudmesh.storage.vault import Vault
from cloudmesh.vdir import Vdir
from tests.places import read_tree, write_tree

CDIR = [sys.executable, "-m", "cloudmesh.cdir.main"]
CMS = [str(Path(sys.executable).with_name("cms"))]
REPOSITORY = Path(__file__).parent.parent

SERVICES = """\
# my services
cloudmesh:
  storage:
    disk:
      cm: {{kind: local}}
      default: {{directory: {root}/disk}}
    odd:
      cm: {{kind: floppy}}
    bare:
      cm: {{label: nothing else}}
    s3:
      cm: {{kind: awss3}}
      credentials: {{bucket: b, region: us-east-1, access_key_id: a, endpoint_url: 'http://127.0.0.1:9'}}
    dav:
      cm: {{kind: webdav}}
      credentials: {{url: 'http://127.0.0.1:9/', username: ann}}
    nas:
      cm: {{kind: sftp}}
      credentials: {{host: 127.0.0.1, username: ann, known_hosts: /dev/null}}
    half:
      cm: {{kind: webdav}}
      credentials: {{url: TBD}}
"""


@dataclass
class World:
    """A user's home with services, a vault, a catalogue and some files; all of it can be compared."""

    root: Path
    extra: dict[str, str] = field(default_factory=dict)

    @property
    def home(self) -> Path:
        return self.root / "config"

    @property
    def environment(self) -> dict[str, str]:
        path = f"{self.extra.get('PYTHONPATH', '')}:{REPOSITORY}"
        own = {"CLOUDMESH_CONFIG_DIR": str(self.home), "HOME": str(self.root), "TZ": "UTC"}
        return {**os.environ, **own, **self.extra, "PYTHONPATH": path.lstrip(":")}

    def run(self, *arguments: str, program: Sequence[str] = CDIR) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [*program, *arguments],
            cwd=self.root / "work", env=self.environment, stdin=subprocess.DEVNULL,
            capture_output=True, text=True, timeout=120, check=False,
        )  # fmt: skip

    def state(self) -> Mapping[str, object]:
        """All that a command could change: the user's files, those on services, our own, and the catalogue."""
        own = {
            path.name: (path.read_bytes(), path.stat().st_mode)
            for path in self.home.iterdir()
            # the database is compared by its content; cms writes files of its own on every call
            if path.is_file() and not path.name.startswith((".", "vdir.db", "variables", "default-data"))
        }
        with Vdir() as vdir:
            lines = vdir.export("-")
            assert not isinstance(lines, Report)
            catalogue = list(lines)
        return {
            **own,
            "catalogue": catalogue,
            "work": read_tree(self.root / "work"),
            "disk": read_tree(self.root / "disk"),
            "local": read_tree(self.home / "local"),
            "folders": sorted(
                str(path.relative_to(self.root))
                for top in ("work", "disk", "config/local")
                for path in (self.root / top).rglob("*")
                if path.is_dir()
            ),
        }


@pytest.fixture(scope="module")
def shared_world(tmp_path_factory: pytest.TempPathFactory) -> World:
    """One for all tests, since none of them may change it."""
    with pytest.MonkeyPatch.context() as patch:
        return make_world(tmp_path_factory.mktemp("world"), patch)


@pytest.fixture
def world(shared_world: World, monkeypatch: pytest.MonkeyPatch) -> World:
    monkeypatch.setenv("CLOUDMESH_CONFIG_DIR", str(shared_world.home))
    return World(shared_world.root)


@pytest.fixture
def own_world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> World:
    """One that the test may change."""
    return make_world(tmp_path, monkeypatch)


def make_world(tmp_path: Path, patch: pytest.MonkeyPatch) -> World:
    found = World(tmp_path)
    found.home.mkdir(mode=0o700)
    (found.home / "cloudmesh.yaml").write_text(SERVICES.format(root=tmp_path))
    patch.setenv("CLOUDMESH_CONFIG_DIR", str(found.home))
    write_tree(
        tmp_path / "work", {"tree/a.txt": b"a", "tree/sub/b.txt": b"bb", "one.txt": b"1", "other.txt": b"another"}
    )
    write_tree(tmp_path / "disk", {"here.txt": b"here", "folder/inside.txt": b"in", "taken/foreign.txt": b"theirs"})
    Vault(found.home).change(lambda secrets: secrets.update({one: {"password": "p"} for one in ("dav", "nas")}))
    Vault(found.home).change(lambda secrets: secrets.update({"s3": {"secret_access_key": "p"}}))
    with Vdir() as vdir:
        vdir.put(str(tmp_path / "work" / "tree"), "/run", to=["disk"], recursive=True)
        vdir.mkdir("/empty")
        vdir.mkdir("/taken")
    assert "/run/sub/b.txt" in str(found.state()["catalogue"])
    return found


def refused(
    world: World, arguments: Sequence[str], named: str, code: int = 1, program: Sequence[str] = CDIR
) -> subprocess.CompletedProcess[str]:
    """Run, and check that it is refused as it shall be."""
    before = world.state()
    result = world.run(*arguments, program=program)
    lines = result.stderr.splitlines()
    errors = [line for line in lines if line.startswith("error: ")]
    assert (result.returncode, result.stdout, len(errors)) == (code, "", 1), result
    assert named in errors[0]
    others = [line for line in lines if not line.startswith("error: ")]
    allowed = ("usage: ", "see: ") if code == 2 else ()
    assert all(line.startswith(allowed) for line in others), others
    assert "Traceback" not in result.stderr
    after = world.state()
    assert {key for key in after if after[key] != before[key]} == set()
    return result


CASES: list[tuple[str, str, int]] = [
    # a missing service
    ("storage list aws:x", "aws: there is no such service", 1),
    ("storage --storage=aws list", "aws: there is no such service", 1),
    ("storage put one.txt aws:x", "aws: there is no such service", 1),
    ("storage copy disk:here.txt aws:x", "aws: there is no such service", 1),
    ("storage sync tree aws:x", "aws: there is no such service", 1),
    ("storage config show aws", "aws: there is no such service", 1),
    ("storage config test aws", "aws: there is no such service", 1),
    ("storage config edit aws --set=label=x", "aws: there is no such service", 1),
    ("storage config remove aws --yes", "aws: there is no such service", 1),
    ("storage config seal aws", "aws: there is no such service", 1),
    ("put one.txt /one --to=disk,aws", "aws: there is no such service", 1),
    ("copy /run --to=aws --recursive", "aws: there is no such service", 1),
    ("drop /run --from=aws --recursive --yes", "aws: there is no such service", 1),
    ("drop /run/a.txt --from=local --yes", "/run/a.txt on local: there is no such replica", 1),
    ("prefer /run aws", "aws: there is no such service", 1),
    ("add aws:x /x", "aws: there is no such service", 1),
    ("cat aws:/run/a.txt", "aws: there is no such service", 1),
    ("get aws:/run/a.txt new", "aws: there is no such service", 1),
    # an unknown or missing kind, an incomplete configuration
    ("storage list odd:", "odd: there is no provider for kind 'floppy'", 1),
    ("storage list bare:", "bare: it has no kind", 1),
    ("storage list half:", "half: url is not set", 1),
    ("put one.txt /one --to=odd", "odd: there is no provider for kind 'floppy'", 1),
    ("storage config add new --kind=floppy", "new: there is no provider for kind 'floppy'", 1),
    ("storage config add new --preset=floppy", "--preset=floppy: there is no such preset", 2),
    # a bad location or name
    ("storage stat disk:a/../../b", "disk:a/../../b: ", 1),
    ("storage put one.txt disk:../one", "disk:../one: ", 1),
    ("storage list disk:absent", "disk:absent: not found", 1),
    ("storage cat disk:absent", "disk:absent: not found", 1),
    ("storage delete disk:absent --yes", "disk:absent: not found", 1),
    ("storage stat disk:here.txt/below", "disk:here.txt", 1),
    ("storage get disk:absent new", "disk:absent: not found", 1),
    ("storage put absent disk:new", "absent: not found", 1),
    ("storage copy disk:absent disk:new", "disk:absent: not found", 1),
    ("storage move disk:absent disk:new --yes", "disk:absent: not found", 1),
    ("storage url disk:here.txt", "disk:here.txt", 1),
    ("put absent /new", "absent: not found", 1),
    ("cat /absent", "/absent: not found", 1),
    ("ls /absent", "/absent: not found", 1),
    ("ls /absent --output=csv", "/absent: not found", 1),
    ("ls /absent --output=json", "/absent: not found", 1),
    ("storage list disk:absent --output=yaml", "disk:absent: not found", 1),
    ("storage list disk:absent --output=csv", "disk:absent: not found", 1),
    ("ls /run/a.txt/below", "/run/a.txt: is not a directory", 1),
    ("get /absent new", "/absent: not found", 1),
    ("move /absent /new", "/absent: not found", 1),
    ("cd /absent", "/absent: not found", 1),
    ("cd /run/a.txt", "/run/a.txt: is not a directory", 1),
    ("status /absent", "/absent: not found", 1),
    ("sync /absent", "/absent: not found", 1),
    ("history /absent", "/absent: not found", 1),
    ("history /run", "/run: is a directory", 1),
    ("restore /absent 1", "/absent: not found", 1),
    ("restore /run/a.txt 7", "/run/a.txt version 7: is not kept", 1),
    ("delete /absent --yes", "/absent: not found", 1),
    ("export - /absent", "/absent: not found", 1),
    ("import absent", "absent: not found", 1),
    ("import one.txt", "one.txt", 1),
    ("mkdir /a/b/c", "/a/b: there is no such directory", 1),
    ("mkdir /disk", "/disk: 'disk' is a service's name", 1),
    (f"mkdir /{'n' * 2000}", "a name is longer than 1024 bytes", 1),
    (f"storage put one.txt disk:{'n' * 256}", "nnn: ", 1),
    # a directory without --recursive
    ("storage put tree disk:new", "tree: is a directory", 1),
    ("storage get disk:folder new", "disk:folder: is a directory", 1),
    ("storage copy disk:folder disk:new", "disk:folder: is a directory", 1),
    ("storage delete disk:folder --yes", "disk:folder: ", 1),
    ("storage cat disk:folder", "disk:folder: is a directory", 1),
    ("put tree /new", "tree: is a directory", 1),
    ("get /run new", "/run: is a directory", 1),
    ("copy /run --to=local", "/run: is a directory", 1),
    ("drop /run --from=disk --yes", "/run: is a directory", 1),
    ("add disk:folder /new", "disk:folder: is a directory", 1),
    ("delete /run --yes", "/run: is a directory", 1),
    ("cat /run", "/run: is a directory", 1),
    # a name that exists
    ("mkdir /run", "/run: already exists", 1),
    ("mkdir /run/a.txt", "/run/a.txt: already exists", 1),
    ("move /run/a.txt /run/sub/b.txt", "/run/sub/b.txt: already exists", 1),
    ("move /run /run/sub", "/run: a directory cannot be moved into itself", 1),
    ("put other.txt /run/a.txt --to=disk", "/run/a.txt: ", 1),
    ("add disk:here.txt /run/a.txt", "/run/a.txt: ", 1),
    ("storage move disk:here.txt disk:taken/foreign.txt --yes", "disk:taken/foreign.txt: already exists", 1),
    ("storage config add disk --kind=local", "disk: there is a service of that name", 1),
    ("storage config add run --kind=local --set=directory=x", "run: ", 1),
    ("storage vault init", "vault.age: already exists", 1),
    ("storage vault export --to=one.txt --yes", "one.txt: already exists", 1),
    # a file in the way
    ("put one.txt /taken/foreign.txt --to=disk", "disk:taken/foreign.txt: ", 1),
    ("storage put one.txt disk:here.txt/below", "disk:here.txt", 1),
    ("storage put tree disk:here.txt --recursive", "disk:here.txt", 1),
    ("storage create dir disk:here.txt", "disk:here.txt: ", 1),
    ("storage get disk:here.txt one.txt/below", "one.txt", 1),
    ("get /run one.txt --recursive", "one.txt", 1),
    ("get /run/a.txt one.txt/below", "one.txt", 1),
    # typed wrongly
    ("lst", "unknown command 'lst', did you mean 'ls'?", 2),
    ("storage lst", "unknown command 'lst', did you mean 'list'?", 2),
    ("sync --conflict=four", "--conflict: 'four' is not allowed", 2),
    ("sync --max-loss=much", "--max-loss: 'much' is not allowed", 2),
    ("restore /run/a.txt last", "VERSION: 'last' is not allowed", 2),
    ("storage put one.txt", "argument DESTINATION is missing", 2),
    ("ls / extra", "unexpected argument 'extra'", 2),
    ("ls --recursve", "unknown option --recursve, did you mean --recursive?", 2),
    ("ls --output=xml", "--output: 'xml' is not allowed", 2),
    ("storage --parallel=0 list", "--parallel: '0' is not allowed", 2),
    ("storage url disk:here.txt --expires=soon", "--expires: 'soon' is not allowed", 2),
    ("copy /run", "option --to is missing", 2),
    ("add", "argument FILEENDPOINT is missing", 2),
    ("storage config add n --kind=local", "n: a service's name is", 2),
    ("storage config add new", "--kind", 2),
    ("storage config add new --kind=webdav", "url", 2),
    ("storage config add new --kind=local", "directory", 2),
    ("storage config add new --kind=webdav --no-test --set=url=http://127.0.0.1:9/ --secret=password", "password", 2),
    ("storage config edit dav --set=colour=red", "colour: kind 'webdav' has no such key", 2),
    ("storage config edit dav --set=password=x", "--set=password: is a secret", 2),
    ("storage config edit dav --secret=password=x", "--secret=password: a secret is not typed", 2),
    ("storage config edit dav --secret=password=env:ABSENT", "--secret=password: ", 2),
    ("storage vault set password", "password: is not SERVICE.KEY", 2),
    ("storage vault rekey --with=magic", "magic", 2),
]


@pytest.mark.parametrize(("typed", "named", "code"), CASES, ids=lambda value: str(value)[:60])
def test_bad_input_of_cdir(world: World, typed: str, named: str, code: int) -> None:
    refused(world, shlex.split(typed), named, code)


@pytest.mark.parametrize(
    ("typed", "named", "code"),
    [
        ("storage list aws:x", "aws: there is no such service", 1),
        ("storage put tree disk:new", "tree: is a directory", 1),
        ("storage put one.txt disk:here.txt/below", "disk:here.txt", 1),
        ("storage config edit dav --set=colour=red", "colour: kind 'webdav' has no such key", 2),
        ("vdir mkdir /run", "/run: already exists", 1),
        ("vdir put one.txt /taken/foreign.txt --to=disk", "disk:taken/foreign.txt: ", 1),
        ("vdir ls / extra", "unexpected argument 'extra'", 2),
        ("cdir cat /absent", "/absent: not found", 1),
    ],
)
def test_bad_input_of_cms(world: World, typed: str, named: str, code: int) -> None:
    refused(world, shlex.split(typed), named, code, CMS)


def test_what_would_destroy_names_what_it_asks_about(world: World) -> None:
    before = world.state()
    result = world.run("storage", "config", "remove", "dav")
    assert (result.returncode, result.stdout) == (1, "")
    assert "dav" in result.stderr.splitlines()[0]
    assert result.stderr.splitlines()[-1].startswith("error: storage config remove: nothing was changed: nobody can be")
    assert world.state() == before


# ---- a missing SDK ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("service", "module", "package", "extra"),
    [
        ("s3", "obstore", "obstore", "s3"),
        ("s3", "boto3", "boto3", "s3"),
        ("dav", "pycurl", "pycurl", "webdav"),
        ("nas", "ssh", "ssh-python", "sftp"),
    ],
)
def test_missing_sdk(world: World, tmp_path: Path, service: str, module: str, package: str, extra: str) -> None:
    (tmp_path / "sitecustomize.py").write_text(f"import sys; sys.modules[{module!r}] = None")  # as if not installed
    world.extra["PYTHONPATH"] = str(tmp_path)
    words = f"{service}: package {package} is not installed (pip install 'cloudmesh-vdir[{extra}]')"
    refused(world, ["storage", "list", f"{service}:"], words)
    refused(world, ["put", "one.txt", "/one", f"--to={service}"], words)
    result = world.run("storage", "list", "disk:", "--output=json")
    assert "here.txt" in [row["name"] for row in json.loads(result.stdout)]


# ---- a malformed file ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("line", "cause"),
    [
        ("    other: [1, 2", "line "),
        ("  \tother: 1", "line "),
        ("    a: b: c", "line "),
        ("   other: 1", "line "),
        ("    other: \x07", "line "),
    ],
)
def test_malformed_line(own_world: World, line: str, cause: str) -> None:
    path = own_world.home / "cloudmesh.yaml"
    path.write_text(path.read_text() + line + "\n")
    for arguments in (
        ["storage", "list", "disk:"],
        ["storage", "config", "list"],
        ["storage", "config", "edit", "dav", "--set=label=x"],
        ["storage", "config", "seal"],
        ["put", "one.txt", "/one", "--to=disk"],
    ):
        result = refused(own_world, arguments, str(path))
        assert cause in result.stderr


def test_other_malformed_files(own_world: World) -> None:
    (own_world.home / "vault.json").write_text("{")
    refused(own_world, ["storage", "list", "dav:"], "vault.json")
    (own_world.root / "work" / "bad.jsonl").write_text('{"format": "cloudmesh-vdir catalogue", "version": 1}\n{\n')
    refused(own_world, ["import", "bad.jsonl"], "line 2")


# ---- no permission, no room ------------------------------------------------------------------------------------------

UNPRIVILEGED = ["setpriv", "--bounding-set=-dac_override,-dac_read_search", "--inh-caps=-dac_override,-dac_read_search"]
"""Root without the capabilities to which permission bits mean nothing."""


def unprivileged(world: World) -> list[str]:
    probe = world.root / "unreadable"
    probe.touch(0o000)
    wrapper = UNPRIVILEGED if os.geteuid() == 0 else []
    done = subprocess.run([*wrapper, "cat", str(probe)], capture_output=True, text=True, check=False)
    assert "Permission denied" in done.stderr, "permission bits bind nobody here, so this test would show nothing"
    return [*wrapper, *CDIR]


@pytest.mark.parametrize(
    ("forbidden", "typed", "named"),
    [
        ("disk", "storage put one.txt disk:new", "disk:new: permission denied"),
        ("disk", "storage create dir disk:new", "disk:new: permission denied"),
        ("disk", "storage delete disk:here.txt --yes", "disk:here.txt: permission denied"),
        ("disk", "storage move disk:here.txt disk:folder/here.txt --yes", "permission denied"),
        ("disk", "put one.txt /one --to=disk", "disk:one: permission denied"),
        ("disk/run/a.txt", "storage cat disk:run/a.txt", "disk:run/a.txt: permission denied"),
        ("disk/run/a.txt", "cat /run/a.txt", "permission denied"),
        ("disk/run/a.txt", "get /run/a.txt new", "permission denied"),
        ("disk/folder", "storage list disk:folder", "disk:folder: permission denied"),
        ("work/one.txt", "storage put one.txt disk:new", "one.txt: permission denied"),
        ("work/one.txt", "put one.txt /one --to=disk", "one.txt: permission denied"),
        ("work", "storage get disk:here.txt new", "permission denied"),
        ("work", "get /run/a.txt new", "permission denied"),
        ("work", "export new", "new: permission denied"),
        ("config/cloudmesh.yaml", "storage list disk:", "cloudmesh.yaml: permission denied"),
        ("config", "storage config edit dav --set=label=x", "permission denied"),
        ("config/vault.age", "storage list dav:", "vault.age"),
        ("config/vdir.db", "mkdir /new", "vdir.db"),
    ],
)
def test_no_permission(own_world: World, forbidden: str, typed: str, named: str) -> None:
    program = unprivileged(own_world)
    path = own_world.root / forbidden
    before = own_world.state()
    mode = path.stat().st_mode
    path.chmod(0o555 if path.is_dir() and "list" not in typed else 0o000)
    result = own_world.run(*shlex.split(typed), program=program)
    path.chmod(mode)
    errors = [line for line in result.stderr.splitlines() if line.startswith("error: ")]
    assert (result.returncode, result.stdout, len(errors)) == (1, "", 1), result
    assert named in errors[0]
    assert own_world.state() == before


def on_full_disk(world: World, folder: str, typed: str) -> subprocess.CompletedProcess[str]:
    """Run with ``folder`` on a disk of its own without room; where no disk may be mounted, with a limit instead.

    Nothing may be left on that disk that was not there before: its listing is printed on stderr, before and after.
    """
    listing = 'find "$0" ! -name "*-wal" ! -name "*-shm" ! -name ".*.lock" -type f -printf "%P %s\\n" | sort >&2'
    script = f"""
        copy=$(mktemp -d) && cp -a "$0/." "$copy" && mount -t tmpfs -o size=3m full "$0" && cp -a "$copy/." "$0"
        cd "$PWD"; rm -r "$copy"; head -c 4000000 /dev/zero > "$0/filling" 2> /dev/null
        {listing}; echo == >&2; "$@"; code=$?; echo == >&2; {listing}; exit $code
    """
    # a user may mount in a namespace of his own, where the system lets him
    space = ["unshare", "--mount"] if os.geteuid() == 0 else ["unshare", "--user", "--map-root-user", "--mount"]
    can_mount = subprocess.run([*space, "mount", "-t", "tmpfs", "none", "/mnt"], capture_output=True, check=False)
    if can_mount.returncode:
        space = []
        script = f'ulimit -f 8; {listing}; echo == >&2; "$@"; code=$?; echo == >&2; {listing}; exit $code'
    return world.run(*shlex.split(typed), program=[*space, "bash", "-c", script, str(world.root / folder), *CDIR])


@pytest.mark.parametrize(
    ("folder", "typed", "named"),
    [
        ("disk", "storage put big disk:new", "disk:new: no room left"),
        ("disk", "put big /new --to=disk", "disk:new: no room left"),
        ("disk", "storage copy local:big disk:new", "disk:new: no room left"),
        ("work", "storage get local:big new", "new: no room left"),
        ("work", "get /big new", "new: no room left"),
        ("work", "export new", "new: no room left"),
        ("config", "put many /many --to=disk --recursive", "vdir.db"),
        ("config", "storage config edit dav --set=label=x", "no room left"),
    ],
)
def test_full_disk(own_world: World, folder: str, typed: str, named: str) -> None:
    (own_world.home / "local").mkdir(exist_ok=True)
    for place in ("work", "config/local"):
        (own_world.root / place / "big").write_bytes(b"x" * 300_000)
    write_tree(
        own_world.root / "work" / "many",
        {f"{'n' * 200}{number}": b"" for number in range(2000)} if "many" in typed else {},
    )
    with Vdir() as vdir:
        vdir.put(str(own_world.root / "work" / "big"), "/big", to=["local"])
    before = own_world.state()
    result = on_full_disk(own_world, folder, typed)
    listed, said, left = result.stderr.split("==\n")
    assert (result.returncode, result.stdout) == (1, ""), result
    (error,) = said.splitlines()
    assert error.startswith("error: ")
    assert named in error
    assert left == listed
    assert own_world.state() == before
