"""``--url`` as it is typed, and what is told where it leads nowhere."""

from __future__ import annotations

import subprocess
import sys

import pytest


def cdir(*arguments: str, code: int) -> str:
    done = subprocess.run([sys.executable, "-m", "cloudmesh.cdir.main", *arguments], capture_output=True, text=True)
    assert done.returncode == code, done
    return done.stderr.partition("\n")[0]


def test_a_url_stands_where_other_options_do(dead_port: int) -> None:
    url = f"http://127.0.0.1:{dead_port}"
    for typed in (["--url", url, "ls"], ["ls", f"--url={url}"], ["--url=http://none", "ls", "--url", url]):
        assert cdir(*typed, code=1).startswith(f"error: 127.0.0.1:{dead_port}: the service does not answer")
    assert cdir("ls", "--", "--url", code=1) == "error: /--url: not found"


@pytest.mark.parametrize("typed", [["--url=", "ls"], ["ls", "--url"]])
def test_a_url_that_is_empty_does_not_mean_here(typed: list[str]) -> None:
    assert cdir(*typed, code=2).startswith("error: --url: '' is not allowed")


def test_what_stands_beside_the_host_is_not_repeated() -> None:
    assert "secret" not in cdir("--url=http://me:secret@127.0.0.1:1", "ls", code=2)


@pytest.mark.parametrize("word", ["service", "token", "share", "audit"])
def test_what_concerns_the_service_here_is_not_done_as_if_it_were_there(word: str) -> None:
    assert cdir("--url=http://127.0.0.1:1", word, "list", code=2).startswith(
        f"error: cdir {word}: concerns the service"
    )
