"""The documentation is tested against the code: the README's session is run, and the manual holds every command."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from cloudmesh.cdir.manual import OWN
from cloudmesh.storage.dispatch import Command
from cloudmesh.storage.manual import STORAGE
from cloudmesh.storage.presets import PRESETS
from cloudmesh.storage.registry import kinds, provider_class
from cloudmesh.vdir.manual import VDIR
from deploy.manual import generated

TOP = Path(__file__).parent.parent
MANUAL = (TOP / "README-vdir.md").read_text("utf-8")


def test_the_session_of_the_readme_runs_as_it_stands(tmp_path: Path) -> None:
    readme = (TOP / "README.md").read_text("utf-8")
    found = re.search(r"<!-- START-SESSION -->\n```bash\n(.*?)```\n<!-- STOP-SESSION -->", readme, re.DOTALL)
    assert found is not None
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    done = subprocess.run(
        ["bash", "-e", "-u", "-o", "pipefail", "-c", found[1]],
        cwd=tmp_path,
        env=os.environ | {"PATH": path},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("alpha,1") == 2, "the file on the service, and the name read from the other one"
    assert "something is missing" in done.stdout
    assert (tmp_path / "copy/raw/b.csv").read_text() == "beta,2\n"
    assert not (tmp_path / "disk/run7").exists()
    assert (tmp_path / "backup/run7/a.csv").read_text() == "alpha,1\n"
    assert len((tmp_path / "catalogue.jsonl").read_text().splitlines()) == 5


def test_the_manual_holds_what_the_code_says() -> None:
    found = re.search(r"<!-- START-MANUAL -->\n(.*)<!-- STOP-MANUAL -->", MANUAL, re.DOTALL)
    assert found is not None
    assert found[1] == generated(), "run: make manual"


@pytest.mark.parametrize("command", [STORAGE, VDIR, OWN], ids=lambda one: one.name)
def test_every_usage_line_and_option_is_explained(command: Command) -> None:
    usage = command.usage
    section = usage.manual.partition("Options:")[2]
    for operation in usage.operations:
        assert operation.line in " ".join(MANUAL.split()), operation.line
        for option in operation.options:
            if option.name not in ("--traceback", "--quiet"):
                assert option.name in section, f"{option.name} is not described"


def test_every_kind_key_and_preset_is_in_the_manual() -> None:
    for kind in kinds():
        assert f"### {kind}" in MANUAL
        for key in provider_class(kind).keys:
            assert f"`{key}`" in MANUAL, f"{kind}: {key}"
    for preset in PRESETS:
        assert f"`{preset}`" in MANUAL
