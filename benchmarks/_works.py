"""What is measured: each work, the programs that do it, and how fast ours has to be beside them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from benchmarks._places import Spot, Tree
from deploy.servers import find_program

SMALL = Tree(3_000, 4 << 10)
TINY = Tree(20_000, 256)
BIG = Tree(1, 512 << 20)
LARGE = Tree(4, 32 << 20)

RCLONE = ("--transfers", "32", "--checkers", "32")
RCLONE_S3 = (*RCLONE, "--s3-no-head", "--fast-list")
S5CMD = ("--numworkers", "32")

Commands = Callable[[Spot, list[Spot]], list[list[str]]]


@dataclass(frozen=True, slots=True)
class Contender:
    """One program with its options.

    Attributes:
        name: for the table.
        commands: makes its commands for a source and destinations.
        once: one run is enough, because it takes minutes.
        only: of the work's destinations those that it writes to; empty for all.
    """

    name: str
    commands: Commands
    once: bool = False
    only: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Target:
    """Ours takes at most ``ratio`` times the wall time of the slowest of ``beside``."""

    ratio: float
    beside: tuple[str, ...]

    def __str__(self) -> str:
        return f"≤ {self.ratio:g} × " + (self.beside[0] if len(self.beside) == 1 else "the slowest alone")


@dataclass(frozen=True, slots=True)
class Work:
    """A work and who does it; the first contender is ours.

    Attributes:
        name: for ``--only``.
        title: for the table.
        trees: the data.
        source: the place where the data is.
        destinations: the places where it goes, each time to a new directory.
        contenders: in the order of the first round.
        targets: what ours has to reach.
        again: what is measured is a second run, when everything is there already.
    """

    name: str
    title: str
    trees: tuple[Tree, ...]
    source: str
    destinations: tuple[str, ...]
    contenders: tuple[Contender, ...]
    targets: tuple[Target, ...]
    again: bool = False


def _cdir(*words: str) -> Commands:
    def commands(source: Spot, destinations: list[Spot]) -> list[list[str]]:
        return [[find_program("cdir"), "storage", *words, source.ours, destinations[0].ours]]

    return commands


def _vdir(source: Spot, destinations: list[Spot]) -> list[list[str]]:
    services = ",".join(spot.place for spot in destinations)
    name = f"/{destinations[0].path}"
    return [[find_program("cdir"), "vdir", "put", source.ours, name, f"--to={services}", "--recursive"]]


def _rclone(verb: str, *options: str) -> Commands:
    def commands(source: Spot, destinations: list[Spot]) -> list[list[str]]:
        return [[find_program("rclone"), verb, source.rclone, spot.rclone, *options] for spot in destinations]

    return commands


def _s5cmd(verb: str) -> Commands:
    def commands(source: Spot, destinations: list[Spot]) -> list[list[str]]:
        return [[find_program("s5cmd"), *S5CMD, verb, f"{source.s5cmd}/*", f"{destinations[0].s5cmd}/"]]

    return commands


def _cp(source: Spot, destinations: list[Spot]) -> list[list[str]]:
    return [["cp", "-r", source.rclone, destinations[0].rclone]]


def _s3(name: str, title: str, tree: Tree, verb: str, beside_rclone: float, beside_s5cmd: float) -> Work:
    """Between this computer and S3."""
    source, destination = ("here", "aws") if verb == "put" else ("aws", "here")
    return Work(
        name,
        title,
        (tree,),
        source,
        (destination,),
        (
            Contender("cdir", _cdir(verb, "--recursive")),
            Contender("rclone", _rclone("copy", *RCLONE_S3)),
            Contender("s5cmd", _s5cmd("cp")),
        ),
        (Target(beside_rclone, ("rclone",)), Target(beside_s5cmd, ("s5cmd",))),
    )


def _sftp(verb: str, word: str) -> Work:
    source, destination = ("here", "ssh") if verb == "put" else ("ssh", "here")
    return Work(
        f"sftp-{verb}-small",
        f"SFTP, {word} 3,000 × 4 KiB",
        (SMALL,),
        source,
        (destination,),
        (
            Contender("cdir", _cdir(verb, "--recursive")),
            Contender("rclone", _rclone("copy"), once=True),
            Contender("rclone without hashes", _rclone("copy", *RCLONE, "--sftp-disable-hashcheck")),
        ),
        (Target(0.1, ("rclone",)), Target(0.8, ("rclone without hashes",))),
    )


def _sftp_big(verb: str, word: str) -> Work:
    source, destination = ("here", "ssh") if verb == "put" else ("ssh", "here")
    return Work(
        f"sftp-{verb}-big",
        f"SFTP, {word} 512 MiB",
        (BIG,),
        source,
        (destination,),
        (
            Contender("cdir", _cdir(verb, "--recursive")),
            Contender("rclone", _rclone("copy")),
            Contender("rclone without hashes", _rclone("copy", *RCLONE, "--sftp-disable-hashcheck")),
        ),
        (Target(1.1, ("rclone",)), Target(1.1, ("rclone without hashes",))),
    )


_FAN_OUT = ("aws", "r3", "dav")
_NO_PACER = (*RCLONE_S3, "--webdav-pacer-min-sleep", "0")

WORKS = (
    _s3("put-small", "S3, put 3,000 × 4 KiB", SMALL, "put", 0.8, 0.8),
    _s3("get-small", "S3, get 3,000 × 4 KiB", SMALL, "get", 0.9, 0.9),
    _s3("put-big", "S3, put 512 MiB", BIG, "put", 0.85, 0.85),
    _s3("get-big", "S3, get 512 MiB", BIG, "get", 1.0, 1.0),
    Work(
        "first-sync",
        "S3, first sync of 20,000 × 256 B",
        (TINY,),
        "here",
        ("aws",),
        (
            Contender("cdir", _cdir("sync")),
            Contender("rclone", _rclone("sync", *RCLONE_S3)),
            Contender("s5cmd", _s5cmd("sync"), once=True),
        ),
        (Target(0.6, ("rclone",)),),
    ),
    Work(
        "second-sync",
        "S3, sync of the same again",
        (TINY,),
        "here",
        ("aws",),
        (
            Contender("cdir", _cdir("sync")),
            Contender("rclone", _rclone("sync")),
            Contender("rclone size-only", _rclone("sync", *RCLONE_S3, "--size-only")),
            Contender("s5cmd", _s5cmd("sync")),
        ),
        (Target(0.2, ("rclone",)), Target(0.5, ("s5cmd",))),
        again=True,
    ),
    Work(
        "local",
        "local → local, 20,000 × 256 B",
        (TINY,),
        "disk",
        ("disk",),
        (
            Contender("cdir", _cdir("copy", "--recursive")),
            Contender("rclone", _rclone("copy", *RCLONE)),
            Contender("cp -r", _cp),
        ),
        (Target(0.6, ("rclone",)),),
    ),
    Work(
        "s3-webdav",
        "S3 → WebDAV, 3,000 × 4 KiB and 4 × 32 MiB",
        (SMALL, LARGE),
        "aws",
        ("dav",),
        (
            Contender("cdir", _cdir("copy", "--recursive")),
            Contender("rclone", _rclone("copy", *RCLONE_S3), once=True),
            Contender("rclone without pacer", _rclone("copy", *_NO_PACER)),
        ),
        (Target(0.9, ("rclone",)), Target(0.9, ("rclone without pacer",))),
    ),
    Work(
        "s3-s3",
        "S3 → second S3, 3,000 × 4 KiB and 4 × 32 MiB",
        (SMALL, LARGE),
        "aws",
        ("r3",),
        (Contender("cdir", _cdir("copy", "--recursive")), Contender("rclone", _rclone("copy", *RCLONE_S3))),
        (Target(0.9, ("rclone",)),),
    ),
    Work(
        "webdav-put-small",
        "WebDAV, put 3,000 × 4 KiB",
        (SMALL,),
        "here",
        ("dav",),
        (
            Contender("cdir", _cdir("put", "--recursive")),
            Contender("rclone", _rclone("copy", *RCLONE), once=True),
            Contender("rclone without pacer", _rclone("copy", *_NO_PACER)),
        ),
        (Target(0.1, ("rclone",)),),
    ),
    _sftp("put", "put"),
    _sftp("get", "get"),
    _sftp_big("put", "put"),
    _sftp_big("get", "get"),
    Work(
        "fan-out",
        "put 3,000 × 4 KiB to S3, second S3 and WebDAV",
        (SMALL,),
        "here",
        _FAN_OUT,
        (
            Contender("cdir", _vdir),
            *(Contender(f"cdir, {name} alone", _vdir, only=(name,)) for name in _FAN_OUT),
            Contender("rclone three times", _rclone("copy", *_NO_PACER)),
        ),
        (Target(1.25, tuple(f"cdir, {name} alone" for name in _FAN_OUT)),),
    ),
)
