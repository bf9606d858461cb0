"""The main job from beginning to end, on this machine: ``make demo``.

Starts a real S3 server (SeaweedFS) and a WebDAV server (WsgiDAV) on 127.0.0.1 with generated credentials, configures
them as a user would, puts Python's own standard library into a virtual directory with replicas on the local disk, S3
and WebDAV, takes a replica away behind the catalogue's back, heals it, and cleans up after itself.
"""

from __future__ import annotations

import filecmp
import os
import shlex
import shutil
import subprocess
import sys
import sysconfig
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from deploy.servers import SeaweedFS, Wsgidav


class Demo:
    """Runs commands with a configuration folder of its own, and shows what a user would see."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.environment = os.environ | {"CLOUDMESH_CONFIG_DIR": str(folder / "cloudmesh"), "COLUMNS": "110"}
        self.environment.pop("CDIR_CWD", None)
        self.environment.pop("CDIR_DATABASE", None)
        self._cdir = shutil.which("cdir", path=str(Path(sys.executable).parent)) or "cdir"

    def say(self, text: str) -> None:
        """Print a heading."""
        print(f"\n== {text}", flush=True)

    def run(self, line: str, *, fails: bool = False, lines: int = 12, **secrets: str) -> None:
        """Run ``cdir LINE`` and show the first ``lines`` lines that it prints.

        Raises:
            SystemExit: it ended otherwise than expected.
        """
        print(f"$ cdir {line}", flush=True)
        begin = time.monotonic()
        done = subprocess.run(
            [self._cdir, *shlex.split(line)],
            env=self.environment | secrets,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        seconds = time.monotonic() - begin
        shown = done.stdout.splitlines()
        for text in shown[:lines]:
            print(f"  {text}")
        if len(shown) > lines:
            print(f"  … {len(shown) - lines} lines more")
        print(f"  ({seconds:.2f} s)", flush=True)
        if (done.returncode != 0) != fails:
            print(done.stdout)
            raise SystemExit(f"cdir {line}: ended with {done.returncode}")


def main() -> None:
    """Show the main job.

    Raises:
        SystemExit: something did not go as it should.
    """
    with tempfile.TemporaryDirectory(prefix="cdir-demo-") as name:
        folder = Path(name)
        folder.chmod(0o711)
        with SeaweedFS(folder / "seaweedfs") as s3, Wsgidav(folder / "wsgidav") as dav:
            show(Demo(folder), s3, dav)
    print("\n== done; the servers are stopped, and everything that the demonstration made is removed")


def show(demo: Demo, s3: SeaweedFS, dav: Wsgidav) -> None:
    """Run the session."""
    tree = sysconfig.get_path("stdlib")
    source = demo.folder / "source"
    shutil.copytree(tree, source, ignore=shutil.ignore_patterns("site-packages", "__pycache__", "*.so", "*.a"))
    files = sum(1 for path in source.rglob("*") if path.is_file())

    demo.say("two services, their secrets in the vault")
    aws = s3.settings("aws").credentials
    lab = dav.settings("lab").credentials
    bucket = s3.make_bucket("demo")
    demo.run(
        f"storage config add aws --kind=awss3 --set=endpoint_url={aws['endpoint_url']} --set=bucket={bucket}"
        f" --set=addressing_style=path --set=region=us-east-1 --set=access_key_id={aws['access_key_id']}"
        " --secret=secret_access_key=env:SECRET",
        SECRET=str(aws["secret_access_key"]),
    )
    demo.run(
        f"storage config add lab --kind=webdav --set=url={lab['url']} --set=username={lab['username']}"
        " --secret=password=env:SECRET",
        SECRET=str(lab["password"]),
    )
    demo.run("storage config list")
    demo.run("storage vault list")

    demo.say(f"a tree of {files:,} real files, with replicas on the local disk, S3 and WebDAV")
    demo.run("mkdir /python")
    demo.run(f"put {source} /python --to=local,aws,lab --recursive")
    demo.run("ls /python", lines=8)
    demo.run("status /python")
    demo.run("storage list aws:python/json")

    demo.say("which replica is read, and why")
    demo.run("why /python/json/decoder.py")
    demo.run("prefer /python aws,lab")
    demo.run("why /python/json/decoder.py")

    demo.say("back on this computer, byte for byte")
    back = demo.folder / "back"
    demo.run(f"get /python {back} --recursive")
    if differences(source, back):
        raise SystemExit(f"what came back differs: {differences(source, back)[:5]}")
    print(f"  {files:,} files compared, all the same")

    demo.say("somebody removes a directory of replicas on S3; they are found missing, and healed")
    demo.run("storage delete aws:python/json --recursive --yes")
    demo.run("cat /python/json/decoder.py", lines=2)
    demo.run("status /python/json --check", fails=True, lines=20)
    demo.run("sync /python/json")
    demo.run("status /python/json --check")

    demo.say("somebody edits a file on S3, behind our back; the newest content goes everywhere, the old one is kept")
    edited = demo.folder / "edited.py"
    edited.write_text("# edited on S3\n")
    demo.run(f"storage put {edited} aws:python/json/tool.py")
    demo.run("sync /python/json")
    demo.run("history /python/json/tool.py")
    demo.run("restore /python/json/tool.py 1")
    demo.run("verify /python/json --deep")

    demo.say("a replica is taken away on purpose, but never the last one")
    demo.run("drop /python/json --from=local,lab --recursive --yes")
    demo.run("drop /python/json/decoder.py --from=aws", fails=True)
    demo.run("copy /python/json --to=lab --recursive")
    demo.run("url /python/json/decoder.py --expires=10m", lines=1)


def differences(one: Path, other: Path) -> list[str]:
    """Return the files that two directories do not have alike, byte by byte."""
    names = {str(path.relative_to(one)) for path in one.rglob("*") if path.is_file()}
    others = {str(path.relative_to(other)) for path in other.rglob("*") if path.is_file()}
    _, different, unreadable = filecmp.cmpfiles(one, other, sorted(names & others), shallow=False)
    return sorted(names ^ others) + different + unreadable


if __name__ == "__main__":
    main()
