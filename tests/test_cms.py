"""The commands in the real `cms` shell, one-shot and interactive, and as ``cdir``."""

from __future__ import annotations

import json
import os
import pty
import re
import shlex
import subprocess
import sys
import threading
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parent.parent
CMS = [str(Path(sys.executable).with_name("cms"))]
CDIR = [sys.executable, "-m", "cloudmesh.cdir.main"]

PLUGIN = """
from cloudmesh.shell.command import PluginCommand
from cloudmesh.storage.shell import command, completer
from tests.storage.probe import PROBE


class ProbeCommand(PluginCommand):
    do_probe = command(PROBE)
    complete_probe = completer(PROBE)
"""

Run = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture
def cms(tmp_path: Path) -> Run:
    """Run the real cms, with the command ``probe`` as a plugin and a configuration folder of its own."""
    package = tmp_path / "plugin" / "cloudmesh" / "probe"
    (package / "command").mkdir(parents=True)
    (package / "__init__.py").write_text("")
    (package / "command" / "__init__.py").write_text("")
    (package / "command" / "probe.py").write_text(PLUGIN)
    (tmp_path / "config").mkdir()
    work = tmp_path / "work"
    work.mkdir()
    environment = {
        **os.environ,
        "PYTHONPATH": f"{REPOSITORY}:{package.parents[1]}",
        "CLOUDMESH_CONFIG_DIR": str(tmp_path / "config"),
        "PROBED": "replaced",
        "TZ": "UTC",
    }

    def run(*arguments: str, typed: str | None = "", program: list[str] = CMS) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [*program, *arguments],
            input=typed, capture_output=True, text=True, cwd=work, env=environment, timeout=60, check=False,
        )  # fmt: skip

    run.__dict__.update(work=work, environment=environment)
    return run


def work_of(run: Run) -> Path:
    folder: Path = run.__dict__["work"]
    return folder


ODD_ARGUMENTS = [
    "it's", 'a"b', "", "a|b", "$PROBED", "os.PROBED", "C:\\dir", "~", "a b", "'", '"', "a'b c", ";", "&&", ">x", "*",
    "漢字", "\x1b[31m", "var.x", "#", "a\nb", "x.cm",
]  # fmt: skip


def echoed(result: subprocess.CompletedProcess[str]) -> list[str]:
    assert result.returncode == 0, result.stderr
    return [row["path"] for row in json.loads(result.stdout)]


def test_arguments_of_a_single_run_arrive_as_typed(cms: Run) -> None:
    assert echoed(cms("probe", "echo", "--output=json", *ODD_ARGUMENTS)) == ODD_ARGUMENTS
    dashes = ["--help", "--debug", "--echo", "--nosplash", "--file=x", "-x", "--", "-h"]
    assert echoed(cms("probe", "echo", "--output=json", "--", *dashes)) == dashes


@pytest.mark.parametrize(
    ("arguments", "code", "error"),
    [
        (["result", "text"], 0, ""),
        (["result", "none"], 0, ""),
        (["result", "rows"], 1, ""),
        (["result", "failed", "--output=json"], 1, ""),
        (["fail", "ours"], 1, "error: aws:a\\x1b]0;b: went\\x0awrong\n"),
        (["fail", "bug"], 1, "error: internal error: ValueError: 8 (run again with --traceback to see where)\n"),
        (["fail", "exit"], 1, "error: internal error: SystemExit: 5 (run again with --traceback to see where)\n"),
        (["fail", "interrupt"], 130, "interrupted\n"),
        (["fail", "warn"], 0, "warning: mind\\x1b the gap\n"),
        (["cat", "missing"], 1, "error: missing: not found (look with: probe list)\n"),
        ([], 2, "error: probe: a command is missing\nsee: cms help probe\n"),
        (["ecko"], 2, "error: probe: unknown command 'ecko', did you mean 'echo'?\nsee: cms help probe\n"),
        (["cat"], 2, "error: probe cat: argument SOURCE is missing\nusage: probe cat SOURCE\nsee: cms help probe\n"),
        (
            ["cat", "x", "--output=xml"],
            2,
            "error: --output: 'xml' is not allowed (allowed is one of table, json, yaml, csv)\n"
            "usage: probe cat SOURCE\nsee: cms help probe\n",
        ),
        (
            ["fail", "\x1b[2J"],
            2,
            "error: KIND: '\\x1b[2J' is not allowed (allowed is one of ours, bug, interrupt, exit, warn)\n"
            "usage: probe fail KIND\nsee: cms help probe\n",
        ),
    ],
)
def test_exit_code_and_one_line_errors(cms: Run, arguments: list[str], code: int, error: str) -> None:
    result = cms("probe", *arguments)
    assert (result.returncode, result.stderr) == (code, error)


def test_traceback_only_when_asked_for_and_without_values(cms: Run) -> None:
    result = cms("probe", "fail", "bug", "--traceback")
    assert result.returncode == 1
    assert "Traceback" in result.stderr
    assert result.stderr.endswith("error: internal error: ValueError: 8\n")


def test_help(cms: Run) -> None:
    for arguments in (["help", "probe"], ["probe", "--help"], ["probe", "-h"], ["probe", "help"]):
        result = cms(*arguments)
        assert result.returncode == 0
        assert "probe delete SOURCE [--recursive] [--dryrun] [--yes]" in result.stdout, arguments
        assert "connections at once" in result.stdout
    for arguments in (["probe", "delete", "--help"], ["probe", "help", "delete"]):
        assert cms(*arguments).stdout == "Usage:\n  probe delete SOURCE [--recursive] [--dryrun] [--yes]\n"


def test_help_lists_all_plugins(cms: Run) -> None:
    words = cms("help").stdout.split()
    assert {"probe", "storage", "vdir", "cdir"} <= set(words)


def test_interactive_shell_goes_on_after_every_failure(cms: Run) -> None:
    lines = [
        "probe fail bug", "probe fail exit", "probe fail interrupt", "probe fail ours", "probe ecko", "probe",
        "probe cat",
        "probe echo 'open", "probe --help", "probe result failed", "probe echo 'a b' \"it's\" '' --output=json", "quit",
    ]  # fmt: skip
    result = cms(typed="\n".join(lines) + "\n")
    assert result.returncode == 0
    rows = json.loads(result.stdout[result.stdout.index("[\n") : result.stdout.rindex("]") + 1])
    assert [row["path"] for row in rows] == ["a b", "it's", ""]
    assert "Traceback" not in result.stdout + result.stderr
    errors = [line for line in result.stderr.splitlines() if line.startswith(("error", "interrupted"))]
    assert errors == [
        "error: internal error: ValueError: 8 (run again with --traceback to see where)",
        "error: internal error: SystemExit: 5 (run again with --traceback to see where)",
        "interrupted",
        "error: aws:a\\x1b]0;b: went\\x0awrong",
        "error: probe: unknown command 'ecko', did you mean 'echo'?",
        "error: probe: a command is missing",
        "error: probe cat: argument SOURCE is missing",
        "error: probe: a quotation is not closed: No closing quotation",
    ]


def test_completion(cms: Run) -> None:
    asked = [("probe co", "co"), ("probe config i", "i"), ("probe settings --s", "s"), ("probe delete --re", "re")]
    script = (
        "from cloudmesh.probe.command.probe import ProbeCommand\n"
        f"for line, text in {asked!r}:\n"
        "    print(ProbeCommand().complete_probe(text, line, len(line) - len(text), len(line)))\n"
    )
    result = cms("-c", script, program=[sys.executable])
    assert result.stdout.splitlines() == [
        "['config']",
        "['import']",
        "['size=', 'sort=', 'storage=']",
        "['recursive']",
    ], result.stderr


def test_closed_pipe_ends_quietly(cms: Run) -> None:
    for form in ("table", "csv", "json"):
        line = f"{shlex.join(CMS)} probe many 300000 --output={form}"
        result = cms(f"{line} | head -n 2; echo ${{PIPESTATUS[0]}}", program=["bash", "-c"])
        assert result.stderr == ""
        assert result.stdout.splitlines()[-1] == "141"


def test_output_that_cannot_be_written_is_an_error(cms: Run) -> None:
    result = cms(f"{shlex.join(CMS)} probe many 10 > /dev/full", program=["bash", "-c"])
    assert (result.returncode, result.stderr) == (1, "error: output: cannot be written: No space left on device\n")


def test_file_is_written_byte_by_byte(cms: Run) -> None:
    data = bytes(range(256)) * 1000
    (work_of(cms) / "data").write_bytes(data)
    result = cms(f"{shlex.join(CMS)} probe cat data > out; md5sum < out; md5sum < data", program=["bash", "-c"])
    first, second = result.stdout.splitlines()
    assert first == second


# ---- what destroys asks ----------------------------------------------------------------------------------------------


def test_nobody_to_ask_changes_nothing(cms: Run) -> None:
    file = work_of(cms) / "precious"
    file.write_text("x")
    result = cms("probe", "delete", "precious")
    assert (result.returncode, result.stdout) == (1, "")
    assert result.stderr == (
        "files   precious\nfailed  no\n"
        "error: probe delete: nothing was changed: nobody can be asked (repeat it with --yes, or look with --dryrun)\n"
    )
    assert cms("probe", "delete", "precious", "--dryrun", "--output=json").stdout.startswith('{"files": ["precious"]')
    assert file.exists()
    assert cms("probe", "delete", "precious", "--yes").returncode == 0
    assert not file.exists()


def test_nothing_to_do_asks_nothing(cms: Run) -> None:
    result = cms("probe", "delete", "absent")
    assert (result.returncode, result.stdout, result.stderr) == (0, "", "")


@pytest.mark.parametrize(("answer", "code", "left"), [("y\n", 0, False), ("n\n", 1, True), ("\n", 1, True)])
def test_question_on_a_terminal(cms: Run, answer: str, code: int, left: bool) -> None:
    file = work_of(cms) / "precious"
    file.write_text("x")
    ours, theirs = pty.openpty()
    process = subprocess.Popen(
        [*CMS, "probe", "delete", "precious"],
        stdin=theirs, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        cwd=work_of(cms), env=cms.__dict__["environment"],
    )  # fmt: skip
    os.close(theirs)
    watchdog = threading.Timer(60, process.kill)
    watchdog.start()
    os.write(ours, answer.encode())
    _, errors = process.communicate()
    watchdog.cancel()
    os.close(ours)
    assert "Proceed? [y/N] " in errors
    assert (process.returncode, file.exists()) == (code, left)


# ---- progress --------------------------------------------------------------------------------------------------------


def progress_of(run: Run, *arguments: str) -> tuple[str, str]:
    """What a run prints on stdout, a pipe, and on stderr, a terminal."""
    ours, theirs = pty.openpty()
    process = subprocess.Popen(
        [*CMS, "probe", "work", *arguments],
        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=theirs, text=True,
        cwd=work_of(run), env={**run.__dict__["environment"], "TERM": "xterm"},
    )  # fmt: skip
    os.close(theirs)
    seen = b""
    with suppress(OSError):  # a pty whose other side is closed
        while piece := os.read(ours, 4096):
            seen += piece
    os.close(ours)
    output, _ = process.communicate(timeout=60)
    assert process.returncode == 0
    return output, seen.decode()


def test_progress_is_drawn_on_a_terminal_only_and_never_in_the_output(cms: Run) -> None:
    table = "name  file\nsize  1000 B\n"
    output, seen = progress_of(cms)
    assert output == table
    assert "1/1 files" in seen
    assert progress_of(cms, "--quiet") == (table, "")
    assert progress_of(cms, "--output=json")[1] == ""
    assert cms("probe", "work").stderr == ""


# ---- cdir ------------------------------------------------------------------------------------------------------------


def test_cdir_help_and_mistakes(cms: Run) -> None:
    for arguments in ([], ["--help"], ["-h"], ["help"]):
        result = cms(*arguments, program=CDIR)
        assert result.returncode == 0
        assert "cdir storage VERB" in result.stdout
        assert re.search(r"^  vdir: .*\bls\b", result.stdout, re.MULTILINE)
    assert "vdir ls" in cms("help", "ls", program=CDIR).stdout
    assert "storage config list" in cms("help", "storage", program=CDIR).stdout
    assert "] sync status [" in cms("help", "storage", "sync", "status", program=CDIR).stdout
    wrong = cms("help", "lst", program=CDIR)
    assert (wrong.returncode, wrong.stderr) == (2, "error: cdir help lst: unknown command (did you mean 'ls'?)\n")
    verb = cms("lst", program=CDIR)
    assert verb.returncode == 2
    assert verb.stderr.startswith("error: vdir: unknown command 'lst', did you mean 'ls'?\n")
    assert cms("storage", "lst", program=CDIR).stderr.startswith("error: storage: unknown command 'lst'")
    assert cms("cdir", "storage", "lst").stderr.startswith("error: storage: unknown command 'lst'")
    assert cms("cdir", "lst").returncode == 2


def test_cdir_starts_without_the_shell_and_the_apis(cms: Run) -> None:
    script = (
        "import sys; from cloudmesh.cdir.main import main; sys.argv = ['cdir', '--help']; main()\n"
        "heavy = ['cloudmesh.shell', 'cloudmesh.common', 'cloudmesh.storage.api', 'cloudmesh.vdir.api',"
        " 'sqlalchemy', 'rich', 'boto3', 'yaml', 'ruamel']\n"
        "print([name for name in heavy if name in sys.modules])"
    )
    assert cms("-c", script, program=[sys.executable]).stdout.splitlines()[-1] == "[]"
